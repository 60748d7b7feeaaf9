from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import samples
from samples import TENSOR

from onnxlint_q.analysis.observed.top1 import Top1
from onnxlint_q.analysis.schemes import INT8_PER_TENSOR, SCHEMES
from onnxlint_q.finding import Cure, Evidence, Metric, Severity
from onnxlint_q.report import ReportFormat, render, tensors, terminal_look, words
from onnxlint_q.report.digest import clean, group_by_damage, summary
from onnxlint_q.report.formats import Look
from onnxlint_q.report.layers import Known
from onnxlint_q.workflow.results import Basis, Chances, LayerSqnr, Run, SchemeResult, Verdict

CONCISE = """\
small.onnx: int8-per-tensor breaks (-4.0 dB, top-1 5.2 %, measured), int8-per-channel degrades (13.2 dB, top-1 75 %, \
measured)
small.onnx:main/dw1: QW001 unequal-channel-ranges error [confirmed 4.7 dB] \
The channels' ranges differ by a factor of 214.7; one int8 scale leaves 27 of 96 fewer than 4 codes.
small.onnx:main/bn3: QG004 unfolded-batch-norm warning [static] \
This BatchNormalization stays in the graph: its input has two readers.
small.onnx:main/dw2: QW001 unequal-channel-ranges error [refuted 31.0 dB] \
The channels' ranges differ by a factor of 214.7; one int8 scale leaves 27 of 96 fewer than 4 codes.
2 findings (1 error, 1 warning; 1 confirmed) and 1 refuted in 1 model; breaks under int8-per-tensor
"""

FULL = """\
small.onnx
float model, opset 13, 4 layers; data photos (imagenet preprocessing)

Hold int8-per-tensor and int8-per-channel.
  int8-per-tensor   ✖ breaks    -4.0 dB; same top class as float: 5 %
  int8-per-channel  ▲ degrades  13.2 dB; same top class as float: 75 %
  Measured on 16 held-out samples; the ranges come from 32 others.
  Breaks if the top class is the same for under 60 %, survives over 90 %.

Why int8-per-tensor breaks: dw1: The channels' ranges differ by a factor of 214.7; one int8 scale
leaves 27 of 96 fewer than 4 codes. (QW001)
Why int8-per-channel degrades: No rule explains it.

Do this
  1. Quantise weights per channel, or equalise the two layers before. This is about dw1. (QW001)
     quantize_static(
         ...,
         per_channel=True,
     )
  2. Let the convolution feed the BatchNormalization alone. (QG004)

Findings  ✖ error  ▲ warning
✖ QW001 unequal-channel-ranges  measured 4.7 dB                                onnxlint-q rule QW001
▲ QG004 unfolded-batch-norm                                                    onnxlint-q rule QG004
  This BatchNormalization stays in the graph: its input has two readers.
Predicted, but not seen when measured (ignored): QW001 at 1 place.

dB: SQNR, signal over int8 error at the output; more is better, 20 dB is an error of 10 %, 0 dB of
100 %. Code: one of the values of int8, 256 for activations, 255 for weights. Top class: the one
with the highest score.
--verbose shows every place, table and note. onnxlint-q rule WORD explains scale, channel, equalise.
2 findings (1 error, 1 warning; 1 confirmed) and 1 refuted in 1 model
"""


def full(run: Run, width: int = 100, colour: bool = False) -> str:
    return render(run, ReportFormat.FULL, Look(width, colour))


def whole(run: Run, width: int = 100) -> str:
    return render(run, ReportFormat.FULL, Look(width, verbose=True))


def concise(run: Run) -> str:
    return render(run, ReportFormat.CONCISE)


def test_concise_is_one_line_a_finding_and_one_of_totals() -> None:
    assert concise(samples.small()) == CONCISE


def test_concise_without_a_model() -> None:
    assert concise(samples.empty()) == "no findings in 0 models, 1 model could not be linted\n"


