"""Remedies are tried: whether the call, the words and the figures follow what the runs showed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from conftest import public_network
from printed import quantised

from onnxlint_q.analysis.experiment import Experiment
from onnxlint_q.analysis.outputs.output_kind import Holds
from onnxlint_q.analysis.schemes import DEFAULT_SCHEMES, INT8_PER_CHANNEL, INT8_PER_TENSOR
from onnxlint_q.execute.data.split import Split
from onnxlint_q.execute.executable import Executable
from onnxlint_q.execute.limits import Limits
from onnxlint_q.execute.variants.conversion import converted
from onnxlint_q.execute.variants.output_error import Comparable, OutputError, OutputFigures
from onnxlint_q.execute.variants.variant_runs import run_variants
from onnxlint_q.execute.variants.workbench import Workbench, workbench
from onnxlint_q.finding import (
    Confidence,
    Conversion,
    Evidence,
    Finding,
    Location,
    Requantisation,
    Severity,
    TensorRange,
)
from onnxlint_q.graph import Model, read_model
from onnxlint_q.judge.facts import facts_of
from onnxlint_q.judge.rule import Example
from onnxlint_q.judge.testing import example_facts, example_model, example_source
from onnxlint_q.judge.verdict import Verdict, VerdictLevels, worst
from onnxlint_q.proof.probing.inputs import made_up
from onnxlint_q.proof.remedies import RANGES_TRIED, try_conversions, try_requantisations
from onnxlint_q.proof.whole import measure_schemes
from onnxlint_q.rewrite.hygiene.converter import NotConvertibleError

PER_CHANNEL = Requantisation(per_channel=True)
# One value is 4 where the others are at most 1, so that the fourth powers run to 256; Sigmoid needs none of that.
TAILED = """
<ir_version: 8, opset_import: ["" : 17]>
tailed (float[N, 64] x) => (float[N, 64] y) {
  s = Mul(x, x)
  t = Mul(s, s)
  y = LAST
}
"""


def finding(change: Requantisation | Conversion, measured_db: float = 5.0) -> Finding:
    return Finding(
        "QW000",
        "name",
        Severity.WARNING,
        Confidence.HIGH,
        "message.",
        Location(),
        remedy="Do this.",
        otherwise="Do that.",
        snippet="quantize_static(...)",
        change=change,
        evidence=Evidence.CONFIRMED,
        measured_db=measured_db,
    )


def judge(found: OutputError) -> Verdict | None:
    return worst(VerdictLevels().verdict(one.sqnr_db, one.agreement) for one in found.outputs)


def error(sqnr_db: float | None, agreement: float | None = None) -> OutputError:
    holds = Holds.CLASS_SCORES if agreement is not None else Holds.VALUES
    figures = OutputFigures("y", holds, Comparable.YES, sqnr_db, agreement, 4.0)
    return OutputError(sqnr_db, agreement, has_signal=True, samples=4, outputs=(figures,))


def bench_of(text: str) -> tuple[Workbench, Example]:
    example = Example(text, samples=_one_outlier)
    facts = example_facts(example)
    assert facts.observations is not None
    return workbench(facts).calibrated(facts.observations), example


def _one_outlier(random: np.random.Generator) -> Mapping[str, np.ndarray]:
    values = random.uniform(-1, 1, size=(16, 64)).astype(np.float32)
    values[3, 5] = 4.0
    return {"x": values}


def try_ranges(last: str, *changes: Requantisation) -> tuple[Finding, ...]:
    bench, example = bench_of(TAILED.replace("LAST", last))
    source = example_source(example)
    parts = Split(source, bench.measured.model.inputs, 16, 0)
    errors, samples = measure_schemes(bench, parts).errors, parts.for_verdict
    findings = [finding(change) for change in changes]
    return try_requantisations(bench, findings, errors, judge, samples)


@pytest.mark.parametrize(
    ("before", "after", "said", "stands"),
    [
        (error(3.1), error(25.7), "Do this. Tried: 3.1 → 25.7 dB with everything quantised.", True),
        (error(3.1), error(8.2), "Do that. Per-channel scales help, but not enough: 3.1 → 8.2 dB", False),
        (error(8.2), error(8.4), "Do that. Per-channel scales were tried and do not help: 8.2 → 8.4 dB", False),
        (error(3.1), error(None), "Do this. Tried: 3.1 dB → no noise with everything quantised.", True),
        (error(3.1, 0.2), error(20.0, 0.7), "Do that. Per-channel scales help, but not enough: 3.1 → 20.0 dB", False),
        (error(3.1, 0.2), error(9.0, 0.95), "Do this. Tried: 3.1 → 9.0 dB with everything quantised.", True),
    ],
)
def test_one_scale_a_channel_is_a_remedy_where_the_model_survives_it(
    before: OutputError, after: OutputError, said: str, stands: bool
) -> None:
    bench, _ = bench_of(TAILED.replace("LAST", "Sigmoid(t)"))
    errors = {Experiment(INT8_PER_TENSOR): before, Experiment(INT8_PER_CHANNEL): after}
    (told,) = try_requantisations(bench, [finding(PER_CHANNEL)], errors, judge, lambda: iter(()))
    assert told.advice.startswith(said) and told.tried is not None
    call = "quantize_static(..., activation_type=QuantType.QUInt8, per_channel=True)"
    assert told.snippet == (call if stands else "")
    assert (told.tried.before_db, told.tried.after_db) == (before.sqnr_db, after.sqnr_db)


def test_what_was_not_run_is_untried() -> None:
    bench, _ = bench_of(TAILED.replace("LAST", "Sigmoid(t)"))
    asked = [finding(PER_CHANNEL), finding(Requantisation(options=("calibrate_method=CalibrationMethod.Percentile",)))]
    only = {Experiment(INT8_PER_TENSOR): error(3.0)}
    told = try_requantisations(bench, asked, only, judge, lambda: iter(()))
    assert [one.advice for one in told] == ["Do this. Untried."] * 2 and list(told) == asked


def test_a_refuted_finding_advises_nothing() -> None:
    bench, _ = bench_of(TAILED.replace("LAST", "Sigmoid(t)"))
    asked = replace(finding(PER_CHANNEL), evidence=Evidence.REFUTED)
    errors = {Experiment(scheme): error(20.0) for scheme in DEFAULT_SCHEMES}
    assert try_requantisations(bench, [asked], errors, judge, lambda: iter(())) == (asked,)


def test_a_range_that_gains_stands_with_the_scheme_that_it_was_tried_under() -> None:
    (told,) = try_ranges("Sigmoid(t)", Requantisation(ranges=(TensorRange("t", 0.0, 1.5),)))
    assert told.tried is not None and told.tried.before_db is not None and told.tried.after_db is not None
    assert told.tried.after_db > told.tried.before_db + 3
    assert "'t': [{'rmin': np.float32(0), 'rmax': np.float32(1.5)}]" in told.snippet
    assert ("per_channel=True" in told.snippet) is (told.tried.scheme == INT8_PER_CHANNEL.name)
    assert told.advice == f"Do this. {told.tried.said}" and "Tried: " in told.advice


def test_what_the_printed_call_makes_has_the_figure_that_is_told(tmp_path: Path) -> None:
    text = TAILED.replace("LAST", "Sigmoid(t)")
    (told,) = try_ranges("Sigmoid(t)", Requantisation(ranges=(TensorRange("t", 0.0, 1.5),)))
    bench, example = bench_of(text)
    take = partial(example_source(example).take, bench.measured.model.inputs, 16)
    made = quantised(told.snippet, example_model(example), tmp_path, take())
    errors = run_variants(bench, {"made": lambda: Executable(made, {}, {})}, take)
    assert told.tried is not None and errors["made"].worst_db == pytest.approx(told.tried.after_db, abs=0.5)


def test_a_range_that_cuts_what_carries_the_answer_is_not_printed() -> None:
    """Here the output is the tensor itself, and nearly all of its power is the outlier."""
    (told,) = try_ranges("Identity(t)", Requantisation(ranges=(TensorRange("t", 0.0, 1.5),)))
    assert told.snippet == "" and told.change is None
    assert told.advice.startswith("Do that. Calibrating for 0 to 1.5 was tried and does harm: ")


def test_only_the_worst_ranges_are_tried() -> None:
    changes = [Requantisation(ranges=(TensorRange("t", 0.0, 2.0 + number),)) for number in range(RANGES_TRIED + 2)]
    told = try_ranges("Sigmoid(t)", *changes)
    assert [one.tried is not None for one in told] == [True] * RANGES_TRIED + [False] * 2
    assert told[-1].advice == "Do this. Untried." and told[-1].snippet


def opset11(models: Path) -> tuple[Workbench, Finding]:
    return workbench(facts_of(read_model(models / "opset11.onnx"), ())), finding(Conversion(17))


def try_conversion(bench: Workbench, asked: Finding) -> Finding:
    (told,) = try_conversions(bench, [asked], partial(made_up(bench).take, bench.measured.model.inputs, 2))
    return told


def test_a_conversion_that_computes_the_same_is_printed(models: Path) -> None:
    told = try_conversion(*opset11(models))
    assert told.advice.startswith(
        "Do this. Conversion to opset 17 was tried: ONNX Runtime runs the model, and the outputs "
    )
    assert told.snippet.startswith("onnx.save(onnx.version_converter.convert_version(onnx.load('")
    assert told.snippet.endswith("opset11-opset17.onnx')")


def test_a_conversion_that_fails_gives_its_reason_and_no_call(models: Path) -> None:
    bench, asked = opset11(models)
    assert asked.advice == "Do this. Untried: --probe and --calibrate try it."
    gone: Model = replace(bench.measured.model, path=Path("gone.onnx"))
    told = try_conversion(replace(bench, measured=replace(bench.measured, model=gone)), asked)
    assert told.snippet == "" and told.change is None
    assert told.advice.startswith("Do that. Conversion to opset 17 was tried and failed: FileNotFoundError: ")


def test_a_conversion_that_computes_something_else_is_not_printed(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = workbench(facts_of(read_model(models / "qdq_coarse_input.onnx"), ())).float_model
    monkeypatch.setattr("onnxlint_q.proof.remedies.converted", lambda *_: other)
    told = try_conversion(*opset11(models))
    assert told.snippet == "" and "its outputs differ from the file's" in told.advice


def test_the_converter_may_crash_or_never_end(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = models / "opset11.onnx"
    with pytest.raises(NotConvertibleError, match="took longer than"):
        converted(file, Conversion(17), Limits(seconds_per_run=0.01))
    monkeypatch.setattr(
        "onnxlint_q.execute.variants.conversion.lines", lambda *_: "import os, signal; os.kill(os.getpid(), 9)"
    )
    with pytest.raises(NotConvertibleError, match=r"crashed \(signal 9\)"):
        converted(file, Conversion(17))


def test_a_large_model_is_not_tried(models: Path) -> None:
    bench, asked = opset11(models)
    assert try_conversion(replace(bench, limits=Limits(converted_bytes=1)), asked) == asked


def test_inputs_with_a_default_become_constants_where_the_converter_trips_over_them() -> None:
    """Converted as it is, this network is refused by ONNX Runtime: a Resize with scales and sizes."""
    bench = workbench(facts_of(read_model(public_network("nanodet_m.onnx")), ()))
    told = try_conversion(bench, finding(Conversion(17)))
    assert told.change == Conversion(17, without_defaults=True) and "del model.graph.input[:]" in told.snippet
