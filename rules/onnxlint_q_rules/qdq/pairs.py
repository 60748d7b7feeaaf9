"""What several rules ask of a quantised model: what a layer reads, and what a pair can hold."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import numpy as np
import numpy.typing as npt

from onnxlint_q.finding import Location
from onnxlint_q.graph import Model, Node, QuantizedTensor
from onnxlint_q.graph.qparams import Role
from onnxlint_q.judge.facts import Facts

Vector = npt.NDArray[np.float64]

_MOVES = frozenset(
    {"Identity", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "MaxPool", "Pad", "Slice"}
    | {"DepthToSpace", "SpaceToDepth"}
)
_RECTIFIERS = frozenset({"Relu", "Clip", "LeakyRelu", "PRelu", "HardSwish"})
_LAYERS = frozenset(
    {"Conv", "ConvTranspose", "Gemm", "MatMul", "BatchNormalization", "QLinearConv", "QLinearMatMul", "QGemm"}
)
_JOINS = frozenset({"Add", "Sub", "Concat"})
_CARRIERS = _MOVES | {"QuantizeLinear", "DequantizeLinear", "Relu", "AveragePool", "GlobalAveragePool", "Resize"}
_MAX_STEPS = 16


class Pairs:
    """The activation pairs of a model, and the way from a layer to them."""

    def __init__(self, facts: Facts) -> None:
        self.model = facts.model
        self.activations = tuple(pair for pair in facts.quantized if pair.role is Role.ACTIVATION)

    @cached_property
    def by_codes(self) -> dict[str, QuantizedTensor]:
        """The first pair of each integer tensor: the one that writes it, where the file holds that."""
        found: dict[str, QuantizedTensor] = {}
        for pair in self.activations:
            found.setdefault(pair.codes, pair)
        return found

    @cached_property
    def by_tensor(self) -> dict[str, QuantizedTensor]:
        """Pairs by the real-valued tensor that they quantise."""
        return {pair.tensor: pair for pair in reversed(self.activations)}

    def unique(self) -> Iterator[QuantizedTensor]:
        """One pair for each integer tensor, in data order."""
        yield from self.by_codes.values()

    def moved_from(self, pair: QuantizedTensor) -> QuantizedTensor | None:
        """The pair whose values this one only moves; None if it makes its own."""
        makers = (self.model.producer(key) for key in (pair.codes, pair.tensor))
        sources = (self.source(m.input(0)) for m in makers if m is not None and m.op_type in _MOVES)
        return next((source for source in sources if source is not None), None)

    def free(self, tensor: str, depth: int = 0) -> bool:
        """Whether nothing bounds the values of `tensor`: they are results of layers, moved, joined or added."""
        node = self.model.producer(tensor)
        if node is None or depth > _MAX_STEPS:
            return False
        if node.op_type in _LAYERS:
            return True
        if node.op_type in _JOINS:
            return all(self.free(key, depth + 1) for key in node.inputs if not self.model.is_constant(key))
        return node.op_type in _CARRIERS and self.free(node.input(0), depth + 1)

    def source(self, tensor: str) -> QuantizedTensor | None:
        """The pair whose rounding `tensor` carries: back through dequantisation, moves and rectifiers."""
        for _ in range(_MAX_STEPS):
            if tensor in self.by_codes:
                return self.by_codes[tensor]
            node = self.model.producer(tensor)
            if node is None or node.op_type not in _MOVES | _RECTIFIERS | {"DequantizeLinear"}:
                return None
            tensor = node.input(0)
        return None

    def destination(self, tensor: str) -> QuantizedTensor | None:
        """The pair that `tensor` is rounded to next: forward through moves and rectifiers."""
        for _ in range(_MAX_STEPS):
            found = self.by_tensor.get(tensor) or self.by_codes.get(tensor)
            if found is not None:
                return found
            node = self.model.sole_consumer(tensor)
            if node is None or node.op_type not in _MOVES | _RECTIFIERS or node.input(0) != tensor:
                return None
            tensor = node.output
        return None

    def from_input(self, pair: QuantizedTensor) -> bool:
        """Whether the pair quantises an input of the model, moved at most."""
        names, tensor = {value.name for value in self.model.inputs}, pair.tensor
        for _ in range(_MAX_STEPS):
            if tensor in names:
                return True
            node = self.model.producer(tensor)
            if node is None or node.op_type not in _MOVES:
                return False
            tensor = node.input(0)
        return False


def where(model: Model, pair: QuantizedTensor) -> Location:
    """The node that makes the tensor; for an input of the model the node that quantises it."""
    producer = model.producer(pair.tensor)
    if producer is None or producer.op_type == "DequantizeLinear":
        return model.locate(pair.node)
    return model.locate(producer, pair.tensor if pair.tensor in producer.outputs else None)


def dequantizer(model: Model, tensor: str) -> Node | None:
    """The DequantizeLinear that a constant operand comes from, through moves."""
    for _ in range(_MAX_STEPS):
        node = model.producer(tensor)
        if node is None or node.op_type == "DequantizeLinear":
            return node
        if node.op_type not in _MOVES:
            return None
        tensor = node.input(0)
    return None
