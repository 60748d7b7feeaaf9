"""Stages that run the model and measure it; the judging of what they saw."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial

from onnxlint_q.analysis.inputs.contents import find_contents
from onnxlint_q.analysis.outputs.output_kind import holds_scores
from onnxlint_q.errors import DataError
from onnxlint_q.execute.data.inspection import inspect
from onnxlint_q.execute.data.labels import check_labels, read_labels
from onnxlint_q.execute.data.split import split
from onnxlint_q.execute.data.synthetic import Contents, SyntheticSource
from onnxlint_q.execute.deployment.run import SAMPLES, run_as_deployed
from onnxlint_q.execute.half.run import run_halved
from onnxlint_q.execute.progress import Progress
from onnxlint_q.execute.stream.observe import observe
from onnxlint_q.execute.variants.accuracy import A_CLASS_EACH, scored_output
from onnxlint_q.execute.variants.workbench import workbench
from onnxlint_q.judge.own_findings import DATA_UNUSABLE
from onnxlint_q.proof.budget.spending import budget
from onnxlint_q.proof.probing.inputs import made_up
from onnxlint_q.proof.probing.probe import probe
from onnxlint_q.proof.sensitivity import measure_sensitivity
from onnxlint_q.proof.trials import run_trials
from onnxlint_q.proof.whole import measure_schemes
from onnxlint_q.workflow.record import NotRun, Record
from onnxlint_q.workflow.stages.stage import NO_ACCURACY, data_of, split_of

NO_CLASSES = "labels need exactly one output with class scores, and the model has no such output"
# Samples of a run as float16 where there is no data.
_MADE_UP = 4


def fill_fold(record: Record, _: Progress) -> Record:
    """With the folded float model."""
    return replace(record, bench=workbench(record.facts))


def fill_probe(record: Record, progress: Progress) -> Record:
    """With what a run on synthetic inputs shows."""
    assert record.bench is not None
    return replace(record, probe=probe(record.bench, progress))


def fill_inspect(record: Record, progress: Progress) -> Record:
    """With what the data looks like, and its parts."""
    data, facts = data_of(record), record.facts
    divided = split(data.source, facts.model.inputs, data.samples, judged=facts.is_float)
    seen = inspect(facts, data.source, divided.used, progress)
    return replace(record, split=divided, facts=facts.inspected(replace(seen, for_ranges=divided.calibrating)))


def fill_observe(record: Record, progress: Progress) -> Record:
    """With what tensors hold on the data."""
    data = data_of(record)
    observations = observe(record.facts, data.source, split_of(record).calibrating, progress)
    bench = record.bench.calibrated(observations, data.observer) if record.bench is not None else None
    return replace(record, facts=record.facts.observed(observations), bench=bench)


def fill_deploy(record: Record, _: Progress) -> Record:
    """With what default options make of a quantised file."""
    data, model = record.request.data, record.facts.model
    source = data.source if data is not None else SyntheticSource(Contents(find_contents(model)))
    deployed = run_as_deployed(model, list(source.take(model.inputs, SAMPLES)))
    return replace(record, facts=record.facts.run_as_deployed(deployed))


def fill_as_half(record: Record, progress: Progress) -> Record:
    """With a run as float16."""
    facts, bench, data = record.facts, record.bench, record.request.data
    assert bench is not None
    source, count = (data.source, split_of(record).used) if data is not None else (made_up(bench), _MADE_UP)
    samples = partial(source.take, facts.model.inputs, count)
    half = run_halved(facts, samples, whole=facts.half_asked, synthetic=source.synthetic, progress=progress)
    return replace(record, half=half, facts=facts.run_as_half(half.halved))


def fill_labels(record: Record, _: Progress) -> Record:
    """With the class of each sample."""
    data, model = data_of(record), record.facts.model
    assert data.labels is not None
    labels, scored = read_labels(data.labels, data.source), scored_output(record.facts.outputs)
    if scored is None:
        raise DataError(NO_CLASSES)
    shape = model.outputs[scored[0]].type.shape
    if shape is not None and not holds_scores(shape) and len(shape) > 2:
        raise DataError(f"output {scored[1].name!r} {A_CLASS_EACH}")
    check_labels(labels, split_of(record).used, (shape or ())[1:2])
    return replace(record, labels=labels)


def fill_measure_layers(record: Record, progress: Progress) -> Record:
    """With every layer quantised alone."""
    assert record.bench is not None
    return replace(record, table=measure_sensitivity(record.bench, split_of(record).for_ranges, progress))


def fill_measure_schemes(record: Record, progress: Progress) -> Record:
    """With every scheme measured whole, and what proving may take."""
    assert record.bench is not None
    start, divided = time.process_time(), split_of(record)
    whole = measure_schemes(record.bench, divided, progress, record.labels)
    each = (time.process_time() - start) / max(len(whole.errors), 1)
    if data_of(record).prove != "all":
        record = replace(record, spending=budget(record.bench, divided.for_ranges, divided.used, each))
    if whole.problem:
        missing = NotRun(DATA_UNUSABLE, "--labels", NO_ACCURACY, whole.problem)
        record = replace(record, not_run=(*record.not_run, missing))
    return replace(record, whole=whole)


def fill_trials(record: Record, progress: Progress) -> Record:
    """With calibrations on other samples."""
    data = data_of(record)
    assert record.bench is not None
    levels = record.config.levels
    trials = run_trials(record.bench, data.source, data.samples, data.trials, levels, progress)
    return replace(record, trials=trials)
