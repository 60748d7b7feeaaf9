"""`full`: what was fixed, for a terminal. Every name reaches rich as `Text`, never as markup."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from onnxlint_q.report import words
from onnxlint_q.report.fix import phrases
from onnxlint_q.report.formats import PLAIN, Look
from onnxlint_q.report.full.drawing import VERDICT_STYLE, drawn, indented
from onnxlint_q.report.full.screen import meanings
from onnxlint_q.workflow.mending.fixed import Fixed, Place

_PLACES = 200
"""Places that are listed with --verbose or --diff; the json report has all of them."""


def render(fixed: Fixed, look: Look = PLAIN) -> str:
    """The report as text, `look.width` columns wide; nothing where only what fails is wanted: nothing does."""
    if look.quiet:
        return ""
    return drawn(_report(fixed, look), look.width, look.colour)


def _report(fixed: Fixed, look: Look) -> Iterator[RenderableType]:
    if fixed.verification.synthetic:
        yield Text(f"▲ {phrases.SYNTHETIC}", "bold yellow")
        yield Text()
    yield Text(words.name(fixed.path) or "(no name)", "bold underline")
    yield Text(phrases.headline(fixed), "bold")
    yield Text(phrases.verification(fixed.verification), "dim")
    for note in fixed.notes:
        yield Text(f"· {words.shown(note[:1].upper() + note[1:])}", "dim")
    yield Text()
    body = (_schemes(fixed), *_changes(fixed, look), *_rest(fixed, look))
    yield from body
    yield Text()
    yield Text(phrases.findings(fixed))
    for finding in fixed.new:
        yield indented(Text(f"new: {finding.code} {words.shown(finding.message)}", "yellow"), 2)
    yield Text()
    if meant := meanings(drawn(body, look.width, colour=False)):
        yield Text(meant, "dim")
    if not look.verbose:
        yield Text("--verbose shows every place, and why others were not changed.", "dim")
    if fixed.out:
        yield Text(f"Written: {words.name(fixed.out)}{'' if fixed.applied else ', the same model'}", "bold")
    yield Text(words.time_spent(fixed.seconds), "dim")


def _schemes(fixed: Fixed) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    for before, after in phrases.pairs(fixed):
        # Where nothing was changed both are one.
        for when, result in (("before", before), ("after", after)) if fixed.applied else (("", before),):
            name = words.name(result.scheme, 80) if when != "after" else ""
            style = VERDICT_STYLE[result.verdict]
            table.add_row(
                Text(name, "bold"),
                Text(when, "dim"),
                Text(phrases.verdict(result), style),
                Text(phrases.figures(result)),
            )
    return indented(table if table.row_count else Text(phrases.NOTHING_QUANTISED), 2)


def _changes(fixed: Fixed, look: Look) -> Iterator[RenderableType]:
    if not fixed.applied:
        return
    yield Text()
    yield Text("Changed" if fixed.out else "Would change", "bold")
    table = Table.grid(padding=(0, 2))
    for rewrite in fixed.applied:
        table.add_row(Text(rewrite.name), Text(phrases.changed(rewrite)))
    yield indented(table, 2)
    if not (look.verbose or not fixed.out):
        return
    for rewrite in fixed.applied:
        yield Text()
        yield Text(f"{rewrite.name}: {rewrite.what}", "bold")
        yield from _places(rewrite.places)


def _rest(fixed: Fixed, look: Look) -> Iterator[RenderableType]:
    """What was not changed."""
    held, kept = tuple(phrases.withheld(fixed)), tuple(phrases.not_changed(fixed))
    if not (held or kept):
        return
    yield Text()
    yield Text("Not changed", "bold")
    for line in held:
        yield indented(Text(line), 2)
    if not look.verbose:
        table = Table.grid(padding=(0, 2))
        for name, said in kept:
            table.add_row(Text(name, "dim"), Text(said, "dim"))
        yield indented(table, 2)
        return
    for rewrite in fixed.rewrites:
        if rewrite.left_out or rewrite.refused:
            yield indented(Text(rewrite.name), 2)
            yield from _places((*rewrite.left_out, *rewrite.refused), 4)


def _places(places: Iterable[Place], columns: int = 2) -> Iterator[RenderableType]:
    listed = tuple(places)
    for one in listed[:_PLACES]:
        yield indented(Text(phrases.place(one), "dim"), columns)
    if len(listed) > _PLACES:
        yield indented(Text(f"{len(listed) - _PLACES} more; the json report has them all", "dim"), columns)
