"""The verdict on a scheme once the masks are mended, on the same grounds as that on the model as it is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from onnxlint_q.analysis.schemes import Scheme
from onnxlint_q.judge.verdict import GAIN_DB
from onnxlint_q.proof.masks import MaskTrial
from onnxlint_q.rewrite.mask_values import NAME
from onnxlint_q.workflow.assembly.verdicts import scheme_result
from onnxlint_q.workflow.record import Record
from onnxlint_q.workflow.results import Mended, SchemeResult


def with_mended(record: Record, scheme: Scheme, result: SchemeResult) -> SchemeResult:
    """The verdict on the model as it is, with that on the model with its masks at a value that int8 can hold."""
    unmasked = record.facts.unmasked
    if unmasked is None or not unmasked.candidates or not scheme.is_calibrated:
        return result
    if record.whole is None:
        values: Iterable[float] = (-one.value for one in unmasked.candidates.values())
        trial, facts = MaskTrial(), replace(record.facts, forecasts=unmasked.forecasts)
    elif record.masks is not None and record.masks.whole is not None:
        # What a run on data cannot judge is not made up from the file.
        trial, facts = record.masks, replace(record.facts, forecasts={})
        values = trial.values.values()
    else:
        return result
    mended = scheme_result(replace(record, facts=facts, whole=trial.whole, probe=None), scheme)
    if mended.verdict is None or not _differ(result, mended):
        return result
    what = f"the mask at {' and '.join(f'{value:.0f}' for value in dict.fromkeys(values))}"
    exact = trial.exact.worst_db if trial.exact is not None else None
    return replace(result, mended=Mended((NAME,), what, mended, exact))


def _differ(result: SchemeResult, mended: SchemeResult) -> bool:
    """Whether the masks matter to the scheme."""
    before, after = result.output_sqnr_db, mended.output_sqnr_db
    if result.verdict is not mended.verdict or result.basis is not mended.basis or before is None or after is None:
        return (before, result.verdict) != (after, mended.verdict)
    return abs(after - before) >= GAIN_DB
