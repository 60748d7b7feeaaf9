"""`json`, version 1 of what was read: keys are added and never changed; every number is finite or null.

Rows stand in data order, all of them, whatever was to be shown first.
"""

from __future__ import annotations

from onnxlint_q.report.documents.tables import (
    activation_document,
    calibration_document,
    norm_document,
    qparams_document,
    weight_document,
)
from onnxlint_q.report.documents.values import Json, compact, indented, number, text, tool
from onnxlint_q.workflow.reading.inspection import (
    InspectedModel,
    Inspection,
    Rounded,
    RoundedValues,
    Side,
    SideBySide,
    SidePair,
    TensorSheet,
)

VERSION = 1


def render(inspection: Inspection) -> str:
    """The report, indented by one space so that it reads and diffs line by line."""
    return indented(document(inspection))


def render_compact(inspection: Inspection) -> str:
    """The same report without white space, to embed."""
    return compact(document(inspection))


def document(inspection: Inspection) -> dict[str, Json]:
    """The report as values the json module can write."""
    side = inspection.side_by_side
    return {
        "version": VERSION,
        "tool": tool(),
        "models": [_model(model) for model in inspection.models],
        "tensor": [_sheet(model.sheet, model) for model in inspection.models if model.sheet is not None],
        "values": [_rounded(model.rounded, model) for model in inspection.models if model.rounded is not None],
        "side_by_side": _sides(side) if side is not None else None,
    }


def _model(model: InspectedModel) -> Json:
    return {
        "path": text(model.path),
        "sha256": model.sha256,
        "opset": model.opset,
        "format": text(model.format),
        "size": model.file.size or None,
        "producer": text(model.file.producer) or None,
        "ir_version": model.file.ir_version or None,
        "layers": model.layers,
        "qparams": [qparams_document(row) for row in model.qparams],
        "activations": [activation_document(row) for row in model.activations],
        "weights": [weight_document(row) for row in model.weights],
        "batch_norms": [norm_document(row) for row in model.norms],
        "calibration": calibration_document(model.calibration) if model.calibration is not None else None,
        "notes": [text(note) for note in model.notes],
    }


def _sheet(sheet: TensorSheet, model: InspectedModel) -> Json:
    return {
        "path": text(model.path),
        "name": text(sheet.name),
        "facts": [{"what": what, "value": text(value)} for what, value in sheet.facts],
        "qparams": [qparams_document(row) for row in sheet.qparams],
        "activations": [activation_document(row) for row in sheet.activations],
        "weights": [weight_document(row) for row in sheet.weights],
        "batch_norms": [norm_document(row) for row in sheet.norms],
        "widest_channels": [
            {"channel": index, "low": number(low), "high": number(high)} for index, low, high in sheet.channels
        ],
    }


def _rounded(done: RoundedValues, model: InspectedModel) -> Json:
    return {
        "path": text(model.path),
        "tensor": text(done.tensor),
        "dtype": done.dtype,
        "scale": number(done.scale),
        "zero_point": done.zero_point,
        "low": number(done.low),
        "high": number(done.high),
        "from": done.origin,
        "values": [_value(one) for one in done.values],
    }


def _value(one: Rounded) -> Json:
    return {
        "value": number(one.value),
        "code": number(one.code),
        "dequantised": number(one.back),
        "saturated": one.saturated,
    }


def _sides(side: SideBySide) -> Json:
    return {
        "figure": side.figure,
        "of": side.of,
        "paired_by": side.paired_by,
        "depth": [_pair(pair) for pair in side.depth],
        "tensors": [_pair(pair) for pair in side.named],
    }


def _pair(pair: SidePair) -> Json:
    return {
        "place": text(pair.place),
        "first": _side(pair.first),
        "second": _side(pair.second),
        "ratio": number(pair.ratio),
    }


def _side(side: Side | None) -> Json:
    return None if side is None else {"tensor": text(side.tensor), "value": number(side.value)}
