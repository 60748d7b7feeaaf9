"""`json`, version 1 of the comparison: keys are added and never changed; every number is finite or null."""

from __future__ import annotations

import math
from collections.abc import Sequence

from onnxlint_q.finding import Finding
from onnxlint_q.report.documents.findings import finding_document, suppressed_document, told_document
from onnxlint_q.report.documents.interface import inputs_document
from onnxlint_q.report.documents.schemes import top1_document
from onnxlint_q.report.documents.tables import calibration_document, qparams_document
from onnxlint_q.report.documents.values import Json, compact, indented, number, text, tool
from onnxlint_q.report.words import PERFECT, verdict
from onnxlint_q.workflow.comparison import (
    ComparedFile,
    Comparison,
)
from onnxlint_q.workflow.results import (
    ComparedRow,
    ModelResult,
    QparamsReading,
)

VERSION = 1


def render(comparison: Comparison) -> str:
    """The report, indented by one space so that it reads and diffs line by line."""
    return indented(document(comparison))


def render_compact(comparison: Comparison) -> str:
    """The same report without white space, to embed."""
    return compact(document(comparison))


def document(comparison: Comparison) -> dict[str, Json]:
    """The report as values the json module can write."""
    classifier = comparison.classifier
    jumps, result, model = comparison.jumps, comparison.result, comparison.quantized
    return {
        "version": VERSION,
        "tool": tool(),
        "float": {
            **_file(comparison.reference, comparison.reference.layers),
            "findings": [finding_document(finding) for finding in comparison.reference.findings],
        },
        "quantised": _file(model, len(model.layers)),
        "verdict": verdict(result.verdict),
        "output_sqnr_db": number(result.output_sqnr_db),
        "output_reason": PERFECT if result.output_sqnr_db is None and result.verdict is not None else None,
        "classifier": {
            "agreement": number(classifier.agreement),
            "qmse": number(classifier.qmse),
            "qce": number(classifier.qce),
            "qkl": number(classifier.qkl),
            "labelled": classifier.top1.rows if classifier.top1 else 0,
            "float_accuracy": number(classifier.top1.float_accuracy) if classifier.top1 else None,
            "quantised_accuracy": number(classifier.top1.quantised_accuracy) if classifier.top1 else None,
            "top1": top1_document(classifier.top1) if classifier.top1 else None,
        }
        if classifier is not None
        else None,
        "first_jump": text(jumps[0].quantized) if jumps else None,
        "findings": [told_document(model, finding) for finding in model.findings],
        "suppressed": [suppressed_document(model, finding) for finding in model.suppressed],
        "accepted_verdicts": [text(scheme) for scheme in model.accepted],
        "tensors": [_row(row, comparison.faults(row)) for row in comparison.rows],
        "qparams": [qparams_document(row) for row in model.qparams],
        "unpaired": {
            "float": [text(name) for name in comparison.unpaired_reference],
            "quantised": [text(name) for name in comparison.unpaired_quantized],
            "other_shape": [text(name) for name in comparison.not_compared],
        },
        "calibration": calibration_document(comparison.calibration),
        "levels": {name: number(comparison.levels.get(name)) for name in ("jump_db", "bad_db", "broken_db")},
        "notes": [text(note) for note in model.notes],
        "inputs": inputs_document(model),
        "rule_crashed": model.rule_crashed,
    }


def _file(file: ComparedFile | ModelResult, layers: int) -> dict[str, Json]:
    return {
        "path": text(file.path),
        "sha256": file.sha256,
        "opset": file.opset,
        "format": text(file.format),
        "layers": layers,
    }


def _row(row: ComparedRow, faults: Sequence[Finding]) -> Json:
    return {
        "node": text(row.node),
        "op_type": text(row.op_type),
        "layer": row.layer,
        "float_tensor": text(row.reference),
        "quantised_tensor": text(row.quantized),
        "sqnr_db": number(row.sqnr_db),
        "reason": PERFECT if row.sqnr_db == math.inf else None,
        "qmse": number(row.qmse),
        "qce": number(row.qce),
        "qkl": number(row.qkl),
        "cosine": number(row.cosine),
        "reads_db": number(row.reads_db),
        "drop_db": number(row.drop_db),
        "weight_sqnr_db": number(row.weight_sqnr_db),
        "qparams": _qparams(row.qparams) if row.qparams is not None else None,
        "jumps": bool(faults),
        "faults": [_fault(fault) for fault in faults],
    }


def _qparams(reading: QparamsReading) -> Json:
    return {
        "scale": number(reading.scale),
        "zero_point": reading.zero_point,
        "low": number(reading.low),
        "high": number(reading.high),
        "float_low": number(reading.float_low),
        "float_high": number(reading.float_high),
        "clipped_fraction": number(reading.clipped_fraction),
        "used_codes": number(reading.used_codes),
        "codes": reading.codes,
        "span_ratio": number(reading.span_ratio),
        "rounding_sqnr_db": number(reading.rounding_sqnr_db),
    }


def _fault(fault: Finding) -> Json:
    return {
        "code": text(fault.code),
        "what": text(str(fault.metrics.get("part", ""))),
        "tensor": text(str(fault.metrics.get("tensor", ""))),
        "alone_db": number(fault.measured_db),
        "message": text(fault.message),
        "remedy": text(fault.advice),
        "snippet": text(fault.snippet),
    }
