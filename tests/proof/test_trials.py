"""Trials against calibrations made one by one, and the sentences that follow from the figures."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
import ties

from onnxlint_q.analysis.experiment import Experiment
from onnxlint_q.analysis.schemes import DEFAULT_SCHEMES, INT8_PER_TENSOR, SCHEMES
from onnxlint_q.errors import DataError
from onnxlint_q.execute.data.preprocess import PRESETS
from onnxlint_q.execute.data.sources import ArraySource, open_source
from onnxlint_q.execute.limits import Limits, StreamLimits
from onnxlint_q.execute.session import Session
from onnxlint_q.execute.stream.observe import observe
from onnxlint_q.execute.variants.output_error import OutputErrorAccumulator, Reference
from onnxlint_q.execute.variants.workbench import workbench
from onnxlint_q.graph import read_model
from onnxlint_q.judge.facts import facts_of
from onnxlint_q.judge.verdict import VerdictLevels
from onnxlint_q.proof.trials import best_observer, hopeless, more_samples, run_trials
from onnxlint_q.workflow.results import TrialFigure

# Histograms of all values: otherwise which ones are counted follows a sample's number in its pass.
EVERY_VALUE_COUNTED = Limits(stream=StreamLimits(fewest_counted=1 << 30, most_counted=1 << 30))


def test_each_figure_is_that_of_a_calibration_of_its_own(models: Path, calibration: Path) -> None:
    """The subsets are found again from the seed; ranges, variants and errors are made one by one."""
    facts = facts_of(read_model(models / "depthwise_spread.onnx"), DEFAULT_SCHEMES)
    images = np.load(calibration)["images"][:12]
    bench = replace(workbench(facts, EVERY_VALUE_COUNTED), observer="percentile")
    trials = run_trials(bench, ArraySource("images", {"images": images}), 4, 2, VerdictLevels())
    assert (trials.count, trials.samples, trials.held_out) == (2, 4, 4)
    order = np.random.default_rng(0).permutation(12)
    held_out = [{"images": image[None]} for image in images[np.sort(order[:4])]]
    exact = Session(bench.float_model)
    got: dict[tuple[str, str, int], float | None] = {}
    wanted: dict[tuple[str, str, int], float | None] = {}
    for figure in (*trials.observers, *trials.curve):
        scheme = SCHEMES[figure.scheme]
        decibels, agreements = [], []
        for start in (4, 8):
            # The parts of a subset are joined one after the other, each in the order of the data.
            cuts = [cut for cut in (0, 1, 2, 4) if cut <= figure.samples]
            parts = [np.sort(order[start + a : start + b]) for a, b in pairwise(cuts)]
            chosen = images[np.concatenate(parts)]
            seen = observe(facts, ArraySource("s", {"images": chosen}), len(chosen), limits=EVERY_VALUE_COUNTED)
            session = Session(bench.calibrated(seen, figure.observer).executable(Experiment(scheme)))
            errors = OutputErrorAccumulator()
            for sample in held_out:
                errors.add(Reference(exact.run(sample), facts.outputs), session.run(sample))
            decibels.append(errors.result().sqnr_db)
            agreements.append(errors.result().agreement)
        key = (figure.scheme, figure.observer, figure.samples)
        got[key], wanted[key] = figure.output_sqnr_db, float(np.mean(np.asarray(decibels, float)))
        # Of two figures that are each that far off.
        within = np.sqrt(2) * ties.decibels(max(filter(None, decibels)), ties.NETWORK)
        assert figure.deviation_db == pytest.approx(np.std(np.asarray(decibels, float), ddof=1), abs=within)
        assert figure.agreement == pytest.approx(np.mean(np.asarray(agreements, float)), abs=1e-9)
    ties.assert_alike(wanted, got, ties.NETWORK)
    assert [figure.samples for figure in trials.curve if figure.scheme == "int8-per-tensor"] == [1, 2, 4]


def test_little_data_makes_smaller_subsets_and_too_little_an_error(models: Path, calibration: Path) -> None:
    facts = facts_of(read_model(models / "external_data.onnx"), DEFAULT_SCHEMES)
    images = np.load(calibration)["images"]
    bench = workbench(facts)
    trials = run_trials(bench, ArraySource("few", {"images": images[:7]}), 32, 2, VerdictLevels())
    assert (trials.samples, trials.held_out) == (2, 2)
    with pytest.raises(DataError, match="few: holds 2 samples, but 2 trials need at least 3"):
        run_trials(bench, ArraySource("few", {"images": images[:2]}), 32, 2, VerdictLevels())
    endless = run_trials(bench, open_source("random", PRESETS["raw"]), 2, 2, VerdictLevels())
    assert endless.samples == 2


def test_a_scheme_without_ranges_has_no_trials(models: Path, calibration: Path) -> None:
    facts = facts_of(read_model(models / "healthy_resnet.onnx"), (INT8_PER_TENSOR, SCHEMES["int4-blocks"]))
    source = ArraySource("images", {"images": np.load(calibration)["images"][:6]})
    trials = run_trials(workbench(facts), source, 2, 2, VerdictLevels())
    assert {figure.scheme for figure in (*trials.observers, *trials.curve)} == {"int8-per-tensor"}


def test_only_the_images_that_are_asked_for_are_read(tmp_path: Path, models: Path) -> None:
    from PIL import Image

    facts = facts_of(read_model(models / "healthy_resnet.onnx"), ())
    for number in range(4):
        Image.new("RGB", (64, 64), (number, 0, 0)).save(tmp_path / f"{number}.png")
    (tmp_path / "2.png").write_bytes(b"broken")
    source = open_source(str(tmp_path), PRESETS["raw"])
    inputs = facts.model.inputs
    got = [next(iter(sample.values()))[0, 0, 0, 0] for sample in source.pick(inputs, [1, 3])]
    assert got == [1, 3]
    with pytest.raises(DataError, match=r"2\.png"):
        list(source.take(inputs, 4))


def test_the_levels_of_the_run_say_whether_a_scheme_breaks(models: Path, calibration: Path) -> None:
    facts = facts_of(read_model(models / "depthwise_spread.onnx"), (INT8_PER_TENSOR,))
    source = ArraySource("images", {"images": np.load(calibration)["images"][:6]})
    high, low = (
        run_trials(workbench(facts), source, 2, 2, VerdictLevels(breaks_db=level, survives_db=level)).sentences
        for level in (200.0, -200.0)
    )
    assert any("breaks with every observer" in sentence for sentence in high)
    assert low and not any("breaks with every observer" in sentence for sentence in low)


def test_only_a_classifier_has_an_agreement(models: Path, calibration: Path, tmp_path: Path) -> None:
    proto = onnx.load(models / "depthwise_spread.onnx")
    output = proto.graph.output[0].name
    for node in proto.graph.node:
        node.output[:] = ["logits" if name == output else name for name in node.output]
    proto.graph.node.append(onnx.helper.make_node("Tanh", ["logits"], [output], "bound"))
    onnx.save(proto, tmp_path / "bound.onnx")
    source = ArraySource("images", {"images": np.load(calibration)["images"][:6]})
    for path, classifies in ((models / "depthwise_spread.onnx", True), (tmp_path / "bound.onnx", False)):
        facts = facts_of(read_model(path), (INT8_PER_TENSOR,))
        trials = run_trials(workbench(facts), source, 2, 2, VerdictLevels())
        assert facts.is_classifier is classifies
        assert {figure.agreement is not None for figure in trials.observers} == {classifies}


def figure(observer: str, sqnr_db: float, deviation: float) -> TrialFigure:
    return TrialFigure("fp8", observer, 8, sqnr_db, deviation)


def test_an_observer_is_best_only_beyond_the_spread() -> None:
    close = [figure("min-max", 10.0, 1.0), figure("mse", 10.9, 0.5)]
    assert best_observer(close, "min-max") == "fp8: no observer is better than min-max by more than the subsets differ."
    far = [figure("min-max", 10.0, 1.0), figure("mse", 12.0, 0.5)]
    assert best_observer(far, "min-max").startswith("fp8: mse is best with 12.0 dB, 2.0 dB more than min-max")
    assert best_observer(far, "mse").startswith("fp8: no observer is better than mse")


def test_a_scheme_that_breaks_whatever_the_observer_needs_no_better_one() -> None:
    lost = [figure("min-max", -9.0, 1.0), figure("mse", -2.0, 1.0), figure("entropy", 0.0, 1.0)]
    assert hopeless(lost, 1.0).startswith("fp8: breaks with every observer, at best 0.0 dB with entropy")
    assert hopeless([*lost, figure("percentile", 6.0, 1.0)], 1.0) == "" and hopeless([], 1.0) == ""
    assert hopeless(lost, -1.0) == "", "the level is the configured one"


def test_whether_more_samples_help_is_judged_within_subsets() -> None:
    assert "more samples would help" in more_samples("fp8", [[10.0, 5.0, 7.0], [12.0, 7.1, 8.9]], 8)
    assert "more samples would not help, clipping may" in more_samples("fp8", [[12.0, 7.0], [10.0, 5.1]], 8)
    assert "changed 0.2 dB; more samples would not help" in more_samples("fp8", [[10.0, 5.0, 7.0], [10.4, 4.9, 7.2]], 8)
    assert "gained 1.0 dB, less than the subsets differ" in more_samples("fp8", [[10.0, 5.0, 7.0], [14.0, 3.0, 8.0]], 8)
    assert more_samples("fp8", [[None, 1.0], [1.0, 2.0]], 8) == "" and more_samples("fp8", [[1.0, 2.0]], 1) == ""
