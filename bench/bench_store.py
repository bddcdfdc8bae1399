#!/usr/bin/env python3
"""The store beside LanceDB and beside the bare file system, all from one run: `make bench-store`.

    .venv/bin/python bench/bench_store.py [--dir FOLDER] [--quick] [--only NAME ...]

Rows are one text of 200 bytes and a ready vector of 384 numbers, the same for both. Everything lies in FOLDER (build/),
so on the disk that it is on. Opening is bench_open.py's. Out: a table and a verdict for each target, build/bench-store.json.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import lancedb
import memalloy
import numpy
import pyarrow

ROOT = Path(__file__).resolve().parent.parent
DIM = 384
CONTENT = "A chain is oiled after every ride in the rain, and the brakes are looked at. " * 3
LEVELS = ("off", "normal", "full")
RESULTS: dict[str, object] = {}
VERDICTS: list[tuple[bool, str]] = []


def vectors(count: int, seed: int = 1) -> numpy.ndarray:
    found = numpy.random.default_rng(seed).standard_normal((count, DIM), dtype=numpy.float32)
    return found / numpy.linalg.norm(found, axis=1, keepdims=True)


def contents(count: int) -> list[str]:
    return [f"{i:08d} {CONTENT}"[:200] for i in range(count)]


def arrow(texts: list[str], rows: numpy.ndarray, first: int = 0) -> pyarrow.Table:
    values = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(rows.reshape(-1)), DIM)
    ids = pyarrow.array([f"{first + i:036d}" for i in range(len(texts))])
    return pyarrow.table({"id": ids, "vector": values, "content": pyarrow.array(texts)})


def verdict(is_met: bool, text: str) -> None:
    VERDICTS.append((is_met, text))


def per_second(calls: list[float]) -> float:
    return len(calls) / sum(calls)


def timed(count: int, call) -> list[float]:
    """Seconds of each call(i); the first ones, which make files and warm caches, are not counted."""
    warm = max(1, count // 20)
    found = []
    for i in range(count + warm):
        begin = time.perf_counter()
        call(i)
        found.append(time.perf_counter() - begin)
    return found[warm:]


def p50_ms(calls: list[float]) -> float:
    return statistics.median(calls) * 1e3


# ---- one row


def one_row(place: Path, quick: bool) -> None:
    count = 200 if quick else 1000
    texts, rows = contents(count * 2), vectors(count * 2)
    tables = [arrow([text], rows[i : i + 1], i) for i, text in enumerate(texts)]
    table = lancedb.connect(place / "lancedb").create_table("t", tables[-1])
    calls = timed(count, lambda i: table.add(tables[i]))
    rates = {"LanceDB": per_second(calls)}
    print("\none-row adds of a ready vector" + " " * 10 + "per second    p50 ms    p99 ms")
    show("LanceDB", calls)
    for level in LEVELS:
        n = count if level == "full" else count * 2 - count // 5
        with memalloy.open(place / f"one-{level}", dim=DIM, durability=level) as kb:
            calls = timed(n - n // 20 - 1, lambda i, kb=kb: kb.add_vectors([texts[i]], rows[i : i + 1]))
            show(f"memalloy, {level}", calls)
            rates[level] = per_second(calls)
    RESULTS["one_row_per_second"] = rates
    factor = rates["normal"] / rates["LanceDB"]
    verdict(factor >= 10, f"one-row adds at normal: {factor:.1f} times LanceDB's (10)")
    for name, folder in (("LanceDB", place / "lancedb"), ("memalloy", place / "one-normal")):
        files = [path for path in folder.rglob("*") if path.is_file()]
        data = sum("data" in path.parts for path in files)
        manifests = sum(path.suffix == ".manifest" for path in files)
        print(f"  {name}: {len(files)} files left, {data} of data, {manifests} manifests")


def show(name: str, calls: list[float]) -> None:
    ordered = sorted(calls)
    p99 = ordered[len(ordered) * 99 // 100] * 1e3
    print(f"  {name:<36}{per_second(calls):>12.0f}{p50_ms(calls):>10.3f}{p99:>10.3f}", flush=True)


def short_texts(place: Path, quick: bool) -> None:
    count = 100 if quick else 400
    texts = [f"note {i}: the chain is oiled after every ride in the rain" for i in range(count * 2)]
    model = memalloy.Model(threads=1)

    def embedded(i: int) -> pyarrow.Table:
        return arrow([texts[i]], numpy.array(model.embed([texts[i]])), i)

    table = lancedb.connect(place / "lancedb-texts").create_table("t", embedded(0))
    theirs = timed(count, lambda i: table.add(embedded(i)))
    print("\nshort texts, both embedding" + " " * 13 + "per second    p50 ms    p99 ms")
    show("LanceDB, vectors by memalloy's model", theirs)
    with memalloy.open(place / "texts", durability="normal", threads=1) as kb:
        ours = timed(count, lambda i: kb.add_document(texts[i]))
    show("memalloy, normal", ours)
    factor = per_second(ours) / per_second(theirs)
    RESULTS["short_texts_per_second"] = {"LanceDB": per_second(theirs), "memalloy": per_second(ours)}
    verdict(factor >= 4, f"short texts at normal: {factor:.1f} times LanceDB's (4)")


# ---- beside the bare file system


def against_append(place: Path, quick: bool) -> None:
    """One add at full and one bare append of the same bytes, in turns, so that both see the same disk."""
    count = 100 if quick else 500
    texts, rows = contents(count * 2), vectors(count * 2)
    record = os.urandom(DIM * 4 + 200 + 200)  # vector, content, and some for ids and heads
    ours, growing, ready = [], [], []
    grown = os.open(place / "growing", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    filled = os.open(place / "ready", os.O_WRONLY | os.O_CREAT)
    os.pwrite(filled, bytes(len(record) * (count + 1)), 0)
    os.fsync(filled)
    with memalloy.open(place / "full", dim=DIM, durability="full") as kb:
        kb.add_vectors([texts[-1]], rows[-1:])
        for i in range(count):
            begin = time.perf_counter()
            kb.add_vectors([texts[i]], rows[i : i + 1])
            between = time.perf_counter()
            os.write(grown, record)
            os.fdatasync(grown)
            then = time.perf_counter()
            os.pwrite(filled, record, i * len(record))
            os.fdatasync(filled)
            ours.append(between - begin)
            growing.append(then - between)
            ready.append(time.perf_counter() - then)
    os.close(grown)
    os.close(filled)
    print("\none add at full, one bare append and fdatasync of as many bytes, in turns (p50 ms)")
    print(f"  memalloy {p50_ms(ours):.3f}   append {p50_ms(growing):.3f}   write into room written before {p50_ms(ready):.3f}")
    RESULTS["full_p50_ms"] = {"memalloy": p50_ms(ours), "append": p50_ms(growing), "overwrite": p50_ms(ready)}
    factor = p50_ms(ours) / p50_ms(growing)
    verdict(factor <= 1.5, f"one add at full: {factor:.2f} times one append and fdatasync (1.5)")


def plain_write(path: Path, total: int) -> float:
    block = os.urandom(1 << 20)
    begin = time.perf_counter()
    file = os.open(path, os.O_WRONLY | os.O_CREAT)
    for _ in range(total // len(block)):
        os.write(file, block)
    os.fdatasync(file)
    seconds = time.perf_counter() - begin
    os.close(file)
    path.unlink()
    return seconds


def check_bulk(place: Path, table: pyarrow.Table, texts: list[str], rows: numpy.ndarray) -> None:
    """Before anything is timed: LanceDB reads back from both what was handed over."""
    theirs = lancedb.connect(place / "check-lancedb").create_table("t", table)
    with memalloy.open(place / "check", dim=DIM, durability="full") as kb:
        ids = kb.add_vectors(texts, rows)
    ours = lancedb.connect(place / "check").open_table("chunks")
    for found, key, wanted in ((theirs, "id", table["id"].to_pylist()), (ours, "document_id", ids)):
        assert found.count_rows() == len(texts), found.count_rows()
        for i in (0, 1, len(texts) // 2, len(texts) - 1):
            (row,) = found.search().where(f"{key} = '{wanted[i]}'").limit(2).to_list()
            assert row["content"] == texts[i], row["content"]
            assert numpy.allclose(row["vector"], rows[i], atol=1e-6), i


class Stopwatch:
    """Seconds, and seconds of the processor in all threads, between begin and end."""

    def __init__(self) -> None:
        os.sync()
        self.began, self.cpu = time.perf_counter(), time.process_time()

    def stop(self) -> tuple[float, float]:
        return time.perf_counter() - self.began, time.process_time() - self.cpu


def load_lancedb(folder: Path, table: pyarrow.Table, batches: int) -> tuple[float, float]:
    watch = Stopwatch()
    theirs = lancedb.connect(folder).create_table("t", table)
    for _ in range(batches - 1):
        theirs.add(table)
    return watch.stop()


def load_memalloy(folder: Path, texts: list[str], rows: numpy.ndarray, batches: int, level: str) -> tuple[float, float]:
    """At full with the closing, at off without: LanceDB has none."""
    watch = Stopwatch()
    with memalloy.open(folder, dim=DIM, durability=level) as kb:
        for _ in range(batches):
            kb.add_vectors(texts, rows)
        if level == "off":
            return watch.stop()
    return watch.stop()


def bulk(place: Path, quick: bool) -> None:
    """Each is handed what it takes in fastest: LanceDB an Arrow table, memalloy str and a numpy array."""
    batch, batches = 10000, 3 if quick else 10
    texts, rows = contents(batch), vectors(batch)
    table = arrow(texts, rows)
    total = batch * batches * (DIM * 4 + 200 + 36)
    check_bulk(place, table, texts, rows)
    times: dict[str, list[tuple[float, float]]] = {"write": [], "LanceDB": [], "off": [], "full": []}
    for turn in range(5):
        watch = Stopwatch()
        written = plain_write(place / "plain", total)
        times["write"].append((written, watch.stop()[1]))
        times["LanceDB"].append(load_lancedb(place / f"lancedb-{turn}", table, batches))
        for level in ("off", "full"):
            times[level].append(load_memalloy(place / f"{level}-{turn}", texts, rows, batches, level))
    best = {name: total / min(wall for wall, _ in found) / 1e6 for name, found in times.items()}
    cpu = {name: min(cpu for _, cpu in found) / total * 1e9 for name, found in times.items()}
    print(f"\n{batch * batches} rows in {batches} batches ({total / 1e6:.0f} MB), best of 5   MB/s   CPU seconds per GB")
    names = {"write": "plain write and sync", "off": "memalloy, off", "full": "memalloy, full"}
    for name in times:
        print(f"  {names.get(name, name):<44}{best[name]:>9.0f}{cpu[name]:>12.2f}")
    RESULTS["bulk_mb_per_second"] = best
    RESULTS["bulk_cpu_seconds_per_gb"] = cpu
    verdict(best["off"] >= best["LanceDB"], f"bulk at off: {best['off'] / best['LanceDB']:.2f} times LanceDB's (1)")
    verdict(best["full"] >= 0.8 * best["write"], f"bulk at full: {best['full'] / best['write']:.2f} of a plain write and sync (0.8)")


PARTS = {"one-row": one_row, "texts": short_texts, "append": against_append, "bulk": bulk}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", default=str(ROOT / "build"))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", nargs="*", choices=sorted(PARTS), default=list(PARTS))
    args = parser.parse_args()
    Path(args.dir).mkdir(exist_ok=True)
    print(f"memalloy {memalloy.__version__}, lancedb {lancedb.__version__}, in {args.dir}")
    for name in args.only:
        place = Path(tempfile.mkdtemp(prefix="bench-store-", dir=args.dir))
        try:
            PARTS[name](place, args.quick)
        finally:
            shutil.rmtree(place, ignore_errors=True)
    print()
    for is_met, text in VERDICTS:
        print(f"{'met    ' if is_met else 'NOT MET'}  {text}")
    RESULTS["verdicts"] = VERDICTS
    RESULTS["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    Path(args.dir, "bench-store.json").write_text(json.dumps(RESULTS, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
