"""Channels, values on the int8 grid, two values with one code, and gains, as marks on a small sheet."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from onnxlint_q.report import words
from onnxlint_q.workflow.results import Channel, Gain, Merged, OnGrid, Picture

WIDTH, LEFT, RIGHT, TOP = 430.0, 46.0, 12.0, 8.0
LINES = 72
"""Steps of a grid that can be told apart."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar or a dot: where, of which sort, and what it says."""

    x: float
    top: float
    bottom: float
    style: str
    title: str


@dataclass(frozen=True, slots=True)
class Text:
    """A text at a place; `anchor` as of SVG."""

    x: float
    y: float
    text: str
    anchor: str = "middle"
    style: str = ""


@dataclass(frozen=True, slots=True)
class Plot:
    """One drawing.

    Attributes:
        title, caption: what it shows, and what to see in it.
        height: of the sheet.
        bars, dots: its marks.
        stroke: width of a bar.
        lines: horizontal and vertical ones as ends and style.
        texts: labels of its axes and of single marks.
    """

    title: str
    caption: str
    height: float
    bars: tuple[Bar, ...] = ()
    dots: tuple[Bar, ...] = ()
    stroke: float = 1.0
    lines: tuple[tuple[float, float, float, float, str], ...] = ()
    texts: tuple[Text, ...] = ()
    width: float = WIDTH


Scale = Callable[[float], float]


def plots(picture: Picture) -> tuple[Plot, ...]:
    """Everything that can be drawn of a finding but the graph around it."""
    return tuple(_plots(picture))


def _plots(picture: Picture) -> Iterator[Plot]:
    if picture.channels:
        yield _channels(picture.channels, picture.left_out, picture.half_step)
    if picture.weight is not None:
        yield _on_grid(picture.weight)
    if picture.merged is not None:
        yield _merged(picture.merged)
    if picture.gains:
        yield _gains(picture.gains)
    if picture.activation is not None:
        yield _on_grid(picture.activation)


def _channels(channels: Sequence[Channel], left_out: int, half_step: float | None) -> Plot:
    """The largest magnitude of each channel, the widest first, on a logarithmic axis."""
    height, bottom = 150.0, 126.0
    values = [one.width for one in channels if one.width > 0]
    ends = [*values, *([half_step] if half_step else [])]
    low, high = math.floor(math.log10(min(ends))), math.ceil(math.log10(max(ends)))
    y = _linear(low, max(high, low + 1), TOP, bottom - TOP)
    step = (WIDTH - LEFT - RIGHT) / len(channels)
    bars = tuple(
        Bar(
            LEFT + step * (place + 0.5),
            y(math.log10(one.width)) if one.width > 0 else bottom,
            bottom,
            "offender" if one.marked else "lost" if half_step is not None and one.width < half_step else "channel",
            f"channel {one.index}: {words.significant(one.width)}",
        )
        for place, one in enumerate(channels)
    )
    lines = [(LEFT, y(n), WIDTH - RIGHT, y(n), "grid") for n in range(low, high + 1)]
    texts = [Text(LEFT - 6, y(n) + 4, _power(n), "end") for n in range(low, high + 1)]
    if half_step is not None and half_step > 0:
        place = y(math.log10(half_step))
        lines.append((LEFT, place, WIDTH - RIGHT, place, "level"))
        texts.append(Text(WIDTH - RIGHT, place - 4, "half a step: rounds to zero", "end", "level-label"))
    leading = next((place for place, bar in enumerate(bars) if bar.style != "offender"), 0)
    if leading:
        texts.append(Text(bars[leading].x - step / 2 + 3, bars[0].top + 10, bars[0].title, "start", "offender-label"))
    texts.append(Text((LEFT + WIDTH - RIGHT) / 2, height - 6, "channels, the widest first"))
    marked = sum(one.marked for one in channels)
    more = f", {left_out} more not drawn" if left_out else ""
    return Plot(
        "Largest weight of each channel",
        f"{words.count(len(channels), 'channel')}{more}; {marked} set the scale or are out of line",
        height,
        bars,
        stroke=max(1.0, min(16.0, step * 0.75)),
        lines=tuple(lines),
        texts=tuple(texts),
    )


def _on_grid(held: OnGrid) -> Plot:
    """A histogram with a line at each value that has a code."""
    height, bottom = 132.0, 100.0
    x = _across(held.low, held.high)
    most = max(held.counts) or 1
    part = (held.high - held.low) / len(held.counts)
    bars = tuple(
        Bar(
            x(held.low + part * (n + 0.5)),
            bottom - (bottom - TOP) * _height(count, most),
            bottom,
            "channel",
            f"{count}",
        )
        for n, count in enumerate(held.counts)
        if count
    )
    first = math.ceil((held.low - held.offset) / held.step)
    last = math.floor((held.high - held.offset) / held.step)
    steps = [held.offset + held.step * n for n in range(first, last + 1)] if last - first <= LINES else []
    lines = [(x(one), TOP, x(one), bottom + 4, "code-line") for one in steps]
    lines.append((LEFT, bottom, WIDTH - RIGHT, bottom, "grid"))
    ends = [(held.low, "start"), (held.high, "end")]
    if min(-held.low, held.high) > 0.1 * (held.high - held.low):
        ends.append((0.0, "middle"))
    texts = [Text(x(value), bottom + 17, words.significant(value), anchor) for value, anchor in ends]
    said = f"one step is {words.significant(held.step)}, so they get {words.count(held.codes, 'code')}"
    drawn = "; each line is a code" if steps else ""
    return Plot(
        f"{held.of[:1].upper()}{held.of[1:]}, on the int8 grid",
        f"{said}{drawn}",
        height,
        bars,
        stroke=max(1.5, (WIDTH - LEFT - RIGHT) / len(held.counts) - 1),
        lines=tuple(lines),
        texts=tuple(texts),
    )


