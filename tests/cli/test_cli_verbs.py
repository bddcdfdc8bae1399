"""What each verb does, and that --json is one valid document with the promised fields."""

from __future__ import annotations

import fcntl
import json
import math
import os
import re
import subprocess
import tempfile
from pathlib import Path

import pytest

from cli_tools import CORRUPT, FAILED, LOCKED, NOTES, NOTHING, OK, PARTIAL, Command, write_notes


def ids_of(command: Command) -> dict[str, str]:
    return {item["path"]: item["id"] for item in command.json("ls")["documents"]}


def test_sync_follows_the_folder(cli: Command, notes: Path) -> None:
    first = cli.json("sync", notes)
    assert (first["added"], first["replaced"], first["removed"], first["unchanged"]) == (len(NOTES), 0, 0, 0)
    assert first["chunks"] == first["chunks_embedded"] >= len(NOTES)
    assert first["bytes"] == sum(len(text.encode()) for text in NOTES.values())
    assert first["skipped"] == []
    assert set(first["seconds"]) == {"walk", "read", "chunk", "tokenize", "embed", "store", "total"}
    again = cli.json("sync", notes)
    assert (again["added"], again["replaced"], again["removed"], again["unchanged"]) == (0, 0, 0, len(NOTES))
    assert again["chunks_embedded"] == 0
    ids = ids_of(cli)
    (notes / "old.md").unlink()
    (notes / "code.py").write_text("print('hello')\n")
    (notes / "new.md").write_text("# New\n")
    third = cli.json("sync", notes)
    assert (third["added"], third["replaced"], third["removed"], third["unchanged"]) == (1, 1, 1, len(NOTES) - 2)
    after = ids_of(cli)
    assert after[str(notes / "code.py")] == ids[str(notes / "code.py")]
    assert str(notes / "old.md") not in after


def test_sync_takes_patterns_and_leaves_the_others_alone(cli: Command, notes: Path) -> None:
    assert cli.json("sync", notes, "--include", "*.md")["added"] == 3
    counts = cli.json("sync", notes, "-i", "garden", "-x", "*.md")
    assert (counts["added"], counts["removed"]) == (1, 0)
    assert len(ids_of(cli)) == 4


