"""Which tensors a pass watches, and where their channels are."""

from __future__ import annotations

from collections.abc import Sequence

from onnxlint_q.analysis.measured import Measured
from onnxlint_q.execute.stream.reduction import Watched
from onnxlint_q.graph import Model, Node, Role, trace_back
from onnxlint_q.graph.names import ROOT
from onnxlint_q.graph.operators import Channels


def rounded_tensors(measured: Measured) -> tuple[str, ...]:
    """In a float model the activations that would be quantised, in a quantised one those that are, as codes."""
    model = measured.model
    if measured.is_float:
        wanted = [place.tensor for place in measured.placements if not place.constant]
    else:
        wanted = [q.codes for q in measured.quantized if q.role is Role.ACTIVATION and not q.dynamic]
    order = {value.name: -1 for value in model.inputs}
    order |= {key: node.order for node in model.nodes if node.graph == ROOT for key in node.outputs}
    return tuple(sorted({key for key in wanted if key in order}, key=lambda key: (order[key], key)))


def watched(measured: Measured, tensors: Sequence[str]) -> tuple[Watched, ...]:
    """The same tensors with their channels and, where they hold codes, the ends of their range."""
    codes = {q.codes: q.code_range for q in measured.quantized}
    return tuple(Watched(tensor, channel_axis(measured.model, tensor), codes.get(tensor)) for tensor in tensors)


def channel_axis(model: Model, tensor: str) -> int | None:
    """The axis of a tensor's channels, from the operators before it; None if it has none or its rank is unknown.

    Convolutions, poolings and normalisations have them on axis 1, matrix products last; value by value they stay.
    """
    shape = model.shape(tensor)
    if shape is None or len(shape) < 2:
        return None
    last = len(shape) - 1

    def through(node: Node) -> tuple[str, ...]:
        if node.operator.channels is not Channels.AS_INPUT:
            return ()
        return tuple(key for key in node.inputs if key and model.shape(key) == shape)[:1]

    (end,) = trace_back(model, tensor, through).ends
    node = model.producer(end)
    channels = node.operator.channels if node is not None else Channels.AS_INPUT
    if channels is Channels.AS_INPUT:
        return last if last == 2 else 1
    return last if channels is Channels.LAST else 1
