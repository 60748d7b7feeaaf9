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
    """

    label: str
    value: float | None
    depthwise: bool = False
    low: float | None = None
    style: str = "measured"

    @property
    def finite(self) -> bool:
        """Whether it can be drawn."""
        return self.value is not None and math.isfinite(self.value)


def log_chart(points: Sequence[Point], title: str, unit: str = "") -> Markup:
    """One stem a layer on a logarithmic axis; values that are not positive are left out."""
    values = [point.value for point in points if point.value and point.finite and point.value > 0]
    if not values:
        return Markup("")
    bottom, top = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    top = max(top, bottom + 1)
    y = _linear(bottom, top)
    step = max(1, math.ceil((top - bottom) / 6))
    body = [_grid(y(exponent), _power(exponent)) for exponent in range(bottom, top + 1, step)]
    x = _positions(len(points))
    for index, point in enumerate(points):
        if point.value and point.finite and point.value > 0:
            mark = _stem(x(index), y(bottom), y(math.log10(point.value)), point.depthwise)
            body.append(_titled(mark, f"{point.label}: {words.significant(point.value)}{unit}", point.depthwise))
    return _svg(title, [*body, _depth_axis(len(points))])


def fraction_chart(points: Sequence[Point], title: str) -> Markup:
    """One bar a layer on an axis from 0 to 1; depthwise layers are filled, the others are outlined."""
    if not any(point.finite for point in points):
        return Markup("")
    y = _linear(0.0, 1.0)
    body = [_grid(y(tick / 4), f"{tick / 4:g}") for tick in range(5)]
    x = _positions(len(points))
    width = min(14.0, max(1.5, _step(len(points)) * 0.66))
    for index, point in enumerate(points):
        if point.value is None or not point.finite:
            continue
        height = y(0.0) - y(min(max(point.value, 0.0), 1.0))
        bar = (
            f'<rect x="{_n(x(index) - width / 2)}" y="{_n(y(0.0) - height)}" '
            f'width="{_n(width)}" height="{_n(height)}"/>'
        )
        body.append(_titled(bar, f"{point.label}: {words.significant(point.value, 2)}", point.depthwise))
    return _svg(title, [*body, _depth_axis(len(points))])


def sqnr_chart(
    points: Sequence[Point],
    title: str,
    levels: Sequence[float],
    marks: Mapping[int, str] | None = None,
    axis: str = "layer",
) -> Markup:
    """A line over depth in dB with the levels where verdicts change, broken where a point has no figure.

    What lies above the axis is drawn at its end. `marks` are places, counted from 0, that a vertical line and a word
    point out. `axis` is what the points are.
    """
    values = [point.value for point in points if point.value is not None and point.finite]
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
    return _svg(title, [*body, _line(points, x, y), _depth_axis(len(points), axis)])


def span_chart(points: Sequence[Point], title: str) -> Markup:
    """One bar from `low` to `value` a layer, on an axis that is linear around zero and logarithmic beyond."""
    ends = [abs(end) for p in points for end in (p.value, p.low) if end is not None and math.isfinite(end) and end != 0]
    if not ends:
        return Markup("")
    # Two decades under the largest magnitude are told apart; smaller values lie on the zero line.
    unit = 10.0 ** (math.ceil(math.log10(max(ends))) - 3)
    limit = _signed_log(max(ends), unit)
    scale = _linear(-limit, limit)
    body = [_grid(scale(0.0), "0")]
    for decade in range(1, 4):
        tick = unit * 10**decade
        if _signed_log(tick, unit) <= limit:
            body += [_grid(scale(_signed_log(s * tick, unit)), f"{s * tick:g}") for s in (1, -1)]
    x = _positions(len(points))
    width = min(14.0, max(1.5, _step(len(points)) * 0.66))
    for index, point in enumerate(points):
        if point.value is None or point.low is None or not math.isfinite(point.value - point.low):
            continue
        high, low = scale(_signed_log(point.value, unit)), scale(_signed_log(point.low, unit))
        bar = (
            f'<rect x="{_n(x(index) - width / 2)}" y="{_n(high)}" '
            f'width="{_n(width)}" height="{_n(max(low - high, 1.0))}"/>'
        )
        said = f"{point.label}: {words.significant(point.low)} to {words.significant(point.value)}"
        body.append(_titled(bar, said, point.depthwise))
    return _svg(title, [*body, _depth_axis(len(points))])


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
        return f'<path class="tick" d="M{_n(x(level))} 10v8"/><text x="{_n(x(level))}" y="30">{label}</text>'

    ticks = "".join(map(tick, scale.levels))
    span = "" if interval is None else f'<path class="span" d="M{_n(x(interval[0]))} 14H{_n(x(interval[1]))}"/>'
    return Markup(
        f'<svg class="gauge" viewBox="0 0 {width:g} 34" aria-hidden="true" focusable="false">'
        f'<path class="rail" d="M6 14H{width - 6:g}"/>{span}{ticks}'
        f'<path class="needle" d="M{_n(x(value))} 14l5 -9h-10z"/></svg>'
    )


def _n(value: float) -> str:
    """A coordinate with one decimal: a tenth of a pixel is more than anyone sees."""
    return f"{round(value, 1) + 0.0:g}"


def _linear(bottom: float, top: float) -> Scale:
    span = (top - bottom) or 1.0
    return lambda value: TOP + (top - value) / span * (HEIGHT - TOP - BOTTOM)


def _signed_log(value: float, unit: float) -> float:
    return math.copysign(math.log10(1 + abs(value) / unit), value)


def _step(count: int) -> float:
    return (WIDTH - LEFT - RIGHT) / max(count, 1)


def _positions(count: int) -> Callable[[int], float]:
    return lambda index: LEFT + _step(count) * (index + 0.5)


def _power(exponent: int) -> str:
    return f"{10.0**exponent:g}" if -3 <= exponent <= 4 else f"1e{exponent}"


def _grid(y: float, label: str) -> str:
    return (
        f'<path class="grid" d="M{LEFT} {_n(y)}H{WIDTH - RIGHT}"/>'
        f'<text class="y" x="{LEFT - 8}" y="{_n(y + 4)}">{label}</text>'
    )


def _mark(x: float, label: str) -> str:
    return (
        f'<path class="jump" d="M{_n(x)} {TOP}V{HEIGHT - BOTTOM}"/>'
        f'<text class="jump-label" x="{_n(x + 4)}" y="{TOP + 8}">{escape(label)}</text>'
    )


def _level(y: float, label: str) -> str:
    return (
        f'<path class="level" d="M{LEFT} {_n(y)}H{WIDTH - RIGHT}"/>'
        f'<text class="level-label" x="{WIDTH - RIGHT + 6}" y="{_n(y + 4)}">{label}</text>'
    )


def _depth_axis(count: int, axis: str = "layer") -> str:
    """Numbers in data order; of layers, those of the table."""
    if not count:
        return ""
    every = next(n for n in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, count) if count / n <= 14 or n >= count)
    x = _positions(count)
    numbers = [1, *(n for n in range(every, count + 1, every) if n > 1)]
    labels = "".join(f'<text class="x" x="{_n(x(n - 1))}" y="{HEIGHT - 10}">{n}</text>' for n in numbers)
    return f'{labels}<text class="x" x="{WIDTH - RIGHT + 34}" y="{HEIGHT - 10}">{axis}</text>'


def _stem(x: float, y0: float, y1: float, depthwise: bool) -> str:
    line = f'<path class="stem" d="M{_n(x)} {_n(y0)}V{_n(y1)}"/>'
    if depthwise:
        return f'{line}<path class="dot" d="M{_n(x)} {_n(y1 - 5)}l5 5l-5 5l-5 -5z"/>'
    return f'{line}<circle class="dot" cx="{_n(x)}" cy="{_n(y1)}" r="3"/>'


def _titled(mark: str, title: str, depthwise: bool) -> str:
    group = '<g class="dw">' if depthwise else "<g>"
    return f"{group}<title>{escape(title)}</title>{mark}</g>"


def _line(points: Sequence[Point], x: Callable[[int], float], y: Scale) -> str:
    path, pen_down = "", False
    marks = []
    for index, point in enumerate(points):
        if point.value is None or not point.finite:
            pen_down = False
            continue
        place = x(index), max(y(point.value), TOP)
        path += f"{'L' if pen_down else 'M'}{_n(place[0])} {_n(place[1])}"
        pen_down = True
        said = f"{point.label}: {words.decibel(point.value)}, {point.style}"
        marks.append(f'<g class="{point.style}"><title>{escape(said)}</title>{_dot(*place, point.style)}</g>')
    return f'<g class="line"><path d="{path}"/>{"".join(marks)}</g>'


def _dot(x: float, y: float, style: str) -> str:
    """A disc for a measured figure, a ring for a probed one, a diamond for a forecast."""
    if style == "forecast":
        return f'<path class="dot" d="M{_n(x)} {_n(y - 4)}l4 4l-4 4l-4 -4z"/>'
    return f'<circle class="dot" cx="{_n(x)}" cy="{_n(y)}" r="3"/>'


def _svg(title: str, body: Iterable[str]) -> Markup:
    return Markup(
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">'
        f"{''.join(body)}</svg>"
    )
