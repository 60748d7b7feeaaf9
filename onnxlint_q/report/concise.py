"""`concise`: one line a finding, for editors, logs and grep; then one line of totals."""

from __future__ import annotations

from onnxlint_q.finding import Finding
from onnxlint_q.report.digest import counted, refuted, summary
from onnxlint_q.report.words import evidence, name, shown
from onnxlint_q.workflow.results import ModelResult, Run

LONGEST_PATH = 4096


def render(run: Run) -> str:
    """`path:graph/label: CODE name severity [evidence] message`; a model's refuted findings come last."""
    lines = [
        line(model, finding) for model in run.models for finding in (*counted(model.findings), *refuted(model.findings))
    ]
    return "\n".join([*lines, summary(run)]) + "\n"


def line(model: ModelResult, finding: Finding) -> str:
    """One finding of a model."""
    where = finding.location
    return (
        f"{name(model.path, LONGEST_PATH)}:{name(where.graph)}/{name(where.label)}: {shown(finding.code)} "
        f"{shown(finding.name)} {finding.severity.value} [{evidence(finding)}] {shown(finding.message)}"
    )
