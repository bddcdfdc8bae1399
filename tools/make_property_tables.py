#!/usr/bin/env python3
"""Writes src/token/property_tables.c: what HF tokenizers knows of each code point.

usage: make_property_tables.py [OUT]        needs: tokenizers==0.23.3, sentencepiece, CPython 3.11

Classes, case, decomposition, order and composition are asked of the library itself, as for
make_unicode_tables.py. Where one character ends for a reader (grapheme clusters) shows in what the
normalizer Precompiled does, so that it is given a map in which each character has an entry;
sentencepiece makes that map.
"""
import base64
import json
import sys
import tempfile
import unicodedata
from pathlib import Path

import tokenizers
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

HF_VERSION = "0.23.3"
BLOCK = 128
POINTS = [cp for cp in range(0x110000) if not 0xD800 <= cp < 0xE000]
FLAGS = ["SPACE", "WORD", "PUNCT", "NUMERIC", "LETTER", "NUMBER", "GAP", "CONTROL", "NONSPACING",
         "COMBINING", "CJK", "SECOND", "UNSTABLE"]
CLUSTERS = ["OTHER", "CONTROL", "EXTEND", "SPACING", "ZWJ", "PREPEND", "PICTURE"]
HANGUL = range(0xAC00, 0xAC00 + 11172)

nfd, nfc = normalizers.NFD().normalize_str, normalizers.NFC().normalize_str
nfkd = normalizers.NFKD().normalize_str
lower = normalizers.Lowercase().normalize_str
CLEAN = normalizers.BertNormalizer(clean_text=True, handle_chinese_chars=False,
                                   strip_accents=False, lowercase=False).normalize_str
SET_APART = normalizers.BertNormalizer(clean_text=False, handle_chinese_chars=True,
                                       strip_accents=False, lowercase=False).normalize_str
STRIP = normalizers.BertNormalizer(clean_text=False, handle_chinese_chars=False,
                                   strip_accents=True, lowercase=False).normalize_str
ACCENTS = normalizers.StripAccents().normalize_str


def splitter(pre_tokenizer):
    def parts(text):
        return [part for part, _ in pre_tokenizer.pre_tokenize_str(text)]
    return parts


SPACES = splitter(pre_tokenizers.WhitespaceSplit())
WORDS = splitter(pre_tokenizers.Whitespace())
PUNCTS = splitter(pre_tokenizers.Punctuation("removed"))
DIGITS = splitter(pre_tokenizers.Digits(individual_digits=True))


def matcher(pattern):
    parts = splitter(pre_tokenizers.Split(Regex(pattern), "removed"))
    return lambda char: parts(char) == []


LETTER, NUMBER, GAP = matcher(r"\p{L}"), matcher(r"\p{N}"), matcher(r"\s")


def map_all():
    """A normalizer Precompiled in which every character above ASCII, and x, becomes z."""
    import sentencepiece
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        rules = [f"{cp:X}\t7A" for cp in POINTS if cp >= 0x80] + ["78\t7A"]
        (folder / "rules.tsv").write_text("\n".join(rules) + "\n")
        (folder / "text.txt").write_text("a b c d e f g h i j k l m n o p\n" * 50)
        sentencepiece.SentencePieceTrainer.train(
            input=str(folder / "text.txt"), model_prefix=str(folder / "m"), vocab_size=22,
            normalization_rule_tsv=str(folder / "rules.tsv"), minloglevel=2, hard_vocab_limit=False)
        from sentencepiece import sentencepiece_model_pb2 as pb
        model = pb.ModelProto()
        model.ParseFromString((folder / "m.model").read_bytes())
    charsmap = base64.b64encode(model.normalizer_spec.precompiled_charsmap).decode()
    tokenizer = json.loads(Tokenizer(models.WordPiece({"a": 0})).to_str())
    tokenizer["normalizer"] = {"type": "Precompiled", "precompiled_charsmap": charsmap}
    return Tokenizer.from_str(json.dumps(tokenizer)).normalizer.normalize_str


