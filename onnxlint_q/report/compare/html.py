"""`html`: a comparison as one self-contained page, in the style of the report on a model."""

from __future__ import annotations

import math
from dataclasses import replace

from markupsafe import Markup

from onnxlint_q.report import words
from onnxlint_q.report.compare import phrases
from onnxlint_q.report.compare.json import render_compact
from onnxlint_q.report.compare.links import linked
from onnxlint_q.report.formats import PLAIN, Look
from onnxlint_q.report.front import headline
from onnxlint_q.report.html import page
from onnxlint_q.report.html.blocks import flags_by_layer
from onnxlint_q.report.html.charts import Point, sqnr_chart
from onnxlint_q.report.html.page import Page, Reason, pages
from onnxlint_q.report.html.provenance import Row, made, of_data, of_file
from onnxlint_q.report.html.published import published_comparison
from onnxlint_q.report.html.table import Cell
from onnxlint_q.workflow.comparison import (
    Comparison,
)
from onnxlint_q.workflow.results import (
    ComparedRow,
    Run,
)

COLUMNS = (
    ("SQNR, dB", "of the tensor, float against dequantised"),
    ("reads, dB", "worst SQNR of what the operator reads"),
    ("falls by, dB", "what is lost in the operator"),
    ("weight, dB", "SQNR of the dequantised weight"),
    ("rounding, dB", "SQNR if only the tensor's own qparams were applied to the float values"),
    ("QMSE", "mean squared error"),
    ("QCE", "cross-entropy of the histograms, nats; it depends on their bins and does not compare rows"),
    ("QKL", "KL divergence of the histograms, nats"),
    ("cosine", "between float and dequantised tensor"),
    ("scale", "one step of the tensor's codes"),
    ("range ratio", "range of the codes over the range of the float tensor"),
    ("clipped, %", "float values outside the range of the codes"),
)


def render(comparison: Comparison, look: Look = PLAIN) -> str:
    """The page; the json report is inside it as `<script type="application/json" id="data">`."""
    comparison = comparison if look.paths else published_comparison(comparison)
    (model,) = pages(Run((comparison.quantized,)))
    told = linked(model, comparison.rows, charted=_charted(comparison))
    flags = flags_by_layer(told.blocks)
    cards = tuple(card.titled("the quantised file") for card in model.cards)
    # What makes the noise of the output follows from where the files part, which no forecast knows.
    why = (*(reason for reason in told.why if reason.overall), Reason(phrases.CAUSE, phrases.cause(comparison)))
    return page(
        "compare.html",
        look,
        render_compact(comparison),
        title=words.name(words.file_name(comparison.quantized.path), 60),
        comparison=comparison,
        phrases=phrases,
        chart=_chart(comparison, told),
        page=replace(told, cards=cards, headline=headline(card.decision for card in cards), why=why),
        origin=_origin(comparison, look),
        columns=COLUMNS,
        rows=[
            (row, _cells(row, comparison), flags.get(number, ())) for number, row in enumerate(comparison.rows, start=1)
        ],
    )


def _origin(comparison: Comparison, look: Look) -> tuple[Row, ...]:
    ours, theirs = comparison.reference, comparison.quantized
    return (
        *of_file("Float model", ours.path, ours.sha256),
        *of_file("Quantised model", theirs.path, theirs.sha256),
        *of_data(comparison.calibration),
        *made(look.origin()),
    )


def _charted(comparison: Comparison) -> list[int]:
    """Numbers of the rows that have a figure to draw."""
    told = enumerate(comparison.rows, start=1)
    return [number for number, row in told if row.sqnr_db is not None and math.isfinite(row.sqnr_db)]


def _chart(comparison: Comparison, page: Page) -> Markup:
    """SQNR along the network; each mark links to its row."""
    points = tuple(
        Point(
            f"{number} {words.name(row.node, 80)}",
            row.sqnr_db,
            anchor=f"{page.point}{number}",
            href=f"{page.anchor}-l-{number}",
        )
        for number, row in enumerate(comparison.rows, start=1)
    )
    jumps = [place for place, row in enumerate(comparison.rows) if comparison.faults(row)]
    marks = {place: "first jump" if place == jumps[0] else "" for place in jumps}
    levels = [comparison.levels[name] for name in ("broken_db", "bad_db") if name in comparison.levels]
    return sqnr_chart(points, "SQNR along the network", levels, marks, "tensor")


def _cells(row: ComparedRow, comparison: Comparison) -> tuple[Cell, ...]:
    qparams = row.qparams
    level = ""
    if row.sqnr_db is not None and row.sqnr_db < comparison.levels.get("bad_db", -math.inf):
        level = "bad" if row.sqnr_db < comparison.levels.get("broken_db", -math.inf) else "poor"
    return (
        _decibel(row.sqnr_db, level),
        _decibel(row.reads_db),
        _decibel(row.drop_db if row.reads_db != math.inf else None, "bad" if comparison.faults(row) else ""),
        _decibel(row.weight_sqnr_db),
        _decibel(qparams.rounding_sqnr_db if qparams is not None else None),
        *(_plain(value) for value in (row.qmse, row.qce, row.qkl, row.cosine)),
        _plain(qparams.scale if qparams is not None else None),
        _plain(qparams.span_ratio if qparams is not None else None),
        _plain(100 * qparams.clipped_fraction if qparams is not None else None),
    )


def _decibel(value: float | None, level: str = "") -> Cell:
    said = phrases.figure_db(value)
    return Cell(said) if value is None else Cell(said, f"{value:.6g}", level)


def _plain(value: float | None) -> Cell:
    return Cell("-") if value is None else Cell(words.significant(value), f"{value:.6g}")
