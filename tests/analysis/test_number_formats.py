"""Number formats and who shares a scale, against ONNX Runtime's operators, its quantisers, and ml_dtypes."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_cases import Array, as_model, onnx_text, run, versioned_text
from onnxruntime.capi._pybind_state import quantize_matmul_4bits
from onnxruntime.quantization.quant_utils import compute_scale_zp

from onnxlint_q.analysis.number_formats import (
    FLOAT8,
    INT4,
    INT8,
    UINT4,
    UINT8,
    UINT16,
    NumberFormat,
    Sharing,
    activation_qparams,
    codes,
    decibel,
    round_trip,
    symmetric_scale,
    weight_round_trip,
    weight_scale,
)
from onnxlint_q.analysis.schemes import (
    INT8_PER_CHANNEL,
    INT8_PER_TENSOR,
    PER_CHANNEL,
    PER_TENSOR,
    SCHEMES,
    Scheme,
)
from onnxlint_q.graph import find_layers
from onnxlint_q.graph.element_types import CODE_RANGES

T = onnx.TensorProto
IINFO: Any = ml_dtypes.iinfo
# Opset 21 has all of them, and blocks; ONNX Runtime's quantiser leaves the smallest code of a signed type out.
FORMATS = [INT4, INT8, UINT8, UINT16, FLOAT8]
INTEGERS = [number for number in FORMATS if not number.is_float]
quickly = settings(max_examples=60, deadline=None, derandomize=True, database=None)


def through_onnx_runtime(
    values: Array, scale: npt.ArrayLike, number: NumberFormat, zero_point: int = 0, axis: int = 0, block: int = 0
) -> Array:
    """QuantizeLinear to the type and DequantizeLinear."""
    how = f"<axis = {axis}{f', block_size = {block}' if block else ''}>"
    proto = versioned_text(
        21,
        "",
        f"g (float[N,M] x) => (float[N,M] y) {{ q = QuantizeLinear{how}(x, s, z) y = DequantizeLinear{how}(q, s, z) }}",
    )
    # Not by `from_array`, which writes the weights of a varied machine: scales of blocks have two axes as weights have.
    exact = np.asarray(scale, np.float32)
    proto.graph.initializer.append(onnx.helper.make_tensor("s", onnx.TensorProto.FLOAT, exact.shape, exact.ravel()))
    zeros = np.full(np.shape(scale), zero_point, number.dtype)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(zeros, "z"))
    return run(proto, {"x": values})[0]


def test_a_scheme_has_no_unsigned_weights() -> None:
    with pytest.raises(ValueError, match="unsigned weights"):
        Scheme("odd", weights=UINT8)


def test_codes_are_those_of_the_operator_channel_by_channel() -> None:
    values = np.random.default_rng(5).normal(0, 40, (64, 3)).astype(np.float32)
    scale, zero_point = np.array([0.5, 0.25, 1.0], np.float32), np.array([0, 128, 200], np.uint8)
    text = "g (float[N,M] x) => (uint8[N,M] y) { y = QuantizeLinear<axis = 1>(x, s, z) }"
    (wanted,) = run(versioned_text(21, "", text, s=scale, z=zero_point), {"x": values})
    found = codes(values, scale, UINT8, zero_point)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, wanted)
    assert {0, 255} <= set(np.unique(wanted))


def test_a_format_is_what_onnx_says_of_its_type() -> None:
    named = {number.name: number for number in FORMATS}
    assert list(named) == ["int4", "int8", "uint8", "uint16", "float8e4m3fn"]
    assert [number.bits for number in FORMATS] == [4, 8, 8, 16, 8]
    assert [number.signed for number in FORMATS] == [True, True, False, False, True]
    assert [(number.lowest, number.largest) for number in FORMATS] == [
        (-7, 7),
        (-127, 127),
        (0, 255),
        (0, 65535),
        (-448, 448),
    ]
    assert (FLOAT8.mantissa_bits, FLOAT8.smallest_normal) == (3, 2**-6)
    assert NumberFormat(T.INT8, symmetric=False).lowest == -128
    for elem_type, span in CODE_RANGES.items():
        held = IINFO(onnx.helper.tensor_dtype_to_np_dtype(elem_type))
        assert span == (held.min, held.max)


def test_ties_round_to_even() -> None:
    values = np.array([[0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 126.5, -126.5]], np.float32)
    found = round_trip(values, 1.0, INT8)
    np.testing.assert_array_equal(found, [[0, 2, 2, 0, -2, -2, 126, -126]])
    np.testing.assert_array_equal(found, through_onnx_runtime(values, 1.0, INT8))
    # The zero point is added after rounding, so an odd one does not turn ties around.
    shifted = round_trip(values, 1.0, UINT8, 129)
    np.testing.assert_array_equal(shifted, through_onnx_runtime(values, 1.0, UINT8, 129))


def test_saturation_is_symmetric() -> None:
    """-128 is left out, as ONNX Runtime's quantiser leaves it out of weights."""
    values = np.array([[127, 128, 1e9, -127, -127.4, -128, -1e9]], np.float32)
    np.testing.assert_array_equal(round_trip(values, 1.0, INT8), [[127, 127, 127, -127, -127, -127, -127]])


