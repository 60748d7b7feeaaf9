"""Number formats, who shares a scale, and the arithmetic of QuantizeLinear and DequantizeLinear.

ONNX operator specification, QuantizeLinear-21: `y = saturate(round_half_even(x / scale) + zero_point)`, for float8
rounded by the type itself; DequantizeLinear-21: `x = (y - zero_point) * scale`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import ml_dtypes
import numpy as np
import numpy.typing as npt
import onnx

from onnxlint_q.graph.element_types import CODE_RANGES

Float = npt.NDArray[np.float32]
Floats = TypeVar("Floats", npt.NDArray[np.float32], npt.NDArray[np.float64])
_finfo: Any = ml_dtypes.finfo
_iinfo: Any = ml_dtypes.iinfo
# Below this a float32 scale is subnormal and its reciprocal overflows; ONNX Runtime then takes the scale 1.
_TINY = np.float32(np.finfo(np.float32).tiny)
# Biases have codes of this type; the quantiser widens a weight scale with which they would not fit by as much more.
_BIAS_CODES = np.iinfo(np.int32)
_BIAS_MARGIN = 1.0001
_BELOW_HALF = np.nextafter(np.float32(0.5), np.float32(0))


@dataclass(frozen=True, slots=True)
class NumberFormat:
    """A format of codes.

    Attributes:
        elem_type: TensorProto.DataType of the codes.
        symmetric: the zero point is 0, and a signed integer type leaves out its smallest code, so that the codes span
            as far on either side, as in ONNX Runtime's quantiser; else the zero point is fitted to the values.
    """

    elem_type: int
    symmetric: bool = True

    @property
    def name(self) -> str:
        """ONNX's name of the type."""
        return str(onnx.TensorProto.DataType.Name(self.elem_type)).lower()

    @property
    def short_name(self) -> str:
        """As quantisers write it: `U8`, `S4`, `F8`."""
        return f"{'F' if self.is_float else 'S' if self.signed else 'U'}{self.bits}"

    @property
    def dtype(self) -> np.dtype[Any]:
        """The numpy type of the codes."""
        return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(self.elem_type))

    @property
    def is_float(self) -> bool:
        """Whether codes are floating-point numbers, whose steps grow with the value."""
        return self.elem_type not in CODE_RANGES

    @property
    def bits(self) -> int:
        """Bits of a code."""
        return int((_finfo if self.is_float else _iinfo)(self.dtype).bits)

    @property
    def mantissa_bits(self) -> int:
        """Bits behind the point of a floating-point code; 0 for an integer."""
        return int(_finfo(self.dtype).nmant) if self.is_float else 0

    @property
    def smallest_normal(self) -> float:
        """Smallest floating-point code whose step is still relative to it; below, steps stay the same."""
        return float(_finfo(self.dtype).smallest_normal)

    @property
    def signed(self) -> bool:
        """Whether there are negative codes."""
        return self.lowest < 0

    @property
    def widened(self) -> NumberFormat:
        """The same with 16 bits; itself where it has not 8."""
        return NumberFormat(_WIDER.get(self.elem_type, self.elem_type), self.symmetric)

    @property
    def lowest(self) -> float:
        """Smallest code that is used."""
        smallest = -self.largest if self.is_float else CODE_RANGES[self.elem_type][0]
        return max(smallest, -self.largest) if self.symmetric else smallest

    @property
    def largest(self) -> float:
        """Largest code."""
        return float(_finfo(self.dtype).max) if self.is_float else CODE_RANGES[self.elem_type][1]


_T = onnx.TensorProto
_WIDER: Mapping[int, int] = {_T.INT8: _T.INT16, _T.UINT8: _T.UINT16}
INT4 = NumberFormat(_T.INT4)
UINT4 = NumberFormat(_T.UINT4, symmetric=False)
INT8 = NumberFormat(_T.INT8)
UINT8 = NumberFormat(_T.UINT8, symmetric=False)
"""What activations are rounded to: codes from 0 to 255 and a zero point."""
UINT16 = NumberFormat(_T.UINT16, symmetric=False)
FLOAT8 = NumberFormat(_T.FLOAT8E4M3FN)


