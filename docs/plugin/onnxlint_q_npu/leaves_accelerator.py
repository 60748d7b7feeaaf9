"""Operators that the accelerator does not run.

The runtime cuts the graph there: the tensor leaves the accelerator, is dequantised, computed in float on the processor,
quantised again and sent back. n such nodes cost up to 2 n transfers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from onnxlint_q import Confidence, Example, Facts, Finding, Rule, Severity, option


@dataclass(frozen=True)
class LeavesAccelerator(Rule):
    """Nodes that the accelerator does not run, so that the graph is cut at them.

    ## What it does
    Finds nodes whose operator is in the option `operators`, and tells each operator once, at its first node.

    ## Why it breaks INT8
    It costs time, not accuracy: int8 gains nothing where tensors travel to the processor and back.

    ## What to do
    Exchange the activation before training, for example HardSwish for Relu6, or accept the cut.

    ## Sources
    The release notes of your accelerator's compiler.
    """

    code: ClassVar[str] = "NPU001"
    name: ClassVar[str] = "leaves-accelerator"
    severity: ClassVar[Severity] = Severity.WARNING
    confidence: ClassVar[Confidence] = Confidence.HIGH

    operators: str = option(
        "HardSwish, Gelu, LayerNormalization",
        doc="operators that run in float on the processor, with commas between",
        source="release notes of the compiler",
    )

    good: ClassVar[tuple[Example, ...]] = (
        Example(
            """
<ir_version: 8, opset_import: ["" : 17]>
small (float[N, 4] x) => (float[N, 4] y) {
  [clip] y = Relu(x)
}
""",
            why="The accelerator runs Relu.",
        ),
    )
    bad: ClassVar[tuple[Example, ...]] = (
        Example(
            """
<ir_version: 8, opset_import: ["" : 17]>
small (float[N, 4] x) => (float[N, 4] y) {
  [first] hidden = HardSwish(x)
  [second] y = HardSwish(hidden)
}
""",
            flags=("first",),
            why="Both nodes run on the processor; they are one finding.",
        ),
    )

    def check(self, facts: Facts) -> Iterator[Finding]:
        """One finding for each operator that is there."""
        for operator in filter(None, map(str.strip, self.operators.split(","))):
            nodes = list(facts.model.nodes_of(operator))
            if nodes:
                count = "1 node runs" if len(nodes) == 1 else f"{len(nodes)} nodes run"
                yield self.finding(
                    facts.model.locate(nodes[0]),
                    f"{count} {operator} in float on the processor; the accelerator does not have it.",
                    remedy="Train with an activation that the accelerator has, or accept the cut.",
                    metrics={"nodes": len(nodes)},
                )
