"""Between which values a tensor lies that is made of masks and constants."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from onnxlint_q.graph import Model, Node
from onnxlint_q.graph.element_types import FLOATS
from onnxlint_q.graph.operators import Trait

Array = npt.NDArray[Any]
Extent = tuple[float, float]
"""Smallest and largest value."""

HIGHEST = float(np.finfo(np.float32).max)
"""What infinity is taken for."""
_KEEPS = Trait.MOVES | Trait.COPIES
_TRUTH = frozenset("Equal Greater GreaterOrEqual Less LessOrEqual And Or Xor Not IsNaN IsInf".split())
_DEEPEST = 32


class Extents:
    """Answers for one model; each tensor is looked at once."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self._known: dict[tuple[str, bool], Extent | None] = {}

    def of(self, key: str, *, factor: bool = False, depth: int = 0) -> Extent | None:
        """Between which values a tensor lies that is made of masks and constants; None for one that is not.

        An input of the model is taken for a mask, of zeros and ones, where it is a number of any type but a float; a
        float one only as a factor or beside a constant, because scores may be such an input, too.
        """
        if (key, factor) not in self._known:
            self._known[key, factor] = None  # while it is being found
            self._known[key, factor] = self._found(key, factor, depth) if depth < _DEEPEST else None
        return self._known[key, factor]

    def _found(self, key: str, factor: bool, depth: int) -> Extent | None:
        value = self.model.constant(key)
        if value is not None:
            return _ends(value)
        node, known = self.model.producer(key), self.model.types.get(key)
        if known is not None and known.elem_type == onnx.TensorProto.BOOL:
            return 0.0, 1.0
        if node is None:
            is_float = known is None or known.elem_type in FLOATS or known.elem_type == 0
            return (0.0, 1.0) if key in self._inputs and (factor or not is_float) else None
        if not node.is_standard:
            return None
        if node.op_type in _TRUTH:
            return 0.0, 1.0
        if node.op_type == "ConstantOfShape":
            return _ends(constant_at(self.model, node, -1)) or (0.0, 0.0)
        slots = data_slots(node)
        computes = not node.operator.has(_KEEPS | Trait.CHOOSES)
        beside = computes and any(self.model.is_constant(node.input(slot)) for slot in slots)
        passed = factor if node.operator.has(_KEEPS) else beside
        ends = [self.of(node.input(slot), factor=passed, depth=depth + 1) for slot in slots]
        sides = [end for end in ends if end is not None]
        return _together(node, sides) if sides and len(sides) == len(ends) else None

    @cached_property
    def _inputs(self) -> frozenset[str]:
        return frozenset(value.name for value in self.model.inputs)


def constant_at(model: Model, node: Node, slot: int) -> Array | None:
    """The constant that a node reads there, or that it makes if it is a ConstantOfShape."""
    if slot >= 0:
        return model.constant(node.input(slot))
    value = node.attributes.get("value")
    return onnx.numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else None


def data_slots(node: Node) -> tuple[int, ...]:
    """Positions of the inputs whose values the result is made of."""
    slots = range(len(node.inputs)) if node.operator.data is None else node.operator.data
    return tuple(slot for slot in slots if node.input(slot))


def _ends(value: Array | None) -> Extent | None:
    if value is None or not value.size or value.dtype.kind not in "fiub":
        return None
    low, high = float(value.min()), float(value.max())
    if math.isfinite(low) and math.isfinite(high):
        return low, high
    ends = np.nan_to_num(value.astype(np.float64), nan=0.0, posinf=HIGHEST, neginf=-HIGHEST)
    return float(ends.min()), float(ends.max())


def _together(node: Node, sides: Sequence[Extent]) -> Extent | None:
    """Between which values a result lies by those of what it is made of."""
    (low, high), *others = sides
    operator = node.operator
    if operator.has(_KEEPS | Trait.JOINS | Trait.CHOOSES):
        filled = (0.0,) if operator.has(Trait.FILLS) else ()
        return min(*filled, *(side[0] for side in sides), low), max(*filled, *(side[1] for side in sides), high)
    if node.op_type == "Sub":
        ((least, most),) = others
        return low - most, high - least
    if operator.has(Trait.ADDS):
        return sum(side[0] for side in sides), sum(side[1] for side in sides)
    if node.op_type == "Mul" and len(others) == 1:
        ends = [one * other for one in (low, high) for other in others[0]]
        return min(ends), max(ends)
    return None
