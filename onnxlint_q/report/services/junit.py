"""`junit`: test results, as every build server shows them.

A model is a suite. A verdict is a case, and so is a fault; what fails the build is a failure, what is suppressed or was
refuted is skipped, everything else passes with its text as output. A model that could not be linted is an error.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from typing import Literal

from onnxlint_q.finding import Finding
from onnxlint_q.report import words
from onnxlint_q.report.digest import (
    faults,
    finding_sentences,
    help_of,
    path_from_here,
    refuted,
    verdict_sentences,
)
from onnxlint_q.workflow.results import Failure, ModelResult, Run

_LONGEST_PATH = 4096
Outcome = Literal["passed", "failure", "error", "skipped"]


def render(run: Run) -> str:
    """One suite a model, with the totals that readers want at each level."""
    suites = [*map(_suite, run.models), *map(_failed, run.failures)]
    root = ET.Element("testsuites", {"name": "onnxlint-q", **_totals(suites)})
    root.extend(suites)
    ET.indent(root, " ")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(root, encoding="unicode")}\n'


def _suite(model: ModelResult) -> ET.Element:
    path = _path(model.path)
    cases = [*_verdicts(model, path), *_faults(model, path), *_left_out(model, path)]
    return _of(path, cases or [_case(path, "no findings", "passed", "", "")])


def _failed(failure: Failure) -> ET.Element:
    path = _path(failure.path)
    return _of(path, [_case(path, "read", "error", "could not be linted", words.shown(failure.message))])


def _of(path: str, cases: list[ET.Element]) -> ET.Element:
    suite = ET.Element("testsuite", {"name": path, **_totals(cases)})
    suite.extend(cases)
    return suite


def _verdicts(model: ModelResult, path: str) -> Iterator[ET.Element]:
    for result in model.schemes:
        said = "\n".join(verdict_sentences(model, result))
        name, judged = words.name(result.scheme, 40), words.judged(result)
        known = result.scheme in model.accepted
        outcome: Outcome = "skipped" if known else "failure" if model.fails_by_verdict(result) else "passed"
        yield _case(path, name, outcome, f"{judged}, as the baseline has it" if known else judged, said)


def _faults(model: ModelResult, path: str) -> Iterator[ET.Element]:
    for fault in faults(model.findings):
        finding, *others = fault.findings
        fails = any(map(model.fails_by, fault.findings))
        outcome: Outcome = "failure" if fails else "passed"
        yield _case(path, _name(finding), outcome, words.shown(finding.message), _said(model, finding, others))


def _left_out(model: ModelResult, path: str) -> Iterator[ET.Element]:
    for finding in model.suppressed:
        why = f"suppressed: {words.suppressed(finding)}"
        yield _case(path, _name(finding), "skipped", why, _said(model, finding))
    for finding in refuted(model.findings):
        yield _case(path, _name(finding), "skipped", words.REFUTED, _said(model, finding))


def _name(finding: Finding) -> str:
    where = words.brief_place(finding.location, 80)
    return f"{words.shown(finding.code, 20)} {words.shown(finding.name, 60)} at {where}"


def _said(model: ModelResult, finding: Finding, others: list[Finding] | None = None) -> str:
    same = words.same_damage(finding, others or [])
    return "\n".join(filter(None, (*finding_sentences(model, finding), same, f"More: {help_of(model, finding)}")))


def _case(path: str, name: str, outcome: Outcome, message: str, said: str) -> ET.Element:
    case = ET.Element("testcase", classname=path, name=name)
    if outcome == "passed":
        if said:
            ET.SubElement(case, "system-out").text = said
        return case
    attributes = {"message": message} if outcome == "skipped" else {"message": message, "type": "onnxlint-q"}
    ET.SubElement(case, outcome, attributes).text = said
    return case


def _totals(elements: list[ET.Element]) -> dict[str, str]:
    """How many cases there are below, of each kind."""
    cases = [case for element in elements for case in element.iter("testcase")]
    counts = {kind: sum(case.find(tag) is not None for case in cases) for kind, tag in _KINDS}
    return {"tests": str(len(cases)), **{kind: str(number) for kind, number in counts.items()}}


_KINDS = (("failures", "failure"), ("errors", "error"), ("skipped", "skipped"))


def _path(path: str) -> str:
    return words.name(path_from_here(path), _LONGEST_PATH) or "(no name)"
