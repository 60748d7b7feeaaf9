"""`gitlab`: a Code Quality report, as a merge request of GitLab shows it.

GitLab shows the description and the line, keeps one of those with the same fingerprint, and knows no suppression: what
is suppressed is left out. Every issue stands on line 1 of its model.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator

from onnxlint_q.finding import Severity
from onnxlint_q.report import words
from onnxlint_q.report.digest import (
    alarms,
    faults,
    finding_sentences,
    help_of,
    path_from_here,
    verdict_sentences,
)
from onnxlint_q.report.documents.values import Json, indented
from onnxlint_q.workflow.results import ModelResult, Run

SEVERITY = {Severity.ERROR: "critical", Severity.WARNING: "major", Severity.INFO: "info"}
LONGEST = 1000
"""Characters of a description."""
_LONGEST_PATH = 4096


def render(run: Run) -> str:
    """An array of issues: models that could not be linted, verdicts that are alarms, and each fault once."""
    issues = [
        _issue("blocker", "not-linted", one.path, "", f"Could not be linted: {words.shown(one.message)}", "")
        for one in run.failures
    ]
    issues += [issue for model in run.models for issue in (*_verdicts(model), *_faults(model))]
    seen: Counter[str] = Counter()
    for issue in issues:
        identity = str(issue["fingerprint"])
        issue["fingerprint"] = hashlib.sha256(f"{identity}\0{seen[identity]}".encode()).hexdigest()[:32]
        seen[identity] += 1
    return indented(list(issues))


def _verdicts(model: ModelResult) -> Iterator[dict[str, Json]]:
    for result, severity in alarms(model):
        said = " ".join(verdict_sentences(model, result))
        yield _issue(SEVERITY[severity], "verdict", model.path, result.scheme, said, "")


def _faults(model: ModelResult) -> Iterator[dict[str, Json]]:
    for fault in faults(model.findings):
        finding, *others = fault.findings
        said = " ".join(filter(None, (*finding_sentences(model, finding), words.same_damage(finding, others))))
        code = words.shown(finding.code, 20)
        # GitLab does not show the name of the check, so the description begins with it.
        title = f"{code} {words.shown(finding.name, 60)}"
        about, severity = help_of(model, finding), SEVERITY[fault.severity]
        yield _issue(severity, code, model.path, finding.fingerprint, f"{title}: {said}", about)


def _issue(severity: str, check: str, path: str, identity: str, said: str, about: str) -> dict[str, Json]:
    shown = words.name(path_from_here(path), _LONGEST_PATH) or "(no name)"
    whole = f"{check}\0{shown}\0{identity}".encode("utf-8", "backslashreplace")
    return {
        "type": "issue",
        "check_name": check,
        "description": words.shown(said, LONGEST),
        "categories": ["Compatibility"],
        "severity": severity,
        "fingerprint": hashlib.sha256(whole).hexdigest(),
        "location": {"path": shown, "lines": {"begin": 1, "end": 1}},
        **({"content": {"body": f"More: {about}"}} if about else {}),
    }
