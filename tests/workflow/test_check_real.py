"""What `check` says of public networks that something is odd about, where they lie beside the checkout."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from onnxlint_q.execute.data.sources import RandomSource
from onnxlint_q.judge.config import Config, Overrides
from onnxlint_q.judge.own_findings import NOT_RUN
from onnxlint_q.judge.verdict import Verdict
from onnxlint_q.report import ReportFormat, render
from onnxlint_q.workflow import check as workflow
from onnxlint_q.workflow.check import lint
from onnxlint_q.workflow.record import CheckRequest, DataRequest
from onnxlint_q.workflow.results import Basis, Run

SHARED = Path(__file__).parents[2] / "../shared"
MODELS = SHARED / "models"
pytestmark = pytest.mark.skipif(not MODELS.is_dir(), reason="needs the public networks of ../shared")
NOISE = CheckRequest(DataRequest(RandomSource(), 4))


@pytest.mark.parametrize(
    ("name", "shapes", "reason"),
    [
        ("silero_vad.onnx", {"input": (1, 16)}, "while running If node"),
        ("deeploy_mlperf_vww_int.onnx", {}, "RequantShift"),
    ],
)
def test_a_run_that_did_not_happen_is_one_error_with_its_reason(
    name: str, shapes: dict[str, tuple[int, ...]], reason: str
) -> None:
    result = lint(MODELS / name, [], Config(), replace(NOISE, input_shapes=shapes))
    (finding,) = (finding for finding in result.findings if finding.code in NOT_RUN)
    assert finding.code == "QX002" and reason in finding.message and result.fails


def test_a_network_whose_layers_lie_in_bodies_runs_at_the_first_shape_that_can_be() -> None:
    result = lint(MODELS / "silero_vad.onnx", [], Config(), NOISE)
    taken = {one.name: one.taken for one in result.inputs}
    assert taken["state"] == (2, 1, 128) and taken["input"][1] > 32
    assert result.calibration is not None and not any(finding.code in NOT_RUN for finding in result.findings)
    assert all("nothing to quantise" in scheme.note for scheme in result.schemes)
    assert "export the branch" in result.schemes[0].note


def test_a_power_spectrum_whose_low_channels_set_the_scale_is_told_so() -> None:
    (job,) = workflow.plan([MODELS / "basic_pitch_nmp.onnx"], Overrides(fail_on_verdict="degrades"))
    result = lint(job.path, job.rules, job.config, CheckRequest())
    assert {finding.name for finding in result.findings} == {"outlier-channels", "shared-constant"} and result.fails
    assert {scheme.obstacle.fault for scheme in result.schemes if scheme.obstacle} == {"mixes up two tensors"}
    assert Verdict.SURVIVES not in {scheme.verdict for scheme in result.schemes}


def test_a_probe_without_a_verdict_is_not_called_no_run() -> None:
    result = lint(MODELS / "ppocr_v3_det.onnx", [], Config(), CheckRequest(probe=True))
    assert {(scheme.basis, scheme.ran) for scheme in result.schemes} == {(Basis.FORECAST, True)}
    assert any(row.probe for row in result.layers)
    text = " ".join(render(Run((result,)), ReportFormat.FULL).split())
    assert "nothing was run" not in text and "the run gave no figure" in text


def test_a_graph_of_integers_gets_no_figure_that_cannot_be_one() -> None:
    result = lint(MODELS / "deeploy_mlperf_vww_int.onnx", [], Config(), CheckRequest())
    figures = [
        figure
        for row in result.layers
        for said in (row.forecast or {}).values()
        for figure in (said.weight_sqnr_db, said.sqnr_db, said.weight_share, said.activation_share)
        if figure is not None
    ]
    assert all(math.isfinite(figure) and figure > -150 for figure in figures)
    text = render(Run((result,)), ReportFormat.FULL)
    assert "nan" not in text and "-705" not in text


def test_a_weight_that_nobody_reads_does_not_stop_the_run() -> None:
    path = SHARED / "cases" / "21-unused-initializer" / "model.onnx"
    if not path.is_file():
        pytest.skip("needs the cases of ../shared")
    result = lint(path, [], Config(), NOISE)
    assert [scheme.basis for scheme in result.schemes] == [Basis.MEASURED] * 2 and not result.fails
