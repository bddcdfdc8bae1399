#!/usr/bin/env python3
"""Writes src/chunk/marks_tables.c: code points that never begin a user-perceived character.

Run: python3 tools/make_marks_tables.py > src/chunk/marks_tables.c
The Unicode version is that of the Python that runs it; it is named in the output.
"""

import unicodedata


def is_mark(code):
    """General category M*, joiners, emoji modifiers and tags, Hangul vowels and finals."""
    return (
        unicodedata.category(chr(code)) in ("Mn", "Me", "Mc")
        or code in (0x200C, 0x200D, 0xFF9E, 0xFF9F)
        or 0x1160 <= code <= 0x11FF
        or 0x1F3FB <= code <= 0x1F3FF
        or 0xE0020 <= code <= 0xE007F
    )


def ranges():
    """Merged ranges; unassigned gaps below 64 code points are swallowed."""
    found = []
    gap_unassigned = False
    for code in range(0x300, 0x110000):
        if 0xD800 <= code <= 0xDFFF:
            gap_unassigned = False
            continue
        if is_mark(code):
            near = found and (code == found[-1][1] + 1 or (gap_unassigned and code - found[-1][1] < 64))
            if near:
                found[-1][1] = code
            else:
                found.append([code, code])
            gap_unassigned = True
        elif unicodedata.category(chr(code)) != "Cn":
            gap_unassigned = False
    return found


def main():
    """Prints the table."""
    found = ranges()
    print("/* Made by tools/make_marks_tables.py from Unicode %s; do not edit. */" % unicodedata.unidata_version)
    print('#include "chunk/chunk_int.h"\n')
    print("/* clang-format off */")
    print("const uint32_t mly_marks[][2] = {")
    for i in range(0, len(found), 4):
        print("    " + " ".join("{0x%X, 0x%X}," % tuple(pair) for pair in found[i : i + 4]))
    print("};")
    print("/* clang-format on */")
    print("const size_t mly_marks_count = sizeof(mly_marks) / sizeof(mly_marks[0]);")


if __name__ == "__main__":
    main()
