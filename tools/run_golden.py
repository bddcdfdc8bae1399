#!/usr/bin/env python3
"""Compares our word pieces with those that HF tokenizers gave for the strings of a shared set.

    tools/run_golden.py SHARED          (make golden SHARED=../shared; the set is SHARED/data/tok/*.jsonl)
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VOCABULARY = Path("tests", "golden", "token", "vocab.txt")


def find_program() -> Path | None:
    """Where meson put the program; the folder below build/ is its own affair."""
    listing = Path("build", "meson-info", "intro-targets.json")
    targets = json.loads(listing.read_text()) if listing.exists() else []
    return next((Path(target["filename"][0]) for target in targets if target["name"] == "golden_token"), None)


def main() -> int:
    shared = sys.argv[1] if len(sys.argv) == 2 else ""
    if not shared:
        print("golden: name the folder that holds data/tok: make golden SHARED=../shared", file=sys.stderr)
        return 2
    files = sorted(Path(shared).resolve().glob("data/tok/*.jsonl"))
    if not files:
        print(f"golden: no *.jsonl in {Path(shared, 'data', 'tok')}", file=sys.stderr)
        return 2
    os.chdir(ROOT)
    program = find_program()
    if program is None:
        print("golden: build/ has no program golden_token", file=sys.stderr)
        return 2
    command = [str(program), str(VOCABULARY), *map(str, files)]
    return subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
