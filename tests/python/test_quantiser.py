"""The rounding of weights in tools/: exact arithmetic, and outputs that change less than by rounding to nearest."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

np = pytest.importorskip("numpy")
TOOLS = Path(__file__).resolve().parent.parent.parent / "tools"
sys.path.insert(0, str(TOOLS))
import model_int8  # noqa: E402
import model_layers  # noqa: E402
import model_quantiser  # noqa: E402
from word_pieces import WordPieces, split_words  # noqa: E402


@pytest.fixture
def layer():
    """64 outputs of 128 inputs that depend on each other, as a model's do, and are not centred."""
    rng = np.random.default_rng(1)
    inputs = rng.normal(size=(2000, 24)) @ rng.normal(size=(24, 128)) + 0.3 * rng.normal(size=(2000, 128)) + 1.0
    weights = rng.normal(size=(64, 128)).astype(np.float32)
    return weights, rng.normal(size=64).astype(np.float32), model_int8.quantise(inputs.astype(np.float32))


def error(linear, weights, bias, rows):
    wanted = rows.values().astype(np.float64) @ weights.T.astype(np.float64) + bias
    return np.square(model_int8.apply(linear, rows) - wanted)


def test_outputs_change_less_than_by_rounding_to_nearest(layer):
    calibrated = error(model_quantiser.quantise_linear(*layer), *layer)
    assert calibrated.mean() < 0.3 * error(model_quantiser.round_linear(*layer[:2]), *layer).mean()


def test_the_mean_error_of_an_output_is_corrected(layer):
    weights, bias, rows = layer
    linear = model_quantiser.quantise_linear(*layer)
    wanted = rows.values().astype(np.float64) @ weights.T.astype(np.float64) + bias
    assert np.abs((model_int8.apply(linear, rows) - wanted).mean(axis=0)).max() < 1e-3


def test_the_order_of_word_pieces_changes_no_byte(layer):
    """Sums are exact, so their order cannot show: that is what makes the file the same on all machines."""
    weights, bias, rows = layer
    turned = model_int8.Rows(*(np.ascontiguousarray(part[::-1]) for part in (rows.q, rows.scale, rows.low)))
    one, other = (model_quantiser.quantise_linear(weights, bias, part) for part in (rows, turned))
    for name in ("stored", "scale", "sum", "bias"):
        assert np.array_equal(getattr(one, name), getattr(other, name))


def test_the_loss_that_rounding_reports_is_the_outputs_squared_error(layer):
    covariance = model_quantiser.scaled(model_quantiser.moments(layer[2])[0])
    factor = model_quantiser.lower_factor(covariance[::-1, ::-1])[::-1, ::-1]
    assert np.allclose(factor @ factor.T, covariance, atol=1e-3)
    weights = layer[0].astype(np.float64) * 40.0
    stored, loss = model_quantiser.round_columns(weights, factor)
    left = stored - weights
    assert np.allclose(loss, ((left @ covariance) * left).sum(axis=1), rtol=1e-2)
    assert np.abs(stored).max() <= 127 and np.array_equal(stored, np.rint(stored))


def test_an_output_without_weights_and_equal_inputs(layer):
    weights, bias, rows = layer
    weights = weights.copy()
    weights[3] = 0.0
    linear = model_quantiser.quantise_linear(weights, bias, rows)
    assert not linear.stored[3].any() and np.allclose(model_int8.apply(linear, rows)[:, 3], bias[3], atol=1e-6)
    equal = model_int8.quantise(np.ones((10, 128), np.float32))
    with pytest.raises(model_quantiser.CalibrationError, match="all inputs"):
        model_quantiser.quantise_linear(weights, bias, equal)


def test_attention_and_gelu_are_the_real_ones():
    rng = np.random.default_rng(2)
    projected = rng.normal(size=(9, 3 * 2 * 16))
    q, k, v = projected.reshape(9, 3, 2, 16).transpose(1, 2, 0, 3)
    weights = np.exp2(q @ k.transpose(0, 2, 1))
    wanted = (weights / weights.sum(axis=2, keepdims=True)) @ v
    got = model_int8.attend(projected.astype(np.float32), 2).reshape(9, 2, 16).transpose(1, 0, 2)
    assert np.abs(got - wanted).max() < 5e-3
    assert np.allclose(model_int8.gelu(np.array([-1.0, 0.0, 1.0], np.float32)), [-0.158655, 0.0, 0.841345], atol=3e-4)


def test_word_pieces():
    pieces = WordPieces(["[UNK]", "[CLS]", "[SEP]", "tea", "##s", "2", "-", "e", "京"])
    assert split_words("Teas\t2-É京\x00") == ["teas", "2", "-", "e", "京"]
    assert pieces.encode("Teas 2-É 京 xyz", 16) == [1, 3, 4, 5, 6, 7, 8, 0, 2]
    assert pieces.encode("tea tea tea", 4) == [1, 3, 3, 2]


def test_the_calibration_text_is_of_use():
    text = model_layers.CALIBRATION.read_text(encoding="utf-8")
    passages = text.rstrip("\n").split(model_layers.BREAK)
    assert "CC0" in passages[0] and len(passages) > 60 and all(passage.strip() for passage in passages)
    assert len(text.split()) > 6000


def test_word_pieces_are_those_of_the_golden_files():
    golden = TOOLS.parent / "tests" / "golden" / "token"
    pieces = WordPieces((golden / "vocab.txt").read_text(encoding="utf-8").removesuffix("\n").split("\n"))
    text = (golden / "languages.jsonl").read_text(encoding="utf-8")
    lines = [json.loads(line) for line in text.removesuffix("\n").split("\n")]
    assert len(lines) > 100
    for line in lines:
        if "[cls" in line["text"].lower():
            continue  # Names of special tokens, which no calibration text has.
        assert pieces.encode(line["text"], 1 << 20)[1:-1] == line["ids"], line["text"]
