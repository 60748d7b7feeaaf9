"""Outlier channels as users are told them: one fault, what it costs, and what came of moving their factors."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import outlier_cases
import pytest
from onnx_cases import Array

from onnxlint_q.api.calls import lint, render
from onnxlint_q.finding import Evidence, Finding, Rescaling, Severity
from onnxlint_q.workflow.results import ModelResult, Verdict

SCHEMES = ("int8-per-tensor", "int8-dynamic")


def saved(proto: onnx.ModelProto, folder: Path) -> Path:
    onnx.save(proto, folder / "outliers.onnx")
    return folder / "outliers.onnx"


def about_channels(result: ModelResult) -> list[Finding]:
    return [finding for finding in result.findings if finding.code == "QA005"]


@pytest.fixture(scope="module")
def outliers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(outlier_cases.network(2), tmp_path_factory.mktemp("outliers"))


@pytest.fixture(scope="module")
def static(outliers: Path) -> ModelResult:
    return lint(outliers, schemes=SCHEMES)


@pytest.fixture(scope="module")
def tried(outliers: Path) -> ModelResult:
    return lint(outliers, outlier_cases.samples(), schemes=SCHEMES)


@pytest.mark.parametrize("told", ["static", "tried"])
def test_the_same_channels_in_two_tensors_are_one_fault(told: str, request: pytest.FixtureRequest) -> None:
    (finding,) = about_channels(request.getfixturevalue(told))
    assert finding.location.node == "norm0" and [place.node for place in finding.places] == ["norm1"]
    assert finding.severity is Severity.WARNING and "and 1 more:" in finding.message
    assert isinstance(finding.change, Rescaling) and len(finding.change.divisors) == 2
    assert {one.channels for one in finding.change.divisors} <= {(5, 20), (20, 5)}


def test_what_was_not_tried_says_so(static: ModelResult) -> None:
    (finding,) = about_channels(static)
    assert finding.evidence is Evidence.UNTESTED
    assert finding.advice.endswith(
        "Or leave these nodes in float. Untried. `onnxlint-q fix` applies this (channel-factors, untried)."
    )
    assert isinstance(finding.metrics["forecast_db"], float) and finding.nodes_to_exclude


def test_moving_the_factors_is_tried_and_judged(tried: ModelResult) -> None:
    (finding,) = about_channels(tried)
    assert finding.evidence is Evidence.CONFIRMED and finding.tried is not None
    assert finding.tried.after_db is not None and finding.tried.before_db is not None
    assert finding.tried.after_db > finding.tried.before_db + 10 and "Untried" not in finding.advice
    for name in SCHEMES:
        result = tried.scheme(name)
        assert result.verdict is not Verdict.SURVIVES and result.mended is not None
        assert result.mended.rewrites == ("channel-factors",)
        assert result.mended.result.verdict is Verdict.SURVIVES
        assert result.mended.exact_db is None or result.mended.exact_db > 80


def test_no_other_rule_tells_the_same_tensors(tried: ModelResult) -> None:
    (finding,) = about_channels(tried)
    assert finding.claim is not None and "QA004" in finding.also
    others = {one.claim.tensor for one in tried.findings if one.code in {"QA001", "QA002", "QA004"} and one.claim}
    assert others.isdisjoint(finding.claim.tensors)


def test_programs_read_the_factors(tried: ModelResult) -> None:
    (finding,) = (one for one in json.loads(render(tried, "json"))["models"][0]["findings"] if one["code"] == "QA005")
    assert [one["tensor"] for one in finding["rescaling"]] == ["t0", "t1"]
    assert all(len(one["factors"]) == len(one["channels"]) == 2 for one in finding["rescaling"])
    assert finding["remedy_tried"]["after_db"] > finding["remedy_tried"]["before_db"]


@pytest.mark.parametrize("data", [None, outlier_cases.samples()], ids=["file", "data"])
def test_outliers_that_the_output_is_made_of_are_no_finding(data: dict[str, Array] | None, tmp_path: Path) -> None:
    """The product heeds the wide channels most, so they make the output and are well resolved."""
    proto = outlier_cases.network()
    (weight,) = (value for value in proto.graph.initializer if value.name == "w0")
    even = onnx.numpy_helper.to_array(weight).copy()
    even[list(outlier_cases.WIDE)] *= 600
    weight.CopyFrom(onnx.numpy_helper.from_array(even, "w0"))
    result = lint(saved(proto, tmp_path), data, schemes=SCHEMES)
    assert not about_channels(result)


def test_what_cannot_move_is_left_in_float(tmp_path: Path) -> None:
    proto = outlier_cases.network(tail="[positive] r = Relu(t0) [mixed] m = MatMul(r, w0) [sum] y = Add(h0, m)")
    (finding,) = about_channels(lint(saved(proto, tmp_path), schemes=SCHEMES))
    assert finding.change is None and "Relu" in finding.remedy and finding.nodes_to_exclude
    assert finding.remedy.startswith("Leave these nodes in float.")
