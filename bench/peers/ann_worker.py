#!/usr/bin/env python3
"""One rival of bench_ann.py in a process of its own: ann_worker.py build|cold|search SYSTEM --data FOLDER --index PATH
--rows N [--queries tune|query] [--settings JSON] [--ids FILE]

Out: a line of JSON for every measurement; the rows found go to --ids as i32[settings][queries][10], -1 where there are
fewer, so that one judge counts for everybody. Each query goes in three times, its least time counts.
"""

import argparse
import json
import os
import resource
import shutil
import sys
import threading
import time
from pathlib import Path

import numpy as np

DIM, K, ROUNDS, COLD = 384, 10, 3, 20
PART = 20_000


def memory():
    fields = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return {key: int(fields[key].split()[0]) / 1024 for key in ("RssAnon", "RssFile", "VmHWM")}


def files_of(path):
    return [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]


def bytes_of(path):
    return sum(file.stat().st_size for file in files_of(path)) if path.exists() else 0


def evict(path):
    for file in files_of(path):
        fd = os.open(file, os.O_RDONLY)
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)


class Peer:
    """settings: each one element of a sweep, worst recall first. needs_vectors: the rows are read beside the index."""

    needs_vectors = False

    def __init__(self, args):
        self.path, self.rows, self.base_path = args.index, args.rows, args.data / "base.f32"
        self.base = np.memmap(self.base_path, np.float32, "r", shape=(args.rows, DIM))

    def parts(self):
        for begin in range(0, self.rows, PART):
            yield begin, np.ascontiguousarray(self.base[begin : min(begin + PART, self.rows)])

    def refined(self, rows, query):
        """The best K by the exact product, read from the file of vectors."""
        rows = rows[rows >= 0]
        return rows[np.argsort(-(self.base[rows] @ query))[:K]]

    def batch(self, queries, setting, threads):
        return None


