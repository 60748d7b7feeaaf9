"""The layer table of the page: every figure of every layer, those marked that spoil the output by themselves."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from onnxlint_q.report import words
from onnxlint_q.report.layers import Known, known
from onnxlint_q.workflow.results import Basis, LayerSqnr, ModelResult, VerdictLevels

ESTIMATE = "≈"
"""Before a figure that was not measured, where others of its column were."""
LOSSLESS_DB = 149.95
"""A mean of channels from here on has none that loses anything: one that is exact counts as 150 dB."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One figure of a table.

    Attributes:
        text: as shown.
        sort: the value to sort by, where the text is no number that does.
        level: `bad`, `poor` or empty.
        why: what the mark means, for screen readers.
    """

    text: str
    sort: str = ""
    level: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True)
class Column:
    """A figure of every layer: a heading over one column, or over those of one scheme and stage."""

    heading: str
    over: str
    help: str
    cells: tuple[Cell, ...]


def columns(model: ModelResult) -> Iterable[Column]:
    """Every column that has a figure, from left to right."""
    rows = model.layers
    over = "folded weight"
    yield Column("range", over, "largest minus smallest weight", tuple(_cell(row.range) for row in rows))
    precision = tuple(_cell(row.average_precision) for row in rows)
    yield Column("average precision", over, "mean channel range over tensor range", precision)
    channels = [row.channel_sqnr_db for row in rows]
    # Weights that are codes already lose nothing to one more scale for codes.
    if not model.qparams and any(value is not None for value in channels):
        help_text = "mean over channels of the weight's SQNR under one int8 scale, dB"
        yield Column("channels, dB", over, help_text, tuple(map(_channels, channels)))
    for result in model.schemes:
        yield from _scheme(model, result.scheme)
    if any(row.activation_low is not None for row in rows):
        low = tuple(_cell(row.activation_low) for row in rows)
        high = tuple(_cell(row.activation_high) for row in rows)
        yield Column("lowest", "activation", "smallest value seen of the tensor that is rounded behind the layer", low)
        yield Column("highest", "activation", "largest value seen of the tensor that is rounded behind the layer", high)


def _scheme(model: ModelResult, scheme: str) -> Iterable[Column]:
    """What is known of each layer under one scheme; the heading names the stage where all figures are of one."""
    figures = [known(model, row, scheme) for row in model.layers]
    stages = {entry.basis for entry in figures if entry is not None and entry.weight_db is not None}
    mixed = len(stages) > 1
    over = words.name(scheme, 40) + ("" if mixed else "".join(f", {basis.value}" for basis in stages))
    for heading, help_text, figure in _FIGURES:
        if any(entry is not None and figure(entry) is not None for entry in figures):
            spread = f"; a forecast {about}" if (about := words.give_or_take(figures)) else ""
            cells = tuple(_sqnr_cell(entry, figure, model.levels, mixed=mixed) for entry in figures)
            yield Column(heading, over, f"{help_text}{spread}", cells)
    yield from _shares(model, scheme)


def _shares(model: ModelResult, scheme: str) -> Iterable[Column]:
    """The noise budget: percent of the output's noise that the weight and the result make."""
    figures: tuple[tuple[str, Callable[[LayerSqnr], float | None]], ...] = (
        ("weight", lambda sqnr: sqnr.weight_share),
        ("result", lambda sqnr: sqnr.activation_share),
    )
    said = [(row.forecast or {}).get(scheme) for row in model.layers]
    for heading, figure in figures:
        shares = [None if sqnr is None else figure(sqnr) for sqnr in said]
        if any(share is not None for share in shares):
            help_text = f"forecast: share of the output's noise power under {words.name(scheme, 40)}, all quantised"
            cells = tuple(_cell(None if share is None else 100 * share, decimals=1) for share in shares)
            yield Column(heading, "noise forecast, %", help_text, cells)


_FIGURES: tuple[tuple[str, str, Callable[[Known], float | None]], ...] = (
    ("weight, dB", "output SQNR, this weight alone quantised", lambda known: known.weight_db),
    ("result, dB", "output SQNR, this layer's result alone quantised", lambda known: known.output_db),
    ("both, dB", "output SQNR, this weight and this result quantised", lambda known: known.both_db),
)


def _sqnr_cell(
    known: Known | None, figure: Callable[[Known], float | None], levels: VerdictLevels, *, mixed: bool
) -> Cell:
    """One figure, marked where it is low; `mixed` columns mark those that are not measured."""
    value = None if known is None else figure(known)
    if known is None or value is None:
        contradicted = known is not None and known.weight_db is None
        return Cell("-", why=f"{words.NOT_MEASURED}: {words.CONTRADICTED}" if contradicted else "")
    estimate = mixed and known.basis is not Basis.MEASURED
    text = f"{ESTIMATE}{words.figure(value)}" if estimate else words.figure(value)
    sort = "" if words.figure(value) == text and math.isfinite(value) else f"{value:.6g}"
    if value < levels.survives_db:
        level, under = ("bad", levels.breaks_db) if value < levels.breaks_db else ("poor", levels.survives_db)
        return Cell(text, sort, level, f"{known.basis.value}, under {under:g} dB")
    return Cell(text, sort, why=known.basis.value if estimate else "")


def _channels(value: float | None) -> Cell:
    return Cell("exact", "inf") if value is not None and value >= LOSSLESS_DB else _cell(value, decimals=1)


def _cell(value: float | None, *, decimals: int | None = None) -> Cell:
    """A figure with three significant digits, or with so many decimals."""
    if value is None or math.isnan(value):
        return Cell("-")
    if math.isinf(value) or decimals is None:
        return Cell(words.significant(value))
    return Cell(words.number(value, decimals))
