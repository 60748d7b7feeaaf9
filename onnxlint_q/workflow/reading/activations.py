"""What a run saw of each tensor, with the scale and zero point that it has or would get."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, TypeAlias

from onnxlint_q.analysis.grid import Grid, grid
from onnxlint_q.analysis.measured import Measured
from onnxlint_q.analysis.observed.observations import Observations, TensorObservation
from onnxlint_q.analysis.schemes import INT8_PER_TENSOR
from onnxlint_q.graph import Model, Role
from onnxlint_q.graph.node import Value
from onnxlint_q.workflow.reading.values import ActivationRow

if TYPE_CHECKING:
    from onnxlint_q.execute.variants.rounding import ActivationScale

Scales: TypeAlias = "Mapping[str, ActivationScale]"


def activation_rows(
    measured: Measured, observations: Observations | None, scales: Scales | None = None
) -> tuple[ActivationRow, ...]:
    """A row for each tensor that was seen, in data order; none without a run.

    Args:
        measured: the file.
        observations: what a run saw.
        scales: of a float file, what a quantiser would give its tensors.
    """
    return tuple(_rows(measured, observations, scales or {})) if observations is not None else ()


def _rows(measured: Measured, observations: Observations, scales: Scales) -> Iterator[ActivationRow]:
    model = measured.model
    static = [pair for pair in measured.quantized if pair.role is Role.ACTIVATION and not pair.dynamic]
    grids = {
        key: held for pair in reversed(static) if (held := grid(model, pair)) for key in (pair.unrounded, pair.codes)
    }
    # Codes are told where the file holds nothing from before their rounding.
    in_float = {pair.codes for pair in static if pair.unrounded in observations.tensors}
    codes = {pair.codes for pair in static} - in_float
    for tensor, seen in observations.tensors.items():
        if tensor in in_float:
            continue
        held = grids.get(tensor)
        if tensor in codes:
            if held is not None:
                yield _decoded(model, tensor, seen, held)
        elif held is not None:
            yield _row(model, tensor, seen, held.scale, held.zero_point, held.number.name)
        elif (made := scales.get(tensor)) is not None:
            yield _row(model, tensor, seen, float(made.scale), made.zero_point, made.number.name)
        else:
            yield _row(model, tensor, seen, None, None, "")


def _row(
    model: Model, tensor: str, seen: TensorObservation, scale: float | None, zero_point: int | None, dtype: str
) -> ActivationRow:
    node = model.producer(tensor)
    return ActivationRow(
        tensor=tensor,
        shape=shape_text(model, tensor),
        node=node.name if node is not None else "",
        op_type=node.op_type if node is not None else "",
        low=seen.low,
        high=seen.high,
        mean=seen.mean,
        std=seen.deviation,
        zeros=seen.zeros,
        outlier_ratio=seen.outlier_ratio,
        scale=scale,
        zero_point=zero_point,
        dtype=dtype,
    )


def _decoded(model: Model, tensor: str, seen: TensorObservation, held: Grid) -> ActivationRow:
    """The real values that codes stand for."""
    node = model.producer(tensor)
    low, high = (held.scale * (code - held.zero_point) for code in (seen.low, seen.high))
    std = held.scale * seen.deviation
    return ActivationRow(
        tensor=tensor,
        shape=shape_text(model, tensor),
        node=node.name if node is not None else "",
        op_type=node.op_type if node is not None else "",
        low=low,
        high=high,
        mean=held.scale * (seen.mean - held.zero_point),
        std=std,
        zeros=seen.zeros,
        outlier_ratio=max(-low, high) / std if std > 0 else None,
        scale=held.scale,
        zero_point=held.zero_point,
        dtype=held.number.name,
    )


def shape_text(model: Model, tensor: str) -> str:
    """Its shape as `[1, 3, ?, ?]`, `unknown` where the file does not tell."""
    known = model.types.get(tensor)
    return Value(tensor, known).shape_text if known is not None else "unknown"


DEFAULT_SCHEME = INT8_PER_TENSOR
"""What ONNX Runtime's static quantiser makes of a network unless told otherwise."""
