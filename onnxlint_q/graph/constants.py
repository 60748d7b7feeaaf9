"""Tensors that do not depend on the inputs, and their values.

Exporters hide weights behind Constant nodes, Identity, Transpose, Reshape, Cast and, in quantised models, behind
DequantizeLinear. Only operators that cannot enlarge a tensor are followed, so reading a value is bounded by what
the file holds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any

import numpy as np
import onnx

from onnxlint_q.errors import ModelError
from onnxlint_q.graph.node import Node
from onnxlint_q.graph.tensors import Array, TensorStore

# Operators applied to get one value: parameters can be chains themselves, so without a limit time doubles a step.
_MAX_STEPS = 128
_CACHED_BYTES = 1 << 16
_CONSTANT_ATTRIBUTES: Mapping[str, Any] = {
    "value_float": np.float32,
    "value_floats": np.float32,
    "value_int": np.int64,
    "value_ints": np.int64,
    "value_string": object,
    "value_strings": object,
}


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
        self._steps: dict[str, int] = {}
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
        value = self._compute(key)
        if value.nbytes <= _CACHED_BYTES:
            self._cache[key] = value
        return value

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
        # ONNX Runtime writes 16-bit codes with its own DequantizeLinear where the opset has no such type.
        known = node.is_standard or node.qualified_type == "com.microsoft:DequantizeLinear"
        if not known or not node.outputs or node.subgraphs:
            return False
        if node.op_type == "Constant":
            return isinstance(node.attributes.get("value"), onnx.TensorProto) or any(
                node.attributes.get(name) is not None for name in _CONSTANT_ATTRIBUTES
            )
        if node.op_type not in _FOLDERS or not node.input(0):
            return False
        if not all(not key or (key in self and key not in sparse) for key in node.inputs):
            return False
        steps = 1 + sum(self._steps.get(key, 0) for key in node.inputs)
        self._steps[node.outputs[0]] = steps
        return steps <= _MAX_STEPS and (node.op_type != "DequantizeLinear" or self._qparams_fit(node))

    def _qparams_fit(self, node: Node) -> bool:
        """Whether scale and zero point have shapes that fit the codes, as far as stored shapes tell."""
        codes = self._stored_shape(node.input(0))
        for key in node.inputs[1:3]:
            shape = self._stored_shape(key)
            if codes is None or shape is None:
                continue
            try:
                check_parameter(shape, codes, node.int("axis", 1), node.int("block_size", 0))
            except ValueError:
                return False
        return True

    def _stored_shape(self, key: str) -> tuple[int, ...] | None:
        source = self._sources.get(key)
        constant = source.attributes.get("value") if source is not None else None
        tensor = self._tensors.get(key, constant)
        return tuple(tensor.dims) if isinstance(tensor, onnx.TensorProto) else None

    def _compute(self, key: str) -> Array:
        chain: list[Node] = []
        while key not in self._tensors:
            node = self._sources[key]
            if node.op_type == "Constant":
                break
            chain.append(node)
            key = node.inputs[0]
        value = self._store.array(self._tensors[key]) if key in self._tensors else self._constant(self._sources[key])
        for node in reversed(chain):
            value = self._apply(node, value)
        return value

    def _apply(self, node: Node, data: Array) -> Array:
        rest = [self._compute(key) if key else None for key in node.inputs[1:]]
        try:
            return _FOLDERS[node.op_type](node, data, rest)
        except (ValueError, IndexError, TypeError, KeyError) as error:
            raise ModelError(
                f"{self._store.model_name}: the {node.op_type} node {node.label!r} cannot be applied to the constant "
                f"of shape {list(data.shape)} it reads ({error}); export the model again"
            ) from error

    def _constant(self, node: Node) -> Array:
        attributes = node.attributes
        if isinstance(attributes.get("value"), onnx.TensorProto):
            return self._store.array(attributes["value"])
        name = next(name for name in _CONSTANT_ATTRIBUTES if attributes.get(name) is not None)
        return np.asarray(attributes[name], _CONSTANT_ATTRIBUTES[name])


def dequantize(codes: Array, scale: Array, zero_point: Array | None, axis: int, block_size: int = 0) -> Array:
    """DequantizeLinear: `(codes - zero_point) * scale`, per tensor, per channel of `axis`, or in blocks along it.

    Returns float32. Source: ONNX operator specification, DequantizeLinear-21.
    """
    scale = np.asarray(scale, np.float32)
    shift = np.zeros_like(scale) if zero_point is None else np.asarray(zero_point).astype(np.float32)
    # A scale may be infinite or no number at all; what comes out then is for a rule to report.
    with np.errstate(over="ignore", invalid="ignore"):
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
    check_parameter(parameter.shape, shape, axis, block_size)
    axis %= len(shape)
    if block_size:
        return np.repeat(parameter, block_size, axis=axis).take(range(shape[axis]), axis=axis)
    return parameter.reshape([-1 if position == axis else 1 for position in range(len(shape))])


def check_parameter(parameter: tuple[int, ...], shape: tuple[int, ...], axis: int, block_size: int = 0) -> None:
    """Check that a scale or zero point of shape `parameter` fits a tensor of `shape`.

    Raises:
        ValueError: its length does not fit the axis, or its blocks do not fit the shape.
    """
    if math.prod(parameter) == 1:
        return
    if not -len(shape) <= axis < len(shape):
        raise ValueError(f"axis {axis} is outside a tensor of rank {len(shape)}")
    axis %= len(shape)
    if block_size < 0:
        raise ValueError(f"the block size {block_size} is negative")
    if block_size:
        blocks = -(-shape[axis] // block_size)
        if parameter != (*shape[:axis], blocks, *shape[axis + 1 :]):
            raise ValueError(f"{list(parameter)} blocks of {block_size} do not fit {list(shape)}")
    elif parameter != (shape[axis],):
        raise ValueError(f"{list(parameter)} values for {shape[axis]} channels of axis {axis}")


def _cast(node: Node, data: Array, _: list[Array | None]) -> Array:
    # What is too large for the new type, or no number at all, becomes what it becomes; rules report it.
    with np.errstate(over="ignore", invalid="ignore"):
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
