"""What src/embed computes from 8 bit weights, in numpy, for calibration: the inputs that each layer really gets.

Every product of matrices is taken of numbers on a grid, in floats that hold all its sums exactly; the rest is single
operations of IEEE 754. So no library's order of summing can show, and the same text gives the same numbers everywhere.
Beside the C code it rounds attention's inputs to the grid, which is far below what 8 bits lose.
"""

from dataclasses import dataclass

import numpy as np

LANES = 16  # kern.h: sums over a row
PART_ROWS = 512
SUM_INPUTS = 512  # 512 * 255 * 127 < 2^24: so many products stay exact in a float
GELU_MIN = np.float32(-0.17)  # kern.h
# kern_int.h
GELU_END = np.float32(4.25)
GELU_COEFFICIENTS = (
    -0.000132541725,
    -0.494422883,
    0.360455424,
    0.101011671,
    -0.19562836,
    0.0868186951,
    -0.0185101517,
    0.00196337374,
    -8.2798113e-05,
)
EXP2_COEFFICIENTS = (1.0, 0.693147242, 0.24022235, 0.0555030853, 0.00967187528, 0.00134072558)
EXP2_MIN = np.float32(-125.0)
SCALE_MIN = np.float32(1e-20)
# Steps of the grid below 1 (bits) for queries, keys and values, and for attention's weights: with values below 2^10 and
# heads of up to 512 numbers, or 2^15 pieces, all sums stay below 2^53.
INPUT_BITS, WEIGHT_BITS = 12, 16


@dataclass
class Rows:
    """x = scale * q + low, row by row."""

    q: np.ndarray  # f32[rows][n], whole numbers from 0 to 255
    scale: np.ndarray  # f32[rows][1]
    low: np.ndarray  # f32[rows][1]

    def values(self):
        return self.q * self.scale + self.low

    def part(self, start, end):
        return Rows(self.q[start:end], self.scale[start:end], self.low[start:end])


@dataclass
class Linear:
    """y = sum(q * stored) * scale * row scale + (sum * row low + bias)"""

    stored: np.ndarray  # i8[out][in]
    scale: np.ndarray  # f32[out], as sum and bias
    sum: np.ndarray
    bias: np.ndarray


def quantise(x, low=None):
    """Rows to 8 bits, from their minimum (or the given one) to their maximum."""
    least = x.min(axis=1, keepdims=True) if low is None else np.full((len(x), 1), low, np.float32)
    most = np.maximum(x.max(axis=1, keepdims=True), least)
    scale = (most - least) / np.float32(255.0) + SCALE_MIN
    factor = np.float32(1.0) / scale
    return Rows(np.rint(np.clip((x - least) * factor, np.float32(0.0), np.float32(255.0))), scale, least)


def apply(linear, rows):
    weights = linear.stored.astype(np.float32)
    total = np.zeros((len(rows.q), len(weights)), np.float32)
    for i in range(0, weights.shape[1], SUM_INPUTS):
        part = rows.q[:, i : i + SUM_INPUTS] @ weights[:, i : i + SUM_INPUTS].T
        # Whole numbers: of the sums over all chunks, as in C, the float next to them.
        total = part if i == 0 else total.astype(np.float64) + part
    y = total.astype(np.float32)
    y *= linear.scale
    y *= rows.scale
    y += linear.sum * rows.low + linear.bias
    return y


def polynomial(coefficients, x):
    value = np.full_like(x, np.float32(coefficients[-1]))
    for coefficient in coefficients[-2::-1]:
        value *= x
        value += np.float32(coefficient)
    return value


def gelu(x):
    return np.maximum(x, np.float32(0.0)) + polynomial(GELU_COEFFICIENTS, np.minimum(np.abs(x), GELU_END))


def in_parts(function, rows):
    """function(rows), a few rows at a time: what comes between stays in the caches."""
    parts = range(0, len(rows.q), PART_ROWS)
    return np.concatenate([function(rows.part(start, start + PART_ROWS)) for start in parts])


def exp2_negative(x):
    x = np.maximum(x, EXP2_MIN)
    whole = np.rint(x)
    return np.ldexp(polynomial(EXP2_COEFFICIENTS, x - whole), whole.astype(np.int32))


def fold(x):
    """Sums over rows, in the order that kern.h gives them."""
    lanes = np.zeros((len(x), LANES), np.float32)
    for i in range(0, x.shape[1], LANES):
        lanes += x[:, i : i + LANES]
    while lanes.shape[1] > 1:
        half = lanes.shape[1] // 2
        lanes = lanes[:, :half] + lanes[:, half:]
    return lanes


def layer_norm(x, weight, bias, epsilon):
    count = np.float32(x.shape[1])
    x = x - fold(x) / count
    factor = np.float32(1.0) / np.sqrt(fold(x * x) / count + np.float32(epsilon))
    return x * factor * weight + bias


def on_grid(x, bits):
    return np.rint(np.ldexp(x.astype(np.float64), bits))


def attend(projected, heads):
    """projected: f32[pieces][3 h] of one sequence, the base 2's logarithm within the queries."""
    pieces, width = len(projected), projected.shape[1] // (3 * heads)
    q, k, v = on_grid(projected, INPUT_BITS).reshape(pieces, 3, heads, width).transpose(1, 2, 0, 3)
    scores = np.ldexp(q @ k.transpose(0, 2, 1), -2 * INPUT_BITS).astype(np.float32)
    weights = on_grid(exp2_negative(scores - scores.max(axis=2, keepdims=True)), WEIGHT_BITS)
    mixed = np.ldexp(weights @ v, -INPUT_BITS) / weights.sum(axis=2, keepdims=True)
    return mixed.transpose(1, 0, 2).reshape(pieces, heads * width).astype(np.float32)


def attend_all(projected, starts, heads):
    return np.concatenate([attend(projected[a:b], heads) for a, b in zip(starts[:-1], starts[1:], strict=True)])
