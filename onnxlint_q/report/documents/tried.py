"""What was tried on the whole model, as documents."""

from __future__ import annotations

from onnxlint_q.report.documents.schemes import scheme_document
from onnxlint_q.report.documents.values import Json, number, text
from onnxlint_q.report.words import PERFECT
from onnxlint_q.workflow.results import FixPreview, JointRemedy, TrialFigure, Trials


def trials_document(trials: Trials) -> Json:
    """What calibrating on other samples came to."""
    return {
        "count": trials.count,
        "samples": trials.samples,
        "held_out": trials.held_out,
        "observers": [_trial_figure(figure) for figure in trials.observers],
        "curve": [_trial_figure(figure) for figure in trials.curve],
        "sentences": [text(sentence) for sentence in trials.sentences],
    }


def _trial_figure(figure: TrialFigure) -> Json:
    return {
        "scheme": text(figure.scheme),
        "observer": text(figure.observer),
        "samples": figure.samples,
        "output_sqnr_db": number(figure.output_sqnr_db),
        "deviation_db": number(figure.deviation_db),
        "agreement": number(figure.agreement),
        "agreement_deviation": number(figure.agreement_deviation),
    }


def preview_document(preview: FixPreview) -> Json:
    """What `fix` would do to the model."""
    return {
        "rewrites": list(preview.rewrites),
        "places": preview.places,
        "float_sqnr_db": number(preview.float_sqnr_db),
        "before": {text(result.scheme): scheme_document(result) for result in preview.before},
        "after": {text(result.scheme): scheme_document(result) for result in preview.after},
    }


def remedy_document(remedy: JointRemedy) -> Json:
    """A remedy that stands for several findings, with what it was tried on."""
    return {
        "scheme": text(remedy.scheme),
        "nodes_to_exclude": [text(name) for name in remedy.nodes_to_exclude],
        "snippet": text(remedy.snippet),
        "tried": True,
        "before_db": number(remedy.before_db),
        "after_db": number(remedy.after_db),
        "before_agreement": number(remedy.before_agreement),
        "after_agreement": number(remedy.after_agreement),
        "verdict_before": remedy.verdict_before.value if remedy.verdict_before else None,
        "verdict_after": remedy.verdict_after.value if remedy.verdict_after else None,
        "samples": remedy.samples,
        "held_out": remedy.held_out,
        "reason": PERFECT if remedy.after_db is None else None,
        "coarse_only": remedy.coarse_only,
        "opset": remedy.opset,
    }
