"""`html`: what was fixed as one self-contained page, in the style of the report on a model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from onnxlint_q.report import words
from onnxlint_q.report.fix import phrases
from onnxlint_q.report.fix.json import render_compact
from onnxlint_q.report.formats import PLAIN, Look
from onnxlint_q.report.front import MADE_UP, decide, headline, worst
from onnxlint_q.report.html import page
from onnxlint_q.report.html.decision import Card, card
from onnxlint_q.report.html.provenance import made, of_data, of_file
from onnxlint_q.report.layout import ROWS, Cell, Heading, Line, Table
from onnxlint_q.workflow.mending.fixed import Fixed, Place, Verification
from onnxlint_q.workflow.results import CalibrationSummary


def render(fixed: Fixed, look: Look = PLAIN) -> str:
    """The page; of every path it tells the last part only, unless it is to tell them."""
    fixed = fixed if look.paths else without_folders(fixed)
    cards = tuple(_cards(fixed))
    decided = [card.decision for card in cards]
    return page(
        "fix.html",
        look,
        render_compact(fixed),
        title=words.name(words.file_name(fixed.path), 60),
        fixed=fixed,
        phrases=phrases,
        cards=cards,
        origin=(
            *of_file("Model", fixed.path, fixed.sha256),
            *of_data(data_of(fixed.verification)),
            *made(look.origin()),
        ),
        call=worst(decided),
        headline=headline(decided),
        tables=tuple(_tables(fixed)),
    )


def without_folders(fixed: Fixed) -> Fixed:
    """The same with the last part of every path."""
    return replace(
        fixed,
        path=words.file_name(fixed.path),
        out=words.file_name(fixed.out),
        verification=replace(fixed.verification, source=words.file_name(fixed.verification.source)),
    )


def data_of(held: Verification) -> CalibrationSummary:
    """What figures were measured on, as a run of `check` has it."""
    return CalibrationSummary(held.source, held.preprocessing, held.ranges, held.judged, held.synthetic)


def _cards(fixed: Fixed) -> Iterator[Card]:
    """Each scheme after the changes, with what it was before."""
    for before, after in phrases.pairs(fixed):
        doubt = MADE_UP if fixed.verification.synthetic else ""
        told = card(decide(after, data_of(fixed.verification), doubt), after)
        yield replace(told, mended=f"Before: {words.verdict(before.verdict)}, {phrases.figures(before)}.")


def _tables(fixed: Fixed) -> Iterator[Table]:
    for rewrite in fixed.applied:
        yield _table(f"{rewrite.name}: {rewrite.what}", "what changes", rewrite.places)
    for rewrite in fixed.rewrites:
        places = (*rewrite.left_out, *rewrite.refused)
        if places:
            yield _table(f"{rewrite.name}: not changed", "why", places)


def _table(title: str, heading: str, places: Sequence[Place]) -> Table:
    said = Heading(heading, heading, numeric=False)
    lines = tuple(Line(place.tensor, place.op_type, (Cell(words.shown(place.said)),)) for place in places[:ROWS])
    return Table(title, "tensor", "operator", (said,), lines, max(len(places) - ROWS, 0), "")