def test_concise_keeps_hostile_names_on_their_line() -> None:
    run = samples.hostile()
    lines = concise(run).splitlines()
    assert len(lines) == sum(len(model.findings) + 1 for model in run.models) + 1
    assert all(line.replace("\u3000", " ").isprintable() for line in lines)
    assert any(line.startswith(r"first\nsecond\rthird\tfourth:main/") for line in lines)


def test_full_tells_a_small_run() -> None:
    assert full(samples.small()) == FULL


def test_verbose_lists_every_place_of_a_rule_in_a_line() -> None:
    text = whole(samples.large())
    assert text.count("QW001 unequal-channel-ranges  26 places (12 errors, 14 warnings), measured") == 1
    lines = [line for line in text.splitlines() if re.match(r"  [✖▲]  (confirmed|measured)", line)]
    assert len(lines) == 26


def test_verbose_tells_apart_by_their_messages_what_has_no_figure() -> None:
    model = samples.small().models[0]
    findings = tuple(replace(samples.static(f"bn{n}"), message=f"Message {n}.", remedy=f"Do {n}.") for n in range(3))
    text = whole(Run((replace(model, findings=findings),)))
    assert all(text.count(f"Message {n}.") == 1 and f"→ For bn{n}: Do {n}." in text for n in range(3))


def test_verbose_tells_one_damage_once() -> None:
    text = whole(samples.chained())
    assert text.count("QW001 unequal-channel-ranges") == 1
    chain = "".join(f"    {number}. {cause}\n" for number, cause in enumerate(samples.CHAIN, start=1))
    assert f"  Step by step:\n{chain}" in text
    assert ", also QW003, QW009" in text
    assert "other=True" in text
    assert text.endswith("\n1 fault in 3 findings (1 error; 1 confirmed) in 1 model; breaks under int8-per-tensor\n")
    assert "measured 1.5 dB, also QW003, QW009" in full(samples.chained())


def test_verbose_shows_the_chain_of_the_first_place_of_a_group() -> None:
    text = whole(samples.chained(3))
    assert "QW001 unequal-channel-ranges  3 places, measured 1.5 dB at worst" in text
    assert all(f"  dw{n} (Conv)  also QW003, QW009\n" in text for n in range(3))
    assert text.count(samples.CHAIN[1]) == 1 and text.count("The cure holds.") == 1


def test_a_remark_on_a_layer_stands_under_what_is_claimed_of_it() -> None:
    first = samples.spread("dw1", 4.7, Evidence.CONFIRMED)
    remark = replace(samples.static("dw1", Severity.INFO), location=first.location)
    elsewhere, warned = samples.static("bn", Severity.INFO), replace(remark, severity=Severity.WARNING)
    groups = group_by_damage((elsewhere, remark, first))
    assert [group.code for group in groups] == ["QG004", "QW001"] and groups[1].same_as(0) == (remark,)
    assert len(group_by_damage((warned, first))) == 2


def test_full_prints_each_remedy_once_below_the_verdicts() -> None:
    text = full(samples.remedied(), width=400)
    said = "Give every channel its own scale instead of int8-per-tensor: 4.7 → 18.2 dB, same top class 30 → 95 %, "
    assert (
        text.count(f"1. {said}survives. Tried on 32 held-out samples.\n     quantize_static(..., per_channel=True)\n")
        == 1
    )
    said = "Where the hardware has one scale a tensor only, keep 2 nodes in float under int8-per-tensor: 4.7 → 9.1 dB, "
    assert text.count(f"2. {said}same top class 30 → 50 %, still breaks. Tried on 32 held-out samples.\n") == 1
    assert text.count("nodes_to_exclude=['stem/Conv', 'stem/Relu']") == 1


def test_words_of_a_remedy_follow_its_figures() -> None:
    finer, coarse = samples.remedied().models[0].remedies
    assert ": 4.7 → perfect match, " in words.joint_remedy(replace(finer, after_db=None))
    better = replace(coarse, verdict_after=Verdict.DEGRADES, before_agreement=None, held_out=False, samples=1)
    assert words.joint_remedy(better).endswith(": 4.7 → 9.1 dB, degrades. Tried on 1 sample.")
    assert " survives. Export the model at opset 13 or higher first. " in words.joint_remedy(replace(finer, opset=13))


