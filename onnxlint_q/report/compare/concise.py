"""`concise`: one line a jump and one for the output, to grep and for editors."""

from __future__ import annotations

from onnxlint_q.report import words
from onnxlint_q.report.compare import phrases
from onnxlint_q.workflow.results import Comparison


def render(comparison: Comparison) -> str:
    """One line a jump, then the output."""
    path = words.name(comparison.quantized.path)
    lines = [
        f"{path}: jump at {words.name(row.node, 100)} ({words.name(row.op_type, 40)}): {phrases.jump(row)}; "
        f"{phrases.fault(row.faults[0])}"
        for row in comparison.jumps
    ]
    output = f"{path}: {words.verdict(comparison.verdict)}: {phrases.output(comparison)}"
    if comparison.classifier is not None:
        output += f", {phrases.classifier(comparison.classifier)}"
    return "\n".join([*lines, output]) + "\n"
