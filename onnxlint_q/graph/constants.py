"""Tensors that do not depend on the inputs, and their values.

Exporters hide weights behind Constant nodes, Identity, Transpose, Reshape, Cast and, in quantised models, behind
DequantizeLinear, or behind Cast, Mul and Add; those of recurrent operators also behind Slice and Concat, which bring
gates into order. Only operators that cannot enlarge a tensor are followed, and a Concat that makes no more than the
file stores, so reading a value is bounded by what the file holds.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence, Set
from typing import Any

import numpy as np
import onnx

from onnxlint_q.errors import ModelError
from onnxlint_q.graph.codes.trained import code_ends, is_computed, is_quant
from onnxlint_q.graph.element_types import CODES, FLOATS
from onnxlint_q.graph.evaluate import EvaluationError, check_parameter, evaluate, is_evaluated
from onnxlint_q.graph.node import Node
from onnxlint_q.graph.operators import Trait
from onnxlint_q.graph.tensors import Array, TensorStore

# Results have as many elements as what is read.
_CANNOT_ENLARGE = Trait.COPIES | Trait.QUANTIZES | Trait.REARRANGES
# A part of what is read, and several tensors side by side: of weights. Sizes are put together so too, see `settled`.
_PARTS, _JOINS = "Slice", "Concat"
# What makes real values of codes behind a Cast; the codes are the first operand of those that do not commute.
_COMMUTING, _ORDERED = frozenset({"Mul", "Add"}), frozenset({"Div", "Sub"})
_RESTORES = _COMMUTING | _ORDERED
# The types that numpy knows arithmetic for.
_COMPUTED = FLOATS - {onnx.TensorProto.BFLOAT16}
# Operators applied to get one value: parameters can be chains themselves, so without a limit time doubles a step.
_MAX_STEPS = 128
_CACHED_BYTES = 1 << 16
# What a Constant holds instead of a tensor: the type of its result, and of the values that the attribute may have.
_CONSTANT_ATTRIBUTES: Mapping[str, tuple[Any, tuple[type, ...]]] = {
    "value_float": (np.float32, (float, int)),
    "value_floats": (np.float32, (float, int)),
    "value_int": (np.int64, (int,)),
    "value_ints": (np.int64, (int,)),
    "value_string": (object, (bytes, str)),
    "value_strings": (object, (bytes, str)),
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
        # Shapes of computed constants, where it takes no computing to know them.
        self._shapes: dict[str, tuple[int, ...]] = {}
        # Which operand holds the values, where it is not the first.
        self._slots: dict[str, int] = {}
        # What a Cast made of codes, and what became of that.
        self._restored: set[str] = set()
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
        chain = self.chain(key)
        return self._data(chain[-1]) if chain else key

    def chain(self, key: str) -> tuple[Node, ...]:
        """The nodes that compute `key` from its origin, the last one first."""
        found: list[Node] = []
        while key in self._sources and self._sources[key].op_type != "Constant":
            found.append(self._sources[key])
            key = self._data(found[-1])
        return tuple(found)

    def slot(self, key: str) -> int:
        """Which operand of its node the values of a computed constant come from."""
        return self._slots.get(key, 0)

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
            return isinstance(node.attributes.get("value"), onnx.TensorProto) or any(_plain(node))
        restores = node.op_type in _RESTORES
        if not is_evaluated(node) or not all(not key or (key in self and key not in sparse) for key in node.inputs):
            return False
        if restores and not self._restores(node):
            return False
        data = self._data(node)
        arranged = node.op_type in {_PARTS, _JOINS} and self._stored_type(self.origin(data)) in FLOATS
        if not data or not (restores or arranged or node.operator.has(_CANNOT_ENLARGE)):
            return False
        steps = 1 + sum(self._steps.get(key, 0) for key in node.inputs)
        self._steps[node.outputs[0]] = steps
        size = sum(map(self._size, node.inputs if node.op_type == _JOINS else (data,)))
        self._sizes[node.outputs[0]] = size
        if node.op_type == _JOINS and size > self._stored:
            return False
        if steps > _MAX_STEPS or (node.op_type == "DequantizeLinear" and not self._qparams_fit(node)):
            return False
        if is_quant(node) and not self._rounds(node, data):
            return False
        self._note(node, data)
        return True

    def _data(self, node: Node) -> str:
        """The operand that the values of a result come from."""
        return node.input(self.slot(node.outputs[0]))

    def _restores(self, node: Node) -> bool:
        """Whether a node of two operands makes real values of codes, with a constant that does not enlarge them."""
        if len(node.inputs) != 2:
            return False
        for slot in (0, 1) if node.op_type in _COMMUTING else (0,):
            codes, other = node.input(slot), node.input(1 - slot)
            real = self._stored_type(self.origin(other)) in _COMPUTED or other in self._restored
            if codes in self._restored and real and self._broadcasts(codes, other):
                self._slots[node.outputs[0]] = slot
                return True
        return False

    def _rounds(self, node: Node, data: str) -> bool:
        """Whether a Quant has parameters that fit and are known."""
        if not is_computed(node) or not all(self._broadcasts(data, key) for key in node.inputs[1:] if key):
            return False
        bits = node.input(3)
        return code_ends(node, self[bits] if bits and self._size(bits) == 1 else None) is not None

    def _broadcasts(self, key: str, other: str) -> bool:
        """Whether `other` leaves the shape of `key` as it is."""
        shape, theirs = self._shape(key), self._shape(other)
        if shape is None or theirs is None:
            return theirs is not None and math.prod(theirs) == 1 and len(theirs) <= 1
        if len(theirs) > len(shape):
            return False
        return all(length in {1, ours} for length, ours in zip(reversed(theirs), reversed(shape), strict=False))

    def _note(self, node: Node, data: str) -> None:
        """Keep what is known of a computed constant: its shape, and whether it was codes."""
        made, shape = node.outputs[0], self._shape(data)
        if node.op_type == "Transpose" and shape is not None:
            perm = node.ints("perm") or tuple(reversed(range(len(shape))))
            if sorted(perm) == list(range(len(shape))):
                self._shapes[made] = tuple(shape[axis] for axis in perm)
        elif shape is not None and (node.op_type in _RESTORES or node.operator.has(Trait.COPIES | Trait.QUANTIZES)):
            self._shapes[made] = shape
        cast = node.op_type == "Cast" and node.int("to", 0) in _COMPUTED
        if (cast and self._stored_type(self.origin(data)) in CODES) or data in self._restored:
            self._restored.add(made)

    def _shape(self, key: str) -> tuple[int, ...] | None:
        return self._shapes.get(key, self._stored_shape(key))

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
            key = self._data(node)
        value = self._store.array(self._tensors[key]) if key in self._tensors else self._constant(self._sources[key])
        for node in reversed(chain):
            value = self._apply(node, value)
        return value

    def _apply(self, node: Node, data: Array) -> Array:
        slot = self.slot(node.outputs[0])
        operands = [
            data if position == slot else self._compute(key) if key else None
            for position, key in enumerate(node.inputs)
        ]
        try:
            parts = sum(part.size for part in operands if part is not None) if node.op_type == _JOINS else 0
            return evaluate(node, operands, max(data.size, parts, 1))
        except EvaluationError as error:
            raise ModelError(
                f"{self._store.model_name}: the {node.op_type} node {node.label!r} cannot be applied to the constant "
                f"of shape {list(data.shape)} it reads ({error}); export the model again"
            ) from error

    def _constant(self, node: Node) -> Array:
        attributes = node.attributes
        if isinstance(attributes.get("value"), onnx.TensorProto):
            return self._store.array(attributes["value"])
        name = next(_plain(node))
        return np.asarray(attributes[name], _CONSTANT_ATTRIBUTES[name][0])


def _plain(node: Node) -> Iterator[str]:
    """Attributes of a Constant that hold what their names say; a broken file may have anything there."""
    for name, (_, kinds) in _CONSTANT_ATTRIBUTES.items():
        value = node.attributes.get(name)
        if value is not None and all(
            isinstance(one, kinds) for one in (value if isinstance(value, (list, tuple)) else (value,))
        ):
            yield name
