"""The rewrites that are wanted, tried on a network that samples have gone through, and what is told of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from onnxlint_q.analysis.measured import Measured
from onnxlint_q.analysis.observed.observers import DEFAULT_OBSERVER
from onnxlint_q.errors import DataError, UsageError, did_you_mean
from onnxlint_q.execute.data.source import Source
from onnxlint_q.execute.data.split import Split, split
from onnxlint_q.execute.progress import Progress
from onnxlint_q.execute.session import NotRunnableError
from onnxlint_q.execute.stream.observe import observe
from onnxlint_q.execute.variants.experiment_runs import Errors
from onnxlint_q.execute.variants.workbench import Workbench, workbench
from onnxlint_q.finding import Finding
from onnxlint_q.graph.names import local_name
from onnxlint_q.judge.config import Config
from onnxlint_q.judge.facts import foresee
from onnxlint_q.judge.rule import Rule
from onnxlint_q.proof.mending.transaction import Mended, Step, mend
from onnxlint_q.proof.probing.inputs import made_up
from onnxlint_q.rewrite.candidate import Refusal
from onnxlint_q.rewrite.rewriting import Rewrite, Safety
from onnxlint_q.rewrite.table import REWRITES
from onnxlint_q.workflow.assembly.preview import scheme_results
from onnxlint_q.workflow.judging import judge
from onnxlint_q.workflow.mending.fixed import Fixed, Place, RewriteResult, Verification, Withheld
from onnxlint_q.workflow.record import DataRequest
from onnxlint_q.workflow.results import SchemeResult, TakenShape
from onnxlint_q.workflow.sizes import notes_on

Results = tuple[SchemeResult, ...]

MADE_UP_SAMPLES = 16
"""Synthetic samples that ranges are taken from, and as many others that figures are measured on, without data."""
REWRITE_NAMES = tuple(rewrite.name for rewrite in REWRITES)
_ALLOWED = {Safety.EXACT: "", Safety.DATA: "leave out --exact-only", Safety.UNSAFE: "add --unsafe"}


@dataclass(frozen=True, slots=True)
class Selection:
    """Which rewrites are to be tried.

    Attributes:
        select: their names; empty for all.
        ignore: names of those that are not wanted.
        exact_only: leave out what is the same on the samples only.
        unsafe: those too that change the interface of the model.

    Raises:
        UsageError: a rewrite has no such name.
    """

    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    exact_only: bool = False
    unsafe: bool = False

    def __post_init__(self) -> None:
        for name in (*self.select, *self.ignore):
            if name not in REWRITE_NAMES:
                meant = did_you_mean(name, REWRITE_NAMES)
                raise UsageError(f"rewrite {name!r}: choose from {', '.join(REWRITE_NAMES)}{meant}")

    def without(self, names: Iterable[str]) -> Selection:
        """The same without these."""
        return replace(self, ignore=tuple(dict.fromkeys((*self.ignore, *names))))

    @property
    def named(self) -> tuple[Rewrite, ...]:
        """Those that are selected, held back or not."""
        return tuple(
            rewrite
            for rewrite in REWRITES
            if (not self.select or rewrite.name in self.select) and rewrite.name not in self.ignore
        )

    @property
    def applied(self) -> tuple[Rewrite, ...]:
        """Those that are selected and not held back."""
        return tuple(rewrite for rewrite in self.named if not self.option_for(rewrite))

    def option_for(self, rewrite: Rewrite) -> str:
        """What would have to be said for a rewrite to be tried; empty where it is."""
        if (rewrite.safety is Safety.UNSAFE and not self.unsafe) or (rewrite.safety is Safety.DATA and self.exact_only):
            return _ALLOWED[rewrite.safety]
        return ""


def calibrated(
    measured: Measured, data: DataRequest | None, progress: Progress, made_up_observer: str = DEFAULT_OBSERVER
) -> tuple[Workbench, Split]:
    """The network with ranges, and which samples they come from: made-up ones where there is no data.

    Args:
        measured: the network.
        data: where the samples come from.
        progress: told what is done.
        made_up_observer: how ranges come from made-up samples.

    Raises:
        NotRunnableError: ONNX Runtime cannot run it.
        DataError: the samples cannot be read or do not fit, or none can be made up.
    """
    bench = workbench(measured)
    if data is not None:
        return _observed(replace(bench, observer=data.observer), data.source, data.samples, progress)
    bench = replace(bench, observer=made_up_observer, alike=True)
    name = measured.model.name
    try:
        return _observed(bench, made_up(bench), MADE_UP_SAMPLES, progress)
    except DataError as error:
        raise DataError(f"{name}: no synthetic inputs can be made: {error}") from error
    except NotRunnableError as error:
        raise NotRunnableError(f"on synthetic inputs: {error}; give samples with --calibrate") from error


def _observed(bench: Workbench, source: Source, count: int, progress: Progress) -> tuple[Workbench, Split]:
    divided = split(source, bench.measured.model.inputs, count)
    seen = observe(bench.measured, divided.source, divided.calibrating, progress)
    return bench.calibrated(seen, bench.observer), divided


def mended(bench: Workbench, divided: Split, selection: Selection, progress: Progress) -> Mended:
    """What the wanted rewrites do to a calibrated network.

    Raises:
        NotRunnableError: ONNX Runtime cannot run it.
        DataError: a sample cannot be read.
    """
    return mend(bench, selection.applied, divided, progress)


def withheld(made: Mended, selection: Selection) -> tuple[Withheld, ...]:
    """The rewrites that apply to what was made, and were not asked for."""
    held = [rewrite for rewrite in selection.named if selection.option_for(rewrite)]
    found = ((rewrite, made.found(rewrite)) for rewrite in held)
    places = ((rewrite, sum(not isinstance(one, Refusal) for one in candidates)) for rewrite, candidates in found)
    return tuple(Withheld(rewrite.name, count, selection.option_for(rewrite)) for rewrite, count in places if count)


def verification(bench: Workbench, divided: Split) -> Verification:
    """The samples that a network was tried on."""
    seen = bench.observations
    assert seen is not None
    prepared = divided.source.prepared(bench.measured.model.inputs)
    return Verification(seen.source, prepared, seen.synthetic, seen.samples, divided.held_out or divided.calibrating)


def told(
    bench: Workbench,
    made: Mended,
    divided: Split,
    held: tuple[Withheld, ...],
    inputs: Sequence[TakenShape],
    rules: Sequence[Rule],
    config: Config,
) -> Fixed:
    """The model that was given beside the one that was made, both linted without a run; once where they are one."""
    first, last = bench.measured, made.bench.measured
    before = judge(foresee(first), rules, config)
    after = before if last.model is first.model else judge(foresee(last), rules, config)
    # Where a normalisation is folded other rules speak of the same tensor.
    known, left = ({_where(finding) for finding in findings} for findings in (before, after))
    samples = verification(bench, divided)
    results = partial(scheme_results, levels=config.levels, synthetic=samples.synthetic)
    return Fixed(
        path=first.model.name,
        sha256=first.model.sha256,
        opset=first.model.opset,
        out="",
        rewrites=tuple(_told(step, first, last, results) for step in made.steps),
        withheld=held,
        verification=samples,
        float_sqnr_db=made.exact.worst_db if made.exact is not None else None,
        before=results(made.given),
        after=results(made.errors),
        resolved=tuple(finding for finding in before if _where(finding) not in left),
        remaining=tuple(finding for finding in after if _where(finding) in known),
        new=tuple(finding for finding in after if _where(finding) not in known),
        notes=(*notes_on(inputs), *_notes(bench.measured)),
    )


def _notes(given: Measured) -> Iterator[str]:
    inlined = given.model.inlined
    if inlined:
        yield f"{inlined} local function{'s' * (inlined > 1)}: nodes take the place of each call in what is written"


def _where(finding: Finding) -> tuple[str, str]:
    return finding.location.graph, finding.location.output


def _told(step: Step, given: Measured, made: Measured, results: Callable[[Errors], Results]) -> RewriteResult:
    rewrite = step.rewrite
    return RewriteResult(
        name=rewrite.name,
        what=rewrite.what,
        safety=rewrite.safety.value,
        places=tuple(_place(given, made, one.tensor, one.change) for one in step.kept),
        left_out=tuple(_place(given, made, one.candidate.tensor, one.reason) for one in step.left_out),
        refused=tuple(_place(given, made, one.tensor, one.reason) for one in step.refused),
        float_sqnr_db=step.exact.worst_db if step.exact is not None else None,
        before=results(step.before),
        after=results(step.after),
    )


def _place(given: Measured, made: Measured, tensor: str, said: str) -> Place:
    """A place of the model as it was given, or else as it is now."""
    node = given.model.producer(tensor) or made.model.producer(tensor)
    if node is None:
        return Place(tensor, "", "", said)
    return Place(local_name(tensor, node.graph), node.name, node.qualified_type, said)
