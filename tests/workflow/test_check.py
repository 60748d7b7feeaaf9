"""One model through the stages: what was asked for and did not happen is said once, and figures are figures."""

from __future__ import annotations

import math
import os
import pickle
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx_cases import onnx_text, run

from onnxlint_q.analysis.experiment import LayerSqnr
from onnxlint_q.analysis.intervals import paired_loss
from onnxlint_q.analysis.observed.costs import SchemeCosts, TensorCost
from onnxlint_q.analysis.schemes import INT8_PER_TENSOR, SCHEMES
from onnxlint_q.errors import UsageError
from onnxlint_q.execute.data.preprocess import PRESETS
from onnxlint_q.execute.data.sources import ArraySource, RandomSource, open_source
from onnxlint_q.execute.progress import silent
from onnxlint_q.execute.variants.output_error import OutputError
from onnxlint_q.finding import Claim, Confidence, Evidence, Finding, Location, Severity, Subject
from onnxlint_q.forecast.forecast import LAYER_UNCERTAINTY_DB, Forecast
from onnxlint_q.graph import read_model
from onnxlint_q.judge.config import Config, Overrides
from onnxlint_q.judge.facts import facts_of
from onnxlint_q.judge.own_findings import NOT_RUN, RULE_CRASHED
from onnxlint_q.judge.registry import load_rules
from onnxlint_q.judge.verdict import Verdict
from onnxlint_q.proof import costs as costs_module
from onnxlint_q.proof.budget import spending
from onnxlint_q.proof.joint_remedy import JointTrial
from onnxlint_q.workflow import check as workflow
from onnxlint_q.workflow.assembly.assemble import assemble
from onnxlint_q.workflow.assembly.joint_remedies import with_advice
from onnxlint_q.workflow.assembly.tensors import unexplained
from onnxlint_q.workflow.check import lint
from onnxlint_q.workflow.record import CheckRequest, DataRequest, Record
from onnxlint_q.workflow.results import MOST, Basis, ModelResult, SchemeResult
from onnxlint_q.workflow.stages import running
from onnxlint_q.workflow.stages.running import NO_CLASSES

HEALTHY, BROKEN, QUANTISED = "healthy_resnet.onnx", "depthwise_spread.onnx", "qdq_good.onnx"
STATIC = CheckRequest()
NOISE = CheckRequest(DataRequest(RandomSource(), 4))


def missing(result: ModelResult) -> list[tuple[str, str, str]]:
    """Code, option and message of each finding that says that a run did not happen."""
    found = [finding for finding in result.findings if finding.code in NOT_RUN]
    assert all(finding.severity is Severity.ERROR and finding.remedy for finding in found)
    return [(finding.code, finding.location.output, finding.message) for finding in found]


def unknown_operator(folder: Path) -> Path:
    path = folder / "m.onnx"
    proto = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17, "nobody" : 1]>\n'
        "net (float[N, 8] x) => (float[N, 8] y) { y = nobody.Thing(x) }"
    )
    onnx.save(proto, path)
    return path


def test_a_model_that_cannot_run_is_one_error_with_its_reason(tmp_path: Path) -> None:
    result = lint(unknown_operator(tmp_path), [], Config(), NOISE)
    ((code, option, message),) = missing(result)
    assert (code, option) == ("QX002", "--calibrate")
    assert message.startswith("The model was not run on the data: ONNX Runtime cannot run it: ")
    assert "nobody" in message and result.untested_because in message and result.calibration is None
    assert result.fails and replace(result, fail_on=None, fail_on_verdict=None).fails


def test_a_probe_that_cannot_run_is_another(tmp_path: Path) -> None:
    result = lint(unknown_operator(tmp_path), [], Config(), replace(NOISE, probe=True))
    assert {(code, option) for code, option, _ in missing(result)} == {("QX002", "--calibrate"), ("QX003", "--probe")}


def test_nothing_is_missing_where_nothing_was_asked_for(tmp_path: Path) -> None:
    result = lint(unknown_operator(tmp_path), [], Config(), STATIC)
    assert not missing(result) and not result.untested_because and not result.fails


def test_a_quantised_model_is_run_but_neither_probed_nor_quantised_again(models: Path) -> None:
    data = DataRequest(RandomSource(), 4)
    assert not missing(lint(models / QUANTISED, [], Config(), CheckRequest(data)))
    asked = CheckRequest(replace(data, layers=True, trials=2), probe=True)
    result = lint(models / QUANTISED, [], Config(), asked)
    # Layers and trials fall to one fault, which is said once.
    assert sorted((code, option) for code, option, _ in missing(result)) == [
        ("QX002", "--measure layers"),
        ("QX003", "--probe"),
    ]
    assert all("the model is quantised already" in message for _, _, message in missing(result))
    assert all(f.remedy.startswith("Leave out --") for f in result.findings) and result.calibration is not None


