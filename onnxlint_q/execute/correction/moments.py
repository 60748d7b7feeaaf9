"""Second moments of what a layer reads: how its weights meet in its result."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from onnxlint_q.execute.executable import Array
from onnxlint_q.graph import Layer
from onnxlint_q.graph.operators import Product


def second_moments(layer: Layer, inputs: Iterable[Array], positions: int) -> npt.NDArray[np.float64] | None:
    """The mean of `x x'` over rows that the layer multiplies its weight by, `[groups, taps, taps]`.

    Products of different inputs are taken less far from zero, the fewer rows there are for each input: what few rows
    have in common by chance is not to be made use of. Of as many rows as inputs half of it is left.

    Args:
        layer: a Conv, Gemm or MatMul.
        inputs: what it reads, sample by sample; only one is looked at at a time.
        positions: rows of each sample that count, at most; which ones is left to chance, always the same.

    Returns:
        None where the values are not finite, or do not fit the weight.
    """
    total, count = np.zeros((1, 1, 1)), 0
    for number, value in enumerate(inputs):
        rows = _rows(layer, value, positions, np.random.default_rng(number))
        if rows is None:
            return None
        with np.errstate(all="ignore"):
            total = total + np.matmul(rows.transpose(0, 2, 1), rows)
        count += rows.shape[1]
    if not count or not np.isfinite(total).all():
        return None
    taps = total.shape[-1]
    return np.asarray(np.where(np.eye(taps, dtype=bool), 1, count / (count + taps)) * total / count)


def _rows(layer: Layer, value: Array, positions: int, random: np.random.Generator) -> npt.NDArray[np.float32] | None:
    """Rows of one sample, `[groups, positions, taps]`."""
    if layer.inputs.product is Product.CONVOLUTION:
        return _patches(layer, value, positions, random)
    if layer.inputs.product is Product.GEMM and layer.node.int("transA", 0):
        value = value.T
    taps = math.prod(layer.weight_shape) // layer.channels
    if not value.ndim or value.shape[-1] != taps:
        return None
    rows = value.reshape(-1, taps)
    return np.asarray(rows[_chosen(len(rows), positions, random)], np.float32)[None]


def _patches(layer: Layer, value: Array, positions: int, random: np.random.Generator) -> npt.NDArray[np.float32] | None:
    """What the kernel of a convolution sees at some of its places; zeros where it stands over the border."""
    node, kernel = layer.node, layer.weight_shape[2:]
    rank = len(kernel)
    if value.ndim != rank + 2 or value.shape[1] != layer.weight_shape[1] * layer.group:
        return None
    strides = np.asarray(node.ints("strides") or (1,) * rank)
    dilations = np.asarray(node.ints("dilations") or (1,) * rank)
    sizes, reach = np.asarray(value.shape[2:]), (np.asarray(kernel) - 1) * dilations + 1
    begins, ends = _padding(node.text("auto_pad", "NOTSET"), node.ints("pads"), sizes, strides, reach)
    padded = np.pad(value, ((0, 0), (0, 0), *zip(begins, ends, strict=True)))
    places = (np.asarray(padded.shape[2:]) - reach) // strides + 1
    if (places < 1).any():
        return None
    chosen = _chosen(len(value) * math.prod(places.tolist()), positions, random)
    sample, *corner = np.unravel_index(chosen, (len(value), *places.tolist()))
    offsets = np.indices(kernel).reshape(rank, -1)
    at = [
        first[:, None] * stride + offset[None] * dilation
        for first, offset, stride, dilation in zip(corner, offsets, strides, dilations, strict=True)
    ]
    flat = np.ravel_multi_index(tuple(at), padded.shape[2:])
    seen = padded.reshape(*padded.shape[:2], -1)[sample[:, None], :, flat]  # [positions, kernel, channels]
    rows = seen.transpose(0, 2, 1).reshape(len(chosen), layer.group, -1).transpose(1, 0, 2)
    return np.asarray(rows, np.float32)


def _padding(
    auto: str, pads: tuple[int, ...], sizes: Array, strides: Array, reach: Array
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Zeros in front of and behind each axis, as the operator Conv puts them."""
    rank = len(sizes)
    if auto not in {"SAME_UPPER", "SAME_LOWER"}:
        given = np.asarray(pads or (0,) * (2 * rank)) * (auto == "NOTSET")
        return given[:rank], given[rank:]
    whole = np.maximum((-(-sizes // strides) - 1) * strides + reach - sizes, 0)
    small, large = whole // 2, whole - whole // 2
    return (small, large) if auto == "SAME_UPPER" else (large, small)


def _chosen(count: int, most: int, random: np.random.Generator) -> npt.NDArray[np.int64]:
    return np.arange(count) if count <= most else np.sort(random.choice(count, most, replace=False))
