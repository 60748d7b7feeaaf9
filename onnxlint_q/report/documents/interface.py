"""Inputs and outputs of a model as documents."""

from __future__ import annotations

from onnxlint_q.report.documents.values import Json, text
from onnxlint_q.workflow.results import ModelResult, Port


def inputs_document(model: ModelResult) -> Json:
    """The shapes that inputs are taken to have where the file leaves them open."""
    return [
        {"name": text(one.name), "declared": list(one.declared), "taken": list(one.taken), "reason": text(one.reason)}
        for one in model.inputs
    ]


def port_document(port: Port) -> Json:
    """One input or output."""
    return {"name": text(port.name), "dtype": port.dtype, "shape": text(port.shape)}