@pytest.mark.parametrize(
    ("name", "arrays", "reason"),
    [
        ("wrong.npz", {"images": np.zeros((4, 3, 8, 8), np.float32)}, "has shape"),
        ("nan.npz", {"images": np.full((4, 3, 32, 32), np.nan, np.float32)}, "NaN or infinity"),
        ("other.npz", {"a": np.zeros(3), "b": np.zeros(3)}, "holds 'a', 'b' but no array for input 'images'"),
        ("broken.npz", None, "is no .npz and no .npy file"),
    ],
)
def test_data_that_cannot_be_used_costs_the_run_and_not_what_the_file_tells(
    models: Path, tmp_path: Path, name: str, arrays: dict[str, Any] | None, reason: str
) -> None:
    path = tmp_path / name
    if arrays is None:
        path.write_bytes(b"no archive")
    else:
        np.savez(path, **arrays)
    jobs = workflow.plan([models / BROKEN], Overrides())
    run = workflow.check(jobs, CheckRequest(DataRequest(open_source(str(path), PRESETS["raw"]), 4)))
    static = workflow.check(jobs, STATIC).models[0]
    (result,) = run.models
    ((code, option, message),) = missing(result)
    assert (code, option, run.trustworthy, run.fails) == ("QX004", "--calibrate", True, True)
    assert message.startswith("The model was not run on the data: ") and reason in message and str(path) in message
    assert [f for f in result.findings if f.code not in NOT_RUN] == list(static.findings) != []
    assert [scheme.verdict for scheme in result.schemes] == [scheme.verdict for scheme in static.schemes]


def test_too_little_data_for_trials_costs_the_trials(models: Path, calibration: Path) -> None:
    images = np.load(calibration)["images"][:6]
    request = DataRequest(ArraySource("six.npz", {"images": images}), 4, trials=9)
    result = lint(models / HEALTHY, [], Config(), CheckRequest(request))
    assert missing(result) == [
        (
            "QX004",
            "--trials",
            "The trials did not run: six.npz: holds 6 samples, but 9 trials need at least 10; lower --trials.",
        )
    ]
    assert [scheme.basis for scheme in result.schemes] == [Basis.MEASURED] * 2 and result.trials is None


def own_classes(models: Path, images: np.ndarray) -> list[int]:
    """What the float model takes each image for."""
    return [int(run(models / BROKEN, {"images": image[None]})[0].argmax()) for image in images]


def labelled(models: Path, images: np.ndarray, labels: Path, samples: int = 8) -> ModelResult:
    request = DataRequest(ArraySource("images", {"images": images}), samples, labels=labels)
    return lint(models / BROKEN, [], Config(), CheckRequest(request))


def test_with_labels_top1_lost_is_measured_on_the_held_out_samples(
    models: Path, calibration: Path, tmp_path: Path
) -> None:
    """Labels of the float model, the first held-out one made wrong: it is right on seven of eight."""
    images = np.load(calibration)["images"][:20]
    classes = own_classes(models, images)
    scores = len(run(models / BROKEN, {"images": images[:1]})[0][0])
    labels = [(label + 1) % scores if number == 8 else label for number, label in enumerate(classes)]
    np.save(tmp_path / "labels.npy", np.asarray(labels))
    broken, healthy = labelled(models, images, tmp_path / "labels.npy").schemes
    assert broken.top1 is not None and healthy.top1 is not None
    assert broken.top1.rows == healthy.top1.rows == 8
    assert broken.top1.float_right == healthy.top1.float_right == 7
    assert broken.top1.loss > 0.5 and broken.top1.interval == paired_loss(broken.top1.lost, broken.top1.gained, 8)
    # The float model is wrong on one sample alone, so where it is right agreement and being right are the same.
    assert healthy.agreement is not None and abs(healthy.top1.quantised_accuracy - healthy.agreement) <= 1 / 8


