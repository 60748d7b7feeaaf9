"""Packed weights of a model: their layouts and parameters, and what their operators demand."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx

from onnxlint_q.graph.codes.definition import Demand, Known, demands
from onnxlint_q.graph.codes.layouts import Layout, layout_of
from onnxlint_q.graph.model import Model
from onnxlint_q.graph.node import Node, TensorType
from onnxlint_q.graph.operators import MICROSOFT
from onnxlint_q.graph.tensors import Array

# The scale and the zero point of packed weights that belong to no layer.
_PARAMETERS = {"GatherBlockQuantized": ((0, 2, 3),)}


@dataclass(frozen=True, slots=True)
class Packed:
    """A packed weight, with the keys of its parameters."""

    codes: str
    scale: str
    zero_point: str
    layout: Layout

    def read_codes(self, model: Model) -> Array | None:
        """The codes, unpacked."""
        stored = model.constant(self.codes)
        return self.layout.codes(stored) if stored is not None else None

    def read_scale(self, model: Model) -> Array | None:
        """The scales, unpacked; None where they cannot be read."""
        return self.layout.scale(model.constant(self.scale))

    def read_zero_point(self, model: Model) -> Array | None:
        """The zero points, unpacked; those of the definition where none are given."""
        return self.layout.zero_point(model.constant(self.zero_point) if self.zero_point else None)

    def blocks_in_use(self, model: Model) -> npt.NDArray[np.bool_] | None:
        """Whether each block holds anything but zero, in the order of its scales; None where codes cannot be read."""
        stored = model.constant(self.codes)
        zero_point = model.constant(self.zero_point) if self.zero_point else None
        return self.layout.in_use(stored, zero_point) if stored is not None else None


def packed_weights(model: Model, node: Node) -> tuple[Packed, ...]:
    """The packed weights of a node whose sizes fit."""
    found = []
    for slot, scale, zero_point in _positions(node):
        layout = packed_layout(model, node, slot) if model.is_constant(node.input(slot)) else None
        if layout is not None:
            zeros = node.input(zero_point) if zero_point is not None else ""
            found.append(Packed(node.input(slot), node.input(scale), zeros, layout))
    return tuple(found)


def packed_layout(model: Model, node: Node, slot: int) -> Layout | None:
    """How the packed weight at a position of a node lies in the file; None where it has none, or sizes do not fit."""
    known = constant_type(model, node.input(slot))
    dims = tuple(dim for dim in known.shape or () if dim is not None)
    held = next((rest for weight, *rest in _positions(node) if weight == slot), [])
    counts = [constant_size(model, node.input(key)) for key in held if key is not None]
    return layout_of(node, slot, dims, known.elem_type, max(counts, default=0))


def shape_demands(model: Model, node: Node) -> tuple[tuple[Demand, tuple[int, ...]], ...]:
    """What the definition of a node demands of the shapes of its inputs, each with the shape that is there."""
    shapes: dict[int, tuple[int, ...]] = {}
    types: dict[int, int] = {}
    for slot, key in enumerate(node.inputs):
        known = constant_type(model, key) if key and model.is_constant(key) else model.types.get(key)
        if key and known is not None and known.shape is not None:
            shapes[slot] = tuple(-1 if dim is None else dim for dim in known.shape)
            types[slot] = known.elem_type
    return tuple((one, shapes[one.slot]) for one in demands(node, Known(shapes, types)) if one.slot in shapes)


def constant_type(model: Model, key: str) -> TensorType:
    """Type of a constant, from its value only where inference does not know it."""
    known = model.types.get(key)
    if known is not None and known.elem_type and known.shape is not None and None not in known.shape:
        return known
    value = model.constants[key]
    return TensorType(int(onnx.helper.np_dtype_to_tensor_dtype(value.dtype)), value.shape)


def constant_size(model: Model, key: str) -> int:
    """How many values a constant has; 0 for what is none."""
    if not key or not model.is_constant(key):
        return 0
    return math.prod(dim or 0 for dim in constant_type(model, key).shape or ())


def _positions(node: Node) -> tuple[tuple[int, int, int | None], ...]:
    """Positions of each packed weight, of its scale and of its zero point."""
    layer = node.operator.layer
    if layer is None or not layer.packed:
        return _PARAMETERS.get(node.op_type, ()) if node.domain == MICROSOFT else ()
    pairs = zip(layer.weights, layer.qparams, strict=True)
    return tuple((slot, scale, zero) for (_, slot), (scale, zero) in pairs if scale is not None)