def test_sync_reports_what_it_skips(cli: Command, notes: Path) -> None:
    (notes / "latin1.txt").write_bytes("grün".encode("latin-1"))
    (notes / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0")
    (notes / "large.txt").write_text("x" * 3000)
    (notes / ".hidden").write_text("hidden")
    counts = cli.json("sync", notes, "--max-bytes", "2K")
    reasons = {Path(item["path"]).name: item["reason"] for item in counts["skipped"]}
    assert counts["added"] == len(NOTES)
    assert {"latin1.txt", "large.txt"} <= set(reasons)
    assert "UTF-8" in reasons["latin1.txt"]
    assert "3000" in reasons["large.txt"]
    assert ".hidden" not in reasons
    done = cli.run("sync", notes, "--max-bytes", "2K")
    assert done.returncode == OK
    assert b"latin1.txt: " in done.stderr
    assert done.stdout == b""


def test_sync_says_partial_where_files_cannot_be_read(cli: Command) -> None:
    """Root may read everything, so it runs the command as nobody, where nobody can reach it."""
    with tempfile.TemporaryDirectory(prefix="memalloy-partial-") as place:
        folder = Path(place, "notes")
        write_notes(folder)
        (folder / "backup.md").chmod(0)
        user = {}
        if os.geteuid() == 0:
            user = {"user": 65534, "group": 65534, "extra_groups": []}
            for path in (Path(place), *folder.rglob("*"), folder):
                os.chown(path, 65534, 65534)
            if subprocess.run([cli.path, "embed", "x"], env=cli.env, cwd="/", capture_output=True, check=False, **user).returncode:
                pytest.skip("root may read everything, and another user cannot reach the command and the model here")
        arguments = [cli.path, "sync", "--json", "--db", Path(place, "kb"), folder]
        done = subprocess.run(arguments, env=cli.env, cwd="/", capture_output=True, check=False, **user)
        assert done.returncode == PARTIAL, done
        counts = json.loads(done.stdout)
        assert (counts["added"], counts["unreadable"]) == (len(NOTES) - 1, 1)
        assert [Path(item["path"]).name for item in counts["skipped"]] == ["backup.md"]
        assert b"backup.md: " in done.stderr


def test_sync_verbose_names_the_stages(cli: Command, notes: Path) -> None:
    done = cli.run("sync", "-v", notes)
    for stage in ("walk", "read", "chunk", "tokenize", "embed", "store"):
        assert re.search(rf"^  {stage} +\d+\.\d\d s$", done.stderr.decode(), re.MULTILINE)


def test_sync_quiet_says_nothing(cli: Command, notes: Path) -> None:
    done = cli.run("sync", "--quiet", notes)
    assert (done.returncode, done.stdout, done.stderr) == (OK, b"", b"")


def test_search_cites_path_lines_and_text(filled: Command) -> None:
    text = filled.ok("search", "-k", "1", "how", "long", "are", "backups", "kept?")
    head, _, passage = text.partition("\n")
    match = re.fullmatch(r"notes/backup\.md:(\d+)-(\d+)  (0\.\d{4})", head)
    assert match is not None, head
    first, last = int(match.group(1)), int(match.group(2))
    lines = NOTES["backup.md"].split("\n")[first - 1 : last]
    shown = [line[4:] for line in passage.rstrip("\n").split("\n")]
    assert "\n".join(shown) == "\n".join(lines).strip("\n")
    assert "thirty days" in passage


def test_search_json_is_checkable_against_the_file(filled: Command) -> None:
    found = filled.json("search", "-k", "100", "planting tomatoes")
    hits = found["hits"]
    assert found["query"] == "planting tomatoes"
    assert Path(hits[0]["path"]).name == "tomatoes.md"
    assert [hit["score"] for hit in hits] == sorted((hit["score"] for hit in hits), reverse=True)
    for hit in hits:
        raw = Path(hit["path"]).read_bytes()
        assert raw[hit["byte_start"] : hit["byte_end"]].decode() == hit["content"]
        assert hit["line_start"] == raw[: hit["byte_start"]].count(b"\n") + 1
        assert -1.0001 <= hit["score"] <= 1.0001
        assert hit["page_start"] is None
        assert isinstance(hit["metadata"], dict)


def test_search_lines_cuts_passages(filled: Command) -> None:
    text = filled.ok("search", "-k", "1", "--lines", "1", "how long are backups kept?")
    assert re.fullmatch(r"[^\n]+\n    [^\n]+\n    \.\.\. \d+ more lines\n", text)


def test_search_in_an_empty_store_finds_nothing(cli: Command, notes: Path) -> None:
    cli.ok("sync", notes, "--quiet")
    for path in sorted(notes.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    cli.ok("sync", notes, "--quiet")
    done = cli.run("search", "anything")
    assert (done.returncode, done.stdout) == (NOTHING, b"")
    assert cli.json("search", "anything", code=NOTHING)["hits"] == []


def test_get_prints_the_text_byte_for_byte(filled: Command) -> None:
    for name, text in NOTES.items():
        assert filled.run("get", f"notes/{name}").stdout == text.encode()
        assert filled.run("get", filled.home / "notes" / name).stdout == text.encode()
    for path, document_id in ids_of(filled).items():
        document = filled.json("get", document_id)
        assert document["content"].encode() == Path(path).read_bytes()
        assert document["path"] == path
        assert document["altered"] is False
        assert document["byte_count"] == len(document["content"].encode())
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", document["created_at"])


def test_get_of_something_unknown(filled: Command) -> None:
    done = filled.run("get", "no-such-id")
    assert (done.returncode, done.stdout) == (NOTHING, b"")
    assert b'"no-such-id"' in done.stderr
    assert filled.json("get", "no-such-id", code=NOTHING)["error"]["code"] == "NOTFOUND"


def test_ls_lists_and_pages(filled: Command) -> None:
    lines = [line.split("\t") for line in filled.ok("ls").splitlines()]
    assert {line[3] for line in lines} == {f"notes/{name}" for name in NOTES}
    assert [line[0] for line in lines] == sorted(line[0] for line in lines)
    sizes = {line[3]: int(line[2]) for line in lines}
    assert sizes["notes/backup.md"] == len(NOTES["backup.md"].encode())
    seen, after = [], []
    for _ in range(10):
        page = filled.json("ls", "--limit", "2", *after)
        seen += [item["id"] for item in page["documents"]]
        if page["next"] is None:
            break
        after = ["--after", page["next"]]
    assert seen == [line[0] for line in lines]


def test_rm_says_what_it_removed(cli: Command, notes: Path) -> None:
    cli.ok("sync", notes, "--quiet")
    ids = sorted(ids_of(cli).values())
    assert cli.ok("rm", ids[0]) == f"removed {ids[0]}\n"
    done = cli.run("rm", ids[0])
    assert (done.returncode, done.stdout) == (NOTHING, b"")
    assert ids[0].encode() in done.stderr
    assert cli.json("rm", ids[1], "unknown", code=PARTIAL) == {"removed": [ids[1]], "unknown": ["unknown"]}
    assert cli.run("rm", "x' OR '1'='1").returncode == NOTHING
    assert sorted(ids_of(cli).values()) == ids[2:]
    assert all(path.exists() for path in map(notes.joinpath, NOTES))


def test_status_says_where_and_what(filled: Command) -> None:
    status = filled.json("status")
    assert status["db"] == str(filled.home / ".local/share/memalloy/default")
    assert status["documents"] == len(NOTES)
    assert status["chunks"] >= len(NOTES)
    assert status["chunking"]["kind"] == "heading"
    assert status["dim"] == status["model"]["dim"] == 384
    assert status["model_id"] == status["model"]["id"]
    assert status["file_bytes"] > 0
    text = filled.ok("status")
    assert status["db"] in text
    assert re.search(rf"^documents  {len(NOTES)}, ", text, re.MULTILINE)
    assert status["open_report"] == {"records": 0, "dropped_bytes": 0, "kept": False, "reason": ""}
    assert "\nlog " not in text


@pytest.mark.parametrize("level", ["full", "normal", "off"])
def test_what_was_written_at_any_durability_is_there_for_the_next_command(cli: Command, notes: Path, level: str) -> None:
    assert cli.json("sync", notes, "--durability", level)["added"] == len(NOTES)
    first = next(iter(ids_of(cli).values()))
    cli.ok("rm", "--durability", level, first)
    assert len(ids_of(cli)) == len(NOTES) - 1
    done = cli.json("checkpoint")
    assert done["documents"] == len(NOTES) - 1
    assert min(done["documents_version"], done["chunks_version"]) >= 1


def test_a_memory_limit_is_an_error_that_names_it(cli: Command, notes: Path) -> None:
    refused = cli.run("sync", notes, "--memory-limit", "100K")
    assert refused.returncode == FAILED
    assert b"the memory limit is 102400 bytes" in refused.stderr
    assert cli.json("sync", notes, "--memory-limit", "1G")["added"] == len(NOTES)
    assert cli.json("search", "--memory-limit", "1G", "--allow-network-fs", "fern")["hits"]


def test_embed_gives_unit_vectors_of_arguments_and_lines(cli: Command) -> None:
    texts = ["a text", "", "日本語 and emoji 🎉"]
    rows = [json.loads(line) for line in cli.ok("embed", "--json", "--", *texts).splitlines()]
    assert [row["text"] for row in rows] == texts
    assert [row["index"] for row in rows] == [0, 1, 2]
    for row in rows:
        assert len(row["vector"]) == 384
        assert math.isclose(sum(x * x for x in row["vector"]), 1, abs_tol=1e-5)
    lines = "\n".join(texts).encode()
    plain = [json.loads(line) for line in cli.ok("embed", input=lines).splitlines()]
    assert plain == [row["vector"] for row in rows]
    assert cli.ok("embed", "-", input=lines.replace(b"\n", b"\r\n") + b"\r\n") == cli.ok("embed", input=lines)
    assert cli.ok("embed", input=b"") == ""


def test_embed_tells_what_was_cut_off(cli: Command) -> None:
    done = cli.run("embed", input=b"short\n" + b"word " * 1000 + b"\n")
    assert done.returncode == OK
    assert len(done.stdout.splitlines()) == 2
    assert b"256 word pieces" in done.stderr


def test_tokenize_gives_ids(cli: Command) -> None:
    assert cli.ok("tokenize", "hello world") == "7592 2088\n"
    assert cli.ok("tokenize", "--special", "hello world") == "101 7592 2088 102\n"
    assert cli.ok("tokenize", input=b"hello\n\nworld") == "7592\n\n2088\n"
    text = "unaffable Ünï 日本"
    row = json.loads(cli.ok("tokenize", "--json", text))
    assert row["text"] == text
    assert len(row["ids"]) == len(row["spans"])
    raw = text.encode()
    assert raw[slice(*row["spans"][-1])].decode() == "本"


def test_every_document_of_json_is_an_object(filled: Command) -> None:
    for arguments in (["search", "x"], ["get", "notes/old.md"], ["ls"], ["status"], ["sync", "notes"]):
        assert isinstance(filled.json(*arguments), dict)
    for verb in ("embed", "tokenize"):
        assert isinstance(json.loads(filled.ok(verb, "--json", "x")), dict)


def test_a_locked_store_says_so(cli: Command, notes: Path) -> None:
    cli.ok("sync", notes, "--quiet")
    (notes / "new.md").write_text("# New\n")
    with open(cli.home / ".local/share/memalloy/default/_memalloy/lock", "r+b") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX)
        done = cli.run("sync", notes, "--wait", "0")
        assert done.returncode == LOCKED, done
        assert cli.json("sync", notes, "--wait", "0", code=LOCKED)["error"]["code"] == "BUSY"
        assert len(ids_of(cli)) == len(NOTES)
    cli.ok("sync", notes)
    assert len(ids_of(cli)) == len(NOTES) + 1


def test_a_damaged_store_says_so_and_names_the_file(cli: Command, notes: Path) -> None:
    cli.ok("sync", notes, "--quiet")
    versions = sorted((cli.home / ".local/share/memalloy/default/chunks.lance/_versions").glob("*.manifest"))
    for manifest in versions:
        raw = manifest.read_bytes()
        manifest.write_bytes(raw[: len(raw) // 2] + b"\0" * (len(raw) - len(raw) // 2))
    done = cli.run("search", "backups")
    assert done.returncode == CORRUPT, done
    assert b".manifest" in done.stderr
    assert cli.json("search", "backups", code=CORRUPT)["error"]["code"] == "CORRUPT"


def test_verify_reads_every_file(filled: Command) -> None:
    found = filled.json("verify")
    assert found["damaged"] == []
    assert found["files"] >= 4
    assert found["bytes"] >= filled.json("status")["file_bytes"]
    done = filled.run("verify")
    assert (done.returncode, done.stdout) == (OK, b"")
    assert done.stderr.endswith(b"read, 0 damaged\n") or b"without sums" in done.stderr
