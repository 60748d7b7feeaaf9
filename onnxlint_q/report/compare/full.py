"""`full`: a comparison for a terminal. Every name reaches rich as `Text`, never as markup."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from onnxlint_q.report import words
from onnxlint_q.report.compare import phrases
from onnxlint_q.report.full import VERDICT_STYLE, drawn, findings_of, indented
from onnxlint_q.workflow.results import Comparison

ROWS = 200
"""Rows of the table; the json and html reports have all of them."""


def render(comparison: Comparison, width: int = 100, colour: bool = False) -> str:
    """The report as text `width` columns wide, with ANSI colours if `colour`."""
    return drawn(_report(comparison, width), width, colour)


def _report(comparison: Comparison, width: int) -> Iterator[RenderableType]:
    yield Text(words.name(comparison.quantized.path) or "(no name)", "bold underline")
    yield Text(phrases.headline(comparison), "dim")
    yield Text(f"samples {words.calibration_words(comparison.calibration)}", "dim")
    yield Text(phrases.paired(comparison), "dim")
    for warning in phrases.warnings(comparison):
        yield Text()
        yield Text(f"▲ {warning}", "bold yellow")
    yield Text()
    yield _verdict(comparison)
    yield from findings_of(comparison.quantized, width)
    yield Text()
    yield from _table(comparison, width)
    noted = list(phrases.notes(comparison))
    if noted:
        yield Text()
        yield Text("Not compared, and other notes", "bold")
        for note in noted:
            yield indented(Text(f"· {note}"), 2)
    if comparison.quantized.seconds:
        yield Text()
        yield Text(words.time_spent(comparison.quantized.seconds), "dim")
    yield Text()
    yield Text(phrases.summary(comparison), "bold")


def _verdict(comparison: Comparison) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(ratio=1)
    table.add_row(
        Text(words.marked_verdict(comparison.result.verdict), VERDICT_STYLE[comparison.result.verdict]),
        Text(words.reason(comparison.result)),
    )
    for line in (*words.outputs(comparison.result), *filter(None, [words.note(comparison.result)])):
        table.add_row("", Text(line, "dim"))
    if comparison.classifier is not None:
        table.add_row("", Text(phrases.classifier(comparison.classifier)))
    return indented(table, 2)


def _table(comparison: Comparison, width: int) -> Iterator[RenderableType]:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    table.add_column("", no_wrap=True)
    table.add_column("tensor of", overflow="fold", min_width=16)
    table.add_column("", no_wrap=True)
    for heading in ("SQNR\ndB", "reads\ndB", "falls\nby", "weight\ndB", "rounding\ndB", "QMSE", "QCE", "QKL"):
        table.add_column(heading, justify="right", no_wrap=True)
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
        table.add_row(*(Text(cell, style) for cell in (mark, name, words.name(row.op_type, 12), *cells)))
    yield indented(table, 2)
    if len(comparison.rows) > ROWS:
        yield indented(Text(f"and {len(comparison.rows) - ROWS} more in the json and html reports", "dim"), 2)
    yield indented(Text(phrases.LEGEND, "dim"), 2)
