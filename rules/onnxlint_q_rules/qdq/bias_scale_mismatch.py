"""Biases whose scale is not the product of their layer's other two.

An integer kernel adds the bias codes to the sum of products, whose unit is `s_x * s_w`:

    y = s_x s_w,c * ( sum (q_x - z_x)(q_w - z_w) + q_b,c )        hence  s_b,c = s_x * s_w,c

With another `s_b` the file is right while its DequantizeLinear runs in float. Once a runtime fuses the layer, the
bias is wrong by the factor `s_b / (s_x s_w)`. The rule reports more than one per cent.

A bias that fits one of its readers and not the others was shared, not mistaken. ONNX Runtime 1.32 leaves the others in
float, 1.22 fuses them: four such readers keep 36.2, 36.7, 41.0 and 45.8 dB with the one, 36.2, 16.2, 7.5 and 1.4 dB
with the other. So that is an info, for who uses another runtime.

Sources: ONNX operator specification, QLinearConv (bias scale = x_scale * w_scale); onnxruntime pull request
28229.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from onnxlint_q import (
    Confidence,
    Example,
    Facts,
    Finding,
    Layer,
    LayerFacts,
    Model,
    Node,
    Remedy,
    Requantisation,
    Rule,
    Severity,
    Silence,
    option,
)
from onnxlint_q_rules.qdq.pairs import Vector, dequantizer


def _model(bias_scale: str) -> str:
    count = len(bias_scale.split(","))
    return f"""
<ir_version: 8, opset_import: ["" : 13]>
shifted (float[1, 2, 4, 4] x) => (float[1, 2, 4, 4] y)
<float sx = {{0.1}}, uint8 zx = {{128}}, int8[2, 2, 1, 1] w = {{100, 20, -30, 90}},
 float[2] sw = {{0.01, 0.02}}, int8[2] zw = {{0, 0}}, int32[2] b = {{500, 600}},
 float[{count}] sb = {{{bias_scale}}}, int32[{count}] zb = {{{", ".join("0" * count)}}}> {{
  qx = QuantizeLinear(x, sx, zx)
  dx = DequantizeLinear(qx, sx, zx)
  dw = DequantizeLinear <axis = 0> (w, sw, zw)
  db = DequantizeLinear <axis = 0> (b, sb, zb)
  [conv] y = Conv(dx, dw, db)
}}
"""


@dataclass(frozen=True)
class BiasScaleMismatch(Rule):
    """The bias scale is not input scale times weight scale.

    ## What it does
    Compares `s_b` with `s_x * s_w`, channel by channel, at each layer with dequantised input, weight and bias.

    ## Why it breaks INT8
    Integer kernels add the bias codes as they are, so with another scale the bias is wrong by that factor. It happens
    only once the runtime has fused the layer, so tests in float do not show it.

    ## What to do
    Store the bias as `round(bias / (s_x * s_w))` with the scale `s_x * s_w`. Or keep it in float.

    ## Sources
    ONNX operator specification, QLinearConv; onnxruntime pull request 28229.
    """

    code: ClassVar[str] = "QP004"
    name: ClassVar[str] = "bias-scale-mismatch"
    severity: ClassVar[Severity] = Severity.ERROR
    confidence: ClassVar[Confidence] = Confidence.HIGH

    tolerance: float = option(
        0.01,
        doc="largest accepted |s_b / (s_x s_w) - 1|",
        source="one per cent of the bias; rounding of float32 products is below 1e-6",
    )

    good: ClassVar[tuple[Example, ...]] = (
        Example(_model("0.001, 0.002"), why="Each scale is that of the input times that of the weight."),
    )
    bad: ClassVar[tuple[Example, ...]] = (
        Example(_model("0.001, 0.001"), flags=("conv",), why="The second channel's bias doubles once fused."),
        Example(_model("0.001"), flags=("conv",), why="The bias has one scale, the weights have two."),
    )

    def check(self, facts: Facts) -> Iterator[Finding | Silence]:
        """Each float layer between dequantised operands."""
        compared = [(layer, _ratio(facts.model, layer.folded.layer)) for layer in facts.layers]
        fitting = {
            _codes(facts.model, layer)
            for layer, ratio in compared
            if ratio is not None and float(np.abs(ratio - 1).max()) <= self.tolerance
        }
        for layer, ratio in compared:
            node = layer.node
            if ratio is None:
                yield Silence(facts.model.locate(node), "its input, weight and bias do not all have stored scales")
                continue
            error = np.abs(ratio - 1)
            if not np.count_nonzero(error > self.tolerance):
                off = f"{error.max():.1g} off input scale times weight scale"
                yield Silence(facts.model.locate(node), f"the bias scale is {off}, not over {self.tolerance:g}")
                continue
            yield self._report(facts, layer, ratio, shared=_codes(facts.model, layer) in fitting)

    def _report(self, facts: Facts, layer: LayerFacts, ratio: Vector, *, shared: bool) -> Finding:
        node, error = layer.node, np.abs(ratio - 1)
        worst, wrong = int(np.argmax(error)), int(np.count_nonzero(error > self.tolerance))
        where = f" in {wrong} of {ratio.size} channels" if ratio.size > 1 else ""
        why = ", because it was made for another layer" if shared else ""
        return self.finding(
            facts.model.locate(node),
            f"The bias of {node.op_type} {node.label!r} has {ratio[worst]:.4g} times the scale that integer "
            f"kernels assume{where}{why}",
            severity=Severity.INFO if shared else None,
            metrics={
                "worst_ratio": float(ratio[worst]),
                "worst_channel": worst,
                "channels": wrong,
                "layer_channels": int(ratio.size),
            },
            remedy=Remedy(
                "Store the bias as round(bias / (s_x * s_w)) in int32, with the scale s_x * s_w and zero point 0. "
                "Or leave it in float.",
                change=Requantisation(options=("extra_options={'QuantizeBias': False}",)),
            ),
        )


def _codes(model: Model, layer: LayerFacts) -> str:
    """Key of the constant that holds the codes of a layer's bias; empty where there is none."""
    node = dequantizer(model, layer.folded.layer.bias)
    return model.constants.origin(node.input(0)) if node is not None else ""


def _ratio(model: Model, layer: Layer) -> Vector | None:
    """`s_b / (s_x s_w)` for each value of the longer of the two; None where there is nothing to compare."""
    if not (layer.is_float and layer.bias):
        return None
    bias, weight = (_scale(model, dequantizer(model, key)) for key in (layer.bias, layer.weight))
    data = _scale(model, dequantizer(model, layer.input))
    if bias is None or weight is None or data is None or data.size != 1:
        return None
    product = data * weight
    sizes = {bias.size, product.size}
    if 0 in sizes or (len(sizes) > 1 and 1 not in sizes):
        return None  # the shapes are another rule's matter
    if not (np.all(product > 0) and np.all(np.isfinite(product)) and np.all(np.isfinite(bias))):
        return None
    return np.asarray(bias / product, np.float64)


def _scale(model: Model, node: Node | None) -> Vector | None:
    stored = model.constant(node.input(1)) if node is not None else None
    return None if stored is None else np.ravel(stored).astype(np.float64)
