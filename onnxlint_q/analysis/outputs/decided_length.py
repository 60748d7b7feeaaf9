"""Outputs that are as long as values say: boxes that pass a threshold, frames of a predicted duration.

A quantised model gives another number of them, so there is nothing to compare one by one. What the deciding step reads
can be compared, as long as no layer comes behind it: such a layer would not be looked at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from onnxlint_q.analysis.folding import FoldedLayer
from onnxlint_q.graph import Model, Node, Trait
from onnxlint_q.graph.element_types import FLOATS
from onnxlint_q.graph.names import ROOT

# What they read says as much: the same values elsewhere, or more than a whole number.
_PASSED = Trait.REARRANGES | Trait.COPIES | Trait.ROUNDS
_READS_SHAPES = frozenset({"Shape", "Size"})
# Inputs that say how long the result is; of an operator without any listed, all values do.
_LENGTHS: Mapping[str, tuple[int, ...]] = {
    "NonZero": (0,),
    "NonMaxSuppression": (0, 1, 2, 3, 4),
    "Compress": (1,),
    "Unique": (0,),
    "Range": (0, 1, 2),
    "ConstantOfShape": (0,),
    "Expand": (1,),
    "Tile": (1,),
    "Reshape": (1,),
    "Resize": (2, 3),
    "Pad": (1,),
    "Slice": (1, 2),
    "TopK": (1,),
}


@dataclass(frozen=True, slots=True)
class Front:
    """What is in front of the step that decides how long an output is.

    Attributes:
        node: the step.
        tensors: the float tensors that are read behind it, in data order.
    """

    node: Node
    tensors: tuple[str, ...]


def find_fronts(model: Model, layers: Sequence[FoldedLayer]) -> Mapping[str, Front]:
    """By output, what can be compared in its place; none where a layer comes behind the step."""
    rounded = {value.name for value in model.inputs if value.type.elem_type in FLOATS}
    decided: dict[str, Node] = {}
    nodes = [node for node in model.nodes if node.graph == ROOT]
    for node in nodes:
        read = {*node.inputs, *node.captured}
        if node.op_type not in _READS_SHAPES and not rounded.isdisjoint(read):
            rounded.update(filter(None, node.outputs))
        by = next((decided[key] for key in node.inputs if key in decided), None)
        if by is None and any(node.input(slot) in rounded for slot in _lengths(node)):
            by = node
        if by is not None:
            decided.update((key, by) for key in node.outputs if key)
    if any(layer.layer.node.output in decided for layer in layers):
        return {}
    order = {key: place for place, node in enumerate(nodes) for key in node.outputs}
    found: dict[str, Front] = {}
    for value in model.outputs:
        shape = value.type.shape
        if value.name in decided and (shape is None or None in shape):
            tensors = _in_front(model, value.name, decided, rounded)
            if tensors:
                found[value.name] = Front(decided[value.name], tuple(sorted(tensors, key=lambda key: order[key])))
    return found


def _lengths(node: Node) -> tuple[int, ...]:
    return _LENGTHS.get(node.op_type, ()) if node.is_standard else ()


def _in_front(model: Model, output: str, decided: Mapping[str, Node], rounded: set[str]) -> set[str]:
    """The float tensors that are computed before any length is decided, and read behind."""
    found: set[str] = set()
    seen, waiting = {output}, [output]
    while waiting:
        key = waiting.pop()
        known, node = model.types.get(key), model.producer(key)
        passed = key in decided or (node is not None and node.operator.has(_PASSED))
        if not passed and known is not None and known.elem_type in FLOATS:
            found.add(key)
            continue
        if node is None:
            continue
        for source in node.inputs:
            if source in rounded and source not in seen and model.producer(source) is not None:
                seen.add(source)
                waiting.append(source)
    return found
