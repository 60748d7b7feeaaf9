"""The verdict on a network as float16."""

from __future__ import annotations

from dataclasses import replace

from onnxlint_q.analysis.half.tensors import FP16
from onnxlint_q.execute.variants.output_error import OutputError
from onnxlint_q.judge.verdict import VerdictLevels
from onnxlint_q.workflow.assembly.verdicts import result_of_run
from onnxlint_q.workflow.record import Record
from onnxlint_q.workflow.results import Basis, SchemeResult

_UNKNOWN = "what overflows hangs on the values; run it with --calibrate PATH, or without data --probe"


def half_results(record: Record) -> tuple[SchemeResult, ...]:
    """The verdict where it was asked for, or the file is float16 and was run; else none."""
    facts, data = record.facts, record.request.data
    if record.half is not None:
        basis = Basis.PROBE if data is None else Basis.MEASURED
        by_class = data is not None and not data.source.synthetic
        return (half_result(record.half.error, basis, record.config.levels, by_class=by_class),)
    return (SchemeResult(FP16, None, None, Basis.FORECAST, note=_UNKNOWN),) * facts.half_asked * facts.is_float


def half_result(error: OutputError, basis: Basis, levels: VerdictLevels, *, by_class: bool) -> SchemeResult:
    """The verdict on what rounding every result left at the outputs; arguments as of `result_of_run`."""
    result = result_of_run(FP16, error, basis, levels, by_class=by_class)
    said = f"each result is rounded to float16, on {error.samples} samples"
    chances = result.chances if basis is Basis.MEASURED else None
    return replace(result, measured_as="simulated", ranges=said, chances=chances)
