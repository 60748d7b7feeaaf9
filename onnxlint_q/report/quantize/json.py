"""`json`, version 1 of what was quantised: keys are added and never changed; every number is finite or null."""

from __future__ import annotations

from onnxlint_q.report.documents.schemes import top1_document
from onnxlint_q.report.documents.values import Json, compact, indented, number, text, tool
from onnxlint_q.report.fix.json import document as fix_document
from onnxlint_q.report.fix.json import scheme_document, verification_document
from onnxlint_q.report.quantize import phrases
from onnxlint_q.workflow.mending.quantized import AttemptRow, Milliseconds, Quantized, Weight

VERSION = 1


def render(found: Quantized) -> str:
    """The report, indented by one space so that it reads and diffs line by line."""
    return indented(document(found))


def render_compact(found: Quantized) -> str:
    """The same report without white space, to embed."""
    return compact(document(found))


def document(found: Quantized) -> dict[str, Json]:
    """The report as values the json module can write."""
    return {
        "version": VERSION,
        "tool": tool(),
        "path": text(found.path),
        "sha256": found.sha256,
        "opset": found.opset,
        "out": text(found.out),
        "recipe_file": text(found.recipe_file),
        "goal": text(found.goal),
        "reached": found.reached,
        "why_not": text(found.why_not) or None,
        "measured_on": verification_document(found.verification),
        "basis": found.result.basis.value,
        "warning": phrases.warning(found) or None,
        "scheme": text(found.result.scheme),
        "observer": text(found.observer) or None,
        "biases_shifted": found.shifted,
        "weights_rounded": found.rounded,
        "nodes_to_exclude": [text(name) for name in found.excluded],
        "activations_of_16_bits": [text(name) for name in found.wide],
        "result": scheme_document(found.result),
        "plain": {text(result.scheme): scheme_document(result) for result in found.plain},
        "top1": top1_document(found.top1) if found.top1 is not None else None,
        "multiplications": {name: number(share) for name, share in found.macs.items()},
        "layers_left_in_float": {text(name): count for name, count in found.left.items()},
        "before": _weight(found.before),
        "after": _weight(found.after),
        "attempts": [_attempt(row) for row in found.attempts],
        "fixed": fix_document(found.fixed) if found.fixed is not None else None,
        "snippet": text(found.snippet),
        "notes": [text(note) for note in found.notes],
    }


def _weight(weight: Weight) -> Json:
    return {"bytes": weight.bytes, "latency_ms": _time(weight.latency) if weight.latency is not None else None}


def _time(latency: Milliseconds) -> Json:
    return {
        "median": number(latency.median),
        "low": number(latency.low),
        "high": number(latency.high),
        "runs": latency.runs,
    }


def _attempt(row: AttemptRow) -> Json:
    return {
        "scheme": text(row.scheme),
        "observer": text(row.observer) or None,
        "nodes_in_float": row.in_float,
        "activations_of_16_bits": row.wide,
        "biases_shifted": row.shifted,
        "weights_rounded": row.rounded,
        "sqnr_db": number(row.sqnr_db),
        "agreement": number(row.agreement),
        "reached": row.reached,
        "outside_8_bits": number(row.finer),
    }
