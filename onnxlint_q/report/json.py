"""`json`, version 1: consumers depend on it, so keys are added and never changed.

The same run gives the same bytes: no time, no machine, no path but the one the user typed.
"""

from __future__ import annotations

from onnxlint_q.report.documents.findings import faults_document, suppressed_document, told_document
from onnxlint_q.report.documents.interface import inputs_document, port_document
from onnxlint_q.report.documents.layers import layer_document
from onnxlint_q.report.documents.schemes import scheme_document
from onnxlint_q.report.documents.tables import activation_document, calibration_document, qparams_document
from onnxlint_q.report.documents.tried import preview_document, remedy_document, trials_document
from onnxlint_q.report.documents.values import Json, compact, indented, text, tool
from onnxlint_q.workflow.results import ModelResult, Run

VERSION = 1


def render(run: Run) -> str:
    """The report, indented by one space so that it reads and diffs line by line."""
    return indented(document(run))


def render_compact(run: Run) -> str:
    """The same report without white space, to embed."""
    return compact(document(run))


def document(run: Run) -> dict[str, Json]:
    """The report as values the json module can write."""
    return {
        "version": VERSION,
        "tool": tool(),
        "models": [_model(model) for model in run.models],
        "failures": [{"path": text(f.path), "message": text(f.message)} for f in run.failures],
    }


def _model(model: ModelResult) -> Json:
    return {
        "path": text(model.path),
        "sha256": model.sha256,
        "opset": model.opset,
        "format": text(model.format),
        "schemes": {text(result.scheme): scheme_document(result) for result in model.schemes},
        "layers": [layer_document(row) for row in model.layers],
        "qparams": [qparams_document(row) for row in model.qparams],
        "activations": [activation_document(row) for row in model.activations],
        "interface": {
            "inputs": [port_document(port) for port in model.ports_in],
            "outputs": [port_document(port) for port in model.ports_out],
        },
        "findings": [told_document(model, finding) for finding in model.findings],
        "faults": faults_document(model),
        "suppressed": [suppressed_document(model, finding) for finding in model.suppressed],
        "accepted_verdicts": [text(scheme) for scheme in model.accepted],
        "calibration": calibration_document(model.calibration) if model.calibration else None,
        "untested_because": text(model.untested_because),
        "notes": [text(note) for note in model.notes],
        "rule_crashed": model.rule_crashed,
        "trials": trials_document(model.trials) if model.trials else None,
        "remedies": [remedy_document(remedy) for remedy in model.remedies],
        "inputs": inputs_document(model),
        "fix_preview": preview_document(model.preview) if model.preview is not None else None,
    }
