"""The joint remedy of a scheme: nodes that are left in float together, tried as a whole.

Tensors are freed in the order of what each costs the output alone, the worst first. Growing numbers of them are tried
on the calibration samples, the number is refined between the last that fails and the first that survives, and what
turns out to help nothing is taken back. What is left is measured on the samples that the verdict is measured on, beside
the scheme without it.

Only a part of the network is left in float: what quantises well with a quarter of it in float is another network.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from onnxlint_q.analysis.experiment import Experiment
from onnxlint_q.analysis.freeing import Freeing
from onnxlint_q.analysis.measured import Measured
from onnxlint_q.analysis.placement import is_quantized
from onnxlint_q.analysis.schemes import Scheme
from onnxlint_q.execute.limits import Allowance
from onnxlint_q.execute.progress import Progress, silent
from onnxlint_q.execute.variants.experiment_runs import Errors, run_experiments
from onnxlint_q.execute.variants.output_error import OutputError, OutputFigures
from onnxlint_q.execute.variants.variant_runs import Samples
from onnxlint_q.execute.variants.workbench import Workbench
from onnxlint_q.graph import Node
from onnxlint_q.graph.names import ROOT
from onnxlint_q.judge.verdict import GAIN_DB, Judge, Verdict

FLOAT_SHARE = 0.25
"""Fraction of the layers, and of all quantised operators, that a remedy leaves in float at most."""
MARGIN_DB = 0.5
"""What it has in hand on the samples it was chosen on, because it is judged on others; nobody would notice less."""
MOST_TENSORS = 48
"""Tensors that cost most alone, and may be freed."""
SEARCH_SECONDS = 60.0
"""Time for the search, of one scheme."""
FEWEST = 4
"""Samples that each step of the search runs on in any case, as long as there is time."""
# Of a small network as many in any case: a layer and the one that reads it, with what may stand between.
_LAYERS_ALWAYS, _NODES_ALWAYS = 2, 4
# Runs between the last number of tensors that fails and the first that survives, and runs without a part of them.
_BETWEEN, _WITHOUT = 2, 3

Step = tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class JointTrial:
    """What leaving nodes in float does for a scheme, both measured on the same samples.

    Attributes:
        nodes: their names, as a list for ONNX Runtime; empty where none could be tried.
        before, after: the error at the outputs without and with it.
        unnamed: how many of the tensors that cost most cannot be freed, because nodes beside them have no name.
        verdict: on `after`.
    """

    scheme: Scheme
    nodes: tuple[str, ...]
    before: OutputError
    after: OutputError
    unnamed: int = 0
    verdict: Verdict | None = None

    @property
    def helps(self) -> bool:
        """Whether it gains what a remedy gains at least, and does not leave a model that breaks."""
        if self.verdict is Verdict.BREAKS:
            return False
        before_db = self.before.worst_db
        return self.after.has_signal and before_db is not None and _worst_db(self.after) - before_db >= GAIN_DB


def _worst_db(error: OutputError) -> float:
    """SQNR of the worst output; infinite where nothing is lost."""
    return error.worst_db if error.worst_db is not None else math.inf


def try_joint_remedy(
    bench: Workbench,
    scheme: Scheme,
    before: OutputError,
    costs: Errors,
    judge: Judge,
    samples: tuple[Samples, Samples],
    progress: Progress = silent,
    seconds: Allowance | None = None,
) -> JointTrial:
    """The nodes to leave in float under a scheme that does not survive, and what that does.

    Args:
        bench: calibrated.
        scheme: which.
        before: its error on the second samples.
        costs: what each tensor costs alone.
        judge: the verdict on an error.
        samples: those to search on, and those to measure on what was found.
        progress: told how far the search is.
        seconds: what the search may take; None for what is usual.

    Raises:
        NotRunnableError: ONNX Runtime cannot run the folded model.
        DataError: a sample cannot be read.
    """
    searched, judged = samples
    measured = bench.measured
    freed = [_freed(measured, experiment) for experiment in _by_cost(measured, scheme, costs)[:MOST_TENSORS]]
    steps = tuple(_steps(measured, [entry for entry in freed if not entry.unnamed]))
    nodes = _Search(bench, scheme, judge, searched, progress, seconds).best(steps)
    names = measured.freer_under(scheme).names(nodes)
    whole = Experiment(scheme, excluded=frozenset(names))
    errors = run_experiments(bench, [whole], judged, progress) if names else {}
    after = errors.get(whole, before)
    return JointTrial(scheme, names, before, after, sum(bool(entry.unnamed) for entry in freed), judge(after))


def _by_cost(measured: Measured, scheme: Scheme, costs: Errors) -> list[Experiment]:
    """The experiments on single tensors under a scheme that cost anything, the worst first."""
    alone = {
        experiment: _worst_db(error)
        for experiment, error in costs.items()
        if experiment.scheme == scheme
        and error.has_signal
        and error.sqnr_db is not None
        and _is_on_one(measured, experiment)
    }
    return sorted(alone, key=lambda experiment: alone[experiment])


def _is_on_one(measured: Measured, experiment: Experiment) -> bool:
    """Whether it is on one tensor that the quantiser gives codes."""
    if experiment.weights == "all" or experiment.activations == "all":
        return False
    layers = [measured.layer_by_output[key].folded.layer for key in experiment.weights]
    return len(layers) + len(experiment.activations) == 1 and all(map(experiment.scheme.quantises, layers))


def _steps(measured: Measured, freed: Iterable[Freeing]) -> Iterator[Step]:
    """The nodes that each tensor needs excluded beyond those before it, as far as the network may stay in float.

    A tensor that would go too far is left out.
    """
    layers = {layer.node for layer in measured.layers}
    quantised = sum(is_quantized(node) for node in measured.model.nodes if node.graph == ROOT)
    most_layers = max(FLOAT_SHARE * len(layers), _LAYERS_ALWAYS)
    most_nodes = max(FLOAT_SHARE * quantised, _NODES_ALWAYS)
    chosen: set[Node] = set()
    for entry in freed:
        fresh = tuple(node for node in entry.nodes if node not in chosen)
        together = chosen.union(fresh)
        if fresh and len(together & layers) <= most_layers and len(together) <= most_nodes:
            chosen = together
            yield fresh


def _freed(measured: Measured, experiment: Experiment) -> Freeing:
    freer = measured.freer_under(experiment.scheme)
    for layer in experiment.weights:
        return freer.weight(layer)
    return freer.activation(next(iter(experiment.activations)))


class _Search:
    """Whole runs of one scheme, and what follows from them."""

    def __init__(
        self,
        bench: Workbench,
        scheme: Scheme,
        judge: Judge,
        samples: Samples,
        progress: Progress,
        allowance: Allowance | None,
    ) -> None:
        self.bench = bench
        self.scheme = scheme
        self.judge = judge
        self.samples = samples
        self.progress = progress
        self.allowance = allowance or Allowance(SEARCH_SECONDS, fewest=FEWEST)

    def best(self, steps: Sequence[Step]) -> tuple[Node, ...]:
        """The nodes of the fewest steps that make the scheme survive, or else help most; empty where nothing ran."""
        numbers = sorted({*(1 << power for power in range(len(steps).bit_length())), len(steps)} - {0})
        errors = self._prefixes(steps, numbers)
        if not errors:
            return ()
        first = self._fewest(errors)
        failing = max((number for number in errors if number < first), default=0)
        between = sorted({failing + (first - failing) * part // (_BETWEEN + 1) for part in range(1, _BETWEEN + 1)})
        errors |= self._prefixes(steps, [number for number in between if number not in {0, *errors}])
        number = self._fewest(errors)
        return self._without_idle(steps[:number], errors[number])

    def _fewest(self, errors: Mapping[int, OutputError]) -> int:
        """The smallest number with which the scheme survives, or else is about as good as with any."""
        surviving = [number for number, error in errors.items() if self._survives(error)]
        best = max(map(_worst_db, errors.values()))
        return min(surviving or [number for number, error in errors.items() if _worst_db(error) > best - GAIN_DB])

    def _without_idle(self, steps: Sequence[Step], error: OutputError) -> tuple[Node, ...]:
        """The nodes of these steps but for parts without which the result is as good."""
        size = math.ceil(len(steps) / _WITHOUT)
        parts = [steps[start : start + size] for start in range(0, len(steps), size)]
        nodes = {node for step in steps for node in step}
        rests = [frozenset(nodes.difference(*part)) for part in parts]
        errors = self._run(rest for rest in rests if rest)
        idle = [rest for rest in rests if rest in errors and self._is_as_good(errors[rest], error)]
        if len(idle) > 1:
            together = frozenset.intersection(*idle)
            tried = self._run([together]) if together else {}
            idle = [together] if together in tried and self._is_as_good(tried[together], error) else idle[:1]
        return tuple(sorted(idle[0] if idle else nodes, key=lambda node: node.order))

    def _is_as_good(self, error: OutputError, other: OutputError) -> bool:
        if self._survives(other):
            return self._survives(error)
        return _worst_db(error) >= _worst_db(other) - MARGIN_DB

    def _survives(self, error: OutputError) -> bool:
        """With something in hand: a little noise, and one row of class scores that comes out otherwise."""
        return self.judge(replace(error, outputs=tuple(map(_a_little_worse, error.outputs)))) is Verdict.SURVIVES

    def _prefixes(self, steps: Sequence[Step], numbers: Iterable[int]) -> dict[int, OutputError]:
        sets = {number: frozenset(node for step in steps[:number] for node in step) for number in numbers}
        errors = self._run(sets.values())
        return {number: errors[nodes] for number, nodes in sets.items() if nodes in errors}

    def _run(self, sets: Iterable[frozenset[Node]]) -> dict[frozenset[Node], OutputError]:
        """The error of the scheme with each of these sets of nodes excluded, as far as the time goes."""
        names = self.bench.measured.freer_under(self.scheme).names
        wanted = {nodes: Experiment(self.scheme, excluded=frozenset(names(nodes))) for nodes in sets}
        runs = [experiment for experiment in wanted.values() if self.bench.can_run(experiment)]
        errors = run_experiments(self.bench, runs, self.samples, self.progress, self.allowance)
        return {
            nodes: errors[experiment]
            for nodes, experiment in wanted.items()
            if experiment in errors and errors[experiment].has_signal
        }


def _a_little_worse(figures: OutputFigures) -> OutputFigures:
    return replace(
        figures,
        sqnr_db=None if figures.sqnr_db is None else figures.sqnr_db - MARGIN_DB,
        agreement=None if figures.agreement is None else max(figures.agreement - 1 / max(figures.rows, 1.0), 0.0),
        parts=tuple(map(_a_little_worse, figures.parts)),
    )
