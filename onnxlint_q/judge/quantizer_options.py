"""Remedies as options of ONNX Runtime's `quantize_static`, to be typed as they stand."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from onnxlint_q.graph import Node


def exclude(nodes: Iterable[Node]) -> str:
    """The option that keeps these nodes in float; empty if one of them has no name to say it with."""
    return exclude_named([node.name for node in nodes])


def exclude_named(names: Sequence[str]) -> str:
    """The option that keeps the nodes with these names in float; empty if one of the names is."""
    return f"nodes_to_exclude={list(names)!r}" if names and all(names) else ""


def override(tensor: str, low: float, high: float) -> str:
    """The `extra_options` of ONNX Runtime's `quantize_static` that give one tensor another range.

    It takes numpy scalars only: of a plain float it asks for the dtype and fails.
    """
    bounds = f'"rmin": np.float32({low:.6g}), "rmax": np.float32({high:.6g})'
    return f'extra_options={{"TensorQuantOverrides": {{{json.dumps(tensor)}: [{{{bounds}}}]}}}}'
