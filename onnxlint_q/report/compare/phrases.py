"""Sentences about a comparison that every format made for people says."""

from __future__ import annotations

import math
from collections.abc import Iterator

from onnxlint_q.report import words
from onnxlint_q.workflow.results import ClassifierError, ComparedRow, Comparison, Fault, Verdict

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
        f"{words.visible(theirs.format)} model, opset {theirs.opset}, {words.count(theirs.layers, 'layer')}, against "
        f"the {words.visible(ours.format)} model {words.name(ours.path)}, opset {ours.opset}, "
        f"{words.count(ours.layers, 'layer')}"
    )


def paired(comparison: Comparison) -> str:
    """`66 tensors paired and compared`, and what was not."""
    text = f"{words.count(len(comparison.rows), 'tensor')} paired by topology and compared"
    lost = len(comparison.unpaired_quantized)
    other = len(comparison.unpaired_reference)
    if not lost and not other:
        return f"{text}; every operator has its partner"
    return f"{text}; without a partner: {lost} of the quantised file's operators, {other} of the float one's"


def output(comparison: Comparison) -> str:
    """What is left at the output."""
    if comparison.output_sqnr_db is None:
        return "no figure at the output"
    if math.isinf(comparison.output_sqnr_db):
        return words.PERFECT_OUTPUT
    return f"{words.decibel(comparison.output_sqnr_db)} at the output"


def classifier(error: ClassifierError) -> str:
    """Agreement, accuracy and the softmax figures."""
    text = f"top-1 agrees with float on {words.percent(round(error.agreement, 3))} of samples"
    if error.float_accuracy is not None and error.quantized_accuracy is not None:
        text += (
            f"; top-1 right on {words.percent(round(error.quantized_accuracy, 3))} of "
            f"{words.count(error.labelled, 'labelled sample')}, float {words.percent(round(error.float_accuracy, 3))}"
        )
    softmax = f"QMSE {error.qmse:.3g}, QCE {error.qce:.3g}, QKL {error.qkl:.3g}"
    return f"{text}; softmax {softmax} (nats)"


def warnings(comparison: Comparison) -> Iterator[str]:
    """What the reader must know before any figure."""
    if comparison.calibration.synthetic:
        yield words.SYNTHETIC


def notes(comparison: Comparison) -> Iterator[str]:
    """What was not compared, and other words on the run."""
    for names, which in (
        (comparison.unpaired_quantized, "of the quantised file has no certain partner"),
        (comparison.unpaired_reference, "of the float file has no certain partner"),
        (comparison.not_compared, "paired, but of another shape in the float file when run"),
    ):
        if names:
            more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
            yield f"{which}: {', '.join(words.name(name, 60) for name in names[:LISTED])}{more}"
    yield from map(words.shown, comparison.notes)


def summary(comparison: Comparison) -> str:
    """The last line: whether something jumps, and where first."""
    jumps = comparison.jumps
    if jumps:
        more = f", and in {words.count(len(jumps) - 1, 'further place')}" if len(jumps) > 1 else ""
        return f"The error first jumps at {words.name(jumps[0].node, 80)}{more}"
    if comparison.quiet:
        return "Nothing jumps, and the output survives"
    if comparison.verdict is None:
        return "Nothing jumps, but nothing could be measured at the output"
    steepest = max(
        (row for row in comparison.rows if row.drop_db is not None and math.isfinite(row.drop_db)),
        key=lambda row: row.drop_db or 0.0,
        default=None,
    )
    ends = "survives" if comparison.verdict is Verdict.SURVIVES else comparison.verdict.value
    where = ""
    if steepest is not None:
        where = f"; it falls most, by {words.decibel(steepest.drop_db)}, at {words.name(steepest.node, 60)}"
    return f"Nothing jumps: the error builds up, and the output {ends}{where}"


def jump(row: ComparedRow) -> str:
    """How far SQNR falls in a row."""
    if row.reads_db is not None and math.isinf(row.reads_db):
        before = "in an input of the model" if row.op_type == "Input" else "from a perfect match"
        return f"SQNR falls {before} to {words.decibel(row.sqnr_db)}"
    return f"SQNR falls from {words.decibel(row.reads_db)} to {words.decibel(row.sqnr_db)}"


def fault(entry: Fault) -> str:
    """What is wrong, as a sentence."""
    alone = (
        ""
        if entry.alone_db is None or not math.isfinite(entry.alone_db)
        else f" It alone leaves {words.decibel(entry.alone_db)}."
    )
    return f"{entry.what} {words.name(entry.tensor, 100)}: {words.shown(entry.message)}.{alone}"