def clusters():
    """The class of each code point as far as it can show. A cluster of less than 6 bytes becomes
    what its first character becomes, and the rest of it is lost: that is how joins are seen."""
    norm = map_all()
    found = {}
    for cp in POINTS:
        char = chr(cp)
        joined = norm("x" + char) == "z" if char != "x" else False
        if joined:
            # Extend goes on between a picture and a ZWJ, a spacing mark does not.
            goes_on = norm("\u00a9" + char + "\u200d\u00a9\u0301").count("z") == 5
            found[cp] = "ZWJ" if cp == 0x200D else "EXTEND" if goes_on else "SPACING"
        elif norm(char + "\u0301\u0301").endswith("zz") and len(char.encode()) == 4 and \
                norm(char + "\u0301\u0301") == "zz":
            found[cp] = "CONTROL"
        elif len(char.encode()) < 4 and cp >= 0x80 and norm(char + "\u0301") == "zz":
            found[cp] = "CONTROL"
        elif cp < 0x80 and unicodedata.category(char) == "Cc":
            found[cp] = "CONTROL"
        elif cp >= 0x80 and norm(char + "x") == "z":
            found[cp] = "PREPEND"
        elif cp >= 0x80 and norm(char + "\u200d\u00a9\u0301") == "zzzz":
            found[cp] = "PICTURE"
    return found


def class_finder():
    """The canonical combining class, from how the library orders marks. Marks that are newer than
    the library do not move: they are no help, and have class 0."""
    lowest, highest = "\u0334", "\u0345"  # classes 1 and 240

    def swaps(first, second):
        return nfd("a" + first + second) == "a" + second + first and first != second

    def moves(char):
        return char in (lowest, highest) or swaps(char, lowest) or swaps(highest, char)

    marks = {}
    for cp in POINTS:
        order = unicodedata.combining(chr(cp))
        if order and nfd(chr(cp)) == chr(cp) and moves(chr(cp)):
            marks.setdefault(order, chr(cp))
    known = sorted(marks.items())

    def find(char):
        if not moves(char):
            return 0
        return max(order for order, mark in known if mark == char or not swaps(mark, char))
    return find


def probe(cp, find_class):
    char = chr(cp)
    flags = set()
    if SPACES("a" + char + "a") == ["a", "a"]:
        flags.add("SPACE")
    words = WORDS("a" + char)
    if words == ["a" + char]:
        flags.add("WORD")
    elif words == ["a"] and "SPACE" not in flags:
        raise SystemExit(f"U+{cp:04X}: regex and char disagree on white space")
    if PUNCTS(char) == []:
        flags.add("PUNCT")
    if DIGITS("a" + char + "a") == ["a", char, "a"]:
        flags.add("NUMERIC")
    if LETTER(char):
        flags.add("LETTER")
    if NUMBER(char):
        flags.add("NUMBER")
    if GAP(char):
        flags.add("GAP")
    if CLEAN(char) == "":
        flags.add("CONTROL")
    if SET_APART(char) != char:
        flags.add("CJK")
    if ACCENTS(char) == "":
        flags.add("COMBINING")
    if nfc(char) != char:
        flags.add("UNSTABLE")
    decomposed = nfd(char)
    order = 0
    if decomposed == char:
        if STRIP(char) == "":
            flags.add("NONSPACING")
        order = find_class(char)
    return flags, order, lower(char), decomposed, nfkd(char)


def compositions(found):
    pairs = {}
    for cp, (_, _, _, decomposed, _) in found.items():
        char = chr(cp)
        if decomposed == char or nfc(char) != char or cp in HANGUL:
            continue
        first, second = nfc(decomposed[:-1]), decomposed[-1]
        if len(first) != 1 or nfc(first + second) != char:
            raise SystemExit(f"U+{cp:04X} is composed in a way that is not known here")
        pairs[ord(first), ord(second)] = cp
    return pairs


