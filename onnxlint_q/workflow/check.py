"""The use case of `check`: files in, one result for each out.

A model goes once through the stages below, top to bottom: read, measure and foresee what the file tells; probe, inspect
and observe what runs show; quantise layer by layer, whole, as the file is where preparing it makes a difference, and
tensor by tensor what the model does not survive; judge, prove the claims, try the remedies, try other samples; assemble
the result.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from onnxlint_q.analysis.measured import measure
from onnxlint_q.errors import DataError, ModelError, OnnxlintError, UsageError, as_one_line
from onnxlint_q.execute.child import ChildEndedError, run_each_apart
from onnxlint_q.execute.data.inspection import inspect
from onnxlint_q.execute.data.labels import check_labels, read_labels
from onnxlint_q.execute.data.split import Split, split
from onnxlint_q.execute.progress import Progress, silent
from onnxlint_q.execute.session import NotRunnableError
from onnxlint_q.execute.stream.observe import observe
from onnxlint_q.execute.variants.unprepared import can_differ, measure_unprepared
from onnxlint_q.execute.variants.workbench import workbench
from onnxlint_q.finding import Evidence, Finding
from onnxlint_q.graph import read_model
from onnxlint_q.judge.config import Config, Overrides
from onnxlint_q.judge.facts import Facts, foresee
from onnxlint_q.judge.own_findings import DATA_UNUSABLE, PROBE_FAILED, RULE_CRASHED, RUN_FAILED, OwnFinding
from onnxlint_q.judge.registry import load_rules
from onnxlint_q.judge.rule import Rule
from onnxlint_q.judge.supersede import without_superseded
from onnxlint_q.proof.costs import measure_costs
from onnxlint_q.proof.probe import made_up, probe
from onnxlint_q.proof.prove import prove
from onnxlint_q.proof.remedies import CONVERSION_SAMPLES, try_conversions, try_requantisations
from onnxlint_q.proof.sensitivity import measure_sensitivity
from onnxlint_q.proof.trials import run_trials
from onnxlint_q.proof.whole import measure_schemes
from onnxlint_q.workflow.assemble import assemble, is_lost, judge_of
from onnxlint_q.workflow.joint_remedies import try_joint_remedies
from onnxlint_q.workflow.overheard import Overhear, given_way, silences_of, trace_of, unheard
from onnxlint_q.workflow.record import QUANTISED_ALREADY, CheckRequest, DataRequest, NotRun, Record
from onnxlint_q.workflow.results import Failure, ModelResult, Run


@dataclass(frozen=True, eq=False)
class Job:
    """One file with the configuration that applies to it and the rules that this chooses."""

    path: Path
    config: Config
    rules: tuple[Rule, ...]


def plan(paths: Sequence[Path], overrides: Overrides) -> tuple[Job, ...]:
    """A job for each file; no model is read yet.

    Raises:
        UsageError: an option or a configuration file cannot be used.
        PluginError: a rule package is broken.
    """
    known = [entry.rule for entry in load_rules()]
    overrides.check(known)
    configs = [overrides.config_for(path) for path in paths]
    jobs = tuple(Job(path, config, config.build(known)) for path, config in zip(paths, configs, strict=True))
    for job in jobs:
        if not job.rules:
            raise UsageError(f"{job.path}: no rule is left to run, all of those selected are ignored; keep one")
    return jobs


def check(jobs: Sequence[Job], request: CheckRequest, progress: Progress = silent) -> Run:
    """Lint every model in a process apart; whatever one of them brings about, the others are still linted.

    A request to debug is served in this process, where a debugger and whoever reads the traces can see it.

    Raises:
        UsageError: the request cannot be used.
    """
    results: list[ModelResult] = []
    failures: list[Failure] = []
    with closing(_here(jobs, request, progress) if request.debug else _apart(jobs, request, progress)) as outcomes:
        for job, outcome in zip(jobs, outcomes, strict=True):
            match outcome:
                case ModelResult():
                    results.append(outcome)
                case UsageError():
                    raise outcome
                case _:  # a defect of the tool included: it is told as one
                    defect = request.debug and not isinstance(outcome, OnnxlintError)
                    traced = "".join(traceback.format_exception(outcome)) if defect else ""
                    failures.append(Failure(str(job.path), as_one_line(outcome, str(job.path)), traced))
    data = request.data.source.name if request.data is not None else ""
    return Run(tuple(results), tuple(failures), data)


def _here(
    jobs: Sequence[Job], request: CheckRequest, progress: Progress
) -> Generator[ModelResult | Exception, None, None]:
    """What `lint` makes of each job, or what it raises."""
    for job in jobs:
        try:
            yield lint(job.path, job.rules, job.config, request, progress)
        except Exception as error:
            yield error


def _apart(
    jobs: Sequence[Job], request: CheckRequest, progress: Progress
) -> Generator[ModelResult | Exception, None, None]:
    """The same in a child process; where one that runs the model is ended, in another that does not.

    A file that ends its reader is a ModelError.
    """
    tasks = [partial(lint, job.path, job.rules, job.config, request) for job in jobs]
    with closing(run_each_apart(tasks, progress)) as outcomes:
        for job, outcome in zip(jobs, outcomes, strict=True):
            if not isinstance(outcome, ChildEndedError):
                yield outcome
            elif request.runs:
                yield from _apart([job], replace(request, ended=f"the process that did it {outcome}"), progress)
            else:
                yield ModelError(
                    f"{job.path}: could not be linted: the process that did it {outcome}; a library or the system "
                    "ended it, --debug shows where"
                )


def lint(
    path: Path, rules: Sequence[Rule], config: Config, request: CheckRequest, progress: Progress = silent
) -> ModelResult:
    """Lint one model, in this process.

    Raises:
        ModelError: the file cannot be read or trusted.
    """
    progress("reading", 0, 0)
    clock = [time.perf_counter()]
    model = read_model(path)
    clock.append(time.perf_counter())
    progress("measuring", 0, 0)
    facts = foresee(measure(model, config.schemes))
    clock.append(time.perf_counter())
    spent = {name: clock[i + 1] - clock[i] for i, name in enumerate(("read", "measure"))}
    record = Record(request, tuple(rules), config, facts, seconds=spent)
    for stage in STAGES:
        record = _through(stage, record, progress)
    return assemble(record)


@dataclass(frozen=True, slots=True)
class Stage:
    """One step after the file is known.

    Attributes:
        name: in the list of times.
        doing: what happens meanwhile, in words that follow `while`.
        wanted: whether it was asked for and what it starts from is there.
        fill: gives the record with the stage's field filled.
        option: what asks for it; empty for a stage that runs nothing.
        missing: what there is not where it fails, in words.
        kind: the finding that says so.
        float_only: it quantises the model, so a quantised one is none for it.
    """

    name: str
    doing: str
    wanted: Callable[[Record], bool]
    fill: Callable[[Record, Progress], Record]
    option: str = ""
    missing: str = ""
    kind: OwnFinding = RUN_FAILED
    float_only: bool = False


def _through(stage: Stage, record: Record, progress: Progress) -> Record:
    """The record after one stage, which leaves a note instead of its field where a run did not happen."""
    if not stage.wanted(record):
        return record
    if stage.float_only and not record.facts.is_float:
        return _without(record, stage, stage.kind, QUANTISED_ALREADY)
    if stage.option and record.request.ended:
        return _without(record, stage, stage.kind, record.request.ended)
    progress(stage.doing, 0, 0)
    start = time.perf_counter()
    try:
        record = stage.fill(record, progress)
    except Exception as error:  # what keeps a run from happening costs that run alone, a defect included
        if not stage.option or (isinstance(error, OnnxlintError) and not isinstance(error, DataError)):
            raise
        record = _failed(record, stage, error)
    return replace(record, seconds={**record.seconds, stage.name: time.perf_counter() - start})


def _failed(record: Record, stage: Stage, error: Exception) -> Record:
    """The record without a run that raised `error`."""
    match error:
        case DataError():
            kind = DATA_UNUSABLE if stage.kind is RUN_FAILED else stage.kind
            return _without(record, stage, kind, str(error))
        case NotRunnableError():
            return _without(record, stage, stage.kind, f"ONNX Runtime cannot run the model: {error}")
        case _:
            told = tuple(trace_of(stage.name, error)) if record.request.debug else ()
            return _without(replace(record, debug=record.debug + told), stage, stage.kind, as_one_line(error))


def _without(record: Record, stage: Stage, kind: OwnFinding, reason: str) -> Record:
    if any((other.kind, other.reason) == (kind, reason) for other in record.not_run):
        return record  # one fault is one finding, however many stages it stops
    return replace(record, not_run=(*record.not_run, NotRun(kind, stage.option, stage.missing, reason)))


def _data(record: Record) -> DataRequest:
    assert record.request.data is not None
    return record.request.data


def _split(record: Record) -> Split:
    assert record.split is not None
    return record.split


def _fold(record: Record, _: Progress) -> Record:
    return replace(record, bench=workbench(record.facts))


def _probe(record: Record, progress: Progress) -> Record:
    assert record.bench is not None
    return replace(record, probe=probe(record.bench, progress))


def _inspect(record: Record, progress: Progress) -> Record:
    data, facts = _data(record), record.facts
    divided = split(data.source, facts.model.inputs, data.samples, judged=facts.is_float)
    seen = inspect(facts, data.source, divided.used, progress)
    return replace(record, split=divided, facts=facts.inspected(replace(seen, for_ranges=divided.calibrating)))


def _observe(record: Record, progress: Progress) -> Record:
    data = _data(record)
    observations = observe(record.facts, data.source, _split(record).calibrating, progress)
    bench = record.bench.calibrated(observations, data.observer) if record.bench is not None else None
    return replace(record, facts=record.facts.observed(observations), bench=bench)


def _labels(record: Record, _: Progress) -> Record:
    data, model = _data(record), record.facts.model
    assert data.labels is not None
    labels = read_labels(data.labels, data.source)
    if record.facts.is_classifier:
        check_labels(labels, _split(record).used, (model.outputs[0].type.shape or ())[1:2])
    return replace(record, labels=labels)


def _measure_layers(record: Record, progress: Progress) -> Record:
    assert record.bench is not None
    return replace(record, table=measure_sensitivity(record.bench, _split(record).for_ranges, progress))


def _measure_schemes(record: Record, progress: Progress) -> Record:
    assert record.bench is not None
    return replace(record, whole=measure_schemes(record.bench, _split(record), progress, record.labels))


def _measure_costs(record: Record, progress: Progress) -> Record:
    assert record.bench is not None and record.whole is not None
    lost = [scheme for scheme in record.facts.schemes if is_lost(record, scheme)]
    costs = measure_costs(record.bench, record.whole, lost, _split(record).for_ranges, record.table, progress)
    return replace(record, costs=costs, facts=record.facts.costed(costs.by_scheme))


def _unprepared(record: Record, progress: Progress) -> Record:
    assert record.bench is not None and record.whole is not None
    found = measure_unprepared(record.bench, _split(record), record.whole.errors, progress)
    return replace(record, facts=record.facts.quantised_unprepared(found))


def _judge(record: Record, _: Progress) -> Record:
    lines: list[str] = []
    judged = judge(record.facts, record.rules, record.config, lines.extend if record.request.debug else unheard)
    return replace(record, judged=tuple(judged), debug=(*record.debug, *lines))


def _prove(record: Record, progress: Progress) -> Record:
    assert record.bench is not None
    proof = prove(record.bench, record.judged, _split(record).for_ranges, progress, record.alone)
    findings = tuple(_restored(proof.findings, record.rules, record.config))
    return replace(record, proof=replace(proof, findings=findings))


def _try_remedies(record: Record, progress: Progress) -> Record:
    bench, findings, data = record.bench, record.findings, record.request.data
    assert bench is not None
    seen = bench.observations
    source = data.source if data is not None and seen is not None else made_up(bench)
    take = partial(source.take, bench.measured.model.inputs)
    findings = try_conversions(bench, findings, partial(take, CONVERSION_SAMPLES))
    if record.whole is not None:
        same, levels = _split(record).for_verdict, record.config.levels
        findings = try_requantisations(bench, findings, record.whole.errors, levels, same, progress)
    return replace(record, advised=findings)


def _leave_in_float(record: Record, progress: Progress) -> Record:
    return replace(record, joint=try_joint_remedies(record, judge_of(record), progress))


def _trials(record: Record, progress: Progress) -> Record:
    data = _data(record)
    assert record.bench is not None
    levels = record.config.levels
    trials = run_trials(record.bench, data.source, data.samples, data.trials, levels, progress)
    return replace(record, trials=trials)


def _observed(record: Record) -> bool:
    return record.facts.observations is not None


STAGES = (
    Stage(
        "fold",
        "folding",
        wanted=lambda record: record.facts.is_float and (record.request.probe or record.request.data is not None),
        fill=_fold,
    ),
    Stage(
        "probe",
        "probing",
        wanted=lambda record: record.request.probe,
        fill=_probe,
        option="--probe",
        missing="The probe did not happen",
        kind=PROBE_FAILED,
        float_only=True,
    ),
    Stage(
        "inspect",
        "inspecting the data",
        wanted=lambda record: record.request.data is not None,
        fill=_inspect,
        option="--calibrate",
        missing="The model was not run on the data",
    ),
    Stage(
        "observe",
        "running it on the data",
        wanted=lambda record: record.facts.data is not None,
        fill=_observe,
        option="--calibrate",
        missing="The model was not run on the data",
    ),
    Stage(
        "layers",
        "quantising its layers",
        wanted=lambda record: _observed(record) and _data(record).layers,
        fill=_measure_layers,
        option="--measure layers",
        missing="The layers were not quantised one by one",
        float_only=True,
    ),
    Stage(
        "labels",
        "reading the labels",
        wanted=lambda record: _observed(record) and _data(record).labels is not None,
        fill=_labels,
        option="--labels",
        missing="How often the model is right was not measured",
        float_only=True,
    ),
    Stage(
        "schemes",
        "quantising it",
        wanted=lambda record: _observed(record) and record.facts.is_float,
        fill=_measure_schemes,
        option="--calibrate",
        missing="No claim was tested and no scheme was measured",
    ),
    Stage(
        "costs",
        "quantising its tensors one by one",
        wanted=lambda record: record.whole is not None,
        fill=_measure_costs,
        option="--calibrate",
        missing="The tensors were not quantised one by one",
    ),
    Stage(
        "unprepared",
        "quantising it as it is",
        wanted=lambda record: record.whole is not None and record.bench is not None and can_differ(record.bench),
        fill=_unprepared,
        option="--calibrate",
        missing="The model was not quantised as it is, without quant_pre_process",
    ),
    Stage("judge", "judging", wanted=lambda record: True, fill=_judge),
    Stage(
        "prove",
        "testing claims",
        wanted=lambda record: record.whole is not None,
        fill=_prove,
        option="--calibrate",
        missing="No claim was tested",
    ),
    Stage(
        "remedies",
        "trying remedies",
        wanted=lambda record: record.facts.is_float and (record.probe is not None or _observed(record)),
        fill=_try_remedies,
        option="--calibrate",
        missing="Remedies were not tried",
    ),
    Stage(
        "joint remedy",
        "trying which nodes to leave in float",
        wanted=lambda record: record.whole is not None and not _data(record).source.synthetic,
        fill=_leave_in_float,
        option="--calibrate",
        missing="No list of nodes to leave in float was tried",
    ),
    Stage(
        "trials",
        "calibrating on other samples",
        wanted=lambda record: _observed(record) and _data(record).trials > 0,
        fill=_trials,
        option="--trials",
        missing="There are no trials",
        float_only=True,
    ),
)
"""What follows once the file is known, in this order."""


def judge(facts: Facts, rules: Sequence[Rule], config: Config, overhear: Overhear = unheard) -> list[Finding]:
    """The findings of all rules, one a fault; a rule that crashes is one of them and does not stop the others.

    What a rule about a pair supersedes is not settled here, but with the comparison.

    Args:
        facts: of one file.
        rules: to ask.
        config: of severities and claims.
        overhear: told, for who debugs a rule, why it did not fire where it looked.
    """
    findings: list[Finding] = []
    schemes = {scheme.name for scheme in facts.schemes}
    for rule in rules:
        try:
            told = tuple(rule.check(facts))
        except OnnxlintError:
            raise
        except Exception as error:  # a rule may come from anybody
            overhear(trace_of(f"{rule.code} {rule.name}", error))
            findings.append(_crash(rule, error))
            continue
        found = [_configured(finding, rule, config) for finding in told if isinstance(finding, Finding)]
        kept = [f for f in found if f.claim is None or f.claim.scheme in schemes]
        findings.extend(kept)
        overhear(silences_of(rule, facts, told, kept))
    about_files = [rule for rule in rules if not rule.needs_comparison]
    alone = list(without_superseded(findings, about_files, facts.quantized))
    overhear(given_way(findings, alone))
    return alone


def _configured(finding: Finding, rule: Rule, config: Config) -> Finding:
    severity = config.severity_of(rule)
    claim = finding.claim and replace(finding.claim, below_db=config.confirm_below_db)
    return replace(finding, severity=severity or finding.severity, claim=claim)


def _restored(findings: Sequence[Finding], rules: Sequence[Rule], config: Config) -> list[Finding]:
    """Confirmed findings at the severity of their rule, where the rule had lowered it for want of proof."""
    own = {rule.code: config.severity_of(rule) or rule.severity for rule in rules}
    return [
        replace(finding, severity=max(finding.severity, own[finding.code], key=lambda severity: severity.rank))
        if finding.evidence is Evidence.CONFIRMED and finding.claim is not None and finding.code in own
        else finding
        for finding in findings
    ]


def _crash(rule: Rule, error: Exception) -> Finding:
    return RULE_CRASHED.finding(
        rule.code,
        f"rule {rule.code} {rule.name} failed: {type(error).__name__}: {error}",
        f"report it with the model, and run with --ignore {rule.code} until it is mended",
    )
