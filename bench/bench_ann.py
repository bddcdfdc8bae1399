#!/usr/bin/env python3
"""Vector search beside its rivals, at 200,000 and a million real vectors, all from one run: `make bench-ann`.

    bench_ann.py --data FOLDER [--quick] [--peers NAME,...] [--build FOLDER] [--indexes FOLDER] [--queries tune|query]

docs/BENCH.md says what is measured and how. In: the vectors of ann_data.py, the program bench_ann, the rivals of
.venv-bench. Rivals' indexes are made once and kept in --indexes; ours is made in every run. Out: tables, time beside
each rival at equal recall, a verdict for each target, build/bench-ann.json.
"""

import argparse
import contextlib
import json
import math
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
DIM, K = 384, 10
SIZES = (200_000, 1_000_000)
PEERS = ("faiss", "faiss-plain", "faiss-sq8", "usearch", "usearch-i8", "usearch-b1", "hnswlib", "lancedb")
OURS = ("0.9", "0.95", "0.97", "0.98", "0.99")
SHARES = (1, 0.5, 0.1, 0.01, 0.001)
# What takes most of an hour to build: where it is there already, or asked for by name.
SLOW = {1_000_000: ("usearch", "usearch-i8", "usearch-b1", "hnswlib", "faiss-sq8")}
COUNTS = {"lancedb": 200}  # queries of those that need milliseconds for one
# Milliseconds at recall 0.97, and what else is wanted, on a machine like the one that they were set on.
RECALL, WITHIN_MS = 0.97, {200_000: 0.12, 1_000_000: 0.2}
FAISS_SHARE, PRIVATE_MB, COLD_MS, COLD_MB, FIRST_MS = 0.5, 5, 4, 12, 10
GUARD, LIVE = 0.95, (100_000, 50_000)  # recall that the store keeps by itself; rows added and removed
BUILD_CPU_S, BUILD_MB, VECTOR_BYTES = 120, 500, 520


def run(command):
    """Its lines of JSON, and the most private memory that it was seen to have, in MB."""
    peak = 0
    with subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            with contextlib.suppress(OSError):  # it may be gone by now
                status = Path(f"/proc/{process.pid}/status").read_text()
                peak = max([peak] + [int(x.split()[1]) for x in status.split("\n") if x.startswith("RssAnon")])
            time.sleep(0.02)
        lines = process.stdout.read().splitlines()
    if process.returncode != 0:
        raise RuntimeError(f"{command[0]} {command[1]} ended with {process.returncode}")
    return [json.loads(line) for line in lines], peak / 1024


class Judge:
    """Counts what was found of the true nearest: by row, or, where rows are equally near, by nearness."""

    def __init__(self, data, queries, rows):
        self.base = np.memmap(data / "base.f32", np.float32, "r", shape=(rows, DIM))
        self.queries = np.fromfile(data / f"{queries}.f32", np.float32).reshape(-1, DIM)
        truth = np.fromfile(data / f"truth-{queries}-{rows}.i32", np.int32).reshape(len(self.queries), -1)
        self.truth = truth[:, :K]
        self.path = data / f"truth-select-{queries}-{rows}.i32"

    def recall(self, found, truth=None):
        truth = self.truth[: len(found)] if truth is None else truth[: len(found)]
        hits = 0
        for query, rows, true in zip(self.queries, found, truth, strict=False):
            true = true[true >= 0]
            rows = np.unique(rows[rows >= 0])
            floor = (self.base[true] @ query).min() - 1e-6 if len(true) else 0
            hits += min(int((self.base[rows] @ query >= floor).sum()), len(true))
        return hits / sum(int((true >= 0).sum()) for true in truth)

    def truth_of_shares(self):
        """i32[share][query][K], as bench_ann.c chooses the rows."""
        if not self.path.exists():
            best = np.full((len(SHARES), len(self.queries), K), -2.0, np.float32)
            at = np.full(best.shape, -1, np.int32)
            for begin in range(0, len(self.base), 20_000):
                products = self.queries @ np.asarray(self.base[begin : begin + 20_000]).T
                passing = shares_of(np.arange(begin, begin + products.shape[1], dtype=np.uint64))
                for s, share in enumerate(SHARES):
                    chosen = np.flatnonzero(passing < share)
                    some = np.hstack([best[s], products[:, chosen]])
                    rows = np.broadcast_to((chosen + begin).astype(np.int32), (len(some), len(chosen)))
                    rows = np.hstack([at[s], rows])
                    top = np.argpartition(-some, K - 1, axis=1)[:, :K]
                    best[s], at[s] = np.take_along_axis(some, top, 1), np.take_along_axis(rows, top, 1)
            at.tofile(self.path)
        return np.fromfile(self.path, np.int32).reshape(len(SHARES), len(self.queries), K)


    def recall_live(self, found, data, rows, rests):
        """Of each rest; among the rows that were there then, as bench_ann_store.c adds and removes them."""
        last = rows + rests[-1]["added"]
        base = np.memmap(data / "base.f32", np.float32, "r").reshape(-1, DIM)[:last]
        products = self.queries[: found.shape[1]] @ np.asarray(base).T
        recalls = []
        for rest, rest_found in zip(rests, found, strict=True):
            there = products[:, : rows + rest["added"]]
            there[:, 0 : 2 * rest["removed"] : 2] = -2
            floor = np.partition(there, there.shape[1] - K, axis=1)[:, -K] - 1e-6
            recalls.append(float((np.take_along_axis(there, rest_found, 1) >= floor[:, None]).mean()))
        return recalls


