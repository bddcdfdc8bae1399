"""The command that follows a folder: lines, JSON lines, a status line, and its end."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from cli_tools import FAILED, OK, USAGE, Command, read_terminal


class Watching:
    """The command, and its lines as they come."""

    def __init__(self, command: Command, *arguments: str | Path) -> None:
        self.process = command.start("watch", *arguments)
        assert self.process.stdout is not None
        self.out = self.process.stdout

    def line(self) -> str:
        return self.out.readline().decode()

    def stop(self, number: int = signal.SIGINT) -> tuple[int, str]:
        self.process.send_signal(number)
        rest, errors = self.process.communicate(timeout=60)
        return self.process.returncode, rest.decode() + errors.decode()


def wait_for(read: Any, kind: str) -> Any:
    while True:
        event = json.loads(read())
        if event["event"] == kind:
            return event


def test_events_are_json_lines(filled: Command, notes: Path) -> None:
    watching = Watching(filled, notes, "--json")
    assert wait_for(watching.line, "synced")["count"] >= 5
    (notes / "new.md").write_text("# New\n\nA new note.\n")
    added = wait_for(watching.line, "added")
    assert added["path"] == str(notes / "new.md")
    (notes / "new.md").rename(notes / "newer.md")
    moved = wait_for(watching.line, "moved")
    assert moved["document_id"] == added["document_id"] and moved["old_path"] == str(notes / "new.md")
    assert "new note" in filled.ok("search", "a new note")
    (notes / "newer.md").unlink()
    wait_for(watching.line, "removed")
    code, rest = watching.stop()
    assert code == OK and "stopped" in rest


def test_lines_for_people(filled: Command, notes: Path) -> None:
    watching = Watching(filled, notes)
    assert watching.process.stderr is not None
    assert b"following" in watching.process.stderr.readline()
    (notes / "new.md").write_text("a note")
    assert watching.line() == f"added    {notes / 'new.md'}\n"
    (notes / "bad.md").write_bytes(b"\xff")
    assert "skipped" in (line := watching.line()) and "not UTF-8" in line
    assert watching.stop(signal.SIGTERM)[0] == OK
    assert json.loads(filled.ok("status", "--json"))["skipped"] == 1


def test_the_status_line_on_a_terminal(filled: Command, notes: Path) -> None:
    parent, child = pty.openpty()
    process = filled.start("watch", notes, stderr=child)
    os.close(child)
    shown = b""
    for part in read_terminal(parent):
        shown += part
        if b"all is in the store" in shown and process.poll() is None:
            process.send_signal(signal.SIGINT)
            break
    for part in read_terminal(parent):
        shown += part
    assert process.wait(timeout=60) == OK
    os.close(parent)
    assert shown.endswith(b"stopped; what was stored stays\r\n")


@pytest.mark.parametrize("arguments", [[], ["a", "b"], ["/nothing/there"], ["/etc/passwd"]])
def test_wrong_folders_are_refused(bare: Command, arguments: list[str]) -> None:
    assert bare.run("watch", *arguments).returncode == USAGE


def test_what_does_not_mend_itself_ends_it(bare: Command, notes: Path) -> None:
    done = bare.run("watch", notes, env={"MEMALLOY_MODEL": "/nothing/there"}, timeout=60)
    assert done.returncode == FAILED
    assert b"/nothing/there" in done.stderr


def test_a_reader_that_goes_away_ends_it(filled: Command, notes: Path) -> None:
    watching = Watching(filled, notes, "--json")
    wait_for(watching.line, "synced")
    watching.out.close()
    for i in range(3):
        (notes / f"{i}.md").write_text(f"note {i}")
        try:
            watching.process.wait(timeout=20)
            break
        except subprocess.TimeoutExpired:
            continue
    assert watching.process.poll() is not None
    assert watching.process.stderr is not None
    watching.process.stderr.close()