def test_findings_of_one_rule_and_facts_of_the_file_are_never_one_damage() -> None:
    first, *_ = samples.chained().models[0].findings
    again, fact = replace(first, message="Again."), samples.static("bn")
    groups = group_by_damage((first, again, fact, replace(fact, code="QG009")))
    assert [(group.code, len(group.findings)) for group in groups] == [("QW001", 2), ("QG004", 1), ("QG009", 1)]
    assert all(group.same_as(0) == () for group in groups)


def test_concise_has_a_line_for_each_rule_of_one_damage() -> None:
    assert [line.split()[1] for line in concise(samples.chained()).splitlines()[1:-1]] == ["QW001", "QW003", "QW009"]


def test_full_says_synthetic_calibration_and_a_crash_before_any_verdict() -> None:
    text = full(samples.hostile())
    crash, synthetic, verdict = (text.index(part) for part in ("A rule crashed", "Synthetic", "✖ breaks"))
    assert crash < synthetic < verdict


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        (Top1(32, 24, 2, 1), "71.9 % of 32 labelled samples, float 75 %: 3.1 % lost (95 % interval: -10 to 16 %)"),
        (
            Top1(32, 24, 1, 2),
            "78.1 % of 32 labelled samples, float 75 %: 3.1 % gained (95 % interval: -16 to 10 % lost)",
        ),
    ],
)
def test_top1_lost_stands_beside_the_verdict_in_every_report(counts: Top1, said: str) -> None:
    (model,) = samples.small().models
    run = Run((replace(model, schemes=(replace(model.schemes[0], top1=counts), *model.schemes[1:])),))
    for text in (full(run), render(run, ReportFormat.HTML)):
        assert f"Top-1 right on {said}" in " ".join(text.split())
    first, second = json.loads(render(run, ReportFormat.JSON))["models"][0]["schemes"].values()
    assert first["top1"]["samples"] == 32 and first["top1"]["lost"] == counts.loss and second["top1"] is None
    assert first["top1"]["interval"] == pytest.approx(counts.interval, abs=1e-6)


def test_what_was_measured_stands_beside_the_figure() -> None:
    (model,) = samples.small().models
    said = INT8_PER_TENSOR.as_measured("percentile")
    assert said == "quantize_static after quant_pre_process, percentile, U8S8 QDQ"
    run = Run((replace(model, schemes=(replace(model.schemes[0], measured_as=said),)),))
    assert f"measured on 16 held-out samples: {said}" in " ".join(whole(run).split())
    brief = full(run)
    assert "Measured on 16 held-out samples, after quant_pre_process; the ranges come from 32 others." in brief
    assert said not in brief
    assert f"Measured on 16 held-out samples: {said}." in render(run, ReportFormat.HTML)
    assert json.loads(render(run, ReportFormat.JSON))["models"][0]["schemes"][TENSOR]["measured_as"] == said


@pytest.mark.parametrize(
    ("scheme", "formats"),
    [
        ("int8-per-channel", "U8S8"),
        ("int8-symmetric", "S8S8"),
        ("int16-activations", "U16S8"),
        ("int4-weights", "U8S4"),
    ],
)
def test_formats_are_written_as_quantisers_write_them(scheme: str, formats: str) -> None:
    assert SCHEMES[scheme].as_measured("min-max").endswith(f", min-max, {formats} QDQ")


def test_what_no_quantiser_makes_is_simulated() -> None:
    assert SCHEMES["fp8"].as_measured("min-max") == "simulated, min-max, F8F8"
    per_channel = SCHEMES["int8-per-channel"].as_measured("min-max", opset=11)
    assert per_channel.endswith("U8S8 QDQ, once the model has opset 13")
    assert "opset" not in INT8_PER_TENSOR.as_measured("min-max", opset=11)
    assert INT8_PER_TENSOR.as_measured("min-max", folds_late=True).endswith(", once its weights are no longer inputs")
    both = SCHEMES["int8-per-channel"].as_measured("min-max", opset=11, folds_late=True)
    assert both.endswith(", once the model has opset 13 and its weights are no longer inputs")
    assert INT8_PER_TENSOR.as_measured("min-max", half=True).endswith(", once its weights are float32")
    alone = INT8_PER_TENSOR.as_measured("min-max", folds_alone=True)
    assert alone.endswith(", once `fix` has folded every BatchNormalization that folds")


