"""Scales that do not fit their tensor.

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

from onnxlint_q import Confidence, Example, Facts, Finding, Model, QuantizedTensor, Role, Rule, Severity, Silence, Trait

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
    """The number of scales does not fit the tensor.

    ## What it does
    Compares the shape of each scale and zero point with the tensor's shape, its axis and its block size.

    ## Why it breaks INT8
    The file does not load. Or a runtime reads the scales along another axis, and channels get the wrong scale.

    ## What to do
    Quantise again from a model of opset 13 or higher. Check the axis: 0 for Conv, 1 for ConvTranspose, the output axis
    for Gemm and MatMul.

    ## Sources
    ONNX operator specification; onnxruntime issues 17718, 16188.
    """

    code: ClassVar[str] = "QP003"
    name: ClassVar[str] = "scale-shape"
    severity: ClassVar[Severity] = Severity.ERROR
    confidence: ClassVar[Confidence] = Confidence.HIGH

    good: ClassVar[tuple[Example, ...]] = (
        Example(_model(13, 1, "0.1, 0.2, 0.3", "1, 2, 3"), why="There is a scale for each channel."),
        Example(_model(13, -2, "0.1, 0.2", "0, 0"), why="A negative axis counts from the back."),
        Example(_model(10, 1, "0.1", "0"), why="One value in a vector is per tensor."),
    )
    bad: ClassVar[tuple[Example, ...]] = (
        Example(_model(13, 1, "0.1, 0.2", "0, 0"), flags=("write",), why="There are two scales for three channels."),
        Example(_model(13, 5, "0.1, 0.2, 0.3", "0, 0, 0"), flags=("write",), why="There is no axis 5."),
        Example(
            _model(13, 1, "0.1, 0.2, 0.3", "0"), flags=("write",), why="There are three scales but one zero point."
        ),
        Example(_model(12, 1, "0.1, 0.2, 0.3", "0, 0, 0"), flags=("write",), why="One scale a channel needs opset 13."),
    )

    def check(self, facts: Facts) -> Iterator[Finding | Silence]:
        """Each pair whose scale's shape is known."""
        for pair in facts.quantized:
            problem = None if pair.dynamic else _problem(facts.model, pair)
            if problem is None:
                scale = None if pair.dynamic else _dims(facts.model, pair.scale)
                shape = "is computed at run time" if scale is None else f"of shape {list(scale)} fits"
                yield Silence(facts.model.locate(pair.node), f"the scale of {pair.tensor!r} {shape}")
            else:
                yield self.finding(
                    facts.model.locate(pair.node),
                    f"{pair.role.value} {pair.tensor!r} has {problem}",
                    metrics={"tensor": pair.tensor, "axis": pair.axis, "block_size": pair.block_size},
                    remedy=(
                        "Quantise again from a float model of opset 13 or higher, with one scale for each channel. The "
                        "axis is 0 for Conv, 1 for ConvTranspose, and the output axis for Gemm and MatMul."
                    ),
                )


def _problem(model: Model, pair: QuantizedTensor) -> str | None:
    scale = _dims(model, pair.scale)
    layer = pair.node.operator.layer
    # What is read in another way than by DequantizeLinear is for `packed-shape`, or broadcasts.
    if scale is None or pair.held is not None or (layer is not None and layer.is_integer_product):
        return None
    zero_point = _dims(model, pair.zero_point) if pair.zero_point else scale
    count = int(np.prod(scale))
    if zero_point is not None and int(np.prod(zero_point)) != count:
        return f"a scale of shape {list(scale)} but a zero point of shape {list(zero_point)}"
    if count == 1:
        return None
    if not pair.node.operator.has(Trait.QUANTIZES):
        if pair.role is Role.ACTIVATION:
            return f"{count} scales, but {pair.node.op_type} takes one for an activation"
    elif model.opset < (_BLOCK_OPSET if pair.block_size else _AXIS_OPSET):
        kind, needed = ("blocks of scales", _BLOCK_OPSET) if pair.block_size else (f"{count} scales", _AXIS_OPSET)
        return f"{kind}, which need opset {needed}; the file has opset {model.opset}"
    return _misfit(pair, scale, _dims(model, pair.codes) or _dims(model, pair.tensor))


def _misfit(pair: QuantizedTensor, scale: tuple[int, ...], shape: tuple[int, ...] | None) -> str | None:
    """Several scales against the tensor's shape; -1 stands for a dimension that is not known."""
    if shape is None:
        return None
    axis = pair.axis + (len(shape) if pair.axis < 0 else 0)
    if not 0 <= axis < len(shape):
        return f"scales along axis {pair.axis}, but only {len(shape)} axes"
    if pair.block_size:
        blocks = -1 if shape[axis] < 0 else -(-shape[axis] // pair.block_size)
        wanted = (*shape[:axis], blocks, *shape[axis + 1 :])
    else:
        wanted = (shape[axis],)
    if len(scale) == len(wanted) and all(
        -1 in pair_ or pair_[0] == pair_[1] for pair_ in zip(scale, wanted, strict=True)
    ):
        return None
    blocks_of = f" in blocks of {pair.block_size}" if pair.block_size else ""
    return f"a scale of shape {list(scale)}, but axis {axis} of {list(shape)}{blocks_of} needs {list(wanted)}"


def _dims(model: Model, key: str) -> tuple[int, ...] | None:
    stored = model.constants.initializer(key) if key else None
    if stored is not None:
        return tuple(stored.dims)
    known = model.shape(key) if key else None
    return None if known is None else tuple(-1 if dim is None else dim for dim in known)
