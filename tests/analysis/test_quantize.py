"""Quantisation arithmetic, against ONNX Runtime's operators and its quantiser."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_cases import Array, onnx_text, run
from onnxruntime.quantization.quant_utils import compute_scale_zp

from onnxlint_q.analysis.number_formats import (
    activation_qparams,
    decibel,
    quantize_dequantize,
    symmetric_scale,
    weight_round_trip,
)
from onnxlint_q.analysis.schemes import INT8_PER_CHANNEL, INT8_PER_TENSOR, SCHEMES, Number

quickly = settings(max_examples=60, deadline=None, derandomize=True, database=None)


def through_onnx_runtime(values: Array, scale: npt.ArrayLike, axis: int = 0) -> Array:
    """QuantizeLinear to int8 and DequantizeLinear."""
    zero = np.zeros(np.shape(scale), np.int8)
    proto = onnx_text(
        f"g (float[N,M] x) => (float[N,M] y) "
        f"{{ q = QuantizeLinear<axis = {axis}>(x, s, z) y = DequantizeLinear<axis = {axis}>(q, s, z) }}",
        s=scale,
        z=zero,
    )
    return run(proto, {"x": values})[0]


def test_ties_round_to_even() -> None:
    values = np.array([[0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 126.5, -126.5]], np.float32)
    found = quantize_dequantize(values, 1.0, 8)
    np.testing.assert_array_equal(found, [[0, 2, 2, 0, -2, -2, 126, -126]])
    np.testing.assert_array_equal(found, through_onnx_runtime(values, np.float32(1)))


def test_saturation_is_symmetric() -> None:
    """-128 is left out, as ONNX Runtime's quantiser leaves it out of weights."""
    values = np.array([[127, 128, 1e9, -127, -127.4, -128, -1e9]], np.float32)
    np.testing.assert_array_equal(quantize_dequantize(values, 1.0, 8), [[127, 127, 127, -127, -127, -127, -127]])


@quickly
@given(st.integers(0, 2**32 - 1), st.floats(1e-6, 1e3))
def test_round_trip_per_tensor(seed: int, spread: float) -> None:
    matrix = (np.random.default_rng(seed).standard_normal((3, 7)) * spread).astype(np.float32)
    scale = symmetric_scale(np.abs(matrix).max(), 8)
    expected = through_onnx_runtime(matrix, scale)
    np.testing.assert_array_equal(weight_round_trip(matrix, INT8_PER_TENSOR), expected)


def test_round_trip_per_channel() -> None:
    spread = np.geomspace(1e-4, 10, 5)[:, None]
    matrix = (np.random.default_rng(0).standard_normal((5, 9)) * spread).astype(np.float32)
    scale = symmetric_scale(np.abs(matrix).max(axis=1), 8)
    np.testing.assert_array_equal(weight_round_trip(matrix, INT8_PER_CHANNEL), through_onnx_runtime(matrix, scale))
    np.testing.assert_array_equal(
        weight_round_trip(matrix.T, INT8_PER_CHANNEL, channel_axis=1), through_onnx_runtime(matrix.T, scale, axis=1)
    )


def test_zero_channels_stay_zero() -> None:
    matrix = np.array([[0, 0], [1, -1]], np.float32)
    np.testing.assert_array_equal(weight_round_trip(matrix, INT8_PER_CHANNEL), matrix)


def test_int4_weights_use_fifteen_codes() -> None:
    scheme = SCHEMES["int4-weights"]
    codes = (np.arange(-7, 8, dtype=np.float32)[None] / np.float32(7)).astype(np.float32)
    np.testing.assert_allclose(weight_round_trip(codes, scheme), codes, rtol=1e-6)
    fine = np.linspace(-1, 1, 500, dtype=np.float32)[None]
    assert np.unique(weight_round_trip(fine, scheme)).size == 15


def test_float8_weights_round_as_the_type_does() -> None:
    values = np.linspace(-3, 3, 1001, dtype=np.float32)[None]
    scale = np.float32(3) / np.float32(448)
    expected = (values / scale).astype(ml_dtypes.float8_e4m3fn).astype(np.float32) * scale
    np.testing.assert_array_equal(weight_round_trip(values, SCHEMES["fp8"]), expected)
    assert weight_round_trip(values, SCHEMES["fp8"]).max() == np.float32(448) * scale


