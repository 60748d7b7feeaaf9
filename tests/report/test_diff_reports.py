"""What changed between two releases, told in words and as JSON."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import samples

from onnxlint_q.report import ReportFormat
from onnxlint_q.report.diff import FORMATS, render
from onnxlint_q.report.formats import Look
from onnxlint_q.workflow.diff import compared
from onnxlint_q.workflow.results import ModelResult, Port


def models(name: str) -> tuple[ModelResult, ...]:
    found: tuple[ModelResult, ...] = getattr(samples, name)().models
    return found


@pytest.mark.parametrize("name", ["small", "large", "quantised", "costly", "nothing"])
@pytest.mark.parametrize("report_format", FORMATS)
def test_every_pair_is_told(name: str, report_format: ReportFormat) -> None:
    for old in (*models("small"), *models(name)):
        for new in models(name):
            text = render(compared(old, new, 3.0), report_format)
            assert text.endswith("\n") and text == render(compared(old, new, 3.0), report_format)


def test_hostile_names_are_shown_safely() -> None:
    (plain,) = models("small")
    for model in models("hostile"):
        ports = (Port(model.path, "float", f"[{model.path}]"),)
        changes = compared(plain, replace(model, ports_in=ports))
        document = json.loads(render(changes, ReportFormat.JSON))
        assert document["interface"][0]["change"] == "new"
        text = render(changes, ReportFormat.FULL, Look(verbose=True))
        assert all(char.isprintable() or char == "\n" for char in text) and max(map(len, text.splitlines())) <= 100


def test_the_same_file_is_said_to_be_the_same() -> None:
    (model,) = models("small")
    text = render(compared(model, model), ReportFormat.FULL)
    assert "Both are the same file, byte for byte." in text and "New findings" not in text


def test_findings_of_either_release_are_listed_by_rule() -> None:
    (model,) = models("small")
    bare = replace(model, findings=())
    gone, new = (render(compared(*pair), ReportFormat.FULL) for pair in ((model, bare), (bare, model)))
    assert "Gone findings: 2" in gone and "New findings" not in gone
    assert "New findings: 2" in new and "QW001 unequal-channel-ranges" in new and "Gone findings" not in new
    assert new.splitlines()[-1].startswith("2 new findings, 0 gone; the most that a scheme lost is 0.0 dB")
