"""From a parsed ModelProto to a Model: names resolved through scopes, every edge in one flow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import onnx

from onnxlint_q.errors import ModelError
from onnxlint_q.graph.constants import Constants
from onnxlint_q.graph.loading.shapes import infer_types, tensor_type
from onnxlint_q.graph.model import Model
from onnxlint_q.graph.names import ROOT, bodies, tensor_key, walk_graphs
from onnxlint_q.graph.node import NOTES, Node, Value
from onnxlint_q.graph.tensors import MOST_AXES, Array, TensorStore

MAX_NODES = 1_000_000


def build_model(proto: onnx.ModelProto, store: TensorStore, *, path: Path, sha256: str) -> Model:
    """Build the view of `proto`.

    Raises:
        ModelError: a tensor is defined twice or not at all, the graph has a cycle, or external data is out of reach.
    """
    builder = _Builder(store)
    builder.add_graph(proto.graph, ROOT, {})
    order = builder.data_order()
    inputs = tuple(
        Value(value.name, tensor_type(value.type)) for value in proto.graph.input if value.name not in builder.tensors
    )
    outputs = tuple(Value(value.name, tensor_type(value.type)) for value in proto.graph.output)
    constants = Constants(store, builder.tensors, order, sparse=builder.sparse)
    types = infer_types(proto, constants)
    return Model(path, store.model_name, sha256, proto, constants, order, inputs, outputs, builder.placed(), types)


def rebuilt(model: Model, proto: onnx.ModelProto) -> Model:
    """The view of `proto`, a changed copy of the model's own with the same inputs.

    Raises:
        ModelError: as `build_model`.
    """
    made = build_model(proto, TensorStore(model.path.parent, model.name), path=model.path, sha256=model.sha256)
    return replace(made, inputs=model.inputs, inlined=model.inlined)


def declared(model: Model, shapes: Mapping[str, tuple[int, ...]], values: Mapping[str, Array] | None = None) -> Model:
    """The view where inputs are declared with these shapes, and these tensors known to have these values."""
    inputs = tuple(
        replace(value, type=replace(value.type, shape=shapes.get(value.name, value.type.shape)))
        for value in model.inputs
    )
    stated = {value.name: value.type.shape for value in inputs if value.type.shape is not None}
    return replace(model, inputs=inputs, types=infer_types(model.proto, model.constants, stated, values))


@dataclass
class _Builder:
    store: TensorStore
    # What follows each tensor, by key, and each node, by its place in `nodes`; dicts, as sets have no order.
    flow: dict[str | int, dict[str | int, None]] = field(default_factory=dict)
    tensors: dict[str, onnx.TensorProto] = field(default_factory=dict)
    sparse: set[str] = field(default_factory=set)
    nodes: list[Node] = field(default_factory=list)

    def add_graph(self, graph: onnx.GraphProto, path: str, outer: dict[str, str]) -> dict[str, str]:
        """Add `graph` and its subgraphs; returns the names it defines or captures, with their keys."""
        if path.count("/") > 64:
            raise self._error(f"subgraphs are nested more than 64 deep at {path!r}")
        scope = self._define_names(graph, path, outer)
        for position, node in enumerate(graph.node):
            self._add_node(node, position, path, scope)
        for value in graph.output:
            if value.name not in scope:
                raise self._error(f"output {value.name!r} of graph {path!r} is not computed by any node")
        return scope

    def _define_names(self, graph: onnx.GraphProto, path: str, outer: dict[str, str]) -> dict[str, str]:
        own: dict[str, str] = {}
        stored: set[str] = set()

        def define(name: str, what: str) -> str:
            if not name:
                raise self._error(f"there is a tensor {what} without a name")
            key = tensor_key(name, path)
            if name in own or (key in self.flow and path != ROOT):
                raise self._error(f"tensor {name!r} is defined twice ({what})")
            own[name] = key
            self.flow[key] = {}
            return key

        for value in graph.input:
            define(value.name, "as an input")
        for tensor in graph.initializer:
            # Before IR version 4 every initializer is listed as an input too; later that gives it a default.
            key = own.get(tensor.name) or define(tensor.name, "as an initializer")
            if key in stored:
                raise self._error(f"initializer {tensor.name!r} is there twice")
            stored.add(key)
            self.store.check(tensor)
            if len(tensor.dims) <= MOST_AXES:
                self.tensors[key] = tensor
        for sparse in graph.sparse_initializer:
            self.sparse.add(define(sparse.values.name, "as a sparse initializer"))
        for node in graph.node:
            for name in filter(None, node.output):
                define(name, f"by the {node.op_type} node {node.name!r}")
        return {**outer, **own}

    def _add_node(self, node: onnx.NodeProto, position: int, path: str, scope: dict[str, str]) -> None:
        inputs = tuple(self._resolve(name, node, scope) for name in node.input)
        outputs = tuple(tensor_key(name, path) for name in node.output)
        subgraphs: dict[str, str] = {}
        returns: dict[str, tuple[str, ...]] = {}
        takes: dict[str, tuple[str, ...]] = {}
        inner_scopes: list[tuple[onnx.GraphProto, dict[str, str]]] = []
        for attribute, inner_path, body in bodies(node, position, path):
            subgraphs[attribute] = inner_path
            inner = self.add_graph(body, inner_path, scope)
            inner_scopes.append((body, inner))
            returns[attribute] = tuple(inner[value.name] for value in body.output)
            takes[attribute] = tuple(inner[value.name] for value in body.input)
        attributes = {
            attribute.name: _attribute_value(attribute)
            for attribute in node.attribute
            if attribute.type not in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)
        }
        captured = tuple(dict.fromkeys(key for body, inner in inner_scopes for key in _captures(body, inner, scope)))
        made = Node(
            path,
            node.name,
            node.op_type,
            node.domain,
            inputs,
            outputs,
            captured,
            attributes,
            subgraphs,
            returns,
            takes,
            notes=notes_in(node.metadata_props),
        )
        self.nodes.append(made)
        if len(self.nodes) > MAX_NODES:
            raise self._error(f"has more than {MAX_NODES} nodes")
        vertex = len(self.nodes) - 1
        for key in filter(None, (*inputs, *captured)):
            self.flow[key][vertex] = None
        self.flow[vertex] = dict.fromkeys(filter(None, outputs))
        for body, inner in inner_scopes:
            self._tie_body(vertex, inputs, body, inner)

    def _tie_body(self, node: int, inputs: Sequence[str], body: onnx.GraphProto, inner: dict[str, str]) -> None:
        """Data flows from the node's inputs into its body's inputs, and from the body's outputs out of the node."""
        for outer_key, value in zip(inputs, body.input, strict=False):
            if outer_key:
                self.flow[outer_key][inner[value.name]] = None
        for value in body.output:
            self.flow[inner[value.name]][node] = None

    def _resolve(self, name: str, node: onnx.NodeProto, scope: dict[str, str]) -> str:
        if not name:
            return ""
        key = scope.get(name)
        if key is None:
            kind = node.op_type if node.op_type.isprintable() else repr(node.op_type)
            raise self._error(
                f"the {kind} node {node.name or ''.join(node.output[:1])!r} reads tensor {name!r}, "
                "which no input, initializer or node defines"
            )
        return key

    def data_order(self) -> tuple[Node, ...]:
        """All nodes in data order, each knowing its position; replaces those that do not."""
        awaited = Counter(vertex for following in self.flow.values() for vertex in following)
        ready: list[str | int] = [vertex for vertex in self.flow if not awaited[vertex]]
        order: list[int] = []
        for vertex in ready:  # grows as it is gone through
            if isinstance(vertex, int):
                self.nodes[vertex] = replace(self.nodes[vertex], order=len(order))
                order.append(vertex)
            for following in self.flow[vertex]:
                awaited[following] -= 1
                if not awaited[following]:
                    ready.append(following)
        if len(ready) < len(self.flow):
            names = [vertex for vertex in self._cycle(self.flow.keys() - set(ready)) if isinstance(vertex, str)]
            raise self._error(f"the graph has a cycle through {', '.join(map(repr, names[:4]))}")
        return tuple(self.nodes[vertex] for vertex in order)

    def _cycle(self, rest: Set[str | int]) -> list[str | int]:
        """A cycle among vertices each of which follows another of them."""
        before = {following: vertex for vertex in self.flow if vertex in rest for following in self.flow[vertex]}
        vertex = next(iter(before))
        seen: dict[str | int, None] = {}
        while vertex not in seen:
            seen[vertex] = None
            vertex = before[vertex]
        walked = list(seen)
        found = walked[walked.index(vertex) :][::-1]
        start = found.index(next(vertex for vertex in self.flow if vertex in seen and vertex in found))
        return found[start:] + found[:start]

    def placed(self) -> Mapping[str | Node, tuple[str | Node, ...]]:
        """The flow between tensors and nodes that know their position."""
        nodes = self.nodes
        return {
            nodes[vertex] if isinstance(vertex, int) else vertex: tuple(
                nodes[one] if isinstance(one, int) else one for one in following
            )
            for vertex, following in self.flow.items()
        }

    def _error(self, what: str) -> ModelError:
        return ModelError(f"{self.store.model_name}: {what}; export the model again")


def notes_in(metadata: Iterable[onnx.StringStringEntryProto]) -> dict[str, str]:
    """What stands there for this tool, by key without its prefix."""
    return {entry.key.removeprefix(NOTES): entry.value for entry in metadata if entry.key.startswith(NOTES)}


def _captures(body: onnx.GraphProto, inner: dict[str, str], outer: dict[str, str]) -> Iterable[str]:
    """Keys of the outer tensors that nodes of `body`, at any depth, read, or that it returns untouched."""
    own = {name for name, key in inner.items() if outer.get(name) != key}
    for _, graph in walk_graphs(body):
        read = (name for node in graph.node for name in node.input)
        returned = (value.name for value in graph.output)
        yield from (outer[name] for name in (*read, *returned) if name not in own and name in outer)


def _attribute_value(attribute: onnx.AttributeProto) -> Any:
    if attribute.ref_attr_name:
        return None
    if attribute.type == onnx.AttributeProto.TENSOR and len(attribute.t.dims) > MOST_AXES:
        return None
    try:
        return onnx.helper.get_attribute_value(attribute)
    except ValueError:
        return None
