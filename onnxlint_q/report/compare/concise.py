"""`concise`: one line for the verdict and one a finding, to grep and for editors."""

from __future__ import annotations

from onnxlint_q.report.compare import phrases
from onnxlint_q.report.concise import lines_of
from onnxlint_q.workflow.comparison import (
    Comparison,
)


def render(comparison: Comparison) -> str:
    """As in the report on a model; behind the verdict stands what class scores show, last how much is suppressed."""
    verdict, *findings = lines_of(comparison.quantized)
    if comparison.classifier is not None:
        verdict += f"; {phrases.classifier(comparison.classifier)}"
    known = len(comparison.quantized.suppressed)
    return "\n".join([verdict, *findings, *([f"{known} suppressed"] if known else [])]) + "\n"
