"""The stages that a model goes through once its file is known; each fills one field of the record.

Probe, inspect and observe what runs show; quantise layer by layer, whole, as the file is where preparing it makes a
difference, and tensor by tensor what the model does not survive; judge, prove the claims, try rewrites and other
remedies, try other samples.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

from onnxlint_q.analysis.inputs.contents import find_contents
from onnxlint_q.analysis.outputs.output_kind import holds_scores
from onnxlint_q.errors import DataError, OnnxlintError, as_one_line
from onnxlint_q.execute.child import MORE_MEMORY
from onnxlint_q.execute.data.inspection import inspect
from onnxlint_q.execute.data.labels import check_labels, read_labels
from onnxlint_q.execute.data.split import Split, split
from onnxlint_q.execute.data.synthetic import Contents, SyntheticSource
from onnxlint_q.execute.deployment.run import SAMPLES, run_as_deployed
from onnxlint_q.execute.half.run import run_halved
from onnxlint_q.execute.progress import Progress
from onnxlint_q.execute.session import NotRunnableError
from onnxlint_q.execute.stream.observe import observe
from onnxlint_q.execute.variants.accuracy import A_CLASS_EACH, scored_output
from onnxlint_q.execute.variants.unprepared import can_differ, measure_unprepared
from onnxlint_q.execute.variants.workbench import workbench
from onnxlint_q.finding import Rescaling
from onnxlint_q.judge.own_findings import DATA_UNUSABLE, PROBE_FAILED, RUN_FAILED, OwnFinding
from onnxlint_q.proof.costs import measure_costs
from onnxlint_q.proof.mending.factors import plan_factors
from onnxlint_q.proof.mending.masks import plan_masks
from onnxlint_q.proof.mending.plan import Planner
from onnxlint_q.proof.mending.told import with_mendings
from onnxlint_q.proof.mending.transaction import mend
from onnxlint_q.proof.mending.trial import try_rewrites
from onnxlint_q.proof.probing.inputs import made_up
from onnxlint_q.proof.probing.probe import probe
from onnxlint_q.proof.prove import prove
from onnxlint_q.proof.remedies import CONVERSION_SAMPLES, try_conversions, try_requantisations
from onnxlint_q.proof.sensitivity import measure_sensitivity
from onnxlint_q.proof.trials import run_trials
from onnxlint_q.proof.whole import measure_schemes
from onnxlint_q.rewrite.table import DEFAULT_REWRITES
from onnxlint_q.workflow.assembly.joint_remedies import try_joint_remedies
from onnxlint_q.workflow.assembly.verdicts import is_lost, judge_of
from onnxlint_q.workflow.judging import judge, restored
from onnxlint_q.workflow.overheard import trace_of, unheard
from onnxlint_q.workflow.record import QUANTISED_ALREADY, DataRequest, NotRun, Record

NO_CLASSES = "labels need exactly one output with class scores, and the model has no such output"
NO_ACCURACY = "Accuracy was not measured"
# Samples of a run as float16 where there is no data.
_MADE_UP = 4


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


def through(stage: Stage, record: Record, progress: Progress) -> Record:
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
            return _without(record, stage, stage.kind, f"ONNX Runtime cannot run it: {error}")
        case MemoryError():
            return _without(record, stage, stage.kind, f"it needs more memory than it may have; {MORE_MEMORY}")
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


def _deploy(record: Record, _: Progress) -> Record:
    data, model = record.request.data, record.facts.model
    source = data.source if data is not None else SyntheticSource(Contents(find_contents(model)))
    deployed = run_as_deployed(model, list(source.take(model.inputs, SAMPLES)))
    return replace(record, facts=record.facts.run_as_deployed(deployed))


def _as_half(record: Record, progress: Progress) -> Record:
    facts, bench, data = record.facts, record.bench, record.request.data
    assert bench is not None
    source, count = (data.source, _split(record).used) if data is not None else (made_up(bench), _MADE_UP)
    samples = partial(source.take, facts.model.inputs, count)
    half = run_halved(facts, samples, whole=facts.half_asked, synthetic=source.synthetic, progress=progress)
    return replace(record, half=half, facts=facts.run_as_half(half.halved))


def _labels(record: Record, _: Progress) -> Record:
    data, model = _data(record), record.facts.model
    assert data.labels is not None
    labels, scored = read_labels(data.labels, data.source), scored_output(record.facts.outputs)
    if scored is None:
        raise DataError(NO_CLASSES)
    shape = model.outputs[scored[0]].type.shape
    if shape is not None and not holds_scores(shape) and len(shape) > 2:
        raise DataError(f"output {scored[1].name!r} {A_CLASS_EACH}")
    check_labels(labels, _split(record).used, (shape or ())[1:2])
    return replace(record, labels=labels)


def _measure_layers(record: Record, progress: Progress) -> Record:
    assert record.bench is not None
    return replace(record, table=measure_sensitivity(record.bench, _split(record).for_ranges, progress))


def _measure_schemes(record: Record, progress: Progress) -> Record:
    assert record.bench is not None
    whole = measure_schemes(record.bench, _split(record), progress, record.labels)
    if whole.problem:
        missing = NotRun(DATA_UNUSABLE, "--labels", NO_ACCURACY, whole.problem)
        record = replace(record, not_run=(*record.not_run, missing))
    return replace(record, whole=whole)


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
    findings = tuple(restored(proof.findings, record.rules, record.config))
    return replace(record, proof=replace(proof, findings=findings))


def _planners(record: Record) -> Iterator[Planner]:
    """Masks before factors: beside a mask that takes all codes, nothing else shows."""
    unmasked = record.facts.unmasked
    if unmasked is not None and unmasked.candidates and record.facts.calibrated_schemes:
        yield partial(plan_masks, tuple(unmasked.candidates.values()))
    advised = (finding.change for finding in record.findings if finding.counts)
    factors = tuple(dict.fromkeys(change for change in advised if isinstance(change, Rescaling)))
    if factors:
        yield partial(plan_factors, factors)


def _rewrite(record: Record, progress: Progress) -> Record:
    assert record.bench is not None and record.whole is not None
    planners = tuple(_planners(record))
    tried = try_rewrites(record.bench, record.whole, planners, _split(record), progress, record.labels)
    return replace(record, mendings=tried)


def _try_remedies(record: Record, progress: Progress) -> Record:
    bench, findings, data = record.bench, record.findings, record.request.data
    assert bench is not None
    seen = bench.observations
    source = data.source if data is not None and seen is not None else made_up(bench)
    take = partial(source.take, bench.measured.model.inputs)
    findings = try_conversions(bench, findings, partial(take, CONVERSION_SAMPLES))
    findings = with_mendings(findings, record.mendings, judge_of(record))
    if record.whole is not None:
        same = _split(record).for_verdict
        findings = try_requantisations(bench, findings, record.whole.errors, judge_of(record), same, progress)
    return replace(record, advised=findings)


def _leave_in_float(record: Record, progress: Progress) -> Record:
    return replace(record, joint=try_joint_remedies(record, judge_of(record), progress))


def _preview(record: Record, progress: Progress) -> Record:
    assert record.bench is not None
    return replace(record, mended=mend(record.bench, DEFAULT_REWRITES, _split(record), progress))


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
        missing="The probe failed",
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
        "deploy",
        "running it with default options",
        wanted=lambda record: record.request.runs and not record.facts.is_float,
        fill=_deploy,
        option="--calibrate",
        missing="The file was not run with default options",
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
        "float16",
        "running it as float16",
        wanted=lambda record: (
            record.facts.in_half
            and (record.split is not None or record.request.data is None)
            and record.bench is not None
        ),
        fill=_as_half,
        option="--calibrate",
        missing="It was not run as float16",
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
        missing=NO_ACCURACY,
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
        missing="Quantising without quant_pre_process was not tried",
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
        "rewrites",
        "trying rewrites",
        wanted=lambda record: record.whole is not None and any(_planners(record)),
        fill=_rewrite,
        option="--calibrate",
        missing="Rewrites were not tried",
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
        "fix preview",
        "trying what fix would do",
        wanted=lambda record: record.request.fix_preview and record.whole is not None,
        fill=_preview,
        option="--fix-preview",
        missing="What fix would do was not tried",
    ),
    Stage(
        "trials",
        "calibrating on other samples",
        wanted=lambda record: _observed(record) and _data(record).trials > 0,
        fill=_trials,
        option="--trials",
        missing="The trials did not run",
        float_only=True,
    ),
)
"""What follows once the file is known, in this order."""
