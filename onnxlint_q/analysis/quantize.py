"""The arithmetic of QuantizeLinear and DequantizeLinear.

ONNX operator specification, QuantizeLinear-21: `y = saturate(round_half_even(x / scale) + zero_point)`.
Symmetric weights use the codes -(2^(b-1)-1) … 2^(b-1)-1, as ONNX Runtime's quantiser does.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from onnxlint_q.analysis.schemes import Scheme

Float = npt.NDArray[np.float32]
# Below this a float32 scale is subnormal and its reciprocal overflows; ONNX Runtime then takes the scale 1.
_TINY = np.float32(np.finfo(np.float32).tiny)


def symmetric_scale(absmax: npt.ArrayLike, bits: int) -> Float:
    """Scale that puts `absmax` on the largest code of a signed symmetric type; 1 where nothing is to be scaled."""
    scale = np.asarray(absmax, np.float32) / np.float32(2 ** (bits - 1) - 1)
    return np.where(scale < _TINY, np.float32(1), scale).astype(np.float32)


def affine_qparams(low: float, high: float, bits: int, symmetric: bool) -> tuple[np.float32, int]:
    """Scale and zero point of an unsigned type for values in `[low, high]`, widened to contain zero.

    Symmetric types put the zero point in the middle of the codes.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    top = 2**bits - 1
    if symmetric:
        scale = 2 * max(-low, high) / top
        return np.float32(scale if scale >= _TINY else 1), 2 ** (bits - 1)
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


def weight_round_trip(weight: Float, scheme: Scheme, channel_axis: int = 0, top: float | None = None) -> Float:
    """A weight after quantisation under `scheme` and back; per channel there is one scale a slice of `channel_axis`.

    `top` is the magnitude that a scale for the tensor covers where `weight` is only a part of the tensor.
    """
    if scheme.per_channel:
        others = tuple(axis for axis in range(weight.ndim) if axis != channel_axis)
        absmax = np.abs(weight).max(axis=others, keepdims=True)
    else:
        absmax = np.abs(weight).max(keepdims=True) if top is None else np.float32(top)
    return quantize_dequantize(weight, symmetric_scale(absmax, scheme.weight_bits), scheme.weight_bits)


def matrix_round_trip(matrix: Float, scheme: Scheme, sharing: int = 1, top: float | None = None) -> Float:
    """`weight_round_trip` of a weight as `[channels, taps]`, `sharing` evenly spaced channels having one scale."""
    grouped = matrix.reshape(sharing, -1, matrix.shape[1])
    return weight_round_trip(grouped, scheme, 1, top).reshape(matrix.shape)


def decibel(signal: float, noise: float) -> float | None:
    """`10 log10(signal / noise)` in dB; None for a perfect match or where there is no signal."""
    if not (noise > 0 and signal > 0 and np.isfinite(signal) and np.isfinite(noise)):
        return None
    return float(10 * np.log10(signal / noise))
