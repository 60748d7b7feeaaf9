"""`json-lines`: one JSON object a line, so that a line can be read before the next one is there.

`type` says what a line is: `model`, then its `verdict`, `finding` and `suppressed` lines, which name the model by
`path`; `failure` for a model that could not be linted. The keys are those of `json`.
"""

from __future__ import annotations

from collections.abc import Iterator

from onnxlint_q.report.documents.findings import suppressed_document, told_document
from onnxlint_q.report.documents.schemes import scheme_document
from onnxlint_q.report.documents.values import Json, compact, text, tool
from onnxlint_q.workflow.results import ModelResult, Run

VERSION = 1


def render(run: Run) -> str:
    """A line for each thing that is told."""
    lines = [line for model in run.models for line in _lines(model)]
    lines += [{"type": "failure", "path": text(one.path), "message": text(one.message)} for one in run.failures]
    return "".join(f"{compact(line)}\n" for line in lines)


def _lines(model: ModelResult) -> Iterator[dict[str, Json]]:
    path = text(model.path)
    yield {
        "type": "model",
        "version": VERSION,
        "tool": tool(),
        "path": path,
        "sha256": model.sha256,
        "opset": model.opset,
        "format": text(model.format),
        "fails": model.fails,
    }
    for result in model.schemes:
        accepted = result.scheme in model.accepted
        told = scheme_document(result)
        yield {"type": "verdict", "path": path, "scheme": text(result.scheme), "accepted": accepted, **told}
    for finding in model.findings:
        yield {"type": "finding", "path": path, **told_document(model, finding)}
    for finding in model.suppressed:
        yield {"type": "suppressed", "path": path, **suppressed_document(model, finding)}
