"""What the budget lets run: claims that stop once they are clear, those that cannot, and time that is over."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from onnxlint_q.analysis.schemes import DEFAULT_SCHEMES
from onnxlint_q.execute.data.sources import ArraySource
from onnxlint_q.execute.limits import LEAST_PROVING_SECONDS, TIMES_PLAIN, Allowance
from onnxlint_q.execute.stream.observe import observe
from onnxlint_q.execute.variants.variant_runs import Samples
from onnxlint_q.execute.variants.workbench import Workbench, workbench
from onnxlint_q.finding import Claim, Confidence, Evidence, Finding, Location, Severity, Subject
from onnxlint_q.graph import read_model
from onnxlint_q.judge.facts import facts_of
from onnxlint_q.proof.budget.clear import FIRST_LOOK
from onnxlint_q.proof.budget.spending import ENOUGH_SAMPLES, NO_BUDGET, Spending, budget
from onnxlint_q.proof.prove import Proof, prove

COUNT = 48


@pytest.fixture(scope="module")
def calibrated(models: Path, calibration: Path) -> tuple[Workbench, Samples, str]:
    """A network, more samples than a claim is first looked at on, and a layer that per-tensor scales ruin."""
    facts = facts_of(read_model(models / "depthwise_spread.onnx"), DEFAULT_SCHEMES)
    images = np.load(calibration)["images"]
    source = ArraySource("s", {"images": np.concatenate([images, images[..., ::-1]])[:COUNT]})
    bench = workbench(facts).calibrated(observe(facts, source, COUNT))
    layer = next(layer.output for layer in facts.layers if layer.folded.layer.depthwise)
    return bench, partial(source.take, facts.model.inputs, COUNT), layer


def claimed(layer: str, below_db: float) -> Finding:
    wanted = Claim(Subject.WEIGHT, layer, "int8-per-tensor", below_db)
    return Finding("QW001", "x", Severity.WARNING, Confidence.HIGH, "m", Location(output=layer), claim=wanted)


def proven(calibrated: tuple[Workbench, Samples, str], below_db: float, spending: Spending) -> tuple[Finding, Proof]:
    bench, samples, layer = calibrated
    proof = prove(bench, [claimed(layer, below_db)], samples, spending=spending, count=COUNT)
    return proof.findings[0], proof


def given(seconds: float) -> Spending:
    return Spending(Allowance(seconds, clock=lambda: 0.0), seconds, 0.5, ENOUGH_SAMPLES)


def test_a_clear_claim_stops_early_and_says_so(calibrated: tuple[Workbench, Samples, str]) -> None:
    whole, _ = proven(calibrated, 60.0, NO_BUDGET)
    early, proof = proven(calibrated, 60.0, given(1000.0))
    assert whole.evidence is early.evidence is Evidence.CONFIRMED
    assert (whole.samples, early.samples, proof.open) == (COUNT, FIRST_LOOK, 0)
    assert not whole.note and early.note == f"Measured on {FIRST_LOOK} of {COUNT} samples, which decide."


def test_a_claim_at_its_level_runs_on_every_sample(calibrated: tuple[Workbench, Samples, str]) -> None:
    whole, _ = proven(calibrated, 20.0, NO_BUDGET)
    assert whole.measured_db is not None
    near, _ = proven(calibrated, whole.measured_db + 0.01, given(1000.0))
    assert (near.samples, near.note) == (COUNT, "")
    assert near.measured_db == pytest.approx(whole.measured_db, abs=1e-6)


def test_what_is_known_of_some_samples_is_enough_where_it_is_clear(calibrated: tuple[Workbench, Samples, str]) -> None:
    bench, samples, layer = calibrated
    _, proof = proven(calibrated, 60.0, given(1000.0))
    known = {one: replace(error, samples=FIRST_LOOK) for one, error in proof.errors.items()}
    again = prove(bench, [claimed(layer, 60.0)], samples, known=known, spending=given(0.0), count=COUNT)
    assert again.findings[0].evidence is Evidence.CONFIRMED and again.errors == known


def test_without_time_a_claim_stays_open(calibrated: tuple[Workbench, Samples, str]) -> None:
    finding, proof = proven(calibrated, 60.0, given(0.0))
    assert (finding.evidence, finding.measured_db, proof.open) == (Evidence.UNTESTED, None, 1)
    assert finding.note == "untested (budget; --prove all)"


def test_the_budget_follows_plain_inference(
    calibrated: tuple[Workbench, Samples, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, samples, _ = calibrated
    small = budget(bench, samples, COUNT, 0.1)
    assert small.seconds == LEAST_PROVING_SECONDS and small.is_bounded and not NO_BUDGET.is_bounded
    clock = iter(range(1000))
    monkeypatch.setattr("time.process_time", lambda: float(next(clock)))
    assert budget(bench, samples, COUNT, 0.1).seconds == TIMES_PLAIN * COUNT


def test_shares_reserves_and_passes() -> None:
    spending = given(10.0)
    assert spending.part(0.5).left == 5.0 and spending.part(0.5, reserved=4.0).left == 3.0
    assert spending.part(0.5, reserved=40.0).left == 0.0 and spending.part(1.0).patience == math.inf
    assert (spending.passes(3), spending.passes(50), spending.passes(50, 0.5)) == (3, 20, 10)
    assert (spending.few(8), spending.few(COUNT), NO_BUDGET.few(COUNT)) == (8, ENOUGH_SAMPLES, COUNT)
