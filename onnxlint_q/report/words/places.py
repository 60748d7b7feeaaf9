"""How places in a model read."""

from __future__ import annotations

from onnxlint_q.finding import Finding, Location
from onnxlint_q.report.words.names import name
from onnxlint_q.report.words.numbers import count
from onnxlint_q.workflow.results import LayerRow


def layer_label(row: LayerRow) -> str:
    """The name to show for a layer: the node's, else its output's, as in `Location.label`."""
    return row.node or row.output


def place(location: Location, limit: int = 60) -> str:
    """Where, for people: node, operator, and the output where the node's name does not say it."""
    text = name(location.label, limit) or "the model"
    if location.graph != "main":
        text = f"{text} in {name(location.graph, limit)}"
    if location.op_type:
        text = f"{text} ({name(location.op_type, 40)})"
    if location.node and location.output and location.output != location.node:
        text = f"{text} → {name(location.output, limit)}"
    return text


def brief_place(location: Location, limit: int) -> str:
    """Node and operator in about `limit` characters, for lists."""
    op_type = f" ({name(location.op_type, 20)})" if location.op_type else ""
    said = op_type and location.label.rpartition("/")[2].startswith(location.op_type)
    if said and len(location.label) + len(op_type) > limit:
        op_type = ""  # the name ends with it, and has no room to spare
    return f"{name(location.label, max(limit - len(op_type), 24)) or 'the model'}{op_type}"


def further_places(finding: Finding, limit: int | None = None) -> str:
    """Where else the same fault does the same: `The same at 11 more places: a, b and 9 more.`; empty without any."""
    if not finding.places:
        return ""
    shown = finding.places[:limit]
    listed = ", ".join(brief_place(location, 56) for location in shown)
    hidden = len(finding.places) - len(shown)
    more = f" and {hidden} more" if hidden else ""
    return f"The same at {count(len(finding.places), 'more place')}: {listed}{more}."
