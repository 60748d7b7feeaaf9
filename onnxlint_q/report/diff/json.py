"""`json`, version 1 of the difference: keys are added and never changed; every number is finite or null."""

from __future__ import annotations

import math

from onnxlint_q.finding import Finding
from onnxlint_q.report import words
from onnxlint_q.report.documents.findings import told_document
from onnxlint_q.report.documents.values import Json, compact, indented, number, text, tool
from onnxlint_q.workflow.diff import Diff, LayerDiff, LayerLoss, PortDiff, SchemeDiff
from onnxlint_q.workflow.results import LayerRow, ModelResult, Port, SchemeResult

VERSION = 1


def render(changes: Diff) -> str:
    """The report, indented by one space so that it reads and diffs line by line."""
    return indented(document(changes))


def render_compact(changes: Diff) -> str:
    """The same report without white space, to embed."""
    return compact(document(changes))


def document(changes: Diff) -> dict[str, Json]:
    """The report as values the json module can write."""
    return {
        "version": VERSION,
        "tool": tool(),
        "old": _file(changes.old),
        "new": _file(changes.new),
        "loss_db": number(changes.loss_db),
        "lost_all": changes.loss_db == math.inf,
        "max_loss_db": number(changes.max_loss_db),
        "fails": changes.fails,
        "schemes": {text(one.scheme): _scheme(one) for one in changes.schemes},
        "layers": [_layer(one) for one in changes.layers],
        "new_findings": _findings(changes.new, changes.appeared),
        "gone_findings": _findings(changes.old, changes.gone),
        "interface": [_port(one) for one in changes.ports],
    }


def _findings(model: ModelResult, findings: tuple[Finding, ...]) -> Json:
    return [told_document(model, finding) for finding in findings]


def _file(model: ModelResult) -> Json:
    return {
        "path": text(model.path),
        "sha256": model.sha256,
        "opset": model.opset,
        "format": text(model.format),
        "layers": len(model.layers),
        "findings": len(model.findings),
        "suppressed": len(model.suppressed),
    }


def _scheme(one: SchemeDiff) -> Json:
    return {"old": _verdict(one.old), "new": _verdict(one.new), "loss_db": number(one.loss_db)}


def _verdict(result: SchemeResult | None) -> Json:
    if result is None:
        return None
    worst = result.worst
    return {
        "verdict": words.verdict(result.verdict),
        "output_sqnr_db": number(result.output_sqnr_db),
        "worst_output_sqnr_db": number(worst.sqnr_db) if worst is not None else None,
        "agreement": number(result.agreement),
        "basis": result.basis.value,
    }


def _layer(one: LayerDiff) -> Json:
    return {
        "old": _row(one.old),
        "new": _row(one.new),
        "losses": {text(loss.scheme): _loss(loss) for loss in one.losses},
    }


def _row(row: LayerRow | None) -> Json:
    if row is None:
        return None
    return {
        "node": text(row.node),
        "output": text(row.output),
        "op_type": text(row.op_type),
        "range": number(row.range),
        "average_precision": number(row.average_precision),
    }


def _loss(loss: LayerLoss) -> Json:
    return {
        "old_db": number(loss.old_db),
        "new_db": number(loss.new_db),
        "loss_db": number(loss.loss_db),
        "basis": loss.basis.value,
    }


def _port(one: PortDiff) -> Json:
    change = "moved" if one.moved else "new" if one.old is None else "gone" if one.new is None else "changed"
    return {
        "what": one.what,
        "name": text(one.name),
        "change": change,
        "old": _type(one.old),
        "new": _type(one.new),
    }


def _type(port: Port | None) -> Json:
    return None if port is None else {"dtype": port.dtype, "shape": text(port.shape)}
