"""What an output joins: detector heads put boxes and scores side by side in one tensor.

A part is found at the last Concat in front of the output whose operands are of different kinds, behind operators that
leave the axis of the join whole. Heads of several scales are joined once more, along another axis: where all operands
of a Concat are divided alike, it is too.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from onnxlint_q.graph import Model, Node, Trait

Kind = Callable[[str], Hashable]
Shape = tuple[int | None, ...]
# Heads join a handful of parts for a handful of scales.
_MOST_OPERANDS = 32
_MOST_JOINS = 3
_MOST_MOVES = 32


@dataclass(frozen=True, slots=True)
class Slice:
    """A part of a tensor.

    Attributes:
        axis: along which it is one; not negative.
        start, stop: where.
        tensor: what it was before it was joined; the first of those of one kind that follow each other.
    """

    axis: int
    start: int
    stop: int
    tensor: str


def joined(model: Model, tensor: str, kind: Kind, joins: int = _MOST_JOINS) -> tuple[Slice, ...]:
    """The parts of different kinds that a tensor is made of, in order; none where it is one thing.

    Args:
        model: the graph.
        tensor: its key.
        kind: of a tensor; neighbours of one kind are one part.
        joins: how many to look behind.
    """
    moves: list[Node] = []
    node = model.producer(tensor)
    while node is not None and node.inputs and _moves(node) and len(moves) < _MOST_MOVES:
        moves.append(node)
        node = model.producer(node.input(0))
    if node is None or not joins or not node.is_standard or node.op_type != "Concat":
        return ()
    found = _divided(model, node, kind, joins)
    for move in reversed(moves):
        axis = moved_axis(model, move, found[0].axis) if found else None
        found = () if axis is None else tuple(replace(one, axis=axis) for one in found)
    return found


def _moves(node: Node) -> bool:
    return node.is_standard and (
        node.operator.has(Trait.COPIES | Trait.QUANTIZES) or node.op_type == "Transpose" or _reshapes(node)
    )


def _reshapes(node: Node) -> bool:
    return node.operator.has(Trait.RESHAPES)


def _divided(model: Model, concat: Node, kind: Kind, joins: int) -> tuple[Slice, ...]:
    shapes = [model.shape(key) for key in concat.inputs]
    if not 1 < len(shapes) <= _MOST_OPERANDS or any(shape is None for shape in shapes):
        return ()
    rank = len(shapes[0] or ())
    axis = concat.int("axis", 1)
    axis += rank * (axis < 0)
    kinds = [kind(key) for key in concat.inputs]
    if len(set(kinds)) == 1:
        inner = [joined(model, key, kind, joins - 1) for key in concat.inputs]
        alike = {tuple((one.axis, one.start, one.stop, kind(one.tensor)) for one in parts) for parts in inner}
        return inner[0] if len(alike) == 1 and inner[0] and inner[0][0].axis != axis else ()
    lengths = [shape[axis] if shape is not None and 0 <= axis < len(shape) else None for shape in shapes]
    return tuple(_merged(axis, lengths, kinds, concat.inputs)) if all(lengths) else ()


def _merged(
    axis: int, lengths: Sequence[int | None], kinds: Sequence[Hashable], keys: Sequence[str]
) -> Iterator[Slice]:
    start = 0
    for _, group in groupby(zip(lengths, kinds, keys, strict=True), key=lambda entry: entry[1]):
        entries = list(group)
        stop = start + sum(length or 0 for length, _, _ in entries)
        yield Slice(axis, start, stop, entries[0][2])
        start = stop


def moved_axis(model: Model, node: Node, axis: int) -> int | None:
    """Which axis of the result an axis of the first input becomes; None where it does not stay one."""
    if node.op_type == "Transpose":
        order = node.ints("perm")
        if not order:
            shape = model.shape(node.input(0))
            return len(shape) - 1 - axis if shape is not None else None
        return order.index(axis) if axis in order else None
    if not _reshapes(node):
        return axis
    before, after = model.shape(node.input(0)), model.shape(node.output)
    return _kept(before, after, axis) if before is not None and after is not None else None


def _kept(before: Shape, after: Shape, axis: int) -> int | None:
    """Where a reshape leaves an axis: what is in front of it and its length stay the same."""
    ahead = [length for length in before[:axis] if length != 1]
    for place, length in enumerate(after):
        same = length == before[axis] and length is not None
        if same and [other for other in after[:place] if other != 1] == ahead:
            return place
    return None
