"""What exporters compute of lengths on their way into a shape: lists that are sliced, joined and multiplied."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import chain

import numpy as np

from onnxlint_q.analysis.sizes.lengths import Lengths, Numbers
from onnxlint_q.graph import Node

_ARITHMETIC: Mapping[str, Callable[..., Lengths]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": np.divide,
    "Mod": np.mod,
    "Min": np.minimum,
    "Max": np.maximum,
    "Neg": np.negative,
    "Floor": np.floor,
    "Ceil": np.ceil,
    "Sqrt": np.sqrt,
    "Identity": np.asarray,
    "Cast": np.asarray,
}


def computed(node: Node, operands: Sequence[Numbers], *, whole: bool) -> Numbers | None:
    """What a node makes of small tensors of lengths; None where it is no arithmetic on such.

    Args:
        node: any.
        operands: all of its inputs.
        whole: whether the result is of integers, so that it has no fraction.
    """
    data, others = operands[0], operands[1:]
    if node.op_type in _ARITHMETIC:
        return _value_by_value(_ARITHMETIC[node.op_type], operands, whole=whole) if len(operands) <= 2 else None
    match node.op_type:
        case "Concat" if not any(operand.single for operand in operands):
            return Numbers(tuple(chain.from_iterable(operand.entries for operand in operands)))
        case "Gather" if others and not data.single:
            index = others[0].whole()
            count = len(data.entries)
            if index is None or not all(-count <= place < count for place in index):
                return None
            return Numbers(tuple(data.entries[place] for place in index), others[0].single)
        case "Slice" if not data.single:
            return _sliced(node, data, others)
        case "Unsqueeze" if data.single:
            return Numbers(data.entries)
        case "Squeeze" if len(data.entries) == 1:
            return Numbers(data.entries, single=True)
        case "Reshape" if len(others) == 1 and len(others[0].entries) == 1:
            return Numbers(data.entries)
    return None


def _value_by_value(function: Callable[..., Lengths], operands: Sequence[Numbers], *, whole: bool) -> Numbers | None:
    count = max(len(operand.entries) for operand in operands)
    if any(len(operand.entries) not in {1, count} for operand in operands):
        return None
    made = []
    for place in range(count):
        value = function(*(operand.entries[place % len(operand.entries)] for operand in operands))
        made.append(np.trunc(value) if whole else value)
    return Numbers(tuple(made), all(operand.single for operand in operands))


def _sliced(node: Node, data: Numbers, others: Sequence[Numbers]) -> Numbers | None:
    bounds = [other.whole() for other in others] or [node.ints("starts"), node.ints("ends")]
    if len(bounds) < 2 or any(bound is None or len(bound) != 1 for bound in bounds):
        return None
    (start,), (end,), *rest = [bound for bound in bounds if bound is not None]
    stride = rest[1][0] if len(rest) > 1 else 1
    return Numbers(data.entries[start:end:stride]) if stride else None
