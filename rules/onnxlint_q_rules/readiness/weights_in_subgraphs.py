"""Layers inside the branches of an If, or the body of a Loop or a Scan.

`quantize_static` looks at the main graph only. `quantize_dynamic` does so too, unless it gets
`extra_options={"EnableSubgraph": True}`; `quantize_static` takes that option and ignores it (ONNX Runtime 1.32.0).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from onnxlint_q import (
    ROOT,
    Confidence,
    Example,
    Facts,
    Finding,
    LayerFacts,
    Rule,
    Severity,
    Silence,
    locate,
    whole_model,
)


def _model(inside: str) -> str:
    return f"""
<ir_version: 8, opset_import: ["" : 17]>
choice (float[N, 2] x, bool late) => (float[N, 2] y) <float[2, 2] w = {{1, 2, 3, 4}}, float[2, 2] v = {{4, 3, 2, 1}}> {{
  [first] h = MatMul (x, w)
  [choice] y = If (late) <
    then_branch = a () => (float[N, 2] one) {{ [inner] one = {inside} }},
    else_branch = b () => (float[N, 2] two) {{ [same] two = Identity (h) }}
  >
}}
"""


@dataclass(frozen=True)
class WeightsInSubgraphs(Rule):
    """Layers are inside an If, a Loop or a Scan, where quantisers do not look.

    ## What it does
    Counts the layers of a float model that are not in its main graph, and their share of all weights.

    ## Why it breaks INT8
    It does not, but these layers stay in float without a word. The file gets less small and less fast than hoped.

    ## What to do
    For dynamic quantisation pass `extra_options={"EnableSubgraph": True}` to `quantize_dynamic`. If a branch is always
    taken, export the model without the If, or run `quant_pre_process` where its condition is a constant.

    ## Sources
    onnxruntime 1.32.0, quantization/onnx_quantizer.py (EnableSubgraph), measured.
    """

    code: ClassVar[str] = "QG015"
    name: ClassVar[str] = "weights-in-subgraphs"
    severity: ClassVar[Severity] = Severity.INFO
    confidence: ClassVar[Confidence] = Confidence.HIGH

    good: ClassVar[tuple[Example, ...]] = (Example(_model("Relu (h)"), why="The branches hold no weights."),)
    bad: ClassVar[tuple[Example, ...]] = (
        Example(_model("MatMul (h, v)"), flags=("inner",), why="Half of the weights are read inside the If."),
    )

    def check(self, facts: Facts) -> Iterator[Finding | Silence]:
        """At most one finding for the model, at the first such layer."""
        layers = facts.layers if facts.is_float else ()
        inside = [layer for layer in layers if layer.node.graph != ROOT]
        if not inside:
            yield Silence(whole_model(facts), "no layer of a float model is inside a subgraph")
            return
        share = _values(inside) / _values(layers)
        owners = sorted({node.op_type for node in facts.model.nodes if node.subgraphs})
        yield self.finding(
            locate(facts, inside[0]),
            f"{len(inside)} of {len(layers)} layers, with {share:.0%} of the weights, are inside "
            f"{' or '.join(owners)}, where quantisers do not look",
            remedy="They stay in float. quantize_dynamic takes them with extra_options={'EnableSubgraph': True}; "
            "quantize_static never does.",
            metrics={"layers": len(inside), "weight_share": share},
            places=[locate(facts, layer) for layer in inside[1:]],
        )


def _values(layers: Sequence[LayerFacts]) -> int:
    """How many weights they have together."""
    return sum(math.prod(layer.folded.layer.weight_shape) for layer in layers)
