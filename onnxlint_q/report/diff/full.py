"""`full`: what changed between two releases, for a terminal. Every name reaches rich as `Text`, never as markup."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from onnxlint_q.finding import Finding
from onnxlint_q.report import words
from onnxlint_q.report.digest import group_by_rule
from onnxlint_q.report.formats import PLAIN, Look
from onnxlint_q.report.full.drawing import SEVERITY_STYLE, VERDICT_STYLE, drawn, indented
from onnxlint_q.workflow.diff import Diff, LayerDiff, PortDiff
from onnxlint_q.workflow.results import ModelResult, SchemeResult

SHOWN_DB = 1.0
"""Loss of a layer from which on it is listed; less is told with --verbose."""
_ROWS, _ALL = 8, 400
"""Rows of a list, and with --verbose; the json report has all of them."""


def render(changes: Diff, look: Look = PLAIN) -> str:
    """The report as text, `look.width` columns wide."""
    return drawn(_report(changes, look), look.width, look.colour)


def _report(changes: Diff, look: Look) -> Iterator[RenderableType]:
    yield Text(f"old: {_name(changes.old)}", "bold")
    yield Text(f"new: {_name(changes.new)}", "bold underline")
    yield Text(f"{words.headline(changes.old)} → {words.headline(changes.new)}", "dim")
    for warning in dict.fromkeys((*words.warnings(changes.old), *words.warnings(changes.new))):
        yield Text(f"▲ {warning}", "bold yellow")
    if changes.old.sha256 == changes.new.sha256:
        yield Text("Both are the same file, byte for byte.", "bold")
    yield from _schemes(changes)
    yield from _interface(changes.ports)
    yield from _findings("New findings", changes.appeared, look)
    yield from _findings("Gone findings", changes.gone, look)
    yield from _layers(changes, look)
    yield Text()
    yield Text(_summary(changes), "bold")


def _name(model: ModelResult) -> str:
    return words.name(model.path) or "(no name)"


def _schemes(changes: Diff) -> Iterator[RenderableType]:
    if not changes.schemes:
        return
    table = Table.grid(padding=(0, 2))
    for one in changes.schemes:
        for when, result in (("old", one.old), ("new", one.new)):
            name = words.name(one.scheme, 80) if when == "old" else ""
            verdict = Text("not judged", "dim") if result is None else _verdict(result)
            figures = "" if result is None else words.brief_reason(result)
            lost = _change(one.loss_db) if when == "new" else ""
            table.add_row(Text(name, "bold"), Text(when, "dim"), verdict, Text(figures), Text(lost))
    yield Text()
    yield indented(table, 2)


def _verdict(result: SchemeResult) -> Text:
    return Text(words.marked_verdict(result), VERDICT_STYLE[words.shown_as(result)])


def _change(loss_db: float | None) -> str:
    """`-3.2 dB`, as the new release has so much less."""
    if loss_db is None:
        return ""
    if math.isinf(loss_db):
        return "was perfect" if loss_db > 0 else "is perfect"
    return "same" if abs(loss_db) < 0.05 else f"{-loss_db:+.1f} dB"


def _interface(ports: Sequence[PortDiff]) -> Iterator[RenderableType]:
    if not ports:
        return
    yield Text()
    yield Text("Interface", "bold")
    for one in ports[:_ALL]:
        yield indented(Text(f"{one.what} {words.name(one.name, 80) or '(no name)'}: {_moved(one)}", "yellow"), 2)


def _moved(one: PortDiff) -> str:
    old, new = (
        f"{port.dtype or 'unknown type'} {words.shown(port.shape, 80)}" if port is not None else ""
        for port in (one.old, one.new)
    )
    if one.moved:
        return "stands elsewhere in the order"
    if not old:
        return f"new, {new}"
    return f"{old} → {new}" if new else f"gone, {old}"


def _findings(title: str, findings: Sequence[Finding], look: Look) -> Iterator[RenderableType]:
    if not findings:
        return
    yield Text()
    yield Text(f"{title}: {len(findings)}", "bold")
    limit = _ALL if look.verbose else _ROWS
    left = limit
    for group in group_by_rule(findings):
        if left <= 0:
            break
        mark = words.SEVERITY_MARK[group.severity]
        title = f"{words.shown(group.code, 20)} {words.shown(group.name, 60)}"
        yield indented(Text.assemble((f"{mark} ", SEVERITY_STYLE[group.severity]), title), 2)
        for finding in group.findings[:left]:
            where = words.brief_place(finding.location, 56)
            yield indented(Text(f"{where}: {words.shown(finding.message)}", "dim"), 4)
        left -= len(group.findings)
    if len(findings) > limit:
        yield indented(Text(f"and {len(findings) - limit} more", "dim"), 2)


def _layers(changes: Diff, look: Look) -> Iterator[RenderableType]:
    """What got worse by layer, worst first, then layers of one release only."""
    known = [(one, one.worst) for one in changes.layers]
    least = 0.05 if look.verbose else SHOWN_DB
    worse = sorted(
        ((one, loss) for one, loss in known if loss is not None and loss.loss_db >= least),
        key=lambda pair: -pair[1].loss_db,
    )
    limit = _ALL if look.verbose else _ROWS
    if worse:
        yield Text()
        yield Text("Layers that cost the output more, quantised alone", "bold")
        table = Table.grid(padding=(0, 2))
        for one, loss in worse[:limit]:
            table.add_row(
                Text(_layer(one)),
                Text(words.name(loss.scheme, 40), "dim"),
                Text(f"{words.decibel(loss.old_db)} → {words.decibel(loss.new_db)}"),
                Text(loss.basis.value, "dim"),
            )
        yield indented(table, 2)
        if len(worse) > limit:
            yield indented(Text(f"and {len(worse) - limit} more", "dim"), 2)
    for title, found in (
        ("New layers", [one for one in changes.layers if one.old is None]),
        ("Gone layers", [one for one in changes.layers if one.new is None]),
    ):
        if found:
            names = ", ".join(_layer(one) for one in found[:limit])
            more = f" and {len(found) - limit} more" if len(found) > limit else ""
            yield Text()
            yield Text(f"{title}: {names}{more}")


def _layer(one: LayerDiff) -> str:
    old, new = (words.name(words.layer_label(row), 56) if row is not None else "" for row in (one.old, one.new))
    kind = words.name(one.row.op_type, 20)
    return f"{old} → {new} ({kind})" if old and new and old != new else f"{new or old} ({kind})"


def _summary(changes: Diff) -> str:
    loss, limit = changes.loss_db, changes.max_loss_db
    parts = [words.count(len(changes.appeared), "new finding"), f"{len(changes.gone)} gone"]
    if changes.ports:
        parts.append(words.count(len(changes.ports), "change") + " of the interface")
    told = f"{', '.join(parts)}; "
    if loss is None:
        told += "no scheme has a figure in both releases that rests on the same"
    elif math.isinf(loss):
        told += "a scheme that was perfect is not" if loss > 0 else "every scheme is perfect now"
    else:
        told += f"the most that a scheme lost is {max(loss, 0.0):.1f} dB"
    if limit is not None:
        told += f", {'over' if changes.fails else 'within'} --max-loss {limit:g}" if loss is not None else ""
    return told
