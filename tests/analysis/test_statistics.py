"""Statistics of a weight, against formulas written down a second time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_cases import Array, as_model, onnx_text

from onnxlint_q.analysis.folding import fold_batch_norms
from onnxlint_q.analysis.schemes import DEFAULT_SCHEMES, INT8_PER_CHANNEL, INT8_PER_TENSOR
from onnxlint_q.analysis.statistics import LayerFacts, WeightStatistics, measure_layers, weight_statistics
from onnxlint_q.graph import find_layers, read_model

BOTH = DEFAULT_SCHEMES
TENSOR, CHANNEL = INT8_PER_TENSOR.name, INT8_PER_CHANNEL.name
quickly = settings(max_examples=30, deadline=None, derandomize=True, database=None)
seeds = st.integers(0, 2**32 - 1)


def statistics(matrix: object) -> WeightStatistics:
    return weight_statistics(np.asarray(matrix, np.float32), BOTH)


def spread_matrix(seed: int) -> Array:
    """Normal rows of very different size."""
    rng = np.random.default_rng(seed)
    rows, taps = rng.integers(2, 12), rng.integers(2, 30)
    return (rng.standard_normal((rows, taps)) * 10.0 ** rng.uniform(-2, 1, (rows, 1))).astype(np.float32)


@quickly
@given(seeds)
def test_average_precision(seed: int) -> None:
    """Eq. 2 of Yun & Wong, in plain Python."""
    matrix = spread_matrix(seed)
    rows = matrix.astype(np.float64).tolist()
    whole = max(map(max, rows)) - min(map(min, rows))
    expected = sum((max(row) - min(row)) / whole for row in rows) / len(rows)
    assert statistics(matrix).average_precision == pytest.approx(expected, rel=1e-12)
    assert 0 < expected <= 1


@quickly
@given(seeds, st.integers(-20, 20))
def test_scaling_the_weights_changes_nothing_but_their_size(seed: int, power: int) -> None:
    plain, scaled = statistics(spread_matrix(seed)), statistics(spread_matrix(seed) * np.float32(2.0**power))
    assert scaled.range == pytest.approx(plain.range * 2.0**power, rel=1e-12)
    assert scaled.average_precision == pytest.approx(plain.average_precision, rel=1e-12)
    for scheme in (TENSOR, CHANNEL):
        np.testing.assert_allclose(scaled.channel_sqnr_db(scheme), plain.channel_sqnr_db(scheme), atol=1e-3)


@quickly
@given(seeds)
def test_order_of_the_channels_does_not_matter(seed: int) -> None:
    matrix = spread_matrix(seed)
    plain, reversed_ = statistics(matrix), statistics(matrix[::-1])
    assert reversed_.average_precision == pytest.approx(plain.average_precision, rel=1e-12)
    np.testing.assert_allclose(reversed_.channel_sqnr_db(TENSOR), plain.channel_sqnr_db(TENSOR)[::-1])


@quickly
@given(seeds)
def test_noise_is_that_of_the_rounded_weights(seed: int) -> None:
    """Round every weight by itself, in exact steps, and compare."""
    matrix = spread_matrix(seed).astype(np.float64)
    found = statistics(matrix)
    for scheme, absmax in ((TENSOR, np.abs(matrix).max()), (CHANNEL, np.abs(matrix).max(axis=1, keepdims=True))):
        step = absmax / 127
        error = np.round(matrix / step) * step - matrix
        expected = 10 * np.log10((matrix**2).sum(axis=1) / (error**2).sum(axis=1))
        np.testing.assert_allclose(found.channel_sqnr_db(scheme), expected, atol=0.05)
        whole = 10 * np.log10((matrix**2).sum() / (error**2).sum())
        assert found.tensor_sqnr_db(scheme) == pytest.approx(whole, abs=0.05)


@quickly
@given(seeds)
def test_one_scale_a_channel_is_never_much_worse(seed: int) -> None:
    found = statistics(spread_matrix(seed))
    tensor, channel = found.mean_channel_sqnr_db(TENSOR), found.mean_channel_sqnr_db(CHANNEL)
    assert tensor is not None and channel is not None
    assert channel > tensor - 3


def test_uniform_weights_have_the_textbook_sqnr() -> None:
    """A uniform weight over the whole range has 20 log10(2 * 127) dB, 48.1."""
    matrix = np.random.default_rng(0).uniform(-1, 1, (4, 20_000)).astype(np.float32)
    np.testing.assert_allclose(statistics(matrix).channel_sqnr_db(TENSOR), 20 * np.log10(254), atol=0.15)


def test_a_collapsed_channel_has_no_signal_left() -> None:
    matrix = np.array([[1.0, -1.0], [1 / 300, -1 / 300], [0, 0], [1 / 200, 0]])
    found = statistics(matrix)
    np.testing.assert_array_equal(found.collapsed, [1])
    np.testing.assert_array_equal(found.dead, [2])
    decibels = found.channel_sqnr_db(TENSOR)
    assert decibels.shape == (3,), "a dead channel has no SQNR"
    assert decibels[0] == np.inf, "1 and -1 are codes"
    assert decibels[1] == pytest.approx(0.0), "all of it is noise"
    assert found.mean_channel_sqnr_db(TENSOR) == pytest.approx(np.minimum(decibels, 150).mean())


def test_a_channel_collapses_below_half_a_step() -> None:
    np.testing.assert_array_equal(statistics([[1.0], [1 / 253], [1 / 255], [-1 / 253], [-1 / 255]]).collapsed, [2, 4])


@quickly
@given(seeds)
def test_collapsed_channels_are_those_that_round_to_zero(seed: int) -> None:
    rng = np.random.default_rng(seed)
    matrix = (rng.standard_normal((12, 5)) * 10.0 ** rng.uniform(-4, 0, (12, 1))).astype(np.float32)
    codes = np.rint(matrix.astype(np.float64) / (np.abs(matrix).max() / 127))
    np.testing.assert_array_equal(statistics(matrix).collapsed, np.flatnonzero(np.abs(codes).max(axis=1) == 0))


def test_channels_with_one_weight_are_compared_by_magnitude() -> None:
    assert statistics([[4.0], [-2.0], [1.0], [1.0]]).average_precision == pytest.approx(0.5)


@pytest.mark.parametrize("matrix", [np.zeros((3, 4)), np.zeros((3, 1)), np.zeros((0, 4))])
def test_nothing_to_quantise(matrix: Array) -> None:
    found = statistics(matrix)
    assert found.average_precision == 1.0
    assert found.range == 0.0
    assert found.mean_channel_sqnr_db(TENSOR) is None
    assert found.tensor_sqnr_db(TENSOR) is None
    assert found.collapsed.size == 0


def test_channels_that_are_not_finite_are_counted_and_left_out() -> None:
    found = statistics([[1, 2], [np.nan, 5], [np.inf, -np.inf], [3, 4]])
    assert found.non_finite == 3
    np.testing.assert_array_equal(found.low, [1, 3])
    np.testing.assert_array_equal(found.high, [2, 4])
    assert found.average_precision == pytest.approx(1 / 3)


def test_large_weights_do_not_overflow() -> None:
    decibels = statistics(np.linspace(-1e30, 1e30, 64).reshape(2, 32)).channel_sqnr_db(TENSOR)
    assert np.isfinite(decibels).all()
    assert (decibels > 40).all()


def layer_facts(path: Path) -> dict[str, LayerFacts]:
    model = read_model(path)
    folding = fold_batch_norms(model, list(find_layers(model)))
    return {layer.output: layer for layer in measure_layers(model, folding.layers, BOTH)}


def test_before_and_after_folding(models: Path) -> None:
    layers = layer_facts(models / "depthwise_spread.onnx")
    spread = layers["block1_depthwise_bn_out"]
    assert spread.before.average_precision > 0.3, "as stored the weights are even"
    assert spread.weight.average_precision < 0.1, "folding spreads them"
    plain = layers["classifier_out"]
    assert plain.before is plain.weight


def test_statistics_are_those_of_the_folded_weight() -> None:
    rng = np.random.default_rng(1)
    arrays = {
        "w": rng.standard_normal((4, 3, 1, 1)).astype(np.float32),
        "g": np.array([1, 10, 100, 1000], np.float32),
        "o": np.zeros(4, np.float32),
        "v": np.ones(4, np.float32),
    }
    proto = onnx_text(
        "g (float[N,3,4,4] x) => (float[N,4,4,4] y) "
        "{ c = Conv(x, w) y = BatchNormalization<epsilon = 0.0>(c, g, o, o, v) }",
        **arrays,
    )
    model = as_model(proto)
    (facts,) = measure_layers(model, fold_batch_norms(model, list(find_layers(model))).layers, BOTH)
    expected = arrays["w"].reshape(4, 3) * arrays["g"][:, None]
    np.testing.assert_allclose(facts.weight.absmax, np.abs(expected).max(axis=1), rtol=1e-6)
    np.testing.assert_allclose(facts.before.absmax, np.abs(arrays["w"]).max(axis=(1, 2, 3)), rtol=1e-6)


def test_collapsed_fixture(models: Path) -> None:
    found = layer_facts(models / "collapsed_channels.onnx")["uneven_conv_out"].weight
    np.testing.assert_array_equal(found.collapsed, np.arange(12, 18))


def test_nan_fixture(models: Path) -> None:
    layers = layer_facts(models / "nan_weights.onnx")
    assert {output: layer.weight.non_finite for output, layer in layers.items() if layer.weight.non_finite} == {
        "block1_1_bn_out": 2
    }


def test_a_weight_that_layers_share_is_measured_once() -> None:
    shared, other = (np.random.default_rng(seed).standard_normal((8, 8)).astype(np.float32) for seed in (0, 1))
    model = as_model(
        onnx_text(
            """g (float[N,8] x) => (float[N,8] y) {
                 a = Transpose (w) b = Transpose (w) r = MatMul (x, a) s = MatMul (r, b)
                 t = MatMul (s, w) y = MatMul (t, v) }""",
            w=shared,
            v=other,
        )
    )
    layers = fold_batch_norms(model, list(find_layers(model))).layers
    first, second, turned, apart = measure_layers(model, layers, DEFAULT_SCHEMES)
    assert second.weight is first.weight
    assert turned.weight is not first.weight
    np.testing.assert_allclose(turned.weight.high, shared.max(axis=0), rtol=1e-5)
    np.testing.assert_allclose(first.weight.high, shared.max(axis=1), rtol=1e-5)
    np.testing.assert_allclose(apart.weight.high, other.max(axis=0), rtol=1e-5)
