"""Published models become ours: the file's vectors against the same encoder in plain numpy, on random weights in the
shape of each architecture (two of its layers, a small vocabulary)."""

from __future__ import annotations

import json
import math
import struct
import sys
from pathlib import Path

import memalloy
import pytest

np = pytest.importorskip("numpy")
ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
import model_reference  # noqa: E402

LETTERS = "abcdefghijklmnopqrstuvwxyz"
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = "the of and to in is that it for was on are with as be at one have this from by hot cold tea bell sea".split()
PIECES = [*SPECIAL, *LETTERS, *("##" + letter for letter in LETTERS), *".,?!:-", *"0123456789", *WORDS]
LAYERS = 2
TEXTS = [
    "the tea is hot",
    "a bell rang twice over the sea, and it was cold",
    "one",
    "what is that?",
    "it was on the table with a letter from the sea - " * 6,
    "zebra 1234567890 " * 36,
]
# name: hidden, inner, heads, pooling, pieces, model type, tensors' prefix, type, query prefix, passage prefix
SHAPES = {
    "all-MiniLM-L6-v2": (384, 1536, 12, "mean", 256, "bert", "", "<f4", "", ""),
    "all-MiniLM-L12-v2": (384, 1536, 12, "mean", 128, "bert", "", "<f4", "", ""),
    "multi-qa-MiniLM-L6-cos-v1": (384, 1536, 12, "mean", 512, "bert", "", "<f4", "", ""),
    "bge-small-en-v1.5": (384, 1536, 12, "cls", 512, "bert", "", "<f4", "Represent this sentence for searching relevant passages: ", ""),
    "bge-base-en-v1.5": (768, 3072, 12, "cls", 512, "bert", "", "<f4", "Represent this sentence for searching relevant passages: ", ""),
    "e5-small-v2": (384, 1536, 12, "mean", 512, "bert", "bert.", "<f4", "query: ", "passage: "),
    "gte-small": (384, 1536, 12, "mean", 512, "bert", "", "<f2", "", ""),
    "multilingual-e5-base": (768, 3072, 12, "mean", 512, "xlm-roberta", "roberta.", "<f4", "query: ", "passage: "),
}
LINEARS = ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense")


