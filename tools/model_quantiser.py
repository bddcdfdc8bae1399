"""Rounds the weights of a linear layer to 8 bits so that its outputs change least, rather than its weights (GPTQ).

In: float weights and the inputs that calibration text gives the layer. Out: int8 weights, and scales, sums and biases
in float32. The inputs of one layer are far from independent: what one column's rounding adds can be taken back by
columns that are rounded later. Columns are taken in the order of their inputs' size, the largest first; before a column
is rounded, the errors of those before it are added to it in the proportions that cancel them best.

The outputs' mean and their slope over a row's lowest value cost nothing at run time, as they can be put into the bias
and the sum. So what the inputs have of these is taken out first, and the errors in it are corrected afterwards.

Products of matrices are taken of numbers on grids that are coarse enough for float64 to hold every sum exactly, and the
rest is single operations of IEEE 754 in a fixed order: all machines and all builds of numpy give the same bytes.

Source: Frantar et al. 2022, GPTQ, in the form of Chee et al. 2023, QuIP, section 3 (the factor of the Hessian itself).
"""

import math

import numpy as np

from model_int8 import PART_ROWS, Linear

CLIPS = (1.0, 0.94, 0.88, 0.82)  # candidate ranges, as a share of the largest weight
NEAREST_CLIPS = tuple(1.0 - 0.03 * i for i in range(12))
DAMPING = 0.01  # of the inputs' mean square, added to each: calibration text is not all text
BLOCK = 64
# Bits below 1 of the grids. The inputs' squares are scaled to a mean near 1, so FACTOR_BITS are far finer than DAMPING;
# products of two factors then have 36 bits below 1 and 17 above, which lets one input's square be 2^16 times the mean.
INPUT_BITS, FACTOR_BITS, FEEDBACK_BITS, ERROR_BITS, REFIT_BITS = 17, 18, 16, 10, 20


class CalibrationError(Exception):
    """The calibration inputs cannot be used; the text says why."""


def on_grid(x, bits):
    return np.ldexp(np.rint(np.ldexp(x, bits)), -bits)


def row_sums(x):
    """The order of a library's sums depends on its build; this one is fixed."""
    lanes = np.zeros((len(x), BLOCK))
    for i in range(0, x.shape[1], BLOCK):
        lanes += x[:, i : i + BLOCK]
    while lanes.shape[1] > 1:
        half = lanes.shape[1] // 2
        lanes = lanes[:, :half] + lanes[:, half:]
    return lanes[:, 0]


def round_rows(weights):
    """Symmetric int8 per row, to nearest; of twelve ranges the one with the least squared error. Returns int8 and
    float32 scales."""
    largest = np.abs(weights).max(axis=1)
    largest[largest == 0] = 1.0
    best_error = np.full(len(weights), np.inf)
    best = np.zeros(weights.shape, np.int8)
    best_scale = np.zeros(len(weights), np.float32)
    for clip in NEAREST_CLIPS:
        scale = (largest * np.float32(clip / 127.0)).astype(np.float32)
        stored = np.clip(np.rint(weights / scale[:, None]), -127, 127)
        error = row_sums(np.square(stored.astype(np.float64) * scale[:, None] - weights))
        better = error < best_error
        best_error[better] = error[better]
        best[better] = stored[better].astype(np.int8)
        best_scale[better] = scale[better]
    return best, best_scale


def raw_moments(rows):
    """Products and sums, exactly, of the inputs and `low`, as whole numbers; by how many bits these are too large."""
    parts = [rows.part(start, start + PART_ROWS) for start in range(0, len(rows.q), PART_ROWS)]
    largest = max(float(np.abs(part).max()) for part in (*(part.values() for part in parts), rows.low))
    bits = INPUT_BITS - math.frexp(largest)[1]
    width = rows.q.shape[1] + 1
    products, sums = np.zeros((width, width)), np.zeros(width)
    for part in parts:
        values = np.concatenate([part.values(), part.low], axis=1).astype(np.float64)
        whole = np.rint(np.ldexp(values, bits))
        products += whole.T @ whole
        sums += np.ones(len(whole)) @ whole
    return products, sums, bits


def moments(rows):
    """The inputs' covariance f64[in][in] without what bias and sum can carry, and that: mean and slope over `low`."""
    count, inputs = rows.q.shape
    if count >= 1 << 18:
        raise CalibrationError(f"{count} word pieces to calibrate with; fewer than {1 << 18} can be used")
    products, sums, bits = raw_moments(rows)
    products -= sums[:, None] * (sums / count)
    means, slopes = sums[:inputs] / count, np.zeros(inputs)
    covariance, shared, spread = products[:inputs, :inputs], products[:inputs, inputs], products[inputs, inputs]
    if spread > 0.0:
        slopes = shared / spread
        covariance = covariance - shared[:, None] * slopes
        means = means - slopes * (sums[inputs] / count)
    return covariance, np.ldexp(means, -bits), slopes


