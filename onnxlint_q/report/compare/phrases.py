"""Sentences about a comparison that every format made for people says."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial

from onnxlint_q.report import words
from onnxlint_q.workflow.comparison import (
    Comparison,
)
from onnxlint_q.workflow.results import (
    ClassifierError,
    ComparedRow,
    Verdict,
)

LISTED = 6
"""Names of unpaired operators that are listed."""
LEGEND = (
    "SQNR: of the tensor, float against dequantised. Reads: the worst SQNR of what the operator reads. Weight: of its "
    "weight. Rounding: if only the tensor's own qparams were applied to the float values. = is a perfect match. QCE "
    "and QKL in nats"
)


def headline(comparison: Comparison) -> str:
    """Formats, layers and how much of the two files was paired."""
    ours, theirs = comparison.reference, comparison.quantized
    return (
        f"{words.headline(theirs)}, against the {words.visible(ours.format)} model {words.name(ours.path)}, "
        f"opset {ours.opset}, {words.count(ours.layers, 'layer')}"
    )


def paired(comparison: Comparison) -> str:
    """`66 tensors paired and compared`, and what was not."""
    text = f"{words.count(len(comparison.rows), 'tensor')} paired by topology and compared"
    lost = len(comparison.unpaired_quantized)
    other = len(comparison.unpaired_reference)
    if not lost and not other:
        return f"{text}; every operator has its partner"
    return f"{text}; without a partner: {lost} of the quantised file's operators, {other} of the float one's"


def classifier(error: ClassifierError) -> str:
    """Accuracy and the softmax figures."""
    softmax = f"softmax QMSE {error.qmse:.3g}, QCE {error.qce:.3g}, QKL {error.qkl:.3g} (nats)"
    return softmax if error.top1 is None else f"{words.accuracy(error.top1)}; {softmax}"


def warnings(comparison: Comparison) -> Iterator[str]:
    """What the reader must know before any figure."""
    yield from words.warnings(comparison.quantized)


def notes(comparison: Comparison) -> Iterator[str]:
    """What was not compared, and other words on the run."""
    for names, which in (
        (comparison.unpaired_quantized, "of the quantised file has no certain partner"),
        (comparison.unpaired_reference, "of the float file has no certain partner"),
        (comparison.not_compared, "paired, but of another shape in the float file, or codes without a scale"),
    ):
        if names:
            more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
            yield f"{which}: {', '.join(words.name(name, 60) for name in names[:LISTED])}{more}"
    yield from map(words.shown, comparison.quantized.notes)


CAUSE = "Where the error comes from"


def cause(comparison: Comparison) -> tuple[str, ...]:
    """What the first finding at the first jump says, and why; else where most is lost."""
    jumps, verdict = comparison.jumps, comparison.result.verdict
    ends = f"the output {verdict.value}" if verdict is not None else "nothing could be measured at the output"
    if not jumps:
        return (f"{_without_jumps(comparison, ends)}.",)
    fault = comparison.faults(jumps[0])[0]
    told = [f"{words.shown(fault.message)} ({words.shown(fault.code, 20)})", *map(words.shown, fault.causes[:1])]
    if len(jumps) > 1:
        told.append(f"It jumps in {words.count(len(jumps) - 1, 'further place')}.")
    return (*told, f"{ends[:1].upper()}{ends[1:]}.")


def summary(comparison: Comparison) -> str:
    """Whether something jumps, and where first."""
    jumps, verdict = comparison.jumps, comparison.result.verdict
    ends = f"the output {verdict.value}" if verdict is not None else "nothing could be measured at the output"
    if not jumps:
        return _without_jumps(comparison, ends)
    more = f", and in {words.count(len(jumps) - 1, 'further place')}" if len(jumps) > 1 else ""
    return f"The error first jumps at {words.name(jumps[0].node, 80)}{more}; {ends}"


def _without_jumps(comparison: Comparison, ends: str) -> str:
    if comparison.result.verdict in {None, Verdict.SURVIVES}:
        return f"Nothing jumps; {ends}"
    own_drop = partial(_own_drop, comparison.levels.get("inherited_db", 0.0))
    own = [row for row in comparison.rows if own_drop(row) > 0]
    steepest = max(own, key=own_drop, default=None)
    where = ""
    if steepest is not None:
        where = f"; most is lost, {words.decibel(steepest.drop_db)}, at {words.name(steepest.node, 60)}"
    return f"Nothing jumps: the error builds up, and {ends}{where}"


def figure_db(value: float | None) -> str:
    """A figure of a table in dB: a dash where there is none, `=` where it is infinite."""
    if value is None:
        return "-"
    return words.number(value) if math.isfinite(value) else "="


def _own_drop(inherited_db: float, row: ComparedRow) -> float:
    """Decibels lost in an operator; 0 where that is not known, or the float one would leave at most so many more."""
    if row.drop_db is None or row.sqnr_db is None or not math.isfinite(row.drop_db):
        return 0.0
    inherited = row.inherited_db is not None and row.inherited_db < row.sqnr_db + inherited_db
    return 0.0 if inherited else row.drop_db
