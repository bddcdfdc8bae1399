"""The vector index by the command: stores of more than 20,000 passages, filled with ready vectors."""

from __future__ import annotations

import json
import re
import shutil
import signal
import time
from pathlib import Path

import pytest

from cli_tools import OK, Command, write_notes

memalloy = pytest.importorskip("memalloy")
np = pytest.importorskip("numpy")

ROWS = 24_000
DIM = 384  # the model's, so that the command may search for texts


def segments(store: Path) -> list[Path]:
    return sorted((store / "_memalloy/index/vectors").glob("*.vec"))


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with as many passages and no index yet."""
    path = tmp_path_factory.mktemp("ready") / "kb"
    rows = np.random.default_rng(3).standard_normal((ROWS, DIM), dtype=np.float32)
    rows.flags.writeable = False
    with memalloy.open(path, dim=DIM, durability="off") as store:
        for first in range(0, ROWS, 8_000):
            store.add_vectors([f"passage {first + i}" for i in range(8_000)], rows[first : first + 8_000])
    shutil.rmtree(path / "_memalloy/index", ignore_errors=True)
    return path


@pytest.fixture
def store(ready: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(ready, tmp_path / "kb"))


def test_lance_adds_an_index_for_lancedb_and_status_tells(bare: Command, store: Path) -> None:
    made = bare.json("index", "--lance", "--db", store)
    assert made["made"] is True
    assert made["lance"]["rows"] == ROWS and made["lance"]["pending"] == 0
    sizes = sum(path.stat().st_size for path in (store / "chunks.lance/_indices").rglob("*.idx"))
    assert made["lance"]["bytes"] == sizes > ROWS * DIM // 8
    assert bare.json("status", "--db", store)["index"]["lance"] == made["lance"]
    assert re.search(r"^lancedb's +24,000 chunks, [0-9.]+ MB$", bare.ok("status", "--db", store), re.MULTILINE)
    done = bare.run("index", "--lance", "--db", store)
    assert (done.returncode, done.stdout) == (OK, b"")
    assert re.search(rb"for lancedb: 24,000 chunks, [0-9.]+ MB\n", done.stderr)
    assert b"nothing is due" in done.stderr
    with memalloy.open(store, dim=DIM, durability="off") as opened:
        opened.add_vectors(["one more"], np.ones((1, DIM), dtype=np.float32))
    assert re.search(r"^lancedb's +24,000 chunks, [0-9.]+ MB; 1 not in it$", bare.ok("status", "--db", store), re.MULTILINE)


def test_lance_says_where_there_are_too_few(bare: Command, tmp_path: Path) -> None:
    with memalloy.open(tmp_path / "kb", dim=DIM, durability="off") as opened:
        opened.add_vectors(["one"], np.ones((1, DIM), dtype=np.float32))
    done = bare.run("index", "--lance", "--db", tmp_path / "kb")
    assert done.returncode == OK
    assert b"for lancedb: none: it looks at every vector of fewer than 256\n" in done.stderr
    assert bare.json("status", "--db", tmp_path / "kb")["index"]["lance"] is None


def test_index_makes_what_is_due_and_status_tells(bare: Command, store: Path) -> None:
    before = bare.json("status", "--db", store)["index"]
    assert before == {"rows": 0, "pending": ROWS, "cells": 0, "bytes": 0, "due": True, "lance": None}
    assert re.search(r"^index +none yet: searches look at every vector$", bare.ok("status", "--db", store), re.MULTILINE)
    made = bare.json("index", "--db", store)
    assert (made["db"], made["made"], made["rows"], made["pending"], made["due"]) == (str(store), True, ROWS, 0, False)
    assert made["cells"] > 1 and made["seconds"] > 0
    sizes = sum(path.stat().st_size for path in (store / "_memalloy/index").rglob("*") if path.suffix in (".vec", ".q8"))
    assert made["bytes"] == sizes
    after = bare.json("status", "--db", store)["index"]
    assert after == {name: made[name] for name in after}
    assert re.search(r"^index +24,000 chunks in [0-9,]+ cells, [0-9.]+ MB; recall [01][0-9.]+, measured$", bare.ok("status", "--db", store), re.MULTILINE)
    again = bare.json("index", "--db", store)
    assert (again["made"], again["cells"]) == (False, made["cells"])
    done = bare.run("index", "--db", store)
    assert (done.returncode, done.stdout) == (OK, b"")
    assert b"nothing is due: 24,000 chunks" in done.stderr
    assert bare.run("index", "--db", store, "--quiet").stderr == b""


def test_small_stores_need_none(filled: Command) -> None:
    made = filled.json("index")
    assert (made["made"], made["rows"], made["cells"], made["bytes"]) == (False, 0, 0, 0)
    assert b"nothing is due: none: searches look at every vector" in filled.run("index").stderr
    told = filled.json("search", "--explain", "backups")["explain"]
    assert told["scanned_rows"] == filled.json("status")["chunks"]
    assert (told["cells"], told["codes_read"], told["index_was_damaged"]) == (0, 0, False)


def test_index_draws_its_progress_on_a_terminal(bare: Command, store: Path) -> None:
    code, shown = bare.on_terminal("index", "--db", store, columns=80)
    assert code == OK
    assert re.search(r"making the vector index: \d+ %", shown)
    assert "made: 24,000 chunks in " in shown
    for file in segments(store):
        file.unlink()
    done = bare.run("index", "--db", store, "--no-progress")
    assert b"making" not in done.stderr and b"made: 24,000" in done.stderr


def test_search_says_how_it_found_what_it_did(cli: Command, store: Path) -> None:
    exact = cli.json("search", "--db", store, "--explain", "--recall", "1", "-k", "10", "backups")
    assert exact["explain"]["scanned_rows"] == ROWS and exact["explain"]["cells_read"] == 0
    plain = cli.json("search", "--db", store, "-k", "10", "backups")
    assert "explain" not in plain and plain["hits"] == exact["hits"]
    cli.ok("index", "--db", store, "--quiet")
    told = cli.json("search", "--db", store, "--explain", "--recall", "0.99", "-k", "10", "backups")
    explain = told["explain"]
    assert explain["scanned_rows"] == 0 and 0 < explain["cells_read"] <= explain["cells"]
    assert explain["codes_read"] >= explain["records_read"] >= explain["vectors_read"] >= 10
    assert explain["bytes_read"] > 0
    assert set(explain["seconds"]) == {"rank", "scan", "record", "vector", "exact"}
    scores = {hit["chunk_id"]: hit["score"] for hit in exact["hits"]}
    assert all(scores.get(hit["chunk_id"], hit["score"]) == hit["score"] for hit in told["hits"])
    assert cli.json("search", "--db", store, "--recall", "1", "-k", "10", "backups")["hits"] == exact["hits"]
    done = cli.run("search", "--db", store, "--explain", "backups")
    assert re.search(rb"[0-9,]+ of [0-9,]+ cells +[0-9.]+ ms\n", done.stderr)
    assert b"0 vectors without the index" in done.stderr
    assert done.stdout == cli.run("search", "--db", store, "backups").stdout
    done = cli.run("search", "--db", store, "--explain", "--recall", "1", "backups")
    assert b"24,000 vectors without the index" in done.stderr and b"cells" not in done.stderr


def test_search_looks_only_in_the_documents_that_are_named(cli: Command, store: Path) -> None:
    cli.ok("index", "--db", store, "--quiet")
    hits = cli.json("search", "--db", store, "-k", "10", "backups")["hits"]
    chosen = hits[6]["document_id"]
    found = cli.json("search", "--db", store, "-k", "10", "--document", chosen, "backups")["hits"]
    assert found and {hit["document_id"] for hit in found} == {chosen}
    assert hits[6] in found
    two = [hits[2]["document_id"], chosen]
    both = cli.json("search", "--db", store, "--document", two[0], "--document", two[1], "backups")["hits"]
    assert {hit["document_id"] for hit in both} <= set(two) and both[0] == hits[2]
    assert cli.run("search", "--db", store, "--document", "not there", "backups").returncode == 1


def test_search_tells_of_damage_and_answers_all_the_same(cli: Command, store: Path) -> None:
    exact = cli.json("search", "--db", store, "-k", "10", "backups")["hits"]
    cli.ok("index", "--db", store, "--quiet")
    (file,) = segments(store)
    content = bytearray(file.read_bytes())
    for place in range(len(content) // 2, len(content), 512):  # no cell of the second half stays whole
        content[place] ^= 0x40
    file.write_bytes(content)
    told = cli.json("search", "--db", store, "--explain", "-k", "10", "backups")
    assert told["explain"]["index_was_damaged"] is True
    assert told["hits"] == exact
    assert b"the vector index is damaged" in cli.run("search", "--db", store, "--explain", "backups").stderr
    cli.ok("index", "--db", store, "--quiet")
    assert cli.json("search", "--db", store, "--explain", "backups")["explain"]["index_was_damaged"] is False


def test_sync_makes_the_index_at_its_end(cli: Command, store: Path, tmp_path: Path) -> None:
    write_notes(tmp_path / "notes")
    counts = cli.json("sync", "--db", store, "notes")
    index = counts["index"]
    assert (index["made"], index["rows"]) == (True, ROWS)
    assert index["seconds"] > 0 and index["cells"] > 1
    hits = cli.json("search", "--db", store, "--explain", "-k", "1", "how long are backups kept?")
    assert hits["hits"][0]["path"].endswith("backup.md")
    assert 0 < hits["explain"]["scanned_rows"] < 100 and hits["explain"]["cells_read"] > 0
    again = cli.json("sync", "--db", store, "notes")["index"]
    assert (again["made"], again["rows"], again["cells"]) == (False, ROWS, index["cells"])
    for file in segments(store):
        file.unlink()
    done = cli.run("sync", "--db", store, "notes")
    assert b"vector index: 24,000 chunks in " in done.stderr
    small = cli.json("sync", "--db", "small", "notes")["index"]
    assert (small["made"], small["rows"], small["due"]) == (False, 0, False)


def test_an_interrupted_index_leaves_nothing_wrong(cli: Command, store: Path) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        process = cli.start("index", "--db", store, "--json")
        time.sleep(0.15)
        process.send_signal(number)
        output, errors = process.communicate(timeout=60)
        if process.returncode == OK:  # it was faster
            assert json.loads(output)["rows"] == ROWS
        else:
            # -number: it had not begun, and nobody was there to catch it
            assert process.returncode in (-number, 128 + number), errors
        told = cli.json("search", "--db", store, "--explain", "-k", "3", "backups")
        assert len(told["hits"]) == 3 and told["explain"]["index_was_damaged"] is False
    cli.ok("index", "--db", store, "--quiet")
    assert cli.json("status", "--db", store)["index"]["rows"] == ROWS
    assert len(segments(store)) == 1
    assert [path.name for path in (store / "_memalloy/index").rglob("*") if path.suffix not in (".vec", ".q8", ".recall") and path.is_file()] == ["lock"]