def shares_of(rows):
    with np.errstate(over="ignore"):
        x = rows * np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
    return (x >> np.uint64(11)).astype(np.float64) * 2.0**-53


def found_of(path, queries):
    return np.fromfile(path, np.int32).reshape(-1, queries, K)


def measure_peer(args, judge, name, rows):
    index = args.indexes / f"{name}-{rows}"
    meta = args.indexes / f"{name}-{rows}.json"
    count = COUNTS.get(name, len(judge.queries))
    worker = [sys.executable, HERE / "peers" / "ann_worker.py"]
    rest = [name, "--data", args.data, "--index", index, "--rows", rows, "--queries", args.queries, "--count", count]
    if not meta.exists():
        lines, peak = run([*worker, "build", *rest])
        meta.write_text(json.dumps({**lines[0], "peak_private_mb": round(peak)}))
    result = {"build": json.loads(meta.read_text())}
    result["cold"] = run([*worker, "cold", *rest])[0][0]
    ids = args.indexes / f"ids-{os.getpid()}"
    result["search"] = run([*worker, "search", *rest, "--ids", ids])[0]
    for entry, found in zip(result["search"], found_of(ids, count), strict=True):
        entry["recall"] = judge.recall(found)
    return result


def measure_ours(args, judge, rows):
    program, index, ids = args.program, args.indexes / f"memalloy-{rows}", args.indexes / f"ids-{os.getpid()}"
    shutil.rmtree(index, ignore_errors=True)
    lines, peak = run([program, "build", args.data, index, rows])
    result = {"build": {**lines[0], "peak_private_mb": round(peak)}}
    rest = [args.data, index, rows, args.queries, ids]
    count = len(judge.queries)
    result["search"] = run([program, "search", *rest, *args.ours])[0]
    for entry, found in zip(result["search"], found_of(ids, count), strict=True):
        entry["recall"] = judge.recall(found)
    usual = usual_of(result["search"])["setting"]
    result["cold"] = run([program, "cold", *rest, usual])[0][0]
    result["each"] = run([program, "each", *rest, usual])[0][0]
    result["select"] = run([program, "select", *rest, usual])[0]
    for entry, found, truth in zip(result["select"], found_of(ids, count), judge.truth_of_shares(), strict=True):
        entry["recall"] = judge.recall(found, truth)
    return result


def measure_store(args, judge, rows):
    """The same through memalloy.h, and, at the smaller size, rows that come and go while another thread searches."""
    program, store, ids = args.program.with_name("bench_ann_store"), args.indexes / f"store-{rows}", args.indexes / f"ids-{os.getpid()}"
    shutil.rmtree(store, ignore_errors=True)
    result = {"make": run([program, "make", args.data, store, rows])[0][0]}
    result["search"] = run([program, "search", args.data, store, rows, args.queries, ids])[0][0]
    result["search"]["recall"] = judge.recall(found_of(ids, len(judge.queries))[0])
    added, removed = LIVE
    if rows == SIZES[0]:
        live = run([program, "live", args.data, store, rows, args.queries, ids, added, removed])[0]
        found = np.fromfile(ids, np.int32).reshape(len(live) - 1, -1, K)
        for rest, recall in zip(live, judge.recall_live(found, args.data, rows, live[:-1]), strict=False):
            rest["recall"] = recall
        result["live"] = live
    shutil.rmtree(store)
    return result


