"""Remedies as calls of ONNX Runtime's `quantize_static`, to be typed as they stand.

They need `import numpy as np` and, from `onnxruntime.quantization`, `CalibrationMethod`, `QuantFormat` and
`quantize_static`; the three dots stand for the float model, the file to write and the calibration data.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from onnxlint_q.finding import Requantisation, TensorRange
from onnxlint_q.graph import Node


def quantize_static(*options: str) -> str:
    """The call with these options; empty if one of them is, because there is then no way to say it."""
    return f"quantize_static(..., {', '.join(options)})" if all(options) else ""


def exclude(nodes: Iterable[Node]) -> str:
    """The option that keeps these nodes in float; empty if one of them has no name to say it with."""
    return exclude_named([node.name for node in nodes])


def exclude_named(names: Sequence[str]) -> str:
    """The option that keeps the nodes with these names in float; empty if one of the names is."""
    return f"nodes_to_exclude={list(names)!a}" if names and all(names) else ""


def requantised(change: Requantisation) -> str:
    """The call that makes this change."""
    per_channel = ["per_channel=True"] if change.per_channel else []
    return quantize_static(*per_channel, *([overrides(change.ranges)] if change.ranges else []), *change.options)


def overrides(ranges: Iterable[TensorRange]) -> str:
    """The option that gives tensors other ranges."""
    given = ", ".join(f"{one.tensor!a}: [{{{_ends(one)}}}]" for one in ranges)
    return f"extra_options={{'TensorQuantOverrides': {{{given}}}}}"


def _ends(one: TensorRange) -> str:
    # The quantiser asks the ends for their element type, which a plain number does not have.
    return f"'rmin': np.float32({one.low:.6g}), 'rmax': np.float32({one.high:.6g})"
