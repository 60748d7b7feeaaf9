"""The search: what costs nothing first, then other kinds of scales, then finer ones.

Scales a tensor or a channel, where ranges come from, shifted biases, what is quantised beside the layers, and scales
that each run takes for itself leave every layer in int8: the best of these is taken, at the first stage that is good
enough. Else 16 bits for growing numbers of activations are tried, and nodes in float.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from onnxlint_q.analysis.experiment import Experiment
from onnxlint_q.analysis.measured import measure
from onnxlint_q.analysis.observed.costs import SchemeCosts
from onnxlint_q.analysis.observed.observers import DEFAULT_OBSERVER
from onnxlint_q.analysis.schemes import Quantizer, Scheme
from onnxlint_q.execute.data.split import Split
from onnxlint_q.execute.progress import Progress, silent
from onnxlint_q.execute.session import NotRunnableError
from onnxlint_q.execute.variants.output_error import OutputError
from onnxlint_q.execute.variants.variant_runs import run_variants
from onnxlint_q.execute.variants.workbench import Workbench, workbench
from onnxlint_q.finding import Subject
from onnxlint_q.proof.costs import measure_costs
from onnxlint_q.proof.joint_remedy import FLOAT_SHARE, try_joint_remedy
from onnxlint_q.proof.mending.biases import correct_biases
from onnxlint_q.proof.probing.plan import multiplications
from onnxlint_q.proof.recipe.goal import Goal
from onnxlint_q.proof.recipe.share import finer
from onnxlint_q.proof.recipe.stages import has_few_convolutions, stages
from onnxlint_q.proof.whole import Whole
from onnxlint_q.rewrite.bias_correction import Shifts, corrected

Networks = Mapping[Scheme, Sequence[Callable[[], Workbench]]]
"""By scheme what may be quantised, that which costs least to run first; made when it is asked for."""
TRIED_OBSERVERS = (DEFAULT_OBSERVER, "percentile", "mse")
"""Where ranges come from: the extremes, all but the outermost values, or what leaves the least noise."""
WORK, FEWEST = 8e9, 8
"""Multiplications of one run of an attempt, which decide on how many samples attempts are compared, and the fewest."""
MOST_WIDE = 32
"""Activations that may have 16 bits."""
# Sets of them that are tried side by side, before more are.
_AT_ONCE = 3


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
    """

    scheme: Scheme
    error: OutputError
    network: int = 0
    observer: str = DEFAULT_OBSERVER
    excluded: frozenset[str] = frozenset()
    wide: frozenset[str] = frozenset()
    shifts: Shifts = field(default_factory=dict)

    @property
    def experiment(self) -> Experiment:
        """What of the network is quantised."""
        return Experiment(self.scheme, excluded=self.excluded, wide=self.wide)

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
    """

    best: Attempt
    reached: bool
    attempts: tuple[Attempt, ...]


def search(
    given: Workbench,
    networks: Networks,
    goal: Goal,
    split: Split,
    progress: Progress = silent,
) -> Found:
    """Find how to quantise a network.

    Args:
        given: the float model that outputs are held against.
        networks: what may be quantised, calibrated; all compute the same. Schemes that are liked most come first.
        goal: what has to be reached.
        split: ranges come from its first samples, and attempts are compared on them.
        progress: told what is tried.

    Raises:
        NotRunnableError: ONNX Runtime cannot run the network under any of the schemes.
        DataError: a sample cannot be read.
    """
    return _Search(given, networks, goal, split, progress).through(tuple(networks))


def network_of(network: Workbench, attempt: Attempt) -> Workbench:
    """The network with the biases and ranges of an attempt."""
    bench = replace(network, observer=attempt.observer)
    if not attempt.shifts:
        return bench
    shifted = workbench(measure(corrected(network.measured, attempt.shifts), network.measured.schemes), network.limits)
    return replace(shifted, observations=network.observations, observer=attempt.observer, ranges=network.ranges)


class _Search:
    def __init__(self, given: Workbench, networks: Networks, goal: Goal, split: Split, progress: Progress) -> None:
        self.given = given
        self.networks = networks
        self.made: dict[tuple[Scheme, int], Workbench] = {}
        self.goal = goal
        self.progress = progress
        self.attempts: list[Attempt] = []
        shapes = {name: array.shape for name, array in next(iter(split.for_ranges())).items()}
        self.each = multiplications(given.measured, shapes)
        fit = int(WORK / max(sum(self.each.values()), 1.0))
        self.split = replace(split, searching=min(max(fit, FEWEST), split.calibrating))

    def through(self, schemes: Sequence[Scheme]) -> Found:
        few = has_few_convolutions(self.given.measured, self.each)
        for stage in stages({scheme: len(self.networks[scheme]) for scheme in schemes}, cheap_dynamic=few):
            self._try(
                Attempt(scheme, _NOTHING, stage.number, observer)
                for scheme in stage.schemes
                for observer in (TRIED_OBSERVERS if scheme.is_calibrated else TRIED_OBSERVERS[:1])
            )
            for scheme in stage.schemes:
                self._correct(self._best([scheme], number=stage.number))
            if self._is_done(stage.schemes):
                return self._found()
        # Of schemes with the same kind of scales the better one is refined: the others would take more.
        kinds = dict.fromkeys(scheme.quantizer for scheme in schemes if scheme.quantizer is not Quantizer.BLOCKS)
        plain = (self._best([one for one in schemes if one.quantizer is kind], plain=True) for kind in kinds)
        for attempt in sorted(filter(None, plain), key=lambda one: -one.worst_db):
            self._refine(attempt)
            if any(self.goal.reached(one.error) for one in self.attempts):
                break
        return self._found()

    def finer(self, attempt: Attempt) -> float:
        """Fraction of the multiplications that are not done in 8 bits or fewer."""
        return finer(self._network(attempt).measured, self.each, attempt.experiment)

    def _is_done(self, schemes: Sequence[Scheme]) -> bool:
        return any(self.goal.reached(one.error) for one in self.attempts if one.scheme in schemes)

    def _network(self, attempt: Attempt) -> Workbench:
        """The network of an attempt, with biases and ranges as they were."""
        key = attempt.scheme, attempt.network
        if key not in self.made:
            self.made[key] = self.networks[attempt.scheme][attempt.network]()
        return self.made[key]

    def _best(self, schemes: Sequence[Scheme], *, plain: bool = False, number: int | None = None) -> Attempt | None:
        """The best attempt so far with one of these schemes.

        Args:
            schemes: which.
            plain: biases are what they were.
            number: of the network; None for any.
        """
        fitting = [one for one in self.attempts if one.scheme in schemes and not (plain and one.shifts)]
        fitting = [one for one in fitting if number in {None, one.network}]
        return max(fitting, key=lambda one: one.worst_db, default=None)

    def _found(self) -> Found:
        if not self.attempts:
            raise NotRunnableError("none of the schemes quantises anything in it")
        good = [one for one in self.attempts if self.goal.reached(one.error)]

        def worth(one: Attempt) -> tuple[float, ...]:
            return (-self.finer(one), -one.network, one.worst_db) if good else (one.worst_db,)

        best = max(good or self.attempts, key=worth)
        return Found(best, bool(good), tuple(self.attempts))

    def _try(self, wanted: Iterable[Attempt]) -> None:
        """Run attempts, each that can be run."""
        benches = {attempt: network_of(self._network(attempt), attempt) for attempt in wanted}
        runs = {one: bench for one, bench in benches.items() if bench.can_run(one.experiment)}
        self.progress("searching for a recipe", 0, 0)
        variants = {one: (lambda one=one, bench=bench: bench.executable(one.experiment)) for one, bench in runs.items()}
        errors = run_variants(self.given, variants, self.split.for_search, self.progress)
        self.attempts += [replace(one, error=error) for one, error in errors.items()]

    def _correct(self, attempt: Attempt | None) -> None:
        """The same attempt with biases that take up the mean error of each layer, where that helps."""
        if attempt is None or not attempt.scheme.is_calibrated:
            return
        network = network_of(self._network(attempt), attempt)
        correction = correct_biases(network, attempt.experiment, self.split, self.progress)
        if correction.shifts:
            self._try([replace(attempt, shifts=correction.shifts)])

    def _refine(self, attempt: Attempt | None) -> None:
        """The same scheme with finer codes where it costs most: first 16 bits for activations, then nodes in float."""
        if attempt is None:
            return
        bench, scheme = network_of(self._network(attempt), attempt), attempt.scheme
        whole = Whole({attempt.experiment: attempt.error})
        costs = measure_costs(
            bench, whole, [scheme], self.split.for_search, progress=self.progress, count=self.split.searching
        )
        if scheme.is_calibrated:
            self._widen(attempt, costs.by_scheme[scheme.name])
            if self._is_done([scheme]):
                return
        trial = try_joint_remedy(
            bench,
            scheme,
            attempt.error,
            costs.errors,
            self.goal.verdict,
            (self.split.for_search, self.split.for_search),
            self.progress,
        )
        if trial.nodes:
            self._settle([replace(attempt, excluded=frozenset(trial.nodes))])

    def _widen(self, attempt: Attempt, costs: SchemeCosts) -> None:
        """16 bits for growing numbers of the activations that cost most, as far as a part of the network goes."""
        ordered = sorted(costs.tensors, key=lambda cost: cost.sqnr_db)
        tensors = [cost.tensor for cost in ordered if cost.kind is Subject.ACTIVATION][:MOST_WIDE]
        wanted = [
            replace(attempt, wide=frozenset(tensors[:number]))
            for number in (1 << power for power in range(len(tensors).bit_length()))
        ]
        wanted = [one for one in wanted if self.finer(one) <= FLOAT_SHARE]
        for start in range(0, len(wanted), _AT_ONCE):
            self._settle(wanted[start : start + _AT_ONCE])
            if self._is_done([attempt.scheme]):
                return

    def _settle(self, wanted: Sequence[Attempt]) -> None:
        """Run attempts, and shift the biases of the cheapest that reaches the goal, or of the best."""
        before = len(self.attempts)
        self._try(wanted)
        made = self.attempts[before:]
        good = [one for one in made if self.goal.reached(one.error)]
        if good:
            self._correct(min(good, key=self.finer))
        elif made:
            self._correct(max(made, key=lambda one: one.worst_db))


_NOTHING = OutputError(None, None, has_signal=False, samples=0)
