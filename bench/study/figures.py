"""Line charts as SVG, written by hand: a grid of panels, each with a few lines and bands, linear or logarithmic."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

# Okabe and Ito's colours, told apart by readers who do not see red or green.
_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")
_WIDTH, _HEIGHT = 380, 270
_LEFT, _RIGHT, _TOP, _BOTTOM = 54, 10, 66, 34
_TICKS = 5


@dataclass(frozen=True, slots=True)
class Line:
    """One line; `spread` is half the height of the band around it at each point, or empty."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    spread: Sequence[float] = ()
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class Panel:
    """One chart. A logarithmic one leaves out points that are not above zero."""

    title: str
    x_label: str
    lines: Sequence[Line]
    log: bool = False


def draw(panels: Sequence[Panel], columns: int) -> str:
    """The SVG of all panels, row by row; the charts of a row share their vertical scale."""
    rows = [panels[start : start + columns] for start in range(0, len(panels), columns)]
    width, height = columns * _WIDTH, len(rows) * _HEIGHT
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="sans-serif" font-size="10">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for number, row in enumerate(rows):
        scale = _Scale.around(row)
        for column, panel in enumerate(row):
            parts.append(f'<g transform="translate({column * _WIDTH} {number * _HEIGHT})">')
            parts.extend(_Plot(panel, scale).draw())
            parts.append("</g>")
    return "\n".join([*parts, "</svg>"]) + "\n"


@dataclass(frozen=True, slots=True)
class _Scale:
    """A vertical axis from `low` to `high`, logarithms to base 10 if `log`, with `ticks` in between."""

    low: float
    high: float
    log: bool
    ticks: tuple[float, ...]

    @classmethod
    def around(cls, panels: Sequence[Panel]) -> _Scale:
        """The axis that all lines fit on; linear ones hold zero, or small changes would look large."""
        log = panels[0].log
        values = [y for panel in panels for line in panel.lines for _, y, *_ in _points(line, log)]
        low, high = min(values, default=0.0), max(values, default=1.0)
        if log:
            low, high = float(math.floor(low)), float(math.ceil(high))
            step = float(max(1, math.ceil((high - low) / _TICKS)))
        else:
            low, high = min(low, 0.0), high if high > 0 else 1.0
            step = _round_step((high - low) / _TICKS)
            low, high = math.floor(low / step) * step, math.ceil(high / step) * step
        if high <= low:
            high = low + 1
        count = math.floor((high - low) / step + 1e-9)
        return cls(low, high, log, tuple(low + step * number for number in range(count + 1)))

    def share(self, value: float) -> float:
        """Where on the axis a value is, 0 at the bottom; what passes the ends stays on them."""
        return min(1.0, max(0.0, (value - self.low) / (self.high - self.low)))


def _round_step(least: float) -> float:
    """The smallest of 1, 2, 5 times a power of ten that is not below `least`."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * (1 - 1e-9))


class _Plot:
    def __init__(self, panel: Panel, scale: _Scale) -> None:
        self.panel = panel
        self.scale = scale
        self.lines = [_points(line, scale.log) for line in panel.lines]
        xs = [x for line in self.lines for x, *_ in line]
        self.x_low, self.x_high = min(xs, default=0.0), max(xs, default=1.0)

    def draw(self) -> list[str]:
        parts = [f'<text x="{_LEFT}" y="16" font-size="12" font-weight="bold">{escape(self.panel.title)}</text>']
        parts.extend(self._axes())
        for number, (line, points) in enumerate(zip(self.panel.lines, self.lines, strict=True)):
            parts.extend(self._line(line, points, _COLOURS[number % len(_COLOURS)]))
            parts.append(self._legend(line, number))
        return parts

    def _axes(self) -> list[str]:
        right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
        parts = []
        for value in self.scale.ticks:
            y = self._y(value)
            shown = 10**value if self.scale.log else value
            parts.append(f'<path d="M{_LEFT} {y:.1f}H{right}" stroke="#ddd"/>')
            parts.append(f'<text x="{_LEFT - 4}" y="{y + 3:.1f}" text-anchor="end">{shown:.6g}</text>')
        for value in sorted({self.x_low, *self._whole_ticks(), self.x_high}):
            x = self._x(value)
            parts.append(f'<text x="{x:.1f}" y="{bottom + 13}" text-anchor="middle">{value:g}</text>')
        middle = (_LEFT + right) / 2
        parts.append(f'<text x="{middle}" y="{_HEIGHT - 6}" text-anchor="middle">{escape(self.panel.x_label)}</text>')
        parts.append(f'<path d="M{_LEFT} {_TOP}V{bottom}H{right}" fill="none" stroke="#555"/>')
        return parts

    def _whole_ticks(self) -> list[float]:
        """Multiples of a round step between the ends, not so close to them that the figures touch."""
        span = self.x_high - self.x_low
        step = 10 if span > 25 else 5 if span > 8 else 2
        inside = range(math.ceil(self.x_low / step) * step, math.floor(self.x_high) + 1, step)
        return [float(x) for x in inside if min(x - self.x_low, self.x_high - x) > span / 20]

    def _line(self, line: Line, points: list[tuple[float, float, float, float]], colour: str) -> list[str]:
        parts = []
        if line.spread and points:
            upper = [f"{self._x(x):.1f} {self._y(top):.1f}" for x, _, _, top in points]
            lower = [f"{self._x(x):.1f} {self._y(low):.1f}" for x, _, low, _ in reversed(points)]
            parts.append(f'<path d="M{"L".join([*upper, *lower])}Z" fill="{colour}" opacity="0.18"/>')
        path = "L".join(f"{self._x(x):.1f} {self._y(y):.1f}" for x, y, _, _ in points)
        dash = ' stroke-dasharray="4 3"' if line.dashed else ""
        if points:
            parts.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="1.5"{dash}/>')
        return parts

    def _legend(self, line: Line, number: int) -> str:
        """Two columns between the title and the chart."""
        row, column = divmod(number, 2)
        x, y = _LEFT + column * (_WIDTH - _LEFT - _RIGHT) / 2, 30 + 12 * row
        colour = _COLOURS[number % len(_COLOURS)]
        return f'<text x="{x}" y="{y}" fill="{colour}">{escape(line.label)}</text>'

    def _x(self, value: float) -> float:
        span = self.x_high - self.x_low or 1.0
        return _LEFT + (value - self.x_low) / span * (_WIDTH - _LEFT - _RIGHT)

    def _y(self, value: float) -> float:
        return _HEIGHT - _BOTTOM - self.scale.share(value) * (_HEIGHT - _TOP - _BOTTOM)


def _points(line: Line, log: bool) -> list[tuple[float, float, float, float]]:
    """Each point as x, y, and the band's lower and upper end, logarithms to base 10 on a logarithmic chart."""
    spread = line.spread or [0.0] * len(line.y)
    points = []
    for x, y, half in zip(line.x, line.y, spread, strict=True):
        if not log:
            points.append((x, y, y - half, y + half))
        elif y > 0:
            # A band that reaches zero or below has no logarithm there; it ends at a tenth of the line.
            points.append((x, math.log10(y), math.log10(max(y - half, y / 10)), math.log10(y + half)))
    return points
