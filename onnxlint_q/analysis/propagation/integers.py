"""Values of small integer tensors that exporters compute at run time: shapes, pads, slice bounds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxlint_q.graph import Model, Node

Integers = npt.NDArray[np.int64]
_LARGEST = 4096
_DEEPEST = 32


def integer_value(model: Model, key: str, depth: int = 0) -> Integers | None:
    """The value of `key`, where constants and known shapes decide it; unknown dimensions make it unknown.

    An unknown batch dimension counts as 1.
    """
    if model.is_constant(key):
        value = model.constant(key)
        if value is None or value.size > _LARGEST or value.dtype.kind not in "iub":
            return None
        return value.astype(np.int64)
    node = model.producer(key)
    if node is None or depth > _DEEPEST or not node.is_standard:
        return None
    if node.op_type == "Shape":
        return _shape(model, node)
    operation = _OPERATIONS.get(node.op_type)
    if operation is None:
        return None
    inputs = [integer_value(model, source, depth + 1) if source else None for source in node.inputs]
    if any(value is None and source for value, source in zip(inputs, node.inputs, strict=True)):
        return None
    try:
        result = np.asarray(operation(node, [value for value in inputs if value is not None]), np.int64)
    except (ValueError, IndexError, TypeError, ArithmeticError):
        return None
    return result if result.size <= _LARGEST else None


def _shape(model: Model, node: Node) -> Integers | None:
    shape = model.shape(node.input(0))
    if shape is None:
        return None
    dims = [1 if length is None and axis == 0 else length for axis, length in enumerate(shape)]
    dims = dims[node.int("start", 0) : node.int("end", len(dims))]
    return None if None in dims else np.asarray(dims, np.int64)


def _slice(node: Node, values: Sequence[Integers]) -> Integers:
    data, starts, ends = values[:3] if len(values) > 2 else (values[0], *map(np.asarray, _bounds(node)))
    axes = values[3] if len(values) > 3 else np.arange(starts.size)
    steps = values[4] if len(values) > 4 else np.ones(starts.size, np.int64)
    window: list[slice] = [slice(None)] * data.ndim
    for axis, start, end, step in zip(axes.ravel(), starts.ravel(), ends.ravel(), steps.ravel(), strict=True):
        last = None if step < 0 and end < -data.shape[axis] else int(end)
        window[int(axis)] = slice(int(start), last, int(step))
    return data[tuple(window)]


def _bounds(node: Node) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return node.ints("starts"), node.ints("ends")


def _axes(node: Node, values: Sequence[Integers]) -> tuple[int, ...]:
    return tuple(int(a) for a in values[1].ravel()) if len(values) > 1 else node.ints("axes")


def _filled(node: Node, values: Sequence[Integers]) -> Integers:
    dims = [int(d) for d in values[0].ravel()]
    if int(np.prod(dims)) > _LARGEST:
        raise ValueError("too large")
    value = node.attributes.get("value")
    fill = 0
    if value is not None and len(value.int64_data) == 1:
        fill = int(value.int64_data[0])
    elif value is not None and len(value.raw_data) == 8:
        fill = int(np.frombuffer(value.raw_data, "<i8")[0])
    return np.full(dims, fill, np.int64)


_OPERATIONS: Mapping[str, Callable[[Node, Sequence[Integers]], Any]] = {
    "Identity": lambda node, v: v[0],
    "Cast": lambda node, v: v[0],
    "Gather": lambda node, v: np.take(v[0], v[1], axis=node.int("axis", 0)),
    "Unsqueeze": lambda node, v: np.expand_dims(v[0], _axes(node, v)),
    "Squeeze": lambda node, v: np.squeeze(v[0], _axes(node, v) or None),
    "Concat": lambda node, v: np.concatenate(v, axis=node.int("axis", 0)),
    "Reshape": lambda node, v: v[0].reshape([int(d) for d in v[1].ravel()]),
    "Transpose": lambda node, v: np.transpose(v[0], node.ints("perm") or None),
    "Slice": _slice,
    "ConstantOfShape": _filled,
    "Add": lambda node, v: v[0] + v[1],
    "Sub": lambda node, v: v[0] - v[1],
    "Mul": lambda node, v: v[0] * v[1],
    "Div": lambda node, v: v[0] // np.where(v[1] == 0, 1, v[1]),
}
