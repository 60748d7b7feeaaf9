"""The verdict on a scheme as a document."""

from __future__ import annotations

from onnxlint_q.report.documents.values import Json, number, text
from onnxlint_q.report.words import missing_sqnr, verdict
from onnxlint_q.workflow.results import Chances, Mended, OutputResult, SchemeResult, TensorRow, Top1, Verdict
from onnxlint_q.workflow.scheme_result import Obstacle


def scheme_document(result: SchemeResult) -> dict[str, Json]:
    """The verdict on one scheme with all its figures."""
    missing = missing_sqnr(result)
    return {
        "verdict": verdict(result.verdict),
        "output_sqnr_db": number(result.output_sqnr_db),
        "reason": None if missing is None else text(missing),
        "basis": result.basis.value,
        "agreement": number(result.agreement),
        "agreement_interval": ends_document(result.interval),
        "outputs": [_output(output) for output in result.outputs],
        "note": text(result.note),
        "probability": probability_document(result.chances),
        "interval_db": ends_document(result.interval_db),
        "uncertainty_db": number(result.uncertainty_db),
        "rest_share": number(result.rest_share),
        "measured_as": text(result.measured_as) or None,
        "in_float": text(result.in_float) or None,
        "top1": top1_document(result.top1) if result.top1 is not None else None,
        "loads_from_opset": result.loads_from,
        "obstacle": _obstacle(result.obstacle) if result.obstacle is not None else None,
        "noise": [_tensor(row) for row in result.noise],
        "noise_basis": None if result.tensors_basis is None else result.tensors_basis.value,
        "mended": _mended(result.mended) if result.mended is not None else None,
    }


def probability_document(chances: Chances | None) -> Json:
    """How likely each verdict is; null where nothing is known."""
    if chances is None:
        return None
    return {verdict.value: number(chances.of(verdict)) for verdict in Verdict if verdict.decided}


def top1_document(top1: Top1) -> Json:
    """How often the float and the quantised model are right, and what that lost with its 95 % interval."""
    low, high = top1.interval
    return {
        "float": number(top1.float_accuracy),
        "quantised": number(top1.quantised_accuracy),
        "lost": number(top1.loss),
        "interval": [number(low), number(high)],
        "samples": top1.rows,
    }


def _obstacle(obstacle: Obstacle) -> Json:
    return {"fault": text(obstacle.fault), "once": text(obstacle.once), "remedy": text(obstacle.remedy)}


def _mended(mended: Mended) -> Json:
    result = mended.result
    return {
        "rewrites": [text(name) for name in mended.rewrites],
        "what": text(mended.what),
        "verdict": verdict(result.verdict),
        "output_sqnr_db": number(result.output_sqnr_db),
        "uncertainty_db": number(result.uncertainty_db),
        "agreement": number(result.agreement),
        "basis": result.basis.value,
        "outputs": [_output(output) for output in result.outputs],
        "float_sqnr_db": number(mended.exact_db),
    }


def ends_document(interval: tuple[float, float] | None) -> Json:
    """The two ends of an interval; null without one."""
    return None if interval is None else [number(end) for end in interval]


def _tensor(row: TensorRow) -> Json:
    return {
        "tensor": text(row.tensor),
        "kind": row.kind.value,
        "share": number(row.share),
        "sqnr_db": number(row.sqnr_db),
        "node": text(row.node),
        "op_type": text(row.op_type),
    }


def _output(output: OutputResult) -> Json:
    return {
        "name": text(output.name),
        "holds": output.holds,
        "sqnr_db": number(output.sqnr_db),
        "agreement": number(output.agreement),
        "agreement_interval": ends_document(output.interval),
        "verdict": output.verdict.value if output.verdict else None,
        "probability": probability_document(output.chances),
        "interval_db": ends_document(output.interval_db),
        "note": text(output.note),
        "assumed": text(output.assumed),
        "parts": [_output(part) for part in output.parts],
    }