@pytest.mark.parametrize(
    ("labels", "reason"),
    [([0] * 15, "holds 15 classes, but there are more samples"), ([0] * 15 + [99], "sample 15 has class 99")],
)
def test_labels_that_do_not_fit_cost_the_accuracy_alone(
    models: Path, calibration: Path, tmp_path: Path, labels: list[int], reason: str
) -> None:
    np.save(tmp_path / "labels.npy", np.asarray(labels))
    result = labelled(models, np.load(calibration)["images"], tmp_path / "labels.npy")
    ((code, option, message),) = missing(result)
    assert (code, option) == ("QX004", "--labels") and reason in message
    assert [scheme.basis for scheme in result.schemes] == [Basis.MEASURED] * 2
    assert all(scheme.top1 is None for scheme in result.schemes)


def test_a_class_that_only_the_run_shows_to_be_none_costs_the_accuracy_alone(tmp_path: Path) -> None:
    """The number of classes is open in the file."""
    weight = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    onnx.save(
        onnx_text("agraph (float[N, 4] x) => (float[N, M] y) { y = MatMul(x, w) }", w=weight), tmp_path / "m.onnx"
    )
    np.save(tmp_path / "labels.npy", np.asarray([0] * 15 + [3]))
    source = ArraySource("x", {"x": np.random.default_rng(1).standard_normal((16, 4)).astype(np.float32)})
    request = CheckRequest(DataRequest(source, 8, labels=tmp_path / "labels.npy"))
    result = lint(tmp_path / "m.onnx", [], Config(), request)
    ((code, option, message),) = missing(result)
    assert (code, option) == ("QX004", "--labels") and "sample 15 has class 3" in message
    assert all(scheme.basis is Basis.MEASURED and scheme.verdict and not scheme.top1 for scheme in result.schemes)


def test_a_claim_is_held_against_what_its_scheme_loses(models: Path, calibration: Path) -> None:
    """Under a scheme that is lost, a tensor that makes a tenth of the loss matters however much it leaves alone."""
    source = open_source(str(calibration), PRESETS["raw"])
    rules = Config().build([entry.rule for entry in load_rules()])
    result = lint(models / BROKEN, rules, Config(confirm_below_db=-30.0), CheckRequest(DataRequest(source, 16)))
    (lost, _), levels = result.schemes, {f.claim.below_db for f in result.findings if f.claim is not None}
    assert lost.output_sqnr_db is not None and all(level == pytest.approx(lost.output_sqnr_db + 10) for level in levels)
    costly = {row.tensor for row in lost.noise}
    told = [f for f in result.findings if f.claim is not None and f.claim.tensor in costly]
    assert told and all(f.evidence is Evidence.CONFIRMED for f in told)


def test_labels_of_what_is_no_classifier_are_said_to_be_of_no_use(tmp_path: Path) -> None:
    proto = onnx_text(
        "agraph (float[N, 4] x) => (float[N, 3] y) { h = MatMul(x, w)\n y = Tanh(h) }",
        w=np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32),
    )
    onnx.save(proto, tmp_path / "m.onnx")
    np.save(tmp_path / "labels.npy", np.zeros(4, np.int64))
    data = ArraySource("x", {"x": np.random.default_rng(1).standard_normal((4, 4)).astype(np.float32)})
    result = lint(tmp_path / "m.onnx", [], Config(), CheckRequest(DataRequest(data, 2, labels=tmp_path / "labels.npy")))
    ((code, option, message),) = missing(result)
    assert (code, option) == ("QX004", "--labels") and NO_CLASSES in message and result.fails
    assert all(scheme.top1 is None for scheme in result.schemes)


