"""One JSON object a line, with the keys of the json report."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import samples

from onnxlint_q.report import ReportFormat, render
from onnxlint_q.workflow.results import Run


def read(run: Run) -> list[dict[str, Any]]:
    text = render(run, ReportFormat.JSON_LINES)
    assert text.isascii() and (not text or text.endswith("\n"))
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("name", ["small", "large", "quantised", "empty", "hostile", "nothing"])
def test_lines_hold_what_json_holds(name: str) -> None:
    run: Run = getattr(samples, name)()
    run = replace(run, models=tuple(replace(model, suppressed=model.findings[:1]) for model in run.models))
    lines, whole = read(run), json.loads(render(run, ReportFormat.JSON))
    extra = {"type", "path"}
    for model in whole["models"]:
        own = [line for line in lines if line["path"] == model["path"] and line["type"] != "failure"]
        for kind, key in (("finding", "findings"), ("suppressed", "suppressed")):
            told = [{k: v for k, v in line.items() if k not in extra} for line in own if line["type"] == kind]
            assert told == model[key]
        assert {line["scheme"] for line in own if line["type"] == "verdict"} == model["schemes"].keys()
    assert [line["message"] for line in lines if line["type"] == "failure"] == [f["message"] for f in whole["failures"]]


def test_a_verdict_says_whether_it_is_known() -> None:
    (model,) = samples.small().models
    lines = read(Run((replace(model, accepted=("int8-per-tensor",)),)))
    assert [line["accepted"] for line in lines if line["type"] == "verdict"] == [True, False]
    assert lines[0]["type"] == "model" and lines[0]["version"] == 1
