"""`full`: what changed between two releases, for a terminal. Every name reaches rich as `Text`, never as markup."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from onnxlint_q.finding import Finding
from onnxlint_q.report import words
from onnxlint_q.report.diff import phrases
from onnxlint_q.report.digest import group_by_rule
from onnxlint_q.report.formats import PLAIN, Look
from onnxlint_q.report.full.drawing import SEVERITY_STYLE, VERDICT_STYLE, drawn, indented
from onnxlint_q.workflow.diff import Diff, PortDiff
from onnxlint_q.workflow.results import ModelResult, SchemeResult

_ROWS, _ALL = 8, 400
"""Rows of a list, and with --verbose; the json report has all of them."""


def render(changes: Diff, look: Look = PLAIN) -> str:
    """The report as text, `look.width` columns wide."""
    if look.quiet:
        return "".join(f"{words.name(changes.new.path, 4096)}: {line}\n" for line in phrases.failing(changes))
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
    yield Text(phrases.summary(changes), "bold")


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
            lost = phrases.change(one.loss_db) if when == "new" else ""
            table.add_row(Text(name, "bold"), Text(when, "dim"), verdict, Text(figures), Text(lost))
    yield Text()
    yield indented(table, 2)


def _verdict(result: SchemeResult) -> Text:
    return Text(words.marked_verdict(result), VERDICT_STYLE[words.shown_as(result)])


def _interface(ports: Sequence[PortDiff]) -> Iterator[RenderableType]:
    if not ports:
        return
    yield Text()
    yield Text("Interface", "bold")
    for one in ports[:_ALL]:
        yield indented(Text(f"{one.what} {words.name(one.name, 80) or '(no name)'}: {phrases.moved(one)}", "yellow"), 2)


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
    worse = phrases.worse(changes, phrases.SAME_DB if look.verbose else phrases.SHOWN_DB)
    limit = _ALL if look.verbose else _ROWS
    if worse:
        yield Text()
        yield Text("Layers that cost the output more, quantised alone", "bold")
        table = Table.grid(padding=(0, 2))
        for one, loss in worse[:limit]:
            table.add_row(
                Text(phrases.layer(one)),
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
            names = ", ".join(phrases.layer(one) for one in found[:limit])
            more = f" and {len(found) - limit} more" if len(found) > limit else ""
            yield Text()
            yield Text(f"{title}: {names}{more}")