def test_a_weight_that_nobody_reads_does_not_stop_the_run(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    proto = onnx_text(
        "agraph (float[N, 32] x) => (float[N, 8] y) { y = MatMul(x, w) }",
        w=random.standard_normal((32, 8)).astype(np.float32),
        left_behind=random.standard_normal((32, 8)).astype(np.float32),
    )
    onnx.save(proto, tmp_path / "m.onnx")
    result = lint(tmp_path / "m.onnx", [], Config(), NOISE)
    assert not missing(result)
    assert [(s.basis, s.verdict) for s in result.schemes] == [(Basis.MEASURED, Verdict.SURVIVES)] * 2


def test_which_class_is_the_largest_on_made_up_inputs_decides_nothing(models: Path) -> None:
    for scheme in lint(models / HEALTHY, [], Config(), NOISE).schemes:
        assert scheme.basis is Basis.MEASURED and scheme.agreement is None
        assert scheme.verdict is Config().levels.verdict(scheme.output_sqnr_db, None)


def test_the_configured_schemes_are_judged(models: Path) -> None:
    config = Config(schemes=(SCHEMES["int8-per-channel"],))
    assert [scheme.scheme for scheme in lint(models / BROKEN, [], config, STATIC).schemes] == ["int8-per-channel"]


def test_one_model_that_cannot_be_read_does_not_stop_the_others(models: Path, broken: Path) -> None:
    run = workflow.check(workflow.plan([broken / "cyclic.onnx", models / HEALTHY], Overrides()), STATIC)
    assert [Path(model.path).name for model in run.models] == [HEALTHY] and not run.trustworthy
    assert [Path(failure.path).name for failure in run.failures] == ["cyclic.onnx"]


def ended_by(path: Path, *arguments: Any, **named: Any) -> ModelResult:
    """A lint that a crash of native code ends: always for `deadly.onnx`, else where the model is run."""
    request, progress = arguments[2], arguments[3]
    if path.stem == "deadly" or request.runs:
        progress("running it on the data" if request.runs else "reading", 0, 0)
        os.kill(os.getpid(), signal.SIGSEGV)
    return lint(path, *arguments, **named)


@pytest.mark.skipif(os.name == "nt", reason="signals are those of POSIX")
def test_a_signal_costs_the_model_that_it_hit(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workflow, "lint", ended_by)
    for name in ("deadly.onnx", "good.onnx"):
        shutil.copy(models / HEALTHY, tmp_path / name)
    run = workflow.check(workflow.plan([tmp_path / "deadly.onnx", tmp_path / "good.onnx"], Overrides()), STATIC)
    assert [Path(model.path).name for model in run.models] == ["good.onnx"] and not run.trustworthy
    (failure,) = run.failures
    assert failure.message == (
        f"{tmp_path / 'deadly.onnx'}: could not be linted: the process was ended by signal SIGSEGV while "
        "reading; a library or the system ended it, and --debug shows where"
    )


@pytest.mark.skipif(os.name == "nt", reason="signals are those of POSIX")
def test_a_signal_during_a_run_costs_the_run(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workflow, "lint", ended_by)
    jobs = workflow.plan([models / BROKEN], Overrides())
    run = workflow.check(jobs, replace(NOISE, probe=True))
    why = "the process was ended by signal SIGSEGV while running it on the data."
    assert sorted(missing(run.models[0])) == [
        ("QX002", "--calibrate", f"The model was not run on the data: {why}"),
        ("QX003", "--probe", f"The probe failed: {why}"),
    ]
    assert run.trustworthy and run.fails
    static = lint(models / BROKEN, jobs[0].rules, Config(), STATIC)
    assert [f for f in run.models[0].findings if f.code not in NOT_RUN] == list(static.findings)


def test_native_code_that_ends_the_reader_costs_one_file(models: Path, tmp_path: Path) -> None:
    split = onnx.helper.make_node("Split", ["x"], ["a", "b"], num_outputs=1, axis=1)
    add = onnx.helper.make_node("Add", ["a", "b"], ["y"])
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [4, 6]) for name in "xy"]
    graph = onnx.helper.make_graph([split, add], "g", ends[:1], ends[1:])
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)]), tmp_path / "a.onnx")
    infer = f"import onnx; onnx.shape_inference.infer_shapes(onnx.load({str(tmp_path / 'a.onnx')!r}))"
    if subprocess.run([sys.executable, "-c", infer], stderr=subprocess.DEVNULL, check=False).returncode >= 0:
        pytest.skip(f"onnx {onnx.__version__} infers its shapes, or refuses to")
    run = workflow.check(workflow.plan([tmp_path / "a.onnx", models / HEALTHY], Overrides()), STATIC)
    assert [Path(model.path).name for model in run.models] == [HEALTHY]
    (failure,) = run.failures
    assert "a.onnx: could not be linted: the process was ended by signal SIG" in failure.message


