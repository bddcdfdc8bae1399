"""The layers of an encoder in 8 bits, one after the other, each for the inputs that it gets from those before it.

In: a `model_source.Source`. Out: for each layer, `model_int8.Linear` by name. The inputs are those of the text in
calibration.txt, which was written for this.
"""

import math
from pathlib import Path

import numpy as np

import model_int8
import model_quantiser
from word_pieces import WordPieces

CALIBRATION = Path(__file__).resolve().parent.parent / "data" / "calibration.txt"
BREAK = "\n%%\n"
SHORT_WORDS = 10


def weights(source, i):
    """name -> (weights, bias) of layer i."""
    t, heads = source.tensors, source.config["num_attention_heads"]
    hidden = source.config["hidden_size"]
    old = f"encoder.layer.{i}"
    parts = [f"{old}.attention.self.{part}" for part in ("query", "key", "value")]
    together = np.concatenate([t[f"{part}.weight"] for part in parts]).astype(np.float64)
    bias = np.concatenate([t[f"{part}.bias"] for part in parts]).astype(np.float64)
    # The softmax is to the base 2: log2(e) / sqrt(head size) goes into the queries, where it costs nothing.
    together[:hidden] *= math.log2(math.e) / math.sqrt(hidden / heads)
    bias[:hidden] *= math.log2(math.e) / math.sqrt(hidden / heads)
    found = {"attention_in": (together, bias)}
    for ours, theirs in (
        ("attention_out", "attention.output.dense"),
        ("ffn_in", "intermediate.dense"),
        ("ffn_out", "output.dense"),
    ):
        found[ours] = (t[f"{old}.{theirs}.weight"], t[f"{old}.{theirs}.bias"])
    return found


def norms(source, i):
    """name -> (weight, bias) of layer i."""
    t, old = source.tensors, f"encoder.layer.{i}"
    return {
        ours: (t[f"{old}.{theirs}.weight"], t[f"{old}.{theirs}.bias"])
        for ours, theirs in (("attention_norm", "attention.output.LayerNorm"), ("ffn_norm", "output.LayerNorm"))
    }


def positions(source):
    """Only token type 0 is ever used: its row is part of every position's."""
    t = source.tensors
    return t["embeddings.position_embeddings.weight"] + t["embeddings.token_type_embeddings.weight"][0]


def calibration_sequences(source):
    """Word pieces of every passage, and of its first words, because short texts give other inputs."""
    text = CALIBRATION.read_text(encoding="utf-8").rstrip("\n")
    passages = text.split(BREAK)[1:]  # What stands before the first is about the file.
    pieces = WordPieces(source.vocabulary)
    texts = [part for passage in passages for part in (passage, " ".join(passage.split()[:SHORT_WORDS]))]
    return [pieces.encode(part, source.pieces_max) for part in texts]


def embed(source, words, word_scale, sequences):
    t, ids = source.tensors, np.concatenate(sequences)
    places = np.concatenate([np.arange(len(sequence)) for sequence in sequences])
    x = words[ids].astype(np.float32) * word_scale[ids][:, None] + positions(source)[places]
    norm = (t["embeddings.LayerNorm.weight"], t["embeddings.LayerNorm.bias"])
    return model_int8.layer_norm(x, *norm, source.config["layer_norm_eps"])


def calibrate(source, i, x, starts):
    """Rounds layer i for its inputs x: f32[pieces][h]. Returns its linear layers by name, and its outputs."""
    parts, norm, linears = weights(source, i), norms(source, i), {}
    epsilon = source.config["layer_norm_eps"]

    def run(name, rows, finish=lambda y: y):
        linears[name] = linear = model_quantiser.quantise_linear(*parts[name], rows)
        return model_int8.in_parts(lambda part: finish(model_int8.apply(linear, part)), rows)

    projected = run("attention_in", model_int8.quantise(x))
    mixed = model_int8.attend_all(projected, starts, source.config["num_attention_heads"])
    x = x + run("attention_out", model_int8.quantise(mixed))
    x = model_int8.layer_norm(x, *norm["attention_norm"], epsilon)
    inner = run("ffn_in", model_int8.quantise(x), model_int8.gelu)
    x = x + run("ffn_out", model_int8.quantise(inner, model_int8.GELU_MIN))
    return linears, model_int8.layer_norm(x, *norm["ffn_norm"], epsilon)


def calibrated(source, words, word_scale):
    sequences = calibration_sequences(source)
    starts = np.cumsum([0] + [len(sequence) for sequence in sequences])
    x = embed(source, words, word_scale, sequences)
    for i in range(source.config["num_hidden_layers"]):
        linears, x = calibrate(source, i, x, starts)
        yield linears


def nearest(source):
    for i in range(source.config["num_hidden_layers"]):
        yield {name: model_quantiser.round_linear(*part) for name, part in weights(source, i).items()}
