"""What is told of a quantised file: which scales were chosen over which, and what is no gain."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

import onnxlint_q
from onnxlint_q.judge.verdict import Verdict
from onnxlint_q.report.quantize import phrases
from onnxlint_q.report.quantize.full import render
from onnxlint_q.report.quantize.json import render as render_json
from onnxlint_q.workflow.mending.fixed import Verification
from onnxlint_q.workflow.mending.quantized import AttemptRow, Milliseconds, Quantized, Weight
from onnxlint_q.workflow.results import Basis
from onnxlint_q.workflow.scheme_result import SchemeResult


def attempt(scheme: str, sqnr_db: float | None, *, observer: str = "", reached: bool = True) -> AttemptRow:
    return AttemptRow(scheme, observer, 0, 0, 0, sqnr_db, None, reached)


def weight(size: int, median: float, low: float) -> Weight:
    return Weight(size, Milliseconds(median, low, 2 * median, 50))


DYNAMIC = attempt("int8-dynamic", 36.9)
STATIC = attempt("int8-per-tensor", 26.1, observer="mse")
FOUND = Quantized(
    path="model.onnx",
    sha256="0" * 64,
    opset=17,
    out="int8.onnx",
    recipe_file="int8.recipe.json",
    verification=Verification("data.npz", "", synthetic=False, ranges=32, judged=32),
    observer="",
    shifted=0,
    fixed=None,
    plain=(),
    result=SchemeResult("int8-dynamic", Verdict.SURVIVES, 36.1, Basis.MEASURED),
    goal="the model survives",
    reached=True,
    why_not="",
    attempts=(STATIC, DYNAMIC),
    excluded=(),
    wide=(),
    macs={"int8": 1.0},
    left={},
    before=weight(1000, 2.0, 1.8),
    after=weight(400, 1.5, 1.2),
    snippet="",
)


def told(found: Quantized) -> dict[str, str]:
    return dict(phrases.lines(found))


def test_the_kind_of_scales_is_told_with_the_reason_and_what_the_other_kind_does() -> None:
    assert told(FOUND)["static or dynamic"] == (
        "dynamic, as it keeps more: 36.9 dB, and 26.1 dB with int8-per-tensor, on the samples of the search; "
        "--scheme int8-per-tensor makes that"
    )
    static = replace(FOUND, observer="mse", result=replace(FOUND.result, scheme="int8-per-tensor"))
    assert told(static)["static or dynamic"].startswith(
        "static, as it is enough: 26.1 dB, and 36.9 dB with int8-dynamic,"
    )
    costly = replace(static, attempts=(STATIC, replace(DYNAMIC, finer=0.2)))
    assert told(costly)["static or dynamic"].startswith("static, as it leaves more multiplications in int8: 26.1 dB,")
    lossless = replace(FOUND, attempts=(replace(STATIC, sqnr_db=None), DYNAMIC))
    assert "36.9 dB, and perfect match with int8-per-tensor" in told(lossless)["static or dynamic"]
    broken = told(replace(FOUND, attempts=(replace(STATIC, reached=False), DYNAMIC)))["static or dynamic"]
    assert broken.startswith("dynamic, as static is not enough: ") and broken.endswith("on the samples of the search")


@pytest.mark.parametrize("attempts", [(), (DYNAMIC,)])
def test_what_was_not_tried_is_no_choice(attempts: tuple[AttemptRow, ...]) -> None:
    assert "static or dynamic" not in told(replace(FOUND, attempts=attempts))


def test_a_file_that_is_larger_or_slower_says_so() -> None:
    assert "slower" not in told(FOUND)["latency here"]
    assert "larger" not in told(FOUND)["size"]
    worse = told(replace(FOUND, after=weight(1200, 2.5, 2.1)))
    assert worse["latency here"].endswith(": slower")
    assert worse["size"] == "1.0 KB → 1.2 KB: larger, by nodes and scales"
    # Its fastest runs are as fast as before: the machine was busy.
    assert "slower" not in told(replace(FOUND, after=weight(400, 2.5, 1.8)))["latency here"]
    assert "latency here" not in told(replace(FOUND, after=Weight(400, None)))


def test_figures_of_synthetic_inputs_are_no_measurement_in_any_format() -> None:
    made_up = replace(FOUND, verification=replace(FOUND.verification, source="synthetic inputs", synthetic=True))
    loud = "Nothing about accuracy on real data was measured"
    for form in ("full", "json", "html"):
        text = " ".join(onnxlint_q.render(made_up, form).split())
        assert loud in text and "Give samples with --calibrate." in text, form
        assert loud not in " ".join(onnxlint_q.render(FOUND, form).split()), form
    missed = replace(made_up, reached=False, why_not="One way was tried.")
    assert phrases.headline(missed) == "Not reached on synthetic inputs: the model survives. One way was tried."


def test_layers_without_an_integer_operator_are_counted() -> None:
    found = replace(FOUND, left={"GRU": 2, "RNN": 1})
    assert told(found)["not supported"] == "2 GRU, 1 RNN: the quantiser leaves such layers in float"
    assert "not supported" not in told(FOUND)
    assert json.loads(render_json(found))["layers_left_in_float"] == {"GRU": 2, "RNN": 1}
    assert "2 GRU, 1 RNN" in render(found)