def scaled(covariance):
    """So that the mean of the diagonal is in [0.5, 1), damped."""
    mean, exponent = math.frexp(math.fsum(covariance.diagonal()) / len(covariance))
    if not mean > 0.0:
        raise CalibrationError("all inputs of a layer are equal")
    return np.ldexp(covariance, -exponent) + np.eye(len(covariance)) * (DAMPING * mean)


def lower_factor(matrix):
    """Cholesky's factor on the grid, a panel of columns at a time."""
    left = on_grid(matrix, 2 * FACTOR_BITS)
    factor = np.zeros_like(left)
    for start in range(0, len(left), BLOCK):
        end = min(start + BLOCK, len(left))
        panel = left[start:, start:end]
        for k in range(end - start):
            if panel[k, k] <= 0.0:
                raise CalibrationError("the inputs of a layer depend on each other too much")
            column = on_grid(panel[k:, k] / np.sqrt(panel[k, k]), FACTOR_BITS)
            panel[k:, k:] -= column[:, None] * column[: end - start - k]
            factor[start + k :, start + k] = column
        below = factor[end:, start:end]
        left[end:, end:] -= below @ below.T
    return factor


def round_columns(weights, factor):
    """weights: f64[rows][in] in steps. Returns whole numbers, and what is left of the outputs' squared error, which is
    the sum over columns: each column's own rounding times what the later ones cannot predict of its input."""
    own = factor.diagonal()
    feedback = on_grid(factor / own, FEEDBACK_BITS)
    weights = on_grid(weights, ERROR_BITS)
    stored, errors, loss = np.empty_like(weights), np.zeros_like(weights), np.zeros(len(weights))
    for start in range(0, weights.shape[1], BLOCK):
        end = min(start + BLOCK, weights.shape[1])
        wanted = weights[:, start:end] + errors[:, :start] @ feedback[:start, start:end]
        for k in range(start, end):
            column = wanted[:, k - start] + errors[:, start:k] @ feedback[start:k, k]
            stored[:, k] = np.clip(np.rint(column), -127, 127)
            errors[:, k] = weights[:, k] - stored[:, k]
            loss += np.square(own[k] * (column - stored[:, k]))
    return stored, loss


def round_weights(weights, covariance):
    """int8 values (as f64) and scales: for each output the range with the least error, then the best scale for it."""
    order = np.argsort(-covariance.diagonal(), kind="stable")
    turned = covariance[np.ix_(order, order)][::-1, ::-1]
    factor = np.ascontiguousarray(lower_factor(turned)[::-1, ::-1])
    steps = np.abs(weights).max(axis=1) / 127.0
    steps[steps == 0.0] = 1.0
    best = np.full(len(weights), np.inf)
    stored, scale = np.zeros_like(weights), steps.copy()
    for clip in CLIPS:
        rounded, loss = round_columns(weights[:, order] / (steps * clip)[:, None], factor)
        loss = loss * np.square(steps * clip)
        better = loss < best
        best[better], scale[better] = loss[better], (steps * clip)[better]
        stored[np.ix_(better, order)] = rounded[better]
    response = stored @ on_grid(covariance, REFIT_BITS)
    size = row_sums(response * stored)
    filled = size > 0.0
    scale[filled] = (row_sums(response * weights) / np.where(filled, size, 1.0))[filled]
    return stored, scale


def round_linear(weights, bias):
    """To nearest, whatever the inputs are."""
    stored, scale = round_rows(weights)
    sums = scale.astype(np.float64) * stored.astype(np.int64).sum(axis=1)
    return Linear(stored, scale, sums.astype(np.float32), bias.astype(np.float32))


def quantise_linear(weights, bias, rows):
    """weights: [out][in] and bias: [out], floats; rows: what calibration text gives the layer, as `model_int8.Rows`."""
    weights = weights.astype(np.float64)
    covariance, mean, slope = moments(rows)
    stored, scale = round_weights(weights, scaled(covariance))
    scale = scale.astype(np.float32).astype(np.float64)
    error = stored * scale[:, None] - weights
    sums = scale * row_sums(stored) - row_sums(error * slope)
    bias = bias.astype(np.float64) - row_sums(error * mean)
    return Linear(
        stored.astype(np.int8), scale.astype(np.float32), sums.astype(np.float32), bias.astype(np.float32)
    )
