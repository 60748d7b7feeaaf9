"""The same network, as another export writes it."""

from __future__ import annotations

import random
from pathlib import Path

import onnx


def renamed(path: Path) -> None:
    """Give all but inputs and outputs other names, and store nodes and initializers in another order."""
    proto = onnx.load(path)
    names = {value.name: value.name for value in (*proto.graph.input, *proto.graph.output)}
    for number, node in enumerate(proto.graph.node):
        node.name = f"node_{number}"
        node.input[:] = [names.setdefault(name, f"t{len(names)}") if name else "" for name in node.input]
        node.output[:] = [names.setdefault(name, f"t{len(names)}") if name else "" for name in node.output]
    stored = list(proto.graph.initializer)
    del proto.graph.initializer[:], proto.graph.value_info[:]
    for tensor in reversed(stored):
        tensor.name = names.get(tensor.name, tensor.name)
        proto.graph.initializer.append(tensor)
    _shuffle(proto.graph)
    onnx.save(proto, path)


def _shuffle(graph: onnx.GraphProto) -> None:
    """Another order of the nodes in which each stands behind what it reads; none of them has a body."""
    rng, left = random.Random(3), list(graph.node)
    made = {name for node in left for name in node.output}
    done: set[str] = set()
    del graph.node[:]
    while left:
        ready = [node for node in left if all(name in done or name not in made for name in node.input)]
        chosen = rng.choice(ready)
        graph.node.append(chosen)
        done.update(chosen.output)
        left.remove(chosen)
