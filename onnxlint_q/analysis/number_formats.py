"""The arithmetic of QuantizeLinear and DequantizeLinear.

ONNX operator specification, QuantizeLinear-21: `y = saturate(round_half_even(x / scale) + zero_point)`.
Symmetric weights use the codes -(2^(b-1)-1) … 2^(b-1)-1, as ONNX Runtime's quantiser does.
"""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import numpy.typing as npt

from onnxlint_q.analysis.schemes import FLOAT8_MAX, Number, Scheme

Float = npt.NDArray[np.float32]
# Below this a float32 scale is subnormal and its reciprocal overflows; ONNX Runtime then takes the scale 1.
_TINY = np.float32(np.finfo(np.float32).tiny)


def symmetric_scale(absmax: npt.ArrayLike, bits: int) -> Float:
    """Scale that puts `absmax` on the largest code of a signed symmetric type; 1 where nothing is to be scaled."""
    return _scale(absmax, 2 ** (bits - 1) - 1)


def _scale(absmax: npt.ArrayLike, largest: float) -> Float:
    scale = np.asarray(absmax, np.float32) / np.float32(largest)
    return np.where(scale < _TINY, np.float32(1), scale).astype(np.float32)


def activation_qparams(low: float, high: float, number: Number) -> tuple[np.float32, int]:
    """Scale and zero point for values in `[low, high]`, widened to contain zero; scale 1 where that is nothing.

    Symmetric formats take the scale that puts the largest magnitude on their largest value, and the zero point 0.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    if number in {Number.INT8, Number.FLOAT8}:
        scale = max(-low, high) / (FLOAT8_MAX if number is Number.FLOAT8 else 127)
        return np.float32(scale if scale >= _TINY else 1), 0
    top = 2**16 - 1 if number is Number.UINT16 else 2**8 - 1
    scale = (high - low) / top
    if scale < _TINY:
        return np.float32(1), 0
    return np.float32(scale), int(np.clip(np.rint(-low / scale), 0, top))


def quantize_dequantize(values: Float, scale: npt.ArrayLike, bits: int) -> Float:
    """Signed symmetric round trip of `values`; `scale` broadcasts against them."""
    limit = np.float32(2 ** (bits - 1) - 1)
    scale = np.asarray(scale, np.float32)
    # NaN stays NaN, as in the operator; it is for others to report.
    with np.errstate(invalid="ignore", over="ignore"):
        codes: Float = np.rint(values / scale)
        np.clip(codes, -limit, limit, out=codes)
        codes *= scale
    return codes


def float8_round_trip(values: Float, scale: npt.ArrayLike) -> Float:
    """Round trip of `values` through float8 e4m3fn, round half to even, saturating; `scale` broadcasts."""
    scale = np.asarray(scale, np.float32)
    with np.errstate(invalid="ignore", over="ignore"):
        codes = np.clip(values / scale, -FLOAT8_MAX, FLOAT8_MAX).astype(ml_dtypes.float8_e4m3fn)
        return np.asarray(codes.astype(np.float32) * scale, np.float32)


def weight_round_trip(weight: Float, scheme: Scheme, channel_axis: int = 0, top: float | None = None) -> Float:
    """A weight after quantisation under `scheme` and back; per channel there is one scale a slice of `channel_axis`.

    `top` is the magnitude that a scale for the tensor covers where `weight` is only a part of the tensor.
    """
    if scheme.per_channel:
        others = tuple(axis for axis in range(weight.ndim) if axis != channel_axis)
        absmax = np.abs(weight).max(axis=others, keepdims=True)
    else:
        absmax = np.abs(weight).max(keepdims=True) if top is None else np.float32(top)
    if scheme.weights is Number.FLOAT8:
        return float8_round_trip(weight, _scale(absmax, FLOAT8_MAX))
    return quantize_dequantize(weight, symmetric_scale(absmax, scheme.weight_bits), scheme.weight_bits)


def matrix_round_trip(matrix: Float, scheme: Scheme, sharing: int = 1, top: float | None = None) -> Float:
    """`weight_round_trip` of a weight as `[channels, taps]`, `sharing` evenly spaced channels having one scale."""
    grouped = matrix.reshape(sharing, -1, matrix.shape[1])
    return weight_round_trip(grouped, scheme, 1, top).reshape(matrix.shape)


def decibel(signal: float, noise: float) -> float | None:
    """`10 log10(signal / noise)` in dB; None for a perfect match or where there is no signal."""
    if not (noise > 0 and signal > 0 and np.isfinite(signal) and np.isfinite(noise)):
        return None
    return 10 * (math.log10(signal) - math.log10(noise))


def sqnr_db(signal: float, noise: float) -> float | None:
    """`decibel`, but infinite for a perfect match; None where there is no signal, or a sum is not finite."""
    return math.inf if noise == 0 < signal else decibel(signal, noise)
