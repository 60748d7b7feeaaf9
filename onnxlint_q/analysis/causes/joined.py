"""Tensors that hold several things side by side, and what these are.

One scale serves all of such a tensor, so its step is that of the widest part.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from onnxlint_q.graph import Model, Node, trace_back
from onnxlint_q.graph.operators import Trait

# Behind these the tensor still holds all that was joined.
_WHOLE = Trait.REARRANGES | Trait.REPEATS | Trait.COPIES | Trait.QUANTIZES
_WRITTEN = {"ScatterND": 2, "ScatterElements": 2, "Scatter": 2, "TensorScatter": 1}
"""Where the operators that write some values into others have the former."""
_MOST = 64


@dataclass(frozen=True, slots=True)
class Joined:
    """A tensor made of several.

    Attributes:
        node: the join.
        branches: what it joins, joins among them taken apart, in order: by tensor as it is before it is padded or
            quantised, what the join reads of it.
    """

    node: Node
    branches: Mapping[str, str]


def joined_branches(model: Model, tensor: str) -> Joined | None:
    """What a tensor is joined from; None where it is not.

    Args:
        model: the graph.
        tensor: its key.
    """
    node = _join_behind(model, tensor)
    if node is None:
        return None
    return Joined(node, dict(_leaves(model, node)))


def _leaves(model: Model, first: Node) -> Iterator[tuple[str, str]]:
    waiting, seen, given = [first], {first}, 0
    while waiting and given < _MOST:
        node = waiting.pop(0)
        for key in _operands(model, node):
            inner = _join_behind(model, key)
            if inner is None:
                given += 1
                yield trace_back(model, key, Trait.QUANTIZES | Trait.FILLS).ends[0], key
            elif inner not in seen:
                seen.add(inner)
                waiting.append(inner)


def _join_behind(model: Model, tensor: str) -> Node | None:
    (end, *_) = trace_back(model, tensor, _WHOLE).ends
    node = model.producer(end)
    return node if node is not None and len(_operands(model, node)) > 1 else None


def _operands(model: Model, node: Node) -> tuple[str, ...]:
    """What a join puts side by side; empty for any other operator."""
    operator = node.operator
    if operator.has(Trait.JOINS) or operator.form == "Where":
        return operator.data_of(node.inputs)
    if node.is_standard and node.op_type in _WRITTEN:
        return tuple(filter(None, (node.input(0), node.input(_WRITTEN[node.op_type]))))
    if operator.form in {"Add", "Sum", "Max"} and all(_is_padded(model, key) for key in operator.data_of(node.inputs)):
        return operator.data_of(node.inputs)
    return ()


def _is_padded(model: Model, key: str) -> bool:
    """Whether zeros stand around a tensor, so that in a sum each part has places of its own."""
    (end, *_) = trace_back(model, key, Trait.QUANTIZES | Trait.COPIES).ends
    node = model.producer(end)
    return node is not None and node.is_standard and node.op_type == "Pad"
