"""Rewrites tried: float outputs beside the model's, everything quantised, and what findings say of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import onnx
import outlier_cases
import pytest
from mask_cases import WAYS, network, samples
from onnx_cases import Array, as_model

from onnxlint_q.analysis.experiment import Experiment
from onnxlint_q.analysis.schemes import INT8_PER_TENSOR, SCHEMES
from onnxlint_q.execute.data.sources import ArraySource
from onnxlint_q.execute.data.split import split
from onnxlint_q.execute.stream.observe import observe
from onnxlint_q.execute.variants.output_error import OutputError
from onnxlint_q.execute.variants.workbench import workbench
from onnxlint_q.finding import (
    Claim,
    Confidence,
    Divisors,
    Evidence,
    Finding,
    Location,
    Remasking,
    Rescaling,
    Severity,
    Subject,
)
from onnxlint_q.judge.facts import Facts, facts_of
from onnxlint_q.judge.verdict import Verdict
from onnxlint_q.proof.mending.factors import plan_factors
from onnxlint_q.proof.mending.masks import plan_masks
from onnxlint_q.proof.mending.plan import Planner
from onnxlint_q.proof.mending.told import with_mendings
from onnxlint_q.proof.mending.trial import Mending, try_rewrites
from onnxlint_q.proof.whole import Whole, measure_schemes

FINE = SCHEMES["int16-activations"]
MOVED = Rescaling((Divisors("t0", outlier_cases.WIDE, (64.0, 64.0)),))


def tried(facts: Facts, data: dict[str, Array], planners: Sequence[Planner]) -> tuple[Mending, ...]:
    source = ArraySource("s", data)
    divided = split(source, facts.model.inputs, 12)
    bench = workbench(facts).calibrated(observe(facts, source, divided.calibrating))
    return try_rewrites(bench, measure_schemes(bench, divided), planners, divided)


def masks_of(proto: onnx.ModelProto, data: dict[str, Array]) -> Mending:
    facts = facts_of(as_model(proto), (INT8_PER_TENSOR, FINE))
    assert facts.unmasked is not None
    (mending,) = tried(facts, data, [partial(plan_masks, tuple(facts.unmasked.candidates.values()))])
    return mending


def factors_of(proto: onnx.ModelProto, *changes: Rescaling) -> Mending:
    facts = facts_of(as_model(proto), (INT8_PER_TENSOR, SCHEMES["int8-dynamic"]))
    (mending,) = tried(facts, outlier_cases.samples(), [partial(plan_factors, changes)])
    return mending


def left(errors: Mapping[Experiment, OutputError]) -> dict[str, float | None]:
    return {one.scheme.name: error.worst_db for one, error in errors.items()}


@pytest.mark.parametrize("way", ["computed", "replaced", "infinite", "stored", "scaled"])
def test_a_smaller_mask_brings_back_what_a_large_one_costs(way: str) -> None:
    steps, constants = WAYS[way]
    mending = masks_of(network(steps, **constants), samples())
    assert mending.whole is not None and mending.exact is not None and not mending.refused
    assert mending.exact.worst_db is None or mending.exact.worst_db > 80
    for scheme in (INT8_PER_TENSOR, FINE):
        before, after = left(mending.before)[scheme.name], left(mending.whole.errors)[scheme.name]
        # More bits do not help against such a mask.
        assert before is not None and before < 10 and after is not None and after > 20


def test_what_changes_the_float_outputs_is_not_gone_on_with() -> None:
    """Of a sentence without any word all scores are masked: all alike before, told apart after."""
    data = samples()
    data["keep"][13] = 0
    steps, constants = WAYS["computed"]
    mending = masks_of(network(steps, **constants), data)
    assert mending.whole is None and mending.exact is not None and (mending.exact.worst_db or 0) < 80
    assert dict(mending.made) != {}


def test_scores_without_end_are_refused_without_a_run() -> None:
    data = samples()
    data["hidden"] = np.asarray(data["hidden"] * 1e3, np.float32)
    steps, constants = WAYS["computed"]
    mending = masks_of(network(steps, **constants), data)
    assert mending.exact is None and mending.whole is None
    ((change, reason),) = mending.refused.items()
    assert isinstance(change, Remasking) and change.constant == "c" and "spread" in reason


def test_factors_that_move_bring_back_what_outlier_channels_cost() -> None:
    mending = factors_of(outlier_cases.network(), MOVED)
    assert mending.whole is not None and mending.exact is not None and not mending.refused
    assert mending.exact.worst_db is None or mending.exact.worst_db > 80
    # A run's own ranges are as wide, so dynamic scales gain as well.
    for name in (INT8_PER_TENSOR.name, "int8-dynamic"):
        before, after = left(mending.before)[name], left(mending.whole.errors)[name]
        assert before is not None and before < 20 and after is not None and after > before + 10


def test_factors_that_cannot_move_are_refused_as_a_whole() -> None:
    proto = outlier_cases.network(2, tail="r = Relu(t1) y = Add(h1, r)")
    both = Rescaling((*MOVED.divisors, Divisors("t1", outlier_cases.WIDE, (64.0, 64.0))))
    mending = factors_of(proto, both, MOVED)
    assert "Relu" in mending.refused[both] and mending.made == {MOVED: MOVED} and mending.whole is not None


def test_a_rewrite_is_tried_on_top_of_one_that_helps() -> None:
    steps, constants = WAYS["computed"]
    facts = facts_of(as_model(network(steps, **constants)), (INT8_PER_TENSOR,))
    assert facts.unmasked is not None
    masks = partial(plan_masks, tuple(facts.unmasked.candidates.values()))
    first, second = tried(facts, samples(), [masks, masks])
    assert first.whole is not None and second.before == {**first.before, **first.whole.errors}
    assert second.rewrites == ("mask-values", "mask-values") and second.upon == first.what
    assert all(abs(gain.db) < 1 for gain in second.gains.values())


FINDING = Finding(
    code="QA005",
    name="outlier-channels",
    severity=Severity.WARNING,
    confidence=Confidence.MEDIUM,
    message="Wide.",
    location=Location(output="t0"),
    remedy="Divide.",
    otherwise="Leave these nodes in float.",
    change=MOVED,
    claim=Claim(Subject.ACTIVATION, "t0", INT8_PER_TENSOR.name),
    evidence=Evidence.CONFIRMED,
    nodes_to_exclude=("norm0",),
)


def judge(error: OutputError) -> Verdict:
    return Verdict.SURVIVES if error.worst_db is None or error.worst_db > 14 else Verdict.DEGRADES


def test_a_finding_says_what_its_rewrite_gains() -> None:
    mending = factors_of(outlier_cases.network(), MOVED)
    (told,) = with_mendings([FINDING], [mending], judge)
    assert told.tried is not None and told.tried.scheme == INT8_PER_TENSOR.name
    assert told.tried.after_db is not None and told.tried.before_db is not None
    assert told.advice.startswith("Divide. Tried: ") and "float outputs are" in told.advice
    assert not told.nodes_to_exclude and told.change == MOVED
    assert with_mendings([replace(FINDING, evidence=Evidence.REFUTED)], [mending], judge)[0].tried is None


def test_a_rewrite_that_gains_nothing_is_no_advice() -> None:
    mending = factors_of(outlier_cases.network(factor=1.0), Rescaling((Divisors("t0", (5,), (1.0,)),)))
    ((change, _),) = mending.made.items()
    (told,) = with_mendings([replace(FINDING, change=change)], [mending], judge)
    assert told.advice.startswith("Leave these nodes in float. Moving the factors was tried and does not help: ")
    assert told.change is None and told.nodes_to_exclude == ("norm0",)


def test_a_rewrite_that_does_not_apply_says_why() -> None:
    proto = outlier_cases.network(tail="r = Relu(t0) y = Add(h0, r)")
    (told,) = with_mendings([FINDING], [factors_of(proto, MOVED)], judge)
    assert told.advice.startswith("Leave these nodes in float. Moving the factors was not tried: its reader Relu ")


def test_schemes_that_lose_are_named() -> None:
    blocks = SCHEMES["int4-blocks"]

    def errors(static_db: float, blocks_db: float) -> dict[Experiment, OutputError]:
        figures = {INT8_PER_TENSOR: static_db, blocks: blocks_db}
        return {Experiment(scheme): OutputError(db, None, True, 4) for scheme, db in figures.items()}

    mending = Mending(
        rewrites=("channel-factors",),
        what="the factors of outlier channels moved",
        upon="the mask at -100",
        made={MOVED: MOVED},
        refused={},
        before=errors(3.0, 18.0),
        exact=OutputError(None, None, True, 4),
        whole=Whole(errors(9.0, 12.5)),
    )
    (told,) = with_mendings([FINDING], [mending], judge)
    assert told.advice == (
        "Divide. Helps, but not enough: 3.0 → 9.0 dB with everything quantised (int8-per-tensor, with the mask at "
        "-100); float outputs are identical. int4-blocks loses (18.0 → 12.5 dB)."
    )
