"""The layer table as a document."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from onnxlint_q.report.documents.values import Json, number, text
from onnxlint_q.report.words import PERFECT
from onnxlint_q.workflow.results import LayerRow, LayerSqnr, OperandRow


def layer_document(row: LayerRow) -> Json:
    """A layer with its figures by scheme and stage."""
    return {
        "node": text(row.node),
        "output": text(row.output),
        "op_type": text(row.op_type),
        "group": row.group,
        "depthwise": row.depthwise,
        "range": number(row.range),
        "average_precision": number(row.average_precision),
        "channel_sqnr_db": number(row.channel_sqnr_db),
        "activation_low": number(row.activation_low),
        "activation_high": number(row.activation_high),
        "forecast": _stage(row.forecast),
        "probe": _stage(row.probe),
        "measured": _stage(row.measured),
        "operands": [_operand(row, operand) for operand in row.operands],
    }


def _operand(row: LayerRow, operand: OperandRow) -> Json:
    """One weight of a layer that has several; its figures are those of a layer with this weight alone."""
    stages = {"forecast": row.forecast, "probe": row.probe, "measured": row.measured}
    return {
        "operand": text(operand.name),
        "weight": text(operand.weight),
        "shape": list(operand.shape),
        "range": number(operand.range),
        "average_precision": number(operand.average_precision),
        "channel_sqnr_db": number(operand.channel_sqnr_db),
        **{name: _stage(_alone(stage, operand.name)) for name, stage in stages.items()},
    }


def _alone(stage: Mapping[str, LayerSqnr] | None, operand: str) -> Mapping[str, LayerSqnr] | None:
    """What a stage says of one weight of a layer; None where that is nothing."""
    said = {
        scheme: LayerSqnr(sqnr.operands[operand], uncertainty_db=sqnr.uncertainty_db)
        for scheme, sqnr in (stage or {}).items()
        if operand in sqnr.operands
    }
    return said or None


def _stage(stage: Mapping[str, LayerSqnr] | None) -> Json:
    if stage is None:
        return None
    return {text(scheme): dict(_sqnr(sqnr)) for scheme, sqnr in stage.items()}


def _sqnr(sqnr: LayerSqnr) -> Iterator[tuple[str, Json]]:
    yield "weight_sqnr_db", number(sqnr.weight_sqnr_db)
    yield "sqnr_db", number(sqnr.sqnr_db)
    if sqnr.activation_sqnr_db is not None:
        yield "activation_sqnr_db", number(sqnr.activation_sqnr_db)
    if sqnr.weight_share is not None:
        yield "weight_share", number(sqnr.weight_share)
        yield "activation_share", number(sqnr.activation_share)
    if sqnr.uncertainty_db is not None:
        yield "uncertainty_db", number(sqnr.uncertainty_db)
    if math.inf in (sqnr.weight_sqnr_db, sqnr.activation_sqnr_db, sqnr.sqnr_db):
        yield "reason", PERFECT
