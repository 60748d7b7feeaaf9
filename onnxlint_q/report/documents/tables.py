"""Rows of what was read as JSON: keys are added and never changed."""

from __future__ import annotations

from onnxlint_q.report.documents.values import Json, number, text
from onnxlint_q.workflow.reading.values import (
    ActivationRow,
    CalibrationSummary,
    CodesSeen,
    GainRow,
    NormRow,
    QparamsRow,
    WeightFigures,
    WeightRow,
)


def qparams_document(row: QparamsRow) -> Json:
    """One pair; `scale` and `zero_point` are lists where there are several."""
    one = row.axis is None
    return {
        "tensor": text(row.tensor),
        "kind": row.kind,
        "dtype": row.dtype,
        "scale": _one(row.scale) if one else [number(value) for value in row.scale],
        "zero_point": (row.zero_point[0] if row.zero_point else None) if one else list(row.zero_point),
        "axis": row.axis,
        "block_size": row.block_size,
        "low": number(row.low),
        "high": number(row.high),
        "observed": _codes(row.observed) if row.observed is not None else None,
        "codes_tensor": text(row.codes),
        "node": text(row.node),
        "op_type": text(row.op_type),
        "scales": row.scales,
        "smallest_scale": number(row.smallest_scale),
        "largest_scale": number(row.largest_scale),
    }


def _one(values: tuple[float, ...]) -> float | None:
    return number(values[0]) if values else None


def _codes(seen: CodesSeen) -> Json:
    return {
        "low": number(seen.low),
        "high": number(seen.high),
        "codes": seen.codes,
        "clipped": number(seen.clipped),
        "at_lowest": number(seen.at_lowest),
        "at_highest": number(seen.at_highest),
    }


def activation_document(row: ActivationRow) -> Json:
    """What the samples showed of one tensor."""
    return {
        "tensor": text(row.tensor),
        "node": text(row.node),
        "low": number(row.low),
        "high": number(row.high),
        "mean": number(row.mean),
        "std": number(row.std),
        "zeros": number(row.zeros),
        "outlier_ratio": number(row.outlier_ratio),
        "op_type": text(row.op_type),
        "shape": text(row.shape),
        "scale": number(row.scale),
        "zero_point": row.zero_point,
        "dtype": row.dtype,
    }


def weight_document(row: WeightRow) -> Json:
    """One weight, as stored and with what folds into it."""
    return {
        "tensor": text(row.tensor),
        "output": text(row.output),
        "node": text(row.node),
        "op_type": text(row.op_type),
        "operand": text(row.operand),
        "group": row.group,
        "depthwise": row.depthwise,
        "channels": row.channels,
        "before": _figures(row.before),
        "after": _figures(row.after),
        "norms": [text(name) for name in row.norms],
        "widest": row.widest,
    }


def _figures(figures: WeightFigures) -> Json:
    return {
        "low": number(figures.low),
        "high": number(figures.high),
        "std": number(figures.std),
        "channel_ratio": number(figures.channel_ratio),
        "average_precision": number(figures.average_precision),
    }


def norm_document(row: NormRow) -> Json:
    """One BatchNormalization."""
    return {
        "node": text(row.node),
        "output": text(row.output),
        "channels": row.channels,
        "folds_into": text(row.folds_into) or None,
        "blocked": text(row.blocked) or None,
        "gamma": {
            "low": number(row.gamma_low),
            "high": number(row.gamma_high),
            "mean": number(row.gamma_mean),
            "std": number(row.gamma_std),
        },
        "gain": {
            "low": number(row.gain_low),
            "high": number(row.gain_high),
            "median": number(row.median_gain),
            "ratio": number(row.ratio),
        },
        "outliers": [_gain(one) for one in row.outliers],
    }


def _gain(row: GainRow) -> Json:
    return {
        "channel": row.channel,
        "gamma": number(row.gamma),
        "variance": number(row.variance),
        "gain": number(row.gain),
        "ratio": number(row.ratio),
        "still": row.still,
    }


def calibration_document(calibration: CalibrationSummary) -> Json:
    """What the run was fed."""
    return {
        "source": text(calibration.source),
        "preprocessing": text(calibration.preprocessing),
        "samples": calibration.samples,
        "held_out": calibration.held_out,
        "synthetic": calibration.synthetic,
        "observer": text(calibration.observer),
    }
