"""The layer table of the page: every figure of every layer, the worst cells marked."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from onnxlint_q.report import digest, words
from onnxlint_q.workflow.results import Basis, LayerSqnr, ModelResult, VerdictLevels

EXTREMES = 3
"""Cells of a column that are marked as its worst."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One figure of a table.

    Attributes:
        text: as shown.
        sort: the value to sort by; empty where there is none.
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
    ranges = [row.range for row in rows]
    yield Column("range", "folded weight", "largest minus smallest weight", _extreme(ranges, largest=True))
    precision = [row.average_precision for row in rows]
    yield Column("average precision", "folded weight", "mean channel range over tensor range", _extreme(precision))
    channels = [row.channel_sqnr_db for row in rows]
    if any(value is not None for value in channels):
        help_text = "mean over channels of the weight's SQNR under one int8 scale, dB"
        yield Column("channel SQNR, dB", "folded weight", help_text, _extreme(channels, decibel=True))
    for scheme, basis in _stages(model):
        over = f"{words.name(scheme, 40)}, {basis.value}"
        said = [digest.stage(row, basis).get(scheme) for row in rows]
        yield Column(
            "weight, dB", over, "output SQNR, this weight alone quantised", _sqnr_cells(said, _weight, model.levels)
        )
        for heading, help_text, figure in _WITH_OUTPUT:
            if any(sqnr is not None and figure(sqnr) is not None for sqnr in said):
                yield Column(heading, over, help_text, _sqnr_cells(said, figure, model.levels))
        yield from _shares(said, over)
    if any(row.activation_low is not None for row in rows):
        low = tuple(_cell(row.activation_low) for row in rows)
        high = tuple(_cell(row.activation_high) for row in rows)
        yield Column("lowest", "activation", "smallest value seen of the tensor that is rounded behind the layer", low)
        yield Column("highest", "activation", "largest value seen of the tensor that is rounded behind the layer", high)


def _shares(said: Sequence[LayerSqnr | None], over: str) -> Iterable[Column]:
    """The noise budget: percent of the output's noise that the weight and the activation make."""
    figures: tuple[tuple[str, Callable[[LayerSqnr], float | None]], ...] = (
        ("weight, % of noise", lambda sqnr: sqnr.weight_share),
        ("output, % of noise", lambda sqnr: sqnr.activation_share),
    )
    for heading, figure in figures:
        shares = [None if sqnr is None else figure(sqnr) for sqnr in said]
        if any(share is not None for share in shares):
            percent = [None if share is None else 100 * share for share in shares]
            help_text = "share of the output's noise power, everything quantised"
            yield Column(heading, over, help_text, _extreme(percent, largest=True))


def _stages(model: ModelResult) -> tuple[tuple[str, Basis], ...]:
    """Scheme and stage of every set of figures there is."""
    return tuple((result.scheme, basis) for result in model.schemes for basis in digest.bases(model, result.scheme))


def _weight(sqnr: LayerSqnr) -> float | None:
    return sqnr.weight_sqnr_db


def _both(sqnr: LayerSqnr) -> float | None:
    return sqnr.sqnr_db


def _output(sqnr: LayerSqnr) -> float | None:
    return sqnr.activation_sqnr_db


_WITH_OUTPUT = (
    ("output, dB", "output SQNR, this layer's output alone quantised", _output),
    ("with output, dB", "output SQNR, this weight and this output quantised", _both),
)


def _cell(value: float | None, level: str = "", why: str = "", *, decibel: bool = False) -> Cell:
    if value is None or math.isnan(value):
        return Cell("-")
    text = words.number(value) if decibel and math.isfinite(value) else words.significant(value)
    if math.isinf(value):
        text = words.PERFECT if decibel and value > 0 else text
    return Cell(text, f"{value:.6g}", level, why)


def _sqnr_cells(
    said: Sequence[LayerSqnr | None], figure: Callable[[LayerSqnr], float | None], levels: VerdictLevels
) -> tuple[Cell, ...]:
    cells = []
    for sqnr in said:
        value = None if sqnr is None else figure(sqnr)
        if value is not None and value < levels.breaks_db:
            cells.append(_cell(value, "bad", f"under {levels.breaks_db:g} dB", decibel=True))
        elif value is not None and value < levels.survives_db:
            cells.append(_cell(value, "poor", f"under {levels.survives_db:g} dB", decibel=True))
        else:
            cells.append(_cell(value, decibel=True))
    return tuple(cells)


def _extreme(values: Sequence[float | None], *, largest: bool = False, decibel: bool = False) -> tuple[Cell, ...]:
    """The column with its few worst cells marked, where there are enough layers for that to say anything."""
    known = sorted({value for value in values if value is not None and math.isfinite(value)}, reverse=largest)
    worst = set(known[:EXTREMES]) if len(known) > 3 * EXTREMES else set()
    why = f"among the {EXTREMES} {'largest' if largest else 'smallest'}"
    return tuple(
        _cell(value, "poor", why, decibel=decibel) if value in worst else _cell(value, decibel=decibel)
        for value in values
    )
