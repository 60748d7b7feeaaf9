"""Every scale and zero point of a quantised file, with what their codes hold."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from onnxlint_q.analysis.grid import grid
from onnxlint_q.analysis.measured import Measured
from onnxlint_q.analysis.number_formats import NumberFormat
from onnxlint_q.analysis.observed.observations import Observations, TensorObservation
from onnxlint_q.graph import Model, QuantizedTensor, Role
from onnxlint_q.graph.element_types import FLOAT8
from onnxlint_q.graph.tensors import Array, is_real
from onnxlint_q.workflow.reading.values import CodesSeen, QparamsRow

Vector = npt.NDArray[np.float64]
LISTED = 4096
"""Scales of one tensor that are listed; of more, which only blocks have, their smallest and largest still are told."""
_BITS_COUNTED = 8


def qparams_rows(measured: Measured, observations: Observations | None) -> tuple[QparamsRow, ...]:
    """A row for each pair of the file, in data order.

    Args:
        measured: the file.
        observations: what a run saw; None without.

    Raises:
        ModelError: a constant cannot be read.
    """
    return tuple(_row(measured.model, pair, observations) for pair in measured.quantized)


def _row(model: Model, pair: QuantizedTensor, observations: Observations | None) -> QparamsRow:
    scale, zero_point = _vector(pair.read_scale(model)), _vector(pair.read_zero_point(model))
    if scale is not None and zero_point is None and not pair.zero_point:
        zero_point = np.zeros_like(scale)
    if zero_point is not None and not np.isfinite(zero_point).all():
        zero_point = None
    low, high = _representable(scale, zero_point, _ends(pair))
    many = scale is not None and scale.size > 1
    return QparamsRow(
        tensor=stored_name(model, pair),
        codes=pair.codes,
        kind=pair.role.value,
        node=pair.node.name,
        op_type=pair.node.op_type,
        dtype=pair.type_name,
        scale=() if scale is None else tuple(scale[:LISTED].tolist()),
        zero_point=() if zero_point is None else tuple(round(zero) for zero in zero_point[:LISTED].tolist()),
        scales=0 if scale is None else scale.size,
        axis=pair.axis if many else None,
        block_size=pair.block_size or None,
        smallest_scale=float(scale.min()) if scale is not None and scale.size else None,
        largest_scale=float(scale.max()) if scale is not None and scale.size else None,
        low=low,
        high=high,
        observed=_seen(model, pair, scale, zero_point, observations),
    )


def stored_name(model: Model, pair: QuantizedTensor) -> str:
    """What the file calls the tensor: of a constant, the name of what is stored."""
    return pair.codes if model.constants.initializer(pair.codes) is not None else pair.tensor


def _vector(values: Array | None) -> Vector | None:
    return None if values is None else np.ravel(values).astype(np.float64)


def _ends(pair: QuantizedTensor) -> tuple[float, float] | None:
    """Smallest and largest code; None where codes are no numbers."""
    if pair.elem_type in FLOAT8:
        number = NumberFormat(pair.elem_type, symmetric=False)
        return number.lowest, number.largest
    return pair.code_range


def _representable(
    scale: Vector | None, zero_point: Vector | None, ends: tuple[float, float] | None
) -> tuple[float | None, float | None]:
    """Ends of the widest range; None where they are not known, or parameters do not fit each other."""
    if scale is None or zero_point is None or ends is None or not scale.size:
        return None, None
    if zero_point.size not in {1, scale.size}:
        return None, None
    with np.errstate(all="ignore"):  # parameters that are no numbers are for a rule to report
        return (
            float(np.min(scale * (ends[0] - zero_point))),
            float(np.max(scale * (ends[1] - zero_point))),
        )


def _seen(
    model: Model,
    pair: QuantizedTensor,
    scale: Vector | None,
    zero_point: Vector | None,
    observations: Observations | None,
) -> CodesSeen | None:
    if pair.role is not Role.ACTIVATION:
        return _stored(model, pair, scale, zero_point)
    if observations is None:
        return None
    codes, real, held = observations.tensors.get(pair.codes), observations.tensors.get(pair.unrounded), None
    if codes is not None:
        held = grid(model, pair)
    if codes is None or held is None:
        return None
    return CodesSeen(
        low=real.low if real is not None else held.scale * (codes.low - held.zero_point),
        high=real.high if real is not None else held.scale * (codes.high - held.zero_point),
        codes=_different(codes, held.number),
        clipped=sum(real.ends) if real is not None and real.ends is not None else None,
        at_lowest=codes.ends[0] if codes.ends is not None else None,
        at_highest=codes.ends[1] if codes.ends is not None else None,
    )


def _different(codes: TensorObservation, number: NumberFormat) -> int | None:
    """How many codes occur: of 8 bits and fewer each has a bin of its own."""
    return int(codes.histogram.bins.size) if number.bits <= _BITS_COUNTED else None


def _stored(model: Model, pair: QuantizedTensor, scale: Vector | None, zero_point: Vector | None) -> CodesSeen | None:
    """Of codes that stand in the file."""
    held, ends = pair.read_codes(model), pair.code_range
    if held is None or ends is None or not held.size or not is_real(held):
        return None
    least, most = int(held.min()), int(held.max())
    few = ends[1] - ends[0] < 1 << _BITS_COUNTED
    real = [step * (code - zero) for code, step, zero in _extremes(held, pair, scale, zero_point)]
    if not real:
        return None
    return CodesSeen(
        low=min(real),
        high=max(real),
        codes=_count(held, least, most) if few else None,
        clipped=None,
        at_lowest=float(np.count_nonzero(held == ends[0]) / held.size),
        at_highest=float(np.count_nonzero(held == ends[1]) / held.size),
    )


def _count(held: Array, least: int, most: int) -> int:
    """How many different whole numbers occur."""
    return int(np.count_nonzero(np.bincount(held.astype(np.int16).ravel() - least, minlength=most - least + 1)))


def _extremes(
    held: Array, pair: QuantizedTensor, scale: Vector | None, zero_point: Vector | None
) -> Iterator[tuple[float, float, float]]:
    """Smallest and largest code of each scale, with that scale and its zero point; nothing where they do not fit."""
    if scale is None or zero_point is None or not scale.size or zero_point.size not in {1, scale.size}:
        return
    if pair.block_size < 0:
        return
    zeros = np.broadcast_to(zero_point, scale.shape)
    if scale.size == 1:
        groups = held.reshape(1, -1)
    elif pair.block_size and -held.ndim <= pair.axis < held.ndim:
        groups = _blocks(held, pair.axis % held.ndim, pair.block_size)
    elif -held.ndim <= pair.axis < held.ndim and held.shape[pair.axis] == scale.size:
        groups = np.moveaxis(held, pair.axis, 0).reshape(scale.size, -1)
    else:
        return
    if len(groups) != scale.size:
        return
    for end in (groups.min(axis=1), groups.max(axis=1)):
        yield from zip(end.astype(np.float64).tolist(), scale.tolist(), zeros.tolist(), strict=True)


def _blocks(held: Array, axis: int, size: int) -> Array:
    """`[scale, value]`: each run of `size` values along an axis, in the order of their scales.

    The last run of each line may be shorter; it repeats its last value, which changes no extreme.
    """
    size = min(size, held.shape[axis]) or 1
    short = -held.shape[axis] % size
    widths = [(0, short if one == axis else 0) for one in range(held.ndim)]
    padded = np.pad(held, widths, mode="edge")
    shape = padded.shape
    split = padded.reshape(*shape[:axis], shape[axis] // size, size, *shape[axis + 1 :])
    return np.moveaxis(split, axis + 1, -1).reshape(-1, size)