def test_a_defect_of_a_run_costs_the_run(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("by nothing")

    monkeypatch.setattr(running, "inspect", fail)
    result = lint(models / BROKEN, [], Config(), replace(NOISE, debug=True))
    ((code, option, message),) = missing(result)
    assert (code, option) == ("QX002", "--calibrate")
    assert "an error of onnxlint-q itself, ZeroDivisionError: by nothing" in message
    assert "ZeroDivisionError: by nothing" in result.debug
    assert not lint(models / BROKEN, [], Config(), NOISE).debug


def test_three_inputs_and_a_folder_of_photos_cost_the_run(tmp_path: Path) -> None:
    from PIL import Image

    proto = onnx_text(
        "agraph (float[N,3,8,8] a, float[N,3,8,8] b, float[N,3,8,8] c) => (float[N,3,8,8] y) "
        "{ t = Add(a, b) y = Add(t, c) }"
    )
    onnx.save(proto, tmp_path / "m.onnx")
    (tmp_path / "photos").mkdir()
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(tmp_path / "photos" / "a.png")
    photos = DataRequest(open_source(str(tmp_path / "photos"), PRESETS["imagenet"]), 4)
    ((code, option, message),) = missing(lint(tmp_path / "m.onnx", [], Config(), CheckRequest(photos)))
    assert (code, option) == ("QX004", "--calibrate")
    assert "the model has 3 inputs ('a', 'b', 'c'); images fill only one; give an .npz with all of them" in message


def test_a_request_and_its_result_can_be_sent_to_another_process(models: Path, calibration: Path) -> None:
    (job,) = workflow.plan([models / BROKEN], Overrides())
    request = CheckRequest(DataRequest(open_source(str(calibration), PRESETS["raw"]), 4, layers=True, trials=2), True)
    sent = pickle.loads(pickle.dumps(partial(lint, job.path, job.rules, job.config, request)))
    result = sent(silent)
    assert pickle.loads(pickle.dumps(result)) == result


SURVIVES, DEGRADES, BREAKS, UNKNOWN = Verdict.SURVIVES, Verdict.DEGRADES, Verdict.BREAKS, None


def result_of(*verdicts: Verdict | None, findings: tuple[Finding, ...] = ()) -> ModelResult:
    schemes = tuple(SchemeResult(str(number), verdict, None, Basis.FORECAST) for number, verdict in enumerate(verdicts))
    return ModelResult("m.onnx", "", 17, "float", schemes, (), findings)


@pytest.mark.parametrize(
    ("level", "verdicts", "fails"),
    [
        (BREAKS, (SURVIVES, DEGRADES), False),
        (BREAKS, (SURVIVES, BREAKS), True),
        (BREAKS, (UNKNOWN, UNKNOWN), False),
        (BREAKS, (), False),
        (DEGRADES, (SURVIVES, UNKNOWN), False),
        (DEGRADES, (SURVIVES, DEGRADES), True),
        (DEGRADES, (BREAKS,), True),
        (None, (BREAKS, DEGRADES), False),
    ],
)
def test_the_worst_verdict_fails_a_build(
    level: Verdict | None, verdicts: tuple[Verdict | None, ...], fails: bool
) -> None:
    assert replace(result_of(*verdicts), fail_on_verdict=level).fails is fails


def test_a_finding_fails_a_build_unless_a_run_refuted_it() -> None:
    warning = replace(RULE_CRASHED.finding("QZ001", "m", "r"), code="QZ001", severity=Severity.WARNING)
    result = result_of(SURVIVES, findings=(warning,))
    assert (
        result.fails and not replace(result, fail_on=Severity.ERROR).fails and not replace(result, fail_on=None).fails
    )
    assert not replace(result, findings=(replace(warning, evidence=Evidence.REFUTED),)).fails


def forecast_result(models: Path, output_db: float | None, layer_db: float, share: float) -> ModelResult:
    """What becomes of a forecast with these figures."""
    facts = facts_of(read_model(models / HEALTHY), (SCHEMES["fp8"],))
    rows = {layer.output: LayerSqnr(layer_db, layer_db, share, share) for layer in facts.layers}
    made = Forecast(output_db, rows, rest_share=share, traits=facts.forecasts["fp8"].traits)
    facts = replace(facts, forecasts={"fp8": made})
    return assemble(Record(STATIC, (), Config(), facts))


def test_figures_are_those_of_the_forecast(models: Path) -> None:
    result, better = (forecast_result(models, output_db, 30.0, 0.1) for output_db in (20.0, 26.0))
    (scheme,), (more,) = result.schemes, better.schemes
    assert scheme.verdict is SURVIVES and scheme.output_sqnr_db is not None and scheme.interval_db is not None
    assert scheme.interval_db[0] < scheme.output_sqnr_db < scheme.interval_db[1]
    assert more.output_sqnr_db is not None and more.output_sqnr_db > scheme.output_sqnr_db
    assert scheme.chances is not None and more.chances is not None and more.chances.survives > scheme.chances.survives
    bounded = Forecast(20.0).bounded(30.0)
    assert bounded == pytest.approx(30.0, abs=0.01)
    told = LayerSqnr(bounded, bounded, 0.1, 0.1, uncertainty_db=LAYER_UNCERTAINTY_DB)
    assert result.layers[0].forecast == {"fp8": told}


@pytest.mark.parametrize("output_db", [math.nan, -math.inf, math.inf, -705.5, None])
def test_an_output_without_a_possible_figure_is_unknown_with_a_reason(models: Path, output_db: float | None) -> None:
    (scheme,) = forecast_result(models, output_db, 30.0, 0.1).schemes
    assert (scheme.verdict, scheme.output_sqnr_db, scheme.rest_share) == (None, None, None) and scheme.note


def told_in_findings(result: ModelResult) -> list[Any]:
    """The forecasts among the metrics of the findings."""
    return [finding.metrics["forecast_db"] for finding in result.findings if "forecast_db" in finding.metrics]


def test_a_forecast_that_ran_away_tells_nothing_and_no_finding_rests_on_it(models: Path, tmp_path: Path) -> None:
    proto = onnx.load(models / BROKEN)
    for tensor in proto.graph.initializer:
        if len(tensor.dims) > 1:
            wide = onnx.numpy_helper.to_array(tensor) * np.float32(1e12)
            tensor.CopyFrom(onnx.numpy_helper.from_array(wide, tensor.name))
    onnx.save(proto, tmp_path / "huge.onnx")
    rules = [entry.rule() for entry in load_rules()]
    plain, huge = (lint(path, rules, Config(), STATIC) for path in (models / BROKEN, tmp_path / "huge.onnx"))
    assert any(row.forecast is not None for row in plain.layers)
    assert all(row.forecast is None for row in huge.layers)
    for scheme in huge.schemes:
        assert scheme.verdict is None
        assert scheme.note == "the forecast overflowed, so it says nothing about this model"
    assert any(value is not None for value in told_in_findings(plain))
    assert told_in_findings(huge) and all(value is None for value in told_in_findings(huge))


def test_shares_that_are_no_numbers_are_left_out(models: Path) -> None:
    result = forecast_result(models, 20.0, 30.0, math.nan)
    assert result.schemes[0].rest_share is None
    bounded = Forecast(20.0).bounded(30.0)
    told = LayerSqnr(bounded, bounded, None, None, uncertainty_db=LAYER_UNCERTAINTY_DB)
    assert result.layers[0].forecast == {"fp8": told}


def test_a_scheme_that_does_not_survive_has_its_tensors_and_findings(models: Path, calibration: Path) -> None:
    source = open_source(str(calibration), PRESETS["raw"])
    rules = Config().build([entry.rule for entry in load_rules()])
    result = lint(models / BROKEN, rules, Config(), CheckRequest(DataRequest(source, 16)))
    lost, whole = result.schemes
    assert lost.verdict is Verdict.BREAKS and whole.verdict is Verdict.SURVIVES
    assert whole.tensors_basis is Basis.FORECAST and sum(row.share for row in whole.noise) >= MOST
    assert {row.kind.value for row in lost.tensors} == {"weight", "activation"}
    assert sum(row.share for row in lost.tensors) == pytest.approx(1)
    assert sum(row.share for row in lost.noise) >= 0.9 > sum(row.share for row in lost.noise[:-1])
    # Layers have their figures from the same runs; each of the costly ones is told by the rule that knows its cause.
    by_layer = {row.output: (row.measured or {})[lost.scheme] for row in result.layers}
    for row in lost.noise:
        assert by_layer[row.tensor].weight_sqnr_db == row.sqnr_db
        claims = [f for f in result.findings if f.claim is not None and f.claim.tensor == row.tensor]
        assert claims and all(f.evidence is Evidence.CONFIRMED and f.measured_db == row.sqnr_db for f in claims)
        assert "QW006" not in {finding.code for finding in claims}


def test_a_costly_tensor_that_no_rule_explains_is_one_finding(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    text = "agraph (float[N, 8] x, float[N, 8] far) => (float[N, 8] y) { s = Add(x, far)\n y = Sub(s, far) }"
    onnx.save(onnx_text(text), path)
    random = np.random.default_rng(0)
    far = np.full((16, 8), 300, np.float32)
    source = ArraySource("s", {"x": random.uniform(-1, 1, (16, 8)).astype(np.float32), "far": far})
    rules = Config().build([entry.rule for entry in load_rules()])
    result = lint(path, rules, Config(), CheckRequest(DataRequest(source, 8)))
    told = [finding for finding in result.findings if finding.code == "QA004"]
    assert len(told) == 1, "both schemes round it alike"
    for finding in told:
        assert finding.location.output == "s" and finding.location.op_type == "Add"
        assert finding.evidence is Evidence.CONFIRMED and finding.measured_db == finding.metrics["sqnr_db"]
        assert finding.message == (
            "Rounding only the result of 's' to uint8 spoils the output under int8-per-tensor and int8-per-channel."
        )


def test_a_loss_that_no_tensor_explains_is_said() -> None:
    alone = TensorCost("t", Subject.WEIGHT, "int8-per-tensor", 20.0, 4)
    costs = SchemeCosts("int8-per-tensor", 15.0, (alone,))
    assert list(unexplained(costs)) == []
    assert list(unexplained(replace(costs, whole_db=3.0))) == [
        "no tensor alone explains the loss: quantised one by one, all 1 together leave 20.0 dB"
    ]
    assert list(unexplained(replace(costs, whole_db=3.0, fitted_db=18.0))) == [
        "the ranges do not fit new samples: on the samples that they were taken from 18.0 dB are left"
    ]
    assert list(unexplained(replace(costs, whole_db=3.0, tensors=()))) == []


def test_claims_do_not_rest_on_the_few_samples_of_a_quick_look(
    models: Path, calibration: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However little time there was for all tensors, a claim has the answer of every sample, and says on how many."""
    source = open_source(str(calibration), PRESETS["raw"])
    rules = Config().build([entry.rule for entry in load_rules()])
    request = CheckRequest(DataRequest(source, 16))
    full = lint(models / BROKEN, rules, Config(), request)
    monkeypatch.setattr(costs_module, "_EVERY", 0.0)
    monkeypatch.setattr(costs_module, "_AGAIN", 0.0)
    quick = lint(models / BROKEN, rules, Config(), request)
    assert any("measured alone" in note for note in quick.notes) and not full.notes
    tested = [[(f.code, f.evidence) for f in result.findings if f.claim is not None] for result in (full, quick)]
    assert tested[0] == tested[1]
    told = {row.tensor: row.sqnr_db for row in quick.schemes[0].tensors if row.kind is Subject.WEIGHT}
    for first, second in zip(full.findings, quick.findings, strict=True):
        if second.claim is not None:
            early = second.samples is not None and second.samples < 16
            assert first.samples == 16 and early == ("which decide" in second.note)
            assert second.measured_db == pytest.approx(first.measured_db, abs=1.0 if early else 0.2)
            assert told.get(second.claim.tensor, second.measured_db) == second.measured_db


def test_what_the_budget_leaves_out_is_said_and_all_is_proven_where_that_is_asked(
    models: Path, calibration: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A budget of nothing: verdicts are measured all the same, claims are open, nothing is guessed."""
    source = open_source(str(calibration), PRESETS["raw"])
    rules = Config().build([entry.rule for entry in load_rules()])
    full = lint(models / BROKEN, rules, Config(), CheckRequest(DataRequest(source, 16, prove="all")))
    monkeypatch.setattr(spending, "LEAST_PROVING_SECONDS", 0.0)
    monkeypatch.setattr(spending, "TIMES_PLAIN", 0)
    bare = lint(models / BROKEN, rules, Config(), CheckRequest(DataRequest(source, 16)))
    again = lint(models / BROKEN, rules, Config(), CheckRequest(DataRequest(source, 16, prove="all")))
    for one, other in zip(full.schemes, bare.schemes, strict=True):
        assert (one.verdict, one.output_sqnr_db, one.basis) == (other.verdict, other.output_sqnr_db, other.basis)
    claims = [finding for finding in bare.findings if finding.claim is not None]
    assert claims and all(finding.evidence is Evidence.UNTESTED and finding.samples is None for finding in claims)
    assert all("budget; --prove all" in finding.note for finding in claims)
    (note,) = (note for note in bare.notes if note.startswith("proving stopped at its budget"))
    assert f"{len({(f.claim.subject, f.claim.tensors, f.claim.scheme) for f in claims if f.claim})} claim" in note
    assert "nodes to leave in float untried for int8-per-tensor" in note and not bare.remedies[1:]
    assert not full.notes and [(f.code, f.measured_db) for f in full.findings] == [
        (f.code, f.measured_db) for f in again.findings
    ]


def test_a_scheme_that_does_not_survive_has_its_remedies_and_findings_point_to_them(
    models: Path, calibration: Path
) -> None:
    rules = [entry.rule() for entry in load_rules()]
    data = DataRequest(open_source(str(calibration), PRESETS["raw"]), 16)
    result = lint(models / BROKEN, rules, Config(), CheckRequest(data))
    verdicts = {scheme.scheme: scheme for scheme in result.schemes}
    assert verdicts["int8-per-tensor"].verdict is Verdict.BREAKS and verdicts["int8-per-channel"].verdict is SURVIVES
    finer, *lists = result.remedies
    assert finer.snippet == "quantize_static(..., activation_type=QuantType.QUInt8, per_channel=True)"
    assert not finer.nodes_to_exclude
    assert finer.verdict_after is SURVIVES and finer.before_db == verdicts["int8-per-tensor"].output_sqnr_db
    assert finer.after_db == verdicts["int8-per-channel"].output_sqnr_db
    assert all(remedy.coarse_only and "nodes_to_exclude=[" in remedy.snippet for remedy in lists)
    assert not any(finding.nodes_to_exclude for finding in result.findings)


def test_a_list_of_nodes_that_nobody_tried_is_said_to_be_untried(models: Path) -> None:
    rules = [entry.rule() for entry in load_rules()]
    result = lint(models / "unfolded_bn.onnx", rules, Config(), STATIC)
    lists = [finding for finding in result.findings if finding.nodes_to_exclude]
    assert lists and all(finding.remedy.endswith("Untried.") for finding in lists)


TRIAL = JointTrial(INT8_PER_TENSOR, ("a",), OutputError(4.0, None, True, 4), OutputError(9.0, None, True, 4))


@pytest.mark.parametrize(
    ("trial", "said"),
    [
        (TRIAL, "The nodes to leave in float are in the list that was tried for int8-per-tensor."),
        (
            replace(TRIAL, after=TRIAL.before),
            "Leaving the worst nodes in float was tried for int8-per-tensor and is not enough",
        ),
    ],
)
def test_where_a_list_was_tried_no_finding_has_its_own(trial: JointTrial, said: str) -> None:
    claim = Claim(Subject.WEIGHT, "y", "int8-per-tensor")
    call = "quantize_static(..., nodes_to_exclude=['a'])"
    own = Finding("QW004", "x", Severity.WARNING, Confidence.LOW, "m", Location(), snippet=call, claim=claim)
    own = replace(own, nodes_to_exclude=("a",))
    finer = replace(own, snippet="quantize_static(..., per_channel=True)", nodes_to_exclude=())
    elsewhere = replace(own, claim=replace(claim, scheme="int8-per-channel"))
    told, kept, other = with_advice([own, finer, elsewhere], {"int8-per-tensor": trial})
    assert not told.snippet and not told.nodes_to_exclude and told.remedy.startswith(said)
    assert kept == finer and other.snippet == call and other.remedy == "Untried."


def test_a_configuration_that_cannot_be_used_costs_its_model_alone(models: Path, tmp_path: Path) -> None:
    for folder, text in (("good", 'fail-on = "none"'), ("bad", 'fail-on = "nothing"')):
        (tmp_path / folder).mkdir()
        shutil.copy(models / HEALTHY, tmp_path / folder / "m.onnx")
        (tmp_path / folder / "onnxlint-q.toml").write_text(text)
    paths = [tmp_path / folder / "m.onnx" for folder in ("bad", "good")]
    run = workflow.check(workflow.plan(paths, Overrides()), STATIC)
    assert [model.path for model in run.models] == [str(paths[1])]
    (failure,) = run.failures
    assert failure.message.startswith(f"{paths[0]}: {tmp_path / 'bad' / 'onnxlint-q.toml'}: ")
    assert "fail-on" in failure.message and not run.trustworthy
    with pytest.raises(UsageError, match=r"onnxlint-q\.toml: .*fail-on"):
        workflow.plan(paths[:1], Overrides())


def test_noise_that_is_no_number_is_not_foreseen(models: Path, tmp_path: Path) -> None:
    """Behind a weight near the largest float, what a tensor costs is nothing times more than a double holds."""
    proto = onnx.load(models / BROKEN)
    (held,) = (one for one in proto.graph.initializer if one.name == "block2_depthwise_conv.weight")
    weight = onnx.numpy_helper.to_array(held).copy()
    weight[0] = 3e38
    held.CopyFrom(onnx.numpy_helper.from_array(weight, held.name))
    onnx.save(proto, tmp_path / "huge.onnx")
    config = Config()
    found = lint(tmp_path / "huge.onnx", config.build([entry.rule for entry in load_rules()]), config, NOISE)
    assert any(result.tensors for result in found.schemes)
    assert all(math.isfinite(row.share) for result in found.schemes for row in result.tensors)
