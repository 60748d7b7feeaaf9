"""Operators that are not in the ONNX specification.

Of an operator of another domain only the name is known. The forecast passes through it as if it did nothing. ONNX
Runtime's quantiser leaves it in float unless it is one of its own, and another runtime may not run it at all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import onnx

from onnxlint_q import Confidence, Example, Facts, Finding, Node, Rule, Severity, Silence, whole_model


@dataclass(frozen=True)
class UnknownOperator(Rule):
    """The model uses an operator that is not known here.

    ## What it does
    Lists, once for each type, operators outside the default ONNX domain, and operators that the default domain does
    not have. Those of ONNX Runtime and of training tools are known.

    ## Why it breaks INT8
    It need not. But noise and ranges behind such a node are guessed, so the forecast is weaker there. The node itself
    stays in float, or keeps a runtime from fusing its neighbours.

    ## What to do
    Measure with calibration data (`--calibrate`). Export the model with standard operators where you can.

    ## Sources
    ONNX operator specification; onnx.defs.
    """

    code: ClassVar[str] = "QG003"
    name: ClassVar[str] = "unknown-operator"
    severity: ClassVar[Severity] = Severity.INFO
    confidence: ClassVar[Confidence] = Confidence.HIGH

    good: ClassVar[tuple[Example, ...]] = (
        Example(
            """
<ir_version: 8, opset_import: ["" : 17]>
small (float[N, 4] x) => (float[N, 4] y) {
  [relu] y = Relu(x)
}
""",
            why="Relu is in the specification.",
        ),
    )
    bad: ClassVar[tuple[Example, ...]] = (
        Example(
            """
<ir_version: 8, opset_import: ["" : 17, "custom" : 1]>
small (float[N, 4] x) => (float[N, 4] y) {
  [relu] hidden = Relu(x)
  [own] y = custom.Magic(hidden)
}
""",
            flags=("own",),
            why="Magic is an operator of the domain `custom`.",
        ),
    )

    def check(self, facts: Facts) -> Iterator[Finding | Silence]:
        """One finding for each unknown type of operator, at the first such node."""
        understood = {layer.node for layer in facts.layers} | {pair.node for pair in facts.quantized}
        strangers: dict[str, list[Node]] = {}
        for node in facts.model.nodes:
            if node not in understood and not _is_known(node, facts.model.opset):
                strangers.setdefault(node.qualified_type, []).append(node)
        for kind, nodes in strangers.items():
            count = "1 node uses" if len(nodes) == 1 else f"{len(nodes)} nodes use"
            yield self.finding(
                facts.model.locate(nodes[0]),
                f"{count} the operator {kind}, which ONNX does not define at opset {facts.model.opset}; the forecast "
                "ignores it.",
                remedy="Measure with --calibrate instead of trusting the forecast. Or export the model with standard "
                "operators.",
                metrics={"nodes": len(nodes)},
            )
        if not strangers:
            yield Silence(whole_model(facts), f"all of its {len(facts.model.nodes)} nodes are of known operators")


def _is_known(node: Node, opset: int) -> bool:
    if not node.is_standard:
        return node.operator.known
    try:
        onnx.defs.get_schema(node.op_type, min(opset, onnx.defs.onnx_opset_version()))
    except onnx.defs.SchemaError:
        return False
    return True
