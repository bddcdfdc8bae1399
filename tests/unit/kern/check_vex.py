#!/usr/bin/env python3
"""Looks at the machine code of the avxvnni set: processors with AVX-VNNI and without AVX-512 know the VEX encoding alone,
and none of the machines we test on would stop at an instruction of AVX-512.

    check_vex.py ARCHIVE      exit code 77 (skipped) without objdump
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys

LINE = re.compile(r"^ +[0-9a-f]+:\t((?:[0-9a-f]{2} )+) *\t?(.*)$")


def main() -> int:
    objdump = shutil.which("objdump")
    if objdump is None:
        print("skip: no objdump on this machine")
        return 77
    listing = subprocess.run([objdump, "-d", "-w", sys.argv[1]], capture_output=True, text=True, check=True).stdout
    code = [(match[1].split(), match[2]) for match in map(LINE.match, listing.splitlines()) if match]
    evex = [text for first, text in code if first[0] == "62"]
    dots = [first for first, text in code if "vpdpbusd" in text]
    # VEX of three bytes: c4, then map 0f38, then 256 bits with prefix 66, then opcode 50.
    odd = [first for first in dots if first[0] != "c4" or int(first[1], 16) & 0x1F != 2 or first[3] != "50"]
    print(f"{len(code)} instructions, {len(dots)} vpdpbusd")
    if evex:
        print(f"{len(evex)} instructions are of AVX-512, the first is: {evex[0]}")
    if odd:
        print(f"vpdpbusd is not encoded in VEX: {' '.join(odd[0])}")
    return 1 if evex or odd or len(dots) < 12 else 0


if __name__ == "__main__":
    sys.exit(main())