def _height(count: int, most: int) -> float:
    """Logarithmic, so that single values are seen beside thousands."""
    return math.log1p(count) / math.log1p(most)


def _merged(pair: Merged) -> Plot:
    """Two weights on the number line, and the code that both become."""
    height, axis = 104.0, 62.0
    middle = pair.value
    x = _across(middle - 1.6 * pair.step, middle + 1.6 * pair.step)
    lines = [(LEFT, axis, WIDTH - RIGHT, axis, "grid")]
    texts = []
    for n in (-1, 0, 1):
        place = x(middle + n * pair.step)
        lines.append((place, axis - 7, place, axis + 7, "code-line strong"))
        texts.append(Text(place, axis + 20, f"code {pair.code + n}", style="strong" if n == 0 else ""))
        texts.append(Text(place, axis + 34, words.significant(middle + n * pair.step)))
    turns = [x(middle + n * pair.step) for n in (-0.5, 0.5)]
    lines += [(place, axis - 26, place, axis + 4, "level") for place in turns]
    dots = []
    for value, anchor, shift in ((pair.low, "end", -3.0), (pair.high, "start", 3.0)):
        dots.append(Bar(x(value), axis, axis, "offender", words.significant(value, 4)))
        lines.append((x(value), axis - 14, x(value), axis, "offender-line"))
        texts.append(Text(x(value) + shift, axis - 18, words.significant(value, 4), anchor, "offender-label"))
    return Plot(
        "Two weights that become one",
        f"{words.significant(pair.low, 4)} and {words.significant(pair.high, 4)} both become code {pair.code}, which "
        f"stands for {words.significant(pair.value, 4)}; the dashed lines are where rounding turns",
        height,
        dots=tuple(dots),
        lines=tuple(lines),
        texts=tuple(texts),
    )


def _gains(gains: Sequence[Gain]) -> Plot:
    """Variance and gain of each channel, both logarithmic."""
    height, bottom = 176.0, 140.0
    told = [one for one in gains if one.variance > 0 and one.gain > 0]
    x, x_ticks = _decades([one.variance for one in told], _across)
    y, y_ticks = _decades([one.gain for one in told], lambda low, high: _linear(low, high, TOP, bottom - TOP))
    dots = [
        Bar(
            x(math.log10(one.variance)),
            y(math.log10(one.gain)),
            bottom,
            "offender" if one.marked else "channel",
            f"channel {one.index}: variance {words.significant(one.variance)}, gamma {words.significant(one.gamma)}, "
            f"gain {words.significant(one.gain)}",
        )
        for one in told
    ]
    lines = [(LEFT, y(n), WIDTH - RIGHT, y(n), "grid") for n in y_ticks]
    texts = [Text(LEFT - 6, y(n) + 4, _power(n), "end") for n in y_ticks]
    texts += [Text(x(n), bottom + 15, _power(n)) for n in x_ticks]
    texts.append(Text((LEFT + WIDTH - RIGHT) / 2, height - 4, "running variance"))
    marked = sum(one.marked for one in told)
    return Plot(
        "BatchNorm: gain against variance",
        f"gain is gamma over the root of the variance; {words.count(marked, 'channel')} of {len(gains)} out of line",
        height,
        dots=tuple(sorted(dots, key=lambda dot: dot.style == "offender")),
        lines=tuple(lines),
        texts=tuple(texts),
    )


def _decades(values: Sequence[float], make: Callable[[float, float], Scale]) -> tuple[Scale, tuple[int, ...]]:
    """A scale over whole decades, and at most six of them to label."""
    logs = [math.log10(value) for value in values] or [0.0]
    low, high = math.floor(min(logs)), math.ceil(max(logs))
    high = max(high, low + 1)
    return make(low, high), tuple(range(low, high + 1, max(1, math.ceil((high - low) / 5))))


def _linear(bottom: float, top: float, place: float, height: float) -> Scale:
    span = (top - bottom) or 1.0
    return lambda value: place + (top - value) / span * height


def _across(low: float, high: float) -> Scale:
    span = (high - low) or 1.0
    return lambda value: LEFT + (value - low) / span * (WIDTH - LEFT - RIGHT)


def _power(exponent: int) -> str:
    return f"{10.0**exponent:g}" if -3 <= exponent <= 4 else f"1e{exponent}"
