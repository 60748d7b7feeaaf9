"""The use case of `fix`: a float model in, one that quantises better and computes the same out."""

from __future__ import annotations

import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import onnx

from onnxlint_q.analysis.experiment import UNCHANGED
from onnxlint_q.analysis.measured import Measured, measure
from onnxlint_q.errors import ModelError, UsageError, did_you_mean
from onnxlint_q.execute.child import ChildEndedError, run_apart
from onnxlint_q.execute.data.split import Split, split
from onnxlint_q.execute.progress import Progress, silent
from onnxlint_q.execute.session import NotRunnableError
from onnxlint_q.execute.stream.observe import observe
from onnxlint_q.execute.variants.experiment_runs import Errors
from onnxlint_q.execute.variants.variant_runs import run_variants
from onnxlint_q.execute.variants.workbench import Workbench, workbench
from onnxlint_q.graph import Model, read_model
from onnxlint_q.graph.loading.save import save_model
from onnxlint_q.graph.names import local_name
from onnxlint_q.judge.config import Config
from onnxlint_q.judge.facts import foresee
from onnxlint_q.judge.rule import Rule
from onnxlint_q.proof.mending.transaction import Mended, Step, differs, mend
from onnxlint_q.proof.probing.inputs import made_up
from onnxlint_q.rewrite.candidate import Refusal
from onnxlint_q.rewrite.rewriting import Rewrite, Safety
from onnxlint_q.rewrite.table import REWRITES
from onnxlint_q.workflow.assembly.preview import scheme_results
from onnxlint_q.workflow.judging import judge
from onnxlint_q.workflow.mending.fixed import Fixed, Place, RewriteResult, Verification, Withheld
from onnxlint_q.workflow.record import QUANTISED_ALREADY, DataRequest
from onnxlint_q.workflow.results import SchemeResult
from onnxlint_q.workflow.sizes import notes_on, settled

Results = tuple[SchemeResult, ...]

MADE_UP_SAMPLES = 16
"""Synthetic samples that ranges are taken from, and as many others that figures are measured on, without data."""
REWRITE_NAMES = tuple(rewrite.name for rewrite in REWRITES)
_ALLOWED = {
    Safety.EXACT: "",
    Safety.DATA: "leave out --exact-only",
    Safety.UNSAFE: "--unsafe",
}


@dataclass(frozen=True, slots=True)
class FixRequest:
    """What is to be done to a model.

    Attributes:
        out: the file to write; None to tell what would be changed, and write nothing.
        data: calibration data; None to try rewrites on synthetic inputs.
        select: names of rewrites; empty for all.
        ignore: names of rewrites that are not wanted.
        exact_only: leave out what is the same on the samples only.
        unsafe: rewrites too that change the interface of the model.
        input_shapes: shapes that inputs are to have, by name.
        fresh: a process apart is a fresh interpreter, never a fork.

    Raises:
        UsageError: a rewrite has no such name.
    """

    out: Path | None = None
    data: DataRequest | None = None
    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    exact_only: bool = False
    unsafe: bool = False
    input_shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    fresh: bool = False

    def __post_init__(self) -> None:
        for name in (*self.select, *self.ignore):
            if name not in REWRITE_NAMES:
                meant = did_you_mean(name, REWRITE_NAMES)
                raise UsageError(f"rewrite {name!r}: choose from {', '.join(REWRITE_NAMES)}{meant}")

    def option_for(self, rewrite: Rewrite) -> str:
        """What would have to be said for a rewrite to be tried; empty where it is."""
        if (rewrite.safety is Safety.UNSAFE and not self.unsafe) or (rewrite.safety is Safety.DATA and self.exact_only):
            return _ALLOWED[rewrite.safety]
        return ""

    def names(self, rewrite: Rewrite) -> bool:
        """Whether it is one of those that are selected."""
        return (not self.select or rewrite.name in self.select) and rewrite.name not in self.ignore


def fix(
    path: Path,
    rules: Sequence[Rule],
    config: Config,
    request: FixRequest,
    progress: Progress = silent,
    called: str = "",
    *,
    apart: bool = True,
) -> Fixed:
    """Apply what leaves the float outputs as they are and makes the quantised ones better; write the result.

    Args:
        path: the model.
        rules: what it is linted with, before and after.
        config: of severities, schemes and levels.
        request: what to do.
        progress: told what is being done.
        called: what messages call a model that is no file of the user's.
        apart: in a process of its own, so that a crash of native code is an error like others.

    Raises:
        ModelError: the file cannot be read or trusted, or run; it is quantised already; or what was made is not what
            it has to be. Nothing is written then.
        DataError: the samples cannot be read or do not fit.
        UsageError: a shape that is given does not fit.
    """
    with _written_whole(request.out) as beside:
        task = partial(_fix, path, rules, config, replace(request, out=beside), called=called)
        try:
            fixed = run_apart(task, progress, fresh=request.fresh) if apart else task(progress)
        except ChildEndedError as error:
            raise ModelError(
                f"{called or path}: could not be fixed: the process {error}; a library or the system ended it, and "
                "--debug shows where"
            ) from error
    return replace(fixed, out=str(request.out)) if request.out is not None else fixed


