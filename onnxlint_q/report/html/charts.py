"""Charts as SVG text: pure functions of values, no script, colours from the page's CSS variables.

Every function takes the layers in data order and returns one `<svg>`. A mark is never told from another by
colour alone; each has its layer and value as a `<title>`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from onnxlint_q.report import words
from onnxlint_q.workflow.results import VerdictLevels

WIDTH, HEIGHT = 1040, 240
LEFT, RIGHT, TOP, BOTTOM = 52, 64, 14, 30
CEILING_DB = 60.0
"""Where the axis of output SQNR ends: noise of a thousandth of the signal, which nobody has to look at."""


def levels_db(levels: VerdictLevels) -> tuple[float, ...]:
    """Where lines are drawn on a scale of output SQNR: where the verdict changes."""
    return (levels.breaks_db, levels.survives_db)


Scale = Callable[[float], float]


@dataclass(frozen=True, slots=True)
class Point:
    """One layer in a chart.

    Attributes:
        label: the layer's name.
        value: None where there is nothing to draw.
        depthwise: drawn differently.
        low: the other end of a bar that does not start at the axis.
        style: CSS class of the mark on a line: what the value rests on.
        anchor, href: of the mark on a line, and of what it links to; empty for none.
    """

    label: str
    value: float | None
    depthwise: bool = False
    low: float | None = None
    style: str = "measured"
    anchor: str = ""
    href: str = ""

    @property
    def finite(self) -> bool:
        """Whether it can be drawn."""
        return self.value is not None and math.isfinite(self.value)


def sqnr_chart(
    points: Sequence[Point],
    title: str,
    levels: Sequence[float],
    marks: Mapping[int, str] | None = None,
    axis: str = "layer",
    before: Sequence[Point] = (),
) -> Markup:
    """A line over depth in dB with the levels where verdicts change, broken where a point has no figure.

    What lies above the axis is drawn at its end. `marks` are places, counted from 0, that a vertical line and a word
    point out. `axis` is what the points are. `before` are those of another time, a line behind them.
    """
    values = [point.value for point in (*points, *before) if point.value is not None and point.finite]
    if not values:
        return Markup("")
    bottom = min(0.0, math.floor(min(values) / 10) * 10)
    top = min(max(30.0, math.ceil(max(values) / 10) * 10), max(CEILING_DB, bottom + 10))
    y = _linear(bottom, top)
    step = 10 * max(1, math.ceil((top - bottom) / 80))
    body = [_grid(y(tick), f"{tick:g}") for tick in range(int(bottom), int(top) + 1, step)]
    body += [_level(y(level), f"{level:g} dB") for level in levels if bottom <= level <= top]
    x = _positions(len(points))
    body += [_mark(x(place), said) for place, said in (marks or {}).items()]
    linked = any(point.href for point in points)
    return _svg(
        title,
        [
            *body,
            *([_line(before, x, y, "before")] if before else []),
            _line(points, x, y),
            _depth_axis(len(points), axis),
        ],
        "group" if linked else "img",
    )


@dataclass(frozen=True, slots=True)
class GaugeScale:
    """What a gauge goes over.

    Attributes:
        bottom, top: its ends.
        levels: where it is marked, ascending.
        unit: written behind the last level.
    """

    bottom: float
    top: float
    levels: tuple[float, ...]
    unit: str


def decibel_scale(levels: VerdictLevels) -> GaugeScale:
    """The output SQNR in dB, with the levels of the verdict."""
    return GaugeScale(-5.0, 40.0, levels_db(levels), "dB")


def agreement_scale(levels: VerdictLevels) -> GaugeScale:
    """Top-1 agreement in percent, with the levels of the verdict."""
    return GaugeScale(0.0, 100.0, (100 * levels.breaks_agreement, 100 * levels.survives_agreement), "%")


def gauge(value: float, scale: GaugeScale, interval: tuple[float, float] | None = None) -> Markup:
    """Where a figure lies on a scale, and the interval that most likely holds it."""
    width = 280.0

    def x(place: float) -> float:
        share = (min(max(place, scale.bottom), scale.top) - scale.bottom) / (scale.top - scale.bottom)
        return 6 + share * (width - 12)

    def tick(level: float) -> str:
        label = f"{level:g} {scale.unit}" if level == scale.levels[-1] else f"{level:g}"
        place = coordinate(x(level))
        return f'<path class="tick" d="M{place} 10v8"/><text x="{place}" y="30">{label}</text>'

    ticks = "".join(map(tick, scale.levels))
    span = (
        ""
        if interval is None
        else f'<path class="span" d="M{coordinate(x(interval[0]))} 14H{coordinate(x(interval[1]))}"/>'
    )
    return Markup(
        f'<svg class="gauge" viewBox="0 0 {width:g} 34" aria-hidden="true" focusable="false">'
        f'<path class="rail" d="M6 14H{width - 6:g}"/>{span}{ticks}'
        f'<path class="needle" d="M{coordinate(x(value))} 14l5 -9h-10z"/></svg>'
    )


def coordinate(value: float) -> str:
    """A coordinate with one decimal: a tenth of a pixel is more than anyone sees."""
    return f"{round(value, 1) + 0.0:g}"


def _linear(bottom: float, top: float) -> Scale:
    span = (top - bottom) or 1.0
    return lambda value: TOP + (top - value) / span * (HEIGHT - TOP - BOTTOM)


def _step(count: int) -> float:
    return (WIDTH - LEFT - RIGHT) / max(count, 1)


def _positions(count: int) -> Callable[[int], float]:
    return lambda index: LEFT + _step(count) * (index + 0.5)


def _grid(y: float, label: str) -> str:
    return (
        f'<path class="grid" d="M{LEFT} {coordinate(y)}H{WIDTH - RIGHT}"/>'
        f'<text class="y" x="{LEFT - 8}" y="{coordinate(y + 4)}">{label}</text>'
    )


def _mark(x: float, label: str) -> str:
    return (
        f'<path class="jump" d="M{coordinate(x)} {TOP}V{HEIGHT - BOTTOM}"/>'
        f'<text class="jump-label" x="{coordinate(x + 4)}" y="{TOP + 8}">{escape(label)}</text>'
    )


def _level(y: float, label: str) -> str:
    return (
        f'<path class="level" d="M{LEFT} {coordinate(y)}H{WIDTH - RIGHT}"/>'
        f'<text class="level-label" x="{WIDTH - RIGHT + 6}" y="{coordinate(y + 4)}">{label}</text>'
    )


def _depth_axis(count: int, axis: str = "layer") -> str:
    """Numbers in data order; of layers, those of the table."""
    if not count:
        return ""
    every = next(n for n in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, count) if count / n <= 14 or n >= count)
    x = _positions(count)
    numbers = [1, *(n for n in range(every, count + 1, every) if n > 1)]
    labels = "".join(f'<text class="x" x="{coordinate(x(n - 1))}" y="{HEIGHT - 10}">{n}</text>' for n in numbers)
    return f'{labels}<text class="x" x="{WIDTH - RIGHT + 34}" y="{HEIGHT - 10}">{axis}</text>'


def _line(points: Sequence[Point], x: Callable[[int], float], y: Scale, when: str = "") -> str:
    path, pen_down = "", False
    marks = []
    for index, point in enumerate(points):
        if point.value is None or not point.finite:
            pen_down = False
            continue
        place = x(index), max(y(point.value), TOP)
        path += f"{'L' if pen_down else 'M'}{coordinate(place[0])} {coordinate(place[1])}"
        pen_down = True
        said = f"{point.label}: {words.decibel(point.value)}, {point.style}"
        mark = f'<g class="{point.style}"><title>{escape(said)}</title>{_dot(*place, point.style)}</g>'
        marks.append(_linked(mark, point))
    return f'<g class="line{f" {when}" if when else ""}"><path d="{path}"/>{"".join(marks)}</g>'


def _linked(mark: str, point: Point) -> str:
    """The mark as a link; it is not one of the stops of a keyboard, as what it links to is a link back."""
    if not point.href:
        return mark
    return f'<a class="spot-link" id="{escape(point.anchor)}" href="#{escape(point.href)}" tabindex="-1">{mark}</a>'


def _dot(x: float, y: float, style: str) -> str:
    """A disc for a measured figure, a ring for a probed one, a diamond for a forecast."""
    if style == "forecast":
        return f'<path class="dot" d="M{coordinate(x)} {coordinate(y - 4)}l4 4l-4 4l-4 -4z"/>'
    return f'<circle class="dot" cx="{coordinate(x)}" cy="{coordinate(y)}" r="3"/>'


def _svg(title: str, body: Iterable[str], role: str = "img") -> Markup:
    return Markup(
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="{role}" aria-label="{escape(title)}">'
        f"{''.join(body)}</svg>"
    )
