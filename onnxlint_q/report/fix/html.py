"""`html`: what was fixed as one self-contained page, in the style of the report on a model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from onnxlint_q import __version__
from onnxlint_q.report import words
from onnxlint_q.report.fix import phrases
from onnxlint_q.report.fix.json import render_compact
from onnxlint_q.report.html import embed, environment
from onnxlint_q.report.tables.layout import ROWS, Cell, Heading, Line, Table
from onnxlint_q.workflow.mending.fixed import Fixed, Place


def render(fixed: Fixed) -> str:
    """The page; of every path it tells the last part only."""
    fixed = replace(
        fixed,
        path=words.file_name(fixed.path),
        out=words.file_name(fixed.out),
        verification=replace(fixed.verification, source=words.file_name(fixed.verification.source)),
    )
    text: str = (
        environment()
        .get_template("fix.html")
        .render(
            fixed=fixed,
            phrases=phrases,
            words=words,
            title=words.name(fixed.path, 60),
            version=__version__,
            tables=tuple(_tables(fixed)),
            data=embed(render_compact(fixed)),
        )
    )
    return text + "\n"


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