def test_a_scheme_of_weights_alone_names_no_static_quantiser() -> None:
    assert SCHEMES["int8-weight-only"].as_measured("min-max") == "weights in int8, activations in float"
    assert SCHEMES["int4-blocks"].as_measured("min-max") == "MatMulNBitsQuantizer, 4 bits, blocks of 32, symmetric"
    assert SCHEMES["int4-blocks-128-asymmetric"].as_measured("mse", 11).endswith("blocks of 128, asymmetric")


def test_a_dynamic_scheme_names_its_quantiser_no_observer_and_no_opset() -> None:
    for name in ("int8-dynamic", "int8-dynamic-per-channel"):
        assert SCHEMES[name].as_measured("mse", 11) == "quantize_dynamic after quant_pre_process, U8S8"


def test_full_says_that_nothing_ran() -> None:
    assert "Forecast from the file alone, nothing was run." in full(samples.forecast_only())
    assert "Not tested." in whole(samples.forecast_only())


def test_full_without_findings() -> None:
    text = full(samples.forecast_only(findings=False))
    assert "\nno findings: no rule says where the loss comes from\n" in text
    assert text.endswith("\nNo findings in 1 model\n")


@pytest.mark.parametrize("verdict", [None, *Verdict])
def test_nothing_is_green_unless_every_scheme_survives(verdict: Verdict | None) -> None:
    run = samples.found_nothing(verdict)
    healthy = verdict is Verdict.SURVIVES
    assert ("✔ no findings" in full(run)) is healthy
    green = [line for line in full(run, colour=True).splitlines() if "\x1b[32m" in line or "\x1b[1;32m" in line]
    assert all("✔" in line for line in green) and len(green) == (3 if healthy else 1)
    assert "✔" not in concise(run)
    alarms = {Verdict.BREAKS: "breaks", Verdict.UNCERTAIN: "uncertain", None: "no verdict"}
    worded = {held: f", but {word} under int8-per-tensor\n" for held, word in alarms.items()}
    for text in (full(run), whole(run)):
        assert text.endswith(f"No findings in 1 model{worded.get(verdict, chr(10))}")


@pytest.mark.parametrize(
    "change",
    [
        {"schemes": ()},
        {"rule_crashed": True},
        {"untested_because": "ONNX Runtime cannot run the model"},
        {"findings": (samples.static("bn"),)},
    ],
)
def test_nothing_is_green_where_less_was_done_than_asked_for(change: dict[str, Any]) -> None:
    (model,) = samples.found_nothing(Verdict.SURVIVES).models
    assert clean(model)
    assert not clean(replace(model, **change))


def test_concise_states_the_verdict_of_every_scheme_of_every_model() -> None:
    quantised, forecast = (make().models[0] for make in (samples.quantised, samples.forecast_only))
    unknown = replace(forecast, path="u.onnx", schemes=(SchemeResult("fp8", None, None, Basis.FORECAST, note="No."),))
    about = replace(
        forecast,
        path="a.onnx",
        findings=(),
        schemes=(
            SchemeResult(
                "fp8",
                Verdict.SURVIVES,
                13.6,
                Basis.FORECAST,
                0.944,
                uncertainty_db=5.5,
                chances=Chances(0.8, 0.15, 0.05),
                interval_db=(7.2, 19.6),
            ),
        ),
    )
    lines = concise(Run((quantised, unknown, about))).splitlines()
    assert lines[0] == "model_int8.onnx: no scheme was judged: qdq model"
    assert lines[2] == "u.onnx: fp8 unknown (No)"
    assert lines[-2] == "a.onnx: fp8 survives (80 %, about 13.6 dB, top-1 about 94 %, forecast)"
    assert lines[-1].endswith("in 3 models; no verdict under fp8 (1 model)")


