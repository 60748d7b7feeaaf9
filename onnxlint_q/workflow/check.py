"""The use case of `check`: files in, one result for each out.

A model goes once through the house: it is read, measured and foreseen, goes through the stages, and is assembled.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from onnxlint_q.analysis.measured import measure
from onnxlint_q.errors import ModelError, OnnxlintError, UsageError, as_one_line
from onnxlint_q.execute.child import MORE_MEMORY, MORE_TIME, ChildEndedError, run_each_apart
from onnxlint_q.execute.first_run import run_once
from onnxlint_q.execute.progress import MODELS, Progress, silent
from onnxlint_q.execute.session import TooLongError
from onnxlint_q.execute.workers import Together
from onnxlint_q.graph import read_model
from onnxlint_q.graph.loading.external import stored_bytes
from onnxlint_q.judge.config import Config, Overrides
from onnxlint_q.judge.facts import foresee
from onnxlint_q.judge.registry import load_rules
from onnxlint_q.judge.rule import Rule
from onnxlint_q.judge.suppression import Baseline
from onnxlint_q.workflow.assembly.assemble import assemble
from onnxlint_q.workflow.assembly.known import after_run, once, with_baselines
from onnxlint_q.workflow.many.spread import HERE, Places, spread
from onnxlint_q.workflow.record import CheckRequest, DataRequest, Record
from onnxlint_q.workflow.results import Failure, ModelResult, Run
from onnxlint_q.workflow.sizes import settled
from onnxlint_q.workflow.stages.stage import through
from onnxlint_q.workflow.stages.table import STAGES

_SMALL_BYTES, _BYTES_A_SECOND = 1 << 20, 14e6


@dataclass(frozen=True, eq=False)
class Job:
    """One file with the configuration that applies to it and the rules that this chooses.

    Attributes:
        called: what to call a model that is no file of the user's; empty for one that is.
        problem: why the configuration that applies cannot be used; empty where it can.
        data: what to run it on, where not all models of the run have the same.
    """

    path: Path
    config: Config
    rules: tuple[Rule, ...]
    called: str = ""
    problem: str = ""
    data: DataRequest | None = None

    def asked(self, request: CheckRequest) -> CheckRequest:
        """What is asked of this model."""
        return request if self.data is None else replace(request, data=self.data)

    @property
    def name(self) -> str:
        """What messages call the model."""
        return self.called or str(self.path)


def plan(paths: Sequence[Path], overrides: Overrides) -> tuple[Job, ...]:
    """A job for each file; no model is read yet.

    A configuration beside one model that cannot be used costs that model; where it is the only one, or none is left,
    it is an error.

    Raises:
        UsageError: an option or a configuration file cannot be used.
        PluginError: a rule package is broken.
    """
    known = [entry.rule for entry in load_rules()]
    overrides.check(known)
    jobs, errors = [], []
    for path in paths:
        try:
            jobs.append(_job(path, overrides, known))
        except UsageError as error:
            jobs.append(Job(path, Config(), (), problem=str(error)))
            errors.append(error)
    if errors and (overrides.file is not None or len(errors) == len(jobs)):
        raise errors[0]
    knowing = with_baselines([job.config for job in jobs], paths)
    return tuple(replace(job, config=config) for job, config in zip(jobs, knowing, strict=True))


def _job(path: Path, overrides: Overrides, known: Sequence[type[Rule]]) -> Job:
    config = overrides.config_for(path, known)
    rules = config.build(known)
    if not rules:
        raise UsageError(f"{path}: all selected rules are ignored, so none is left to run; keep one")
    return Job(path, config, rules)


def check(jobs: Sequence[Job], request: CheckRequest, progress: Progress = silent, places: Places = HERE) -> Run:
    """Lint every model in a process apart; whatever one of them brings about, the others are still linted.

    A request to debug is served in this process, where a debugger and whoever reads the traces can see it.

    Args:
        jobs: the models; results come in their order.
        request: what is done with each.
        progress: told how far it is.
        places: where, and how many at once.

    Raises:
        UsageError: the request cannot be used, or a place cannot be reached.
    """
    results: list[ModelResult] = []
    failures: list[Failure] = []
    sound = [job for job in jobs if not job.problem]
    count = progress if len(jobs) > 1 and not places.several else silent
    with closing(_outcomes(sound, request, progress, places)) as outcomes:
        for number, job in enumerate(jobs):
            count(MODELS, number, len(jobs))
            outcome = ModelError(f"{job.name}: {job.problem}") if job.problem else next(outcomes)
            match outcome:
                case ModelResult():
                    results.append(outcome)
                case UsageError():
                    raise outcome
                case _:  # a defect of the tool included: it is told as one
                    defect = request.debug and not isinstance(outcome, OnnxlintError)
                    traced = "".join(traceback.format_exception(outcome)) if defect else ""
                    failures.append(Failure(job.name, as_one_line(outcome, job.name), traced))
    data = dict.fromkeys(said.source.name for job in jobs if (said := job.asked(request).data) is not None)
    return Run(once(results), tuple(failures), ", ".join(data))


def renewed(baseline: Path, jobs: Sequence[Job], run: Run, *, prune: bool) -> Baseline:
    """A baseline after a run in which every model was linted; `prune` as of `after_run`.

    Raises:
        UsageError: the file is there and no baseline.
    """
    found = zip(jobs, run.models, strict=True)
    about = ((job.path, model) for job, model in found if not prune or job.config.baseline == baseline)
    return after_run(baseline, about, prune=prune)


def check_one(job: Job, request: CheckRequest, progress: Progress = silent) -> ModelResult:
    """Lint one model in a process apart.

    Raises:
        ModelError: it cannot be read or trusted.
        UsageError: the request cannot be used.
        DefectError: something that should not happen did.
    """
    with closing(_apart([job], request, progress)) as outcomes:
        outcome = next(outcomes)
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def _outcomes(
    jobs: Sequence[Job], request: CheckRequest, progress: Progress, places: Places
) -> Generator[ModelResult | Exception, None, None]:
    if request.debug:
        return _here(jobs, request, progress)
    if places.several:
        return _spread(jobs, request, progress, places)
    return _apart(jobs, request, progress)


def _spread(
    jobs: Sequence[Job], request: CheckRequest, progress: Progress, places: Places
) -> Generator[ModelResult | Exception, None, None]:
    yield from spread(jobs, partial(_of_share, request), _weight, places, progress)


def foreseen_seconds(jobs: Sequence[Job]) -> float:
    """About what a static check of all takes on one processor, too little rather than too much."""
    return sum(map(_weight, jobs)) / _BYTES_A_SECOND


def _weight(job: Job) -> float:
    """About what linting it takes, in bytes: reading a small model takes as long as some more weights."""
    return _SMALL_BYTES + stored_bytes(job.path)


def _of_share(request: CheckRequest, share: Sequence[Job], together: Together) -> list[ModelResult | Exception]:
    """In a thread, or on another machine: whose process this is, is not known, so the one apart is no copy of it."""
    with closing(_apart(share, replace(request, fresh=True), silent, together)) as outcomes:
        return list(outcomes)


def _here(
    jobs: Sequence[Job], request: CheckRequest, progress: Progress
) -> Generator[ModelResult | Exception, None, None]:
    """What `lint` makes of each job, or what it raises."""
    for job in jobs:
        outcome: ModelResult | Exception
        try:
            outcome = lint(job.path, job.rules, job.config, job.asked(request), progress, job.called)
        except Exception as error:  # a defect included: as from the process apart, it is told and the next file follows
            outcome = error
        yield outcome


def _apart(
    jobs: Sequence[Job], request: CheckRequest, progress: Progress, together: Together | None = None
) -> Generator[ModelResult | Exception, None, None]:
    """The same in a child process; where one that runs the model is ended, in another that does not.

    A file that ends its reader is a ModelError.
    """
    tasks = [partial(lint, job.path, job.rules, job.config, job.asked(request), called=job.called) for job in jobs]
    budgets = [request.asked.for_models(stored_bytes(job.path)) for job in jobs]
    with closing(run_each_apart(tasks, progress, fresh=request.fresh, budgets=budgets, together=together)) as outcomes:
        for job, outcome in zip(jobs, outcomes, strict=True):
            if not isinstance(outcome, ChildEndedError):
                yield outcome
            elif job.asked(request).runs:
                yield from _apart([job], replace(request, ended=_ended(outcome)), progress, together)
            else:
                yield ModelError(f"{job.name}: could not be linted: the process {outcome}; {outcome.advice}")


def _ended(outcome: ChildEndedError) -> str:
    """How the run ended its process, and what the user may do about it."""
    more = f"; {outcome.advice}" if outcome.advice in {MORE_MEMORY, MORE_TIME} else ""
    return f"the process {outcome}{more}"


def lint(
    path: Path,
    rules: Sequence[Rule],
    config: Config,
    request: CheckRequest,
    progress: Progress = silent,
    called: str = "",
) -> ModelResult:
    """Lint one model, in this process; `called` is as of a Job.

    Raises:
        ModelError: the file cannot be read or trusted.
        UsageError: a shape that is given does not fit it.
    """
    progress("reading", 0, 0)
    clock = [time.perf_counter()]
    source = request.data.source if request.data is not None else None
    read = read_model(path, called)
    try:
        model, inputs = settled(read, request.input_shapes, source, request.asked if request.runs else None)
    except TooLongError as error:
        request = replace(request, ended=str(error))
        model, inputs = settled(read, request.input_shapes, source)
    clock.append(time.perf_counter())
    progress("measuring", 0, 0)
    measured = measure(model, config.schemes)
    if request.runs:
        try:
            run_once(measured, source, request.asked)
        except TooLongError as error:
            request = replace(request, ended=str(error))
    facts = foresee(measured).meant_for(config.targets).as_half(asked=config.half)
    clock.append(time.perf_counter())
    spent = {name: clock[i + 1] - clock[i] for i, name in enumerate(("read", "measure"))}
    record = Record(request, tuple(rules), config, facts, inputs, seconds=spent)
    for stage in STAGES:
        record = through(stage, record, progress)
    return assemble(record)
