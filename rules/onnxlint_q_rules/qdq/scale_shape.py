"""Scales that do not fit the tensor they belong to.

The specification allows three shapes of a scale: one value; one value for each slice along `axis`; with
`block_size` B the tensor's own shape with `ceil(d / B)` in place of the dimension `d` of `axis`. The zero
point has the scale's shape. Several values need opset 13, blocks opset 21. Integer operators take one value
for an activation.

Sources: ONNX operator specification, QuantizeLinear-10, -13 and -21, QLinearConv; onnxruntime issues 17718
and 16188. Measured here: `quantize_static(per_channel=True)` on a model of opset 12 writes a file that ONNX
Runtime refuses to load.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from onnxlint_q import Confidence, Example, Facts, Finding, Model, QuantizedTensor, Role, Rule, Severity, Trait

_AXIS_OPSET, _BLOCK_OPSET = 13, 21


def _model(opset: int, axis: int, scales: str, zero_points: str) -> str:
    return f"""
<ir_version: 10, opset_import: ["" : {opset}]>
rounding (float[2, 3] x) => (float[2, 3] y)
<float[N] s = {{{scales}}}, uint8[N] z = {{{zero_points}}}> {{
  [write] q = QuantizeLinear <axis = {axis}> (x, s, z)
  [read] y = DequantizeLinear <axis = {axis}> (q, s, z)
}}
""".replace("float[N]", f"float[{len(scales.split(','))}]").replace("uint8[N]", f"uint8[{len(zero_points.split(','))}]")


@dataclass(frozen=True)
class ScaleShape(Rule):
    """Number of scales that does not fit the tensor.

    ## What it does
    Compares the shape of each scale and zero point with the tensor's shape, the axis and the block size.

    ## Why it breaks INT8
    The file cannot be loaded, or a runtime reads the scales along another axis and each channel gets its neighbour's
    scale.

    ## What to do
    Quantise again from a model of opset 13 or later, and check the axis: 0 for Conv, 1 for ConvTranspose, the output
    axis of Gemm and MatMul.

    ## Sources
    ONNX operator specification; onnxruntime issues 17718, 16188.
    """

    code: ClassVar[str] = "QP003"
    name: ClassVar[str] = "scale-shape"
    severity: ClassVar[Severity] = Severity.ERROR
    confidence: ClassVar[Confidence] = Confidence.HIGH

    good: ClassVar[tuple[Example, ...]] = (
        Example(_model(13, 1, "0.1, 0.2, 0.3", "1, 2, 3")),
        Example(_model(13, -2, "0.1, 0.2", "0, 0"), why="a negative axis counts from the back"),
        Example(_model(10, 1, "0.1", "0"), why="one value in a vector is per tensor"),
    )
    bad: ClassVar[tuple[Example, ...]] = (
        Example(_model(13, 1, "0.1, 0.2", "0, 0"), flags=("write",), why="two scales, three channels"),
        Example(_model(13, 5, "0.1, 0.2, 0.3", "0, 0, 0"), flags=("write",), why="there is no axis 5"),
        Example(_model(13, 1, "0.1, 0.2, 0.3", "0"), flags=("write",), why="three scales, one zero point"),
        Example(_model(12, 1, "0.1, 0.2, 0.3", "0, 0, 0"), flags=("write",), why="per channel needs opset 13"),
    )

    def check(self, facts: Facts) -> Iterator[Finding]:
        """Each pair whose scale's shape is known."""
        for pair in facts.quantized:
            problem = None if pair.dynamic else _problem(facts.model, pair)
            if problem is not None:
                yield self.finding(
                    facts.model.locate(pair.node),
                    f"{pair.role.value} {pair.tensor!r}: {problem}",
                    metrics={"tensor": pair.tensor, "axis": pair.axis, "block_size": pair.block_size},
                    remedy=(
                        "quantise again from a float model of opset 13 or later, with one scale a slice of the channel "
                        "axis (0 for Conv, 1 for ConvTranspose, the output axis of Gemm and MatMul)"
                    ),
                )


def _problem(model: Model, pair: QuantizedTensor) -> str | None:
    scale = _dims(model, pair.scale)
    layer = pair.node.operator.layer
    if scale is None or (layer is not None and layer.is_integer_product):
        return None
    zero_point = _dims(model, pair.zero_point) if pair.zero_point else scale
    count = int(np.prod(scale))
    if zero_point is not None and int(np.prod(zero_point)) != count:
        return f"its scale has the shape {list(scale)}, its zero point {list(zero_point)}"
    if count == 1:
        return None
    if not pair.node.operator.has(Trait.QUANTIZES):
        if pair.role is Role.ACTIVATION:
            return f"it has {count} scales, {pair.node.op_type} takes one for an activation"
    elif model.opset < (_BLOCK_OPSET if pair.block_size else _AXIS_OPSET):
        kind, needed = ("blocks of scales", _BLOCK_OPSET) if pair.block_size else ("several scales", _AXIS_OPSET)
        return f"it has {kind} ({count}), which needs opset {needed}, and the file is of opset {model.opset}"
    return _misfit(pair, scale, _dims(model, pair.codes) or _dims(model, pair.tensor))


def _misfit(pair: QuantizedTensor, scale: tuple[int, ...], shape: tuple[int, ...] | None) -> str | None:
    """Several scales against the tensor's shape; -1 stands for a dimension that is not known."""
    if shape is None:
        return None
    axis = pair.axis + (len(shape) if pair.axis < 0 else 0)
    if not 0 <= axis < len(shape):
        return f"its axis {pair.axis} is outside a tensor of rank {len(shape)}"
    if pair.block_size:
        blocks = -1 if shape[axis] < 0 else -(-shape[axis] // pair.block_size)
        wanted = (*shape[:axis], blocks, *shape[axis + 1 :])
    else:
        wanted = (shape[axis],)
    if len(scale) == len(wanted) and all(
        -1 in pair_ or pair_[0] == pair_[1] for pair_ in zip(scale, wanted, strict=True)
    ):
        return None
    layout = f"blocks of {pair.block_size}" if pair.block_size else "one a slice"
    return f"its scale has the shape {list(scale)}; axis {axis} of {list(shape)} needs {list(wanted)} ({layout})"


def _dims(model: Model, key: str) -> tuple[int, ...] | None:
    stored = model.constants.initializer(key) if key else None
    if stored is not None:
        return tuple(stored.dims)
    known = model.shape(key) if key else None
    return None if known is None else tuple(-1 if dim is None else dim for dim in known)