def test_uncertain_says_what_is_likeliest_and_what_would_decide_and_is_never_green() -> None:
    (model,) = samples.forecast_only().models
    undecided = SchemeResult(
        "fp8",
        Verdict.UNCERTAIN,
        9.2,
        Basis.FORECAST,
        uncertainty_db=5.5,
        chances=Chances(0.25, 0.55, 0.2),
        interval_db=(2.4, 15.6),
    )
    model = replace(model, path="u.onnx", findings=(), schemes=(undecided,))
    run = Run((model,))
    assert not run.fails and not clean(model)
    (line, last) = concise(run).splitlines()
    assert line == "u.onnx: fp8 uncertain (probably degrades (55 %), about 9.2 dB, forecast)"
    assert last.endswith("uncertain under fp8")
    for text in (full(run), whole(run)):
        assert "? uncertain" in text and "✔" not in text
        said = " ".join(text.split()).lower()
        assert "probably degrades (55 %)" in said and "80 %: 2 to 16)" in said
        assert "to decide: a run on your data (--calibrate path), or without data --probe" in said
    probed = replace(model, schemes=(replace(undecided, basis=Basis.PROBE),))
    assert "--probe" not in full(Run((probed,))).replace("\n", " ")


def test_full_shows_a_figure_once_the_best_that_is_known() -> None:
    text = whole(samples.contested())
    table = text[text.index("Layers that cost") :].splitlines()
    assert [line.split() for line in table[3:8]] == [
        ["dw1", "Conv", "dw", "12.2", "0.11", "4.7", "measured"],
        ["dw2", "Conv", "dw", "8.5", "0.2", "-", "not", "measured"],
        ["head", "Conv", "1.5", "0.5", "24.0", "forecast"],
        ["stem", "Conv", "1.5", "0.5", "33.3", "measured"],
        ["exact", "Conv", "1.5", "0.5", "exact", "measured"],
    ]
    assert "Not measured: the forecast lies below what the run left" in " ".join(text.split())
    # A claim that no run has tested: the forecast stands in for it, but not one that is impossible.
    assert "confirmed 4.7 dB" in text and "untested          dw2" in text
    assert "forecast 24.0 dB  head" in text and "11.0" not in text and " 6.0" not in text
    lines = concise(samples.contested()).splitlines()
    assert [line.split("[")[1].split("]")[0] for line in lines[1:-1]] == [
        "confirmed 4.7 dB",
        "untested",
        "untested, forecast 24.0 dB",
    ]


def test_a_claim_is_told_with_the_best_figure_and_the_forecast_of_its_cure() -> None:
    finding = replace(samples.spread("dw", None, Evidence.UNTESTED), cure=Cure("dw/bn_out", (7,), samples.TENSOR))
    finding = replace(finding, metrics={"forecast_db": 4.0, "cure_forecast_db": 33.0, "channels": 3})
    probed = Known(Basis.PROBE, 7.5, None, None)
    assert words.claim(finding, probed).endswith(
        "falls below 10.0 dB. Probed: 7.5 dB. Forecast of the cured weight: 33.0 dB. Not tested."
    )
    assert words.metrics(finding) == finding.metrics
    assert words.metrics(finding, probed) == {"channels": 3}
    forecast = Known(Basis.FORECAST, 10.3, None, None, uncertainty_db=9.0)
    assert "Forecast: 10.3 dB, give or take 9 dB. " in words.claim(finding, forecast)
    assert words.metrics(finding, forecast) == finding.metrics
    tested = finding.tested(Evidence.CONFIRMED, 4.71)
    assert words.claim(tested, probed).endswith("falls below 10.0 dB. Measured: 4.7 dB.")
    assert words.metrics(tested) == {"channels": 3}


def test_a_first_look_at_what_a_tensor_costs_is_told_until_its_claim_is_tested() -> None:
    looked: dict[str, Metric] = {
        "sqnr_db": 15.7,
        "noise_share": 0.32,
        "samples": 4,
        "samples_given": 32,
        "schemes": samples.TENSOR,
    }
    finding = replace(samples.spread("dw", None, Evidence.UNTESTED), code="QW006", metrics=looked)
    assert words.metrics(finding) == looked
    assert words.metrics(finding.tested(Evidence.CONFIRMED, 16.3)) == {"schemes": samples.TENSOR}