class Published:
    """A snapshot folder of random weights, and what model_reference needs of it."""

    def __init__(self, folder, name):
        hidden, inner, heads, self.pooling, pieces, kind, prefix, dtype, self.query, self.passage = SHAPES[name]
        self.folder, skipped = folder / name, 2 if kind == "xlm-roberta" else 0
        self.config = {
            "model_type": kind,
            "hidden_act": "gelu",
            "hidden_size": hidden,
            "intermediate_size": inner,
            "layer_norm_eps": 1e-12 if kind == "bert" else 1e-05,
            "max_position_embeddings": 512 + skipped,
            "num_attention_heads": heads,
            "num_hidden_layers": LAYERS,
            "pad_token_id": 1 if skipped else 0,
            "type_vocab_size": 1 if skipped else 2,
            "vocab_size": len(PIECES),
        }
        drawn = self.draw(hidden, inner, 512 + skipped)
        tensors = {key: value.astype(dtype) for key, value in drawn.items()}
        self.write(tensors, prefix, pieces)
        self.tensors = {key: value.astype(np.float32) for key, value in tensors.items()}
        places = "embeddings.position_embeddings.weight"
        self.tensors[places] = self.tensors[places][skipped:]

    def draw(self, hidden, inner, positions):
        rng = np.random.default_rng(11)
        tensors = {}

        def linear(name, out, width):
            tensors[f"{name}.weight"] = rng.normal(size=(out, width)) * 1.2 / math.sqrt(width)
            tensors[f"{name}.bias"] = rng.normal(size=out) * 0.1

        def norm(name):
            tensors[f"{name}.weight"] = 1.0 + 0.2 * rng.normal(size=hidden)
            tensors[f"{name}.bias"] = 0.2 * rng.normal(size=hidden)

        tensors["embeddings.word_embeddings.weight"] = rng.normal(size=(len(PIECES), hidden))
        tensors["embeddings.position_embeddings.weight"] = 0.3 * rng.normal(size=(positions, hidden))
        types = self.config["type_vocab_size"]
        tensors["embeddings.token_type_embeddings.weight"] = 0.1 * rng.normal(size=(types, hidden))
        norm("embeddings.LayerNorm")
        for i in range(LAYERS):
            layer = f"encoder.layer.{i}"
            for part in LINEARS:
                linear(f"{layer}.{part}", hidden, hidden)
            linear(f"{layer}.intermediate.dense", inner, hidden)
            linear(f"{layer}.output.dense", hidden, inner)
            norm(f"{layer}.attention.output.LayerNorm")
            norm(f"{layer}.output.LayerNorm")
        return tensors

    def write(self, tensors, prefix, pieces):
        (self.folder / "1_Pooling").mkdir(parents=True)
        names = {"<f4": "F32", "<f2": "F16"}
        header, blobs, at = {}, [], 0
        for name, array in tensors.items():
            blob = array.tobytes()
            entry = {"dtype": names[array.dtype.str], "shape": list(array.shape), "data_offsets": [at, at + len(blob)]}
            header[prefix + name] = entry
            blobs.append(blob)
            at += len(blob)
        text = json.dumps(header).encode()
        (self.folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + b"".join(blobs))
        flags = {"pooling_mode_cls_token": self.pooling == "cls", "pooling_mode_mean_tokens": self.pooling == "mean"}
        added = [
            {"id": i, "content": piece, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
            for i, piece in enumerate(SPECIAL)
        ]
        tokenizer = {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": added,
            "normalizer": {
                "type": "BertNormalizer",
                "clean_text": True,
                "handle_chinese_chars": True,
                "strip_accents": None,
                "lowercase": True,
            },
            "pre_tokenizer": {"type": "BertPreTokenizer"},
            "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
            "decoder": None,
            "model": {
                "type": "WordPiece",
                "unk_token": "[UNK]",
                "continuing_subword_prefix": "##",
                "max_input_chars_per_word": 100,
                "vocab": {piece: i for i, piece in enumerate(PIECES)},
            },
        }
        steps = [
            {"idx": 0, "path": "", "type": "sentence_transformers.models.Transformer"},
            {"idx": 1, "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
        ]
        for name, value in {
            "config.json": self.config,
            "1_Pooling/config.json": flags,
            "tokenizer.json": tokenizer,
            "modules.json": steps,
            "sentence_bert_config.json": {"max_seq_length": pieces},
        }.items():
            (self.folder / name).write_text(json.dumps(value))


@pytest.fixture(autouse=True)
def models(tmp_path, monkeypatch):
    folder = tmp_path / "models"
    monkeypatch.setenv("MEMALLOY_MODELS", str(folder))
    return folder


def convert(published, precision):
    """A part of the text to calibrate with does, and is fast."""
    part = published.folder.parent / "calibration.txt"
    if not part.exists():
        whole = (ROOT / "data" / "calibration.txt").read_text(encoding="utf-8")
        part.write_text("\n%%\n".join(whole.split("\n%%\n")[::6]), encoding="utf-8")
    name = f"{published.folder.name}-{precision}"
    report = memalloy.models.add(
        published.folder, name, precision=precision, calibration=part, quality=False, overwrite=True
    )
    assert report["pooling"] == published.pooling
    return name


def compare(published, path, prefix, kind):
    """The vectors of numpy with that prefix, ours of that kind, and the cosine of each pair."""
    model = memalloy.Model(path)
    most, end = model.info()["pieces_max"], PIECES.index("[SEP]")
    ids = [model.tokenize(prefix + text, True) for text in TEXTS]
    ids = [part if len(part) <= most else [*part[: most - 1], end] for part in ids]
    wanted = model_reference.encode(published, ids, published.pooling)
    got = np.asarray(model.embed(TEXTS, kind=kind))
    return wanted, got, (wanted.astype(np.float64) * got).sum(axis=1)


@pytest.mark.parametrize("name", SHAPES)
def test_a_model_in_floats_computes_what_numpy_does(name, tmp_path):
    published = Published(tmp_path, name)
    path = convert(published, "f32")
    for prefix, kind in ((published.query, "query"), (published.passage, "passage")):
        wanted, got, _ = compare(published, path, prefix, kind)
        assert np.abs(wanted - got).max() < 1e-5
        wanted, got, _ = compare(published, path, prefix + "x", kind)
        assert np.abs(wanted - got).max() > 1e-3


@pytest.mark.parametrize("name", ["all-MiniLM-L6-v2", "bge-base-en-v1.5", "multilingual-e5-base"])
def test_rounded_models_are_near(name, tmp_path):
    """Random weights are harder on 8 bits than a trained model's."""
    published = Published(tmp_path, name)
    for precision, mean, least in (("bf16", 0.9999, 0.9998), ("int8", 0.998, 0.995)):
        near = compare(published, convert(published, precision), published.passage, "passage")[2]
        assert near.mean() > mean and near.min() > least, (precision, near)


def test_the_portable_kernels_make_the_same_bytes(tmp_path, models, monkeypatch):
    published = Published(tmp_path, "all-MiniLM-L6-v2")
    file = models / f"{convert(published, 'int8')}.safetensors"
    one = file.read_bytes()
    monkeypatch.setenv("MEMALLOY_KERNELS", "scalar")
    convert(published, "int8")
    assert file.read_bytes() == one
