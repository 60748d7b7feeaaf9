"""What the page shows of each model, worked out here so that the template only lays it out."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from markupsafe import Markup

from onnxlint_q.finding import Finding, Severity
from onnxlint_q.report import digest, tensors, words
from onnxlint_q.report.front import Action, Why, actions, reasons
from onnxlint_q.report.html import charts
from onnxlint_q.report.html.charts import Point
from onnxlint_q.report.html.table import ESTIMATE, Column, columns
from onnxlint_q.report.layers import TRUST, known, of_claim, of_place, worst_layers
from onnxlint_q.report.tables import layout
from onnxlint_q.report.tables.layout import Table
from onnxlint_q.workflow.results import Basis, LayerRow, ModelResult, Run, SchemeResult, VerdictLevels

OPEN = 6
"""Places of one rule that are shown before the rest is folded away."""
WIDE = 20
"""Columns of a table from which on it is printed across."""


@dataclass(frozen=True, slots=True)
class Card:
    """The verdict on one scheme."""

    result: SchemeResult
    reason: str
    basis: str
    outputs: tuple[str, ...]
    note: str
    weakest: str
    gauge: Markup | None


@dataclass(frozen=True, slots=True)
class Place:
    """One finding with its anchor, and under it what other rules say of the same damage.

    Attributes:
        evidence, claim: what stands behind it, in a few words and as sentences.
        metrics: its figures, but no forecast of what was run.
    """

    finding: Finding
    anchor: str
    evidence: str
    claim: str
    metrics: Mapping[str, object]
    same: tuple[Place, ...] = ()


@dataclass(frozen=True, slots=True)
class RuleBlock:
    """The findings of one rule; message and advice are told once where they are the same everywhere."""

    group: digest.Group
    message: str
    remedy: str
    snippet: str
    first: tuple[Place, ...]
    rest: tuple[Place, ...]


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
        actions: what helps, most useful first.
    """

    result: ModelResult
    anchor: str
    title: str
    clean: bool
    warnings: tuple[str, ...]
    cards: tuple[Card, ...]
    why: tuple[Why, ...]
    actions: tuple[Action, ...]
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
    anchors = _Anchors()
    names = Counter(model.path for model in run.models)
    return tuple(
        _page(model, index, anchors, unique=names[model.path] == 1) for index, model in enumerate(run.models, start=1)
    )


class _Anchors:
    """`f-<fingerprint>`, then `f-<fingerprint>-2`: two findings may share a rule and a place."""

    def __init__(self) -> None:
        self._seen: Counter[str] = Counter()

    def __call__(self, finding: Finding) -> str:
        self._seen[finding.fingerprint] += 1
        repeat = self._seen[finding.fingerprint]
        return f"f-{finding.fingerprint}" + (f"-{repeat}" if repeat > 1 else "")


def _page(model: ModelResult, index: int, anchors: _Anchors, *, unique: bool) -> Page:
    kept = digest.counted(model.findings)
    return Page(
        result=model,
        anchor=f"m-{index}",
        title=(model.path or "(no name)") + ("" if unique else f" ({model.sha256[:8]})"),
        clean=digest.clean(model),
        warnings=words.warnings(model),
        cards=tuple(_card(model, result) for result in model.schemes),
        why=reasons(model),
        actions=actions(model),
        tally=digest.tally(digest.faults(kept)),
        blocks=_blocks(model, digest.group_by_damage(kept), anchors),
        refuted=_blocks(model, digest.group_by_rule(digest.refuted(model.findings)), anchors),
        suppressed=_blocks(model, digest.group_by_rule(model.suppressed), anchors),
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


def _card(model: ModelResult, result: SchemeResult) -> Card:
    return Card(
        result=result,
        reason=words.reason(result),
        basis=words.basis(result, model.calibration),
        outputs=words.outputs(result),
        note=words.note(result),
        weakest=tensors.most_costly(result) if tensors.explains(result) else _weakest(model, result.scheme),
        gauge=_gauge(result, model.levels),
    )


def _gauge(result: SchemeResult, levels: VerdictLevels) -> Markup | None:
    """The figure that decides the verdict on its scale; None where there is none."""
    worst = result.worst
    agreement = result.agreement if worst is None else worst.agreement
    value = result.output_sqnr_db if worst is None else worst.sqnr_db
    if agreement is not None:
        return charts.gauge(100 * agreement, charts.agreement_scale(levels))
    if value is None or not math.isfinite(value):
        return None
    return charts.gauge(value, charts.decibel_scale(levels), result.interval_db if worst is None else worst.interval_db)


def _weakest(model: ModelResult, scheme: str) -> str:
    worst = worst_layers(model, scheme, 1)
    if not worst:
        return ""
    row, told = worst[0]
    label = words.name(words.layer_label(row), 70)
    if told.weight_db is None:
        return f"Weakest layer: perhaps {label}, not measured. {words.CONTRADICTED.capitalize()}."
    alone = words.decibel(told.weight_db)
    how = ", ".join(filter(None, (told.basis.value, words.give_or_take([told]))))
    return f"Weakest layer: {label}, {alone} if its weight alone is quantised ({how})."


def _blocks(model: ModelResult, groups: Iterable[digest.Group], anchors: _Anchors) -> tuple[RuleBlock, ...]:
    return tuple(_block(model, group, anchors) for group in groups)


def _block(model: ModelResult, group: digest.Group, anchors: _Anchors) -> RuleBlock:
    def shared(text: Callable[[Finding], str]) -> str:
        texts = {text(finding) for finding in group.findings}
        return texts.pop() if len(texts) == 1 else ""

    def place(finding: Finding, others: Iterable[Finding] = ()) -> Place:
        told = of_claim(model, finding)
        anchor, evidence, claim = anchors(finding), words.evidence(finding, told), words.claim(finding, told)
        metrics = words.metrics(finding, told or of_place(model, finding))
        return Place(finding, anchor, evidence, claim, metrics, tuple(place(other) for other in others))

    places = tuple(place(finding, group.same_as(index)) for index, finding in enumerate(group.findings))
    return RuleBlock(
        group=group,
        message=shared(lambda finding: finding.message),
        remedy=shared(lambda finding: finding.advice),
        snippet=shared(lambda finding: finding.snippet),
        first=places[:OPEN],
        rest=places[OPEN:],
    )


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