def test_full_of_a_quantised_model_has_no_verdict_and_no_layers() -> None:
    text = full(samples.quantised())
    head, decision, wrong = text.split("\n\n")[:3]
    assert head == "model_int8.onnx\nqdq model, opset 13, 1 layer"
    assert decision.startswith("Unsure about the file as it is (qdq). Its scales have faults.")
    assert wrong.startswith("What is wrong: The scale 0.83 is 41 times")
    assert "Layers that cost" not in whole(samples.quantised())


@pytest.mark.parametrize("name", samples.ALL)
@pytest.mark.parametrize("width", [80, 100, 120])
@pytest.mark.parametrize("verbose", [False, True])
def test_plain_full_stays_in_its_width_and_has_no_control_characters(name: str, width: int, verbose: bool) -> None:
    text = (whole if verbose else full)(samples.ALL[name](), width)
    for line in text.splitlines():
        # Wide East Asian characters take two columns.
        assert len(line) + sum(char > "\u2e80" for char in line) <= width
        assert line == line.rstrip()
        assert line.isprintable()


def test_colour_changes_no_word() -> None:
    for make in samples.ALL.values():
        coloured = full(make(), colour=True)
        assert "\x1b[" in coloured
        stripped = re.sub(r"\x1b\[[0-9;]*m", "", coloured)
        assert [line.rstrip() for line in stripped.split("\n")] == full(make()).split("\n")


def test_markup_in_names_is_text() -> None:
    assert "[red]x[/red][/]" in full(samples.hostile())


@pytest.mark.parametrize("variable", ["COLUMNS", "FORCE_COLOR", "NO_COLOR"])
def test_full_does_not_read_the_environment(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = full(samples.small()), full(samples.small(), colour=True)
    monkeypatch.setenv(variable, "40")
    assert (full(samples.small()), full(samples.small(), colour=True)) == before


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("environment", "on_terminal", "elsewhere"),
    [
        ({}, True, False),
        ({"NO_COLOR": "1"}, False, False),
        ({"NO_COLOR": ""}, True, False),
        ({"TERM": "dumb"}, False, False),
        ({"FORCE_COLOR": "1"}, True, True),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False, False),
    ],
)
def test_colour_follows_the_terminal_and_the_conventions(
    environment: dict[str, str], on_terminal: bool, elsewhere: bool
) -> None:
    assert terminal_look(Terminal(), environment).colour is on_terminal
    assert terminal_look(io.StringIO(), environment).colour is elsewhere


def test_width_off_a_terminal_does_not_depend_on_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    assert terminal_look(io.StringIO(), {}).width == 100
    assert terminal_look(Terminal(), {}).width == 120


def test_summary_counts_what_counts() -> None:
    assert summary(samples.large()) == (
        "57 findings (12 errors, 44 warnings, 1 info; 16 confirmed) and 3 refuted in 1 model, 1 suppressed; "
        "breaks under int8-per-tensor"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain name", "plain name"),
        ("重み", "重み"),
        ("60\u00a0%", "60\u00a0%"),
        ("a\nb", r"a\nb"),
        ("\x1b[2J", r"\x1b[2J"),
        ("\u202eabc", r"\u202eabc"),
        ("\ud800", r"\ud800"),
    ],
)
def test_invisible_characters_are_made_visible(text: str, expected: str) -> None:
    assert words.visible(text) == expected


