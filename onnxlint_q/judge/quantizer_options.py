"""Remedies as options of ONNX Runtime's `quantize_static`, to be typed as they stand."""

from __future__ import annotations

import json
from collections.abc import Iterable

from onnxlint_q.graph import Node


def exclude(nodes: Iterable[Node]) -> str:
    """The option that keeps these nodes in float; empty if one of them has no name to say it with."""
    names = [node.name for node in nodes]
    return f"nodes_to_exclude={names!r}" if names and all(names) else ""


def override(tensor: str, low: float, high: float) -> str:
    """The `extra_options` of ONNX Runtime's `quantize_static` that give one tensor another range."""
    name = json.dumps(tensor)
    return f'extra_options={{"TensorQuantOverrides": {{{name}: [{{"rmin": {low:.6g}, "rmax": {high:.6g}}}]}}}}'
