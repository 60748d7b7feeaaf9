"""The verdict with the masks mended, foreseen and tried, as users are told it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from mask_cases import WAYS, network, samples

from onnxlint_q.api.calls import lint, render
from onnxlint_q.workflow.assembly.mended import _helps
from onnxlint_q.workflow.results import Basis, ModelResult, SchemeResult, Verdict

SCHEMES = ("int8-per-tensor", "int16-activations", "int4-blocks")


@pytest.fixture(scope="module")
def masked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    steps, constants = WAYS["computed"]
    path = tmp_path_factory.mktemp("masked") / "masked.onnx"
    onnx.save(network(steps, **constants), path)
    return path


@pytest.fixture(scope="module")
def static(masked: Path) -> ModelResult:
    return lint(masked, schemes=SCHEMES)


@pytest.fixture(scope="module")
def tried(masked: Path) -> ModelResult:
    return lint(masked, samples(48), schemes=SCHEMES)


def test_from_the_file_alone_both_verdicts_are_forecasts(static: ModelResult) -> None:
    for name in SCHEMES[:2]:
        result = static.scheme(name)
        assert result.mended is not None and result.mended.rewrites == ("mask-values",)
        after = result.mended.result
        assert result.basis is after.basis is Basis.FORECAST and after.verdict is not Verdict.BREAKS
        assert result.verdict is not Verdict.SURVIVES and result.mended.what == "the mask at -100"
        assert result.output_sqnr_db is not None and after.output_sqnr_db is not None
        assert after.output_sqnr_db > result.output_sqnr_db + 4


def test_on_data_both_are_measured_on_the_same_samples(tried: ModelResult) -> None:
    for name in SCHEMES[:2]:
        result = tried.scheme(name)
        assert result.verdict is Verdict.BREAKS and result.mended is not None
        after = result.mended.result
        assert result.basis is after.basis is Basis.MEASURED and after.verdict is Verdict.SURVIVES
        assert result.mended.exact_db is None or result.mended.exact_db > 80


@pytest.mark.parametrize("told", ["static", "tried"])
def test_a_scheme_that_rounds_no_activation_has_no_mask_to_mend(told: str, request: pytest.FixtureRequest) -> None:
    result: ModelResult = request.getfixturevalue(told)
    assert result.scheme("int4-blocks").mended is None


def test_one_finding_tells_the_mask_and_what_came_of_trying_another(tried: ModelResult) -> None:
    assert [finding.code for finding in tried.findings if finding.code.startswith("QA")] == ["QA003"]
    (finding,) = (finding for finding in tried.findings if finding.code == "QA003")
    assert finding.tried is not None and finding.tried.after_db is not None and finding.tried.before_db is not None
    assert finding.tried.after_db > finding.tried.before_db + 10
    assert "Tried: " in finding.advice and "Untried" not in finding.advice and not finding.nodes_to_exclude


def test_every_report_tells_both(tried: ModelResult, static: ModelResult) -> None:
    scheme = json.loads(render(tried, "json"))["models"][0]["schemes"]["int8-per-tensor"]
    assert scheme["verdict"] == "breaks" and scheme["mended"]["verdict"] == "survives"
    assert scheme["mended"]["rewrites"] == ["mask-values"] and scheme["mended"]["basis"] == "measured"
    assert json.loads(render(static, "json"))["models"][0]["schemes"]["int4-blocks"]["mended"] is None
    for kind in ("html", "sarif", "github"):
        assert "ith the mask at -" in render(tried, kind), kind


def test_a_forecast_that_is_worse_than_what_ran_is_not_told_beside_it() -> None:
    """Made-up inputs may leave a mask alone, and then the figure of the run is the better one."""
    ran, foreseen = (
        SchemeResult("int8-per-tensor", Verdict.SURVIVES, 20.0, Basis.PROBE),
        SchemeResult("int8-per-tensor", Verdict.DEGRADES, 11.0, Basis.FORECAST),
    )
    assert not _helps(ran, foreseen)
    assert _helps(replace(ran, output_sqnr_db=2.0, verdict=Verdict.BREAKS), foreseen)
    assert _helps(replace(ran, output_sqnr_db=None, verdict=None), foreseen)
