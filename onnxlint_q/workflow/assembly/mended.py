"""The verdict on a scheme once the model is rewritten, on the same grounds as that on the model as it is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from onnxlint_q.analysis.schemes import Scheme
from onnxlint_q.judge.verdict import GAIN_DB
from onnxlint_q.rewrite.mask_values import NAME
from onnxlint_q.workflow.assembly.verdicts import scheme_result
from onnxlint_q.workflow.record import Record
from onnxlint_q.workflow.results import Mended, SchemeResult


def with_mended(record: Record, scheme: Scheme, result: SchemeResult) -> SchemeResult:
    """The verdict on the model as it is, with that on the model after the last rewrite that matters to the scheme."""
    best, last = None, result
    for mended in _foreseen(record, scheme) if record.whole is None else _measured(record, scheme):
        if mended.result.verdict is not None and _helps(last, mended.result):
            best, last = mended, mended.result
    return replace(result, mended=best)


def _foreseen(record: Record, scheme: Scheme) -> Iterator[Mended]:
    """With its masks at a value that int8 can hold."""
    unmasked = record.facts.unmasked
    if unmasked is not None and unmasked.candidates and scheme.is_calibrated:
        from onnxlint_q.proof.mending.masks import told

        facts = replace(record.facts, forecasts=unmasked.forecasts)
        mended = scheme_result(replace(record, facts=facts, probe=None), scheme)
        yield Mended((NAME,), told(unmasked.candidates.values()), mended)


def _measured(record: Record, scheme: Scheme) -> Iterator[Mended]:
    """After each rewrite that was tried; what a run on data cannot judge is not made up from the file."""
    facts = replace(record.facts, forecasts={})
    for mending in record.mendings:
        if mending.whole is not None:
            mended = scheme_result(replace(record, facts=facts, whole=mending.whole, probe=None), scheme)
            exact = mending.exact.worst_db if mending.exact is not None else None
            yield Mended(mending.rewrites, mending.what, mended, exact)


def _helps(result: SchemeResult, mended: SchemeResult) -> bool:
    """Whether a rewrite matters to the scheme, and does no harm."""
    before, after = result.output_sqnr_db, mended.output_sqnr_db
    if before is None or after is None:
        return (before, result.verdict) != (after, mended.verdict)
    if result.basis is not mended.basis:
        return after > before  # made-up inputs may have left the mask alone
    return after - before >= (GAIN_DB if result.verdict is mended.verdict else 0.0)
