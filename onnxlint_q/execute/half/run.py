"""Run a network as if its tensors were float16, look what does not fit, and try which nodes to keep in float32."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxlint_q.analysis.half.halved import HalfTrial, Halved
from onnxlint_q.analysis.half.hazards import Extremes, Hazard, find_constants, find_overflows, find_underflows, least_of
from onnxlint_q.analysis.half.tensors import VANISHES, divisors, half_tensors
from onnxlint_q.analysis.measured import Measured
from onnxlint_q.analysis.sizes.usual import INNER_LENGTH
from onnxlint_q.execute.executable import Executable, ending_at
from onnxlint_q.execute.half.simulate import clamped, halved, halved_sample, widened, widened_sample
from onnxlint_q.execute.limits import DEFAULT_LIMITS, Limits
from onnxlint_q.execute.progress import Progress, silent
from onnxlint_q.execute.session import Session
from onnxlint_q.execute.variants.output_error import OutputError, OutputErrorAccumulator
from onnxlint_q.execute.variants.references import References
from onnxlint_q.execute.variants.variant_runs import Samples
from onnxlint_q.graph import Model, Node
from onnxlint_q.graph.names import ROOT

Array = npt.NDArray[Any]
# Kinds of hazards that are tried one by one; a network repeats its blocks, so it has few.
_MOST_KINDS = 6
_SECONDS_A_PASS = 60.0


@dataclass(frozen=True, slots=True, eq=False)
class HalfRun:
    """What running a network as float16 gave.

    Attributes:
        halved: what rules read.
        error: at the outputs, against the same network in float32.
    """

    halved: Halved
    error: OutputError


def run_halved(
    measured: Measured,
    samples: Samples,
    *,
    whole: bool,
    synthetic: bool = False,
    progress: Progress = silent,
    limits: Limits = DEFAULT_LIMITS,
) -> HalfRun:
    """Compare a network with itself in float16, each result rounded.

    Args:
        measured: the network.
        samples: starts a fresh pass over the same samples each time it is called.
        whole: whether all float32 tensors are to be float16; else those that the file has so.
        synthetic: the samples are made up.
        progress: told after each pass.
        limits: of the runs.

    Raises:
        NotRunnableError: ONNX Runtime cannot load or run one of the graphs.
        DataError: a sample cannot be read.
    """
    return _Simulation(measured, samples, half_tensors(measured.model, whole=whole), progress, limits).result(synthetic)


@dataclass(frozen=True, slots=True, eq=False)
class _Simulation:
    measured: Measured
    samples: Samples
    halves: frozenset[str]
    progress: Progress
    limits: Limits

    @property
    def model(self) -> Model:
        return self.measured.model

    def result(self, synthetic: bool) -> HalfRun:
        wide = widened(self.model)
        self.progress("looking for values that float16 cannot hold", 0, 3)
        seen = self._extremes(wide)
        over = find_overflows(self.model, seen)
        self.progress("looking for values that float16 cannot hold", 1, 3)
        vanished = find_underflows(self.model, seen, self._vanished(wide, _keys(over)))
        # What is kept for its loud values is kept for its quiet ones, too.
        under = [one for one in vanished if not _keys([one]) <= _keys(over)]
        kinds = _kinds((*over, *under))
        self.progress("rounding every tensor to float16", 2, 3)
        every = _keys((*over, *under))
        # All kinds but one in float32; a single kind in float16 is the network in float16.
        apart = [every - _keys(kind) for kind in kinds] if len(kinds) > 1 else [frozenset[str]()] * len(kinds)
        runs = [(wide, frozenset[str]()), (wide, every), *((wide, kept) for kept in apart)]
        if kinds and any(one.reader is None for one in find_constants(self.model, self.halves)):
            ends = clamped(wide)
            runs += [(ends, kept) for kept in apart]
        whole, spared, *errors = self._errors(wide, runs if kinds else runs[:1] * 2)
        count = len(kinds)
        ended: list[float | None] = [_or_infinite(error.worst_db) for error in errors[count:]]
        ended = ended or [None] * count
        trials = tuple(
            HalfTrial(kind, error.worst_db, spared.worst_db, end)
            for kind, error, end in zip(kinds, errors[:count], ended, strict=True)
        )
        return HalfRun(Halved(whole.samples, synthetic, whole.worst_db, trials), whole)

    def _extremes(self, wide: Executable) -> dict[str, Extremes]:
        """Of every tensor of the main graph that is to be float16, what it holds in float32."""
        model, found = self.model, dict[str, Extremes]()
        given = [value.name for value in model.inputs if value.name in self.halves]
        nodes = [node for node in model.nodes if node.graph == ROOT]
        made = [key for node in nodes for key in node.outputs if key in self.halves and not model.is_constant(key)]
        for number, names in enumerate(_groups(model, made, self.limits.compared_values)):
            session = self._session(wide, names) if names else None
            for sample in self._pass():
                fed = widened_sample(sample)
                values = session.run(fed, names) if session is not None else []
                inputs = [(name, fed[name]) for name in given] if number == 0 else []
                for key, held in (*inputs, *zip(names, values, strict=True)):
                    extremes = _extremes_of(held)
                    if extremes is not None:
                        found[key] = found[key] | extremes if key in found else extremes
        return found

    def _vanished(self, wide: Executable, kept: frozenset[str]) -> frozenset[str]:
        """Divisors that are 0 in float16 where they are not in float32, what overflows kept in float32."""
        known = dict.fromkeys(key for key, node in divisors(self.model) if node.graph == ROOT and key in self.halves)
        given = {value.name for value in self.model.inputs}
        stored = [key for key in known if self.model.is_constant(key)]
        names = [key for key in known if key not in given and key not in stored]
        found = {key for key in stored if least_of(self.model, key) <= VANISHES}
        for group in _groups(self.model, names, self.limits.compared_values // 2):
            if not group:
                continue
            narrow = halved(wide, self.model, self.halves, kept)
            ours, theirs = self._session(wide, group), self._session(narrow, group)
            for sample in self._pass():
                exact = ours.run(widened_sample(sample), group)
                other = theirs.run(halved_sample(sample, self.halves), group)
                same = ((key, a, b) for key, a, b in zip(group, exact, other, strict=True) if a.shape == b.shape)
                found |= {key for key, a, b in same if np.any((b == 0) & (a != 0))}
        return frozenset(found)

    def _errors(self, wide: Executable, runs: Sequence[tuple[Executable, frozenset[str]]]) -> list[OutputError]:
        """Of networks in float16 with the nodes of a set in float32, against float32; equal ones run once."""
        outputs = self.measured.compared_outputs
        names = [output.name for output in outputs]
        distinct = list(dict.fromkeys(runs))
        exact = self._session(wide, names)
        narrow = [self._session(halved(start, self.model, self.halves, kept), names) for start, kept in distinct]
        references = References(self.model, outputs, self.limits)
        sums = [OutputErrorAccumulator() for _ in distinct]
        for sample in self._pass():
            reference = references.of(sample, exact.run(widened_sample(sample), names))
            fed = halved_sample(sample, self.halves)
            for accumulator, session in zip(sums, narrow, strict=True):
                accumulator.add(reference, session.run(fed, names))
        results = dict(zip(distinct, (accumulator.result() for accumulator in sums), strict=True))
        return [results[run] for run in runs]

    def _session(self, executable: Executable, outputs: Sequence[str]) -> Session:
        return Session(ending_at(executable, outputs), limits=self.limits, optimised=False)

    def _pass(self) -> Iterator[Mapping[str, Array]]:
        """The samples, as many as there is time for, at least one."""
        end = time.monotonic() + _SECONDS_A_PASS
        for sample in self.samples():
            yield sample
            if time.monotonic() > end:
                return


def _extremes_of(values: Array) -> Extremes | None:
    """None where there is no finite value."""
    if values.dtype.kind != "f":
        return None
    finite = values[np.isfinite(values)]
    if not finite.size:
        return None
    sizes = np.abs(finite[finite != 0])
    least = float(sizes.min()) if sizes.size else math.inf
    return Extremes(float(finite.min()), float(finite.max()), least)


def _or_infinite(decibel: float | None) -> float:
    return math.inf if decibel is None else decibel


def _groups(model: Model, names: Sequence[str], most: int) -> Iterator[list[str]]:
    """Tensors, as many at a time as hold at most `most` values together; one empty group where there is none."""
    group: list[str] = []
    held = 0
    for name in names:
        shape = model.shape(name) or ()
        size = math.prod((1 if axis == 0 else INNER_LENGTH) if dim is None else dim for axis, dim in enumerate(shape))
        if group and held + size > most:
            yield group
            group, held = [], 0
        group.append(name)
        held += size
    yield group


def _kinds(hazards: Sequence[Hazard]) -> list[tuple[Hazard, ...]]:
    """Hazards alike, as those of repeated blocks are; the last kind holds what is left."""
    found: dict[tuple[bool, tuple[str, ...]], list[Hazard]] = {}
    for hazard in hazards:
        found.setdefault((hazard.overflows, tuple(node.op_type for node in hazard.nodes)), []).append(hazard)
    kinds = [tuple(kind) for kind in found.values()]
    rest = tuple(hazard for kind in kinds[_MOST_KINDS:] for hazard in kind)
    return [*kinds[:_MOST_KINDS], *filter(None, [rest])]


def _keys(hazards: Collection[Hazard]) -> frozenset[str]:
    nodes: Iterator[Node] = (node for hazard in hazards for node in hazard.nodes)
    return frozenset(node.output for node in nodes)
