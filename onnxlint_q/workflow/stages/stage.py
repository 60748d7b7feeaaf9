"""One step of the way: when it is wanted, which field of the record it fills, and what becomes of one that fails."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from onnxlint_q.errors import DataError, OnnxlintError, as_one_line
from onnxlint_q.execute.child import MORE_MEMORY
from onnxlint_q.execute.progress import Progress
from onnxlint_q.execute.session import NotRunnableError
from onnxlint_q.judge.own_findings import DATA_UNUSABLE, RUN_FAILED, OwnFinding
from onnxlint_q.workflow.overheard import trace_of
from onnxlint_q.workflow.record import QUANTISED_ALREADY, DataRequest, NotRun, Record

if TYPE_CHECKING:
    from onnxlint_q.execute.data.split import Split

NO_ACCURACY = "Accuracy was not measured"
Fill = Callable[[Record, Progress], Record]


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
    fill: Fill
    option: str = ""
    missing: str = ""
    kind: OwnFinding = RUN_FAILED
    float_only: bool = False


def through(stage: Stage, record: Record, progress: Progress) -> Record:
    """The record after one stage, which leaves a note instead of its field where a run did not happen."""
    if not stage.wanted(record):
        return record
    if stage.float_only and not record.facts.is_float:
        return without(record, stage, stage.kind, QUANTISED_ALREADY)
    if stage.option and record.request.ended:
        return without(record, stage, stage.kind, record.request.ended)
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
            return without(record, stage, kind, str(error))
        case NotRunnableError():
            return without(record, stage, stage.kind, f"ONNX Runtime cannot run it: {error}")
        case MemoryError():
            return without(record, stage, stage.kind, f"it needs more memory than it may have; {MORE_MEMORY}")
        case _:
            told = tuple(trace_of(stage.name, error)) if record.request.debug else ()
            return without(replace(record, debug=record.debug + told), stage, stage.kind, as_one_line(error))


def without(record: Record, stage: Stage, kind: OwnFinding, reason: str) -> Record:
    """The record without what a stage was to fill, and the reason."""
    if any((other.kind, other.reason) == (kind, reason) for other in record.not_run):
        return record  # one fault is one finding, however many stages it stops
    return replace(record, not_run=(*record.not_run, NotRun(kind, stage.option, stage.missing, reason)))


def data_of(record: Record) -> DataRequest:
    """What was asked of the data, where there is some."""
    assert record.request.data is not None
    return record.request.data


def split_of(record: Record) -> Split:
    """Its samples, once they are counted."""
    assert record.split is not None
    return record.split
