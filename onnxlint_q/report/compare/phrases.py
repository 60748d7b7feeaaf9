"""Sentences about a comparison that every format made for people says."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial

from onnxlint_q.finding import Severity
from onnxlint_q.report import digest, words
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
    yield from _float_file(comparison)


def _float_file(comparison: Comparison) -> Iterator[str]:
    """What the rules say of the float file, a line a rule, where no finding tells it as its cause."""
    causes = {cause for finding in comparison.findings for cause in finding.causes}
    told = [f for f in digest.counted(comparison.reference.findings) if f.severity is not Severity.INFO]
    for group in digest.group_by_damage(f for f in told if not any(c.endswith(f.message) for c in causes)):
        more = f" (and at {words.count(len(group.findings) - 1, 'more place')})" if len(group.findings) > 1 else ""
        rule = f"{words.shown(group.code, 20)} {words.shown(group.name, 60)}"
        yield f"in the float file, {rule}: {words.shown(group.findings[0].message)}{more}"


CAUSE = "Where the error comes from"


def cause(comparison: Comparison) -> tuple[str, ...]:
    """What the finding says that spoils the output which decides, and why; else where most is lost."""
    fault, jumps, verdict = comparison.leading, comparison.jumps, comparison.result.verdict
    ends = f"the output {verdict.value}" if verdict is not None else "nothing could be measured at the output"
    if fault is None:
        return (f"{_without_jumps(comparison, ends)}.",)
    told = [f"{words.shown(fault.message)} ({words.shown(fault.code, 20)})", *map(words.shown, fault.causes[:1])]
    if len(jumps) > 1:
        told.append(f"It jumps in {words.count(len(jumps) - 1, 'further place')}.")
    return (*told, f"{ends[:1].upper()}{ends[1:]}.")


def summary(comparison: Comparison) -> str:
    """Whether something jumps, and where what spoils the output."""
    fault, jumps, verdict = comparison.leading, comparison.jumps, comparison.result.verdict
    ends = f"the output {verdict.value}" if verdict is not None else "nothing could be measured at the output"
    if fault is None:
        return _without_jumps(comparison, ends)
    more = f", and in {words.count(len(jumps) - 1, 'further place')}" if len(jumps) > 1 else ""
    return f"The error comes from {words.name(fault.location.label, 80)}{more}; {ends}"


def _without_jumps(comparison: Comparison, ends: str) -> str:
    if comparison.result.verdict in {None, Verdict.SURVIVES}:
        return f"Nothing jumps; {ends}"
    inherited_db, jump_db, bad_db = (comparison.levels.get(f"{name}_db", 0.0) for name in ("inherited", "jump", "bad"))
    own_drop = partial(_own_drop, inherited_db)
    own = [row for row in comparison.spoiling if own_drop(row) > 0 and row.op_type != "Input"]
    if falling := [row for row in own if row.falls(jump_db, bad_db)]:
        where = words.name(falling[0].node, 60)
        return f"SQNR falls to {words.decibel(falling[0].sqnr_db)} at {where}, and no rule tells why; {ends}"
    steepest = max((row for row in own if row.drop_db != math.inf), key=own_drop, default=None)
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
    if row.drop_db is None or row.sqnr_db is None or not math.isfinite(row.sqnr_db):
        return 0.0
    inherited = row.inherited_db is not None and row.inherited_db < row.sqnr_db + inherited_db
    return 0.0 if inherited else row.drop_db
