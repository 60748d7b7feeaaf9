"""What a command makes of mutants, and what of it is a fault."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import onnx

from onnxlint_q.errors import OnnxlintError, as_one_line, with_place
from onnxlint_q.execute.data.preprocess import preset
from onnxlint_q.execute.data.sources import open_source
from onnxlint_q.execute.limits import Asked
from onnxlint_q.judge.config import Overrides
from onnxlint_q.report.compare import render as render_comparison
from onnxlint_q.report.fix import FORMATS as MENDED_FORMATS
from onnxlint_q.report.fix import render as render_fixed
from onnxlint_q.report.formats import PLAIN, ReportFormat
from onnxlint_q.report.formats import render as render_run
from onnxlint_q.report.quantize import render as render_quantized
from onnxlint_q.workflow.check import Job, check, plan
from onnxlint_q.workflow.compare import CompareRequest, compare_apart
from onnxlint_q.workflow.mending.fix import FixRequest, fix
from onnxlint_q.workflow.mending.quantize import quantize
from onnxlint_q.workflow.mending.quantize_request import QuantizeRequest
from onnxlint_q.workflow.record import CheckRequest, DataRequest
from onnxlint_q.workflow.results import Run

from .mutants import Mutant
from .mutations import EDGES, QUANTISED, RUNNABLE

ASKED = Asked(memory_gb=2.0, seconds=10.0)
SAMPLES = 4
_OURSELVES = re.compile(r"(?:an error of onnxlint-q itself, .*?;|Rule \w+ [\w-]+ failed: [^\"]*)")
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_PLACES = re.compile(r"0x[0-9a-f]+|'[^']*'|(?<![\w:])\d+(?!\w)")
Told = Callable[[ReportFormat], str]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a mutant.

    Attributes:
        kind: `told`, `refused`, or how its process was ended.
        fault: what is amiss, the same text for faults of one kind; empty where nothing is.
    """

    kind: str
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Way:
    """What is done with mutants.

    Attributes:
        run: gives the outcomes in turn.
        kinds: of the mutations; none for all.
        floats: only float models are of use.
    """

    run: Callable[[Sequence[Job]], Sequence[Outcome]]
    kinds: Sequence[str] = ()
    floats: bool = False

    def among(self, sound: Mapping[str, bytes]) -> Mapping[str, bytes]:
        """Those of the models that are of use."""
        return {name: data for name, data in sound.items() if not self.floats or not _has_codes(data)}


def outcomes(sound: Mapping[str, bytes], batch: Sequence[Mutant], way: Way) -> Sequence[Outcome]:
    """Of each mutant in turn; beside each lies the sound model."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        paths = [Path(folder) / f"{number:05}.onnx" for number in range(len(batch))]
        for path, made in zip(paths, batch, strict=True):
            path.write_bytes(made.data)
            _sound(path).write_bytes(sound[made.model])
        jobs = plan(paths, Overrides(search=False))
        return way.run(jobs)


def _checked(jobs: Sequence[Job], request: CheckRequest) -> Sequence[Outcome]:
    run = check(jobs, request)
    told = {result.path: result for result in run.models}
    failed = {failure.path: failure.message for failure in run.failures}

    def outcome(name: str) -> Outcome:
        if name in failed:
            return _refused(failed[name])
        one = Run((told[name],), (), run.data)
        return _told(lambda form: render_run(one, form, PLAIN), tuple(ReportFormat))

    return [outcome(job.name) for job in jobs]


def _each(jobs: Sequence[Job], told: Callable[[Job], Told], formats: Sequence[ReportFormat]) -> Sequence[Outcome]:
    def outcome(job: Job) -> Outcome:
        try:
            return _told(told(job), formats)
        except (OnnxlintError, OSError) as error:
            return _refused(as_one_line(error))
        except Exception as error:  # of whatever kind: it is what is looked for
            return Outcome("defect", _alike(with_place(error)))

    return [outcome(job) for job in jobs]


def _sound(path: Path) -> Path:
    return path.with_suffix(".sound.onnx")


def _compared(jobs: Sequence[Job]) -> Sequence[Outcome]:
    """Each mutant as what was made from the sound model."""
    request = CompareRequest(open_source("random", preset("raw")), SAMPLES, asked=ASKED)

    def told(job: Job) -> Told:
        found = compare_apart(_sound(job.path), job, request)
        return lambda form: render_comparison(found, form, PLAIN)

    return _each(jobs, told, tuple(ReportFormat))


def _fixed(jobs: Sequence[Job]) -> Sequence[Outcome]:
    def told(job: Job) -> Told:
        request = FixRequest(job.path.with_suffix(".fixed.onnx"), asked=ASKED)
        found = fix(job.path, job.rules, job.config, request)
        return lambda form: render_fixed(found, form, PLAIN)

    return _each(jobs, told, MENDED_FORMATS)


def _quantised(jobs: Sequence[Job]) -> Sequence[Outcome]:
    def told(job: Job) -> Told:
        data = DataRequest(open_source("random", preset("raw")), SAMPLES)
        request = QuantizeRequest(job.path.with_suffix(".int8.onnx"), data, asked=ASKED)
        found = quantize(job.path, job.rules, job.config, request)
        return lambda form: render_quantized(found, form, PLAIN)

    return _each(jobs, told, MENDED_FORMATS)


def _on_random(jobs: Sequence[Job]) -> Sequence[Outcome]:
    data = DataRequest(open_source("random", preset("raw")), SAMPLES)
    return _checked(jobs, CheckRequest(data, asked=ASKED))


HOW: Mapping[str, Way] = {
    "static": Way(partial(_checked, request=CheckRequest(asked=ASKED))),
    "random": Way(_on_random, QUANTISED),
    "probe": Way(partial(_checked, request=CheckRequest(probe=True, asked=ASKED)), QUANTISED),
    "compare": Way(_compared, EDGES, floats=True),
    "fix": Way(_fixed, RUNNABLE, floats=True),
    "quantize": Way(_quantised, RUNNABLE, floats=True),
}
"""The commands; those that run a model get mutants that often still run."""


def _has_codes(data: bytes) -> bool:
    return any(node.op_type.endswith("Linear") for node in onnx.ModelProto.FromString(data).graph.node)


def _refused(message: str) -> Outcome:
    if found := _OURSELVES.search(message):
        return Outcome("defect", _alike(found[0]))
    if "\n" in message or _CONTROL.search(message):
        return Outcome("refused", f"not one plain line: {message[:80]!r}")
    if "the process " in message:
        return Outcome(_PLACES.sub("…", message.partition("the process ")[2].partition(" while")[0]))
    return Outcome("refused")


def _told(told: Told, formats: Sequence[ReportFormat]) -> Outcome:
    """Every report is written as a user would have it."""
    try:
        texts = {form: told(form) for form in formats}
        json.loads(texts[ReportFormat.JSON], parse_constant=_no_number)
    except Exception as error:  # of whatever kind: it is what is looked for
        return Outcome("defect", f"report: {_alike(with_place(error))}")
    if found := _OURSELVES.search(texts[ReportFormat.JSON]):
        return Outcome("told", _alike(found[0]))
    for form, text in texts.items():
        if found := _CONTROL.search(text):
            return Outcome("told", f"{form.value} holds {found[0]!r}")
    return Outcome("told")


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no JSON")


def _alike(text: str) -> str:
    """A text without what differs from file to file."""
    return _PLACES.sub("…", " ".join(text.split()))[:200]
