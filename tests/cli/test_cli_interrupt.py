"""A sync that is interrupted, in order or not, leaves a whole store behind, and the next one finishes the work."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
from pathlib import Path

import pytest

from cli_tools import OK, Command, read_terminal

FILES = 120


@pytest.fixture
def many(tmp_path: Path) -> Path:
    folder = tmp_path / "many"
    folder.mkdir()
    for i in range(FILES):
        lines = [f"Line {j} of note {i}: the quick brown fox number {i * j} jumps over the lazy dog." for j in range(25)]
        (folder / f"{i:03}.txt").write_text("\n".join(lines) + "\n")
    return folder


def start_and_signal(command: Command, folder: Path, number: int) -> int:
    """Sends the signal once the progress line shows that files are being indexed."""
    parent, child = pty.openpty()
    process = command.start("sync", folder, stderr=child)
    os.close(child)
    shown = b""
    for part in read_terminal(parent):
        shown += part
        if b" of " in shown and process.poll() is None:
            process.send_signal(number)
            break
    for part in read_terminal(parent):
        shown += part
    assert process.stdout is not None
    process.stdout.close()
    code = process.wait(timeout=120)
    os.close(parent)
    if number == signal.SIGINT:
        assert b"the same command goes on from there" in shown
    return code


def check_whole(command: Command, folder: Path) -> int:
    """Every document that is listed can be read and is its file; how many there are."""
    done = command.run("ls", "--json")
    if done.returncode != OK:
        assert b"NOTFOUND" in done.stdout  # nothing was committed yet
        return 0
    documents = command.json("ls")["documents"]
    for item in documents[:20] + documents[-20:]:
        assert command.run("get", item["id"]).stdout == Path(item["path"]).read_bytes()
    assert command.json("status")["documents"] == len(documents)
    return len(documents)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)])
def test_an_interrupted_sync_leaves_the_store_whole(cli: Command, many: Path, number: int, code: int) -> None:
    assert start_and_signal(cli, many, number) == code
    stored = check_whole(cli, many)
    assert stored < FILES
    rest = cli.json("sync", many)
    assert rest["added"] == FILES - stored
    assert rest["unchanged"] == stored
    assert check_whole(cli, many) == FILES
    assert cli.json("sync", many)["chunks_embedded"] == 0


def test_a_signal_that_is_ignored_stays_ignored(cli: Command, many: Path) -> None:
    """As under nohup, and for background jobs of a script."""
    few = many / "few"
    few.mkdir()
    (few / "a.txt").write_text("A note.\n" * 50)
    script = f'trap "" INT; "{cli.path}" sync "{few}" & pid=$!; kill -INT $pid; wait $pid'
    done = subprocess.run(["sh", "-c", script], env=cli.env, capture_output=True, check=False)
    assert done.returncode == OK, done