def _fix(
    path: Path, rules: Sequence[Rule], config: Config, request: FixRequest, progress: Progress, called: str
) -> Fixed:
    clock = [time.perf_counter()]
    progress("reading", 0, 0)
    source = request.data.source if request.data is not None else None
    model, inputs = settled(read_model(path, called), request.input_shapes, source, runs=True)
    measured = measure(model, config.schemes)
    if not measured.is_float:
        raise ModelError(f"{model.name}: {QUANTISED_ALREADY}; fix its float original and quantise that")
    clock.append(time.perf_counter())
    try:
        bench, divided = _calibrated(measured, request, progress)
        mended, withheld = _mended(bench, divided, request, progress)
        clock.append(time.perf_counter())
        progress("linting again", 0, 0)
        made = mended.bench.measured
        before, after = (judge(foresee(one), rules, config) for one in (measured, made))
        if request.out is not None:
            progress("writing", 0, 0)
            save_model(made.model, request.out.parent, request.out.name)
            _check_written(bench, request.out, divided, same_interface=not request.unsafe)
    except NotRunnableError as error:
        raise ModelError(f"{model.name}: ONNX Runtime cannot run the model: {error}; nothing was written") from error
    clock.append(time.perf_counter())
    seen = bench.observations
    assert seen is not None
    known, left = ({finding.fingerprint for finding in findings} for findings in (before, after))
    results = partial(scheme_results, levels=config.levels, by_class=not seen.synthetic)
    return Fixed(
        path=model.name,
        sha256=model.sha256,
        opset=model.opset,
        out=str(request.out) if request.out is not None else "",
        rewrites=tuple(_told(step, measured, made, results) for step in mended.steps),
        withheld=withheld,
        verification=Verification(
            seen.source,
            divided.source.prepared(model.inputs),
            seen.synthetic,
            seen.samples,
            divided.held_out or divided.calibrating,
        ),
        float_sqnr_db=mended.exact.worst_db if mended.exact is not None else None,
        before=results(mended.given),
        after=results(mended.errors),
        resolved=tuple(finding for finding in before if finding.fingerprint not in left),
        remaining=tuple(finding for finding in after if finding.fingerprint in known),
        new=tuple(finding for finding in after if finding.fingerprint not in known),
        notes=tuple(notes_on(inputs)),
        seconds={name: clock[i + 1] - clock[i] for i, name in enumerate(("read", "rewrites", "lint and write"))},
    )


@contextmanager
def _written_whole(out: Path | None) -> Iterator[Path | None]:
    """A file of the same name in a folder beside; its files take their places when all went well.

    Raises:
        ModelError: they cannot be written.
    """
    if out is None:
        yield None
        return
    target = out.resolve()
    beside = target.parent / f".onnxlint-q-{secrets.token_hex(8)}"
    try:
        beside.mkdir()
        yield beside / target.name
        for file in sorted(beside.iterdir(), key=lambda file: file.name == target.name):  # the model last: it names all
            place = target.parent / file.name
            if place.exists():
                shutil.copymode(place, file)
            file.replace(place)
    except OSError as error:
        raise ModelError(f"{out}: cannot be written: {error.strerror or error}; name another file with -o") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _calibrated(measured: Measured, request: FixRequest, progress: Progress) -> tuple[Workbench, Split]:
    """The network with ranges, and which samples they come from."""
    bench, data = workbench(measured), request.data
    if data is not None:
        divided = split(data.source, measured.model.inputs, data.samples)
        bench = replace(bench, observer=data.observer)
    else:
        divided = split(made_up(bench), measured.model.inputs, MADE_UP_SAMPLES)
        bench = replace(bench, alike=True)
    seen = observe(measured, divided.source, divided.calibrating, progress)
    return bench.calibrated(seen, bench.observer), divided


def _mended(
    bench: Workbench, divided: Split, request: FixRequest, progress: Progress
) -> tuple[Mended, tuple[Withheld, ...]]:
    """What the wanted rewrites do, and how many places there are for those that are held back."""
    wanted = [rewrite for rewrite in REWRITES if request.names(rewrite)]
    tried = [rewrite for rewrite in wanted if not request.option_for(rewrite)]
    mended = mend(bench, tried, divided, progress)
    found = ((rewrite, rewrite.find(mended.bench.measured, mended.bench.observations)) for rewrite in wanted)
    places = (
        (rewrite, sum(not isinstance(one, Refusal) for one in candidates))
        for rewrite, candidates in found
        if request.option_for(rewrite)
    )
    return mended, tuple(Withheld(one.name, count, request.option_for(one)) for one, count in places if count)


def _check_written(bench: Workbench, out: Path, divided: Split, *, same_interface: bool) -> None:
    """Read the file again, check it, and run it beside the model that was given.

    Raises:
        ModelError: it is not what it has to be.
    """
    written, given = read_model(out), bench.measured.model
    try:
        onnx.checker.check_model(str(out))
    except onnx.checker.ValidationError as error:
        raise ModelError(f"{given.name}: the fixed model does not pass onnx.checker: {error}") from error
    if same_interface and _interface(written) != _interface(given):
        raise ModelError(f"{given.name}: the fixed model has other inputs or outputs; please report it")
    variants = {UNCHANGED: lambda: workbench(measure(written, ()), bench.limits).executable(UNCHANGED)}
    exact = run_variants(bench, variants, divided.for_verdict)[UNCHANGED]
    if exact.has_signal and (problem := differs(exact)):
        raise ModelError(f"{given.name}: the file that was written is not kept: {problem}")


def _interface(model: Model) -> list[bytes]:
    graph = model.proto.graph
    given = {value.name for value in model.inputs}
    inputs = (value for value in graph.input if value.name in given)
    return [value.SerializeToString(deterministic=True) for value in (*inputs, *graph.output)]


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
