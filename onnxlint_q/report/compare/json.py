"""`json`, version 1 of the comparison: keys are added and never changed; every number is finite or null."""

from __future__ import annotations

import math

from onnxlint_q.report.json import calibration_document
from onnxlint_q.report.json_values import Json, compact, indented, number, text, tool
from onnxlint_q.report.words import PERFECT
from onnxlint_q.workflow.results import ComparedFile, ComparedRow, Comparison, Fault, QparamsReading

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
    jumps = comparison.jumps
    return {
        "version": VERSION,
        "tool": tool(),
        "float": _file(comparison.reference),
        "quantised": _file(comparison.quantized),
        "verdict": comparison.verdict.value if comparison.verdict else None,
        "output_sqnr_db": number(comparison.output_sqnr_db),
        "output_reason": PERFECT if comparison.output_sqnr_db == math.inf else None,
        "classifier": {
            "agreement": number(classifier.agreement),
            "qmse": number(classifier.qmse),
            "qce": number(classifier.qce),
            "qkl": number(classifier.qkl),
            "labelled": classifier.labelled,
            "float_accuracy": number(classifier.float_accuracy),
            "quantised_accuracy": number(classifier.quantized_accuracy),
        }
        if classifier is not None
        else None,
        "first_jump": text(jumps[0].quantized) if jumps else None,
        "tensors": [_row(row) for row in comparison.rows],
        "unpaired": {
            "float": [text(name) for name in comparison.unpaired_reference],
            "quantised": [text(name) for name in comparison.unpaired_quantized],
            "other_shape": [text(name) for name in comparison.not_compared],
        },
        "calibration": calibration_document(comparison.calibration),
        "levels": {
            "jump_db": comparison.levels.jump_db,
            "bad_db": comparison.levels.bad_db,
            "broken_db": comparison.levels.broken_db,
        },
        "notes": [text(note) for note in comparison.notes],
    }


def _file(file: ComparedFile) -> Json:
    return {
        "path": text(file.path),
        "sha256": file.sha256,
        "opset": file.opset,
        "format": text(file.format),
        "layers": file.layers,
    }


def _row(row: ComparedRow) -> Json:
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
        "jumps": row.jumps,
        "faults": [_fault(fault) for fault in row.faults],
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


def _fault(fault: Fault) -> Json:
    return {
        "what": fault.what,
        "tensor": text(fault.tensor),
        "alone_db": number(fault.alone_db),
        "message": text(fault.message),
        "remedy": text(fault.remedy),
        "snippet": text(fault.snippet),
    }
