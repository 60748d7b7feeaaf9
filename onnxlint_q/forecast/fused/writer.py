"""Writes the nodes that one operator stands for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx

from onnxlint_q.graph import Model, Node
from onnxlint_q.graph.tensors import Array

# From these opsets on the operator exists, or takes its axes as an input.
LAYER_NORM_OPSET, _REDUCE_OPSET = 17, 18


class UnexpandedError(Exception):
    """An operator is used in a way that is not written out."""


@dataclass(slots=True, eq=False)
class Writer:
    """Writes the nodes that one operator stands for."""

    model: Model
    node: Node
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)
    products: dict[str, str] = field(default_factory=dict)

    def fresh(self) -> str:
        """A name that nothing has."""
        return f"{self.node.output}//{len(self.nodes)}.{len(self.constants)}"

    def constant(self, value: Any) -> str:
        """A constant; a float becomes float32, anything whole int64."""
        array: Array = np.asarray(value)
        array = array.astype(np.float32 if array.dtype.kind == "f" else np.int64)
        name = self.fresh()
        self.constants.append(onnx.numpy_helper.from_array(array, name))
        return name

    def op(self, op_type: str, *inputs: str, called: str = "", **attributes: Any) -> str:
        """A node of the default domain; gives the name of its result."""
        result = called or self.fresh()
        self.nodes.append(onnx.helper.make_node(op_type, inputs, [result], **attributes))
        return result

    def result(self, value: str, slot: int = 0) -> None:
        """Give a result of the operator its name; nothing if it is not asked for."""
        if slot < len(self.node.outputs) and self.node.outputs[slot]:
            self.op("Identity", value, called=self.node.outputs[slot])

    def has(self, slot: int) -> bool:
        """Whether an input is there."""
        return bool(self.node.input(slot))

    def reshape(self, value: str, *shape: int) -> str:
        """Reshape, 0 for a length that stays and -1 for the rest."""
        return self.op("Reshape", value, self.constant(shape))

    def part(self, value: str, start: int, end: int, axis: int = -1, step: int = 1) -> str:
        """A range along an axis."""
        bounds = (self.constant([bound]) for bound in (start, end, axis, step))
        return self.op("Slice", value, *bounds)

    def length(self, value: str, axis: int) -> str:
        """The length of an axis, as a list of one."""
        return self.op("Gather", self.op("Shape", value), self.constant([axis]))

    def places(self, value: str, axis: int) -> str:
        """0, 1, 2 … along an axis."""
        end = self.op("Reshape", self.length(value, axis), self.constant(np.zeros(0, np.int64)))
        return self.op("Range", self.constant(0), end, self.constant(1))

    def multiplied(self, value: str, slot: int) -> str:
        """The product with the weight in a slot, which the operator is a layer for."""
        product = self.op("MatMul", value, self.node.input(slot))
        self.products[self.node.output] = product
        return product

    def mean(self, value: str) -> str:
        """Over the last axis, which stays with length 1."""
        if self.model.opset >= _REDUCE_OPSET:
            return self.op("ReduceMean", value, self.constant([-1]), keepdims=1)
        return self.op("ReduceMean", value, axes=[-1], keepdims=1)

    def rms_norm(self, value: str, gain: str, epsilon: float) -> str:
        """Over its root mean square."""
        size = self.op("Sqrt", self.op("Add", self.mean(self.op("Mul", value, value)), self.constant(epsilon)))
        unit = self.op("Div", value, size)
        return self.op("Mul", unit, gain) if gain else unit

    def layer_norm(self, value: str, gain: str, shift: str, epsilon: float) -> str:
        """Less its mean, over its deviation."""
        if self.model.opset >= LAYER_NORM_OPSET:
            inputs = [value, gain, shift] if shift else [value, gain]
            return self.op("LayerNormalization", *inputs, epsilon=epsilon)
        scaled = self.rms_norm(self.op("Sub", value, self.mean(value)), gain, epsilon)
        return self.op("Add", scaled, shift) if shift else scaled

    def width(self, key: str) -> int:
        """Length of the last axis, 0 where it is not known."""
        shape = self.model.shape(key)
        return (shape[-1] or 0) if shape else 0


Rule = Callable[[Writer], None]
"""Writes an operator out, or raises UnexpandedError."""
