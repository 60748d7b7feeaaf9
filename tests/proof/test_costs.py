"""What each tensor alone costs: every tensor, each as if run alone, in bounded time."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from onnx_cases import as_model, onnx_text

from onnxlint_q.analysis.experiment import Experiment
from onnxlint_q.analysis.schemes import DEFAULT_SCHEMES, INT8_PER_CHANNEL, INT8_PER_TENSOR
from onnxlint_q.execute.data.sources import ArraySource
from onnxlint_q.execute.data.split import Split
from onnxlint_q.execute.stream.observe import observe
from onnxlint_q.execute.variants.output_error import OutputError
from onnxlint_q.execute.variants.variant_runs import Samples, run_variants
from onnxlint_q.execute.variants.workbench import Workbench, workbench
from onnxlint_q.finding import Subject
from onnxlint_q.judge.facts import Facts, facts_of
from onnxlint_q.proof.costs import Costs, cost_db, measure_costs, refined
from onnxlint_q.proof.whole import Whole, measure_schemes

# Attention whose mask is far below the scores: the sum gets a step that swallows them.
NETWORK = """
agraph (float[N, 4, 8] x, float[N, 1, 4] drop) => (float[N, 4, 8] y) {
    h = MatMul(x, v)
    k = Transpose <perm = [0, 2, 1]> (h)
    scores = MatMul(h, k)
    mask = Mul(drop, large)
    masked = Add(scores, mask)
    chosen = Softmax <axis = -1> (masked)
    y = MatMul(chosen, h)
}
"""
SAMPLES = 6


def known(mask: float = -10_000.0) -> Facts:
    weight = np.random.default_rng(0).standard_normal((8, 8)).astype(np.float32)
    return facts_of(as_model(onnx_text(NETWORK, v=weight, large=np.asarray(mask, np.float32))), DEFAULT_SCHEMES)


def source(scale: float = 1.0) -> ArraySource:
    """Half of the samples, the ones behind those that ranges are taken from, are `scale` times as large."""
    values = np.random.default_rng(1).standard_normal((2 * SAMPLES, 4, 8)).astype(np.float32)
    values[SAMPLES:] *= np.float32(scale)
    drop = np.zeros((2 * SAMPLES, 1, 4), np.float32)
    drop[:, :, -1] = 1
    return ArraySource("s", {"x": values, "drop": drop})


def both_parts(scale: float = 1.0) -> Split:
    return Split(source(scale), known().model.inputs, SAMPLES, SAMPLES)


def calibrated(facts: Facts) -> tuple[Workbench, Samples]:
    bench = workbench(facts).calibrated(observe(facts, source(), SAMPLES))
    return bench, partial(source().take, facts.model.inputs, SAMPLES)


def measured(facts: Facts, seconds: float = 60.0) -> Costs:
    bench, samples = calibrated(facts)
    return measure_costs(bench, measure_schemes(bench, both_parts()), DEFAULT_SCHEMES, samples, seconds=seconds)


def test_every_weight_and_every_activation_in_data_order() -> None:
    found = measured(known())
    assert list(found.by_scheme) == [scheme.name for scheme in DEFAULT_SCHEMES] and found.notes == ()
    for costs in found.by_scheme.values():
        assert [(cost.tensor, cost.kind.value) for cost in costs.tensors] == [
            ("x", "activation"),
            ("drop", "activation"),
            ("h", "weight"),
            ("h", "activation"),
            ("scores", "activation"),
            ("mask", "activation"),
            ("masked", "activation"),
            ("chosen", "activation"),
            ("y", "activation"),
        ]
        assert costs.missing == 0 and all(cost.samples == SAMPLES for cost in costs.tensors)
        # No layer makes it.
        assert [cost.tensor for cost in costs.most()] == ["masked"] and costs.explained
        assert costs.most()[0].sqnr_db == pytest.approx(costs.whole_db, abs=3)


def test_each_costs_what_it_does_in_a_run_of_its_own() -> None:
    facts = known()
    bench, samples = calibrated(facts)
    for scheme in DEFAULT_SCHEMES:
        for cost in measured(facts).by_scheme[scheme.name].tensors:
            made = Experiment.on_weight if cost.kind is Subject.WEIGHT else Experiment.on_activation
            alone = run_variants(bench, {0: partial(bench.executable, made(scheme, cost.tensor))}, samples)[0]
            if cost.sqnr_db < 90:  # above it the order of sums decides
                assert alone.sqnr_db == pytest.approx(cost.sqnr_db, abs=0.2)


def test_nothing_runs_for_a_scheme_that_survives() -> None:
    facts = known()
    bench, samples = calibrated(facts)
    assert measure_costs(bench, Whole({}), (), samples).by_scheme == {}
    one = measure_costs(bench, measure_schemes(bench, both_parts()), [INT8_PER_CHANNEL], samples)
    assert list(one.by_scheme) == [INT8_PER_CHANNEL.name]


def test_what_was_measured_is_not_run_again() -> None:
    facts = known()
    bench, samples = calibrated(facts)
    first = measure_costs(bench, measure_schemes(bench, both_parts()), [INT8_PER_TENSOR], samples)
    # Figures that no run gives.
    table = {one: replace(error, sqnr_db=1.0 + number) for number, (one, error) in enumerate(first.errors.items())}
    again = measure_costs(bench, measure_schemes(bench, both_parts()), [INT8_PER_TENSOR], samples, table)
    assert again.errors == table


def test_the_time_is_bounded_and_what_it_did_not_reach_is_said() -> None:
    found = measured(known(), seconds=0.0)
    assert all(costs.tensors == () and costs.missing == 9 for costs in found.by_scheme.values())
    # The activations of both schemes are the same runs.
    assert found.notes == ("10 of 10 tensors were not measured alone: the time limit for all is 0 s",)


def test_ranges_that_do_not_hold_for_other_samples_are_told_from_costly_tensors() -> None:
    facts = known(mask=-10.0)
    bench, samples = calibrated(facts)
    for scale, ill_fitted in ((1.0, False), (20.0, True)):
        whole = measure_schemes(bench, both_parts(scale))
        (costs,) = measure_costs(bench, whole, [INT8_PER_TENSOR], samples).by_scheme.values()
        assert (costs.explained, costs.ill_fitted) == (not ill_fitted, ill_fitted)


def test_the_figure_of_one_run() -> None:
    assert cost_db(OutputError(12.0, None, has_signal=True, samples=1)) == 12.0
    assert cost_db(OutputError(None, None, has_signal=True, samples=1)) == float("inf")
    assert cost_db(OutputError(None, None, has_signal=False, samples=1)) is None


def test_a_run_on_more_samples_tells_better() -> None:
    facts = known()
    costs = measured(facts).by_scheme[INT8_PER_TENSOR.name]
    quick = replace(costs, tensors=tuple(replace(cost, samples=1, sqnr_db=9.0) for cost in costs.tensors))
    masked = Experiment.on_activation(INT8_PER_TENSOR, "masked")
    fuller = {masked: OutputError(4.0, None, has_signal=True, samples=SAMPLES)}
    told = {cost.tensor: (cost.sqnr_db, cost.samples) for cost in refined(quick, fuller).tensors}
    assert told == {cost.tensor: (9.0, 1) for cost in costs.tensors} | {"masked": (4.0, SAMPLES)}
    assert refined(costs, fuller) == costs, "as many are no more"