def rows(values, form):
    line = ""
    for value in values:
        item = form % value + ","
        if len(line) + len(item) > 96:
            yield line
            line = ""
        line += item
    yield line


def write(out, found, kinds, pairs):
    records, sequences, blocks, stage1, stage2 = {}, {}, {}, [], []
    pool = []
    seconds = {b for _, b in pairs}

    def mapped(char, text):
        if text == char:
            return 0
        if len(text) == 1:
            return ord(text)
        if text not in sequences:
            sequences[text] = len(pool)
            pool.extend([len(text)] + [ord(c) for c in text])
        return 0x80000000 | sequences[text]

    def record(cp):
        if cp not in found:
            return records.setdefault((0, 0, 0, 0), len(records))
        flags, order, low, decomposed, compatible = found[cp]
        if cp in seconds:
            flags = flags | {"SECOND"}
        bits = sum(1 << FLAGS.index(flag) for flag in flags)
        bits |= order << 16 | CLUSTERS.index(kinds.get(cp, "OTHER")) << 24
        char = chr(cp)
        if cp in HANGUL:
            decomposed = compatible = char
        key = (bits, mapped(char, low), mapped(char, decomposed), mapped(char, compatible))
        return records.setdefault(key, len(records))

    for start in range(0, 0x110000, BLOCK):
        block = tuple(record(cp) for cp in range(start, start + BLOCK))
        if block not in blocks:
            blocks[block] = len(blocks)
            stage2.extend(block)
        stage1.append(blocks[block])
    if len(records) > 65536 or len(blocks) > 65536:
        raise SystemExit("the tables do not fit")
    text = ["/* Made by tools/make_property_tables.py from tokenizers " + HF_VERSION
            + "; not by hand.", " * %d records, %d blocks. */" % (len(records), len(blocks)),
            '#include "token/property.h"', "", "/* clang-format off */"]
    for name, kind, form, values in (
            ("mly_property_stage1", "uint16_t", "%d", stage1),
            ("mly_property_stage2", "uint16_t", "%d", stage2),
            ("mly_property_sequences", "uint32_t", "0x%x", pool)):
        text.append(f"const {kind} {name}[{len(values)}] = {{")
        text.extend(rows(values, form))
        text.extend(["};", ""])
    text.append(f"const struct mly_property mly_property_records[{len(records)}] = {{")
    text.extend(rows(list(records), "{0x%xu,0x%xu,0x%xu,0x%xu}"))
    text.extend(["};", "", f"const size_t mly_property_pair_count = {len(pairs)};",
                 f"const struct mly_property_pair mly_property_pairs[{len(pairs)}] = {{"])
    text.extend(rows([(a, b, c) for (a, b), c in sorted(pairs.items())], "{0x%x,0x%x,0x%x}"))
    text.extend(["};", "", "/* clang-format on */"])
    Path(out).write_text("\n".join(text) + "\n", encoding="ascii")
    size = 2 * len(stage1) + 2 * len(stage2) + 4 * len(pool) + 16 * len(records) + 12 * len(pairs)
    print(f"{out}: {len(records)} records, {len(blocks)} blocks, {len(pairs)} pairs, {size} bytes")


def main():
    if tokenizers.__version__ != HF_VERSION:
        raise SystemExit(f"tokenizers is {tokenizers.__version__}, the tables are {HF_VERSION}'s")
    out = sys.argv[1] if len(sys.argv) > 1 else "src/token/property_tables.c"
    kinds = clusters()
    find_class = class_finder()
    found = {cp: probe(cp, find_class) for cp in POINTS}
    write(out, found, kinds, compositions(found))
    for name in CLUSTERS:
        print(name, sum(kind == name for kind in kinds.values()))


if __name__ == "__main__":
    main()