def show_store(rows, store):
    entry, make = store["search"], store["make"]
    print(
        f"\nthrough the whole store (memalloy.h): recall@10 {entry['recall']:.4f}, p50 {entry['p50_ms']:.3f} ms, p99 "
        f"{entry['p99_ms']:.3f} ms, CPU {entry['cpu_ms']:.3f} ms, {entry['qps1']:,.0f} QPS, private {entry['private_mb']:.1f} "
        f"MB, files {entry['file_mb']:.0f} MB; open {entry['open_ms']:.1f} ms, first query {entry['first_ms']:.1f} ms; "
        f"{rows:,} rows loaded in {make['cpu_s']:.0f} CPU s (with what the index's thread did), index {make['index_cpu_s']:.0f}"
        f" CPU s more; {make['bytes_per_vector']:.0f} bytes per vector"
    )
    if "live" not in store:
        return []
    *rests, live = store["live"]
    print("\n| rows added, removed | " + " | ".join(f"{r['added']:,}, {r['removed']:,}" for r in rests) + " |")
    print("|" + "---|" * (len(rests) + 1))
    print("| recall@10 | " + " | ".join(f"{r['recall']:.4f}" for r in rests) + " |")
    print("| CPU ms of a search | " + " | ".join(f"{r['cpu_ms']:.3f}" for r in rests) + " |")
    print(
        f"\nmeanwhile {live['searches']:,} searches of another thread: CPU median {live['cpu_p50_ms']:.3f} ms, 99 % "
        f"{live['cpu_p99_ms']:.3f}, most {live['cpu_most_ms']:.3f}; writes took {live['write_cpu_s']:.1f} CPU s"
    )
    least = min(rest["recall"] for rest in rests)
    at, most = f"{rows:,} and {LIVE[0]:,} more", live["cpu_most_ms"] / live["cpu_p50_ms"]
    slow = f"{live['above_5_medians']} of {live['searches']:,}, the most {most:.1f} medians"
    return [
        (least >= GUARD, f"{at}: recall at least {GUARD} throughout: {least:.4f}"),
        (live["stale"] == 0, f"{at}: no removed row is found: {live['stale']}"),
        (live["unfound"] == 0, f"{at}: every row just added is found: {live['unfound']} were not"),
        (live["above_5_medians"] == 0, f"{at}: no search above 5 medians of CPU time: {slow}"),
    ]


def usual_of(entries):
    """The fastest that finds RECALL of the nearest, else the one that finds most."""
    good = [entry for entry in entries if entry["recall"] >= RECALL]
    return min(good, key=lambda e: e["p50_ms"]) if good else max(entries, key=lambda e: e["recall"])


def time_at(entries, recall, key="p50_ms"):
    """Milliseconds for that recall, between the settings on both sides of it; None where none reaches it."""
    front, least = [], math.inf
    for entry in sorted(entries, key=lambda e: -e["recall"]):
        if entry[key] < least:
            least = entry[key]
            front.insert(0, (entry["recall"], entry[key]))
    if not front or recall > front[-1][0]:
        return None
    for (low, fast), (high, slow) in zip(front, front[1:], strict=False):
        if low <= recall <= high:
            share = (recall - low) / (high - low) if high > low else 1
            return fast * (slow / fast) ** share
    return front[0][1]


def number(value, digits=3):
    return "-" if value is None else f"{value:,.{digits}f}"


