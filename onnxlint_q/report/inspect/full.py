"""`full`: what was read, for a terminal. Every name reaches rich as `Text`, never as markup."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rich.console import RenderableType
from rich.table import Table as Drawn
from rich.text import Text

from onnxlint_q.report import words
from onnxlint_q.report.formats import PLAIN, Look
from onnxlint_q.report.full.drawing import drawn, fits, indented, stacked
from onnxlint_q.report.inspect import phrases
from onnxlint_q.report.layout import Table
from onnxlint_q.workflow.reading.inspection import (
    InspectedModel,
    Inspection,
    RoundedValues,
    TensorSheet,
)

LONGEST = 400
"""Characters of a name that are looked at."""
CHANNELS = 10
"""Outlier channels of one BatchNormalization that are listed without --verbose."""
MOST = 2000
"""Rows of a table with --verbose; the json report has all of them."""
_KIND = 12
_LEAST_NAME = 12
# Blanks before a table, and between its columns where names keep so many characters.
_INDENT, _WIDE, _ROOMY = 2, 2, 28


def render(inspection: Inspection, look: Look = PLAIN) -> str:
    """The report as text, `look.width` columns wide."""
    return drawn(_report(inspection, look), look.width, look.colour)


def _report(inspection: Inspection, look: Look) -> Iterator[RenderableType]:
    for warning in phrases.warnings(inspection):
        yield Text(f"▲ {warning}", "bold yellow")
        yield Text()
    for model in inspection.models:
        yield from _head(model)
        yield from _spaced(_model(model, inspection, look))
        yield Text()
    yield from _sides(inspection, look)
    if look.verbose and (made := words.versions(look.origin().versions)):
        yield Text(f"read with {made}", "dim")
    yield Text(words.time_spent(inspection.seconds), "dim")


def _limit(inspection: Inspection, look: Look) -> int:
    return MOST if look.verbose else inspection.top


def _spaced(parts: Iterable[Iterator[RenderableType]]) -> Iterator[RenderableType]:
    """Parts with an empty line before each."""
    for part in parts:
        yield Text()
        yield from part


def _model(model: InspectedModel, inspection: Inspection, look: Look) -> Iterator[Iterator[RenderableType]]:
    if phrases.is_whole(inspection):
        for table in phrases.tables(model, inspection.by, _limit(inspection, look), every=look.verbose):
            yield _table(table, look)
        for said in filter(None, (phrases.empty(model), "" if look.verbose else phrases.left_out(model))):
            yield iter([Text(said, "dim")])
    if model.sheet is not None:
        yield _sheet(model.sheet, model, look)
    if model.rounded is not None:
        yield _rounded(model.rounded, model, look)


def _rounded(done: RoundedValues, model: InspectedModel, look: Look) -> Iterator[RenderableType]:
    yield from _table(phrases.rounded_table(done, model), look, phrases.rounded_scale(done))
    for sentence in phrases.rounded_sentences(done):
        yield indented(Text(sentence, "bold"), _INDENT)


def _sides(inspection: Inspection, look: Look) -> Iterator[RenderableType]:
    side = inspection.side_by_side
    if side is None or not phrases.is_whole(inspection):
        return
    for table in phrases.side_tables(inspection, side, _limit(inspection, look)):
        yield from _table(table, look)
        yield Text()
    if said := phrases.no_pairs(side):
        yield Text(said, "dim")
        yield Text()


def _head(model: InspectedModel) -> Iterator[RenderableType]:
    yield Text(words.name(model.path) or "(no name)", "bold underline")
    yield Text(phrases.headline(model), "dim")
    for line in filter(None, (phrases.origin(model), f"sha256 {model.sha256}")):
        yield Text(line, "dim")
    if said := phrases.calibration(model):
        yield Text(said, "dim")
    for note in model.notes:
        yield Text(f"· {words.shown(note[:1].upper() + note[1:])}", "dim")


def _sheet(sheet: TensorSheet, model: InspectedModel, look: Look) -> Iterator[RenderableType]:
    yield Text(words.name(sheet.name), "bold")
    facts = Drawn.grid(padding=(0, 2))
    for what, value in sheet.facts:
        facts.add_row(Text(what, "dim"), Text(words.shown(value)))
    yield indented(facts, 2)
    for table in phrases.sheet_tables(sheet, model, MOST if look.verbose else CHANNELS):
        yield Text()
        yield from _table(table, look)


def _table(table: Table, look: Look, under: str = "") -> Iterator[RenderableType]:
    yield Text(table.title, "bold")
    if under:
        yield indented(Text(under, "dim"), _INDENT)
    gap = _WIDE if _longest_name(table, look.width, _WIDE) >= _ROOMY else 1
    longest = max(_longest_name(table, look.width, gap), _LEAST_NAME)
    made = Drawn(box=None, pad_edge=False, padding=(0, gap, 0, 0), header_style="dim")
    made.add_column(table.subject, no_wrap=True)
    if table.kind:
        made.add_column(table.kind, no_wrap=True)
    for heading in table.headings:
        made.add_column(heading.text, justify="right" if heading.numeric else "left", no_wrap=True)
    names = _elided([line.name for line in table.lines], longest)
    columns = [
        _elided([line.cells[place].text for line in table.lines], longest)
        if heading.names
        else [line.cells[place].text for line in table.lines]
        for place, heading in enumerate(table.headings)
    ]
    for line, name, *cells in zip(table.lines, names, *columns, strict=True):
        kind = [words.shown(line.kind, _KIND)] if table.kind else []
        made.add_row(*(Text(cell) for cell in (name or "(no name)", *kind, *cells)))
    if fits(made, look.width - _INDENT):
        yield indented(made, _INDENT)
    else:
        yield from (indented(part, _INDENT) for part in stacked(made))
    if said := phrases.more(table, verbose=look.verbose):
        yield indented(Text(said, "dim"), _INDENT)
    if table.legend:
        yield indented(Text(f"{table.legend}.", "dim"), _INDENT)


def _elided(names: Sequence[str], longest: int) -> list[str]:
    """Names cut in the middle where that leaves the most of them different: what tells them apart is at either end."""
    ways = [[_cut(words.name(name, LONGEST), longest, share) for name in names] for share in (0.25, 0.5, 0.75)]
    return max(ways, key=lambda way: len(set(way)))


def _cut(name: str, limit: int, share: float) -> str:
    if len(name) <= limit:
        return name
    head = int((limit - 1) * share)
    return f"{name[:head]}…{name[len(name) - (limit - 1 - head) :]}"


def _longest_name(table: Table, width: int, gap: int) -> int:
    """Characters that a name may have so that all columns fit: the longest are cut first."""
    names = [[table.subject, *(line.name for line in table.lines)]]
    room = width - _INDENT
    if table.kind:
        room -= gap + max(len(text[:_KIND]) for text in (table.kind, *(line.kind for line in table.lines)))
    for place, heading in enumerate(table.headings):
        texts = [*heading.text.split("\n"), *(line.cells[place].text for line in table.lines)]
        room -= gap
        if heading.names:
            names.append(texts)
        else:
            room -= max(map(len, texts))
    wanted = [max(len(words.name(text, width)) for text in texts) for texts in names]
    longest = max(wanted)
    while longest > _LEAST_NAME and sum(min(one, longest) for one in wanted) > room:
        longest -= 1
    return longest
