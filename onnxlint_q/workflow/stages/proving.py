"""Stages that prove what was found, within the budget: claims, rewrites and other remedies."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

from onnxlint_q.analysis.experiment import Experiment
from onnxlint_q.analysis.schemes import Scheme
from onnxlint_q.execute.progress import Progress
from onnxlint_q.execute.variants.unprepared import measure_unprepared
from onnxlint_q.finding import Rescaling, Subject
from onnxlint_q.proof.budget.spending import OVER_BUDGET, first
from onnxlint_q.proof.costs import measure_costs
from onnxlint_q.proof.mending.factors import plan_factors
from onnxlint_q.proof.mending.masks import plan_masks
from onnxlint_q.proof.mending.plan import Planner
from onnxlint_q.proof.mending.told import with_mendings
from onnxlint_q.proof.mending.transaction import mend
from onnxlint_q.proof.mending.trial import try_rewrites
from onnxlint_q.proof.probing.inputs import made_up
from onnxlint_q.proof.prove import prove
from onnxlint_q.proof.remedies import (
    CONVERSION_SAMPLES,
    RANGES_TRIED,
    ranges_asked,
    try_conversions,
    try_requantisations,
)
from onnxlint_q.rewrite.table import DEFAULT_REWRITES
from onnxlint_q.workflow.assembly.joint_remedies import failing, try_joint_remedies
from onnxlint_q.workflow.assembly.verdicts import is_lost, judge_of
from onnxlint_q.workflow.judging import restored
from onnxlint_q.workflow.record import Record
from onnxlint_q.workflow.stages.stage import split_of

# Of what is left of the budget: what it may take to quantise tensors one by one, rewrites, other ranges.
_COSTS_SHARE, _REWRITES_SHARE, _RANGES_SHARE = 0.25, 0.6, 0.25
# Whole runs that a rewrite takes beside one a scheme: float outputs, ranges.
_RUNS_BESIDE = 2
# The same of a search for nodes to leave in float, at least, with the measurement of what it finds.
_RUNS_OF_SEARCH = 2


def fill_measure_costs(record: Record, progress: Progress) -> Record:
    """With what each tensor costs alone, under schemes that the model does not survive."""
    assert record.bench is not None and record.whole is not None
    divided, spending = split_of(record), record.spending
    count = spending.few(divided.calibrating)
    lost = [scheme for scheme in record.facts.schemes if is_lost(record, scheme)]
    costs = measure_costs(
        record.bench,
        record.whole,
        lost,
        partial(first, divided.for_ranges, count),
        record.table,
        progress,
        count=count,
        total=divided.calibrating,
        allowance=spending.part(_COSTS_SHARE),
        why=OVER_BUDGET,
        foreseen=dict(_foreseen(record, lost)),
    )
    return replace(record, costs=costs, facts=record.facts.costed(costs.by_scheme))


def _foreseen(record: Record, lost: Sequence[Scheme]) -> Iterator[tuple[Experiment, float]]:
    """What tensors are thought to make of the noise of these schemes."""
    for scheme in lost:
        forecast = record.facts.forecasts.get(scheme.name)
        for one in forecast.tensors if forecast is not None else ():
            made = Experiment.on_weight if one.kind is Subject.WEIGHT else Experiment.on_activation
            yield made(scheme, one.tensor), one.share


def fill_unprepared(record: Record, progress: Progress) -> Record:
    """With the model quantised as it is."""
    assert record.bench is not None and record.whole is not None
    spending = record.spending
    if not spending.left.left:
        return _left_out(record, "quantising without quant_pre_process untried")
    most = spending.most_samples
    found = measure_unprepared(record.bench, split_of(record), record.whole.errors, progress, most)
    return replace(record, facts=record.facts.quantised_unprepared(found))


def fill_prove(record: Record, progress: Progress) -> Record:
    """With every claim and cure tested."""
    assert record.bench is not None
    divided, seen = split_of(record), record.facts.observations
    assert seen is not None
    proof = prove(
        record.bench,
        record.judged,
        divided.for_ranges,
        progress,
        record.alone,
        record.spending,
        seen.samples,
    )
    findings = tuple(restored(proof.findings, record.rules, record.config))
    record = replace(record, proof=replace(proof, findings=findings))
    return _left_out(record, f"{_counted(proof.open, 'claim')} untested") if proof.open else record


def planners(record: Record) -> Iterator[Planner]:
    """Masks before factors: beside a mask that takes all codes, nothing else shows."""
    unmasked = record.facts.unmasked
    if unmasked is not None and unmasked.candidates and record.facts.calibrated_schemes:
        yield partial(plan_masks, tuple(unmasked.candidates.values()))
    advised = (finding.change for finding in record.findings if finding.counts)
    factors = tuple(dict.fromkeys(change for change in advised if isinstance(change, Rescaling)))
    if factors:
        yield partial(plan_factors, factors)


def fill_rewrite(record: Record, progress: Progress) -> Record:
    """With what rewrites do."""
    assert record.bench is not None and record.whole is not None
    wanted = tuple(planners(record))
    runs = len(record.whole.errors) + _RUNS_BESIDE
    able = record.spending.passes(len(wanted) * runs, _REWRITES_SHARE) // runs
    divided = split_of(record)
    tried = try_rewrites(record.bench, record.whole, wanted[:able], divided, progress, record.labels)
    untried = len(wanted) - able
    record = replace(record, mendings=tried)
    return _left_out(record, f"{_counted(untried, 'rewrite')} untried") if untried else record


def fill_try_remedies(record: Record, progress: Progress) -> Record:
    """With what came of the remedies of findings."""
    bench, findings, data = record.bench, record.findings, record.request.data
    assert bench is not None
    seen = bench.observations
    source = data.source if data is not None and seen is not None else made_up(bench)
    take = partial(source.take, bench.measured.model.inputs)
    findings = try_conversions(bench, findings, partial(take, CONVERSION_SAMPLES))
    findings = with_mendings(findings, record.mendings, judge_of(record))
    if record.whole is not None:
        same, able = split_of(record).for_verdict, record.spending.passes(RANGES_TRIED, _RANGES_SHARE)
        errors, untried = record.whole.errors, max(len(ranges_asked(findings)) - able, 0)
        findings = try_requantisations(bench, findings, errors, judge_of(record), same, progress, able)
        if untried:
            record = _left_out(record, f"{_counted(untried, 'other range')} untried")
    return replace(record, advised=findings)


def fill_leave_in_float(record: Record, progress: Progress) -> Record:
    """With what leaving nodes in float does."""
    judge = judge_of(record)
    schemes = sorted(failing(record, judge), key=lambda scheme: -_left_db(record, scheme))
    able = record.spending.passes(len(schemes) * _RUNS_OF_SEARCH) // _RUNS_OF_SEARCH
    record = replace(record, joint=try_joint_remedies(record, schemes[:able], judge, progress))
    untried = [scheme.name for scheme in schemes[able:]]
    return _left_out(record, f"nodes to leave in float untried for {' and '.join(untried)}") if untried else record


def fill_preview(record: Record, progress: Progress) -> Record:
    """With what `fix` would do."""
    assert record.bench is not None
    return replace(record, mended=mend(record.bench, DEFAULT_REWRITES, split_of(record), progress))


def _left_db(record: Record, scheme: Scheme) -> float:
    """What a scheme leaves of the worst output: the one that leaves most is mended with least."""
    assert record.whole is not None
    left = record.whole.errors[Experiment(scheme)].worst_db
    return math.inf if left is None else left


def _left_out(record: Record, what: str) -> Record:
    return replace(record, left_out=(*record.left_out, what))


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
