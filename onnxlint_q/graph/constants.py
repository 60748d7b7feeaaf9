"""Tensors that do not depend on the inputs, and their values.

Exporters hide weights behind Constant nodes, Identity, Transpose, Reshape, Cast and, in quantised models, behind
DequantizeLinear. Only operators that cannot enlarge a tensor are followed, so reading a value is bounded by what
the file holds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any

import numpy as np
import onnx

from onnxlint_q.errors import ModelError
from onnxlint_q.graph.node import Node
from onnxlint_q.graph.tensors import Array, TensorStore

_MAX_DEPTH = 64
_CACHED_BYTES = 1 << 16


class Constants(Mapping[str, Array]):
    """Values by tensor key; a value is computed when asked for, and kept only if it is small."""

    def __init__(
        self,
        store: TensorStore,
        tensors: Mapping[str, onnx.TensorProto],
        nodes: Sequence[Node],
        sparse: Set[str] = frozenset(),
    ) -> None:
        self._store = store
        self._tensors = tensors
        self._sources: dict[str, Node] = {}
        self._cache: dict[str, Array] = {}
        for node in nodes:
            if self._foldable(node, sparse):
                self._sources[node.outputs[0]] = node

    def __contains__(self, key: object) -> bool:
        return key in self._tensors or key in self._sources

    def __iter__(self) -> Any:
        yield from self._tensors
        yield from self._sources

    def __len__(self) -> int:
        return len(self._tensors) + len(self._sources)

    def __getitem__(self, key: str) -> Array:
        if key in self._cache:
            return self._cache[key]
        value = self._compute(key, 0)
        if value.nbytes <= _CACHED_BYTES:
            self._cache[key] = value
        return value

    def value(self, key: str) -> Array | None:
        """The value of `key`, None where it is not constant."""
        return self[key] if key in self else None

    def initializer(self, key: str) -> onnx.TensorProto | None:
        """The stored tensor behind `key`, None for computed constants and Constant nodes."""
        return self._tensors.get(key)

    def initializers(self) -> Mapping[str, onnx.TensorProto]:
        """All stored tensors by key."""
        return self._tensors

    def origin(self, key: str) -> str:
        """The initializer or Constant output at the start of the chain that computes `key`."""
        while key in self._sources and self._sources[key].op_type != "Constant":
            key = self._sources[key].inputs[0]
        return key

    def _foldable(self, node: Node, sparse: Set[str]) -> bool:
        if not node.is_standard or not node.outputs or node.subgraphs:
            return False
        if node.op_type == "Constant":
            return "sparse_value" not in node.attributes
        if node.op_type not in _FOLDERS or not node.inputs:
            return False
        return all(not key or (key in self and key not in sparse) for key in node.inputs)

    def _compute(self, key: str, depth: int) -> Array:
        chain: list[Node] = []
        while key not in self._tensors:
            node = self._sources[key]
            if node.op_type == "Constant":
                break
            chain.append(node)
            key = node.inputs[0]
        value = self._store.array(self._tensors[key]) if key in self._tensors else self._constant(self._sources[key])
        for node in reversed(chain):
            value = self._apply(node, value, depth)
        return value

    def _apply(self, node: Node, data: Array, depth: int) -> Array:
        if depth > _MAX_DEPTH:
            raise ModelError(f"{self._store.model_name}: constants nest too deep at {node.label!r}")
        rest = [self._compute(key, depth + 1) if key else None for key in node.inputs[1:]]
        try:
            return _FOLDERS[node.op_type](node, data, rest)
        except (ValueError, IndexError, TypeError, KeyError) as error:
            raise ModelError(
                f"{self._store.model_name}: the {node.op_type} node {node.label!r} cannot be applied to the constant "
                f"of shape {list(data.shape)} it reads ({error}); export the model again"
            ) from error

    def _constant(self, node: Node) -> Array:
        attributes = node.attributes
        if "value" in attributes:
            return self._store.array(attributes["value"])
        for name, dtype in (("value_float", "f4"), ("value_floats", "f4"), ("value_int", "i8"), ("value_ints", "i8")):
            if name in attributes:
                return np.asarray(attributes[name], dtype=dtype)
        return np.asarray(attributes.get("value_strings", attributes.get("value_string", b"")), dtype=object)


def dequantize(codes: Array, scale: Array, zero_point: Array | None, axis: int, block_size: int = 0) -> Array:
    """DequantizeLinear: `(codes - zero_point) * scale`, per tensor, per channel of `axis`, or in blocks along it.

    Returns float32. Source: ONNX operator specification, DequantizeLinear-21.
    """
    scale = np.asarray(scale, np.float32)
    shift = np.zeros_like(scale) if zero_point is None else np.asarray(zero_point).astype(np.float32)
    return (codes.astype(np.float32) - spread(shift, codes.shape, axis, block_size)) * spread(
        scale, codes.shape, axis, block_size
    )


def spread(parameter: Array, shape: tuple[int, ...], axis: int, block_size: int = 0) -> Array:
    """Bring a scale or zero point into a form that broadcasts against a tensor of `shape`.

    Raises:
        ValueError: its length does not fit the axis, or its blocks do not fit the shape.
    """
    if parameter.size == 1:
        return parameter.reshape(())
    axis += len(shape) if axis < 0 else 0
    if not 0 <= axis < len(shape):
        raise ValueError(f"axis {axis} is outside a tensor of rank {len(shape)}")
    if block_size:
        blocks = -(-shape[axis] // block_size)
        if parameter.shape != (*shape[:axis], blocks, *shape[axis + 1 :]):
            raise ValueError(f"{list(parameter.shape)} blocks of {block_size} do not fit {list(shape)}")
        return np.repeat(parameter, block_size, axis=axis).take(range(shape[axis]), axis=axis)
    if parameter.shape != (shape[axis],):
        raise ValueError(f"{list(parameter.shape)} values for {shape[axis]} channels of axis {axis}")
    return parameter.reshape([-1 if position == axis else 1 for position in range(len(shape))])


def _cast(node: Node, data: Array, _: list[Array | None]) -> Array:
    return data.astype(onnx.helper.tensor_dtype_to_np_dtype(node.attributes["to"]))


def _transpose(node: Node, data: Array, _: list[Array | None]) -> Array:
    return np.transpose(data, node.ints("perm") or None)


def _reshape(node: Node, data: Array, rest: list[Array | None]) -> Array:
    shape = node.ints("shape") if not rest or rest[0] is None else tuple(int(d) for d in rest[0])
    keep_zero = node.int("allowzero", 0)
    dims = [data.shape[i] if d == 0 and not keep_zero else d for i, d in enumerate(shape)]
    return data.reshape(dims)


def _squeeze(node: Node, data: Array, rest: list[Array | None]) -> Array:
    axes = _axes(node, rest)
    return np.squeeze(data, axes) if axes else np.squeeze(data)


def _unsqueeze(node: Node, data: Array, rest: list[Array | None]) -> Array:
    return np.expand_dims(data, _axes(node, rest))


def _flatten(node: Node, data: Array, _: list[Array | None]) -> Array:
    axis = node.int("axis", 1)
    rows = int(np.prod(data.shape[:axis], dtype=np.int64))
    return data.reshape(rows, -1)


def _dequantize(node: Node, data: Array, rest: list[Array | None]) -> Array:
    scale, zero_point = (*rest, None, None)[:2]
    if scale is None:
        raise ValueError("it has no scale")
    return dequantize(data, scale, zero_point, node.int("axis", 1), node.int("block_size", 0))


def _axes(node: Node, rest: list[Array | None]) -> tuple[int, ...]:
    return node.ints("axes") if not rest or rest[0] is None else tuple(int(a) for a in np.ravel(rest[0]))


_FOLDERS: Mapping[str, Callable[[Node, Array, list[Array | None]], Array]] = {
    "Identity": lambda node, data, rest: data,
    "Cast": _cast,
    "Transpose": _transpose,
    "Reshape": _reshape,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Flatten": _flatten,
    "DequantizeLinear": _dequantize,
}