@dataclass(frozen=True, slots=True)
class Sharing:
    """Which values of an array share a scale.

    All of them where there is no axis (per tensor); those with one index of `axis` (per channel); or, as in
    MatMulNBits, every run of `block_size` values along `axis` (block-wise), the last of which may be shorter; or all
    channels of one of a few equal `runs` along `axis`, as the directions of an LSTM are.
    """

    axis: int | None = None
    block_size: int = 0
    runs: int = 0

    def largest(self, values: Float) -> Float:
        """The largest magnitude among the values of a tensor or a channel; broadcasts against `values`."""
        others = None if self.axis is None else tuple(axis for axis in range(values.ndim) if axis != self.axis)
        ends = values.max(axis=others, keepdims=True), -values.min(axis=others, keepdims=True)
        largest = np.asarray(np.maximum(*ends))
        if not self.runs:
            return largest
        by_run = largest.reshape(self.runs, -1)
        return np.broadcast_to(by_run.max(axis=1, keepdims=True), by_run.shape).reshape(largest.shape)


def symmetric_scale(magnitude: npt.ArrayLike, number: NumberFormat) -> Float:
    """Scale that puts `magnitude` on the largest code; 1 where nothing is to be scaled."""
    scale = np.asarray(magnitude, np.float32) / np.float32(number.largest)
    return np.where(scale < _TINY, np.float32(1), scale).astype(np.float32)