class Faiss(Peer):
    """IVF with RaBitQ by fast scan, re-ranked with exact vectors, everything mapped: what faiss has for disks."""

    settings = [[8, 10], [16, 10], [32, 10], [64, 10], [128, 10], [256, 10], [256, 20], [512, 20]]
    code, refine = "RaBitQfs", "RFlat"

    def lists(self):
        return 1024 if self.rows <= 300_000 else 2048

    def build(self):
        import faiss

        faiss.omp_set_num_threads(2)
        index = faiss.index_factory(DIM, f"IVF{self.lists()},{self.code},{self.refine}", faiss.METRIC_L2)
        step = max(1, self.rows // (self.lists() * 64))
        index.train(np.ascontiguousarray(self.base[::step]))
        for _, rows in self.parts():
            index.add(rows)
        faiss.write_index(index, str(self.path))

    def own_bytes(self):
        """The vectors are in the index; they count as what every system has."""
        return bytes_of(self.path) - (self.rows * DIM * 4 if self.refine == "RFlat" else 0)

    def open(self):
        import faiss

        self.faiss = faiss
        faiss.omp_set_num_threads(1)
        self.index = faiss.read_index(str(self.path), faiss.IO_FLAG_MMAP_IFC)
        self.made = {}

    def parameters(self, setting):
        key = tuple(setting)
        if key not in self.made:
            cells = self.faiss.IVFSearchParameters(nprobe=setting[0])
            refine = self.faiss.IndexRefineSearchParameters(k_factor=setting[1], base_index_params=cells)
            self.made[key] = refine
        return self.made[key]

    def search(self, query, setting):
        return self.index.search(query[None], K, params=self.parameters(setting))[1][0]

    def batch(self, queries, setting, threads):
        self.faiss.omp_set_num_threads(threads)
        self.index.search(queries, K, params=self.parameters(setting))
        self.faiss.omp_set_num_threads(1)


class FaissPlain(Faiss):
    """Codes one by one instead of 32 at once: faster than fast scan on some machines."""

    code = "RaBitQ"


class FaissSq8(Faiss):
    """The same with records of 8 bits to re-rank by, as ours."""

    refine = "Refine(SQ8)"


class Usearch(Peer):
    settings = [[32], [64], [128], [256]]
    dtype = "f32"

    def make(self):
        from usearch.index import Index

        metric = "hamming" if self.dtype == "b1" else "cos"
        return Index(ndim=DIM, metric=metric, dtype=self.dtype, connectivity=16, expansion_add=128, expansion_search=64)

    def of(self, vectors):
        return np.packbits(vectors > 0, axis=-1) if self.dtype == "b1" else vectors

    def build(self):
        index = self.make()
        for begin, rows in self.parts():
            index.add(np.arange(begin, begin + len(rows)), self.of(rows), threads=2)
        index.save(str(self.path))

    def own_bytes(self):
        return bytes_of(self.path)

    def open(self):
        from usearch.index import Index

        self.index = Index.restore(str(self.path), view=True)

    def search(self, query, setting):
        self.index.expansion_search = setting[0]
        return self.index.search(query, K, threads=1).keys.astype(np.int64)

    def batch(self, queries, setting, threads):
        self.index.expansion_search = setting[0]
        self.index.search(self.of(queries), K, threads=threads)


class UsearchInt8(Usearch):
    dtype = "i8"


class UsearchBits(Usearch):
    settings = [[100], [200], [400]]
    dtype = "b1"
    needs_vectors = True

    def search(self, query, setting):
        self.index.expansion_search = setting[0]
        found = self.index.search(self.of(query), setting[0], threads=1).keys.astype(np.int64)
        return self.refined(found, query)

    def batch(self, queries, setting, threads):
        return None


class Hnswlib(Peer):
    settings = [[32], [64], [128], [256]]

    def build(self):
        import hnswlib

        index = hnswlib.Index("ip", DIM)
        index.init_index(self.rows, ef_construction=128, M=16)
        index.set_num_threads(2)
        for begin, rows in self.parts():
            index.add_items(rows, np.arange(begin, begin + len(rows)))
        index.save_index(str(self.path))

    def own_bytes(self):
        return bytes_of(self.path)

    def open(self):
        import hnswlib

        self.index = hnswlib.Index("ip", DIM)
        self.index.load_index(str(self.path), max_elements=self.rows)
        self.index.set_num_threads(1)

    def search(self, query, setting):
        self.index.set_ef(setting[0])
        return self.index.knn_query(query, K)[0][0].astype(np.int64)

    def batch(self, queries, setting, threads):
        self.index.set_ef(setting[0])
        self.index.knn_query(queries, K, num_threads=threads)


class LanceDb(Peer):
    """IVF_RQ with its own number of partitions, re-ranked by refine_factor from the table."""

    settings = [[20, 10], [40, 10], [80, 20], [160, 20]]

    def build(self):
        import lancedb
        import pyarrow as pa
        from lancedb.index import IvfRq

        schema = pa.schema([("id", pa.int64()), ("vector", pa.list_(pa.float32(), DIM))])

        def batches():
            for begin, rows in self.parts():
                vectors = pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), DIM)
                yield pa.RecordBatch.from_arrays([pa.array(np.arange(begin, begin + len(rows))), vectors], schema=schema)

        table = lancedb.connect(self.path).create_table("t", batches(), schema=schema)
        self.before = bytes_of(self.path)
        self.cpu_before = cpu_seconds()
        table.create_index("vector", config=IvfRq(distance_type="cosine"))

    def own_bytes(self):
        return bytes_of(self.path) - self.before

    def open(self):
        import lancedb

        self.table = lancedb.connect(self.path).open_table("t")

    def search(self, query, setting):
        found = self.table.search(query, vector_column_name="vector").distance_type("cosine").limit(K)
        found = found.select(["id", "_distance"]).nprobes(setting[0]).refine_factor(setting[1])
        return found.to_arrow()["id"].to_numpy()


PEERS = {
    "faiss": Faiss,
    "faiss-plain": FaissPlain,
    "faiss-sq8": FaissSq8,
    "usearch": Usearch,
    "usearch-i8": UsearchInt8,
    "usearch-b1": UsearchBits,
    "hnswlib": Hnswlib,
    "lancedb": LanceDb,
}


def cpu_seconds():
    return sum(os.times()[:2])


def say(**fields):
    print(json.dumps(fields), flush=True)


def build(peer):
    if peer.path.is_dir():
        shutil.rmtree(peer.path)
    peer.path.unlink(missing_ok=True)
    begun, cpu = time.monotonic(), cpu_seconds()
    peer.cpu_before = cpu
    peer.build()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    say(
        phase="build",
        cpu_s=round(cpu_seconds() - peer.cpu_before, 1),
        wall_s=round(time.monotonic() - begun, 1),
        peak_mb=round(peak),
        bytes_per_vector=round(peer.own_bytes() / peer.rows, 1),
        total_bytes_per_vector=round((peer.own_bytes() + peer.rows * DIM * 4) / peer.rows, 1),
    )


def cold(peer, queries, setting):
    """Open and first queries with nothing of it in the page cache."""
    evict(peer.path)
    if peer.needs_vectors:
        evict(peer.base_path)
    type(peer).preload()
    before, begun = memory(), time.perf_counter()
    peer.open()
    opened = time.perf_counter()
    times = []
    for query in queries[:COLD]:
        start = time.perf_counter()
        peer.search(query, setting)
        times.append((time.perf_counter() - start) * 1e3)
    after = memory()
    say(
        phase="cold",
        open_ms=round((opened - begun) * 1e3, 2),
        first_ms=round(times[0], 2),
        mean_ms=round(sum(times) / len(times), 2),
        private_mb=round(after["RssAnon"] - before["RssAnon"], 1),
        file_mb=round(after["RssFile"] - before["RssFile"], 1),
    )


