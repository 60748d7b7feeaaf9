"""The rows of the chart, each with its axis and its marks as coordinates; a template draws them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from onnxlint_q.report import words
from onnxlint_q.report.html.charts import CEILING_DB
from onnxlint_q.report.html.depth.spots import Spot
from onnxlint_q.workflow.results import Basis, LayerRow, ModelResult

LEFT, RIGHT, WIDTH = 44.0, 52.0, 1000.0
TITLE = 38.0
"""Room above a row for its title, and for the labels of its axis."""
SHAPES = ("circle", "diamond", "square", "triangle")


@dataclass(frozen=True, slots=True)
class Mark:
    """A mark of a column, from `top` to `bottom`.

    Attributes:
        column: which.
        style: CSS class.
        title: the place and the value, in words.
    """

    column: int
    top: float
    bottom: float
    style: str
    title: str


@dataclass(frozen=True, slots=True)
class Line:
    """Points from left to right, joined where they follow each other, in the shape of its scheme."""

    style: str
    shape: str
    runs: tuple[tuple[Mark, ...], ...]


@dataclass(frozen=True, slots=True)
class Lane:
    """One row.

    Attributes:
        title, caption: what it shows.
        top, height: where it is.
        ticks: place and text of each line of its axis.
        levels: the same where verdicts change.
        bars, pairs, lines: marks from the axis, marks with both ends told, and points.
        legend: style and name of each sort of mark.
    """

    title: str
    caption: str
    top: float
    height: float
    ticks: tuple[tuple[float, str], ...]
    levels: tuple[tuple[float, str], ...] = ()
    bars: tuple[Mark, ...] = ()
    pairs: tuple[Mark, ...] = ()
    lines: tuple[Line, ...] = ()
    legend: tuple[tuple[str, str], ...] = ()

    @property
    def bottom(self) -> float:
        """Where its axis is."""
        return self.top + self.height


Scale = Callable[[float], float]
Make = Callable[[ModelResult, Sequence[Spot], float], Iterator[Lane]]


def lanes(model: ModelResult, columns: Sequence[Spot], top: float) -> tuple[Lane, ...]:
    """Every row that something is known for, from `top` down."""
    found: list[Lane] = []
    makers: tuple[Make, ...] = (_noise, _sqnr, _scales, _ranges, _precision, _activations)
    for make in makers:
        for lane in make(model, columns, top):
            found.append(lane)
            top = lane.bottom
    return tuple(found)


def _noise(model: ModelResult, columns: Sequence[Spot], top: float) -> Iterator[Lane]:
    """The noise budget of each scheme, a weight below its result."""
    for result in model.schemes:
        shares = [spot.shares.get(result.scheme) for spot in columns]
        largest = max((sum(share) for share in shares if share is not None), default=0.0)
        if largest <= 0 or result.tensors_basis is None:
            continue
        how = "measured" if result.tensors_basis is Basis.MEASURED else "forecast"
        step = next(step for step in (0.02, 0.05, 0.1, 0.2, 0.25, 0.5) if largest <= 4 * step or step == 0.5)
        limit = step * math.ceil(largest / step - 1e-9)
        y = _linear(0.0, limit, top + TITLE, 76.0)
        bars = []
        for column, (spot, share) in enumerate(zip(columns, shares, strict=True)):
            if share is None:
                continue
            weight, activation = share
            said = (
                f"{words.name(spot.label, 80)}: weight {_percent(weight)}, result {_percent(activation)} of the noise"
            )
            for low, high, kind in ((0.0, weight, "weight"), (weight, weight + activation, "activation")):
                if high - low > limit / 400:
                    bars.append(Mark(column, y(high), y(low), f"{kind} {how}", f"{said}, {how}"))
        yield Lane(
            f"Noise budget, {words.name(result.scheme, 40)}",
            f"share of the noise at the output that each tensor makes, {how}",
            top + TITLE,
            76.0,
            tuple((y(step * n), f"{100 * step * n:g} %") for n in range(round(limit / step) + 1)),
            bars=tuple(bars),
            legend=((f"weight {how}", f"weight, {how}"), (f"activation {how}", f"result, {how}")),
        )
        top += TITLE + 76.0


def _percent(share: float) -> str:
    return words.percent(round(share, 3))


def _sqnr(model: ModelResult, columns: Sequence[Spot], top: float) -> Iterator[Lane]:
    """SQNR of the output, the worst tensor of each column alone, a line a scheme."""
    told = {result.scheme: [spot.levels.get(result.scheme) for spot in columns] for result in model.schemes}
    figures = [level.sqnr_db for levels in told.values() for level in levels if level is not None]
    if not figures:
        return
    bottom = max(min(0.0, math.floor(min(figures) / 10) * 10), -40.0)
    y = _linear(bottom, CEILING_DB, top + TITLE, 120.0)
    lines, legend = [], []
    for number, (scheme, levels) in enumerate(told.items()):
        shape, style = SHAPES[number % len(SHAPES)], f"scheme-{number % len(SHAPES)}"
        runs: list[list[Mark]] = [[]]
        for column, (spot, level) in enumerate(zip(columns, levels, strict=True)):
            if level is None:
                continue
            place = y(min(max(level.sqnr_db, bottom), CEILING_DB))
            said = f"{words.name(spot.label, 80)}: {words.decibel(level.sqnr_db)} under {words.name(scheme, 40)}"
            runs[-1].append(Mark(column, place, place, level.basis.value, f"{said}, {level.basis.value}"))
        if any(runs):
            lines.append(Line(style, shape, tuple(map(tuple, runs))))
            legend.append((f"{style} {shape}", words.name(scheme, 40)))
    yield Lane(
        "SQNR, float against int8",
        "dB at the output with one tensor alone quantised, the worst of each place; filled: measured; lower is worse",
        top + TITLE,
        120.0,
        tuple((y(tick), f"{tick:g}") for tick in range(-40, int(CEILING_DB) + 1, 20) if tick >= bottom),
        levels=tuple((y(level), f"{level:g} dB") for level in (model.levels.breaks_db, model.levels.survives_db)),
        lines=tuple(lines),
        legend=tuple(legend),
    )


def _scales(model: ModelResult, columns: Sequence[Spot], top: float) -> Iterator[Lane]:
    """The scale of each activation of a quantised file, on a logarithmic axis."""
    told = [(column, spot, spot.scale) for column, spot in enumerate(columns)]
    values = [scale for _, _, scale in told if scale is not None and 0 < scale < math.inf]
    if not values:
        return
    low = math.floor(math.log10(min(values)))
    high = max(math.ceil(math.log10(max(values))), low + 1)
    y = _linear(low, high, top + TITLE, 84.0)
    pairs = []
    for column, spot, scale in told:
        if scale is not None and 0 < scale < math.inf:
            place = y(math.log10(scale))
            said = f"{words.name(spot.label, 80)}: one step is {words.significant(scale)}"
            pairs.append(Mark(column, place, place, _kind(spot), said))
    yield Lane(
        "Scale of each activation",
        "one step of its codes, logarithmic",
        top + TITLE,
        84.0,
        tuple((y(n), _power(n)) for n in range(low, high + 1, max(1, math.ceil((high - low) / 5)))),
        pairs=tuple(pairs),
    )


def _ranges(model: ModelResult, columns: Sequence[Spot], top: float) -> Iterator[Lane]:
    """Range of each weight as stored and after folding, on a logarithmic axis."""
    ends = [(_largest(spot, _before), _largest(spot, lambda row: row.range)) for spot in columns]
    values = [end for pair in ends for end in pair if end is not None and end > 0]
    if not values:
        return
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    high = max(high, low + 1)
    scale = _linear(low, high, top + TITLE, 84.0)
    pairs = []
    for column, (spot, (before, after)) in enumerate(zip(columns, ends, strict=True)):
        if after is None or after <= 0:
            continue
        first = before if before is not None and before > 0 else after
        said = f"{words.name(spot.label, 80)}: {words.significant(after)}"
        if first != after:
            said = f"{words.name(spot.label, 80)}: {words.significant(first)}, folded {words.significant(after)}"
        pairs.append(Mark(column, scale(math.log10(after)), scale(math.log10(first)), _kind(spot), said))
    folded = any(mark.top != mark.bottom for mark in pairs)
    yield Lane(
        "Weight range before and after folding" if folded else "Weight range",
        "largest minus smallest weight of the tensor, logarithmic",
        top + TITLE,
        84.0,
        tuple((scale(n), _power(n)) for n in range(low, high + 1, max(1, math.ceil((high - low) / 5)))),
        pairs=tuple(pairs),
        legend=(("stored", "stored"), ("folded", "folded")) if folded else (),
    )


def _before(row: LayerRow) -> float | None:
    return row.range if row.stored_range is None else row.stored_range


def _precision(model: ModelResult, columns: Sequence[Spot], top: float) -> Iterator[Lane]:
    """Average precision, from 0 to 1."""
    y = _linear(0.0, 1.0, top + TITLE, 60.0)
    bars = [
        Mark(column, y(value), y(0.0), _kind(spot), f"{words.name(spot.label, 80)}: {words.significant(value, 2)}")
        for column, spot in enumerate(columns)
        if (value := _smallest(spot)) is not None
    ]
    if bars:
        yield Lane(
            "Average precision of the channels",
            "mean range of a channel over the range of the tensor; channels of a low bar share one scale badly",
            top + TITLE,
            60.0,
            tuple((y(tick), f"{tick:g}") for tick in (0.0, 0.5, 1.0)),
            bars=tuple(bars),
        )


def _activations(model: ModelResult, columns: Sequence[Spot], top: float) -> Iterator[Lane]:
    """Smallest to largest value seen behind each layer, linear around zero and logarithmic beyond."""
    spans = [(_smallest_seen(spot), _largest(spot, lambda row: row.activation_high)) for spot in columns]
    ends = [abs(end) for span in spans for end in span if end is not None and math.isfinite(end) and end != 0]
    if not ends:
        return
    unit = 10.0 ** (math.ceil(math.log10(max(ends))) - 3)
    limit = _signed_log(max(ends), unit)
    y = _linear(-limit, limit, top + TITLE, 90.0)
    ticks = [(y(0.0), "0")]
    for decade in range(1, 4):
        tick = unit * 10**decade
        if _signed_log(tick, unit) <= limit:
            ticks += [(y(_signed_log(sign * tick, unit)), f"{sign * tick:g}") for sign in (1, -1)]
    bars = []
    for column, (spot, (low, high)) in enumerate(zip(columns, spans, strict=True)):
        if low is not None and high is not None and math.isfinite(high - low):
            said = f"{words.name(spot.label, 80)}: {words.significant(low)} to {words.significant(high)}"
            bars.append(Mark(column, y(_signed_log(high, unit)), y(_signed_log(low, unit)), _kind(spot), said))
    yield Lane(
        "Activation range",
        "smallest to largest value that calibration saw of what is rounded behind the layer",
        top + TITLE,
        90.0,
        tuple(ticks),
        bars=tuple(bars),
    )


def _kind(spot: Spot) -> str:
    return "dw" if spot.depthwise else "plain"


def _finite(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None and math.isfinite(value)]


def _largest(spot: Spot, figure: Callable[[LayerRow], float | None]) -> float | None:
    return max(_finite(map(figure, spot.layers)), default=None)


def _smallest(spot: Spot) -> float | None:
    values = _finite(row.average_precision for row in spot.layers)
    return min((min(max(value, 0.0), 1.0) for value in values), default=None)


def _smallest_seen(spot: Spot) -> float | None:
    return min(_finite(row.activation_low for row in spot.layers), default=None)


def _linear(bottom: float, top: float, place: float, height: float) -> Scale:
    span = (top - bottom) or 1.0
    return lambda value: place + (top - value) / span * height


def _signed_log(value: float, unit: float) -> float:
    return math.copysign(math.log10(1 + abs(value) / unit), value)


def _power(exponent: int) -> str:
    return f"{10.0**exponent:g}" if -3 <= exponent <= 4 else f"1e{exponent}"