@quickly
@given(st.integers(0, 2**32 - 1), st.floats(1e-6, 1e3), st.sampled_from(FORMATS), st.floats(0.5, 2))
def test_the_round_trip_is_that_of_the_operators(seed: int, spread: float, number: NumberFormat, reach: float) -> None:
    """Any zero point, scales that are too small for the values and ones that are too large."""
    random = np.random.default_rng(seed)
    values = (random.standard_normal((3, 50)) * spread).astype(np.float32)
    scale = symmetric_scale(np.abs(values).max() * reach, number)
    zero_point = 0 if number.symmetric else int(random.integers(0, int(number.largest) + 1))
    expected = through_onnx_runtime(values, scale, number, zero_point)
    if number.symmetric and not number.is_float:  # the operator saturates at the code that a quantiser leaves out
        expected = np.maximum(expected, np.float32(number.lowest) * scale)
    np.testing.assert_array_equal(round_trip(values, scale, number, zero_point), expected)


@quickly
@given(st.integers(0, 2**32 - 1), st.sampled_from(FORMATS), st.integers(-20, 20))
def test_a_round_trip_is_stable_scales_with_the_values_and_stays_within_half_a_step(
    seed: int, number: NumberFormat, power: int
) -> None:
    values = np.random.default_rng(seed).standard_normal(200)
    low, high = float(values.min()), float(values.max())
    scale, zero_point = activation_qparams(low, high, number)
    once = round_trip(values, scale, number, zero_point)
    np.testing.assert_allclose(round_trip(once, scale, number, zero_point), once, rtol=1e-12)
    larger = 2.0**power
    np.testing.assert_array_equal(round_trip(values * larger, scale * larger, number, zero_point), once * larger)
    step = np.full(values.shape, float(scale))
    if number.is_float:
        codes = np.maximum(np.abs(values / scale), number.smallest_normal)
        step *= 2.0 ** (np.floor(np.log2(codes)) - number.mantissa_bits)
    # The ends of a range that is not symmetric move by up to half a step more when zero is put on a code.
    ends = 1.0 if number.symmetric else 2.0
    assert (np.abs(once - values) <= ends * step / 2 * (1 + 1e-5)).all()
    inside = (values > low + step) & (values < high - step)
    assert (np.abs(once - values)[inside] <= step[inside] / 2 * (1 + 1e-5)).all()


def test_not_a_number_stays_what_it_is() -> None:
    values = np.asarray([np.nan, np.inf, -np.inf], np.float32)
    for number in FORMATS:
        found = round_trip(values, 1.0, number)
        assert np.isnan(found[0]) and list(found[1:]) == [number.largest, number.lowest]


@quickly
@given(st.integers(0, 2**32 - 1), st.sampled_from([INT4, INT8, FLOAT8]))
def test_who_shares_a_scale_is_who_does_in_quantize_linear(seed: int, number: NumberFormat) -> None:
    random = np.random.default_rng(seed)
    matrix = (random.standard_normal((5, 64)) * np.geomspace(1e-3, 10, 5)[:, None]).astype(np.float32)
    tensor = symmetric_scale(np.abs(matrix).max(), number)
    np.testing.assert_array_equal(
        weight_round_trip(matrix, number, PER_TENSOR), through_onnx_runtime(matrix, tensor, number)
    )
    channel = symmetric_scale(np.abs(matrix).max(axis=1), number)
    np.testing.assert_array_equal(
        weight_round_trip(matrix, number, PER_CHANNEL), through_onnx_runtime(matrix, channel, number)
    )


