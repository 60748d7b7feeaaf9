"""Convolutions that were quantised dynamically.

ConvInteger has no fast kernel in ONNX Runtime's CPU provider, and the range of its input is measured in every run. Two
3 x 3 convolutions of 64 channels on 56 x 56 positions, ONNX Runtime 1.32.0, one thread with VNNI:

| file | ms a run |
|---|---|
| float | 2.2 |
| quantize_dynamic (ConvInteger) | 3.2 |
| quantize_static (fused to QLinearConv) | 0.8 |
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from onnxlint_q import Confidence, Example, Facts, Finding, Node, Rule, Severity, Silence, whole_model


def _model(product: str) -> str:
    return f"""
<ir_version: 8, opset_import: ["" : 17]>
dynamic (float[1, 1, 2, 2] x) => (float[1, 1, 2, 2] y)
<uint8[1, 1, 1, 1] wc = {{200}}, uint8[2, 2] wm = {{1, 200, 3, 4}}, uint8 zw = {{128}}, float sw = {{0.01}}> {{
  [range] q, s, z = DynamicQuantizeLinear (x)
  [product] sums = {product}
  [cast] wide = Cast <to = 1> (sums)
  [scales] scale = Mul (s, sw)
  [scale] y = Mul (wide, scale)
}}
"""


@dataclass(frozen=True)
class DynamicConvolution(Rule):
    """Convolutions are quantised dynamically, which is slower than static quantisation and often than float.

    ## What it does
    Counts the ConvInteger whose input a DynamicQuantizeLinear made.

    ## Why it breaks INT8
    It does not. But the range is measured anew in every run, and ONNX Runtime has no fast kernel for ConvInteger: such
    a file is smaller than the float one, and usually slower. It also depends on the batch.

    ## What to do
    Quantise convolutional networks statically: `quantize_static` with calibration data. Keep dynamic quantisation for
    MatMul and LSTM (`op_types_to_quantize`).

    ## Sources
    ONNX Runtime documentation, "Quantize ONNX models" (dynamic for RNN and transformers, static for CNN); onnxruntime
    1.32.0, measured.
    """

    code: ClassVar[str] = "QG017"
    name: ClassVar[str] = "dynamic-convolution"
    severity: ClassVar[Severity] = Severity.INFO
    confidence: ClassVar[Confidence] = Confidence.HIGH

    good: ClassVar[tuple[Example, ...]] = (
        Example(_model("MatMulInteger (q, wm, z, zw)"), why="Products of matrices have fast kernels."),
    )
    bad: ClassVar[tuple[Example, ...]] = (
        Example(_model("ConvInteger (q, wc, z, zw)"), flags=("product",), why="The convolution is dynamic."),
    )

    def check(self, facts: Facts) -> Iterator[Finding | Silence]:
        """At most one finding for the model, at the first such convolution."""
        found = [node for node in facts.model.nodes_of("ConvInteger") if _is_dynamic(facts, node)]
        if not found:
            yield Silence(whole_model(facts), "no ConvInteger reads what DynamicQuantizeLinear gives")
            return
        count = "1 convolution is" if len(found) == 1 else f"{len(found)} convolutions are"
        yield self.finding(
            facts.model.locate(found[0]),
            f"{count} quantised dynamically (ConvInteger), which ONNX Runtime runs slower than float or static INT8",
            remedy="Quantise the float model with quantize_static and calibration data.",
            metrics={"nodes": len(found)},
            places=[facts.model.locate(node) for node in found[1:]],
        )


def _is_dynamic(facts: Facts, node: Node) -> bool:
    maker = facts.model.producer(node.input(0))
    return maker is not None and maker.op_type == "DynamicQuantizeLinear"
