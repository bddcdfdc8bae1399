#!/usr/bin/env python3
"""Turns the texts of data/ into C arrays: make_convert_tables.py FILE... OUT.c

Names are those of the files: data/queries.txt becomes mly_convert_queries and mly_convert_queries_bytes.
"""

import sys
from pathlib import Path

WIDTH = 24


def table(path):
    blob, name = path.read_bytes(), f"mly_convert_{path.stem}"
    rows = [blob[i : i + WIDTH] for i in range(0, len(blob), WIDTH)]
    body = "\n".join("    " + ", ".join(map(str, row)) + "," for row in rows)
    return f"const unsigned char {name}[] = {{\n{body}\n}};\nconst size_t {name}_bytes = {len(blob)};\n"


def main():
    *files, out = map(Path, sys.argv[1:])
    head = '/* Made by tools/make_convert_tables.py. */\n#include "engine/convert_int.h"\n\n'
    out.write_text(head + "\n".join(map(table, files)), encoding="utf-8")


if __name__ == "__main__":
    main()
