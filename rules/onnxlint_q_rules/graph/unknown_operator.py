"""Operators that are not in the ONNX specification.

An operator of another domain is known by name only: the forecast passes through it as if it did nothing, the
quantiser of ONNX Runtime leaves it in float unless it is one of its own, and another runtime may not run it at all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import onnx

from onnxlint_q import Confidence, Example, Facts, Finding, Node, Rule, Severity


@dataclass(frozen=True)
class UnknownOperator(Rule):
    """The model uses an operator whose meaning is not known here.

    ## What it does
    Lists, once for each type, operators of other domains than the default one, and operators that the default domain
    does not have. Operators of ONNX Runtime's own domain that were understood are left out: those that carry scales,
    and those that do to values what is known.

    ## Why it breaks INT8
    It need not. But what follows such a node is judged less well: its noise and its ranges are guessed, and it stays
    in float or blocks a fusion where it stands.

    ## What to do
    Look at what stands behind the node with calibration data (`--calibrate`). If the operator can be written with
    standard ones, export it so.

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

    def check(self, facts: Facts) -> Iterator[Finding]:
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
                f"{count} the operator {kind}, which is not in the ONNX specification at opset {facts.model.opset}; "
                "what follows is judged as if it did nothing.",
                remedy="Check what stands behind it with calibration data, or export the model with standard "
                "operators.",
                metrics={"nodes": len(nodes)},
            )


def _is_known(node: Node, opset: int) -> bool:
    if not node.is_standard:
        return bool(node.operator.traits)
    try:
        onnx.defs.get_schema(node.op_type, min(opset, onnx.defs.onnx_opset_version()))
    except onnx.defs.SchemaError:
        return False
    return True
