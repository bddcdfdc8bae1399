#!/usr/bin/env python3
"""Writes src/token/unicode_tables.c: what BERT's uncased normalizer does to each code point.

usage: make_unicode_tables.py [OUT]        needs: tokenizers==0.23.3, CPython 3.11

HF's tokenizer mixes three Rust crates of three Unicode versions (categories, decomposition, case),
so no edition of the Unicode data files gives its answers. The definition is therefore the library
itself: each code point is put through it and the answer is written down. Combining classes come
from Python's unicodedata, and the order they give is checked against the library for each pair of
characters for which it matters. The vocabulary plays no part.
"""
import sys
import unicodedata

import tokenizers
from tokenizers import normalizers, pre_tokenizers

HF_VERSION = "0.23.3"
BLOCK = 128
KINDS = ["WORD", "PUNCT", "SPACE", "CONTROL", "MARK", "CJK", "SEQUENCE", "HANGUL"]

FULL = normalizers.BertNormalizer(
    clean_text=True, handle_chinese_chars=True, strip_accents=None, lowercase=True)
CLEAN = normalizers.BertNormalizer(
    clean_text=True, handle_chinese_chars=False, strip_accents=False, lowercase=False)
CJK = normalizers.BertNormalizer(
    clean_text=False, handle_chinese_chars=True, strip_accents=False, lowercase=False)
SPLIT = pre_tokenizers.BertPreTokenizer()


def is_hangul(cp):
    return 0xAC00 <= cp < 0xAC00 + 11172


def is_starter(char):
    """True where char keeps the marks on both sides of it (classes 224 and 9) from changing places."""
    out = FULL.normalize_str("a\u302e" + char + "\u1b44")
    return out.index("\u302e") < out.index("\u1b44")


def split_kind(char):
    parts = [part for part, _ in SPLIT.pre_tokenize_str("a" + char + "a")]
    if parts == ["a" + char + "a"]:
        return "WORD"
    if parts == ["a", char, "a"]:
        return "PUNCT"
    raise SystemExit(f"U+{ord(char):04X} splits words in a way that is not known here: {parts}")


def probe(cp):
    """(kind, combining class, folded characters)"""
    char = chr(cp)
    out = FULL.normalize_str(char)
    if out == "":
        if CLEAN.normalize_str(char) == "":
            return "CONTROL", 0, ""
        return "MARK", 0 if is_starter(char) else 1, ""
    if out == " ":
        return "SPACE", 0, ""
    if is_hangul(cp):
        return "HANGUL", 0, ""
    if CJK.normalize_str(char) != char:
        folded = out[1:-1]
        if out[0] + out[-1] != "  " or len(folded) != 1:
            raise SystemExit(f"U+{cp:04X} is CJK of an unknown form: {out!r}")
        split_kind(folded)
        return "CJK", 0, folded
    if len(out) > 1:
        return "SEQUENCE", 0, out
    kind = split_kind(out)
    starter = is_starter(char)
    order = 0 if starter else unicodedata.combining(char)
    if not starter and (kind != "WORD" or out != char or order == 0):
        raise SystemExit(f"U+{cp:04X} is a mark of an unknown form")
    return kind, order, out


def check(found):
    """The claims that the C code makes of the table."""
    for cp, (kind, _, folded) in found.items():
        if kind == "SEQUENCE":
            for char in folded:
                if found[ord(char)][0] != "WORD" or found[ord(char)][2] != char:
                    raise SystemExit(f"U+{cp:04X} falls into parts that change again")
    for syllable in range(0xAC00, 0xAC00 + 11172):
        i = syllable - 0xAC00
        jamo = [0x1100 + i // 588, 0x1161 + i % 588 // 28] + ([0x11A7 + i % 28] if i % 28 else [])
        if FULL.normalize_str(chr(syllable)) != "".join(map(chr, jamo)):
            raise SystemExit(f"U+{syllable:04X} does not fall into jamo as Unicode 3.12 says")
        if any(found[cp][:2] != ("WORD", 0) or found[cp][2] != chr(cp) for cp in jamo):
            raise SystemExit(f"U+{syllable:04X} has jamo that change again")
    marks = [cp for cp, (kind, order, _) in found.items() if kind == "WORD" and order > 0]
    for a in marks:
        for b in marks:
            swapped = FULL.normalize_str("a" + chr(a) + chr(b)) == "a" + chr(b) + chr(a) and a != b
            if swapped != (found[a][1] > found[b][1]):
                raise SystemExit(f"U+{a:04X} U+{b:04X} are not ordered by unicodedata's classes")
    return len(marks)


def rows(values, form):
    line = ""
    for value in values:
        item = form % value + ","
        if len(line) + len(item) > 96:
            yield line
            line = ""
        line += item
    yield line


def write(out, found, marks):
    records, sequences, blocks, stage1, stage2 = {}, [], {}, [], []

    def record(cp):
        kind, order, folded = found.get(cp, ("CONTROL", 0, ""))  # surrogates: never in UTF-8
        if kind == "SEQUENCE":
            payload = len(sequences)
            sequences.extend([len(folded)] + [ord(char) for char in folded])
        else:
            payload = 0 if folded in ("", chr(cp)) else ord(folded)
        packed = KINDS.index(kind) << 29 | order << 21 | payload
        return records.setdefault(packed, len(records))

    record(ord("a"))  # Record 0 is the plain word character.
    for start in range(0, 0x110000, BLOCK):
        block = tuple(record(cp) for cp in range(start, start + BLOCK))
        if block not in blocks:
            blocks[block] = len(blocks)
            stage2.extend(block)
        stage1.append(blocks[block])
    if len(blocks) > 256 or len(records) > 65536:
        raise SystemExit(f"{len(blocks)} blocks and {len(records)} records do not fit the tables")

    text = ["/* Made by tools/make_unicode_tables.py from tokenizers " + HF_VERSION + "; not by hand.",
            " * %d records, %d blocks, %d kept marks with a combining class. */"
            % (len(records), len(blocks), marks),
            '#include "token/unicode.h"', "", "/* clang-format off */"]
    for name, kind, form, values in (
            ("mly_fold_stage1", "uint8_t", "%d", stage1),
            ("mly_fold_stage2", "uint16_t", "%d", stage2),
            ("mly_fold_records", "uint32_t", "0x%xu", list(records)),
            ("mly_fold_sequences", "uint32_t", "0x%x", sequences)):
        text.append(f"const {kind} {name}[{len(values)}] = {{")
        text.extend(rows(values, form))
        text.extend(["};", ""])
    text.append("/* clang-format on */")
    with open(out, "w", encoding="ascii") as file:
        file.write("\n".join(text) + "\n")
    size = len(stage1) + 2 * len(stage2) + 4 * len(records) + 4 * len(sequences)
    print(f"{out}: {len(records)} records, {len(blocks)} blocks, {len(sequences)} sequence numbers, "
          f"{size} bytes")


def main():
    if tokenizers.__version__ != HF_VERSION:
        raise SystemExit(f"tokenizers is {tokenizers.__version__}, the tables are {HF_VERSION}'s")
    out = sys.argv[1] if len(sys.argv) > 1 else "src/token/unicode_tables.c"
    found = {cp: probe(cp) for cp in range(0x110000) if not 0xD800 <= cp < 0xE000}
    write(out, found, check(found))


if __name__ == "__main__":
    main()
