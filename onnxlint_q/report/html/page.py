"""What the page shows of each model, worked out here so that the template only lays it out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from markupsafe import Markup

from onnxlint_q.finding import Severity
from onnxlint_q.report import digest, tensors, words
from onnxlint_q.report.front import Action, Why, actions, reasons
from onnxlint_q.report.html import charts, decision
from onnxlint_q.report.html.blocks import Anchors, RuleBlock, blocks
from onnxlint_q.report.html.charts import Point
from onnxlint_q.report.html.decision import Call, Card
from onnxlint_q.report.html.table import ESTIMATE, Column, columns
from onnxlint_q.report.layers import TRUST, known
from onnxlint_q.report.tables import layout
from onnxlint_q.report.tables.layout import Table
from onnxlint_q.workflow.results import Basis, LayerRow, ModelResult, Run, SchemeResult

WIDE = 20
"""Columns of a table from which on it is printed across."""
FIRST = 3
"""Things to do that stand on the first screen."""
SENTENCES = 3
"""Of a cause on the first screen."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A chart with its caption; `style` names the stages in its legend."""

    title: str
    caption: str
    svg: Markup
    legend: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Page:
    """One model.

    Attributes:
        tables: scales and activations.
        parts: what each weight of a layer alone costs, by layer; empty where it has one.
        title: its file's name, with the beginning of its hash where others of the run have the same name.
        clean: nothing was found that counts, and nothing speaks against the model.
        call: the one that a release has to look at first.
        headline: the calls in a sentence.
        first, more: what helps, most useful first.
    """

    result: ModelResult
    anchor: str
    title: str
    clean: bool
    warnings: tuple[str, ...]
    call: Call | None
    headline: str
    cards: tuple[Card, ...]
    why: tuple[Why, ...]
    first: tuple[Action, ...]
    more: tuple[Action, ...]
    tally: tuple[tuple[Severity, int], ...]
    blocks: tuple[RuleBlock, ...]
    refuted: tuple[RuleBlock, ...]
    suppressed: tuple[RuleBlock, ...]
    figures: tuple[Figure, ...]
    columns: tuple[Column, ...]
    parts: tuple[str, ...]
    tables: tuple[Table, ...]

    @property
    def estimates(self) -> bool:
        """Whether measured figures and others stand in one column."""
        return any(cell.text.startswith(ESTIMATE) for column in self.columns for cell in column.cells)

    @property
    def wide(self) -> bool:
        """Whether the table is too wide for an upright page."""
        return len(self.columns) > WIDE

    @property
    def spans(self) -> tuple[tuple[str, int], ...]:
        """The upper headings of the table with the number of columns below each."""
        spans: list[tuple[str, int]] = []
        for column in self.columns:
            if spans and spans[-1][0] == column.over:
                spans[-1] = (column.over, spans[-1][1] + 1)
            else:
                spans.append((column.over, 1))
        return tuple(spans)

    @property
    def starts(self) -> frozenset[int]:
        """Columns that a new upper heading begins with."""
        spans = [span for _, span in self.spans]
        return frozenset(sum(spans[:place]) for place in range(len(spans)))


def pages(run: Run) -> tuple[Page, ...]:
    """One page part a model; anchors are unique over all of them."""
    anchors = Anchors()
    names = Counter(model.path for model in run.models)
    return tuple(
        _page(model, index, anchors, unique=names[model.path] == 1) for index, model in enumerate(run.models, start=1)
    )


def _page(model: ModelResult, index: int, anchors: Anchors, *, unique: bool) -> Page:
    kept = digest.counted(model.findings)
    cards, to_do = decision.cards(model), actions(model)
    return Page(
        result=model,
        anchor=f"m-{index}",
        title=(words.file_name(model.path) or "(no name)") + ("" if unique else f" ({model.sha256[:8]})"),
        clean=digest.clean(model),
        warnings=words.warnings(model),
        call=decision.worst(cards),
        headline=decision.headline(cards),
        cards=cards,
        why=tuple(entry.opening(SENTENCES) for entry in reasons(model)),
        first=to_do[:FIRST],
        more=to_do[FIRST:],
        tally=digest.tally(digest.faults(kept)),
        blocks=blocks(model, digest.group_by_damage(kept), anchors),
        refuted=blocks(model, digest.group_by_rule(digest.refuted(model.findings)), anchors),
        suppressed=blocks(model, digest.group_by_rule(model.suppressed), anchors),
        figures=tuple(_figures(model)),
        columns=tuple(columns(model)),
        parts=tuple(_parts(model, row) for row in model.layers),
        tables=tuple(_tables(model)),
    )


