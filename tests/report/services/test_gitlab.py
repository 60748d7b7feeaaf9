"""Code Quality reports, by the fields that GitLab reads of one."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import jsonschema
import pytest
import samples

from onnxlint_q.report import ReportFormat, render
from onnxlint_q.report.compare import render as render_comparison
from onnxlint_q.workflow.results import Failure, Run

# docs.gitlab.com, "Code Quality report format": what each violation has to have, and what a severity may be.
SCHEMA = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["description", "check_name", "fingerprint", "location", "severity"],
        "properties": {
            "description": {"type": "string", "minLength": 1},
            "check_name": {"type": "string", "minLength": 1},
            "fingerprint": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
            "severity": {"enum": ["info", "minor", "major", "critical", "blocker"]},
            "location": {
                "type": "object",
                "required": ["path", "lines"],
                "properties": {
                    "path": {"type": "string", "pattern": r"^(?!\./)."},
                    "lines": {
                        "type": "object",
                        "required": ["begin"],
                        "properties": {"begin": {"type": "integer", "minimum": 1}},
                    },
                },
            },
        },
    },
}


def read(run: Run) -> list[dict[str, Any]]:
    issues = json.loads(render(run, ReportFormat.GITLAB))
    jsonschema.validate(issues, SCHEMA)
    prints = [issue["fingerprint"] for issue in issues]
    assert len(set(prints)) == len(prints), "of two with one fingerprint GitLab shows one"
    return issues  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", ["small", "chained", "remedied", "large", "quantised", "nothing", "empty", "hostile"])
def test_every_run_is_a_report(name: str) -> None:
    issues = read(getattr(samples, name)())
    text = json.dumps(issues, ensure_ascii=False)
    assert all(char.isprintable() for issue in issues for char in issue["description"]) and len(text) < 500_000


def test_verdicts_and_faults_are_issues() -> None:
    (model,) = samples.small().models
    issues = read(Run((model,)))
    assert [issue["check_name"] for issue in issues if issue["check_name"] == "verdict"]
    first = next(issue for issue in issues if issue["check_name"] == "QW001")
    assert first["description"].startswith("QW001 unequal-channel-ranges: ") and first["severity"] == "critical"
    assert first["content"]["body"] == "More: onnxlint-q rule QW001"
    assert {issue["location"]["path"] for issue in issues} == {"small.onnx"}
    paged = read(Run((replace(model, rule_pages="https://example.org/rules/{code}-{name}.html"),)))
    bodies = {issue["content"]["body"] for issue in paged if issue["check_name"] == "QW001"}
    assert bodies == {"More: https://example.org/rules/QW001-unequal-channel-ranges.html"}


def test_an_issue_stays_the_same_one_where_figures_and_places_in_the_list_change() -> None:
    (model,) = samples.small().models
    changed = replace(model, findings=tuple(replace(f, message="Other.") for f in reversed(model.findings)))

    def prints(run: Run) -> set[str]:
        return {issue["fingerprint"] for issue in read(run)}

    assert prints(Run((model,))) == prints(Run((changed,)))
    assert prints(Run((model,))).isdisjoint(prints(Run((replace(model, path="other.onnx"),))))


def test_two_findings_of_one_place_are_two_issues() -> None:
    (model,) = samples.small().models
    finding = replace(samples.static("bn"), claim=None)
    assert len(read(Run((replace(model, schemes=(), findings=(finding, replace(finding, message="Twice."))),)))) == 2


def test_what_is_known_is_no_issue_and_what_was_not_linted_blocks() -> None:
    (model,) = samples.small().models
    schemes = tuple(result.scheme for result in model.schemes)
    assert read(Run((replace(model, findings=(), suppressed=model.findings, accepted=schemes),))) == []
    (issue,) = read(Run((), (Failure("a/b.onnx", "a/b.onnx: not an ONNX file"),)))
    assert (issue["severity"], issue["location"]["path"]) == ("blocker", "a/b.onnx")


def test_a_comparison_is_told_as_its_quantised_file() -> None:
    comparison = samples.compared(samples.small())
    assert json.loads(render_comparison(comparison, ReportFormat.GITLAB)) == read(comparison.as_run)
