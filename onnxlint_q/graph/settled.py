"""Tensors that constants and shapes alone decide although exporters compute them at run time.

Shapes, pads and slice bounds, but also the grids of anchors that detectors add to their boxes: floats made by Range,
Expand and arithmetic, the same for every input of one size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterator

import numpy as np

from onnxlint_q.graph.evaluate import EvaluationError, evaluate, is_evaluated
from onnxlint_q.graph.model import Model
from onnxlint_q.graph.names import ROOT
from onnxlint_q.graph.node import Node
from onnxlint_q.graph.operators import Trait
from onnxlint_q.graph.tensors import Array

Shape = tuple[int | None, ...]
# Room for the grid of a large detector, four coordinates each; all values of a model together take 64 times that.
_LARGEST = 1 << 17
_ALL = _LARGEST << 6
UNKNOWN = np.iinfo(np.int64).min
"""Stands for an unknown dimension among known ones."""
# They keep unknown dimensions apart from known ones.
_KEEPS_APART = Trait.MOVES | Trait.JOINS | Trait.COPIES


def is_known(value: Array) -> bool:
    """Whether no dimension among the values is unknown."""
    return value.dtype != np.int64 or not (value == UNKNOWN).any()


class Settled:
    """Collects such values, node after node in data order.

    An unknown batch dimension counts as 1. Any other is `UNKNOWN` among the known ones in a list of dimensions, and
    makes every value unknown that is computed from it.

    Attributes:
        values: by tensor key.
    """

    def __init__(
        self, model: Model, shape_of: Callable[[str], Shape | None], graphs: Container[str] = frozenset({ROOT})
    ) -> None:
        """Start with nothing; `shape_of` tells what is known of a tensor's shape, `graphs` which graphs are entered."""
        self.values: dict[str, Array] = {}
        self._graphs = graphs
        self._model = model
        self._shape_of = shape_of
        self._room = _ALL

    def add(self, node: Node) -> bool:
        """Compute the output of a node if it is settled, and say whether it is."""
        if node.graph not in self._graphs or len(node.outputs) != 1 or self._model.is_constant(node.output):
            return False
        value = self._result(node)
        if value is None or value.size > min(_LARGEST, self._room):
            return False
        self.values[node.output] = value
        self._room -= value.size
        return True

    def branch(self, node: Node) -> str | None:
        """Which branch an If takes, as the name of its attribute; None where nothing decides it."""
        condition = self._value(node.input(0)) if node.input(0) else None
        if condition is None or condition.size != 1 or not is_known(condition):
            return None
        return "then_branch" if condition.ravel()[0] else "else_branch"

    def _result(self, node: Node) -> Array | None:
        match node.op_type if node.is_standard else "":
            case "If":
                return self._chosen(node)
            case "Shape":
                return self._sizes(node)
            case "Size":
                listed = self._value(node.input(0))
                return np.asarray(listed.size) if listed is not None else None
            case "MatMul":
                return self._zeros(node) if self._reads_zeros(node) else self._computed(node)
            case _:
                return self._computed(node)

    def _reads_zeros(self, node: Node) -> bool:
        """Whether one operand is nothing but zeros, as the first state of a recurrent network is."""
        return any(self.values[key].dtype.kind == "f" and not self.values[key].any() for key in self._settled(node))

    def _settled(self, node: Node) -> Iterator[str]:
        return (key for key in node.inputs if key in self.values)

    def _zeros(self, node: Node) -> Array | None:
        """A product with zeros, whatever the size of the weight."""
        shape = self._shape_of(node.output)
        if shape is None or None in shape[1:] or math.prod(length or 1 for length in shape) > _LARGEST:
            return None
        return np.zeros([length or 1 for length in shape], self.values[next(self._settled(node))].dtype)

    def _chosen(self, node: Node) -> Array | None:
        taken = self.branch(node)
        results = node.returns.get(taken, ()) if taken is not None else ()
        return self._value(results[0]) if len(results) == 1 else None

    def _sizes(self, node: Node) -> Array | None:
        made = self.values.get(node.input(0))
        shape = self._shape_of(node.input(0)) if made is None else made.shape
        if shape is None:
            return None
        dims = [1 if length is None and axis == 0 else length for axis, length in enumerate(shape)]
        dims = dims[node.int("start", 0) : node.int("end", len(dims))]
        return np.asarray([UNKNOWN if length is None else length for length in dims], np.int64)

    def _computed(self, node: Node) -> Array | None:
        if not is_evaluated(node):
            return None
        operator = node.operator
        apart = operator.data_of(node.inputs) if operator.has(_KEEPS_APART) else ()
        operands: list[Array | None] = []
        for key in node.inputs:
            value = self._value(key) if key else None
            if key and (value is None or not (key in apart or is_known(value))):
                return None
            operands.append(value)
        first = operands[0] if operands else None
        if node.op_type == "Cast" and first is not None and not is_known(first):
            return first  # a list of dimensions stays one, whatever exporters cast it to on its way
        try:
            return evaluate(node, operands, _LARGEST)
        except EvaluationError:
            return None

    def _value(self, key: str) -> Array | None:
        if key in self.values:
            return self.values[key]
        shape = self._model.shape(key)
        if not self._model.is_constant(key) or (
            shape is not None and math.prod(length or 1 for length in shape) > _LARGEST
        ):
            return None
        value = self._model.constant(key)
        return value if value is not None and value.dtype.kind in "iubf" and value.size <= _LARGEST else None
