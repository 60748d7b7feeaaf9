"""`json`, version 1 of what was fixed: keys are added and never changed; every number is finite or null."""

from __future__ import annotations

from onnxlint_q.finding import Finding
from onnxlint_q.report.documents.values import Json, compact, indented, number, text, tool
from onnxlint_q.report.words import verdict
from onnxlint_q.workflow.mending.fixed import Fixed, Place, RewriteResult, Verification
from onnxlint_q.workflow.results import SchemeResult

VERSION = 1


def render(fixed: Fixed) -> str:
    """The report, indented by one space so that it reads and diffs line by line."""
    return indented(document(fixed))


def render_compact(fixed: Fixed) -> str:
    """The same report without white space, to embed."""
    return compact(document(fixed))


def document(fixed: Fixed) -> dict[str, Json]:
    """The report as values the json module can write."""
    return {
        "version": VERSION,
        "tool": tool(),
        "path": text(fixed.path),
        "sha256": fixed.sha256,
        "opset": fixed.opset,
        "out": text(fixed.out) or None,
        "tried_on": verification_document(fixed.verification),
        "float_sqnr_db": number(fixed.float_sqnr_db),
        "schemes": {
            result.scheme: {"before": scheme_document(before), "after": scheme_document(result)}
            for before, result in zip(fixed.before, fixed.after, strict=False)
            if before.scheme == result.scheme
        },
        "rewrites": [_rewrite(rewrite) for rewrite in fixed.rewrites],
        "withheld": [{"name": one.name, "places": one.places, "option": one.option} for one in fixed.withheld],
        "findings": {
            "resolved": [_finding(finding) for finding in fixed.resolved],
            "remaining": [_finding(finding) for finding in fixed.remaining],
            "new": [_finding(finding) for finding in fixed.new],
        },
        "notes": [text(note) for note in fixed.notes],
    }


def verification_document(held: Verification) -> Json:
    """The samples of a run."""
    return {
        "source": text(held.source),
        "preprocessing": text(held.preprocessing),
        "synthetic": held.synthetic,
        "samples_for_ranges": held.ranges,
        "samples_for_figures": held.judged,
    }


def scheme_document(result: SchemeResult) -> Json:
    """A scheme as it was measured."""
    return {
        "verdict": verdict(result.verdict),
        "output_sqnr_db": number(result.output_sqnr_db),
        "agreement": number(result.agreement),
        "note": text(result.note),
    }


def _rewrite(rewrite: RewriteResult) -> Json:
    return {
        "name": rewrite.name,
        "what": rewrite.what,
        "safety": rewrite.safety,
        "float_sqnr_db": number(rewrite.float_sqnr_db),
        "places": [_place(place) for place in rewrite.places],
        "left_out": [_place(place) for place in rewrite.left_out],
        "refused": [_place(place) for place in rewrite.refused],
        "before": {result.scheme: scheme_document(result) for result in rewrite.before},
        "after": {result.scheme: scheme_document(result) for result in rewrite.after},
    }


def _place(place: Place) -> Json:
    return {
        "tensor": text(place.tensor),
        "node": text(place.node),
        "op_type": text(place.op_type),
        "said": text(place.said),
    }


def _finding(finding: Finding) -> Json:
    return {
        "code": finding.code,
        "name": finding.name,
        "severity": finding.severity.value,
        "message": text(finding.message),
        "node": text(finding.location.node),
        "output": text(finding.location.output),
        "fingerprint": finding.fingerprint,
    }
