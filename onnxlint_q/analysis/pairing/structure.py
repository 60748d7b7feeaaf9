"""What a place in a model is, whatever its tensors and nodes are called.

An export gives other names to the same network, stores its initializers in another order, and may or may not tell the
shapes between. So a place is told by what does not change: the operators around it with the shapes of their constants,
as far as two nodes away (the hash of Weisfeiler and Leman), and the values of its own weights. Places that are alike
in all of it are told apart by their order in the data flow.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator

import numpy as np

from onnxlint_q.errors import ModelError
from onnxlint_q.finding import Location
from onnxlint_q.graph import Model, Node
from onnxlint_q.graph.names import tensor_key

RADIUS = 2
"""Nodes up and down the data flow that tell what a place is."""
MOST_VALUES = 4096
"""Values of a weight that are looked at, evenly spread: they tell two weights apart, and large ones cost no more."""


class Structure:
    """Identities of places in one model."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._labels: dict[tuple[Node, int], str] = {}
        self._weights: dict[str, str] = {}
        self._alike: dict[str, dict[str, list[Node]]] = {}
        self._ranks: dict[str, dict[Node, int]] = {}
        self._depth: dict[Node, int] = {}
        self._by_type: dict[str, list[Node]] = {}
        for node in model.nodes:
            # Nodes that do not wait for each other have no order of their own.
            made_by = (model.producer(tensor) for tensor in (*node.inputs, *node.captured) if tensor)
            self._depth[node] = 1 + max((self._depth.get(one, 0) for one in made_by if one is not None), default=0)
            self._by_type.setdefault(node.qualified_type, []).append(node)
        self._by_name = {(node.graph, node.name, node.qualified_type): node for node in reversed(model.nodes)}

    def of(self, *places: Location, about: str = "") -> str:
        """The identity of a place, or of several in any order; `about` tells apart what is said of the same ones."""
        told = (_hash(where.op_type, *self._place(where, tensor_key(where.output, where.graph))) for where in places)
        return _hash(about, *sorted(told))

    def _place(self, where: Location, key: str) -> tuple[str, ...]:
        node = self._node(where, key)
        if node is not None:
            return (self._label(node, RADIUS), *self._weights_of(node), str(self._rank(node)))
        if self._model.is_constant(key):
            readers = sorted(self._label(reader, RADIUS - 1) for reader in self._model.consumers(key))
            return (self._weight(key), *readers)
        ends = {value.name: f"input {index}" for index, value in enumerate(self._model.inputs)}
        return (ends.get(key, where.output),)

    def _node(self, where: Location, key: str) -> Node | None:
        """The one that makes the tensor of a place, unless the place names another, as where one is folded."""
        made_by = self._model.producer(key)
        if made_by is not None and (not where.op_type or where.op_type == made_by.qualified_type):
            return made_by
        return self._by_name.get((where.graph, where.node, where.op_type), made_by)

    def _label(self, node: Node, radius: int) -> str:
        """A hash of what `node` is and of what stands around it."""
        found = self._labels.get((node, radius))
        if found is None:
            around = self._around(node, radius - 1) if radius else ()
            found = self._labels[node, radius] = _hash(*self._kind(node), *around)
        return found

    def _kind(self, node: Node) -> Iterator[str]:
        yield node.qualified_type
        # The path of a subgraph holds a tensor's name; what it is a body of stands behind the last dot.
        yield node.graph.rpartition(".")[2] if "." in node.graph else ""
        for tensor in node.inputs:
            yield str(self._model.shape(tensor)) if self._model.is_constant(tensor) else ""

    def _around(self, node: Node, radius: int) -> Iterator[str]:
        for tensor in node.inputs:
            made_by = self._model.producer(tensor) if tensor else None
            own = "constant" if self._model.is_constant(tensor) else "input" if tensor else ""
            yield self._label(made_by, radius) if made_by is not None and own != "constant" else own
        yield "|"
        readers = {reader for tensor in node.outputs if tensor for reader in self._model.consumers(tensor)}
        yield from sorted(self._label(reader, radius) for reader in readers)

    def _rank(self, node: Node) -> int:
        """How many nodes that are alike stand before `node`."""
        kind = node.qualified_type
        if kind not in self._alike:
            alike = self._alike[kind] = {}
            for other in self._by_type[kind]:
                alike.setdefault(self._label(other, RADIUS), []).append(other)
        label = self._label(node, RADIUS)
        if label not in self._ranks:
            seen: Counter[tuple[str, ...]] = Counter()
            ranks = self._ranks[label] = {}
            for other in sorted(self._alike[kind][label], key=lambda one: (self._depth[one], one.order)):
                weights = self._weights_of(other)
                ranks[other] = seen[weights]
                seen[weights] += 1
        return self._ranks[label][node]

    def _weights_of(self, node: Node) -> tuple[str, ...]:
        return tuple(self._weight(tensor) for tensor in node.inputs if tensor)

    def _weight(self, tensor: str) -> str:
        """A hash of what a constant holds; empty for what is none or cannot be read."""
        if tensor not in self._weights:
            try:
                values = self._model.constant(tensor) if self._model.is_constant(tensor) else None
            except ModelError:
                values = None
            self._weights[tensor] = _hash_of(values) if isinstance(values, np.ndarray) else ""
        return self._weights[tensor]


def _hash_of(values: np.ndarray) -> str:
    flat = values.reshape(-1)
    seen = np.ascontiguousarray(flat[:: max(1, -(-flat.size // MOST_VALUES))])
    held = repr(seen.tolist()).encode("utf-8", "backslashreplace") if seen.dtype.hasobject else seen.tobytes()
    return _hash(str(values.dtype), str(values.shape), hashlib.sha256(held).hexdigest())


def _hash(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:16]
