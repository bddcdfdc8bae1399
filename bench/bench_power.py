#!/usr/bin/env python3
"""Power cuts on memalloy, LanceDB and SQLite with one driver (tests/crash/power_cut.py), in one table: how much of what
was acknowledged is gone, and how many stores no longer open. LanceDB's table is synced by hand once it is made.

    .venv/bin/python bench/bench_power.py [--cuts 20] [--fs ext4]

Needs CAP_SYS_ADMIN, a build (make build) and the test tools (make setup-test).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "crash"))
import power_cut  # noqa: E402

PEERS = Path(__file__).resolve().parent / "peers"
RUNS = [
    ("memalloy", "memalloy", "full"),
    ("memalloy", "memalloy", "normal"),
    ("SQLite, WAL", str(PEERS / "power_sqlite.py"), "full"),
    ("SQLite, WAL", str(PEERS / "power_sqlite.py"), "normal"),
    ("LanceDB", str(PEERS / "power_lancedb.py"), "-"),
]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cuts", type=int, default=20)
    parser.add_argument("--fs", choices=["ext4", "xfs"], default="ext4")
    parser.add_argument("--worker", default=str(ROOT / "build" / "tests" / "crash" / "crash_worker"))
    args = parser.parse_args()
    reason = power_cut.why_not(args.fs)
    if reason:
        print(f"skipped: {reason}")
        return 0
    print(f"{args.cuts} power cuts each on {args.fs}, up to {power_cut.SECONDS_MAX} s of writing before each")
    print(f"{'store':<14}{'level':<8}{'acknowledged':>13}{'lost':>8}{'oldest lost':>13}{'do not open':>13}")
    for name, engine, level in RUNS:
        command = ["unshare", "-m", sys.executable, power_cut.__file__, engine, "--fs", args.fs, "--cuts", str(args.cuts),
                   "--level", level, "--worker", args.worker]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            print(f"{name:<14}{level:<8}{done.stderr.strip().splitlines()[-1]}")
            continue
        total = json.loads(done.stdout)
        oldest = f"{total['window_ms']:.0f} ms" if total["window_ms"] else "-"
        print(f"{name:<14}{level:<8}{total['acked']:>13}{total['lost']:>8}{oldest:>13}{total['unopenable']:>13}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
