"""Tensor keys: names that stay unique across subgraphs."""

from __future__ import annotations

ROOT = "main"


def tensor_key(name: str, graph: str) -> str:
    """The key of the tensor `name` defined in the graph with path `graph`."""
    return name if graph == ROOT or not name else f"{graph}/{name}"


def local_name(key: str, graph: str) -> str:
    """The name a key has inside its own graph."""
    return key if graph == ROOT else key.removeprefix(f"{graph}/")
