"""Nodes that an exclude list cannot name.

`nodes_to_exclude`, `nodes_to_quantize` and every tool's list of exceptions work by node name. ONNX makes names
optional, and a node without a name cannot be excluded.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePath
from typing import ClassVar

from onnxlint_q import (
    ROOT,
    Confidence,
    Example,
    Facts,
    Finding,
    Node,
    Rule,
    Severity,
    Silence,
    is_quantized,
    whole_model,
)


@dataclass(frozen=True)
class UnnamedNodes(Rule):
    """Quantisable nodes have no name.

    ## What it does
    Looks at the main graph of a float model. Counts the nodes that ONNX Runtime's static quantiser handles and that
    have no name.

    ## Why it breaks INT8
    A layer that INT8 damages is often kept in float, and the quantiser takes such a list by name. A node without a
    name cannot be on that list.

    ## What to do
    Name the nodes and save the file; nothing else in the model changes.

    ## Sources
    onnxruntime 1.31.1, quantize_static (nodes_to_exclude); ONNX specification, NodeProto.name.
    """

    code: ClassVar[str] = "QG002"
    name: ClassVar[str] = "unnamed-nodes"
    severity: ClassVar[Severity] = Severity.INFO
    confidence: ClassVar[Confidence] = Confidence.HIGH
    rewrites: ClassVar[tuple[str, ...]] = ("node-names",)

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
    )

    def check(self, facts: Facts) -> Iterator[Finding | Silence]:
        """At most one finding for the model, at the first such node."""
        nodes = [node for node in facts.model.nodes if node.graph == ROOT] if facts.is_float else []
        concerned = [node for node in nodes if is_quantized(node)]
        unnamed = [node for node in concerned if not node.name]
        first = next(iter(unnamed), None)
        if first is None:
            why = f"all of its {len(concerned)} quantisable nodes have names"
            yield Silence(whole_model(facts), why if facts.is_float else "it is quantised already")
            return
        layers = {layer.node for layer in facts.layers}
        weighty = sum(node in layers for node in unnamed)
        yield self.finding(
            facts.model.locate(first),
            _message(len(concerned), len(unnamed)),
            remedy="Name the nodes and save the file. Without a name a node cannot be kept in float.",
            snippet=_name_them(facts.model.name),
            metrics={
                "unnamed_nodes": len(unnamed),
                "layers_concerned": weighty,
                "nodes": len(concerned),
                "example": _describe(first),
            },
        )


def _message(nodes: int, unnamed: int) -> str:
    """Which nodes lack a name."""
    if unnamed == nodes:
        return f"All {nodes} quantisable nodes are unnamed." if nodes > 1 else "The only quantisable node is unnamed."
    return f"{unnamed} of {nodes} quantisable nodes {'are' if unnamed > 1 else 'is'} unnamed."


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
