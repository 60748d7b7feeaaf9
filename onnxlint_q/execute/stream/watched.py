"""Which tensors a pass watches, and where their channels are."""

from __future__ import annotations

from collections.abc import Sequence

from onnxlint_q.analysis.measured import Measured
from onnxlint_q.execute.stream.reduction import Watched
from onnxlint_q.graph import Model, Role
from onnxlint_q.graph.names import ROOT

# Their results have the channels behind the batch, or last, and so has what is computed from them value by value.
_CHANNELS_SECOND = frozenset(
    {"Conv", "ConvTranspose", "BatchNormalization", "InstanceNormalization", "MaxPool", "AveragePool"}
    | {"GlobalAveragePool", "GlobalMaxPool", "Resize", "Upsample", "QLinearConv", "QLinearGlobalAveragePool"}
)
_CHANNELS_LAST = frozenset({"MatMul", "Gemm", "LayerNormalization", "MatMulInteger", "QLinearMatMul", "QGemm"})
_MAX_STEPS = 16


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
    for _ in range(_MAX_STEPS):
        node = model.producer(tensor)
        if node is None or node.op_type in _CHANNELS_SECOND:
            break
        if node.op_type in _CHANNELS_LAST:
            return last
        before = next((key for key in node.inputs if key and model.shape(key) == shape), None)
        if before is None:
            break
        tensor = before
    return 1 if last != 2 or (node is not None and node.op_type in _CHANNELS_SECOND) else last
