"""Rounding in the operators of a training tool.

Brevitas and QONNX export fake quantisation as `Quant`, `BipolarQuant`, `Trunc` in a domain of their own. ONNX defines
none of them: ONNX Runtime refuses the file ("not a registered function/op"), and so do other runtimes. The tools export
QuantizeLinear and DequantizeLinear as well, for widths that these have.

Sources: QONNX, docs/qonnx-custom-ops; Pappalardo et al., arXiv 2206.07527; Brevitas, `export_onnx_qcdq`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from onnxlint_q import TRAINERS, Confidence, Example, Facts, Finding, Rule, Severity, Silence, Trait, whole_model


def _model(read: str, domain: str) -> str:
    return f"""
<ir_version: 8, opset_import: ["" : 17{domain}]>
dense (float[N, 2] x) => (float[N, 2] y)
<float[2, 2] w = {{1.0, -0.5, 0.25, 0.75}}, int8[2, 2] codes = {{100, -50, 25, 75}},
 float s = {{0.01}}, int8 zero = {{0}}, float z = {{0}}, float bits = {{8}}> {{
  [round] rounded = {read}
  [dense] y = MatMul(x, rounded)
}}
"""


@dataclass(frozen=True)
class TrainingQuantiser(Rule):
    """The model rounds with operators of a training tool, which no runtime loads.

    ## What it does
    Lists operators of the domains of Brevitas, QONNX and FINN, with the widths in bits that they round to.

    ## Why it breaks INT8
    ONNX Runtime does not load the file. Compilers for FPGAs read it; everything else needs QuantizeLinear and
    DequantizeLinear.

    ## What to do
    Export again to QDQ: `brevitas.export.export_onnx_qcdq`, or qonnx's `qonnx-convert` to QCDQ. Ignore this if a
    compiler that knows these operators reads the file.

    ## Sources
    QONNX operator specification; Brevitas, export.
    """

    code: ClassVar[str] = "QG010"
    name: ClassVar[str] = "training-quantiser"
    severity: ClassVar[Severity] = Severity.WARNING
    confidence: ClassVar[Confidence] = Confidence.HIGH
    supersedes: ClassVar[tuple[str, ...]] = ("QG003",)

    good: ClassVar[tuple[Example, ...]] = (
        Example(_model("DequantizeLinear(codes, s, zero)", ""), why="DequantizeLinear is an operator of ONNX."),
    )
    bad: ClassVar[tuple[Example, ...]] = (
        Example(
            _model("onnx.brevitas.Quant(w, s, z, bits)", ', "onnx.brevitas" : 1'),
            flags=("round",),
            why="Quant is an operator of Brevitas.",
        ),
    )

    def check(self, facts: Facts) -> Iterator[Finding | Silence]:
        """One finding for all such nodes, at the first of them."""
        nodes = [node for node in facts.model.nodes if node.domain in TRAINERS and node.operator.has(Trait.QUANTIZES)]
        if not nodes:
            yield Silence(whole_model(facts), "none of its operators is one of a training tool")
            return
        widths = sorted({pair.type_name for pair in facts.quantized if pair.node in nodes} - {""})
        count = f"{len(nodes)} nodes are" if len(nodes) > 1 else "1 node is"
        yield self.finding(
            facts.model.locate(nodes[0]),
            f"{count} {nodes[0].qualified_type}, which ONNX Runtime does not load; an export to QDQ is needed.",
            metrics={"nodes": len(nodes), "types": ", ".join(widths)},
            remedy="Export again with QuantizeLinear and DequantizeLinear: export_onnx_qcdq of Brevitas, or the "
            "conversion of qonnx to QCDQ. Ignore this if a compiler for these operators reads the file.",
        )
