"""Rewrites applied one kind after another, each a transaction: copy, apply, compare in float, quantise, keep or undo.

A rewrite is kept if the float outputs stay what they are and the quantised ones do not lose: what gains nothing by
itself may be what the next one needs. Where nothing is gained in the end, only what moves no value is kept. A gain
counts as far as it does without any one of the samples: one that hangs on a single sample is luck. A place that breaks
something by itself is left out, and the others are changed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import onnx

from onnxlint_q.analysis.experiment import UNCHANGED, Experiment
from onnxlint_q.analysis.measured import Measured, measure
from onnxlint_q.analysis.schemes import Scheme
from onnxlint_q.errors import ModelError
from onnxlint_q.execute.data.split import Split
from onnxlint_q.execute.executable import Executable
from onnxlint_q.execute.limits import Allowance
from onnxlint_q.execute.progress import Progress, silent
from onnxlint_q.execute.session import NotRunnableError
from onnxlint_q.execute.stream.observe import observe
from onnxlint_q.execute.variants.experiment_runs import Errors, run_experiments
from onnxlint_q.execute.variants.output_error import OutputError
from onnxlint_q.execute.variants.variant_runs import run_variants
from onnxlint_q.execute.variants.workbench import Workbench, workbench
from onnxlint_q.graph import Model
from onnxlint_q.proof.gain import SAME_DB, Gain
from onnxlint_q.rewrite.candidate import Candidate, Refusal
from onnxlint_q.rewrite.rewriting import Rewrite

LEAST_GAIN_DB = 0.5
"""What all rewrites together gain at least under one of the schemes, and what one may lose of it."""
NOTHING_DB, ENOUGH_DB = 0.0, 40.0
"""Output SQNR below which nothing is left to lose, and above which nobody would notice more."""
MOST_PLACES = 64
"""Places that are tried one by one, where all of them together change the float outputs."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A place where a rewrite could be made, and is not.

    Attributes:
        candidate: what would have been changed.
        reason: in words.
    """

    candidate: Candidate
    reason: str


@dataclass(frozen=True, eq=False)
class Step:
    """What became of one rewrite.

    Attributes:
        rewrite: which.
        kept: places that are changed now.
        left_out: places that could be changed, and are not.
        refused: places where it does not apply.
        exact: what the changed model leaves of the float outputs of the model that was given; None where nothing was
            changed.
        before, after: the error of whole schemes without it and with it; empty where it moves no value.
    """

    rewrite: Rewrite
    kept: tuple[Candidate, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    refused: tuple[Refusal, ...] = ()
    exact: OutputError | None = None
    before: Errors = field(default_factory=dict)
    after: Errors = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Mended:
    """A model with what rewrites made of it.

    Attributes:
        bench: the changed network, calibrated.
        given: the error of whole schemes on the model that was given.
        errors: the same on the changed one, beside its own float outputs.
        steps: one a rewrite, in the order in which they were tried.
        exact: what it leaves of the float outputs of the model that was given; None where it is that model.
    """

    bench: Workbench
    given: Errors
    errors: Errors
    steps: tuple[Step, ...] = ()
    exact: OutputError | None = None

    def found(self, rewrite: Rewrite) -> Iterable[Candidate | Refusal]:
        """The places of one more rewrite in what was made."""
        return rewrite.find(self.bench.measured, self.bench.observations)


def mend(bench: Workbench, rewrites: Sequence[Rewrite], split: Split, progress: Progress = silent) -> Mended:
    """What `Mender` makes of a model by these rewrites."""
    return Mender(bench, split, progress).through(rewrites)


class Mender:
    """One model, and what some first rewrites made of it."""

    def __init__(self, bench: Workbench, split: Split, progress: Progress = silent) -> None:
        """Nothing has been tried yet.

        Args:
            bench: the float network, calibrated; under its schemes a rewrite has to gain something.
            split: samples that ranges are taken from, and others that figures are measured on.
            progress: told what is being done.
        """
        self.given = bench
        self.split = split
        self.progress = progress
        self._known: dict[tuple[Rewrite, ...], Mended] = {}

    @cached_property
    def first(self) -> Errors:
        """The error of whole schemes on the model that was given."""
        self.progress("quantising it", 0, 0)
        return self._errors(self.given, self.progress)

    def through(self, rewrites: Sequence[Rewrite]) -> Mended:
        """Apply rewrites in their order, each on the model that those before it left.

        What the same first ones left before is not made again.

        Raises:
            NotRunnableError: ONNX Runtime cannot load or run the model as it is.
            DataError: a sample cannot be read.
        """
        first = self.first
        mended = self._all(Mended(self.given, first, first), rewrites)
        if not any(step.kept and step.rewrite.moves_values for step in mended.steps):
            return mended
        reason = gains_nothing(first, mended.errors)
        if not reason:
            return mended
        tidied = self._all(Mended(self.given, first, first), [one for one in rewrites if not one.moves_values])
        again = {step.rewrite: step for step in tidied.steps}
        steps = (again.get(step.rewrite) or _undone(step, reason) for step in mended.steps)
        return replace(tidied, steps=tuple(steps))

    def further(self, made: Mended, rewrites: Sequence[Rewrite]) -> Mended:
        """More rewrites on what others left, judged under the schemes of this one; `made` where nothing is gained.

        Raises:
            NotRunnableError: ONNX Runtime cannot load or run the model as it is.
            DataError: a sample cannot be read.
        """
        bench = replace(made.bench, measured=replace(made.bench.measured, schemes=self.given.measured.schemes))
        first = self._errors(bench)
        mended = replace(made, bench=bench, errors=first)
        for rewrite in rewrites:
            self.progress(f"trying {rewrite.name}", 0, 0)
            mended = self._after(mended, rewrite)
        return made if gains_nothing(first, mended.errors) else mended

    def _all(self, mended: Mended, rewrites: Sequence[Rewrite]) -> Mended:
        for number, rewrite in enumerate(rewrites):
            self.progress(f"trying {rewrite.name}", number, len(rewrites))
            done = tuple(rewrites[: number + 1])
            mended = self._known.get(done) or self._after(mended, rewrite)
            self._known[done] = mended
        return mended

    def _after(self, mended: Mended, rewrite: Rewrite) -> Mended:
        """The model after one more rewrite, or as it was."""
        found = list(mended.found(rewrite))
        candidates = [one for one in found if not isinstance(one, Refusal)]
        step = Step(rewrite, refused=tuple(one for one in found if isinstance(one, Refusal)))
        if not candidates:
            return replace(mended, steps=(*mended.steps, step))
        kept, left_out, made = self._exact(mended, rewrite, candidates)
        step = replace(step, left_out=left_out)
        if made is None:
            return replace(mended, steps=(*mended.steps, step))
        bench, exact = made
        before = mended.errors
        bench, after = self._quantised(mended, bench, rewrite)
        step = replace(step, exact=exact)
        if rewrite.moves_values:
            step = replace(step, before=before, after=after)
        step = replace(step, kept=kept)
        if rewrite.moves_values and (reason := loses(before, after)):
            return replace(mended, steps=(*mended.steps, _undone(step, reason)))
        return Mended(bench, mended.given, after, (*mended.steps, step), exact)

    def _exact(
        self, mended: Mended, rewrite: Rewrite, candidates: Sequence[Candidate]
    ) -> tuple[tuple[Candidate, ...], tuple[LeftOut, ...], tuple[Workbench, OutputError] | None]:
        """The places that leave the float outputs as they are, those that do not, and the network with the former."""
        made = self._tried(mended, rewrite, candidates)
        if not isinstance(made, str):
            return tuple(candidates), (), made
        if len(candidates) == 1 or len(candidates) > MOST_PLACES:
            return (), tuple(LeftOut(candidate, made) for candidate in candidates), None
        alone = {candidate: self._tried(mended, rewrite, [candidate]) for candidate in candidates}
        left_out = tuple(LeftOut(candidate, why) for candidate, why in alone.items() if isinstance(why, str))
        good = tuple(candidate for candidate in candidates if not isinstance(alone[candidate], str))
        made = self._tried(mended, rewrite, good) if good else made
        if isinstance(made, str):
            return (), (*left_out, *(LeftOut(candidate, made) for candidate in good)), None
        return good, left_out, made

    def _tried(
        self, mended: Mended, rewrite: Rewrite, candidates: Sequence[Candidate]
    ) -> tuple[Workbench, OutputError] | str:
        """The network with these places changed, and what it leaves of the float outputs; else why it cannot be."""
        try:
            changed = self._measured(rewrite.apply(mended.bench.measured.model, candidates))
            bench = workbench(changed, self.given.limits)
            done = [(step.rewrite, step.kept) for step in mended.steps if step.kept]
            made = restored(bench.executable(UNCHANGED), [*done, (rewrite, candidates)])
            exact = run_variants(self.given, {UNCHANGED: lambda: made}, self.split.for_verdict)[UNCHANGED]
        except (ModelError, NotRunnableError) as error:
            return f"the changed model does not run: {error}"
        problem = differs(exact)
        return problem or (bench, exact)

    def _measured(self, model: Model) -> Measured:
        return measure(model, self.given.measured.schemes)

    def _quantised(self, mended: Mended, bench: Workbench, rewrite: Rewrite) -> tuple[Workbench, Errors]:
        """The changed network with ranges, and the error of its schemes."""
        seen = mended.bench.observations
        if rewrite.moves_values:
            seen = observe(bench.measured, self.split.source, self.split.calibrating, limits=bench.limits)
        assert seen is not None
        bench = replace(bench.calibrated(seen, self.given.observer), alike=self.given.alike)
        return bench, self._errors(bench) if rewrite.moves_values else mended.errors

    def _errors(self, bench: Workbench, progress: Progress = silent) -> Errors:
        """Of every scheme, with everything quantised."""
        wanted = [Experiment(scheme) for scheme in bench.measured.schemes if bench.can_run(Experiment(scheme))]
        return run_experiments(bench, wanted, self.split.for_verdict, progress, Allowance(samples=self.split.judged))


def restored(made: Executable, done: Iterable[tuple[Rewrite, Sequence[Candidate]]]) -> Executable:
    """The network with the outputs of the model that was given, where rewrites changed them."""
    changing = [(rewrite.restored, places) for rewrite, places in done if rewrite.restored is not None]
    if not changing:
        return made
    proto = onnx.ModelProto()
    proto.CopyFrom(made.proto)
    for restore, places in reversed(changing):
        restore(proto.graph, places)
    return replace(made, proto=proto)


def differs(exact: OutputError) -> str:
    """Why float outputs do not count as the same; empty where they do."""
    if not exact.has_signal:
        return "the float outputs could not be compared"
    if exact.worst_db is None or exact.worst_db >= SAME_DB:
        return ""
    return f"it changes the float outputs ({exact.worst_db:.0f} dB)"


def gains(before: Errors, after: Errors) -> Mapping[Scheme, Gain]:
    """What each scheme gains; without those that could not be compared."""
    found = ((one.scheme, Gain.of(before.get(one), error)) for one, error in after.items())
    return {scheme: gain for scheme, gain in found if gain is not None}


def loses(before: Errors, after: Errors) -> str:
    """Why the quantised model is worse; empty where it is not.

    It is where a scheme loses what somebody would notice, and none surely gains more than that.
    """
    told = gains(before, after)
    moved = {scheme: _moved_db(*gain.decibels) for scheme, gain in told.items()}
    if not moved:
        return "the quantised outputs could not be compared"
    worst = min(moved, key=moved.__getitem__)
    if moved[worst] > -LEAST_GAIN_DB or max(map(_surely_db, told.values())) > -moved[worst]:
        return ""
    return f"the quantised model gets worse ({worst.name}: {told[worst].figures})"


def gains_nothing(before: Errors, after: Errors) -> str:
    """That no scheme surely gains what somebody would notice; empty where one does."""
    told = gains(before, after)
    best = max(told, key=lambda scheme: _surely_db(told[scheme]), default=None)
    if best is not None and _surely_db(told[best]) >= LEAST_GAIN_DB:
        return ""
    figures = f" ({best.name}: {told[best].figures})" if best is not None else ""
    return f"all rewrites together gain the quantised model nothing{figures}"


def _moved_db(before_db: float | None, after_db: float | None) -> float:
    """Decibels gained between the levels outside of which nothing changes."""
    before, after = (min(max(math.inf if db is None else db, NOTHING_DB), ENOUGH_DB) for db in (before_db, after_db))
    return after - before


def _surely_db(gain: Gain) -> float:
    """The same, whichever sample is left out."""
    return min(_moved_db(*both) for both in (gain.decibels, *gain.without))


def _undone(step: Step, reason: str) -> Step:
    """The step with its places left out."""
    undone = tuple(LeftOut(candidate, reason) for candidate in step.kept)
    return replace(step, kept=(), left_out=(*step.left_out, *undone))
