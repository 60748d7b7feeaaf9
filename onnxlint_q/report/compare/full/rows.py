"""The tensors of two files side by side, along the network."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from onnxlint_q.report import words
from onnxlint_q.report.compare import phrases
from onnxlint_q.report.full.drawing import fits, indented, stacked
from onnxlint_q.workflow.comparison import (
    Comparison,
)

ROWS = 200
"""Rows of the table; the json and html reports have all of them."""


def table(comparison: Comparison, width: int) -> Iterator[RenderableType]:
    """A row a tensor, and what the columns are."""
    drawn = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    drawn.add_column("", no_wrap=True)
    drawn.add_column("tensor of", overflow="fold", min_width=16)
    drawn.add_column("", no_wrap=True)
    for heading in ("SQNR\ndB", "reads\ndB", "falls\nby", "weight\ndB", "rounding\ndB", "QMSE", "QCE", "QKL"):
        drawn.add_column(heading, justify="right", no_wrap=True)
    jumps = comparison.jumps
    for row in comparison.rows[:ROWS]:
        first, jumps_here = row in jumps[:1], row in jumps
        mark = "✖" if first else "▲" if jumps_here else ""
        style = "bold red" if first else "yellow" if jumps_here else ""
        rounding = row.qparams.rounding_sqnr_db if row.qparams is not None else None
        cells = [
            *map(phrases.figure_db, (row.sqnr_db, row.reads_db)),
            phrases.figure_db(row.drop_db).replace("=", "-"),
            *map(phrases.figure_db, (row.weight_sqnr_db, rounding)),
            *(words.significant(value, 2) for value in (row.qmse, row.qce, row.qkl)),
        ]
        name = words.name(row.node, max(24, width - 62))
        drawn.add_row(*(Text(cell, style) for cell in (mark, name, words.name(row.op_type, 12), *cells)))
    if fits(drawn, width - 2):
        yield indented(drawn, 2)
    else:
        yield from (indented(part, 2) for part in stacked(drawn, main=1))
    if len(comparison.rows) > ROWS:
        yield indented(Text(f"and {len(comparison.rows) - ROWS} more in the json and html reports", "dim"), 2)
    yield indented(Text(phrases.LEGEND, "dim"), 2)
