"""Remedies as calls of ONNX Runtime's `quantize_static`, to be typed as they stand.

They need `import numpy as np` and, from `onnxruntime.quantization`, `CalibrationMethod`, `QuantFormat` and
`quantize_static`; the three dots stand for the float model, the file to write and the calibration data.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from onnxlint_q.graph import Node


def quantize_static(*options: str) -> str:
    """The call with these options; empty if one of them is, because there is then no way to say it."""
    return f"quantize_static(..., {', '.join(options)})" if all(options) else ""


def exclude(nodes: Iterable[Node]) -> str:
    """The option that keeps these nodes in float; empty if one of them has no name to say it with."""
    return exclude_named([node.name for node in nodes])


def exclude_named(names: Sequence[str]) -> str:
    """The option that keeps the nodes with these names in float; empty if one of the names is."""
    return f"nodes_to_exclude={list(names)!r}" if names and all(names) else ""


def override(tensor: str, low: float, high: float) -> str:
    """The option that gives one tensor another range."""
    name = json.dumps(tensor, ensure_ascii=False)
    # The quantiser asks the ends for their element type, which a plain number does not have.
    ends = f'"rmin": np.float32({low:.6g}), "rmax": np.float32({high:.6g})'
    return f'extra_options={{"TensorQuantOverrides": {{{name}: [{{{ends}}}]}}}}'
