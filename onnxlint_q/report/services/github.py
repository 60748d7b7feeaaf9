"""`github`: workflow commands, `::error file=a.onnx,title=QW001 …::…`, that GitHub shows as annotations.

The last line is the summary, for who reads the log.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from onnxlint_q.finding import Severity
from onnxlint_q.report import words
from onnxlint_q.report.digest import (
    alarms,
    faults,
    finding_sentences,
    help_of,
    path_from_here,
    summary,
    verdict_sentences,
)
from onnxlint_q.workflow.results import ModelResult, Run

COMMAND = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "notice"}
SHOWN = 10
"""Annotations of a command that GitHub shows of one step."""
LONGEST_PATH = 4096
_IN_DATA: Mapping[str, str] = {"%": "%25", "\r": "%0D", "\n": "%0A"}
_IN_PROPERTY: Mapping[str, str] = {**_IN_DATA, ":": "%3A", ",": "%2C"}


@dataclass(frozen=True, slots=True)
class _Annotation:
    """One workflow command; `path` is empty where no file is concerned."""

    severity: Severity
    path: str
    title: str
    sentences: Sequence[str]

    def __str__(self) -> str:
        file = words.name(path_from_here(self.path), LONGEST_PATH)
        properties = {"file": file, "title": self.title} if file else {"title": self.title}
        told = ",".join(f"{key}={_escaped(value, _IN_PROPERTY)}" for key, value in properties.items())
        return f"::{COMMAND[self.severity]} {told}::{_escaped(chr(10).join(self.sentences), _IN_DATA)}"


def render(run: Run) -> str:
    """A command for each verdict that is an alarm, each model that could not be linted and each fault, worst first."""
    told = [
        *(annotation for model in run.models for annotation in _verdicts(model)),
        *(
            _Annotation(Severity.ERROR, failure.path, "could not be linted", [words.shown(failure.message)])
            for failure in run.failures
        ),
        *(annotation for model in run.models for annotation in _faults(model)),
    ]
    told = [*_more_than_shown(told), *told]
    told.sort(key=lambda annotation: -annotation.severity.rank)
    return "\n".join([*map(str, told), summary(run)]) + "\n"


def _verdicts(model: ModelResult) -> Iterator[_Annotation]:
    for result, severity in alarms(model):
        title = f"{words.name(result.scheme, 40)} {words.verdict(result.verdict)}"
        yield _Annotation(severity, model.path, title, tuple(verdict_sentences(model, result)))


def _faults(model: ModelResult) -> Iterator[_Annotation]:
    for fault in faults(model.findings):
        finding, *others = fault.findings
        same = filter(None, [words.same_damage(finding, others)])
        sentences = [*finding_sentences(model, finding), *same, f"More: {help_of(model, finding)}"]
        title = f"{words.shown(finding.code, 20)} {words.shown(finding.name, 60)}"
        yield _Annotation(fault.severity, model.path, title, sentences)


def _more_than_shown(told: Sequence[_Annotation]) -> Iterator[_Annotation]:
    """One that says so where GitHub leaves some out; it has to be the first of the notices to be shown itself."""
    totals = Counter(annotation.severity for annotation in told)
    if any(total > SHOWN for total in totals.values()):
        counts = ", ".join(
            words.count(totals[severity], COMMAND[severity]) for severity in Severity if totals[severity]
        )
        said = f"There are {counts}. GitHub shows {SHOWN} of each kind; the log of this step has all of them."
        yield _Annotation(Severity.INFO, "", "more than GitHub shows", [said])


def _escaped(text: str, escapes: Mapping[str, str]) -> str:
    return "".join(escapes.get(char, char) for char in text)
