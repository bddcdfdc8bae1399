"""Wrong arguments: exit code 2, a message that names the value, and nothing made on disk."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from cli_tools import FAILED, NOTHING, OK, ROOT, USAGE, VERBS, Command

WRONG = [
    ([], "usage: memalloy"),
    (["frobnicate"], 'unknown verb "frobnicate"'),
    (["help", "frobnicate"], 'unknown verb "frobnicate"'),
    (["--frobnicate"], "unknown option --frobnicate"),
    (["search", "-Z", "x"], "unknown option -Z"),
    (["search", "--lin"], "needs a value"),
    (["search"], "search needs a query"),
    (["search", "", "  "], "search needs a query"),
    (["search", "x", "-k"], "option -k needs a value"),
    (["search", "x", "-k", "0"], '--top-k is a number from 1 to 2147483647, not "0"'),
    (["search", "x", "-k", "-1"], 'not "-1"'),
    (["search", "x", "-k", "5x"], 'not "5x"'),
    (["search", "x", "-k", " 5"], 'not " 5"'),
    (["search", "x", "-k", "99999999999999999999"], "not"),
    (["search", "x", "--include", "*.md"], "option --include is not for search"),
    (["--include", "*.md", "search", "x"], "option --include is not for search"),
    (["sync"], "sync takes one folder, not 0"),
    (["sync", "a", "b"], "sync takes one folder, not 2"),
    (["sync", "missing"], 'cannot sync "missing": No such file or directory'),
    (["sync", "file.txt"], 'cannot sync "file.txt": it is a file'),
    (["sync", "--max-bytes", "0", "."], "--max-bytes"),
    (["sync", "--max-bytes", "99999999999G", "."], "--max-bytes"),
    (["sync", "--threads", "0", "."], "--threads is a number from 1 to 256"),
    (["sync", "--wait", "soon", "."], "--wait"),
    (["--db", "", "ls"], "--db is empty"),
    (["get"], "get takes one id or path, not 0"),
    (["get", ""], "empty"),
    (["get", "a", "b"], "get takes one id or path, not 2"),
    (["ls", "x"], 'ls takes no argument such as "x"'),
    (["ls", "--limit", "0"], "--limit"),
    (["rm"], "rm needs at least one id"),
    (["status", "x"], "status takes no argument"),
    (["checkpoint", "x"], "checkpoint takes no argument"),
    (["verify", "x"], "verify takes no argument"),
    (["sync", "--durability", "fast", "."], '--durability is one of full, normal, off, not "fast"'),
    (["status", "--durability", "off"], "option --durability is not for status"),
    (["ls", "--memory-limit", "0"], "--memory-limit is a number above 0"),
    (["sync", "--threads", "257", "."], "--threads is a number from 1 to 256"),
    (["model"], "model needs a verb such as ls"),
    (["model", "frobnicate"], 'unknown verb "model frobnicate"'),
    (["help", "model", "frobnicate"], 'unknown verb "model frobnicate"'),
    (["model", "ls", "x"], 'model ls takes no argument such as "x"'),
    (["model", "ls", "--kind", "query"], "option --kind is not for model ls"),
    (["model", "info", "a", "b"], "model info takes one name, not 2"),
    (["model", "rm"], "model rm needs at least one name"),
    (["embed", "--kind", "question", "x"], '--kind is one of passage, query, not "question"'),
    (["embed", "--format", "csv", "x"], '--format is one of jsonl, npy, arrow, arrow-file, not "csv"'),
    (["embed", "--on-error", "cry", "x"], "--on-error is one of stop, skip"),
    (["search", "x", "--recall", "0.49"], '--recall is a number from 0.5 to 1, not "0.49"'),
    (["search", "x", "--recall", "1.001"], '--recall is a number from 0.5 to 1, not "1.001"'),
    (["search", "x", "--recall", "nan"], '--recall is a number from 0.5 to 1, not "nan"'),
    (["search", "x", "--recall", "."], '--recall is a number from 0.5 to 1, not "."'),
    (["ls", "--explain"], "option --explain is not for ls"),
    (["index", "notes"], 'index takes no argument such as "notes"'),
    (["embed", "--format", "npy", "--id-field", "id"], "npy has no place for ids"),
    (["embed", "--field", "text", "x"], "--field and --id-field are for lines"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG, ids=lambda value: " ".join(value) if isinstance(value, list) else "")
def test_wrong_usage_is_told_and_makes_nothing(bare: Command, arguments: list[str], message: str) -> None:
    (bare.home / "file.txt").write_text("a file")
    done = bare.run(*arguments)
    assert done.returncode == USAGE
    assert message in done.stderr.decode()
    assert done.stdout == b""
    assert [path.name for path in bare.home.iterdir()] == ["file.txt"]


@pytest.mark.parametrize(("arguments", "message"), WRONG[1:], ids=lambda value: " ".join(value) if isinstance(value, list) else "")
def test_wrong_usage_is_one_document_with_json(bare: Command, arguments: list[str], message: str) -> None:
    (bare.home / "file.txt").write_text("a file")
    if arguments == ["--frobnicate"] or arguments[:1] == ["search"] and arguments[-1] in ("-k", "--lin"):
        arguments = ["--json", *arguments]
    else:
        arguments = [*arguments, "--json"]
    done = bare.run(*arguments)
    assert done.returncode == USAGE
    error = json.loads(done.stdout)["error"]
    assert error["code"] == "INVAL"
    assert message in error["message"]
    assert error["message"] in done.stderr.decode()


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_has_help_on_stdout(bare: Command, verb: str) -> None:
    words = verb.split()
    assert f"usage: memalloy {verb}" in bare.ok(*words, "--help")
    assert bare.ok("help", *words) == bare.ok(*words, "-h") == bare.ok("--help", *words)


def test_a_group_of_verbs_has_help_of_its_own(bare: Command) -> None:
    text = bare.ok("model", "--help")
    assert text == bare.ok("help", "model")
    assert all(f"\n  {verb} " in text for verb in VERBS if verb.startswith("model "))


def test_help_names_every_verb_and_version_is_the_projects(bare: Command) -> None:
    text = bare.ok("--help")
    assert all(f"\n  {verb} " in text for verb in VERBS)
    declared = re.search(r"version: '([^']+)'", (ROOT / "meson.build").read_text())
    assert declared is not None
    assert bare.ok("--version") == f"memalloy {declared.group(1)}\n"


@pytest.mark.parametrize("verb", VERBS)
def test_man_page_has_every_verb_and_option(bare: Command, verb: str) -> None:
    page = (ROOT / "docs/memalloy.1").read_text().replace("\\-", "-")
    assert f"\n.B {verb}\n" in page
    for option in re.findall(r"--[a-z-]+", bare.ok(*verb.split(), "--help")):
        assert option in page, option


@pytest.mark.parametrize("arguments", [["search", "x"], ["get", "x"], ["ls"], ["rm", "x"], ["status"], ["checkpoint"], ["index"], ["verify"]])
def test_reading_a_store_that_is_not_there_makes_none(bare: Command, arguments: list[str]) -> None:
    done = bare.run(*arguments)
    assert done.returncode == FAILED  # no store is another thing than no hits
    assert f"{bare.home}/.local/share/memalloy/default" in done.stderr.decode()
    assert list(bare.home.iterdir()) == []
    assert bare.json(*arguments, code=FAILED)["error"]["code"] == "NOTFOUND"


def test_where_the_store_is(filled: Command) -> None:
    assert filled.json("status")["db_from"] == "HOME"
    base = filled.home / ".local/share"
    store = base / "memalloy/default"
    assert filled.json("status", env={"XDG_DATA_HOME": str(base)})["db_from"] == "XDG_DATA_HOME"
    assert filled.json("status", env={"XDG_DATA_HOME": "relative"})["db_from"] == "HOME"
    assert filled.json("status", env={"MEMALLOY_DB": str(store), "XDG_DATA_HOME": "/none"})["db_from"] == "MEMALLOY_DB"
    assert filled.json("--db", store, "status", env={"MEMALLOY_DB": "/none"})["db_from"] == "--db"
    done = filled.run("ls", env={"HOME": ""})
    assert (done.returncode, b"--db" in done.stderr) == (USAGE, True)


def test_a_store_that_cannot_be_made_is_a_failure(cli: Command, notes: Path) -> None:
    (cli.home / "file").write_text("in the way")
    for db, code in (("file", USAGE), ("file/kb", FAILED), ("/proc/kb", FAILED)):
        done = cli.run("--db", db, "sync", notes)
        assert done.returncode == code, (db, done)
        assert len(done.stderr.splitlines()) >= 1
        assert cli.run("--db", db, "ls").returncode in (NOTHING, USAGE, FAILED)
    assert (cli.home / "file").read_text() == "in the way"


def test_a_missing_model_is_named(bare: Command, notes: Path) -> None:
    for arguments in (["embed", "a text"], ["tokenize", "a text"], ["sync", str(notes)]):
        done = bare.run(*arguments, "--model", "no-such-model")
        assert done.returncode == FAILED, arguments
        assert b"no-such-model" in done.stderr


def test_a_search_without_its_model_is_a_failure_and_not_no_hits(filled: Command) -> None:
    done = filled.run("search", "x", "--model", "no-such-model")
    assert (done.returncode, done.stdout) == (FAILED, b"")
    assert b"no-such-model" in done.stderr


def test_options_may_stand_before_and_behind_the_verb(filled: Command) -> None:
    expected = filled.ok("ls", "--limit", "2")
    assert filled.ok("--limit", "2", "ls") == filled.ok("-n2", "ls") == filled.ok("ls", "-n", "2") == expected


def test_two_dashes_end_the_options(filled: Command) -> None:
    done = filled.run("search", "--", "--json")
    assert done.returncode == OK
    assert not done.stdout.startswith(b"{")
