"""Weights in float16: most quantisers make files of them that do not load.

QuantizeLinear takes float16 from opset 19 on, and DynamicQuantizeLinear never does; neither quantiser converts the
model first. A MatMul chain in float16, quantised and loaded with ONNX Runtime 1.32.0:

| | opset 17 | opset 19 | opset 21 |
|---|---|---|---|
| quantize_static, QDQ | does not load | right | right |
| the same after quant_pre_process | one scale a weight | one scale a weight | one scale a weight |
| quantize_static, QOperator | does not load | does not load | right |
| quantize_dynamic | does not load | does not load | does not load |

`quant_pre_process` puts a Cast to float32 behind each weight, because the CPU has no kernel for float16. The weight is
then quantised like an activation: `per_channel=True` has no effect, and the file keeps its size.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import onnx

from onnxlint_q import Confidence, Example, Facts, Finding, Rule, Severity, Silence, locate, whole_model

_HALF: Mapping[int, str] = {onnx.TensorProto.FLOAT16: "float16", onnx.TensorProto.BFLOAT16: "bfloat16"}
_TAKES_HALF = 19


def _model(kind: str, opset: int = 17) -> str:
    return f"""
<ir_version: 8, opset_import: ["" : {opset}]>
dense ({kind}[N, 2] x) => ({kind}[N, 2] y) <{kind}[2, 2] w = {{1, 2, 3, 4}}> {{
  [dense] y = MatMul (x, w)
}}
"""


@dataclass(frozen=True)
class HalfWeights(Rule):
    """Weights are in float16, which the quantisers do not take as it is.

    ## What it does
    Looks at the layers of a float model whose weights are float16 or bfloat16.

    ## Why it breaks INT8
    `quantize_dynamic` writes a file that does not load, at any opset. `quantize_static` does so below opset 19. After
    `quant_pre_process` the file loads, but each weight has one scale for the tensor and stays in float16.

    ## What to do
    Quantise the float32 model. If there is none, convert the weights, inputs and outputs back to float32 first.

    ## Sources
    ONNX operator specification, QuantizeLinear-19, DynamicQuantizeLinear-11; onnxruntime 1.32.0, measured.
    """

    code: ClassVar[str] = "QG013"
    name: ClassVar[str] = "half-weights"
    severity: ClassVar[Severity] = Severity.INFO
    confidence: ClassVar[Confidence] = Confidence.HIGH

    good: ClassVar[tuple[Example, ...]] = (Example(_model("float"), why="The weight is float32."),)
    bad: ClassVar[tuple[Example, ...]] = (
        Example(_model("float16"), flags=("dense",), why="QuantizeLinear-13 does not take float16."),
        Example(_model("float16", 19), flags=("dense",), why="DynamicQuantizeLinear takes float32 only."),
    )

    def check(self, facts: Facts) -> Iterator[Finding | Silence]:
        """At most one finding for the model, at the first such layer."""
        if not facts.schemes:
            yield Silence(whole_model(facts), "no scheme that quantises is asked for")
            return
        kinds = {layer: facts.model.types.get(layer.folded.layer.weight) for layer in facts.layers if facts.is_float}
        found = [layer for layer, kind in kinds.items() if kind is not None and kind.elem_type in _HALF]
        if not found:
            yield Silence(whole_model(facts), "no layer of a float model has a weight in float16")
            return
        first_kind = kinds[found[0]]
        assert first_kind is not None
        kind, number = _HALF[first_kind.elem_type], len(found)
        old = facts.model.opset < _TAKES_HALF
        who = "quantize_static and quantize_dynamic write" if old else "quantize_dynamic writes"
        yield self.finding(
            locate(facts, found[0]),
            f"{number} {'layers have' if number > 1 else 'layer has'} {kind} weights: {who} a file that does not load",
            remedy="Quantise the float32 model this one was made of, or convert it back to float32 first. After "
            "quant_pre_process the static file loads, but its weights have one scale each.",
            metrics={"layers": number, "opset": facts.model.opset},
            places=[locate(facts, layer) for layer in found[1:]],
        )
