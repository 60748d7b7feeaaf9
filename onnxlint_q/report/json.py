"""`json`, version 1: consumers depend on it, so keys are added and never changed.

Every number is finite and has six significant digits; what is not finite is null. The text is ASCII, and the
same run gives the same bytes: no time, no machine, no path but the one the user typed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from numbers import Integral, Real

from onnxlint_q import __version__
from onnxlint_q.finding import Claim, Cure, Finding
from onnxlint_q.report.words import PERFECT, missing_sqnr
from onnxlint_q.result import CalibrationSummary, LayerRow, LayerSqnr, ModelResult, Run, SchemeResult

VERSION = 1

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]


def render(run: Run) -> str:
    """The report, indented by one space so that it reads and diffs line by line."""
    return json.dumps(document(run), indent=1, allow_nan=False) + "\n"


def render_compact(run: Run) -> str:
    """The same report without white space, to embed."""
    return json.dumps(document(run), separators=(",", ":"), allow_nan=False)


def document(run: Run) -> dict[str, Json]:
    """The report as values the json module can write."""
    return {
        "version": VERSION,
        "tool": {"name": "onnxlint-q", "version": __version__},
        "models": [_model(model) for model in run.models],
        "failures": [{"path": _text(f.path), "message": _text(f.message)} for f in run.failures],
    }


def _model(model: ModelResult) -> Json:
    return {
        "path": _text(model.path),
        "sha256": model.sha256,
        "opset": model.opset,
        "format": _text(model.format),
        "schemes": {_text(result.scheme): _scheme(result) for result in model.schemes},
        "layers": [_layer(row) for row in model.layers],
        "findings": [_finding(finding) for finding in model.findings],
        "suppressed": [_finding(finding) for finding in model.suppressed],
        "calibration": _calibration(model.calibration) if model.calibration else None,
        "untested_because": _text(model.untested_because),
        "notes": [_text(note) for note in model.notes],
        "rule_crashed": model.rule_crashed,
    }


def _scheme(result: SchemeResult) -> Json:
    missing = missing_sqnr(result)
    return {
        "verdict": result.verdict.value if result.verdict else None,
        "output_sqnr_db": _number(result.output_sqnr_db),
        "reason": None if missing is None else _text(missing),
        "basis": result.basis.value,
        "agreement": _number(result.agreement),
        "note": _text(result.note),
        "uncertainty_db": _number(result.uncertainty_db),
        "rest_share": _number(result.rest_share),
    }


def _layer(row: LayerRow) -> Json:
    return {
        "node": _text(row.node),
        "output": _text(row.output),
        "op_type": _text(row.op_type),
        "group": row.group,
        "depthwise": row.depthwise,
        "range": _number(row.range),
        "average_precision": _number(row.average_precision),
        "channel_sqnr_db": _number(row.channel_sqnr_db),
        "activation_low": _number(row.activation_low),
        "activation_high": _number(row.activation_high),
        "forecast": _stage(row.forecast),
        "probe": _stage(row.probe),
        "measured": _stage(row.measured),
    }


def _stage(stage: Mapping[str, LayerSqnr] | None) -> Json:
    if stage is None:
        return None
    return {_text(scheme): dict(_sqnr(sqnr)) for scheme, sqnr in stage.items()}


def _sqnr(sqnr: LayerSqnr) -> Iterator[tuple[str, Json]]:
    yield "weight_sqnr_db", _number(sqnr.weight_sqnr_db)
    yield "sqnr_db", _number(sqnr.sqnr_db)
    if sqnr.activation_sqnr_db is not None:
        yield "activation_sqnr_db", _number(sqnr.activation_sqnr_db)
    if sqnr.weight_share is not None:
        yield "weight_share", _number(sqnr.weight_share)
        yield "activation_share", _number(sqnr.activation_share)
    if math.inf in (sqnr.weight_sqnr_db, sqnr.activation_sqnr_db, sqnr.sqnr_db):
        yield "reason", PERFECT


def _finding(finding: Finding) -> Json:
    where = finding.location
    return {
        "code": _text(finding.code),
        "name": _text(finding.name),
        "severity": finding.severity.value,
        "confidence": finding.confidence.value,
        "evidence": finding.evidence.value,
        "message": _text(finding.message),
        "location": {
            "graph": _text(where.graph),
            "node": _text(where.node),
            "op_type": _text(where.op_type),
            "output": _text(where.output),
        },
        "metrics": {_text(key): _metric(value) for key, value in finding.metrics.items()},
        "remedy": _text(finding.remedy),
        "fingerprint": finding.fingerprint,
        "snippet": _text(finding.snippet),
        "claim": _claim(finding.claim) if finding.claim else None,
        "measured_sqnr_db": _number(finding.measured_db),
        "note": _text(finding.note),
        "causes": [_text(cause) for cause in finding.causes],
        "cure": _cure(finding.cure) if finding.cure else None,
    }


def _claim(claim: Claim) -> Json:
    return {
        "subject": claim.subject.value,
        "tensor": _text(claim.tensor),
        "scheme": _text(claim.scheme),
        "below_db": _number(claim.below_db),
    }


def _cure(cure: Cure) -> Json:
    return {"layer": _text(cure.layer), "channels": list(cure.channels), "scheme": _text(cure.scheme)}


def _calibration(calibration: CalibrationSummary) -> Json:
    return {
        "source": _text(calibration.source),
        "preprocessing": _text(calibration.preprocessing),
        "samples": calibration.samples,
        "held_out": calibration.held_out,
        "synthetic": calibration.synthetic,
    }


def _metric(value: object) -> Json:
    """A metric of a plug-in may be a numpy scalar, whatever its annotation says."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return _number(float(value))
    return _text(str(value))


def _number(value: float | None) -> float | None:
    """Six significant digits; null where it is not finite."""
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value:.6g}") + 0.0


def _text(text: str) -> str:
    """A lone surrogate, legal in Python and refused by strict JSON readers, becomes its escape as text."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
