"""`html`: two releases of a model as one self-contained page, in the style of the report on a model."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

from markupsafe import Markup

from onnxlint_q.report import words
from onnxlint_q.report.diff import phrases
from onnxlint_q.report.diff.json import render_compact
from onnxlint_q.report.formats import PLAIN, Look
from onnxlint_q.report.front import headline
from onnxlint_q.report.html import page
from onnxlint_q.report.html.charts import Point, levels_db, sqnr_chart
from onnxlint_q.report.html.decision import Card, cards
from onnxlint_q.report.html.page import pages
from onnxlint_q.report.html.provenance import Row, made, of_data, of_model_file
from onnxlint_q.report.html.published import published_releases
from onnxlint_q.report.layout import ROWS, Cell, Heading, Line, Table
from onnxlint_q.workflow.diff import Diff, LayerDiff, LayerLoss, compared, level_of
from onnxlint_q.workflow.results import Run, SchemeResult


def render(changes: Diff, look: Look = PLAIN) -> str:
    """The page; of every path it tells the last part only, unless it is to tell them."""
    changes = changes if look.paths else _published(changes)
    told = tuple(_cards(changes))
    charted, chart = _chart(changes)
    old, new = replace(changes.old, findings=changes.gone), replace(changes.new, findings=changes.appeared)
    appeared, gone = (replace(one, chart=None, tabled=False) for one in pages(Run((new, old))))
    return page(
        "diff.html",
        look,
        render_compact(changes),
        title=words.name(words.file_name(changes.new.path), 60),
        changes=changes,
        phrases=phrases,
        warnings=tuple(dict.fromkeys((*words.warnings(changes.old), *words.warnings(changes.new)))),
        same=changes.old.sha256 == changes.new.sha256,
        cards=told,
        headline=headline(card.decision for card in told),
        verdicts=_verdicts(changes),
        charted=charted,
        chart=chart,
        tables=tuple(_tables(changes)),
        appeared=appeared,
        gone=gone,
        origin=_origin(changes, look),
    )


def _published(changes: Diff) -> Diff:
    return compared(*published_releases(changes.old, changes.new), changes.max_loss_db)


def _cards(changes: Diff) -> Iterator[Card]:
    """The call on each scheme of the new release, with what it was in the old one."""
    before = {one.scheme: one for one in changes.schemes}
    for result, card in zip(changes.new.schemes, cards(changes.new), strict=False):
        one = before[result.scheme]
        if one.old is None:
            yield replace(card, mended="Not judged in the old release.")
            continue
        moved = phrases.change(one.loss_db)
        yield replace(card, mended=f"Before: {_verdict(one.old)}{f'; change {moved}' if moved else ''}.")
    if not changes.new.schemes:
        yield from cards(changes.new)


def _cells(result: SchemeResult | None) -> tuple[Cell, Cell]:
    if result is None:
        return Cell("not judged"), Cell("-")
    level = level_of(result)
    return Cell(words.judged(result)), Cell("-") if level is None else _figure(level)


def _verdict(result: SchemeResult) -> str:
    reason = words.brief_reason(result).rstrip(".")
    return reason if words.likeliest(result) else f"{words.judged(result)}, {reason}"


def _verdicts(changes: Diff) -> Table:
    headings = (
        Heading("old verdict", "on the old release", numeric=False),
        Heading("old, dB", "SQNR of its worst output"),
        Heading("new verdict", "on the new release", numeric=False),
        Heading("new, dB", "SQNR of its worst output"),
        Heading("change, dB", "SQNR of the worst output, new against old; less is worse"),
    )
    lines = tuple(
        Line(one.scheme, "", (*_cells(one.old), *_cells(one.new), _changed(one.loss_db))) for one in changes.schemes
    )
    return Table("Verdicts", "scheme", "", headings, lines, 0, "")


def _changed(loss_db: float | None) -> Cell:
    said = phrases.change(loss_db).removesuffix(" dB")
    return Cell(said or "-", f"{-loss_db:.6g}" if loss_db is not None and math.isfinite(loss_db) else "")


def _tables(changes: Diff) -> Iterator[Table]:
    if changes.ports:
        lines = tuple(Line(one.name, one.what, (Cell(phrases.moved(one)),)) for one in changes.ports[:ROWS])
        change = Heading("change", "what became of it", numeric=False)
        yield Table("Interface", "name", "what", (change,), lines, max(len(changes.ports) - ROWS, 0), "")
    if worse := phrases.worse(changes, phrases.SAME_DB):
        yield _layers(worse)
    for title, found in (
        ("New layers", [one for one in changes.layers if one.old is None]),
        ("Gone layers", [one for one in changes.layers if one.new is None]),
    ):
        if found:
            yield _named(title, found)


def _layers(worse: Sequence[tuple[LayerDiff, LayerLoss]]) -> Table:
    headings = (
        Heading("scheme", "under which it lost most", numeric=False),
        Heading("old, dB", "SQNR at the output if its weight alone is quantised, in the old release"),
        Heading("new, dB", "the same in the new release"),
        Heading("change, dB", "new against old; less is worse"),
        Heading("known by", "what both figures rest on", numeric=False),
    )
    lines = tuple(
        Line(
            phrases.names(one),
            one.row.op_type,
            (
                Cell(words.name(loss.scheme, 40)),
                _figure(loss.old_db),
                _figure(loss.new_db),
                _changed(loss.loss_db),
                Cell(loss.basis.value),
            ),
        )
        for one, loss in worse[:ROWS]
    )
    legend = "SQNR at the model's output if only the weight of the layer is quantised; the worst first"
    return Table("What got worse, by layer", "layer", "operator", headings, lines, max(len(worse) - ROWS, 0), legend)


def _figure(value: float) -> Cell:
    return Cell(f"{value:.1f}", f"{value:.6g}") if math.isfinite(value) else Cell("perfect" if value > 0 else "lost")


def _named(title: str, found: Sequence[LayerDiff]) -> Table:
    figure = Heading("range", "largest minus smallest weight")
    lines = tuple(
        Line(phrases.names(one), one.row.op_type, (Cell(words.significant(one.row.range)),)) for one in found[:ROWS]
    )
    return Table(title, "layer", "operator", (figure,), lines, max(len(found) - ROWS, 0), "")


def _chart(changes: Diff) -> tuple[str, Markup]:
    """The scheme that a layer lost most under, and both releases along the network; empty where no layer is in both."""
    paired = [one for one in changes.layers if one.losses and one.new is not None]
    worst = max((one.worst for one in paired if one.worst is not None), key=lambda loss: loss.loss_db, default=None)
    if worst is None:
        return "", Markup("")
    old, new = [], []
    for one in paired:
        loss = next((loss for loss in one.losses if loss.scheme == worst.scheme), None)
        label = words.name(words.layer_label(one.row), 80)
        style = worst.basis.value
        old.append(Point(f"{label}, old", None if loss is None else loss.old_db, style=style))
        new.append(Point(label, None if loss is None else loss.new_db, style=style))
    title = f"SQNR by layer under {words.name(worst.scheme, 40)}"
    return title, sqnr_chart(new, f"{title}, old and new", levels_db(changes.new.levels), before=old)


def _origin(changes: Diff, look: Look) -> tuple[Row, ...]:
    return (
        *of_model_file("Old release", changes.old),
        *of_model_file("New release", changes.new),
        *of_data(changes.new.calibration),
        *made(look.origin()),
    )
