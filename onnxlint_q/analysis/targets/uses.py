"""Every quantised operand of every operator of a file, with what decides on how a runtime computes it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from onnxlint_q.graph import Layer, Model, Node, QuantizedTensor, Role, Trait
from onnxlint_q.graph.tensors import Array

# Kernels absorb it, so that the rounding behind it is the operator's.
_ABSORBED = Trait.RECTIFIES


@dataclass(frozen=True, slots=True, eq=False)
class Use:
    """One quantised operand of one operator.

    Attributes:
        node: the operator.
        operand: activation, weight, bias, constant or result.
        pair: its scale and zero point.
        coded: the operator itself takes codes, as QLinearConv does; else it stands between pairs.
        axis: along which its scales run, counted from the front of the operand; None for one scale.
        channel_axis: along which a weight's scales should run; None where it is no weight of a layer.
        beside: the pair of the other factor: of the weight for an activation, and the other way round.
        result: the pair that rounds the operator's result; None where that stays float.
    """

    node: Node
    operand: str
    pair: QuantizedTensor
    coded: bool
    axis: int | None = None
    channel_axis: int | None = None
    beside: QuantizedTensor | None = None
    result: QuantizedTensor | None = None

    def scales(self, model: Model) -> int:
        """How many scales it has; 0 where that is not known."""
        return count(model, self.pair.scale)

    def zero_points(self, model: Model) -> Array | None:
        """Its zero points; None where there is none, or none is known."""
        return self.pair.read_zero_point(model)


def find_uses(model: Model, quantized: Sequence[QuantizedTensor], layers: Iterable[Layer]) -> tuple[Use, ...]:
    """All of them, in data order."""
    return tuple(_Uses(model, quantized, layers).all())


class _Uses:
    def __init__(self, model: Model, quantized: Sequence[QuantizedTensor], layers: Iterable[Layer]) -> None:
        self.model = model
        self.layers = {layer.node: layer for layer in layers}
        # A pair whose two halves have the same parameters is listed once, with the first of them.
        self.by_parameters = {(pair.codes, pair.scale, pair.zero_point): pair for pair in quantized}
        self.by_rounded = {pair.tensor: pair for pair in reversed(quantized) if pair.node.op_type == "QuantizeLinear"}
        self.by_codes = {pair.codes: pair for pair in reversed(quantized)}
        self.by_node: dict[Node, list[QuantizedTensor]] = {}
        for pair in quantized:
            self.by_node.setdefault(pair.node, []).append(pair)

    def all(self) -> Iterator[Use]:
        for node in self.model.nodes:
            if node.operator.has(Trait.QUANTIZES):
                for pair in self.by_node.get(node, ()):
                    yield Use(node, pair.role.value, pair, True, self._axis(pair))
            elif node in self.by_node:
                yield from self._coded(node)
            else:
                yield from self._between_pairs(node)

    def _coded(self, node: Node) -> Iterator[Use]:
        """An operator that takes codes."""
        pairs = self.by_node[node]
        result = next((pair for pair in pairs if pair.codes in node.outputs), None)
        factors = [pair for pair in pairs if pair is not result]
        # An integer product carries the parameters of its weight alone.
        read = [self.by_codes[key] for key in node.inputs if key in self.by_codes]
        for pair in pairs:
            beside = next(
                (other for other in (*factors, *read) if other is not pair and other.codes != pair.codes), None
            )
            operand = "result" if pair is result else pair.role.value
            yield Use(node, operand, pair, True, self._axis(pair), None, beside, result)

    def _between_pairs(self, node: Node) -> Iterator[Use]:
        """An operator that reads dequantised values."""
        read = [(key, found) for key in node.inputs if (found := self._dequantised(key)) is not None]
        layer = self.layers.get(node)
        factors = [(key, pair) for key, (pair, _) in read if pair.role is not Role.BIAS]
        result = self._rounded(node)
        for key, (pair, axis) in read:
            beside = next((other for place, other in factors if place != key), None)
            outputs = layer.channel_axis if layer is not None and layer.is_product and key == layer.weight else None
            yield Use(node, pair.role.value, pair, False, axis, outputs, beside, result)
        if result is not None and read:
            yield Use(node, "result", result, False, self._axis(result), None, None, result)

    def _dequantised(self, key: str) -> tuple[QuantizedTensor, int | None] | None:
        """The pair whose values an operand is, transposed maybe, and the operand's axis that its scales run along."""
        producer = self.model.producer(key)
        if producer is None or producer.op_type not in {"DequantizeLinear", "Transpose"}:
            return None
        if producer.op_type == "DequantizeLinear":
            pair = self.by_parameters.get((producer.input(0), producer.input(1), producer.input(2)))
            return None if pair is None else (pair, self._axis(pair))
        moved = self.model.producer(producer.input(0))
        found = self._dequantised(producer.input(0)) if moved is not None and moved.op_type != "Transpose" else None
        if found is None:
            return None
        pair, axis = found
        order = producer.ints("perm") or tuple(reversed(range(len(self.model.shape(producer.input(0)) or ()))))
        return pair, order.index(axis) if axis is not None and axis in order else None

    def _rounded(self, node: Node) -> QuantizedTensor | None:
        """The pair that rounds its result, behind an activation that a kernel absorbs."""
        last = node
        for _ in range(2):
            pair, reader = self.by_rounded.get(last.output), self.model.sole_consumer(last.output)
            if pair is not None or reader is None or not reader.operator.has(_ABSORBED):
                return pair
            last = reader
        return self.by_rounded.get(last.output)

    def _axis(self, pair: QuantizedTensor) -> int | None:
        shape = self.model.shape(pair.codes) or self.model.shape(pair.tensor)
        if count(self.model, pair.scale) < 2 or shape is None:
            return None
        return pair.axis + len(shape) if pair.axis < 0 else pair.axis


def count(model: Model, key: str) -> int:
    """How many values a parameter has; 0 where that is not known."""
    stored = model.constants.initializer(key) if key else None
    if stored is not None:
        return int(np.prod(stored.dims))
    shape = model.shape(key) if key else None
    return 0 if shape is None or None in shape else int(np.prod([dim or 0 for dim in shape]))
