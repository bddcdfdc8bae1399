"""The examples of the README are the files in examples/, and those run."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cli_tools import ROOT, Command, write_notes

EXAMPLES = ["quickstart.py", "quickstart.c", "quickstart.sh"]


def readme_block(name: str) -> str:
    match = re.search(rf"<!-- examples/{re.escape(name)} -->\n```\w+\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert match is not None, f"README.md shows no examples/{name}"
    return match.group(1)


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_readme_shows_the_example_as_it_is(name: str) -> None:
    assert readme_block(name) == (ROOT / "examples" / name).read_text()


def test_the_python_example_is_short() -> None:
    assert len(readme_block("quickstart.py").splitlines()) <= 15


def test_the_command_example_runs(cli: Command) -> None:
    write_notes(cli.home / "notes")
    done = subprocess.run(["bash", "-euo", "pipefail", ROOT / "examples/quickstart.sh"], cwd=cli.home, env=cli.env,
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "notes/backup.md:" in done.stdout
    assert "1 removed" in done.stderr


def test_the_c_example_runs(cli: Command) -> None:
    build = cli.path.parent.parent if (cli.path.parent.parent / "build.ninja").exists() else ROOT / "build"
    example = build / "examples/quickstart"
    if not example.exists():
        pytest.fail(f"{example} is not built: make build")
    write_notes(cli.home / "notes")
    done = subprocess.run([example, "kb", "notes", "how long are backups kept?"], cwd=cli.home, env=cli.env, capture_output=True,
                          text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert re.match(r"\S*/notes/backup\.md:\d+-\d+  0\.\d{4}\n", done.stdout)
    assert "thirty days" in done.stdout.split("\n\n/")[0]
    assert subprocess.run([example], capture_output=True, check=False).returncode == 2
    broken = subprocess.run([example, "kb", "missing", "x"], cwd=cli.home, env=cli.env, capture_output=True, text=True, check=False)
    assert broken.returncode == 1
    assert "missing" in broken.stderr


def test_the_python_example_runs(cli: Command) -> None:
    if importlib.util.find_spec("memalloy") is None:
        pytest.skip("the Python package is not installed here: make install-dev")
    write_notes(cli.home / "notes")
    python_path = {"PYTHONPATH": os.environ["PYTHONPATH"]} if "PYTHONPATH" in os.environ else {}
    done = subprocess.run([sys.executable, ROOT / "examples/quickstart.py", "notes", "kb"], cwd=cli.home, env={**cli.env, **python_path},
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.parametrize("page", ["README.md", "src/README.md", "docs/ARCHITECTURE.md", "docs/CAVEATS.md"])
def test_pages_name_only_what_is_there(page: str) -> None:
    text = (ROOT / page).read_text()
    for link in re.findall(r"\]\(([^)]+)\)", text):
        if "://" not in link:
            assert (ROOT / page).parent.joinpath(link).exists(), link
    for path in re.findall(r"`((?:docs|src|tools|include|examples|python)/[\w./-]+)`", text):
        assert (ROOT / path).exists(), path


def test_the_pages_draw_every_room() -> None:
    rooms = {path.name for path in (ROOT / "src").iterdir() if path.is_dir()}
    table = set(re.findall(r"^\| `(\w+)` \|", (ROOT / "src/README.md").read_text(), re.MULTILINE))
    assert table == rooms
    architecture = (ROOT / "docs/ARCHITECTURE.md").read_text()
    assert rooms <= set(re.findall(r"\*\*(\w+)\*\*", architecture))
