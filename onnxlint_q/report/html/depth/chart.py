"""The chart as a whole: its columns, the labels of flagged ones, and its rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from onnxlint_q.finding import Severity
from onnxlint_q.report import words
from onnxlint_q.report.html.depth.lanes import LEFT, RIGHT, TITLE, WIDTH, Lane, lanes
from onnxlint_q.report.html.depth.spots import Flag, Spot, Spots
from onnxlint_q.workflow.results import ModelResult

LABELS, TIERS = 10, 5
"""Flagged columns that are named, and lines of names."""
LETTER, LINE = 6.2, 15.0
"""Width of a letter and height of a line of a label, in units of the chart."""
NAME = 24
"""Letters of a label."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column as it is drawn.

    Attributes:
        x: its middle.
        anchor: its id.
        href: what it links to: a finding there, else the layer's row in the table; empty for neither.
        depthwise: whether a layer there is.
    """

    spot: Spot
    x: float
    anchor: str
    href: str
    flags: tuple[Flag, ...]


@dataclass(frozen=True, slots=True)
class Label:
    """The name of a flagged column, at the end `side` of its text."""

    column: Column
    text: str
    x: float
    y: float
    side: str


@dataclass(frozen=True)
class Depth:
    """All that the template draws.

    Attributes:
        bar: width of a bar.
        together: operators in one column, at most.
        numbers: place and number of layers along the axis.
    """

    columns: tuple[Column, ...]
    labels: tuple[Label, ...]
    lanes: tuple[Lane, ...]
    bar: float
    together: int
    numbers: tuple[tuple[float, str], ...]
    width: float = WIDTH
    left: float = LEFT
    right: float = WIDTH - RIGHT

    @property
    def height(self) -> float:
        """Of the whole."""
        return self.bottom + 34

    @cached_property
    def columns_of(self) -> Mapping[int, str]:
        """Anchor of the column of each layer, by its number."""
        return {number: column.anchor for column in self.columns for number in column.spot.numbers}

    @property
    def legend(self) -> tuple[tuple[str, str], ...]:
        """Style and name of each sort of mark, once."""
        marked = [("dw-key", "depthwise")] if any(column.spot.depthwise for column in self.columns) else []
        if any(column.flags for column in self.columns):
            marked.append(("flagged", "has a finding"))
        return tuple(dict.fromkeys([*(entry for lane in self.lanes for entry in lane.legend), *marked]))

    @property
    def top(self) -> float:
        """Where the first row begins."""
        return self.lanes[0].top

    @property
    def head(self) -> float:
        """Where flagged columns begin and leaders of their names end: above the title of the first row."""
        return self.top - TITLE + 10

    @property
    def bottom(self) -> float:
        """Where the last row ends."""
        return self.lanes[-1].bottom


def depth_chart(
    model: ModelResult, spots: Spots, flags: Mapping[int, Sequence[Flag]], anchor: str, rows: str
) -> Depth | None:
    """The chart of a model; None where there is nothing to draw.

    Args:
        model: its figures.
        spots: its columns.
        flags: findings by column.
        anchor: how the ids of columns begin.
        rows: how the ids of the table's rows begin.
    """
    step = (WIDTH - LEFT - RIGHT) / max(len(spots.columns), 1)
    columns = tuple(
        _column(spot, LEFT + step * (index + 0.5), f"{anchor}{index + 1}", tuple(flags.get(index, ())), rows)
        for index, spot in enumerate(spots.columns)
    )
    labels = tuple(_labels(columns, spots.together))
    tiers = max((label.y for label in labels), default=0.0)
    drawn = lanes(model, spots.columns, tiers + 4)
    if not drawn:
        return None
    return Depth(columns, labels, drawn, min(18.0, max(1.2, step * 0.7)), spots.together, tuple(_numbers(columns)))


def _column(spot: Spot, x: float, anchor: str, flags: tuple[Flag, ...], rows: str) -> Column:
    row = f"{rows}{spot.numbers[0]}" if spot.numbers else ""
    return Column(spot, x, anchor, flags[0].anchor if flags else row, flags)


def _importance(column: Column) -> tuple[bool, float]:
    serious = any(flag.severity is not Severity.INFO for flag in column.flags)
    return serious, max((sum(share) for share in column.spot.shares.values()), default=0.0)


def _labels(columns: Sequence[Column], together: int) -> Iterator[Label]:
    """The flagged columns that cost most, as far as their names have room; of several operators the flagged one."""
    flagged = sorted((column for column in columns if column.flags), key=_importance, reverse=True)[: 3 * LABELS]
    named = [(one, one.spot.label if together == 1 else one.flags[0].name) for one in flagged]
    shared = _shared_folder([name for _, name in named]) if named else 0
    stairs: tuple[_Stair, ...] = ()
    for column, name in named:
        text = words.visible(_end(name[shared:]))
        more = tuple(_climbing((*((stair.column, stair.text) for stair in stairs), (column, text))))
        if len(more) <= LABELS and all(stair.tier <= TIERS for stair in more):
            stairs = more
    tiers = max((stair.tier for stair in stairs), default=0)
    for stair in stairs:
        shift = 4.0 if stair.side == "start" else -4.0
        yield Label(stair.column, stair.text, stair.column.x + shift, LINE * (tiers - stair.tier + 1), stair.side)


def _shared_folder(names: Sequence[str]) -> int:
    """Letters at the beginning of different names that tell none of them apart, up to a slash; none for one name."""
    shortest, longest = min(names), max(names)
    length = next((n for n, (one, other) in enumerate(zip(shortest, longest, strict=False)) if one != other), 0)
    return shortest.rfind("/", 0, length) + 1


def _end(name: str) -> str:
    """The end of a name, which tells it from others."""
    return name if len(name) <= NAME else f"…{name[1 - NAME :]}"


@dataclass(frozen=True, slots=True)
class _Stair:
    """A name in its line, counted from the chart upwards; `side` is the end of the text that is at the column."""

    column: Column
    text: str
    side: str
    low: float
    high: float
    tier: int


def _climbing(named: Iterable[tuple[Column, str]]) -> Iterator[_Stair]:
    """Names like stairs: each stands above all that its own text would reach, so that no leader crosses a name."""
    taken: list[_Stair] = []
    for column, text in sorted(named, key=lambda entry: -entry[0].x):
        width = LETTER * len(text) + 10
        side = "start" if column.x + width < WIDTH else "end"
        low, high = (column.x, column.x + width) if side == "start" else (column.x - width, column.x)
        tier = 1 + max((other.tier for other in taken if other.low < high and low < other.high), default=0)
        taken.append(_Stair(column, text, side, low, high, tier))
    yield from taken


def _numbers(columns: Sequence[Column]) -> Iterator[tuple[float, str]]:
    """Numbers of layers under the last row, as many as there is room for."""
    after = LEFT - 1.0
    for column in columns:
        if column.spot.numbers and column.x > after:
            yield column.x, str(column.spot.numbers[0])
            after = column.x + 34
