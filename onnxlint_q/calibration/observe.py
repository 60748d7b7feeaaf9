"""One streaming pass over the samples, statistics reduced inside the graph.

For each tensor the graph itself computes minimum, maximum, mean and sum of squares, and draws a fixed number of
values at seeded random positions, from which quantiles are estimated. What leaves the session per sample is a few
numbers a tensor, so memory does not grow with the samples.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from onnxlint_q.analysis.observations import Observations, TensorObservation
from onnxlint_q.analysis.placement import quantized_activations
from onnxlint_q.calibration.data import Source
from onnxlint_q.calibration.executable import PREFIX, Executable, as_stored
from onnxlint_q.calibration.progress import Progress, silent
from onnxlint_q.calibration.session import Session
from onnxlint_q.errors import DataError
from onnxlint_q.facts import Facts
from onnxlint_q.graph import Role
from onnxlint_q.graph.names import ROOT

Array = npt.NDArray[Any]
# Values kept of each tensor over the whole pass: enough for the 99.9th percentile, 128 KB a tensor.
DRAWN_VALUES = 32_768
_SEED = 0
_FIELDS = ("low", "high", "mean", "square", "size", "drawn")


def observe(facts: Facts, source: Source, count: int = 32, progress: Progress = silent) -> Observations:
    """Run `count` samples through the model as the file has it and collect what its tensors hold.

    Raises:
        NotRunnableError: ONNX Runtime cannot load or run the model.
        DataError: the data does not fit the model or there is none.
    """
    inputs = facts.model.inputs
    available = source.available(inputs)
    planned = count if available is None else min(count, available)
    tensors = observed_tensors(facts)
    draw = max(64, DRAWN_VALUES // max(planned, 1))
    session = Session(instrument(facts, tensors, draw))
    # Even where there is nothing to watch the model is run: whether it runs is worth knowing.
    outputs = [f"{PREFIX}{field}" for field in _FIELDS] if tensors else None
    collected = _Collector(len(tensors))
    for sample in source.take(inputs, count):
        values = session.run(sample, outputs)
        collected.add(*(values if outputs else [np.empty(0)] * len(_FIELDS)))
        progress("calibrating", collected.samples, planned)
    if not collected.samples:
        raise DataError(f"{source.name}: holds no samples; give at least one")
    found, non_finite = collected.result(tensors)
    return Observations(source.name, source.synthetic, collected.samples, available, found, non_finite)


def observed_tensors(facts: Facts) -> tuple[str, ...]:
    """The tensors worth watching.

    In a float model what would be quantised, and what layers and their normalisations give; in a quantised model the
    codes.
    """
    model = facts.model
    if facts.is_float:
        folded = [layer.folded for layer in facts.layers]
        placed = (place.tensor for place in quantized_activations(model, folded) if not place.constant)
        results = (key for layer in folded for key in (layer.layer.output, layer.output))
        wanted = [*placed, *results]
    else:
        wanted = [q.codes for q in facts.quantized if q.role is Role.ACTIVATION and not q.dynamic]
    defined = {node.outputs[i] for node in model.nodes if node.graph == ROOT for i in range(len(node.outputs))}
    defined |= {value.name for value in model.inputs}
    return tuple(dict.fromkeys(key for key in wanted if key in defined))


def instrument(facts: Facts, tensors: Sequence[str], draw: int) -> Executable:
    """The model as stored, with the statistics of `tensors` as further outputs."""
    executable = as_stored(facts.model)
    graph = executable.proto.graph
    positions = np.random.default_rng(_SEED).random(draw)
    graph.initializer.append(onnx.numpy_helper.from_array(positions, f"{PREFIX}positions"))
    graph.initializer.append(onnx.numpy_helper.from_array(np.asarray([-1], np.int64), f"{PREFIX}flat"))
    for number, tensor in enumerate(tensors):
        known = facts.model.types.get(tensor)
        graph.node.extend(_statistics(tensor, number, known.elem_type if known else 0))
    # One output a statistic, not one a tensor: loading takes ONNX Runtime time in nodes times outputs.
    for field in _FIELDS if tensors else ():
        parts = [f"{PREFIX}{field}{number}" for number in range(len(tensors))]
        graph.node.append(helper.make_node("Concat", parts, [f"{PREFIX}{field}"], axis=0))
        graph.output.append(helper.make_empty_tensor_value_info(f"{PREFIX}{field}"))
    return executable


def _statistics(tensor: str, number: int, elem_type: int) -> Iterable[onnx.NodeProto]:
    """Nodes that reduce one tensor; operators of opset 7 and up, whose meaning never changed."""

    def name(what: str) -> str:
        return f"{PREFIX}{what}{number}"

    values = tensor
    if elem_type != onnx.TensorProto.FLOAT:
        values = name("float")
        yield helper.make_node("Cast", [tensor], [values], to=onnx.TensorProto.FLOAT)
    yield helper.make_node("Reshape", [values, f"{PREFIX}flat"], [name("vector")])
    for operator, field in (("Min", "low"), ("Max", "high"), ("Mean", "mean"), ("SumSquare", "square")):
        yield helper.make_node(f"Reduce{operator}", [name("vector")], [name(field)], keepdims=1)
    yield helper.make_node("Shape", [name("vector")], [name("size")])
    yield helper.make_node("Cast", [name("size")], [name("extent")], to=onnx.TensorProto.DOUBLE)
    yield helper.make_node("Mul", [name("extent"), f"{PREFIX}positions"], [name("where")])
    # An empty tensor has no value to draw: its indices are repeated zero times, all others once.
    yield helper.make_node("Cast", [name("where")], [name("all")], to=onnx.TensorProto.INT64)
    yield helper.make_node("Cast", [name("size")], [name("any")], to=onnx.TensorProto.BOOL)
    yield helper.make_node("Cast", [name("any")], [name("times")], to=onnx.TensorProto.INT64)
    yield helper.make_node("Tile", [name("all"), name("times")], [name("index")])
    yield helper.make_node("Gather", [name("vector"), name("index")], [name("drawn")])


class _Collector:
    """Running extremes and moments of all tensors, one row a tensor."""

    def __init__(self, tensors: int) -> None:
        self.samples = 0
        self.low = np.full(tensors, np.inf)
        self.high = np.full(tensors, -np.inf)
        self.sum = np.zeros(tensors)
        self.square = np.zeros(tensors)
        self.size = np.zeros(tensors)
        self.drawn: list[list[Array]] = [[] for _ in range(tensors)]

    def add(self, low: Array, high: Array, mean: Array, square: Array, size: Array, drawn: Array) -> None:
        """One value a tensor of each statistic; `drawn` holds nothing of an empty tensor and equally much of others."""
        # np.minimum keeps a NaN, so one bad sample marks the tensor for good.
        self.low = np.minimum(self.low, low)
        self.high = np.maximum(self.high, high)
        self.sum += mean.astype(np.float64) * size
        self.square += square
        self.size += size
        filled = np.flatnonzero(size)
        for number, new in zip(filled, drawn.reshape(len(filled), -1) if len(filled) else (), strict=True):
            self.drawn[number].append(new)
        self.samples += 1

    def result(self, tensors: Sequence[str]) -> tuple[dict[str, TensorObservation], tuple[str, ...]]:
        """Observations by tensor, and the tensors that held NaN or infinity."""
        found: dict[str, TensorObservation] = {}
        bad: list[str] = []
        for number, tensor in enumerate(tensors):
            if not self.size[number]:
                continue
            if not np.isfinite((self.low[number], self.high[number], self.sum[number])).all():
                bad.append(tensor)
                continue
            size = self.size[number]
            found[tensor] = TensorObservation(
                low=float(self.low[number]),
                high=float(self.high[number]),
                mean=float(self.sum[number] / size),
                power=float(self.square[number] / size),
                drawn=np.sort(np.concatenate(self.drawn[number])),
            )
        return found, tuple(bad)