def test_a_round_trip_is_stable() -> None:
    matrix = np.random.default_rng(1).standard_normal((6, 50)).astype(np.float32)
    once = weight_round_trip(matrix, INT8_PER_TENSOR)
    np.testing.assert_allclose(weight_round_trip(once, INT8_PER_TENSOR), once, rtol=1e-6)
    assert np.abs(once - matrix).max() <= np.abs(matrix).max() / 254 * (1 + 1e-5)


def test_the_argument_is_left_alone() -> None:
    matrix = np.random.default_rng(2).standard_normal((2, 3)).astype(np.float32)
    before = matrix.copy()
    weight_round_trip(matrix, INT8_PER_TENSOR)
    np.testing.assert_array_equal(matrix, before)


@quickly
@given(st.floats(-1e4, 1e4, width=32), st.floats(-1e4, 1e4, width=32), st.booleans())
def test_activation_parameters_are_those_of_onnx_runtime(a: float, b: float, symmetric: bool) -> None:
    low, high = min(a, b), max(a, b)
    scale, zero_point = activation_qparams(low, high, Number.INT8 if symmetric else Number.UINT8)
    limits = [np.array(v, np.int8) for v in (-127, 127)] if symmetric else [np.array(v, np.uint8) for v in (0, 255)]
    zero_expected, scale_expected = compute_scale_zp(np.float32(low), np.float32(high), *limits, symmetric)
    assert float(scale) == pytest.approx(float(scale_expected), rel=1e-6)
    if float(scale_expected) == 1.0 and max(-low, high) < 1e-30:
        return  # nothing to scale: any zero point represents zero exactly
    assert abs(zero_point - int(zero_expected)) <= (1 if _near_tie(low, float(scale)) else 0)


def _near_tie(low: float, scale: float) -> bool:
    """Whether float32 and float64 may disagree on how `-low / scale` rounds."""
    exact = -min(low, 0.0) / scale
    return abs(exact % 1 - 0.5) < 1e-3


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(-1.0, 3.0, (4 / 255, 64)), (0.0, 6.0, (6 / 255, 0)), (2.0, 6.0, (6 / 255, 0)), (-3.0, -1.0, (3 / 255, 255))],
)
def test_ranges_contain_zero(low: float, high: float, expected: tuple[float, int]) -> None:
    scale, zero_point = activation_qparams(low, high, Number.UINT8)
    assert float(scale) == pytest.approx(expected[0], rel=1e-6)
    assert zero_point == expected[1]


def test_other_formats_put_the_largest_magnitude_on_their_largest_value() -> None:
    assert activation_qparams(-1.0, 3.0, Number.INT8) == (np.float32(3 / 127), 0)
    assert activation_qparams(-1.0, 3.0, Number.FLOAT8) == (np.float32(3 / 448), 0)
    assert activation_qparams(-1.0, 3.0, Number.UINT16) == (np.float32(4 / 65535), 16384)


@pytest.mark.parametrize("number", [Number.UINT8, Number.INT8, Number.UINT16, Number.FLOAT8])
@pytest.mark.parametrize("bound", [0.0, 1e-42])
def test_an_empty_range_has_the_scale_one(number: Number, bound: float) -> None:
    scale, zero_point = activation_qparams(-bound, bound, number)
    assert scale == 1
    assert 0 <= zero_point <= 255
    assert symmetric_scale(bound, 8) == 1


def test_decibel() -> None:
    assert decibel(100.0, 1.0) == pytest.approx(20.0)
    assert decibel(1.0, 2.0) == pytest.approx(-3.0103, abs=1e-4)
    assert decibel(1.0, 0.0) is None
    assert decibel(0.0, 1.0) is None
    assert decibel(float("nan"), 1.0) is None


def test_schemes_by_name() -> None:
    assert {name: scheme.name for name, scheme in SCHEMES.items()} == {name: name for name in SCHEMES}
    assert not INT8_PER_TENSOR.per_channel
    assert INT8_PER_CHANNEL.per_channel
