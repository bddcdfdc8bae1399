#!/usr/bin/env python3
"""Compares our vectors with the float32 model's on chunks of real text, and writes golden vectors.

    check_model.py --wheel WHEEL | --folder SNAPSHOT   --model FILE [FILE] --bench build/.../bench_embed [--count 1000]
    check_model.py --wheel WHEEL --golden tests/golden/embed/minilm.bin

The text is the Python standard library's source and the project's own documents, cut at blank lines; which chunks are
taken depends on nothing but the files. Prints the mean and the least cosine, for chunks and for short texts, and fails
below 0.998 and 0.99. None of it is in calibration.txt. Several files are compared on the same texts. Needs numpy and Hugging Face's `tokenizers`.
"""

import argparse
import os
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

import model_reference
import model_source

MEAN_MIN, LEAST_MIN = 0.998, 0.99
CHUNK_CHARACTERS = 350
GOLDEN_COUNT = 32


def read_chunks():
    """Chunks of about CHUNK_CHARACTERS, cut at blank lines."""
    root = Path(__file__).resolve().parent.parent
    files = sorted(Path(os.__file__).parent.glob("*.py")) + sorted(root.glob("docs/*.md")) + sorted(root.glob("*.md"))
    chunks = []
    for file in files:
        held = ""
        for paragraph in file.read_text(encoding="utf-8", errors="replace").split("\n\n"):
            held = f"{held}\n\n{paragraph}" if held else paragraph
            if len(held) >= CHUNK_CHARACTERS:
                chunks.append(held)
                held = ""
        if held.strip():
            chunks.append(held)
    return chunks


def pick(items, count):
    """count of them, evenly spread."""
    return [items[i * len(items) // count] for i in range(min(count, len(items)))]


def first_words(chunk):
    """A short text, as a question would be: the words of a chunk's first lines."""
    return " ".join("".join(c if c.isalnum() else " " for c in chunk).split()[:10]) or "nothing"


def tokenise(source, texts):
    from tokenizers import BertWordPieceTokenizer

    vocabulary = {piece: i for i, piece in enumerate(source.vocabulary)}
    tokenizer = BertWordPieceTokenizer(vocabulary, lowercase=True)
    tokenizer.enable_truncation(source.pieces_max)
    return [encoding.ids for encoding in tokenizer.encode_batch(texts)]


def reference(source, sequences):
    vectors = [model_reference.encode(source, sequences[i : i + 16]) for i in range(0, len(sequences), 16)]
    return np.concatenate(vectors).astype(np.float32)


def ours(bench, model, kernels, sequences, hidden):
    with tempfile.TemporaryDirectory() as folder:
        ids, out = Path(folder, "ids"), Path(folder, "out")
        with open(ids, "wb") as file:
            file.write(struct.pack("<i", len(sequences)))
            for sequence in sequences:
                file.write(struct.pack(f"<{len(sequence) + 1}i", len(sequence), *sequence))
        command = [bench, "encode", model, str(ids), str(out)]
        subprocess.run(command + ([kernels] if kernels else []), check=True)
        return np.fromfile(out, np.float32).reshape(-1, hidden)


def write_golden(source, path):
    chunks = read_chunks()
    long = pick(chunks, GOLDEN_COUNT * 3 // 4)
    texts = long + [first_words(chunk) for chunk in pick(chunks, GOLDEN_COUNT // 4)]
    sequences = tokenise(source, texts)
    vectors = reference(source, sequences)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        file.write(struct.pack("<2i", len(sequences), vectors.shape[1]))
        for sequence, vector in zip(sequences, vectors, strict=True):
            file.write(struct.pack(f"<{len(sequence) + 1}i", len(sequence), *sequence))
            file.write(vector.astype("<f4").tobytes())
    print(f"{path}: {len(sequences)} texts, {sum(map(len, sequences))} word pieces")


def compare(source, options):
    chunks = pick(read_chunks(), options.count)
    good = True
    for name, texts in (("chunks", chunks), ("short texts", [first_words(chunk) for chunk in pick(chunks, 400)])):
        sequences = tokenise(source, texts)
        wanted = reference(source, sequences)
        print(f"{len(texts)} {name}, {np.mean([len(s) for s in sequences]):.0f} word pieces each, cosine to float32:")
        for model in options.model:
            got = ours(options.bench, model, options.kernels, sequences, wanted.shape[1])
            cosines = (wanted.astype(np.float64) * got).sum(axis=1)
            lowest = np.quantile(cosines, 0.01)
            rates = f"mean {cosines.mean():.6f}, lowest 1 % {lowest:.6f}, least {cosines.min():.6f}"
            print(f"    {rates}  {model}", flush=True)
            good = good and cosines.mean() >= MEAN_MIN and cosines.min() >= LEAST_MIN
    return 0 if good else 1


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    group = parser.add_mutually_exclusive_group(required=True)
    group.add_argument("--wheel")
    group.add_argument("--folder")
    parser.add_argument("--model", nargs="+", default=["models/all-minilm-l6-v2.safetensors"])
    parser.add_argument("--bench", help="the program bench_embed")
    parser.add_argument("--kernels", help="kernel set to force")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--golden", type=Path, help="write golden vectors there instead")
    options = parser.parse_args()
    try:
        source = (
            model_source.read_wheel(options.wheel) if options.wheel else model_source.read_folder(options.folder)
        )
    except (OSError, model_source.SourceError) as error:
        print(f"check_model: {error}", file=sys.stderr)
        return 1
    if options.golden:
        write_golden(source, options.golden)
        return 0
    if not options.bench:
        parser.error("--bench is needed to compare")
    return compare(source, options)


if __name__ == "__main__":
    sys.exit(main())
