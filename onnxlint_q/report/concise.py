"""`concise`: a line with the verdicts and one a finding of every model, for editors, logs and grep; then the totals."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from onnxlint_q.finding import Finding
from onnxlint_q.report import words
from onnxlint_q.report.digest import counted, refuted, summary
from onnxlint_q.report.layers import of_claim
from onnxlint_q.report.words import name, shown
from onnxlint_q.workflow.results import ModelResult, Run

LONGEST_PATH = 4096


def render(run: Run) -> str:
    """`path: scheme verdict (figures), …`, then `path:graph/label: CODE name severity [evidence] message`.

    A model's refuted findings come last.
    """
    lines = [line for model in run.models for line in lines_of(model)]
    return "\n".join([*lines, summary(run)]) + "\n"


def lines_of(model: ModelResult) -> Iterator[str]:
    """The verdicts on one model, then its findings."""
    path = name(model.path, LONGEST_PATH)
    yield f"{path}: {words.verdicts(model)}"
    for finding in (*counted(model.findings), *refuted(model.findings)):
        yield f"{path}:{_finding(model, finding)}"


def failing(run: Run) -> Iterator[str]:
    """The verdicts and the findings that fail a build, and nothing else."""
    for model in run.models:
        path = name(model.path, LONGEST_PATH)
        failed = tuple(filter(model.fails_by_verdict, model.schemes))
        if failed:
            yield f"{path}: {words.verdicts(replace(model, schemes=failed))}"
        for finding in filter(model.fails_by, model.findings):
            yield f"{path}:{_finding(model, finding)}"


def _finding(model: ModelResult, finding: Finding) -> str:
    where = finding.location
    return (
        f"{name(where.graph)}/{name(where.label)}: {shown(finding.code)} {shown(finding.name)} "
        f"{finding.severity.value} [{words.evidence(finding, of_claim(model, finding))}] {shown(finding.message)}"
    )
