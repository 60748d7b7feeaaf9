"""`concise`: one line for the verdict and one a finding, to grep and for editors."""

from __future__ import annotations

from onnxlint_q.report import words
from onnxlint_q.report.compare import phrases
from onnxlint_q.report.concise import line
from onnxlint_q.report.digest import counted, refuted
from onnxlint_q.workflow.results import Comparison


def render(comparison: Comparison) -> str:
    """The findings as in the report on a model, then the output."""
    model = comparison.quantized
    lines = [line(model, finding) for finding in (*counted(model.findings), *refuted(model.findings))]
    verdict = comparison.result.verdict
    output = f"{words.name(model.path)}: {verdict.value if verdict else 'unknown'}: {words.reason(comparison.result)}"
    if comparison.classifier is not None:
        output += f"; {phrases.classifier(comparison.classifier)}"
    return "\n".join([*lines, output]) + "\n"