OUTPUT = "/attention/output/dense/MatMul"


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda: words.decibel(-0.04), "0.0 dB"),
        (lambda: words.decibel(None), "-"),
        (lambda: words.decibel(float("inf")), "perfect match"),
        (lambda: words.percent(0.0521), "5.2 %"),
        (lambda: words.percent(1.0), "100 %"),
        (lambda: words.elide("abcdefghijkl", 8), "a…ghijkl"),
        (lambda: words.elide("/bert/encoder/layer.10/attention/output/dense/MatMul", 40), f"…/layer.10{OUTPUT}"),
        (lambda: words.elide("/bert/encoder/layer.10/attention/output/dense/MatMul", 30), "…/layer.10/…/dense/MatMul"),
        (lambda: words.elide("/bert/encoder/layer.10/attention/output/dense/MatMul", 20), "…/layer.10/…/MatMul"),
        (lambda: words.elide("/bert/layer.10/Normalisation", 17), "…/Normalisation"),
        (lambda: words.elide("/bert/layer.10/Normalisation", 9), "/b…sation"),
        (lambda: words.elide("/".join("a" * 100), 9), "a/…/a/a/a"),
        (lambda: words.count(1, "layer"), "1 layer"),
        (lambda: words.file_name("/a/b c/net.onnx"), "net.onnx"),
        (lambda: words.file_name("C:\\data\\photos\\"), "photos"),
        (lambda: words.file_name("net.onnx"), "net.onnx"),
        (lambda: words.file_name(".."), ".."),
        (lambda: words.figure(float("-inf")), "lost"),
    ],
)
def test_numbers_in_words(call: Callable[[], str], expected: str) -> None:
    assert call() == expected


def test_evidence_without_a_number() -> None:
    finding = replace(samples.small().models[0].findings[0], evidence=Evidence.CONFIRMED, measured_db=None)
    assert words.evidence(finding) == "confirmed"
    assert words.claim(finding).endswith("A run confirmed it.")


def test_a_forecast_after_a_run_that_gave_nothing_does_not_say_that_nothing_was_run() -> None:
    result = samples.forecast_only().models[0].schemes[0]
    assert words.basis(result, None) == "forecast from the file alone, nothing was run"
    assert words.basis(replace(result, ran=True), None) == "forecast from the file alone, the run gave no figure"


def test_full_tells_the_tensors_of_a_scheme_that_does_not_survive() -> None:
    text = whole(samples.costly())
    assert "Layers that cost" not in text and text.count("Tensors that cost the output most") == 1
    table = text[text.index("Tensors that cost the output most under int8-per-channel") :].splitlines()
    assert [line.split() for line in table[3:5]] == [
        ["attention/Add", "Add", "result", "3.0", "75.4", "%"],
        ["head", "Conv", "weight", "10.0", "15", "%"],
    ]
    assert table[5].strip().startswith("dB: SQNR at the model's output")


def test_full_has_the_table_of_layers_that_was_asked_for_beside_it() -> None:
    run = samples.costly()
    (model,) = run.models
    both = {samples.TENSOR: LayerSqnr(20.0, 15.0)}
    asked = replace(model, layers=(replace(model.layers[0], measured=both), *model.layers[1:]))
    text = whole(replace(run, models=(asked,)))
    assert text.index("Tensors that cost") < text.index("Layers that cost")


def test_tensors_beyond_the_table_are_counted() -> None:
    result = samples.costly().models[0].schemes[1]
    rows = tuple(replace(result.tensors[0], tensor=f"t{n}", sqnr_db=20.0, share=1 / 15) for n in range(15))
    many = replace(result, tensors=rows)
    assert len(many.noise) == 14
    assert tensors.more(many, 10) == "and 4 more; all of them make 93 % of the noise"
    assert tensors.more(many, 14) == ""
    assert (
        tensors.most_costly(many) == "Costs most: the input t0, 20.0 dB if it alone is quantised, 6.7 % of the noise."
    )
    assert tensors.most_costly(replace(result, tensors=())) == ""


def test_what_is_to_be_typed_is_never_broken() -> None:
    run = samples.remedied()
    (model,) = run.models
    name = "a name with blanks in it, " * 6
    call = f"quantize_static(..., nodes_to_exclude=[{name!r}])"
    (finer, _), (finding, *_) = model.remedies, samples.small().models[0].findings
    told = replace(model, remedies=(replace(finer, snippet=call),), findings=(replace(finding, snippet=call),))
    assert full(Run((told,))).split("\n").count(f"     {call}") == 1
    assert whole(Run((told,))).split("\n").count(f"    {call}") == 1
