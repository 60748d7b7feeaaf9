"""Nodes of one graph that share a name.

The ONNX specification does not ask for node names to be unique. ONNX Runtime does, within each graph: it refuses the
file ("This is an invalid model. Error: two nodes with same node name"). Empty names do not count, nor do Constant
nodes, which are values before names are compared. Two branches of an If may use the same ones. A model that is
quantised a second time gets such a pair.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from onnxlint_q import Confidence, Example, Facts, Finding, Rule, Severity, Silence, whole_model


def _model(second: str) -> str:
    return f"""
<ir_version: 8, opset_import: ["" : 17]>
small (float[N, 4] x) => (float[N, 4] y) {{
  [relu] hidden = Relu(x)
  [{second}] y = Sigmoid(hidden)
}}
"""


_CONSTANTS = """
<ir_version: 8, opset_import: ["" : 17]>
small (float[N, 4] x) => (float[N, 4] y) {
  [value] one = Constant <value = float {1}> ()
  [value] two = Constant <value = float {2}> ()
  [sum] hidden = Add(x, one)
  [product] y = Mul(hidden, two)
}
"""


@dataclass(frozen=True)
class RepeatedNames(Rule):
    """Two nodes of one graph share a name, so ONNX Runtime does not load the file.

    ## What it does
    Counts the names that several nodes of one graph have, in files of any format.

    ## Why it breaks INT8
    ONNX Runtime refuses the file, so it cannot be calibrated, quantised or run there. Other runtimes may take it. A
    shared name also keeps more nodes in float than an exclude list means.

    ## What to do
    Give each node a name of its own: `fix` does it (node-names); nothing else in the model changes.

    ## Sources
    onnxruntime 1.32.0, core/graph/graph.cc (VerifyNoDuplicateName), measured; ONNX specification, NodeProto.name.
    """

    code: ClassVar[str] = "QG018"
    name: ClassVar[str] = "repeated-names"
    severity: ClassVar[Severity] = Severity.WARNING
    confidence: ClassVar[Confidence] = Confidence.HIGH
    rewrites: ClassVar[tuple[str, ...]] = ("node-names",)

    good: ClassVar[tuple[Example, ...]] = (
        Example(_model("sigmoid"), why="Each node has a name of its own."),
        Example(_CONSTANTS, why="Constant nodes may share a name: to ONNX Runtime they are values."),
    )
    bad: ClassVar[tuple[Example, ...]] = (
        Example(_model("relu"), flags=("relu",), why="ONNX Runtime does not load it."),
    )

    def check(self, facts: Facts) -> Iterator[Finding | Silence]:
        """At most one finding for the model, at the first node with such a name."""
        named = [node for node in facts.model.nodes if node.name and node.op_type != "Constant"]
        uses = Counter((node.graph, node.name) for node in named)
        shared = {key for key, number in uses.items() if number > 1}
        if not shared:
            yield Silence(whole_model(facts), "no two nodes of a graph share a name")
            return
        nodes = [node for node in named if (node.graph, node.name) in shared]
        first = nodes[0]
        number = uses[first.graph, first.name]
        others = f"; {len(shared) - 1} more names are shared" if len(shared) > 1 else ""
        yield self.finding(
            facts.model.locate(first),
            f"ONNX Runtime does not load this file: {number} nodes are called {first.name!r}{others}",
            remedy="Give each node a name of its own and save the file.",
            metrics={"nodes": len(nodes), "names": len(shared)},
            places=[facts.model.locate(node) for node in nodes[1:]],
        )