def show(rows, results):
    head = ("system", "setting", "recall@10", "p50 ms", "p99 ms", "cpu ms", "QPS 1", "QPS 2", "batch 1", "batch 2")
    head += ("private MB", "file MB")
    print(f"\n{rows:,} vectors of {DIM} numbers\n\n| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    for name, result in results.items():
        for entry in result["search"]:
            setting = entry["setting"]
            cells = [name, setting if isinstance(setting, str) else ", ".join(map(str, setting))]
            cells += [number(entry["recall"], 4)] + [number(entry[key]) for key in ("p50_ms", "p99_ms", "cpu_ms")]
            cells += [number(entry[key], 0) for key in ("qps1", "qps2", "batch1", "batch2")]
            cells += [number(entry["private_mb"], 1), number(entry["file_mb"], 0)]
            print("| " + " | ".join(cells) + " |")
    head = ("system", "build CPU s", "private MB at most", "bytes per vector", "with the vectors")
    head += ("cold: open ms", "first query ms", "mean of 20")
    print("\n| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    for name, result in results.items():
        build, cold = result["build"], result["cold"]
        cells = [name, number(build["cpu_s"], 1), number(build["peak_private_mb"], 0)]
        cells += [number(build["bytes_per_vector"], 0), number(build["total_bytes_per_vector"], 0)]
        cells += [number(cold[key], 2) for key in ("open_ms", "first_ms", "mean_ms")]
        print("| " + " | ".join(cells) + " |")


def show_ours(ours):
    print("\n| ours | cells | codes | records | vectors | KB | rank us | scan us | records us | vectors us |")
    print("|" + "---|" * 10)
    for entry in ours["search"]:
        cells = [entry["setting"]] + [number(entry[k], 0) for k in ("cells", "codes", "records", "vectors", "kb")]
        cells += [number(entry[k], 1) for k in ("rank_us", "scan_us", "record_us", "vector_us")]
        print("| " + " | ".join(cells) + " |")
    print("\n| rows that pass | recall@10 | p50 ms | p99 ms | cells | codes |\n|---|---|---|---|---|---|")
    for entry in ours["select"]:
        cells = [f"{entry['share']:.1%}", number(entry["recall"], 4), number(entry["p50_ms"]), number(entry["p99_ms"])]
        print("| " + " | ".join(cells + [number(entry["cells"], 0), number(entry["codes"], 0)]) + " |")
    each = ours["each"]
    print(
        f"\nfully cold before each query: open {each['open_p50_ms']:.2f} ms, query {each['p50_ms']:.2f} ms, "
        f"{each['disk_kb']:,.0f} KB from the disk for both, private {each['private_mb']:.2f} MB, files {each['file_mb']:.1f} MB"
    )


def compare(results):
    """Each rival's time over ours at the same recall; CPU time beside, which a busy machine leaves alone."""
    ratios = {}
    if len(results) == 1:
        return ratios
    print("\n| time over ours at equal recall | " + " | ".join(e["setting"] for e in results["memalloy"]["search"]) + " |")
    print("|" + "---|" * (1 + len(results["memalloy"]["search"])))
    for name, result in results.items():
        if name == "memalloy":
            continue
        cells = []
        for entry in results["memalloy"]["search"]:
            both = [time_at(result["search"], entry["recall"], key) for key in ("p50_ms", "cpu_ms")]
            if both[0] is None:
                cells.append("not reached")
                continue
            ratio = both[0] / entry["p50_ms"]
            ratios.setdefault(name, []).append((entry["recall"], ratio))
            cells.append(f"{ratio:.2f} (CPU {both[1] / entry['cpu_ms']:.2f})")
        print(f"| {name} | " + " | ".join(cells) + " |")
    return ratios


def verdicts(rows, ours, ratios):
    usual, each, cold, build = usual_of(ours["search"]), ours["each"], ours["cold"], ours["build"]
    at = f"{rows:,}"
    good = usual["recall"] >= RECALL and usual["p50_ms"] <= WITHIN_MS[rows]
    found = [
        (good, f"{at}: recall {RECALL} within {WITHIN_MS[rows]} ms: {usual['recall']:.4f} in {usual['p50_ms']:.3f} ms"),
        (usual["private_mb"] < PRIVATE_MB, f"{at}: private memory under {PRIVATE_MB} MB: {usual['private_mb']:.2f}"),
        (each["p50_ms"] < COLD_MS, f"{at}: fully cold query under {COLD_MS} ms: {each['p50_ms']:.2f}"),
        (
            each["file_mb"] + each["private_mb"] <= COLD_MB,
            f"{at}: {COLD_MB} MB resident after it: {each['file_mb'] + each['private_mb']:.1f}",
        ),
        (
            cold["open_ms"] + cold["first_ms"] < FIRST_MS,
            f"{at}: open and first query, all cold, under {FIRST_MS} ms: {cold['open_ms'] + cold['first_ms']:.2f}",
        ),
        (
            build["bytes_per_vector"] <= VECTOR_BYTES,
            f"{at}: at most {VECTOR_BYTES} bytes per vector: {build['bytes_per_vector']:.0f}",
        ),
    ]
    if rows == 1_000_000:
        found.append((build["cpu_s"] <= BUILD_CPU_S, f"{at}: built within {BUILD_CPU_S} CPU s: {build['cpu_s']:.0f}"))
        peak = build["peak_private_mb"]
        found.append((peak <= BUILD_MB, f"{at}: built within {BUILD_MB} MB of private memory: {peak}"))
    for name in ("faiss", "faiss-plain"):
        for recall, ratio in ratios.get(name, []):
            text = f"{at}: at most half of {name}'s time at recall {recall:.3f}: {1 / ratio:.2f} of it"
            found.append((1 / ratio <= FAISS_SHARE, text))
    whole = ours["select"][0]
    for entry in ours["select"][1:]:
        good = entry["recall"] >= min(RECALL, float(usual["setting"].split(":")[0])) and (
            entry["p50_ms"] <= whole["p50_ms"] * 1.05
        )
        text = f"{entry['recall']:.4f} in {entry['p50_ms']:.3f} ms, all rows {whole['p50_ms']:.3f} ms"
        found.append((good, f"{at}: {entry['share']:.1%} of the rows, not worse and not slower: {text}"))
    return found


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--data", type=Path, required=True)
    options.add_argument("--build", type=Path, default=ROOT / "build")
    options.add_argument("--indexes", type=Path, default=None, help="where indexes are kept")
    options.add_argument("--quick", action="store_true", help="200,000 vectors only")
    options.add_argument("--peers", default=None, help="names with commas, none for no rival")
    options.add_argument("--queries", choices=["tune", "query"], default="query")
    options.add_argument("--ours", default=",".join(OURS), help="settings with commas")
    options.add_argument("--sizes", default=None)
    args = options.parse_args()
    args.indexes = args.indexes or args.data / "indexes"
    args.indexes.mkdir(parents=True, exist_ok=True)
    args.program = args.build / "tests" / "unit" / "index" / "bench_ann"
    args.ours = args.ours.split(",")
    sizes = SIZES[: 1 if args.quick else None]
    if args.sizes:
        sizes = [int(size) for size in args.sizes.split(",")]
    processor = [x.split(":")[1].strip() for x in open("/proc/cpuinfo") if x.startswith("model name")]
    load = ", ".join(f"{x:.1f}" for x in os.getloadavg())
    print(f"bench-ann: {processor[0] if processor else platform.machine()}, {os.cpu_count()} cores, load {load}")
    print(f"queries: {args.queries}.f32, each three times, its least time; p50 and p99 are over queries")
    everything: dict[str, dict] = {}
    found = []
    for rows in sizes:
        judge = Judge(args.data, args.queries, rows)
        peers = PEERS if args.peers is None else [x for x in args.peers.split(",") if x != "none"]
        results = {}
        try:
            results["memalloy"] = measure_ours(args, judge, rows)
        except (OSError, RuntimeError) as error:
            print(f"bench-ann: ours at {rows:,} is left out: {error}")
        for name in peers:
            is_made = (args.indexes / f"{name}-{rows}.json").exists()
            if args.peers is None and name in SLOW.get(rows, ()) and not is_made:
                print(f"bench-ann: {name} at {rows:,} takes long to build and is left out; --peers {name} brings it")
                continue
            try:
                results[name] = measure_peer(args, judge, name, rows)
            except (OSError, RuntimeError) as error:
                print(f"bench-ann: {name} at {rows:,} is left out: {error}")
        show(rows, results)
        if "memalloy" in results:
            show_ours(results["memalloy"])
            found += verdicts(rows, results["memalloy"], compare(results))
        try:
            results["store"] = measure_store(args, judge, rows)
            found += show_store(rows, results["store"])
        except (OSError, RuntimeError) as error:
            print(f"bench-ann: the store at {rows:,} is left out: {error}")
        everything[str(rows)] = results
    out = args.build / "bench-ann.json"
    before = json.loads(out.read_text()) if out.exists() else {}
    out.write_text(json.dumps({**before, **everything}, indent=1))
    print()
    for is_met, text in found:
        print(f"{'met   ' if is_met else 'MISSED'}  {text}")
    return 0


sys.exit(main())
