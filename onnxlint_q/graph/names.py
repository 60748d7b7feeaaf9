"""Names that stay unique across subgraphs, and the walk that gives every graph its path."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import onnx

ROOT = "main"
"""How the graph of a model is called; subgraphs and functions have names of their own."""


def tensor_key(name: str, graph: str) -> str:
    """The key of the tensor `name` defined in the graph with path `graph`."""
    return name if graph == ROOT or not name else f"{graph}/{name}"


def local_name(key: str, graph: str) -> str:
    """The name a key has inside its own graph."""
    return key if graph == ROOT else key.removeprefix(f"{graph}/")


def bodies(node: onnx.NodeProto, position: int, graph: str) -> Iterator[tuple[str, str, onnx.GraphProto]]:
    """Attribute name, path and message of each subgraph of `node`, the node being at `position` of `graph`."""
    identity = next(filter(None, node.output), f"{node.op_type}#{position}")
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            yield attribute.name, f"{graph}/{identity}.{attribute.name}", attribute.g
        for number, member in enumerate(attribute.graphs):
            name = f"{attribute.name}[{number}]"
            yield name, f"{graph}/{identity}.{name}", member


def names_read(node: onnx.NodeProto) -> Iterator[str]:
    """What a node reads, and what its subgraphs read of the graph around it."""
    yield from filter(None, node.input)
    for _, _, body in bodies(node, 0, ROOT):
        own = {value.name for value in (*body.input, *body.initializer)}
        own.update(name for inner in body.node for name in inner.output)
        read = itertools.chain(*map(names_read, body.node), (value.name for value in body.output))
        yield from (name for name in read if name not in own)


def walk_graphs(graph: onnx.GraphProto, path: str = ROOT) -> Iterator[tuple[str, onnx.GraphProto]]:
    """`graph` and every graph nested in it, outer before inner, with their paths."""
    yield path, graph
    for position, node in enumerate(graph.node):
        for _, inner, body in bodies(node, position, path):
            yield from walk_graphs(body, inner)