def activation_step(low: float, high: float, number: NumberFormat) -> float:
    """Length of a step for values in `[low, high]`, widened to contain zero; 0 where that is nothing.

    In a symmetric format the largest magnitude is the largest code.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    if number.symmetric:
        return max(-low, high) / number.largest
    return (high - low) / (number.largest - number.lowest)


def activation_qparams(low: float, high: float, number: NumberFormat) -> tuple[np.float32, int]:
    """Scale and zero point for values in `[low, high]`, widened to contain zero; scale 1 where that is nothing.

    Symmetric formats have the zero point 0.
    """
    scale = activation_step(low, high, number)
    if scale < _TINY:
        return np.float32(1), 0
    if number.symmetric:
        return np.float32(scale), 0
    steps = np.clip(np.rint(max(-low, 0.0) / scale), 0, number.largest - number.lowest)
    return np.float32(scale), int(number.lowest + steps)


def round_trip(values: Floats, scale: npt.ArrayLike, number: NumberFormat, zero_point: int = 0) -> Floats:
    """Values after quantisation and back, in their own precision; `scale` broadcasts against them.

    NaN stays NaN, as in the operator; it is for others to report.
    """
    step = np.asarray(scale, values.dtype)
    with np.errstate(invalid="ignore", over="ignore"):
        steps = _steps(values, step, number, zero_point)
        steps *= step
    return steps


def codes(values: Floats, scale: npt.ArrayLike, number: NumberFormat, zero_point: npt.ArrayLike = 0) -> Floats:
    """Codes of values, as numbers in their precision; `scale` and `zero_point` broadcast against them."""
    zero = np.asarray(zero_point, values.dtype)
    with np.errstate(invalid="ignore", over="ignore"):
        return np.asarray(_steps(values, np.asarray(scale, values.dtype), number, zero) + zero, values.dtype)


def _steps(values: Floats, step: Floats, number: NumberFormat, zero_point: Floats | int) -> Floats:
    """How many steps from zero each value is stored as."""
    steps = np.asarray(values / step)
    if number.is_float:
        np.clip(steps, number.lowest, number.largest, out=steps)
        return steps.astype(number.dtype).astype(values.dtype)
    np.rint(steps, out=steps)
    np.clip(steps, number.lowest - zero_point, number.largest - zero_point, out=steps)
    return steps


def weight_round_trip(
    matrix: Float, number: NumberFormat, sharing: Sharing, tied: int = 1, scale: Float | None = None
) -> Float:
    """A weight as `[output channels, taps]` after quantisation and back: symmetric, but for blocks with a zero point.

    Args:
        matrix: the weight.
        number: format of the codes.
        sharing: which values of the matrix share a scale.
        tied: how many evenly spaced channels have one scale where there is one a channel.
        scale: what `weight_scale` gives, where `matrix` is only a part of the weight.
    """
    if sharing.block_size:
        return block_round_trip(matrix, number, sharing.block_size)
    return round_trip(matrix, weight_scale(matrix, number, sharing, tied) if scale is None else scale, number)


def weight_scale(matrix: Float, number: NumberFormat, sharing: Sharing, tied: int = 1) -> Float:
    """Scale of a weight or of each channel, broadcasting against it; arguments as of `weight_round_trip`.

    The largest magnitude of each channel, `[channels, 1]`, does for the weight.
    """
    largest = sharing.largest(matrix)
    if tied > 1 and sharing == Sharing(0):
        largest = np.tile(largest.reshape(tied, -1).max(axis=0), tied)[:, None]
    return symmetric_scale(largest, number)


def block_round_trip(matrix: Float, number: NumberFormat, block_size: int) -> Float:
    """A weight as `[output channels, taps]` after block-wise quantisation and back, as MatMulNBits holds it.

    ONNX Runtime's `quantize_matmul_4bits`, onnxruntime/core/mlas/lib/q4_dq.cpp, to the bit. A symmetric block has all
    `2^bits` codes: the value of the largest magnitude, with its sign, is the lowest of them, so that the scale may be
    negative and a value as large on the other side is clipped. Otherwise the block reaches from its smallest to its
    largest value, zero included. Values are multiplied by the reciprocal of the scale; halves go away from zero.
    """
    channels, taps = matrix.shape
    count = -(-taps // block_size)
    if count * block_size > taps:
        # Zeros behind the last value widen no block: zero is in the range of each.
        whole = np.zeros_like(matrix, shape=(channels, count * block_size))
        whole[:, :taps] = matrix
    else:
        whole = matrix
    # In the order in which the values lie in memory; the weight of a MatMul has its channels last.
    by_channel = whole.strides[1] <= whole.strides[0]
    blocks = whole.reshape(channels, count, block_size) if by_channel else whole.T.reshape(count, block_size, channels)
    axis = 2 if by_channel else 1
    # Many short rows take several times as long to go through as the same values side by side.
    beside = np.ascontiguousarray(blocks.transpose(2, 0, 1)) if by_channel else blocks.swapaxes(0, 1)
    low, high = np.expand_dims(beside.min(axis=0), axis), np.expand_dims(beside.max(axis=0), axis)
    levels, nothing = np.float32(2**number.bits), np.zeros_like(low)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        if number.symmetric:
            scale, zero = np.where(np.abs(high) > np.abs(low), high, low) / (-levels / 2), nothing + levels / 2
        else:
            low, high = np.minimum(low, 0), np.maximum(high, 0)
            scale = (high - low) / (levels - 1)
            zero = np.where(scale != 0, _half_up(np.clip(-low / scale, 0, levels - 1)), nothing)
        steps = blocks * np.where(scale != 0, 1 / scale, nothing)
        steps += zero
        _half_up(np.clip(steps, 0, levels - 1, out=steps))
        steps -= zero
        steps *= scale
    made = steps.reshape(channels, -1) if by_channel else steps.reshape(-1, channels).T
    return np.asarray(made[:, :taps], np.float32)


def _half_up(values: Float) -> Float:
    """The nearest whole numbers of values that are not negative, halves away from zero, in their place.

    Not by adding a half: to the largest number below one half that would give 1.
    """
    values += _BELOW_HALF
    return np.floor(values, out=values)


def bias_round_trip(bias: Float, scale: npt.ArrayLike) -> Float:
    """A bias after quantisation to 32 bits and back; `scale`, the product of input and weight scale, broadcasts."""
    step = np.asarray(scale, np.float32)
    steps = np.clip(np.rint(bias.astype(np.float64) / step), _BIAS_CODES.min, _BIAS_CODES.max)
    return np.asarray(steps.astype(np.float32) * step, np.float32)


def scale_for_bias(bias: Float, input_scale: float | np.float32) -> Float:
    """The smallest weight scale with which the codes of these biases fit into 32 bits, as ONNX Runtime takes it."""
    least = _BIAS_MARGIN * np.abs(bias.astype(np.float64)) / _BIAS_CODES.max
    return np.asarray(least / np.float64(input_scale), np.float32)


OVERFLOWN_DB = -150.0
"""SQNR of a tensor that is not finite where the float one is: infinitely bad, as a figure. No run gives a lower one."""


def decibel(signal: float, noise: float) -> float | None:
    """`10 log10(signal / noise)` in dB; None for a perfect match or where there is no signal."""
    if not (noise > 0 and signal > 0 and np.isfinite(signal) and np.isfinite(noise)):
        return None
    return 10 * (math.log10(signal) - math.log10(noise))


def sqnr_db(signal: float, noise: float) -> float | None:
    """`decibel`, but infinite for a perfect match; None where there is no signal, or a sum is not finite."""
    return math.inf if noise == 0 < signal else decibel(signal, noise)
