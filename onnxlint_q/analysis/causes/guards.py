"""Constants that stand in for values that are absent, and are far from all that are present.

A pooling over slots puts -10,000 where a slot is empty, so that the largest value is never that of an empty one. What
the tensor ranges over hangs on whether it is ever chosen. Constants that a Softmax reads are masks, see `masks`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from onnxlint_q.analysis.causes.extents import HIGHEST, Extents, constant_at
from onnxlint_q.graph import Model, Node

_WRITTEN = {"ScatterND": 2, "ScatterElements": 2, "Scatter": 2}


@dataclass(frozen=True, slots=True)
class Guard:
    """A constant beside computed values.

    Attributes:
        node: where it enters.
        constant: its key.
        value: the one that is farthest from 0; infinity is the largest float.
        beside: the tensor of the values that it stands beside.
    """

    node: Node
    constant: str
    value: float
    beside: str


def find_guards(model: Model, least: float) -> Iterator[Guard]:
    """Every constant of at least this magnitude that takes the place of values, or is added to some of them."""
    extents = Extents(model)
    for node in model.nodes:
        found = _chosen(model, node) if node.operator.form == "Where" else None
        if node.is_standard and node.op_type in _WRITTEN:
            found = _written(model, node)
        elif node.is_standard and node.op_type == "Pad":
            found = _padded(model, node)
        elif node.operator.form == "Add":
            found = _added(model, extents, node)
        if found is not None and abs(found.value) >= least:
            yield found


def _chosen(model: Model, node: Node) -> Guard | None:
    sides = node.operator.data_of(node.inputs)
    if len(sides) != 2:
        return None
    first, second = sides
    return _made(model, node, first, second) or _made(model, node, second, first)


def _written(model: Model, node: Node) -> Guard | None:
    """Updates that are constant, or a constant that is written over; with a reduction that is where it starts."""
    if node.text("reduction", "none") != "none":
        return None
    data, updates = node.input(0), node.input(_WRITTEN[node.op_type])
    return _made(model, node, updates, data) or _made(model, node, data, updates)


def _padded(model: Model, node: Node) -> Guard | None:
    pads = model.constant(node.input(1))
    if pads is None or not np.any(np.asarray(pads) > 0) or node.text("mode", "constant") != "constant":
        return None
    return _made(model, node, node.input(2), node.input(0)) if node.input(2) else None


def _added(model: Model, extents: Extents, node: Node) -> Guard | None:
    """What a mask of an input makes of a constant: 0 where it leaves a value, the constant where it does not."""
    for key, other in zip(node.inputs, reversed(node.inputs), strict=True):
        ends = extents.of(key) if not model.is_constant(key) and extents.of(other) is None else None
        if ends is not None and (ends[0] == 0) != (ends[1] == 0):
            return Guard(node, key, ends[0] or ends[1], other)
    return None


def _made(model: Model, node: Node, constant: str, beside: str) -> Guard | None:
    """A constant of one value, whole or nearly so, beside what is computed."""
    maker = model.producer(constant)
    filled = constant_at(model, maker, -1) if maker is not None and maker.op_type == "ConstantOfShape" else None
    value = model.constant(constant) if filled is None else filled
    if value is None or model.is_constant(beside) or not value.size or value.dtype.kind != "f":
        return None
    low, high = float(np.min(value)), float(np.max(value))
    if low != high:
        return None
    return Guard(node, constant, float(np.clip(low, -HIGHEST, HIGHEST)), beside)
