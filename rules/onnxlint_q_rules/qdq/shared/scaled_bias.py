"""The bias of a QGemm whose alpha is not 1.

QGemm adds the codes of its bias to the sum of products, and multiplies both by alpha:

    y = alpha s_a s_b ( sum (q_a - z_a)(q_b - z_b) + q_c )        hence  s_c = alpha s_a s_b

`quantize_static` stores `q_c = round(c / (s_a s_b))` without alpha, so that the bias is alpha times what it should be.
The float model has `alpha * A B + c`. The file does not say how its codes were made; the rule speaks where a bias that
lost alpha moves the result by a step or more.

Sources: onnxruntime, ContribOperators.md, com.microsoft.QGemm ("C: its scale is alpha / beta * a_scale * b_scale");
onnxruntime/python/tools/quantization/operators/gemm.py and base_quantizer.py (quantize_bias_static_impl), 1.32.0, where
alpha does not occur.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from onnxlint_q import Confidence, Example, Facts, Finding, Remedy, Rule, Severity, Silence, option
from onnxlint_q_rules.qdq.shared.bias_units import BiasReading, bias_readings


def _model(alpha: str) -> str:
    return f"""
<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>
dense (uint8[N, 2] x) => (uint8[N, 2] y)
<float sx = {{0.02}}, uint8 zx = {{128}}, int8[2, 2] w = {{100, 20, -30, 90}}, float sw = {{0.01}}, int8 zw = {{0}},
 int32[2] b = {{5000, -6000}}, float sy = {{0.05}}, uint8 zy = {{128}}> {{
  [dense] y = com.microsoft.QGemm <alpha: float = {alpha}> (x, sx, zx, w, sw, zw, b, sy, zy)
}}
"""


@dataclass(frozen=True)
class ScaledBias(Rule):
    """A QGemm multiplies its bias by alpha, which the bias was not made for.

    ## What it does
    Looks for QGemm with a bias and an alpha other than 1.

    ## Why it breaks INT8
    QGemm multiplies the bias by alpha, too. `quantize_static` quantises the bias as if alpha were 1, and says nothing.

    ## What to do
    Multiply alpha into the weight of the float Gemm and leave it at 1: `fix` does it (gemm-operands). Or use QDQ.

    ## Sources
    ONNX Runtime, ContribOperators.md (QGemm) and quantization/operators/gemm.py.
    """

    code: ClassVar[str] = "QP014"
    name: ClassVar[str] = "scaled-bias"
    severity: ClassVar[Severity] = Severity.WARNING
    confidence: ClassVar[Confidence] = Confidence.MEDIUM

    tolerance: float = option(0.01, doc="largest accepted |alpha - 1|", source="one per cent of the bias, as for QP004")

    good: ClassVar[tuple[Example, ...]] = (Example(_model("1.0"), why="Alpha is 1."),)
    bad: ClassVar[tuple[Example, ...]] = (
        Example(_model("0.125"), flags=("dense",), why="An eighth of the bias is added."),
    )

    def check(self, facts: Facts) -> Iterator[Finding | Silence]:
        """Each QGemm with a bias in codes."""
        for reading in bias_readings(facts):
            alpha = reading.node.float("alpha", 1.0)
            if reading.node.operator.form != "Gemm" or abs(alpha - 1) <= self.tolerance or not _matters(reading, alpha):
                unmet = "alpha is 1, or what it does to the bias is under a step of the result"
                yield Silence(facts.model.locate(reading.node), unmet)
                continue
            yield self.finding(
                facts.model.locate(reading.node),
                f"{reading.node.op_type} {reading.node.label!r} multiplies its bias {reading.bias!r} by alpha = "
                f"{alpha:.3g}, for which quantize_static does not make it",
                metrics={"alpha": alpha, "bias": reading.bias},
                remedy=Remedy(
                    "Multiply alpha into the weight of the float Gemm (`onnxlint-q fix` applies gemm-operands), and "
                    "quantise again. Or quantise with quant_format=QuantFormat.QDQ.",
                ),
            )


def _matters(reading: BiasReading, alpha: float) -> bool:
    moved = np.abs(reading.codes * reading.unit * (1 - alpha))
    return float(moved.max()) >= max(reading.step, 1e-30)
