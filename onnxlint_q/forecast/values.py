"""Tensors that constants and shapes alone decide although exporters compute them at run time.

Shapes, pads and slice bounds, but also the grids of anchors that detectors add to their boxes: floats made by Range,
Expand and arithmetic, the same for every input of one size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from onnxlint_q.graph import Model, Node
from onnxlint_q.graph.names import ROOT

Array = npt.NDArray[Any]
Shape = tuple[int | None, ...]
# Room for the grid of a large detector, four coordinates each; all values of a model together take 64 times that.
_LARGEST = 1 << 17
_ALL = _LARGEST << 6
# Stands for an unknown dimension among known ones.
UNKNOWN = np.iinfo(np.int64).min
_ODD = (ValueError, LookupError, TypeError, ArithmeticError, MemoryError, AttributeError)


def settled_values(model: Model) -> Mapping[str, Array]:
    """Values of computed tensors of the main graph that do not depend on the inputs; not of stored constants."""
    settled = Settled(model, model.shape)
    for node in model.nodes:
        settled.add(node)
    return settled.values


class Settled:
    """Collects such values, node after node in data order.

    An unknown batch dimension counts as 1. Any other is `UNKNOWN` among the known ones in a list of dimensions, and
    makes every value unknown that is computed from it.

    Attributes:
        values: by tensor key.
    """

    def __init__(self, model: Model, shape_of: Callable[[str], Shape | None]) -> None:
        """Start with nothing; `shape_of` tells what is known of a tensor's shape."""
        self.values: dict[str, Array] = {}
        self._model = model
        self._shape_of = shape_of
        self._room = _ALL

    def add(self, node: Node) -> bool:
        """Compute the output of a node if it is settled, and say whether it is."""
        if node.graph != ROOT or not node.is_standard or len(node.outputs) != 1 or self._model.is_constant(node.output):
            return False
        if node.op_type == "Shape":
            value = _shape(node, self._shape_of_value(node.input(0)))
        else:
            value = _computed(self._model, node, self.values)
        if value is None or value.size > min(_LARGEST, self._room):
            return False
        self.values[node.output] = value
        self._room -= value.size
        return True

    def _shape_of_value(self, key: str) -> Shape | None:
        made = self.values.get(key)
        return self._shape_of(key) if made is None else made.shape


def _computed(model: Model, node: Node, settled: Mapping[str, Array]) -> Array | None:
    operation = _OPERATIONS.get(node.op_type)
    if operation is None:
        return None
    values: list[Array] = []
    for key in filter(None, node.inputs):
        value = settled.get(key)
        if value is None and model.is_constant(key):
            value = _stored(model, key)
        if value is None or (node.op_type not in _MOVES and not is_known(value)):
            return None
        values.append(value)
    try:
        with np.errstate(all="ignore"):
            return np.asarray(operation(node, values))
    except _ODD:
        return None


def is_known(value: Array) -> bool:
    """Whether no dimension among the values is unknown."""
    return value.dtype != np.int64 or not (value == UNKNOWN).any()


def _stored(model: Model, key: str) -> Array | None:
    shape = model.shape(key)
    if shape is not None and int(np.prod([length or 1 for length in shape])) > _LARGEST:
        return None
    value = model.constant(key)
    return value if value is not None and value.dtype.kind in "iubf" and value.size <= _LARGEST else None


def _shape(node: Node, shape: Shape | None) -> Array | None:
    if shape is None:
        return None
    dims = [1 if length is None and axis == 0 else length for axis, length in enumerate(shape)]
    dims = dims[node.int("start", 0) : node.int("end", len(dims))]
    return np.asarray([UNKNOWN if length is None else length for length in dims], np.int64)


def _room(shape: Sequence[int]) -> tuple[int, ...]:
    if int(np.prod(list(shape), dtype=object)) > _LARGEST:
        raise ValueError("too large")
    return tuple(shape)


def _slice(node: Node, values: Sequence[Array]) -> Array:
    data, starts, ends = (
        values[:3] if len(values) > 2 else (values[0], *map(np.asarray, (node.ints("starts"), node.ints("ends"))))
    )
    axes = values[3] if len(values) > 3 else np.asarray(node.ints("axes") or range(starts.size))
    steps = values[4] if len(values) > 4 else np.ones(starts.size, np.int64)
    window: list[slice] = [slice(None)] * data.ndim
    for axis, start, end, step in zip(axes.ravel(), starts.ravel(), ends.ravel(), steps.ravel(), strict=True):
        last = None if step < 0 and end < -data.shape[axis] else int(end)
        window[int(axis)] = slice(int(start), last, int(step))
    return np.asarray(data[tuple(window)])


