"""Which tensors a pass watches."""

from __future__ import annotations

from collections.abc import Sequence

from onnxlint_q.analysis.grid import grid
from onnxlint_q.analysis.measured import Measured
from onnxlint_q.execute.stream.reduction import Watched
from onnxlint_q.graph import QuantizedTensor, Role, channel_axis
from onnxlint_q.graph.names import ROOT


def rounded_tensors(measured: Measured) -> tuple[str, ...]:
    """In a float model the activations that would be quantised.

    In a quantised one the codes of those that are and, where the file holds it, the tensor in front of the rounding:
    codes say how they are used, but not what range they should have had. That tensor is what the quantised model has
    there, computed from values that were rounded and clipped before. Of what takes its scale from each run only the
    tensor in front of the rounding, as its codes mean something else in each.
    """
    model = measured.model
    if measured.is_float:
        wanted = [place.tensor for place in measured.placements if not place.constant]
    else:
        wanted = [key for pair in _static(measured) for key in (pair.unrounded, pair.codes) if key]
        wanted += [pair.tensor for pair in measured.quantized if pair.dynamic]
    order = {value.name: -1 for value in model.inputs}
    order |= {key: node.order for node in model.nodes if node.graph == ROOT for key in node.outputs}
    return tuple(sorted({key for key in wanted if key in order}, key=lambda key: (order[key], key)))


def watched(measured: Measured, tensors: Sequence[str]) -> tuple[Watched, ...]:
    """The same tensors with their channels, the ends of their codes, and the bounds that a quantiser sets them.

    Of codes that several pairs read with other zero points the first one's counts.

    Of a tensor that several quantisers read the first one's bounds count.
    """
    codes = {q.codes: q.code_range for q in measured.quantized}
    bounds = {
        pair.unrounded: held.bounds
        for pair in reversed(_static(measured))
        if pair.unrounded and (held := grid(measured.model, pair)) is not None
    }
    zeros = {
        pair.codes: held.zero_point
        for pair in reversed(_static(measured))
        if (held := grid(measured.model, pair)) is not None
    }
    return tuple(
        Watched(
            tensor,
            channel_axis(measured.model, tensor),
            codes.get(tensor),
            bounds.get(tensor),
            zeros.get(tensor, 0),
        )
        for tensor in tensors
    )


def _static(measured: Measured) -> list[QuantizedTensor]:
    """The activations whose qparams stand in the file."""
    return [pair for pair in measured.quantized if pair.role is Role.ACTIVATION and not pair.dynamic]
