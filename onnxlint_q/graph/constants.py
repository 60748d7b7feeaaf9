"""Tensors that do not depend on the inputs, and their values.

Exporters hide weights behind Constant nodes, Identity, Transpose, Reshape, Cast and, in quantised models, behind
DequantizeLinear; those of recurrent operators also behind Slice and Concat, which bring gates into order. Only
operators that cannot enlarge a tensor are followed, and a Concat that makes no more than the file stores, so reading a
value is bounded by what the file holds.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence, Set
from typing import Any

import numpy as np
import onnx

from onnxlint_q.errors import ModelError
from onnxlint_q.graph.element_types import FLOATS
from onnxlint_q.graph.evaluate import EvaluationError, check_parameter, evaluate, is_evaluated
from onnxlint_q.graph.node import Node
from onnxlint_q.graph.operators import Trait
from onnxlint_q.graph.tensors import Array, TensorStore

# Results have as many elements as what is read.
_CANNOT_ENLARGE = Trait.COPIES | Trait.QUANTIZES | Trait.REARRANGES
# A part of what is read, and several tensors side by side: of weights. Sizes are put together so too, see `settled`.
_PARTS, _JOINS = "Slice", "Concat"
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
        # Elements that a computed constant has at most.
        self._sizes: dict[str, int] = {}
        self._cache: dict[str, Array] = {}
        attached = (node.attributes.get("value") for node in nodes if node.op_type == "Constant")
        stored = [*tensors.values(), *(value for value in attached if isinstance(value, onnx.TensorProto))]
        self._stored = sum(math.prod(tensor.dims) for tensor in stored)
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
        if key not in self:
            raise KeyError(key)
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

    def made_of(self, key: str) -> Hashable:
        """What a value is computed from, and how: values with the same are the same, as where layers share a weight."""
        node = self._sources.get(key)
        if node is None or node.op_type == "Constant":
            return key
        settings = tuple(sorted((name, repr(value)) for name, value in node.attributes.items()))
        return node.qualified_type, settings, tuple(self.made_of(name) if name else "" for name in node.inputs)

    def _foldable(self, node: Node, sparse: Set[str]) -> bool:
        if not node.outputs or node.subgraphs:
            return False
        if node.op_type == "Constant" and node.is_standard:
            return isinstance(node.attributes.get("value"), onnx.TensorProto) or any(
                node.attributes.get(name) is not None for name in _CONSTANT_ATTRIBUTES
            )
        arranged = node.op_type in {_PARTS, _JOINS} and self._stored_type(self.origin(node.input(0))) in FLOATS
        followed = node.operator.has(_CANNOT_ENLARGE) or arranged
        if not is_evaluated(node) or not followed or not node.input(0):
            return False
        if not all(not key or (key in self and key not in sparse) for key in node.inputs):
            return False
        steps = 1 + sum(self._steps.get(key, 0) for key in node.inputs)
        self._steps[node.outputs[0]] = steps
        size = sum(map(self._size, node.inputs if node.op_type == _JOINS else node.inputs[:1]))
        self._sizes[node.outputs[0]] = size
        if node.op_type == _JOINS and size > self._stored:
            return False
        return steps <= _MAX_STEPS and (node.op_type != "DequantizeLinear" or self._qparams_fit(node))

    def _size(self, key: str) -> int:
        """Elements of a constant, at most."""
        shape = self._stored_shape(key)
        return math.prod(shape) if shape is not None else self._sizes.get(key, 1)

    def _qparams_fit(self, node: Node) -> bool:
        """Whether scale and zero point have shapes that fit the codes, as far as stored shapes tell."""
        codes = self._stored_shape(node.input(0))
        for key in node.inputs[1:3]:
            shape = self._stored_shape(key)
            if codes is None or shape is None:
                continue
            try:
                check_parameter(shape, codes, node.int("axis", 1), node.int("block_size", 0))
            except EvaluationError:
                return False
        return True

    def _stored_shape(self, key: str) -> tuple[int, ...] | None:
        tensor = self._stored_tensor(key)
        return tuple(tensor.dims) if tensor is not None else None

    def _stored_type(self, key: str) -> int:
        tensor = self._stored_tensor(key)
        return tensor.data_type if tensor is not None else 0

    def _stored_tensor(self, key: str) -> onnx.TensorProto | None:
        source = self._sources.get(key)
        constant = source.attributes.get("value") if source is not None else None
        tensor = self._tensors.get(key, constant)
        return tensor if isinstance(tensor, onnx.TensorProto) else None

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
            parts = sum(part.size for part in rest if part is not None) if node.op_type == _JOINS else 0
            return evaluate(node, [data, *rest], max(data.size + parts, 1))
        except EvaluationError as error:
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
