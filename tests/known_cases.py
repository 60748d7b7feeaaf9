"""The same network, as another export writes it."""

from __future__ import annotations

from pathlib import Path

import onnx


def renamed(path: Path) -> None:
    """Give all but inputs and outputs other names, and store the initializers in another order."""
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
    onnx.save(proto, path)
