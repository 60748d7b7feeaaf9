"""One pass over a graph with many lengths at once: the shapes of its tensors, and what its operators demand of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from onnxlint_q.analysis.sizes.arithmetic import computed
from onnxlint_q.analysis.sizes.lengths import Grid, Lengths, Mask, Numbers, Shape, chosen, product, same
from onnxlint_q.analysis.sizes.shape_rules import UntoldError, rule_of
from onnxlint_q.graph import Model, Node
from onnxlint_q.graph.names import ROOT

# Lengths that one pass may make, 8 bytes each; what comes after is not known.
_MOST = 1 << 23
# Lengths that one pass may look at: some tenths of a second.
_MOST_READ = 1 << 28
# What an invalid graph makes of the rules is for others to report.
_INVALID = (UntoldError, LookupError, ValueError, TypeError, ArithmeticError)
# Entries of a list of lengths.
_LONGEST_LIST = 64
_WHOLE = frozenset({onnx.TensorProto.INT64, onnx.TensorProto.INT32})


@dataclass(frozen=True, slots=True, eq=False)
class Demand:
    """Where a node can run, or what it was made for.

    Attributes:
        what: the node, or the tensor with the stated shape, in words.
        holds: over the grid.
    """

    what: str
    holds: Mask


@dataclass(frozen=True, slots=True, eq=False)
class Walked:
    """What a pass found.

    Attributes:
        shapes: of tensors that hang on the inputs, by key.
        demands: of nodes; outside of them the graph does not run.
        hints: what nodes were probably made for, and lengths that the file notes for results, which may be left over
            from another size.
    """

    shapes: Mapping[str, Shape]
    demands: Sequence[Demand]
    hints: Sequence[Demand]


def walk(model: Model, grid: Grid, inputs: Mapping[str, Shape]) -> Walked:
    """Shapes of the main graph's tensors where its inputs have these."""
    walker = _Walker(model, grid, inputs)
    with np.errstate(all="ignore"):
        for node in model.nodes:
            if node.graph == ROOT and node.output and not model.is_constant(node.output):
                walker.visit(node)
    return Walked(walker.shapes, walker.demands, walker.hints)


class _Walker:
    def __init__(self, model: Model, grid: Grid, inputs: Mapping[str, Shape]) -> None:
        self.model = model
        self.grid = grid
        self.shapes: dict[str, Shape] = dict(inputs)
        self.values: dict[str, Numbers] = {}
        self.demands: list[Demand] = []
        self.hints: list[Demand] = []
        self.room = _MOST
        self.unread = _MOST_READ

    def visit(self, node: Node) -> None:
        """Note what a node computes."""
        read = sum(length.size for key in node.inputs for length in self.shapes.get(key, ()))
        self.unread -= read
        if min(self.room, self.unread) < 0 or self._lists(node) or self.shapes.keys().isdisjoint(node.inputs):
            return
        rule = rule_of(node)
        if rule is None:
            return
        step = _Step(self, node)
        try:
            made = rule(step)
        except _INVALID:
            return
        what = f"the {node.op_type} {node.label!r}"
        self.demands += [Demand(what, mask) for mask in step.masks if _divides(mask)]
        self.hints += [Demand(what, mask) for mask in step.hints if _divides(mask)]
        self.room -= sum(mask.size // 8 for mask in (*step.masks, *step.hints) if _divides(mask))
        held = {id(length) for key in node.inputs for length in self.shapes.get(key, ())}
        for key, shape in zip(node.outputs, made, strict=False):
            if key:
                self.shapes[key] = self._compared(key, shape)
                self.room -= sum(length.size for length in shape if length.size > 1 and id(length) not in held)

    def _lists(self, node: Node) -> bool:
        """Note a list of lengths, and say whether the node makes one."""
        value = self._list(node)
        if value is None:
            return False
        self.values[node.output] = value
        self.room -= sum(entry.size for entry in value.entries if entry.size > 1)
        self.shapes[node.output] = () if value.single else (self.grid.known(len(value.entries)),)
        return True

    def _list(self, node: Node) -> Numbers | None:
        if not node.is_standard:
            return None
        try:
            if node.op_type in {"Shape", "Size"}:
                shape = self.shape(node.input(0))
                if node.op_type == "Size":
                    return Numbers((product(shape, self.grid.known(1)),), single=True)
                return Numbers(shape[node.int("start", 0) : node.int("end", len(shape))])
            if self.values.keys().isdisjoint(node.inputs):
                return None
            known = self.model.types.get(node.output)
            whole = known is not None and known.elem_type in _WHOLE
            return computed(node, [self.numbers(key) for key in node.inputs if key], whole=whole)
        except _INVALID:
            return None

    def _compared(self, key: str, shape: Shape) -> Shape:
        """The shape with the lengths that only the file knows, where it states any."""
        stated = self.model.shape(key)
        if stated is None or len(stated) != len(shape):
            return shape
        completed: list[Lengths] = []
        for length, told in zip(shape, stated, strict=True):
            if told is None:
                completed.append(length)
                continue
            number = self.grid.known(told)
            mask = same(length, number)
            if _divides(mask):
                self.hints.append(Demand(f"the stated shape of {key!r}", mask))
            completed.append(chosen(np.isnan(length), number, length))
        return tuple(completed)

    def shape(self, key: str) -> Shape:
        """Shape of a tensor."""
        if key in self.shapes:
            return self.shapes[key]
        shape = self.model.shape(key) if key else None
        if shape is None:
            raise UntoldError
        return tuple(map(self.grid.known, shape))

    def numbers(self, key: str) -> Numbers:
        """What a small tensor of lengths holds."""
        if key in self.values:
            return self.values[key]
        shape = self.model.shape(key)
        if (
            not self.model.is_constant(key)
            or shape is None
            or len(shape) > 1
            or math.prod(length or 1 for length in shape) > _LONGEST_LIST
        ):
            raise UntoldError
        value = self.model.constant(key)
        if value is None or value.dtype.kind not in "iuf":
            raise UntoldError
        return self.grid.listed(value)


def _divides(mask: Mask) -> bool:
    """Whether it holds for some lengths and not for others."""
    return mask.size > 1 and bool(mask.any()) and not mask.all()


class _Step:
    """One node, as its rule sees it."""

    def __init__(self, walker: _Walker, node: Node) -> None:
        self.node = node
        self.grid = walker.grid
        self.masks: list[Mask] = []
        self.hints: list[Mask] = []
        self._walker = walker

    def shape(self, slot: int) -> Shape:
        return self._walker.shape(self.node.input(slot))

    def has(self, slot: int) -> bool:
        return bool(self.node.input(slot))

    def listed(self, slot: int, attribute: str = "") -> Sequence[Lengths]:
        if self.has(slot):
            return self._walker.numbers(self.node.input(slot)).entries
        values = self.node.attributes.get(attribute)
        if not isinstance(values, (list, tuple)):
            raise UntoldError
        return self.grid.listed(np.asarray(values, np.float64)).entries

    def demand(self, mask: Mask) -> None:
        self.masks.append(mask)

    def hint(self, mask: Mask) -> None:
        self.hints.append(mask)