def least_times(peer, queries, setting, found):
    """Seconds and CPU seconds of every query, the least of all rounds; the first rounds' rows into found."""
    wall, cpu = np.full(len(queries), np.inf), np.full(len(queries), np.inf)
    for at in range(ROUNDS):
        for i, query in enumerate(queries):
            cpu_begun, begun = time.process_time_ns(), time.perf_counter_ns()
            rows = peer.search(query, setting)
            ended, cpu_ended = time.perf_counter_ns(), time.process_time_ns()
            wall[i], cpu[i] = min(wall[i], (ended - begun) / 1e9), min(cpu[i], (cpu_ended - cpu_begun) / 1e9)
            if at == 0:
                found[i, : len(rows)] = rows[:K]
    return wall, cpu


def two_threads(peer, queries, setting, seconds=1.5):
    counts, end = [0, 0], time.monotonic() + seconds

    def run(which):
        i = which
        while time.monotonic() < end:
            peer.search(queries[i % len(queries)], setting)
            i += 2
            counts[which] += 1

    threads = [threading.Thread(target=run, args=(which,)) for which in (0, 1)]
    begun = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.monotonic() - begun)


def batch_rate(peer, queries, setting, threads):
    """Queries where all go in at once, for a CPU second of one thread, or a second of two; None: there is no such call."""
    best, clock = None, time.process_time if threads == 1 else time.perf_counter
    for _ in range(ROUNDS):
        begun = clock()
        if peer.batch(queries, setting, threads) is None and type(peer).batch is Peer.batch:
            return None
        rate = len(queries) / (clock() - begun)
        best = max(best or 0, rate)
    return best


def search(peer, queries, settings, ids):
    type(peer).preload()
    before = memory()
    peer.open()
    for query in queries[:100]:
        peer.search(query, settings[0])
    with open(ids, "wb") as file:
        for setting in settings:
            found = np.full((len(queries), K), -1, np.int32)
            wall, cpu = least_times(peer, queries, setting, found)
            found.tofile(file)
            rates = [batch_rate(peer, queries, setting, threads) for threads in (1, 2)]
            pair = max(two_threads(peer, queries, setting) for _ in range(2))
            after = memory()
            say(
                phase="search",
                setting=setting,
                p50_ms=float(np.median(wall) * 1e3),
                p99_ms=float(np.quantile(wall, 0.99) * 1e3),
                cpu_ms=float(np.median(cpu) * 1e3),
                qps1=1 / float(wall.mean()),
                qps2=pair,
                batch1=rates[0],
                batch2=rates[1],
                private_mb=round(after["RssAnon"] - before["RssAnon"], 1),
                file_mb=round(after["RssFile"] - before["RssFile"], 1),
            )


def preload_of(modules):
    """Imports are not the index's memory or time."""

    def preload():
        for module in modules:
            __import__(module)

    return staticmethod(preload)


for _peer, _modules in {
    Faiss: ["faiss"],
    Usearch: ["usearch.index"],
    Hnswlib: ["hnswlib"],
    LanceDb: ["lancedb", "pyarrow", "lancedb.index"],
}.items():
    _peer.preload = preload_of(_modules)


def main():
    options = argparse.ArgumentParser()
    options.add_argument("phase", choices=["build", "cold", "search"])
    options.add_argument("system", choices=list(PEERS))
    options.add_argument("--data", type=Path, required=True)
    options.add_argument("--index", type=Path, required=True)
    options.add_argument("--rows", type=int, required=True)
    options.add_argument("--queries", choices=["tune", "query"], default="query")
    options.add_argument("--count", type=int, default=1_000, help="of queries")
    options.add_argument("--settings", type=json.loads, default=None)
    options.add_argument("--ids", type=Path, default=None)
    args = options.parse_args()
    peer = PEERS[args.system](args)
    settings = args.settings or peer.settings
    if args.phase == "build":
        build(peer)
        return
    queries = np.fromfile(args.data / f"{args.queries}.f32", np.float32).reshape(-1, DIM)[: args.count]
    if args.phase == "cold":
        cold(peer, queries, settings[len(settings) // 2])
    else:
        search(peer, queries, settings, args.ids or os.devnull)


if __name__ == "__main__":
    threads = "2" if sys.argv[1:2] == ["build"] else "1"
    for variable in ("OMP_NUM_THREADS", "RAYON_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(variable, threads)
    main()
