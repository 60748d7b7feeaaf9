"""Where a mask meets what it masks, and what it has to hold there so that nothing is masked.

A mask is added to scores (a number far below them rules a position out), multiplied with values (zero does), chooses
between values and a constant, or tells a recurrent layer how long a sequence is. On the way there exporters negate it,
rescale it and bring it into shape, so which of its values means padding is seen only where it meets.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from onnxlint_q.graph import Model, Node, Trait
from onnxlint_q.graph.element_types import FLOATS
from onnxlint_q.graph.tensors import Array
from onnxlint_q.graph.trace import REACH

# What only prepares a mask, as long as nothing but constants and the mask itself come in.
_PREPARES = Trait.MOVES | Trait.COPIES | Trait.ELEMENTWISE
_LOGIC = frozenset({"Not", "And", "Or", "Xor"})
_LENGTHS = 4
_FAR_BELOW = -100.0
# Blocks mask alike, so a few places tell all there is.
_MOST = 8


@dataclass(frozen=True, slots=True)
class Meeting:
    """A tensor made of masks alone, at an operator that masks with it.

    Attributes:
        tensor: its key.
        keeps: 1 where its large values leave what is masked as it is, -1 where its small ones do.
    """

    tensor: str
    keeps: int


def meetings(model: Model, name: str) -> tuple[Meeting, ...]:
    """Where the input `name` masks anything, the nearest first; none where it is no mask.

    A float that is added somewhere is one only where a number far below any score was multiplied with it before.
    """
    own, far_below = _made_of(model, name)
    known = next((value for value in model.inputs if value.name == name), None)
    if known is None or (known.type.elem_type in FLOATS and not far_below):
        return ()
    found = (met for key in own for node in model.consumers(key) for met in _met(model, node, key, own))
    return tuple(dict.fromkeys(found))[:_MOST]


def _made_of(model: Model, name: str) -> tuple[Mapping[str, None], bool]:
    """Tensors made of an input and constants alone, and whether a number far below zero was among these."""
    own, waiting, far_below = {name: None}, deque([name]), False
    while waiting and len(own) < REACH:
        for node in model.consumers(waiting.popleft()):
            data = [key for key in node.inputs if key and not model.is_constant(key)]
            # What moves values takes sizes, too, which may be computed.
            if node.operator.has(Trait.MOVES):
                data = data[:1]
            if not (node.operator.has(_PREPARES) or node.op_type in _LOGIC) or any(key not in own for key in data):
                continue
            constants = (model.constant(key) for key in node.inputs if key and model.is_constant(key))
            far_below = far_below or any(_is_far_below(value) for value in constants)
            for key in node.outputs[:1]:
                if key not in own:
                    own[key] = None
                    waiting.append(key)
    return own, far_below


def _is_far_below(value: Array | None) -> bool:
    return value is not None and value.size > 0 and value.dtype.kind == "f" and bool(value.min() < _FAR_BELOW)


def _met(model: Model, node: Node, key: str, own: Mapping[str, None]) -> Iterator[Meeting]:
    def is_data(name: str) -> bool:
        return bool(name) and name not in own and not model.is_constant(name)

    if node.op_type == "Where" and key == node.input(0):
        kept = [is_data(node.input(place)) for place in (1, 2)]
        if kept[0] != kept[1]:
            yield Meeting(key, 1 if kept[0] else -1)
    elif (node.operator.has(Trait.RECURRENT) and key == node.input(_LENGTHS)) or (
        node.operator.has(Trait.ADDS | Trait.SCALES) and any(map(is_data, node.inputs))
    ):
        yield Meeting(key, 1)