def _parts(model: ModelResult, row: LayerRow) -> str:
    """What each weight of a layer costs, under the first scheme that tells; empty for a layer with one."""
    told = (words.operands(known(model, row, result.scheme)) for result in model.schemes)
    return next(filter(None, told), "")


def _tables(model: ModelResult) -> Iterable[Table]:
    """What was read: every scale of a quantised file, and what samples showed of each tensor."""
    for title, rows in layout.by_kind(model.qparams):
        yield layout.qparams(rows, layout.ROWS, what=title)
    if model.activations:
        yield layout.activations(model.activations, layout.ROWS, quantised=bool(model.qparams))


def _figures(model: ModelResult) -> Iterable[Figure]:
    rows = model.layers
    if not rows:
        return
    kinds = (("dw-key", "depthwise"), ("other-key", "other")) if any(row.depthwise for row in rows) else ()

    def points(value: Callable[[LayerRow], float | None]) -> tuple[Point, ...]:
        return tuple(
            Point(f"{n} {words.name(words.layer_label(row), 80)}", value(row), row.depthwise)
            for n, row in enumerate(rows, start=1)
        )

    for result in model.schemes:
        yield _sqnr_figure(model, result)
    title = "Average precision by layer"
    yield Figure(
        title,
        "Mean of the channels' ranges over the range of the tensor. Channels of a layer with a low bar share one "
        "scale badly.",
        charts.fraction_chart(points(lambda row: row.average_precision), title),
        kinds,
    )
    title = "Weight range by layer"
    yield Figure(
        title,
        "Largest minus smallest folded weight, on a logarithmic axis.",
        charts.log_chart(points(lambda row: row.range), title),
        kinds,
    )
    title = "Activation range by layer"
    spans = tuple(
        Point(
            f"{n} {words.name(words.layer_label(row), 80)}",
            row.activation_high,
            row.depthwise,
            row.activation_low,
        )
        for n, row in enumerate(rows, start=1)
    )
    if any(point.low is not None for point in spans):
        yield Figure(
            title,
            "Smallest to largest value that calibration saw of the tensor that is rounded behind the layer; the axis "
            "is logarithmic away from zero.",
            charts.span_chart(spans, title),
            kinds,
        )


def _sqnr_figure(model: ModelResult, result: SchemeResult) -> Figure:
    measured = result.tensors_basis is Basis.MEASURED
    return _places_figure(model, result) if measured and result.noise else _layers_figure(model, result.scheme)


def _places_figure(model: ModelResult, result: SchemeResult) -> Figure:
    """Every tensor that was quantised alone, those without a layer included."""
    points = tuple(
        Point(f"{n} {words.name(place.label, 80)} ({place.said})", place.sqnr_db)
        for n, place in enumerate(tensors.places(result), start=1)
    )
    title = f"Output SQNR by operator, {words.name(result.scheme, 40)}"
    return Figure(
        title,
        "SQNR at the model's output if the weight or the result of this operator alone is quantised, the worse of the "
        "two. Every operator that the scheme rounds at is there, numbered in data order. Lower is worse.",
        charts.sqnr_chart(points, title, charts.levels_db(model.levels), axis="operator"),
        (("measured-key", "measured"),),
    )


def _layers_figure(model: ModelResult, scheme: str) -> Figure:
    figures = [known(model, row, scheme) for row in model.layers]
    points = tuple(
        Point(
            f"{n} {words.name(words.layer_label(row), 80)}",
            entry.weight_db if entry is not None else None,
            row.depthwise,
            style=entry.basis.value if entry is not None else "",
        )
        for n, (row, entry) in enumerate(zip(model.layers, figures, strict=True), start=1)
    )
    drawn = {point.style for point in points if point.finite}
    title = f"Output SQNR by layer, {words.name(scheme, 40)}"
    spread = f" Forecast: {about}." if (about := words.give_or_take(figures)) else ""
    return Figure(
        title,
        "SQNR at the model's output if the weight of this layer alone is quantised, the best figure that is known. "
        f"Lower is worse.{spread}",
        charts.sqnr_chart(points, title, charts.levels_db(model.levels)),
        tuple((f"{basis.value}-key", basis.value) for basis in TRUST if basis.value in drawn),
    )
