"""Nodes that cannot be named in an exclude list.

`nodes_to_exclude`, `nodes_to_quantize` and every tool's list of exceptions work by node name. ONNX makes names
optional and does not ask for them to be unique: a node without one cannot be excluded, and excluding a name that two
nodes share excludes both.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePath
from typing import ClassVar

from onnxlint_q import ROOT, Confidence, Example, Facts, Finding, Node, Rule, Severity, is_quantized


@dataclass(frozen=True)
class UnnamedNodes(Rule):
    """Nodes that a quantiser would touch have no name, or share one.

    ## What it does
    Counts, in the main graph of a float model, the nodes of operators that ONNX Runtime's static quantiser handles
    and that have no name or a name used twice.

    ## Why it breaks INT8
    The remedy for a layer that INT8 spoils is often to keep it in float, and that is said by name. A node without a
    name cannot be kept, and a shared name keeps more than was meant.

    ## What to do
    Name the nodes and save the file; nothing else in the model changes.

    ## Sources
    onnxruntime 1.31.1, quantize_static (nodes_to_exclude); ONNX specification, NodeProto.name.
    """

    code: ClassVar[str] = "QG002"
    name: ClassVar[str] = "unnamed-nodes"
    severity: ClassVar[Severity] = Severity.INFO
    confidence: ClassVar[Confidence] = Confidence.HIGH

    good: ClassVar[tuple[Example, ...]] = (
        Example(
            """
<ir_version: 8, opset_import: ["" : 17]>
small (float[N, 4] x) => (float[N, 4] y) {
  [first] hidden = Relu(x)
  [second] y = Sigmoid(hidden)
}
""",
            why="Every node has a name of its own.",
        ),
    )
    bad: ClassVar[tuple[Example, ...]] = (
        Example(
            """
<ir_version: 8, opset_import: ["" : 17]>
small (float[N, 4] x) => (float[N, 4] y) {
  hidden = Relu(x)
  [second] y = Sigmoid(hidden)
}
""",
            flags=("hidden",),
            why="The Relu has no name.",
        ),
        Example(
            """
<ir_version: 8, opset_import: ["" : 17]>
small (float[N, 4] x) => (float[N, 4] y) {
  [same] hidden = Relu(x)
  [same] y = Sigmoid(hidden)
}
""",
            flags=("same",),
            why="Excluding `same` excludes both nodes.",
        ),
    )

    def check(self, facts: Facts) -> Iterator[Finding]:
        """At most one finding for the model, at the first such node."""
        nodes = [node for node in facts.model.nodes if node.graph == ROOT] if facts.is_float else []
        uses = Counter(node.name for node in nodes)
        concerned = [node for node in nodes if is_quantized(node)]
        unnamed = [node for node in concerned if not node.name]
        repeated = [node for node in concerned if node.name and uses[node.name] > 1]
        first = next(iter(unnamed or repeated), None)
        if first is None:
            return
        layers = {layer.node for layer in facts.layers}
        weighty = sum(node in layers for node in (*unnamed, *repeated))
        yield self.finding(
            facts.model.locate(first),
            f"Of {len(concerned)} nodes that can be quantised {len(unnamed)} have no name and {len(repeated)} share "
            f"theirs, {weighty} of them layers with weights, so they cannot be put into an exclude list one by one.",
            remedy="Name the nodes and save the file; the model stays the same.",
            snippet=_name_them(facts.model.name),
            metrics={
                "unnamed_nodes": len(unnamed),
                "repeated_names": len(repeated),
                "layers_concerned": weighty,
                "nodes": len(concerned),
                "example": _describe(first),
            },
        )


def _name_them(path: str) -> str:
    """Lines that write the model with names beside its file."""
    file = PurePath(path)
    return "\n".join(
        (
            f"model = onnx.load({file.name!a})",
            "for i, node in enumerate(model.graph.node): node.name = f'{node.op_type}_{i}'",
            f"onnx.save(model, {f'{file.stem}-named{file.suffix}'!a})",
        )
    )


def _describe(node: Node) -> str:
    return f"{node.qualified_type} {node.label}"
