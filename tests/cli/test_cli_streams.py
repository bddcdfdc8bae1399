"""Pipes, full disks, terminals, and bytes that are not text."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from cli_tools import FAILED, NOTHING, OK, USAGE, Command


@pytest.mark.parametrize("arguments", [["ls"], ["ls", "--json"], ["search", "-k", "50", "x"], ["status"], ["--help"], ["embed", "x"]])
def test_a_full_disk_is_a_failure(filled: Command, arguments: list[str]) -> None:
    with open("/dev/full", "wb") as full:
        done = filled.run(*arguments, stdout=full)
    assert done.returncode == FAILED
    assert b"No space left on device" in done.stderr


def test_a_reader_that_leaves_early_is_no_failure(filled: Command) -> None:
    """As "| head -1" does; the pipe must not fit all of it."""
    with subprocess.Popen(["yes", "some words to be embedded"], stdout=subprocess.PIPE) as source:
        with subprocess.Popen([filled.path, "embed"], stdin=source.stdout, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              env=filled.env) as process:
            assert process.stdout is not None and process.stderr is not None
            assert len(json.loads(process.stdout.readline())) == 384
            process.stdout.close()
            assert process.wait(timeout=120) == OK
            assert process.stderr.read() == b""
        source.terminate()


def test_rm_removes_all_though_nobody_reads(cli: Command, notes: Path) -> None:
    cli.ok("sync", notes, "--quiet")
    ids = [item["id"] for item in cli.json("ls")["documents"]]
    with subprocess.Popen([cli.path, "rm", *ids], stdout=subprocess.PIPE, env=cli.env) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(timeout=120) == OK
    assert cli.json("ls")["documents"] == []


def test_closed_standard_streams_never_hit_the_store(cli: Command, notes: Path) -> None:
    shell = f'"{cli.path}" sync "{notes}" --json <&- >&- 2>&-'
    done = subprocess.run(["sh", "-c", shell], env=cli.env, check=False)
    assert done.returncode == FAILED
    assert len(cli.json("ls")["documents"]) == 5
    for name in ("backup.md", "old.md"):
        assert cli.run("get", notes / name).stdout == (notes / name).read_bytes()


def test_an_answer_comes_for_each_line_at_once(cli: Command) -> None:
    """A program that writes a line and waits for the answer must not wait for ever."""
    with subprocess.Popen([cli.path, "tokenize"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=cli.env) as process:
        assert process.stdin is not None and process.stdout is not None
        for _ in range(3):
            process.stdin.write(b"hello\n")
            process.stdin.flush()
            assert process.stdout.readline() == b"7592\n"
        process.stdin.close()
        assert process.wait(timeout=60) == OK


def test_arguments_that_are_not_utf8(filled: Command) -> None:
    assert filled.run("search", b"caf\xe9").returncode == USAGE
    for verb in ("embed", "tokenize"):
        done = filled.run(verb, b"good", b"caf\xe9")
        assert done.returncode == USAGE
        assert b"text 2 is not UTF-8" in done.stderr
        done = filled.run(verb, input=b"a\nb\n\xff\n")
        assert (done.returncode, b"stdin:3 is not UTF-8" in done.stderr) == (USAGE, True)
        assert len(done.stdout.splitlines()) == 2  # what came before it is there
    assert filled.run("get", b"caf\xe9").returncode == NOTHING
    assert filled.run("rm", b"caf\xe9").returncode in (NOTHING, USAGE)
    assert filled.run(b"\xff\x1b[31m").stderr.startswith(b'memalloy: unknown verb "\\xff\\x1b[31m"')


def test_a_file_name_that_is_not_utf8(cli: Command, notes: Path) -> None:
    raw = bytes(notes) + b"/caf\xe9.md"
    with open(raw, "wb") as file:
        file.write(b"# Coffee\n\nThe coffee is on the upper shelf.\n")
    cli.ok("sync", notes, "--quiet")
    assert cli.run("get", raw).stdout.startswith(b"# Coffee")
    hit = cli.json("search", "-k", "1", "where is the coffee?")["hits"][0]
    assert "upper shelf" in hit["content"]
    assert cli.ok("search", "-k", "1", "where is the coffee?").startswith("my notes/caf\\xe9.md:")


def test_nothing_from_a_file_reaches_the_terminal_raw(cli: Command, notes: Path) -> None:
    evil = "# Evil\n\nclear \x1b[2J screen \x07 and \u202eback\u202c and \u009b31m red\r\n"
    name = "evil \x1b[31m.md"
    (notes / name).write_bytes(evil.encode())
    code, shown = cli.on_terminal("sync", notes, "--no-progress", env={"NO_COLOR": "1"})
    assert (code, "\x1b" in shown) == (OK, False)
    for arguments in (["search", "evil clear screen"], ["search", "--json", "evil"], ["get", f"my notes/{name}"], ["ls"]):
        code, shown = cli.on_terminal(*arguments, env={"NO_COLOR": "1"})
        assert code == OK
        assert not [each for each in shown if each < " " and each != "\n" or "\x7f" <= each < "\xa0" or each in "\u202e\u202c"], arguments
        assert "31m" in shown
    assert cli.run("get", notes / name).stdout == evil.encode()


def test_colour_only_on_a_terminal_that_wants_it(filled: Command) -> None:
    assert "\x1b[" in filled.on_terminal("search", "backups")[1]
    assert "\x1b[" not in filled.on_terminal("search", "backups", env={"NO_COLOR": "1"})[1]
    assert "\x1b[" not in filled.on_terminal("search", "backups", env={"TERM": "dumb"})[1]
    assert "\x1b[" not in filled.ok("search", "backups")


def test_passages_fit_the_terminal_and_are_whole_in_a_pipe(cli: Command, notes: Path) -> None:
    long_line = "The lighthouse keeper counts the ships that pass at night. " * 8
    (notes / "ships.txt").write_text(long_line + "\n")
    cli.ok("sync", notes, "--quiet")
    query = ["search", "-k", "1", "lighthouse keeper ships"]
    code, shown = cli.on_terminal(*query, columns=50, env={"NO_COLOR": "1"})
    assert code == OK
    lines = shown.splitlines()
    assert all(len(line) <= 50 for line in lines[1:])
    assert len(lines) > 5
    assert long_line.strip() in cli.ok(*query)


def test_progress_is_drawn_on_a_terminal_and_taken_away(cli: Command, notes: Path) -> None:
    for i in range(40):
        (notes / f"{i}.txt").write_text(f"Note number {i}. " + "Some more words to read here. " * 40)
    code, shown = cli.on_terminal("sync", notes, columns=70, env={"NO_COLOR": "1"})
    assert code == OK
    assert "\r\x1b[K" in shown
    last = shown.split("\r\x1b[K")[-1]
    assert last.startswith("45 added, 0 replaced")
    assert all(len(part.split("\n")[0]) < 70 for part in shown.split("\r\x1b[K")[:-1])
    assert "\r" not in cli.on_terminal("sync", notes, "--no-progress")[1]
