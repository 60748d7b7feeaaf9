"""The verdict on a network as float16."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from onnxlint_q.analysis.half.tensors import FP16
from onnxlint_q.judge.verdict import Verdict, VerdictLevels
from onnxlint_q.workflow.assembly.outputs import result_of_run
from onnxlint_q.workflow.record import Record
from onnxlint_q.workflow.results import Basis, SchemeResult

if TYPE_CHECKING:
    from onnxlint_q.execute.variants.output_error import OutputError

_MADE_UP = "made-up inputs lose nothing much, but real ones may be louder; run it with --calibrate PATH"
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
    """The verdict on what rounding every result left at the outputs; arguments as of `result_of_run`.

    What overflows hangs on how large values are: made-up inputs show that it breaks, and never that it survives.
    """
    result = result_of_run(FP16, error, basis, levels, by_class=by_class)
    said = f"each result is rounded to float16, on {error.samples} samples"
    chances = result.chances if basis is Basis.MEASURED else None
    result = replace(result, measured_as="simulated", ranges=said, chances=chances)
    if by_class or result.verdict is not Verdict.SURVIVES:
        return result
    outputs = tuple(replace(output, verdict=None) for output in result.outputs)
    return replace(result, verdict=None, chances=None, note=_MADE_UP, outputs=outputs)
