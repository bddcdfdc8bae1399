"""The encoder in float32 with plain numpy: what the published model computes, to compare ours with.

In: a `model_source.Source` and word piece ids. Out: unit vectors. Written from Devlin et al. 2018 and the model's
configuration; no torch, no padding: sequences stand one behind the other, attention looks within each.
"""

import math

import numpy as np

def erf(x):
    """Abramowitz and Stegun 7.1.26: off by at most 1.5e-7, about float32's own step."""
    t = 1.0 / (1.0 + np.float32(0.3275911) * np.abs(x))
    series = np.float32(1.061405429)
    for factor in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
        series = series * t + np.float32(factor)
    return np.copysign(1.0 - series * t * np.exp(-x * x), x)


def gelu(x):
    return x * np.float32(0.5) * (1.0 + erf(x * np.float32(math.sqrt(0.5))))


def layer_norm(x, weight, bias, epsilon):
    mean = x.mean(axis=1, keepdims=True)
    variance = np.square(x - mean).mean(axis=1, keepdims=True)
    return (x - mean) / np.sqrt(variance + epsilon) * weight + bias


def linear(tensors, name, x):
    return x @ tensors[f"{name}.weight"].T + tensors[f"{name}.bias"]


def attend(q, k, v, heads):
    pieces, hidden = q.shape
    width = hidden // heads
    split = [part.reshape(pieces, heads, width).transpose(1, 0, 2) for part in (q, k, v)]
    scores = split[0] @ split[1].transpose(0, 2, 1) / np.float32(math.sqrt(width))
    weights = np.exp(scores - scores.max(axis=2, keepdims=True))
    weights /= weights.sum(axis=2, keepdims=True)
    return (weights @ split[2]).transpose(1, 0, 2).reshape(pieces, hidden)


def encode(source, sequences, pooling="mean"):
    """sequences: lists of ids with [CLS] and [SEP]; float32 (n, hidden). A few thousand pieces at a time do best."""
    t, config = source.tensors, source.config
    epsilon = np.float32(config["layer_norm_eps"])
    starts = np.cumsum([0] + [len(ids) for ids in sequences])
    ids = np.concatenate([np.asarray(ids) for ids in sequences])
    places = np.concatenate([np.arange(len(ids)) for ids in sequences])
    x = t["embeddings.word_embeddings.weight"][ids] + t["embeddings.position_embeddings.weight"][places]
    x = x + t["embeddings.token_type_embeddings.weight"][0]
    x = layer_norm(x, t["embeddings.LayerNorm.weight"], t["embeddings.LayerNorm.bias"], epsilon)
    for i in range(config["num_hidden_layers"]):
        name = f"encoder.layer.{i}"
        q, k, v = (linear(t, f"{name}.attention.self.{part}", x) for part in ("query", "key", "value"))
        mixed = np.concatenate(
            [
                attend(q[a:b], k[a:b], v[a:b], config["num_attention_heads"])
                for a, b in zip(starts[:-1], starts[1:], strict=True)
            ]
        )
        norm = f"{name}.attention.output.LayerNorm"
        x = x + linear(t, f"{name}.attention.output.dense", mixed)
        x = layer_norm(x, t[f"{norm}.weight"], t[f"{norm}.bias"], epsilon)
        inner = gelu(linear(t, f"{name}.intermediate.dense", x))
        norm = f"{name}.output.LayerNorm"
        x = x + linear(t, f"{name}.output.dense", inner)
        x = layer_norm(x, t[f"{norm}.weight"], t[f"{norm}.bias"], epsilon)
    if pooling == "cls":
        pooled = x[starts[:-1]]
    else:
        pooled = np.stack([x[a:b].mean(axis=0) for a, b in zip(starts[:-1], starts[1:], strict=True)])
    return pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
