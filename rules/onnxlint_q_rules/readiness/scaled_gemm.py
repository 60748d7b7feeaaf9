"""A Gemm with factors, whose bias comes out wrong.

A Gemm is `alpha A B + beta C`. `quantize_static` stores the bias in steps of `s_a s_b`, and QGemm computes

    y = alpha s_a s_b ( sum (q_a - z_a)(q_b - z_b) + q_c )

so that a QOperator file adds `alpha C` where the float model adds `beta C`. A QDQ file keeps alpha apart from the bias,
and is right about it; with beta it is wrong, and more so once ONNX Runtime has fused it. `quantize_dynamic` leaves such
a Gemm in float.

A bias of about 3 behind a product of 32 random terms, SQNR (dB) at the output, run with ONNX Runtime 1.32.0:

| factor | QDQ, not fused | QDQ, fused | QOperator |
|---|---|---|---|
| none | 39.3 | 39.3 | 39.3 |
| alpha 0.125 | 41.0 | 41.0 | 1.1 |
| alpha 4 | 38.1 | 38.1 | -1.7 |
| beta 2 | 6.5 | 2.4 | 2.4 |
| beta 0.5 | 2.5 | -0.2 | -0.2 |

Beta 0 does no harm, nor does alpha without a bias, nor a bias that is no initializer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from onnxlint_q import (
    ROOT,
    Confidence,
    Example,
    Facts,
    Finding,
    LayerFacts,
    Product,
    Rule,
    Severity,
    Silence,
    locate,
    option,
    whole_model,
)

_STEPS = 255


def _model(factors: str, bias: str = "{3, -4}") -> str:
    return f"""
<ir_version: 8, opset_import: ["" : 17]>
dense (float[N, 2] x) => (float[N, 2] y)
<float[2, 2] w = {{1.0, 0.2, -0.3, 0.9}}, float[2] b = {bias}> {{
  [dense] y = Gemm <{factors}> (x, w, b)
}}
"""


@dataclass(frozen=True)
class ScaledGemm(Rule):
    """A Gemm has a factor that quantisers forget about its bias.

    ## What it does
    Looks for Gemm with a stored bias and with an alpha other than 1, or a beta other than 0 and 1. It is silent where
    the wrong bias moves the result by less than two steps of its expected range.

    ## Why it breaks INT8
    `quantize_static` makes the bias as if there were no factor, and says nothing. With alpha the QOperator format is
    wrong, and QDQ is right. With beta both formats are wrong. `quantize_dynamic` leaves the Gemm in float.

    ## What to do
    Multiply alpha into the weight and beta into the bias: `fix` does it (gemm-operands), and the float model computes
    the same. Where only alpha is set, QDQ (the default format) will do, too.

    ## Sources
    onnxruntime 1.32.0, quantization/operators/gemm.py and base_quantizer.py (quantize_bias_static_impl), measured;
    ContribOperators.md, com.microsoft.QGemm.
    """

    code: ClassVar[str] = "QG011"
    name: ClassVar[str] = "scaled-gemm"
    severity: ClassVar[Severity] = Severity.WARNING
    confidence: ClassVar[Confidence] = Confidence.HIGH
    rewrites: ClassVar[tuple[str, ...]] = ("gemm-operands",)

    steps: float = option(
        2.0,
        doc="how far the wrong bias moves the result, in steps of its range, before it is reported",
        source="rounding moves it by half a step",
    )

    good: ClassVar[tuple[Example, ...]] = (
        Example(_model("alpha: float = 1.0"), why="Alpha is 1."),
        Example(_model("alpha: float = 0.5", "{0, 0}"), why="A bias of zeros is right with any factor."),
        Example(_model("beta: float = 0.0"), why="The bias is not added at all."),
    )
    bad: ClassVar[tuple[Example, ...]] = (
        Example(_model("alpha: float = 0.125"), flags=("dense",), why="In QOperator an eighth of the bias is added."),
        Example(_model("beta: float = 2.0"), flags=("dense",), why="In either format the bias is not doubled."),
    )

    def check(self, facts: Facts) -> Iterator[Finding | Silence]:
        """Each such Gemm of the main graph."""
        gemms = [layer for layer in facts.layers if facts.is_float and _is_quantised_gemm(layer)]
        if not gemms:
            yield Silence(whole_model(facts), "no Gemm that a quantiser takes")
        for layer in gemms:
            yield self._looked_at(facts, layer)

    def _looked_at(self, facts: Facts, layer: LayerFacts) -> Finding | Silence:
        alpha, beta = (layer.node.float(name, 1.0) for name in ("alpha", "beta"))
        where, key = locate(facts, layer), layer.folded.layer.bias
        bias = facts.model.constant(key) if key else None
        if bias is None or (alpha == 1 and beta == 1) or beta == 0:
            return Silence(where, "it has no factor that a stored bias could lose")
        moved = float(np.abs(bias.astype(np.float64)).max(initial=0.0) * abs(alpha - beta if beta != 1 else alpha - 1))
        ends = facts.range_of(facts.stored_tensor(layer))
        step = (ends[1] - ends[0]) / _STEPS if ends is not None else 0.0
        if not moved > self.steps * step:
            return Silence(where, f"a bias without it moves the result by {moved:.2g}, a step is {step:.2g}")
        label = layer.node.label
        if beta != 1:
            message = (
                f"{label!r} has beta {beta:g}: quantize_static makes its bias wrong, in QDQ and in QOperator files"
            )
            remedy = "Multiply beta into the bias, or keep the node in float."
        else:
            message = f"{label!r} has alpha {alpha:g}: a QOperator file multiplies its bias by it, too; QDQ is right"
            remedy = "Multiply alpha into the weight, or quantise with quant_format=QuantFormat.QDQ, the default."
        return self.finding(
            where, message, remedy=remedy, metrics={"alpha": alpha, "beta": beta, "bias": key, "moved_by": moved}
        )


def _is_quantised_gemm(layer: LayerFacts) -> bool:
    inner = layer.folded.layer
    return inner.inputs.product is Product.GEMM and layer.node.graph == ROOT
