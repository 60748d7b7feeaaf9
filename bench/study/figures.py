"""Line charts as SVG, written by hand: a grid of panels, each with a few lines and bands, linear or logarithmic."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

# Okabe and Ito's colours, told apart by readers who do not see red or green.
_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")
_WIDTH, _HEIGHT = 380, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 54, 10, 26, 34
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
    """The SVG of all panels, row by row."""
    rows = math.ceil(len(panels) / columns)
    width, height = columns * _WIDTH, rows * _HEIGHT
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="sans-serif" font-size="10">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for number, panel in enumerate(panels):
        row, column = divmod(number, columns)
        parts.append(f'<g transform="translate({column * _WIDTH} {row * _HEIGHT})">')
        parts.extend(_Plot(panel).draw())
        parts.append("</g>")
    return "\n".join([*parts, "</svg>"]) + "\n"


class _Plot:
    def __init__(self, panel: Panel) -> None:
        self.panel = panel
        self.lines = [_points(line, panel.log) for line in panel.lines]
        xs = [x for line in self.lines for x, *_ in line]
        ys = [y for line in self.lines for _, *values in line for y in values]
        self.x_low, self.x_high = min(xs, default=0.0), max(xs, default=1.0)
        low, high = min(ys, default=0.0), max(ys, default=1.0)
        # A range without zero would make small changes look large.
        self.low, self.high = (low, high) if panel.log else (min(low, 0.0), high)
        if self.high <= self.low:
            self.high = self.low + 1

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
        for step in range(_TICKS):
            value = self.low + (self.high - self.low) * step / (_TICKS - 1)
            y = self._y(value)
            shown = 10**value if self.panel.log else value
            parts.append(f'<path d="M{_LEFT} {y:.1f}H{right}" stroke="#ddd"/>')
            parts.append(f'<text x="{_LEFT - 4}" y="{y + 3:.1f}" text-anchor="end">{shown:.3g}</text>')
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
        y = _TOP + 10 + 12 * number
        colour = _COLOURS[number % len(_COLOURS)]
        x = _WIDTH - _RIGHT - 4
        return f'<text x="{x}" y="{y}" text-anchor="end" fill="{colour}">{escape(line.label)}</text>'

    def _x(self, value: float) -> float:
        span = self.x_high - self.x_low or 1.0
        return _LEFT + (value - self.x_low) / span * (_WIDTH - _LEFT - _RIGHT)

    def _y(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)


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
