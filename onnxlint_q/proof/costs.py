"""What each weight and each activation alone costs the output, under schemes that the network does not survive."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from onnxlint_q.analysis.experiment import Experiment
from onnxlint_q.analysis.observed.costs import SchemeCosts, TensorCost
from onnxlint_q.analysis.schemes import SCHEMES, Scheme
from onnxlint_q.execute.limits import Allowance
from onnxlint_q.execute.progress import Progress, silent
from onnxlint_q.execute.variants.experiment_runs import Errors, run_experiments
from onnxlint_q.execute.variants.output_error import OutputError
from onnxlint_q.execute.variants.variant_runs import Samples
from onnxlint_q.execute.variants.workbench import Workbench
from onnxlint_q.finding import Subject
from onnxlint_q.proof.sensitivity import layer_experiments
from onnxlint_q.proof.whole import Whole

Tensor = tuple[Subject, str]
COSTS_SECONDS = 60.0
"""What all of it takes at most, give or take a run."""
# The parts of it that running every tensor on more than one sample may take, and running the most costly ones on all.
_EVERY, _AGAIN = 0.6, 0.3
_FIRST_PART = 32


@dataclass(frozen=True, eq=False)
class Costs:
    """What the runs showed.

    Attributes:
        by_scheme: by name of the scheme.
        errors: of each tensor alone, on the samples that ranges were taken from.
        notes: what the time did not reach, in words.
    """

    by_scheme: Mapping[str, SchemeCosts] = field(default_factory=dict)
    errors: Errors = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def cost_db(error: OutputError) -> float | None:
    """SQNR (dB) of the worst output: infinite where the outputs are identical, None where there is none."""
    if not error.has_signal:
        return None
    return math.inf if error.worst_db is None else error.worst_db


def measure_costs(
    bench: Workbench,
    whole: Whole,
    lost: Sequence[Scheme],
    samples: Samples,
    known: Errors | None = None,
    progress: Progress = silent,
    seconds: float = COSTS_SECONDS,
    count: int | None = None,
    *,
    total: int | None = None,
    allowance: Allowance | None = None,
    why: str = "",
    foreseen: Mapping[Experiment, float] | None = None,
) -> Costs:
    """Quantise every weight and every activation alone.

    Each runs on as many samples as a part of the time allows, and on one in any case. The tensors that then make up
    most of the noise run on all samples, as far as the rest of it reaches.

    Args:
        bench: the network, with the ranges of its activations.
        whole: what the schemes leave of its outputs.
        lost: those that it does not survive.
        samples: those that ranges were taken from.
        known: what was measured on all of these samples already; it is not run again.
        progress: told how many tensors are done.
        seconds: after which all is over.
        count: how many samples there are, where they are not all that ranges were taken from.
        total: how many samples a note speaks of, where these are but a part of them.
        allowance: of time, in place of the seconds.
        why: it ends then, in words; empty for the time itself.
        foreseen: what each is thought to cost: the most costly ones run first.

    Raises:
        NotRunnableError: ONNX Runtime cannot load or run the folded model.
        DataError: a sample cannot be read.
    """
    if not lost:
        return Costs()
    assert bench.observations is not None
    limit = seconds
    count, allowance = count or bench.observations.samples, allowance or Allowance(seconds)
    seconds = allowance.left
    alone = {scheme: _alone(bench, scheme) for scheme in lost}
    every = list(dict.fromkeys(one for tensors in alone.values() for one in tensors.values()))
    every += [one for one in layer_experiments(bench) if one.scheme in alone and _is_left(bench, one)]
    errors = {one: known[one] for one in every if known and one in known}
    first = allowance.part(seconds, count, _EVERY * seconds)
    parts = list(_parts([one for one in every if one not in errors], foreseen or {}))
    for number, part in enumerate(parts):
        if first.left <= first.least or (number and not first.shared):
            break
        share = len(part) / sum(map(len, parts[number:]))
        own = first.part(first.left, count, share * first.shared)
        errors |= run_experiments(bench, part, samples, progress, own)

    def table() -> Mapping[Scheme, SchemeCosts]:
        return {scheme: _costs(scheme, alone[scheme], errors, whole) for scheme in lost}

    most = [alone[scheme][cost.kind, cost.tensor] for scheme, costs in table().items() for cost in costs.most()]
    again = [one for one in most if errors[one].samples < count]
    left = allowance.part(seconds, count, _AGAIN * seconds)
    for one, error in run_experiments(bench, again, samples, progress, left).items():
        if error.samples > errors[one].samples:
            errors[one] = error
    if whole.held_out:
        known_costs = table().items()
        unexplained = [Experiment(scheme) for scheme, costs in known_costs if not (costs.explained or costs.missing)]
        errors |= run_experiments(bench, unexplained, samples, progress, allowance.part(seconds, count))
    return Costs(
        {scheme.name: costs for scheme, costs in table().items()},
        errors,
        tuple(_cut_short(every, errors, total or count, why or f"the time limit for all is {limit:g} s")),
    )


def _parts(every: Sequence[Experiment], foreseen: Mapping[Experiment, float]) -> Iterator[Sequence[Experiment]]:
    """The most costly ones first, in parts of growing size, so that time which runs out leaves the others out.

    Experiments that come to the same run are in one part.
    """
    alike: dict[Experiment, list[Experiment]] = {}
    for one in every:
        alike.setdefault(one.essence, []).append(one)
    listed = sorted(alike.values(), key=lambda same: -max(foreseen.get(one, 0.0) for one in same))
    start, size = 0, _FIRST_PART
    while start < len(listed):
        yield [one for same in listed[start : start + size] for one in same]
        start, size = start + size, 2 * size


def refined(costs: SchemeCosts, errors: Errors) -> SchemeCosts:
    """The same tensors with the figures of runs on more samples, where there are any."""
    return replace(costs, tensors=tuple(_refined(cost, errors) for cost in costs.tensors))


def _refined(cost: TensorCost, errors: Errors) -> TensorCost:
    made = Experiment.on_weight if cost.kind is Subject.WEIGHT else Experiment.on_activation
    error = errors.get(made(SCHEMES[cost.scheme], cost.tensor))
    sqnr_db = cost_db(error) if error is not None and error.samples > cost.samples else None
    return cost if error is None or sqnr_db is None else replace(cost, sqnr_db=sqnr_db, samples=error.samples)


def _alone(bench: Workbench, scheme: Scheme) -> Mapping[Tensor, Experiment]:
    """Every tensor that the bench can quantise alone under a scheme, in data order, a weight before its result."""
    layers = bench.measured.layers
    weights = (layer.output for layer in layers if scheme.quantises(layer.folded.layer))
    activations = (place.tensor for place in bench.measured.placements_under(scheme) if not place.constant)
    found = {(Subject.WEIGHT, layer): Experiment.on_weight(scheme, layer) for layer in weights}
    found |= {(Subject.ACTIVATION, tensor): Experiment.on_activation(scheme, tensor) for tensor in activations}
    places = {tensor: bench.starts_at(one) for tensor, one in found.items() if bench.can_run(one)}
    last = len(bench.computed)
    ordered = sorted(places, key=lambda tensor: last if (place := places[tensor]) is None else place)
    return {tensor: found[tensor] for tensor in ordered}


def _is_left(bench: Workbench, one: Experiment) -> bool:
    """Whether it is on a weight alone that the quantiser leaves in float: a figure, but no noise of the scheme."""
    layers = [bench.measured.layer_by_output[key].folded.layer for key in one.weights]
    return bool(layers) and not one.activations and not any(map(one.scheme.quantises, layers))


def _costs(scheme: Scheme, alone: Mapping[Tensor, Experiment], errors: Errors, whole: Whole) -> SchemeCosts:
    found = tuple(_found(scheme, alone, errors))
    whole_db, fitted = cost_db(whole.errors[Experiment(scheme)]), errors.get(Experiment(scheme))
    return SchemeCosts(
        scheme.name,
        math.inf if whole_db is None else whole_db,
        found,
        len(alone) - len(found),
        cost_db(fitted) if fitted is not None else None,
    )


def _found(scheme: Scheme, alone: Mapping[Tensor, Experiment], errors: Errors) -> Iterator[TensorCost]:
    for (kind, tensor), one in alone.items():
        error = errors.get(one)
        sqnr_db = cost_db(error) if error is not None else None
        if error is not None and sqnr_db is not None:
            yield TensorCost(tensor, kind, scheme.name, sqnr_db, error.samples)


def _cut_short(every: Sequence[Experiment], errors: Errors, count: int, why: str) -> Iterator[str]:
    runs = {one.essence: errors.get(one) for one in every}
    missing = sum(error is None for error in runs.values())
    fewer = [error.samples for error in runs.values() if error is not None and error.samples < count]
    if missing:
        yield f"{missing} of {len(runs)} tensors were not measured alone: {why}"
    if fewer:
        yield (
            f"to save time, {len(fewer)} of {len(runs)} tensors were measured alone on fewer samples: at least "
            f"{min(fewer)} of {count}; the verdicts use all"
        )
