"""Which inputs hold the links of a graph: a square matrix that says which node takes from which.

The features of the nodes are summed over the neighbours, or averaged, as a product: what stands on its left has as many
rows as columns, and comes from the input as it is, or divided by sums of itself. Scores of an attention are computed
from features, and a bias of them is added.
"""

from __future__ import annotations

from onnxlint_q.graph import Model, Node, Trait, Value

_MOVED = Trait.MOVES | Trait.COPIES
_REACH = 64
_FEWEST = 2


def holds_links(model: Model, value: Value) -> bool:
    """Whether an input holds links: 1 where there is one, else 0."""
    shape = value.type.shape or ()
    if len(shape) < 2 or shape[-1] != shape[-2] or (shape[-1] or 0) < _FEWEST:
        return False
    waiting, seen = [value.name], {value.name}
    while waiting and len(seen) <= _REACH:
        key = waiting.pop()
        for node in model.consumers(key):
            if _sums_over_neighbours(model, node, key):
                return True
            if node.operator.has(_MOVED) or (node.op_type == "Div" and node.input(0) == key):
                fresh = [result for result in node.outputs if result and result not in seen]
                seen.update(fresh)
                waiting += fresh
    return False


def _sums_over_neighbours(model: Model, node: Node, key: str) -> bool:
    plain = node.is_standard and node.op_type == "MatMul" and node.input(0) == key != node.input(1)
    return plain and not model.is_constant(node.input(1))
