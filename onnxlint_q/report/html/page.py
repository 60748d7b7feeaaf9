"""What the page shows of each model, worked out here so that the template only lays it out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from onnxlint_q.finding import Severity
from onnxlint_q.report import digest, layout, words
from onnxlint_q.report.front import Action, Call, actions, headline, reasons, worst
from onnxlint_q.report.html import provenance
from onnxlint_q.report.html.blocks import Anchors, RuleBlock, blocks, flags_by_column, flags_by_layer
from onnxlint_q.report.html.decision import Card, cards
from onnxlint_q.report.html.depth import Depth, Flag, depth_chart, find_spots
from onnxlint_q.report.html.provenance import Row
from onnxlint_q.report.html.table import ESTIMATE, Column, columns
from onnxlint_q.report.layers import known
from onnxlint_q.report.layout import Table
from onnxlint_q.report.origin import UNTOLD, Origin
from onnxlint_q.workflow.results import LayerRow, ModelResult, Run

WIDE = 20
"""Columns of a table from which on it is printed across."""
FIRST = 3
"""Things to do that stand on the first screen."""
SENTENCES = 3
"""Of a cause on the first screen."""


@dataclass(frozen=True, slots=True)
class Reason:
    """Why something is as it is: what is explained, and the sentences.

    Attributes:
        overall: it is about the file as a whole, not about a verdict.
    """

    title: str
    sentences: tuple[str, ...]
    overall: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    """One model.

    Attributes:
        tables: scales and activations.
        parts: what each weight of a layer alone costs, by layer; empty where it has one.
        origin: where it comes from.
        tabled: whether the layer table stands on the page.
        table: what its rows are.
        point: how anchors begin in a chart of points, one for each row that is `pointed`.
        pointed: numbers of those rows.
        title: its file's name, with the beginning of its hash where others of the run have the same name.
        clean: nothing was found that counts, and nothing speaks against the model.
        call: the one that a release has to look at first.
        headline: the calls in a sentence.
        first, more: what helps, most useful first.
        chart: the network along its depth; None where there is nothing to draw.
        flagged: findings by number of the layer.
    """

    result: ModelResult
    anchor: str
    title: str
    clean: bool
    warnings: tuple[str, ...]
    call: Call | None
    headline: str
    cards: tuple[Card, ...]
    why: tuple[Reason, ...]
    first: tuple[Action, ...]
    more: tuple[Action, ...]
    tally: tuple[tuple[Severity, int], ...]
    blocks: tuple[RuleBlock, ...]
    refuted: tuple[RuleBlock, ...]
    suppressed: tuple[RuleBlock, ...]
    chart: Depth | None
    flagged: Mapping[int, tuple[Flag, ...]]
    columns: tuple[Column, ...]
    parts: tuple[str, ...]
    tables: tuple[Table, ...]
    origin: tuple[Row, ...]
    tabled: bool = True
    table: str = "layer"
    point: str = ""
    pointed: frozenset[int] = frozenset()

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


def pages(run: Run, origin: Origin = UNTOLD) -> tuple[Page, ...]:
    """One page part a model; anchors are unique over all of them."""
    anchors = Anchors()
    names = Counter(model.path for model in run.models)
    return tuple(
        _page(model, index, anchors, origin, unique=names[model.path] == 1)
        for index, model in enumerate(run.models, start=1)
    )


def _page(model: ModelResult, index: int, anchors: Anchors, origin: Origin, *, unique: bool) -> Page:
    kept = digest.counted(model.findings)
    shown, to_do, spots, anchor = cards(model), actions(model), find_spots(model), f"m-{index}"
    decided = [one.decision for one in shown]
    told = blocks(model, digest.group_by_damage(kept), anchors, spots)
    return Page(
        result=model,
        anchor=anchor,
        title=(words.file_name(model.path) or "(no name)") + ("" if unique else f" ({model.sha256[:8]})"),
        clean=digest.clean(model),
        warnings=words.warnings(model),
        call=worst(decided),
        headline=headline(decided),
        cards=shown,
        why=tuple(Reason(why.title, why.opening(SENTENCES).sentences, not why.schemes) for why in reasons(model)),
        first=to_do[:FIRST],
        more=to_do[FIRST:],
        tally=digest.tally(digest.faults(kept)),
        blocks=told,
        refuted=blocks(model, digest.group_by_rule(digest.refuted(model.findings)), anchors, spots),
        suppressed=blocks(model, digest.group_by_rule(model.suppressed), anchors, spots),
        chart=depth_chart(model, spots, flags_by_column(told), f"{anchor}-s-", f"{anchor}-l-"),
        flagged=flags_by_layer(told),
        columns=tuple(columns(model)),
        parts=tuple(_parts(model, row) for row in model.layers),
        tables=tuple(_tables(model)),
        origin=provenance.of_model(model, origin),
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
