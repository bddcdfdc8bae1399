"""make demo's script: with the reader's own folder, twice, and with folders that are not there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cli_tools import NOTES, ROOT, Command


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A copy of the script in a project of its own, so that the reader's demo store is left alone."""
    project = tmp_path / "the project"
    (project / "tools").mkdir(parents=True)
    (project / "docs").mkdir()
    shutil.copy(ROOT / "tools/demo.py", project / "tools")
    shutil.copy(ROOT / "docs/ARCHITECTURE.md", project / "docs")
    return project


def run_demo(cli: Command, place: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    env = {**cli.env, "MEMALLOY_CLI": str(cli.path), **variables}
    return subprocess.run([sys.executable, place / "tools/demo.py"], env=env, stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, check=False, timeout=600)


def test_a_folder_and_a_question_of_the_readers(cli: Command, notes: Path, place: Path) -> None:
    first = run_demo(cli, place, DIR=str(notes), ASK="how long are backups kept?")
    assert first.returncode == 0, first.stderr
    assert f"{len(NOTES)} files added" in first.stdout
    assert re.search(r"^\S.*/my notes/backup\.md:\d+-\d+  0\.\d{4}$", first.stdout, re.MULTILINE)
    for stage in ("walk", "read", "chunk", "tokenize", "embed", "store", "sync", "search"):
        assert re.search(rf"^{stage} +\d+\.\d\d", first.stdout, re.MULTILINE), stage
    assert re.search(r"^peak memory \d+ MB$", first.stdout, re.MULTILINE)
    second = run_demo(cli, place, DIR=str(notes), ASK="how long are backups kept?")
    assert "nothing has changed since the last run: 5 files, 0 chunks embedded" in second.stdout
    assert second.returncode == 0


def test_no_question_is_no_failure(cli: Command, notes: Path, place: Path) -> None:
    done = run_demo(cli, place, DIR=str(notes))
    assert done.returncode == 0
    assert 'ASK="..."' in done.stdout


@pytest.mark.parametrize("name", ["missing", "file"])
def test_a_folder_that_is_none(cli: Command, place: Path, name: str) -> None:
    (cli.home / "file").write_text("x")
    done = run_demo(cli, place, DIR=str(cli.home / name))
    assert done.returncode == 2
    assert str(cli.home / name) in done.stderr
    assert not (place / "build-demo").exists()


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("MEMALLOY_TEST_LONG"), reason="takes a minute: make test-long")
def test_the_whole_demo(cli: Command, place: Path) -> None:
    done = run_demo(cli, place)
    assert done.returncode == 0, done.stderr
    answers = re.findall(r"^\? (.+)\n\n(.+):\d+-\d+  0\.\d{4}$", done.stdout, re.MULTILINE)
    assert [Path(path).name for _, path in answers[:2]] == ["handlers.py", "header.py"]
    # Relative to the working directory, which is not the project here.
    assert (place / answers[2][1]).parent == place / "docs"
