#!/usr/bin/env python3
"""Opening a store of a million rows, beside LanceDB on the same tables: bench_open.py [--build FOLDER] [--rows N] [--dim N]
[--dir FOLDER] [--lancedb PYTHON]

Every opening is a process of its own; the page cache is warm, as each is done once before. Out: the least of five, and
a verdict. LanceDB's time is without its import; both count the rows of both tables. "own" is what the system counts as
the process's own; "files" of it are pages of mapped files that no other process maps just now.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROUNDS = 5
OPEN_MS_MAX, OWN_KB_MAX = 10, 20 * 1024


def run(command):
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def least(command):
    """The least of every number; run once before, so that nothing is cold."""
    run(command)
    rounds = [run(command) for _ in range(ROUNDS)]
    return {key: min(entry[key] for entry in rounds) for key in rounds[0]}


def show(label, figures, keys):
    print(f"  {label:<10}" + "".join(f"{figures[key]:>16,.2f}" if key in figures else f"{'':>16}" for key in keys))


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--build", type=Path, default=HERE.parent / "build")
    options.add_argument("--rows", type=int, default=1_000_000)
    options.add_argument("--dim", type=int, default=384)
    options.add_argument("--dir", type=Path, default=None, help="where the stores are made")
    options.add_argument("--lancedb", default=sys.executable, help="an interpreter that has it")
    args = options.parse_args()
    program = str(args.build / "tests" / "unit" / "store" / "bench_open")
    place = Path(tempfile.mkdtemp(prefix="bench-open-", dir=args.dir or args.build))
    keys = ("open_ms", "open_cpu_ms", "own_kb", "own_files_kb", "first_id_ms", "first_path_ms", "first_chunks_ms")
    met = True
    try:
        for each in (1, 10):
            store = place / str(each)
            run([program, "make", str(store), str(args.rows), str(each), str(args.dim)])
            print(f"{args.rows:,} chunks of {args.dim} numbers, {each} per document")
            print(" " * 12 + "".join(f"{key:>16}" for key in keys))
            ours = least([program, "open", str(store), str(args.rows), str(each)])
            show("memalloy", ours, keys)
            if subprocess.run([args.lancedb, "-c", "import lancedb"], capture_output=True).returncode == 0:
                show("lancedb", least([args.lancedb, str(HERE / "peers" / "open_lancedb.py"), str(store)]), keys)
            else:
                print("  lancedb is not installed")
            met = met and ours["open_ms"] < OPEN_MS_MAX and ours["own_kb"] + ours["own_files_kb"] < OWN_KB_MAX
    finally:
        shutil.rmtree(place)
    print(f"below {OPEN_MS_MAX} ms and {OWN_KB_MAX // 1024} MB: {'met' if met else 'MISSED'}")
    return 0 if met else 1


sys.exit(main())
