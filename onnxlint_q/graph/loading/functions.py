"""Model-local functions are inlined by onnx's own inliner, after a check that the result stays small.

A few functions that each call the next one twice describe a graph of exponential size, and one that is called
often copies the constants in its body as often, so nodes and bytes are counted before anything is expanded.
"""

from __future__ import annotations

from collections.abc import Iterable

import onnx
import onnx.inliner

from onnxlint_q.errors import ModelError

MAX_BYTES = 1 << 30
# Nodes that are never too many, and how many times as many as the file holds may come of it otherwise: exporters call
# a function once for each layer, tens of times.
_FREE_NODES, _MOST_TIMES = 20_000, 100


def inline_functions(proto: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """The same model without model-local functions; the argument itself where it has none.

    Raises:
        ModelError: a function calls itself, or the expanded graph would have many times the nodes of the file, or pass
            MAX_BYTES bytes.
    """
    if not proto.functions:
        return proto
    nodes, size = _expanded_size(proto, name)
    most = max(_FREE_NODES, _MOST_TIMES * (len(proto.graph.node) + sum(len(one.node) for one in proto.functions)))
    if nodes > most or size > MAX_BYTES:
        excess = f"{nodes} nodes (limit {most})" if nodes > most else f"{size} bytes (limit {MAX_BYTES})"
        raise ModelError(f"{name}: expanding its local functions would give {excess}; export it with functions inlined")
    try:
        return onnx.inliner.inline_local_functions(proto)
    except Exception as error:  # the inliner is C++ and raises whatever its checks raise
        raise ModelError(f"{name}: its local functions cannot be inlined ({error}); export it without them") from error


def _expanded_size(proto: onnx.ModelProto, name: str) -> tuple[int, int]:
    """Nodes and bytes of the graph with every call replaced by the body of its function."""
    bodies = {(f.domain, f.name, f.overload): f for f in proto.functions}
    sizes: dict[tuple[str, str, str], tuple[int, int]] = {}
    open_calls: set[tuple[str, str, str]] = set()

    def size_of(nodes: Iterable[onnx.NodeProto]) -> tuple[int, int]:
        count = size = 0
        for node in nodes:
            key = (node.domain, node.op_type, node.overload)
            parts = [function_size(key)] if key in bodies else [(1, int(node.ByteSize()))]
            for attribute in node.attribute:
                graphs = [attribute.g] if attribute.type == onnx.AttributeProto.GRAPH else attribute.graphs
                parts += [size_of(graph.node) for graph in graphs]
            count += sum(part[0] for part in parts)
            size += sum(part[1] for part in parts)
        return count, size

    def function_size(key: tuple[str, str, str]) -> tuple[int, int]:
        if key not in sizes:
            if key in open_calls or len(open_calls) > 100:
                raise ModelError(f"{name}: local function {key[1]!r} calls itself; export the model again")
            open_calls.add(key)
            sizes[key] = size_of(bodies[key].node)
            open_calls.discard(key)
        return sizes[key]

    return size_of(proto.graph.node)