def packed_by_onnx_runtime(matrix: Array, block_size: int, symmetric: bool) -> tuple[Array, Array, Array]:
    """What MatMulNBits is given: pairs of codes `[channel, block, pairs]`, scales, pairs of zero points."""
    channels, taps = matrix.shape
    count = -(-taps // block_size)
    padded = np.ascontiguousarray(np.pad(matrix.T, ((0, count * block_size - taps), (0, 0))))
    codes = np.zeros((channels, count, block_size // 2), np.uint8)
    scales, zeros = np.zeros((channels, count), np.float32), np.zeros((channels, (count + 1) // 2), np.uint8)
    quantize_matmul_4bits(codes, padded, scales, zeros, block_size, channels, taps, symmetric)
    return codes, scales, zeros


def unpacked(pairs: Array) -> Array:
    return np.stack([pairs & 15, pairs >> 4], axis=-1).reshape(*pairs.shape[:-1], -1).astype(np.float32)


@quickly
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 150),
    st.sampled_from([32, 64, 128]),
    st.sampled_from([INT4, UINT4]),
    st.sampled_from(["both signs", "positive", "negative", "few values", "zero"]),
)
def test_blocks_are_those_of_onnx_runtimes_own_quantiser_to_the_bit(
    seed: int, taps: int, block_size: int, number: NumberFormat, kind: str
) -> None:
    """The last block may be shorter."""
    random = np.random.default_rng(seed)
    matrix = (random.standard_normal((4, taps)) * 10.0 ** random.integers(-4, 3)).astype(np.float32)
    matrix = {
        "both signs": matrix,
        "positive": np.abs(matrix),
        "negative": -np.abs(matrix),
        "few values": np.round(matrix, 1),  # extremes of one magnitude and both signs, values halfway between codes
        "zero": matrix * 0,
    }[kind]
    codes, scales, zeros = packed_by_onnx_runtime(matrix, block_size, number.symmetric)
    zero = np.float32(8) if number.symmetric else unpacked(zeros)[:, : scales.shape[1], None]
    expected = ((unpacked(codes) - zero) * scales[..., None]).reshape(4, -1)[:, :taps]
    np.testing.assert_array_equal(weight_round_trip(matrix, number, Sharing(1, block_size)), expected)


def test_a_block_without_a_zero_point_has_sixteen_levels_and_clips_the_other_side() -> None:
    block = np.zeros((1, 32), np.float32)
    block[0, :3] = -8, 8, 4
    np.testing.assert_array_equal(weight_round_trip(block, INT4, Sharing(1, 32))[0, :3], [-8, 7, 4])
    np.testing.assert_array_equal(weight_round_trip(np.delete(block, 0, 1), INT4, Sharing(1, 32))[0, :2], [8, 4])
    # With one the range is divided by fifteen, and zero is a code.
    found = weight_round_trip(block, UINT4, Sharing(1, 32))[0]
    assert found[3] == 0 and np.unique(np.abs(found[:2] - block[0, :2])).max() <= 16 / 15 / 2 + 1e-6


def test_channels_that_are_tied_share_the_scale_of_the_widest() -> None:
    """A grouped ConvTranspose: channels 0 and 2, and 1 and 3, are one slice of its weight."""
    matrix = np.diag([1.0, 2.0, 30.0, 4.0]).astype(np.float32) + np.float32(0.3)
    found = weight_round_trip(matrix, INT8, PER_CHANNEL, tied=2)
    tied = np.concatenate([matrix[[0, 2]].reshape(1, -1), matrix[[1, 3]].reshape(1, -1)])
    expected = weight_round_trip(tied, INT8, PER_CHANNEL).reshape(2, 2, 4)
    np.testing.assert_array_equal(found[[0, 2]], expected[0])
    np.testing.assert_array_equal(found[[1, 3]], expected[1])


def test_channels_of_a_run_share_the_scale_of_the_widest() -> None:
    matrix = np.diag([1.0, 2.0, 30.0, 4.0]).astype(np.float32) + np.float32(0.3)
    found = weight_round_trip(matrix, INT8, Sharing(axis=0, runs=2))
    for half in (slice(2), slice(2, None)):
        np.testing.assert_array_equal(found[half], weight_round_trip(matrix[half], INT8, PER_TENSOR))


def test_a_part_of_a_tensor_is_rounded_as_the_whole() -> None:
    matrix = np.random.default_rng(0).standard_normal((6, 10)).astype(np.float32)
    whole = weight_round_trip(matrix, INT8, PER_TENSOR)
    scale = weight_scale(matrix, INT8, PER_TENSOR)
    np.testing.assert_array_equal(weight_round_trip(matrix[:2], INT8, PER_TENSOR, scale=scale), whole[:2])


def test_int4_blocks_are_what_matmul_nbits_computes_with() -> None:
    """Codes and scales packed as ONNX Runtime's weight-only operator takes them: [channel, block, pairs of codes]."""
    channels, taps = 48, 256
    weight = np.random.default_rng(0).standard_normal((taps, channels)).astype(np.float32)
    (layer,) = find_layers(
        as_model(onnx_text("g (float[N, 256] x) => (float[N, 48] y) { y = MatMul(x, w) }", w=weight))
    )
    scheme = SCHEMES["int4-blocks"]
    assert scheme.covers(layer) and scheme.activations is None
    matrix = layer.by_channel(weight)
    ours = layer.as_stored(weight_round_trip(matrix, scheme.weights, scheme.sharing))
    codes, scales, _ = packed_by_onnx_runtime(matrix, 32, symmetric=True)
    proto = versioned_text(
        17,
        "com.microsoft",
        "g (float[N, 256] x) => (float[N, 48] y) "
        "{ y = com.microsoft.MatMulNBits <K = 256, N = 48, bits = 4, block_size = 32> (x, b, s) }",
        b=codes,
        s=scales.ravel(),
    )
    (theirs,) = run(proto, {"x": np.eye(taps, dtype=np.float32)})
    np.testing.assert_allclose(theirs, ours, rtol=1e-6, atol=1e-7)


def test_blocks_cover_matrices_alone() -> None:
    proto = onnx_text(
        """g (float[1, 4, 6, 6] x) => (float[1, 4, 6, 6] y, float[4, 6] z, float[1, 4, 6, 3] b) {
            h = Conv(x, v)
            y = MatMul(h, m)
            z = MatMul(l, x2)
            b = MatMul(y, t)
            x2 = Reshape(y, s)
        }""",
        v=np.ones((4, 4, 1, 1), np.float32),
        m=np.ones((6, 6), np.float32),
        l=np.ones((4, 24), np.float32),
        t=np.ones((1, 1, 6, 3), np.float32),
        s=np.asarray([24, 6]),
    )
    covered = {layer.output for layer in find_layers(as_model(proto)) if SCHEMES["int4-blocks"].covers(layer)}
    assert covered == {"y", "b"}, "batches of one matrix are a matrix"
    assert all(INT8_PER_CHANNEL.covers(layer) for layer in find_layers(as_model(proto)))


def test_zero_channels_stay_zero() -> None:
    matrix = np.array([[0, 0], [1, -1]], np.float32)
    np.testing.assert_array_equal(weight_round_trip(matrix, INT8, PER_CHANNEL), matrix)


def test_int4_weights_use_fifteen_codes() -> None:
    codes = (np.arange(-7, 8, dtype=np.float32)[None] / np.float32(7)).astype(np.float32)
    np.testing.assert_allclose(weight_round_trip(codes, INT4, PER_CHANNEL), codes, rtol=1e-6)
    fine = np.linspace(-1, 1, 500, dtype=np.float32)[None]
    assert np.unique(weight_round_trip(fine, INT4, PER_CHANNEL)).size == 15


def test_float8_rounds_as_the_type_does() -> None:
    values = np.linspace(-3, 3, 1001, dtype=np.float32)[None]
    scale = np.float32(3) / np.float32(448)
    expected = (values / scale).astype(ml_dtypes.float8_e4m3fn).astype(np.float32) * scale
    np.testing.assert_array_equal(weight_round_trip(values, FLOAT8, PER_CHANNEL), expected)
    assert weight_round_trip(values, FLOAT8, PER_CHANNEL).max() == np.float32(448) * scale


def test_the_argument_is_left_alone() -> None:
    matrix = np.random.default_rng(2).standard_normal((2, 3)).astype(np.float32)
    before = matrix.copy()
    for number in FORMATS:
        weight_round_trip(matrix, number, PER_TENSOR)
    np.testing.assert_array_equal(matrix, before)


@quickly
@given(st.floats(-1e4, 1e4, width=32), st.floats(-1e4, 1e4, width=32), st.booleans())
def test_activation_parameters_are_those_of_onnx_runtime(a: float, b: float, symmetric: bool) -> None:
    low, high = min(a, b), max(a, b)
    scale, zero_point = activation_qparams(low, high, INT8 if symmetric else UINT8)
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
    scale, zero_point = activation_qparams(low, high, UINT8)
    assert float(scale) == pytest.approx(expected[0], rel=1e-6)
    assert zero_point == expected[1]


def test_other_formats_put_the_largest_magnitude_on_their_largest_value() -> None:
    assert activation_qparams(-1.0, 3.0, INT8) == (np.float32(3 / 127), 0)
    assert activation_qparams(-1.0, 3.0, FLOAT8) == (np.float32(3 / 448), 0)
    assert activation_qparams(-1.0, 3.0, UINT16) == (np.float32(4 / 65535), 16384)
    whole = NumberFormat(T.INT8, symmetric=False)
    assert activation_qparams(-1.0, 3.0, whole) == (np.float32(4 / 255), -64)


@pytest.mark.parametrize("number", [INT8, UINT8, UINT16, FLOAT8])
@pytest.mark.parametrize("bound", [0.0, 1e-42])
def test_an_empty_range_has_the_scale_one(number: NumberFormat, bound: float) -> None:
    scale, zero_point = activation_qparams(-bound, bound, number)
    assert scale == 1
    assert 0 <= zero_point <= 255
    assert symmetric_scale(bound, number) == 1


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
