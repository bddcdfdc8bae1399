#!/usr/bin/env python3
"""The vectors that bench_ann.py searches: ann_data.py [--command MEMALLOY] [--model FILE] [--rows N] FOLDER

In: the sentences of ann_sentences.py, made first where FOLDER has none. Out, in FOLDER, all by our own engine:
base.f32 (rows), tune.f32 and query.f32 (1,000 each), f32[n][384] in this machine's byte order, unit vectors; and the
true nearest 100 of both sets of queries among the first 200,000 and among a million (truth-*.i32), by exact products.
query.f32 is for what is reported: whoever chooses a constant of the index looks at tune.f32 only. What is there is kept.
"""

import argparse
import itertools
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
DIM, QUERIES, NEAREST, PART, SMALL = 384, 1_000, 100, 50_000, 200_000
ROWS_MAX = 1_000_000  # the queries are the sentences behind them, however many rows are wanted


def embed(command, model, lines, scratch):
    texts, out = scratch / "texts", scratch / "out.npy"
    texts.write_text("".join(lines), encoding="utf-8")
    subprocess.run([command, "embed", "-q", "--model", model, "-f", texts, "-o", out], check=True)
    vectors = np.load(out)
    if vectors.shape != (len(lines), DIM) or vectors.dtype != np.float32:
        sys.exit(f"ann data: {len(lines)} texts gave {vectors.dtype}{vectors.shape}")
    return vectors


def write(path, data):
    scratch = path.with_suffix(".part")
    data.tofile(scratch)
    scratch.rename(path)


def embed_all(args, lines, scratch):
    """Queries first, then the rows, by parts at the end of a growing file: what was cut off goes on where it was."""
    for at, name in enumerate(("tune.f32", "query.f32")):
        if not (args.folder / name).exists():
            of = lines[ROWS_MAX + at * QUERIES : ROWS_MAX + (at + 1) * QUERIES]
            write(args.folder / name, embed(args.command, args.model, of, scratch))
    base, row_bytes = args.folder / "base.f32", DIM * 4
    done = base.stat().st_size // row_bytes if base.exists() else 0
    if done >= args.rows:
        return
    with open(base, "ab") as file:
        file.truncate(done * row_bytes)
        while done < args.rows:
            begun = time.monotonic()
            part = lines[done : min(done + PART, args.rows)]
            embed(args.command, args.model, part, scratch).tofile(file)
            file.flush()
            done += len(part)
            rate = len(part) / (time.monotonic() - begun)
            print(f"ann data: {done} of {args.rows} rows, {rate:.0f} a second", flush=True)


def nearest(base, queries):
    """i32[queries][NEAREST], best first; equal products in the order of the rows."""
    best_at = np.zeros((len(queries), 0), np.int64)
    best = np.zeros((len(queries), 0), np.float32)
    for begin in range(0, len(base), 20_000):
        products = queries @ np.asarray(base[begin : begin + 20_000]).T
        if products.shape[1] > NEAREST:
            top = np.argpartition(-products, NEAREST - 1, axis=1)[:, :NEAREST]
        else:
            top = np.tile(np.arange(products.shape[1]), (len(queries), 1))
        best_at = np.hstack([best_at, top + begin])
        best = np.hstack([best, np.take_along_axis(products, top, 1)])
        order = np.lexsort((best_at, -best), axis=1)[:, :NEAREST]
        best_at, best = np.take_along_axis(best_at, order, 1), np.take_along_axis(best, order, 1)
    return best_at.astype(np.int32)


def truths(folder, rows):
    base = np.memmap(folder / "base.f32", np.float32, "r").reshape(-1, DIM)
    for count, name in itertools.product((SMALL, ROWS_MAX), ("tune", "query")):
        path = folder / f"truth-{name}-{count}.i32"
        if min(len(base), rows) >= count and not path.exists():
            queries = np.fromfile(folder / f"{name}.f32", np.float32).reshape(-1, DIM)
            write(path, nearest(base[:count], queries))
            print(f"ann data: {path.name}", flush=True)


def main():
    options = argparse.ArgumentParser()
    options.add_argument("folder", type=Path)
    options.add_argument("--command", default=ROOT / "build" / "cli" / "memalloy")
    options.add_argument("--model", default=ROOT / "models" / "all-minilm-l6-v2.safetensors")
    options.add_argument("--rows", type=int, default=1_000_000)
    options.add_argument("--cache", type=Path, default=None, help="where the packages of the sentences are")
    args = options.parse_args()
    args.rows = min(args.rows, ROWS_MAX)
    args.folder.mkdir(parents=True, exist_ok=True)
    sentences = args.folder / "sentences.txt"
    if not sentences.exists():
        cache = ["--cache", args.cache] if args.cache else []
        subprocess.run([sys.executable, HERE / "ann_sentences.py", *cache, sentences], check=True)
    wanted = ROWS_MAX + 2 * QUERIES
    with open(sentences, encoding="utf-8") as file:
        lines = list(itertools.islice(file, wanted))
    if len(lines) < wanted:
        sys.exit(f"ann data: {sentences} has {len(lines)} sentences, {wanted} are needed")
    with tempfile.TemporaryDirectory(dir=args.folder, prefix="embed-") as scratch:
        embed_all(args, lines, Path(scratch))
    truths(args.folder, args.rows)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "2")
    main()
