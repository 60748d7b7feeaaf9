"""The use case of `fix`: a float model in, one that quantises better and computes the same out."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import onnx

from onnxlint_q.analysis.experiment import UNCHANGED
from onnxlint_q.analysis.measured import Measured, measure
from onnxlint_q.errors import ModelError
from onnxlint_q.execute.child import ChildEndedError, run_apart
from onnxlint_q.execute.data.split import Split
from onnxlint_q.execute.first_run import run_once
from onnxlint_q.execute.limits import USUAL, Asked
from onnxlint_q.execute.progress import Progress, silent
from onnxlint_q.execute.session import NotRunnableError, TooLongError, load_as_deployed
from onnxlint_q.execute.variants.variant_runs import run_variants
from onnxlint_q.execute.variants.workbench import Workbench, workbench
from onnxlint_q.graph import Model, read_model
from onnxlint_q.graph.loading.external import stored_bytes
from onnxlint_q.graph.loading.save import save_model
from onnxlint_q.judge.config import Config
from onnxlint_q.judge.rule import Rule
from onnxlint_q.proof.mending.transaction import Step, differs, restored
from onnxlint_q.rewrite.rewriting import Safety
from onnxlint_q.workflow.mending.files import written_whole
from onnxlint_q.workflow.mending.fixed import Fixed
from onnxlint_q.workflow.mending.mend import Selection, calibrated, mended, told, withheld
from onnxlint_q.workflow.record import QUANTISED_ALREADY, DataRequest
from onnxlint_q.workflow.results import TakenShape
from onnxlint_q.workflow.sizes import settled


@dataclass(frozen=True, slots=True)
class FixRequest:
    """What is to be done to a model.

    Attributes:
        out: the file to write; None to tell what would be changed, and write nothing.
        data: calibration data; None to try rewrites on synthetic inputs.
        selection: which rewrites are to be tried.
        input_shapes: shapes that inputs are to have, by name.
        fresh: a process apart is a fresh interpreter, never a fork.
        asked: what it may take.
    """

    out: Path | None = None
    data: DataRequest | None = None
    selection: Selection = field(default_factory=Selection)
    input_shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    fresh: bool = False
    asked: Asked = USUAL


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
    with written_whole(request.out) as beside:
        task = partial(_fix, path, rules, config, replace(request, out=beside), called=called)
        budget = request.asked.for_models(stored_bytes(path))
        try:
            fixed = run_apart(task, progress, fresh=request.fresh, budget=budget) if apart else task(progress)
        except ChildEndedError as error:
            raise ModelError(f"{called or path}: could not be fixed: the process {error}; {error.advice}") from error
    return replace(fixed, out=str(request.out)) if request.out is not None else fixed


def float_model(
    path: Path,
    called: str,
    config: Config,
    shapes: Mapping[str, tuple[int, ...]],
    data: DataRequest | None,
    asked: Asked = USUAL,
) -> tuple[Measured, tuple[TakenShape, ...]]:
    """The model of a file, measured.

    Raises:
        ModelError: it cannot be read or trusted, or run in the time that it may take, or it is quantised already.
        DataError, UsageError: a shape of the data, or one that is given, does not fit.
        UsageError: no scheme that is asked for quantises.
    """
    config.check_quantises()
    source = data.source if data is not None else None
    read = read_model(path, called)
    try:
        model, inputs = settled(read, shapes, source, asked)
        measured = measure(model, config.schemes)
        if not measured.is_float:
            raise ModelError(f"{model.name}: {QUANTISED_ALREADY}; take its float original")
        run_once(measured, source, asked)
    except TooLongError as error:
        raise ModelError(f"{read.name}: {error}; nothing was written") from error
    return measured, inputs


def _fix(
    path: Path, rules: Sequence[Rule], config: Config, request: FixRequest, progress: Progress, called: str
) -> Fixed:
    clock = [time.perf_counter()]
    progress("reading", 0, 0)
    measured, inputs = float_model(path, called, config, request.input_shapes, request.data, request.asked)
    clock.append(time.perf_counter())
    try:
        bench, divided = calibrated(measured, request.data, progress)
        made = mended(bench, divided, request.selection, progress)
        held = withheld(made, request.selection)
        clock.append(time.perf_counter())
        progress("linting again", 0, 0)
        fixed = told(bench, made, divided, held, inputs, rules, config)
        if request.out is not None:
            progress("writing", 0, 0)
            save_model(made.bench.measured.model, request.out.parent, request.out.name)
            _check(bench, request.out, divided, made.steps)
    except NotRunnableError as error:
        name = measured.model.name
        raise ModelError(f"{name}: ONNX Runtime cannot run the model: {error}; nothing was written") from error
    clock.append(time.perf_counter())
    spent = {name: clock[i + 1] - clock[i] for i, name in enumerate(("read", "rewrites", "lint and write"))}
    return replace(fixed, out=str(request.out) if request.out is not None else "", seconds=spent)


def _check(bench: Workbench, out: Path, divided: Split, steps: Sequence[Step]) -> None:
    """Read the file again, check it, and run it beside the model that was given.

    Raises:
        ModelError: it is not what it has to be.
    """
    written, given = read_model(out), bench.measured.model
    if (problem := _unsound(out)) and not _unsound(given.path):
        raise ModelError(f"{given.name}: the file that was written is not kept: {problem}")
    done = [(step.rewrite, step.kept) for step in steps if step.kept]
    unsafe = any(rewrite.safety is Safety.UNSAFE for rewrite, _ in done)
    if not unsafe and _interface(written) != _interface(given):
        raise ModelError(f"{given.name}: the fixed model has other inputs or outputs; please report it")
    made = restored(workbench(measure(written, ()), bench.limits).executable(UNCHANGED), done)
    exact = run_variants(bench, {UNCHANGED: lambda: made}, divided.for_verdict)[UNCHANGED]
    if exact.has_signal and (problem := differs(exact)):
        raise ModelError(f"{given.name}: the file that was written is not kept: {problem}")


def _unsound(path: Path) -> str:
    """Why others would not take a file: onnx.checker, or ONNX Runtime as it comes; empty where both do."""
    try:
        onnx.checker.check_model(str(path))
        load_as_deployed(path)
    except onnx.checker.ValidationError as error:
        return f"it does not pass onnx.checker: {' '.join(str(error).split())}"
    except NotRunnableError as error:
        return f"ONNX Runtime does not load it: {error}"
    return ""


def _interface(model: Model) -> list[bytes]:
    graph = model.proto.graph
    given = {value.name for value in model.inputs}
    inputs = (value for value in graph.input if value.name in given)
    return [value.SerializeToString(deterministic=True) for value in (*inputs, *graph.output)]
