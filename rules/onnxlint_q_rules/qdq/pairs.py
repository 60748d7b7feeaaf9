"""What several rules ask of a quantised model: what a layer reads, and what a pair can hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property

import numpy as np
import numpy.typing as npt

from onnxlint_q import (
    Facts,
    Location,
    Model,
    Node,
    QuantizedTensor,
    Role,
    Trait,
    preceded_by,
    trace_back,
    trace_forward,
)

Vector = npt.NDArray[np.float64]

_MOVES = Trait.MOVES | Trait.COPIES
# The rounding of a pair is still there behind them.
_HANDS_ON = _MOVES | Trait.RECTIFIES | Trait.QUANTIZES
# Where nothing bounds what is read, nothing but zero bounds the result.
_UNBOUNDED = _MOVES | Trait.QUANTIZES | Trait.HOMOGENEOUS | Trait.JOINS | Trait.ADDS | Trait.AVERAGES | Trait.RESAMPLES


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

    @cached_property
    def _quantized(self) -> Mapping[str, QuantizedTensor]:
        """Pairs by the tensors that they quantise and by their codes."""
        return {**self.by_codes, **self.by_tensor}

    def unique(self) -> Iterator[QuantizedTensor]:
        """One pair for each integer tensor, in data order."""
        yield from self.by_codes.values()

    def moved_from(self, pair: QuantizedTensor) -> QuantizedTensor | None:
        """The pair whose values this one only moves; None if it makes its own."""
        makers = (self.model.producer(key) for key in (pair.codes, pair.tensor))
        sources = (self.source(m.input(0)) for m in makers if m is not None and m.operator.has(_MOVES))
        return next((source for source in sources if source is not None), None)

    def free(self, tensor: str) -> bool:
        """Whether nothing bounds the values of `tensor`: they are results of layers, moved, joined or added."""
        ends = trace_back(self.model, tensor, _UNBOUNDED, self.model.constants).ends
        computed = [self.model.producer(key) for key in ends if not self.model.is_constant(key)]
        return bool(computed) and all(node is not None and _is_layer(node) for node in computed)

    def source(self, tensor: str) -> QuantizedTensor | None:
        """The pair whose rounding `tensor` carries: back through dequantisation, moves and rectifiers."""
        return self.by_codes.get(trace_back(self.model, tensor, _HANDS_ON, self.by_codes).ends[0])

    def destination(self, tensor: str) -> QuantizedTensor | None:
        """The pair that `tensor` is rounded to next: forward through moves and rectifiers."""
        end = trace_forward(self.model, tensor, _HANDS_ON, self._quantized, alone=True).ends[0]
        return self._quantized.get(end)

    def from_input(self, pair: QuantizedTensor) -> bool:
        """Whether the pair quantises an input of the model, moved at most."""
        (end,) = trace_back(self.model, pair.tensor, _MOVES).ends
        return any(value.name == end for value in self.model.inputs)


def _is_layer(node: Node) -> bool:
    return node.operator.layer is not None or node.op_type == "BatchNormalization"


def where(model: Model, pair: QuantizedTensor) -> Location:
    """The node that makes the tensor; for an input of the model the node that quantises it."""
    producer = model.producer(pair.tensor)
    if producer is None or producer.op_type == "DequantizeLinear":
        return model.locate(pair.node)
    return model.locate(producer, pair.tensor if pair.tensor in producer.outputs else None)


def dequantizer(model: Model, tensor: str) -> Node | None:
    """The DequantizeLinear that a constant operand comes from, through moves."""
    return next(preceded_by(model, tensor, "DequantizeLinear"), None)
