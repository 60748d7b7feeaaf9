"""The trial of rewrites, one on top of the other: float outputs beside the model's, then everything quantised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from onnxlint_q.analysis.experiment import UNCHANGED, Experiment
from onnxlint_q.analysis.measured import measure
from onnxlint_q.analysis.schemes import Scheme
from onnxlint_q.execute.data.split import Split
from onnxlint_q.execute.progress import Progress, silent
from onnxlint_q.execute.stream.observe import observe
from onnxlint_q.execute.stream.watched import rounded_tensors
from onnxlint_q.execute.variants.experiment_runs import Errors
from onnxlint_q.execute.variants.output_error import OutputError
from onnxlint_q.execute.variants.variant_runs import run_variants
from onnxlint_q.execute.variants.workbench import Workbench, workbench
from onnxlint_q.finding import Rewriting
from onnxlint_q.judge.verdict import GAIN_DB
from onnxlint_q.proof.gain import SAME_DB, Gain
from onnxlint_q.proof.mending.plan import Plan, Planner
from onnxlint_q.proof.whole import Whole, measure_schemes


@dataclass(frozen=True, eq=False)
class Mending:
    """What a rewrite does to a model, on top of those before it that help.

    Attributes:
        rewrites: its name, behind those of the ones that it is on top of.
        what: what all of them change, in words that follow `with`.
        upon: what those before it change; empty without any.
        made: by change that a finding asks for, the one that was made.
        refused: why others were not made.
        before: the error of whole schemes without it.
        exact: what all of them leave of the model's float outputs, on the samples of the verdict; None where nothing
            was changed.
        whole: the schemes with it, on the same samples; None where float outputs do not stay the same.
    """

    rewrites: tuple[str, ...]
    what: str
    upon: str
    made: Mapping[Rewriting, Rewriting]
    refused: Mapping[Rewriting, str]
    before: Errors
    exact: OutputError | None = None
    whole: Whole | None = None

    def gain(self, scheme: Scheme) -> Gain | None:
        """What a scheme gains by it; None where that was not measured."""
        before = self.before.get(Experiment(scheme))
        after = self.whole.errors.get(Experiment(scheme)) if self.whole is not None else None
        return Gain.of(before, after)

    @property
    def gains(self) -> Mapping[str, Gain]:
        """The same of all schemes that were measured, by name."""
        found = ((one.scheme, self.gain(one.scheme)) for one in (self.whole.errors if self.whole is not None else ()))
        return {scheme.name: gain for scheme, gain in found if gain is not None}


def try_rewrites(
    bench: Workbench,
    whole: Whole,
    planners: Sequence[Planner],
    split: Split,
    progress: Progress = silent,
    labels: Sequence[int] | None = None,
) -> tuple[Mending, ...]:
    """Try each rewrite on the model with those before it that gain something.

    Args:
        bench: calibrated.
        whole: the schemes as the model is.
        planners: of each rewrite, what is wanted of it.
        split: which samples ranges are taken from, and which others figures are measured on.
        progress: told how many runs are done.
        labels: the class of each sample of the source.

    Raises:
        NotRunnableError: ONNX Runtime cannot run a rewritten model.
        DataError: a sample cannot be read.
    """
    tried: list[Mending] = []
    base, errors, done = bench, whole.errors, None
    for planner in planners:
        plan = planner(base)
        mending, mended = _tried(bench, base, done, errors, plan, split, progress, labels)
        tried.append(mending)
        if mending.whole is not None and any(gain.db >= GAIN_DB for gain in mending.gains.values()):
            base, errors, done = mended, {**errors, **mending.whole.errors}, mending
    return tuple(tried)


def _tried(
    bench: Workbench,
    base: Workbench,
    done: Mending | None,
    before: Errors,
    plan: Plan,
    split: Split,
    progress: Progress,
    labels: Sequence[int] | None,
) -> tuple[Mending, Workbench]:
    """What a plan does, and the network after it."""
    upon = done.what if done is not None else ""
    mending = Mending(
        rewrites=(*(done.rewrites if done is not None else ()), plan.rewrite),
        what=" and ".join(filter(None, (upon, plan.what))),
        upon=upon,
        made=plan.made,
        refused=plan.refused,
        before=before,
    )
    if not plan.made:
        return mending, base
    changed = measure(plan.apply(base.measured.model), plan.schemes)
    mended = workbench(changed, bench.limits)
    variants = {UNCHANGED: lambda: mended.executable(UNCHANGED)}
    mending = replace(mending, exact=run_variants(bench, variants, split.for_verdict, progress)[UNCHANGED])
    exact = mending.exact
    assert exact is not None and base.observations is not None
    if not exact.has_signal or (exact.worst_db is not None and exact.worst_db < SAME_DB):
        return mending, base
    # Nothing but what the rewrite touches has other values than before.
    watched = [tensor for tensor in rounded_tensors(changed) if tensor in plan.touched]
    again = observe(changed, split.source, split.calibrating, progress, watched, bench.limits)
    seen = replace(
        base.observations,
        tensors={**base.observations.tensors, **again.tensors},
        non_finite=again.non_finite,
    )
    mended = mended.calibrated(seen, bench.observer)
    return replace(mending, whole=measure_schemes(mended, split, progress, labels)), mended
