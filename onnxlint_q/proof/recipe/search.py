"""The search: what costs nothing first, then other kinds of scales, then finer ones.

Scales a tensor or a channel, where ranges come from, shifted biases, what is quantised beside the layers, and scales
that each run takes for itself leave every layer in int8: the best of these is taken, at the first stage that is good
enough. Else activations of 16 bits and nodes in float are tried, in the order of what they gain for each multiplication
that leaves 8 bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

from onnxlint_q.analysis.experiment import Experiment
from onnxlint_q.analysis.measured import measure
from onnxlint_q.analysis.observed.observers import DEFAULT_OBSERVER
from onnxlint_q.analysis.schemes import Quantizer, Scheme
from onnxlint_q.execute.data.split import Split
from onnxlint_q.execute.limits import Allowance
from onnxlint_q.execute.progress import Progress, silent
from onnxlint_q.execute.session import NotRunnableError
from onnxlint_q.execute.variants.experiment_runs import Errors
from onnxlint_q.execute.variants.output_error import OutputError
from onnxlint_q.execute.variants.variant_runs import run_variants
from onnxlint_q.execute.variants.workbench import Workbench, workbench
from onnxlint_q.proof.costs import measure_costs
from onnxlint_q.proof.mending.biases import correct_biases
from onnxlint_q.proof.probing.plan import multiplications
from onnxlint_q.proof.recipe.goal import Goal
from onnxlint_q.proof.recipe.items import items
from onnxlint_q.proof.recipe.rounding import worthwhile_steps
from onnxlint_q.proof.recipe.share import finer
from onnxlint_q.proof.recipe.stages import has_few_convolutions, stages
from onnxlint_q.proof.recipe.steps import Finer, steps
from onnxlint_q.proof.recipe.telling import telling
from onnxlint_q.proof.whole import Whole
from onnxlint_q.rewrite.bias_correction import Shifts, corrected
from onnxlint_q.rewrite.rounding.steps import Steps, rounded

Networks = Mapping[Scheme, Sequence[Callable[[], Workbench]]]
"""By scheme what may be quantised, that which costs least to run first; made when it is asked for."""
TRIED_OBSERVERS = (DEFAULT_OBSERVER, "percentile", "mse")
"""Where ranges come from: the extremes, all but the outermost values, or what leaves the least noise."""
WORK, FEWEST = 8e9, 8
"""Multiplications of one attempt, which decide how many samples it is fitted to and compared on, and the fewest."""
MOST_STEPS = 96
"""Sets of tensors that may be finer."""
COSTS_SECONDS = 20.0
"""What measuring each tensor alone takes at most, give or take a run."""
# Numbers of steps that are tried side by side, before larger ones are, and those between the last two.
_AT_ONCE, _BETWEEN = 3, 2


@dataclass(frozen=True, eq=False)
class Attempt:
    """One way to quantise the network, and what it leaves of the outputs.

    Attributes:
        scheme: how.
        error: on the samples that were searched on, beside the float model as it was given.
        network: which of those that may be quantised.
        observer: where the ranges of activations come from.
        excluded: names of nodes that stay in float.
        wide: tensors whose codes have 16 bits.
        shifts: by layer, what is added to its bias.
        steps: by layer, how far the codes of its weight are from the nearest ones.
    """

    scheme: Scheme
    error: OutputError
    network: int = 0
    observer: str = DEFAULT_OBSERVER
    excluded: frozenset[str] = frozenset()
    wide: frozenset[str] = frozenset()
    shifts: Shifts = field(default_factory=dict)
    steps: Steps = field(default_factory=dict)

    @property
    def experiment(self) -> Experiment:
        """What of the network is quantised."""
        return Experiment(self.scheme, excluded=self.excluded, wide=self.wide)

    @property
    def without_shifts(self) -> Hashable:
        """The way by itself, with biases as they were."""
        return self.scheme, self.network, self.observer, self.excluded, self.wide, frozenset(self.steps)

    @property
    def worst_db(self) -> float:
        """SQNR of the worst output; infinite where nothing is lost, minus infinity where nothing could be compared."""
        if not self.error.has_signal:
            return -math.inf
        return math.inf if self.error.worst_db is None else self.error.worst_db


@dataclass(frozen=True, eq=False)
class Found:
    """What the search came to.

    Attributes:
        best: the attempt to make.
        reached: whether it reached the goal, on the samples that were searched on.
        attempts: all, in the order in which they were made.
        ranked: the same, the best first: not every one can be written.
        finer: by attempt, fraction of the multiplications that are done in float or in 16 bits.
    """

    best: Attempt
    reached: bool
    attempts: tuple[Attempt, ...]
    ranked: tuple[Attempt, ...]
    finer: Mapping[Attempt, float]


def search(
    given: Workbench,
    networks: Networks,
    goal: Goal,
    split: Split,
    progress: Progress = silent,
    observers: Sequence[str] = TRIED_OBSERVERS,
) -> Found:
    """Find how to quantise a network.

    Args:
        given: the float model that outputs are held against.
        networks: what may be quantised, calibrated; all compute the same. Schemes that are liked most come first.
        goal: what has to be reached.
        split: ranges come from its first samples; attempts are compared on samples behind all that it uses, if there
            are enough, else on some of the first.
        progress: told what is tried.
        observers: ways in which ranges may come from the samples.

    Raises:
        NotRunnableError: ONNX Runtime cannot run the network under any of the schemes.
        DataError: a sample cannot be read.
    """
    return _Search(given, networks, goal, split, progress, observers).through(tuple(networks))


def network_of(network: Workbench, attempt: Attempt) -> Workbench:
    """The network with the weights, biases and ranges of an attempt."""
    measured, schemes = network.measured, network.measured.schemes
    if attempt.steps:
        measured = measure(rounded(measured, attempt.scheme, attempt.steps), schemes)
    if attempt.shifts:
        measured = measure(corrected(measured, attempt.shifts), schemes)
    changed = network if measured is network.measured else workbench(measured, network.limits)
    return replace(changed, observations=network.observations, observer=attempt.observer, ranges=network.ranges)


class _Search:
    def __init__(
        self,
        given: Workbench,
        networks: Networks,
        goal: Goal,
        split: Split,
        progress: Progress,
        observers: Sequence[str],
    ) -> None:
        self.given = given
        self.networks = networks
        self.made: dict[tuple[Scheme, int], Workbench] = {}
        self.goal = goal
        self.progress = progress
        self.observers = observers
        self.attempts: list[Attempt] = []
        self.corrected: set[Hashable] = set()
        self.rounded: set[Hashable] = set()
        self.shares: dict[Attempt, float] = {}
        shapes = {name: array.shape for name, array in next(iter(split.for_ranges())).items()}
        self.each = multiplications(given.measured, shapes)
        fit = int(WORK / max(sum(self.each.values()), 1.0))
        self.split = split.with_search(min(max(fit, FEWEST), split.calibrating), FEWEST)

    def through(self, schemes: Sequence[Scheme]) -> Found:
        few = has_few_convolutions(self.given.measured, self.each)
        for stage in stages({scheme: len(self.networks[scheme]) for scheme in schemes}, cheap_dynamic=few):
            having = [scheme for scheme in stage.schemes if self._differs(scheme, stage.number)]
            self._try(
                Attempt(scheme, _NOTHING, stage.number, observer)
                for scheme in having
                for observer in (self.observers if scheme.is_calibrated else self.observers[:1])
            )
            tried = filter(None, (self._best([scheme], stage.number) for scheme in having))
            for attempt in tuple(tried):
                self._correct(attempt)
            if self._is_done(stage.schemes):
                return self._found()
            for attempt in filter(None, [self._best([scheme], stage.number) for scheme in having]):
                self._round(attempt)
            if self._is_done(stage.schemes):
                return self._found()
        # Of schemes with the same kind of scales the better one is refined: the others would take more.
        kinds = dict.fromkeys(scheme.quantizer for scheme in schemes if scheme.quantizer is not Quantizer.BLOCKS)
        best = (self._best([one for one in schemes if one.quantizer is kind]) for kind in kinds)
        for attempt in sorted(filter(None, best), key=lambda one: -one.worst_db):
            self._refine(attempt)
            if any(self.goal.reached(one.error) for one in self.attempts):
                break
        return self._found()

    def finer(self, attempt: Attempt) -> float:
        """Fraction of the multiplications that are not done in 8 bits or fewer."""
        if attempt not in self.shares:
            self.shares[attempt] = finer(self._network(attempt).measured, self.each, attempt.experiment)
        return self.shares[attempt]

    def _is_done(self, schemes: Sequence[Scheme]) -> bool:
        return any(self.goal.satisfied(one.error) for one in self.attempts if one.scheme in schemes)

    def _network(self, attempt: Attempt) -> Workbench:
        """The network of an attempt, with biases and ranges as they were."""
        return self._made(attempt.scheme, attempt.network)

    def _made(self, scheme: Scheme, number: int) -> Workbench:
        key = scheme, number
        if key not in self.made:
            self.made[key] = self.networks[scheme][number]()
        return self.made[key]

    def _differs(self, scheme: Scheme, number: int) -> bool:
        """Whether a scheme has a network of this number that is not the one before it again."""
        if number == 0 or number >= len(self.networks[scheme]):
            return number < len(self.networks[scheme])
        before, after = (self._made(scheme, one).measured.model.proto for one in (number - 1, number))
        return before != after

    def _best(self, schemes: Sequence[Scheme], number: int | None = None) -> Attempt | None:
        """The best attempt so far with one of these schemes, on the network of this number or on any."""
        fitting = [one for one in self.attempts if one.scheme in schemes and number in {None, one.network}]
        return max(fitting, key=lambda one: one.worst_db, default=None)

    def _found(self) -> Found:
        if not self.attempts:
            raise NotRunnableError("none of the schemes quantises anything in it")
        ranked = sorted(self.attempts, key=self._worth, reverse=True)
        reached = self.goal.reached(ranked[0].error)
        return Found(ranked[0], reached, tuple(self.attempts), tuple(ranked), {one: self.finer(one) for one in ranked})

    def _try(self, wanted: Iterable[Attempt]) -> Sequence[Attempt]:
        """Run attempts, each that can be run; one that was made before is not made again."""
        known = {one.without_shifts: one for one in self.attempts if not one.shifts}
        again: list[Attempt] = []
        benches: dict[Attempt, Workbench] = {}
        for attempt in wanted:
            if not attempt.shifts and attempt.without_shifts in known:
                again.append(known[attempt.without_shifts])
            else:
                benches[attempt] = network_of(self._network(attempt), attempt)
        runs = {one: bench for one, bench in benches.items() if bench.can_run(one.experiment)}
        self.progress("searching for a recipe", 0, 0)
        variants = {one: (lambda one=one, bench=bench: bench.executable(one.experiment)) for one, bench in runs.items()}
        counted = Allowance(samples=self.split.searched)
        errors = run_variants(self.given, variants, self.split.for_search, self.progress, counted)
        made = [replace(one, error=error) for one, error in errors.items()]
        self.attempts += made
        return [*again, *made]

    def _correct(self, attempt: Attempt | None) -> None:
        """The same attempt with biases that take up the mean error of each layer, where that helps."""
        if attempt is None or not attempt.scheme.is_calibrated or attempt.without_shifts in self.corrected:
            return
        self.corrected.add(attempt.without_shifts)
        network = network_of(self._network(attempt), attempt)
        correction = correct_biases(network, attempt.experiment, self.split, self.progress)
        if correction.shifts:
            self._try([replace(attempt, shifts=correction.shifts)])

    def _round(self, attempt: Attempt) -> None:
        """The same attempt with weights whose errors make up for each other, where weights make much of the noise."""
        plain = replace(attempt, shifts={})
        if attempt.steps or plain.without_shifts in self.rounded:
            return
        self.rounded.add(plain.without_shifts)
        whole = next(one for one in self.attempts if one.without_shifts == plain.without_shifts and not one.shifts)
        network = network_of(self._network(plain), plain)
        steps = worthwhile_steps(self.given, network, plain.experiment, whole.error, self.split, self.progress)
        if steps:
            for made in self._try([replace(plain, steps=steps)]):
                self._correct(made)

    def _refine(self, attempt: Attempt) -> None:
        """The same scheme with finer codes where that gains most for its price."""
        bench, scheme = replace(self._network(attempt), observer=attempt.observer), attempt.scheme
        whole = Whole({attempt.experiment: attempt.error})
        samples, count = telling(self.given, self.split.for_search)
        costs = measure_costs(
            bench, whole, [scheme], samples, progress=self.progress, seconds=COSTS_SECONDS, count=count
        )
        attempt = replace(attempt, shifts={})
        self._plan(attempt, costs.errors, wide=True)
        if scheme.is_calibrated and not any(self.goal.reached(one.error) for one in self.attempts):
            self._plan(attempt, costs.errors, wide=False)

    def _plan(self, attempt: Attempt, costs: Errors, *, wide: bool) -> None:
        """Growing numbers of steps, then some between the last that does not satisfy and the first that does.

        Args:
            attempt: with codes of 8 bits everywhere, and biases as they were.
            costs: the error of each tensor alone.
            wide: activations get 16 bits; else nodes stay in float for them, where 16 bits are not enough.
        """
        bench, total = self._network(attempt), sum(self.each.values()) or 1.0
        shares = {layer: count / total for layer, count in self.each.items()}
        found = steps(items(bench, attempt.scheme, costs, wide=wide), shares, self.goal.most_finer)
        wanted = [self._finer_by(attempt, one) for one in islice(found, MOST_STEPS)]
        allowed = [one for one in wanted if self.finer(one) <= self.goal.most_finer]
        made: dict[int, Attempt] = {}
        numbers = sorted({*(1 << power for power in range(len(allowed).bit_length())), len(allowed)} - {0})
        for start in range(0, len(numbers), _AT_ONCE):
            made |= self._prefixes(allowed, numbers[start : start + _AT_ONCE])
            if any(self.goal.satisfied(one.error) for one in made.values()):
                break
        if not made:
            return
        first = self._fewest(made)
        failing = max((number for number in made if number < first), default=0)
        between = {failing + (first - failing) * part // (_BETWEEN + 1) for part in range(1, _BETWEEN + 1)}
        made |= self._prefixes(allowed, sorted(between - {0, *made}))
        first = self._fewest(made)
        # Shifted biases may make up for the last of the steps. Those of other steps do harm: each follows the others.
        failing = max((number for number in made if number < first), default=first)
        for number in dict.fromkeys((first, failing)):
            self._correct(made[number])

    def _finer_by(self, attempt: Attempt, step: Finer) -> Attempt:
        """The attempt with what a step and those before it make finer, as far as that still has a scale."""
        measured = self._network(attempt).measured
        left = {place.like for place in measured.placements_under(attempt.scheme, step.excluded)}
        names = {layer.output: layer.node.name for layer in measured.layers}
        steps = {layer: moved for layer, moved in attempt.steps.items() if names[layer] not in step.excluded}
        return replace(attempt, wide=step.wide & left, excluded=step.excluded, steps=steps)

    def _prefixes(self, allowed: Sequence[Attempt], numbers: Sequence[int]) -> dict[int, Attempt]:
        """The attempts with so many steps, as far as they can be run."""
        wanted = {number: allowed[number - 1] for number in numbers}
        made = {(one.wide, one.excluded): one for one in self._try(wanted.values())}
        found = {number: made.get((one.wide, one.excluded)) for number, one in wanted.items()}
        return {number: one for number, one in found.items() if one is not None}

    def _fewest(self, made: Mapping[int, Attempt]) -> int:
        """The smallest number of steps that satisfies, or else the one that is worth most."""
        enough = [number for number, one in made.items() if self.goal.satisfied(one.error)]
        return min(enough) if enough else max(made, key=lambda number: self._worth(made[number]))

    def _worth(self, attempt: Attempt) -> tuple[float, ...]:
        return self.goal.worth(attempt.error, self.finer(attempt), attempt.network)


_NOTHING = OutputError(None, None, has_signal=False, samples=0)
