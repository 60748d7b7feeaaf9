"""Findings as documents."""

from __future__ import annotations

from numbers import Integral, Real

from onnxlint_q.finding import Claim, Finding, Location, Rescaling, Severity, Tried
from onnxlint_q.report import digest
from onnxlint_q.report.documents.values import Json, number, text
from onnxlint_q.workflow.results import ModelResult


def told_document(model: ModelResult, finding: Finding) -> dict[str, Json]:
    """One finding of a model, and where more is said of its rule: the command that prints it, and its address."""
    page = digest.page_of(model, finding)
    command = f"onnxlint-q rule {text(finding.code)}"
    return {**finding_document(finding), "help": command, "help_url": text(page) if page else None}


def suppressed_document(model: ModelResult, finding: Finding) -> dict[str, Json]:
    """One finding that somebody knows of, and who said so."""
    why = finding.suppression
    said: Json = {"by": why.by.value, "where": text(why.where), "reason": text(why.reason)} if why is not None else None
    return {**told_document(model, finding), "suppression": said}


def finding_document(finding: Finding) -> dict[str, Json]:
    """One finding."""
    return {
        "code": text(finding.code),
        "name": text(finding.name),
        "severity": finding.severity.value,
        "confidence": finding.confidence.value,
        "evidence": finding.evidence.value,
        "message": text(finding.message),
        "location": _location(finding.location),
        "metrics": {text(key): _metric(value) for key, value in finding.metrics.items()},
        "remedy": text(finding.advice),
        "fingerprint": finding.fingerprint,
        "structure": finding.structure,
        "snippet": text(finding.snippet),
        "claim": _claim(finding.claim) if finding.claim else None,
        "measured_sqnr_db": number(finding.measured_db),
        "measured_on": finding.samples,
        "note": text(finding.note),
        "causes": [text(cause) for cause in finding.causes],
        "cure": _cure(finding) if finding.cure is not None or finding.fixing is not None else None,
        "rescaling": _rescaling(finding.change) if isinstance(finding.change, Rescaling) else None,
        "remedy_tried": _tried(finding.tried) if finding.tried else None,
        "also": [text(code) for code in finding.also],
        "explains": {text(scheme): number(share) for scheme, share in finding.explains.items()},
        "places": [_location(place) for place in finding.places],
    }


def faults_document(model: ModelResult) -> Json:
    """How many faults the findings that count tell, one damage once, by severity."""
    told = digest.faults(model.findings)
    by_severity = dict(digest.tally(told))
    return {"total": len(told), **{severity.value: by_severity.get(severity, 0) for severity in Severity}}


def _location(where: Location) -> Json:
    return {
        "graph": text(where.graph),
        "node": text(where.node),
        "op_type": text(where.op_type),
        "output": text(where.output),
    }


def _claim(claim: Claim) -> Json:
    return {
        "subject": claim.subject.value,
        "tensor": text(claim.tensor),
        "scheme": text(claim.scheme),
        "below_db": number(claim.below_db),
        "more": [text(tensor) for tensor in claim.more],
    }


def _cure(finding: Finding) -> Json:
    """The channels of a layer that become constant, and what `fix` does about the finding."""
    cure, fixing = finding.cure, finding.fixing
    scheme = cure.scheme if cure is not None else finding.claim.scheme if finding.claim is not None else None
    return {
        "layer": text(cure.layer) if cure is not None else None,
        "channels": list(cure.channels) if cure is not None else [],
        "scheme": text(scheme) if scheme is not None else None,
        "rewrite": text(fixing.rewrites[0]) if fixing is not None else None,
        "rewrites": [text(name) for name in fixing.rewrites] if fixing is not None else [],
        "option": text(fixing.option) if fixing is not None else "",
        "tried": fixing is not None and fixing.tried,
        "before_db": number(fixing.before_db) if fixing is not None else None,
        "after_db": number(fixing.after_db) if fixing is not None else None,
    }


def _rescaling(change: Rescaling) -> Json:
    return [
        {"tensor": text(one.tensor), "channels": list(one.channels), "factors": list(map(number, one.factors))}
        for one in change.divisors
    ]


def _tried(tried: Tried) -> Json:
    return {
        "scheme": text(tried.scheme),
        "before_db": number(tried.before_db),
        "after_db": number(tried.after_db),
        "said": text(tried.said),
    }


def _metric(value: object) -> Json:
    """A metric of a plug-in may be a numpy scalar, whatever its annotation says."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return number(float(value))
    return text(str(value))