def _axes(node: Node, values: Sequence[Array]) -> tuple[int, ...]:
    return tuple(int(a) for a in values[1].ravel()) if len(values) > 1 else node.ints("axes")


def _filled(node: Node, values: Sequence[Array]) -> Array:
    value = node.attributes.get("value")
    if isinstance(value, onnx.TensorProto) and onnx.external_data_helper.uses_external_data(value):
        raise ValueError("a fill value is not read from another file")
    fill = onnx.numpy_helper.to_array(value).ravel() if isinstance(value, onnx.TensorProto) else np.zeros(1, np.float32)
    return np.full(_room([int(length) for length in values[0].ravel()]), fill[0])


def _range(node: Node, values: Sequence[Array]) -> Array:
    start, limit, delta = (value.item() for value in values)
    _room([max(0, int(np.ceil((limit - start) / delta)))])
    return np.arange(start, limit, delta, dtype=values[0].dtype)


def _expanded(node: Node, values: Sequence[Array]) -> Array:
    shape = np.broadcast_shapes(values[0].shape, tuple(int(d) for d in values[1].ravel()))
    return np.broadcast_to(values[0], _room(shape))


def _tiled(node: Node, values: Sequence[Array]) -> Array:
    repeats = [int(r) for r in values[1].ravel()]
    _room([length * repeat for length, repeat in zip(values[0].shape, repeats, strict=True)])
    return np.tile(values[0], repeats)


def _reshaped(node: Node, values: Sequence[Array]) -> Array:
    shape = [int(d) for d in (values[1].ravel() if len(values) > 1 else node.ints("shape"))]
    return values[0].reshape([values[0].shape[i] if d == 0 else d for i, d in enumerate(shape)])


def _gathered(node: Node, values: Sequence[Array]) -> Array:
    data, index, axis = values[0], values[1].astype(np.int64), node.int("axis", 0)
    _room([data.size // max(data.shape[axis], 1), index.size])
    return np.take(data, index, axis=axis)


def _joined(node: Node, values: Sequence[Array]) -> Array:
    _room([sum(value.size for value in values)])
    return np.concatenate(values, axis=node.int("axis", 0))


def _divided(a: Array, b: Array) -> Array:
    return np.asarray(a / b) if a.dtype.kind == "f" else np.asarray(a // np.where(b == 0, 1, b))


def _cast(node: Node, values: Sequence[Array]) -> Array:
    if not is_known(values[0]):  # a list of dimensions stays one, whatever exporters cast it to on its way
        return values[0]
    return values[0].astype(onnx.helper.tensor_dtype_to_np_dtype(node.int("to", 0)))


def _broadcast(function: Callable[..., Any], operands: int = 2) -> Callable[[Node, Sequence[Array]], Any]:
    def apply(node: Node, values: Sequence[Array]) -> Any:
        if len(values) != operands:  # numpy would take one more as the place for the result
            raise ValueError("another number of operands")
        _room(np.broadcast_shapes(*(value.shape for value in values)))
        return function(*values)

    return apply


# What only moves elements keeps unknown dimensions apart from known ones.
_MOVES = frozenset({"Identity", "Cast", "Gather", "Unsqueeze", "Squeeze", "Concat", "Slice"})
_OPERATIONS: Mapping[str, Callable[[Node, Sequence[Array]], Any]] = {
    "Identity": lambda node, v: v[0],
    "Cast": _cast,
    "Gather": _gathered,
    "Unsqueeze": lambda node, v: np.expand_dims(v[0], _axes(node, v)),
    "Squeeze": lambda node, v: np.squeeze(v[0], _axes(node, v) or None),
    "Concat": _joined,
    "Reshape": _reshaped,
    "Flatten": lambda node, v: v[0].reshape(int(np.prod(v[0].shape[: node.int("axis", 1)])), -1),
    "Transpose": lambda node, v: np.transpose(v[0], node.ints("perm") or None),
    "Slice": _slice,
    "ConstantOfShape": _filled,
    "Range": _range,
    "Expand": _expanded,
    "Tile": _tiled,
    "Add": _broadcast(np.add),
    "Sub": _broadcast(np.subtract),
    "Mul": _broadcast(np.multiply),
    "Div": _broadcast(_divided),
    "Min": _broadcast(np.minimum),
    "Max": _broadcast(np.maximum),
    "Equal": _broadcast(np.equal),
    "Greater": _broadcast(np.greater),
    "Less": _broadcast(np.less),
    "Where": _broadcast(np.where, 3),
    "Neg": lambda node, v: -v[0],
    "Sqrt": lambda node, v: np.sqrt(v[0]),
    "Floor": lambda node, v: np.floor(v[0]),
    "Ceil": lambda node, v: np.ceil(v[0]),
}
