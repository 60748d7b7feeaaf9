"""Tables of what was read: headings with their units, and cells as text, ready to be drawn or printed in HTML."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from onnxlint_q.report import words
from onnxlint_q.workflow.reading.columns import column_of, worst_first
from onnxlint_q.workflow.reading.values import ActivationRow, NormRow, QparamsRow, WeightFigures, WeightRow

ROWS = 400
"""Rows of a table on a page, the worst ones: more make it slow."""
OUTLIERS = 2
"""Channels of a BatchNormalization that are listed in its row."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One entry: its text, and the figure to sort by where it is one."""

    text: str
    sort: str = ""


@dataclass(frozen=True, slots=True)
class Heading:
    """What a column holds.

    Attributes:
        text: short; a line break where it may be broken.
        help: the same as a sentence.
        numeric: figures, which stand to the right.
        names: texts of any length, which may be cut in the middle.
    """

    text: str
    help: str
    numeric: bool = True
    names: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """One row: the name of what it is about, what kind of thing that is, and a cell a heading."""

    name: str
    kind: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """Some rows of one kind.

    Attributes:
        title: what they are and how they are sorted.
        subject, kind: headings over names and kinds.
        headings: of the figures.
        lines: the rows to show.
        hidden: how many more there are.
        legend: what the figures mean, in words; empty where the headings do.
    """

    title: str
    subject: str
    kind: str
    headings: tuple[Heading, ...]
    lines: tuple[Line, ...]
    hidden: int
    legend: str


def activations(rows: Sequence[ActivationRow], limit: int | None, by: str = "", *, quantised: bool = False) -> Table:
    """What the samples showed of tensors, the worst first; `quantised` says where scales come from."""
    origin = "of the file" if quantised else "what quantize_static gives it (uint8, min-max)"
    return Table(
        title=_title("Activations", rows, by, limit),
        subject="tensor",
        kind="made by",
        headings=(
            Heading("min", "smallest value of all samples"),
            Heading("max", "largest value of all samples"),
            Heading("range", "largest minus smallest value"),
            Heading("mean", "mean of all values"),
            Heading("std", "standard deviation of all values"),
            Heading("zeros\n%", "values that are exactly zero, percent"),
            Heading("outlier\nratio", "largest magnitude over the standard deviation"),
            Heading("scale", "one step of the codes"),
            Heading("zero\npoint", "the code of zero"),
        ),
        lines=tuple(map(_activation, worst_first(rows, by)[:limit])),
        hidden=_hidden(rows, limit),
        legend=f"Outlier ratio: largest magnitude / std. Scale, the step between two codes, and zero point: {origin}",
    )


def _activation(row: ActivationRow) -> Line:
    cells = [
        *map(_figure, (row.low, row.high, row.range, row.mean, row.std)),
        _percent(row.zeros),
        _figure(row.outlier_ratio, 3),
        _figure(row.scale),
        Cell("-") if row.zero_point is None else Cell(str(row.zero_point), str(row.zero_point)),
    ]
    return Line(row.tensor, row.op_type or "input", tuple(cells))


def qparams(rows: Sequence[QparamsRow], limit: int | None, by: str = "", what: str = "Scales and zero points") -> Table:
    """Scale and zero point of tensors, the coarsest first."""
    seen = any(row.observed is not None for row in rows)
    clipped = any(row.observed is not None and row.observed.clipped is not None for row in rows)
    found = (
        Heading("seen\nlow", "smallest value seen"),
        Heading("seen\nhigh", "largest value seen"),
        Heading("codes\nused", "different codes that occur; counted for 8 bits and fewer"),
    )
    cut = Heading("clipped\n%", "values more than half a step outside the range, percent")
    return Table(
        title=_title(what, rows, by, limit),
        subject="tensor",
        kind="type",
        headings=(
            Heading("scale", "one step of the codes; smallest to largest where there are several"),
            Heading("zero\npoint", "the code of zero"),
            Heading("scales", "how many there are, along which axis, and for how many values each"),
            Heading("low", "smallest representable value"),
            Heading("high", "largest representable value"),
            *(found if seen else ()),
            *((cut,) if clipped else ()),
        ),
        lines=tuple(_pair(row, seen=seen, clipped=clipped) for row in worst_first(rows, by)[:limit]),
        hidden=_hidden(rows, limit),
        legend="Scale: one step between two codes. Low, high: the values that the codes can stand for"
        + ("; seen: those that occur" if seen else "")
        + ("; clipped: beyond low and high, what a merged Relu or Clip cuts included" if clipped else ""),
    )


def _pair(row: QparamsRow, *, seen: bool, clipped: bool) -> Line:
    cells = [_scale(row), _zero_point(row), Cell(sharing(row)), _figure(row.low, 3), _figure(row.high, 3)]
    held = row.observed
    if seen:
        codes = held.codes if held is not None else None
        cells += [_figure(held.low if held else None, 3), _figure(held.high if held else None, 3)]
        cells.append(Cell("-") if codes is None else Cell(str(codes), str(codes)))
    if clipped:
        cells.append(_percent(held.clipped if held is not None else None))
    return Line(row.tensor, row.dtype or "unknown", tuple(cells))


def _scale(row: QparamsRow) -> Cell:
    if row.smallest_scale is None or row.largest_scale is None:
        return Cell("run time" if not row.scales else "-")
    if row.scales == 1:
        return _figure(row.largest_scale)
    low, high = (words.significant(value, 2) for value in (row.smallest_scale, row.largest_scale))
    return Cell(low if low == high else f"{low}-{high}", f"{row.largest_scale:.6g}")


def _zero_point(row: QparamsRow) -> Cell:
    if not row.zero_point:
        return Cell("-")
    low, high = min(row.zero_point), max(row.zero_point)
    return Cell(str(low) if low == high else f"{low}…{high}", str(low))


def sharing(row: QparamsRow) -> str:
    """`1`; `32 on axis 0`; `512, a block of 32 on axis 1`."""
    if row.axis is None:
        return str(row.scales) if row.scales else "-"
    if row.block_size:
        return f"{row.scales}, axis {row.axis}/{row.block_size}"
    return f"{row.scales}, axis {row.axis}"


_FIGURES: tuple[tuple[str, str, str, int], ...] = (
    ("range", "range", "largest minus smallest weight", 3),
    ("std", "std", "standard deviation", 3),
    ("channel_ratio", "ratio", "largest weight of the widest channel over that of the median channel", 3),
    ("average_precision", "prec.", "average precision: mean range of a channel over the range of the tensor", 2),
)


def weights(rows: Sequence[WeightRow], limit: int | None, by: str = "") -> Table:
    """Weights before and after folding, the worst first; told once where nothing folds."""
    folds = any(row.norms for row in rows)
    headings = [
        Heading(f"{short}\n{side}".rstrip(), f"{text}{', BatchNormalization folded in' * (side == 'folded')}")
        for _, short, text, _ in _FIGURES
        for side in (("stored", "folded") if folds else ("",))
    ]
    return Table(
        title=_title("Weights", rows, by, limit),
        subject="layer",
        kind="operator",
        headings=(*headings, Heading("widest\nchannel", "index of the channel with the largest weight")),
        lines=tuple(_weight(row, folds=folds) for row in worst_first(rows, by)[:limit]),
        hidden=_hidden(rows, limit),
        legend="Ratio: largest weight of the widest channel / that of the median channel. Prec.: average precision, "
        "mean range of a channel / range of the tensor; 1 is best. dw: depthwise",
    )


def _weight(row: WeightRow, *, folds: bool) -> Line:
    sides = (row.before, row.after) if folds else (row.after,)
    cells = [_figure(_of(side, name), digits) for name, _, _, digits in _FIGURES for side in sides]
    widest = "-" if row.widest is None else str(row.widest)
    depthwise = " dw" if row.depthwise else ""
    operand = f" {row.operand}" if row.operand else ""
    return Line(row.node or row.output, f"{row.op_type}{operand}{depthwise}", (*cells, Cell(widest, widest)))


def _of(side: WeightFigures, name: str) -> float:
    value: float = getattr(side, name)
    return value


def norms(rows: Sequence[NormRow], limit: int | None, by: str = "") -> Table:
    """Gamma and gain of BatchNormalizations, the worst first."""
    return Table(
        title=_title("BatchNorm gamma", rows, by, limit),
        subject="BatchNormalization",
        kind="folds",
        headings=(
            Heading("gamma\nmin", "smallest gamma"),
            Heading("gamma\nmax", "largest gamma"),
            Heading("gamma\nmean", "mean gamma"),
            Heading("gamma\nstd", "standard deviation of gamma"),
            Heading("gain\nmedian", "median of |gamma| / sqrt(variance + epsilon), of the channels that vary"),
            Heading("gain\nmax", "largest |gamma| / sqrt(variance + epsilon)"),
            Heading("gain\nratio", "largest gain over the median"),
            Heading("outlier channels", "channels with 8 times the median gain or more", numeric=False),
        ),
        lines=tuple(map(_norm, worst_first(rows, by)[:limit])),
        hidden=_hidden(rows, limit),
        legend="Gain: |gamma| / sqrt(variance + epsilon), by which folding multiplies a channel's weights. Outlier: 8 "
        "times the median or more",
    )


def _norm(row: NormRow) -> Line:
    figures = (row.gamma_low, row.gamma_high, row.gamma_mean, row.gamma_std, row.median_gain, row.gain_high, row.ratio)
    said = ", ".join(f"{one.channel} ({_times(one.ratio)})" for one in row.outliers[:OUTLIERS])
    more = len(row.outliers) - OUTLIERS
    outliers = f"{said} +{more}" if more > 0 else said
    cells = (*(_figure(value, 3) for value in figures), Cell(outliers or "none"))
    return Line(row.node or row.output, "yes" if row.folds_into else "no", cells)


def _times(ratio: float) -> str:
    return f"{words.significant(ratio, 3)}×" if ratio < 1000 else f"{ratio:.0f}×"


def _title(what: str, rows: Sequence[object], by: str, limit: int | None) -> str:
    """`Activations: the 5 worst of 53, by range`."""
    if len(rows) <= 1:
        return what
    name, _ = column_of(rows, by)
    return f"{what}: {_some(len(rows), limit)}, by {name}"


def _some(total: int, limit: int | None) -> str:
    return f"the {limit} worst of {total}" if limit is not None and limit < total else f"all {total}"


def _hidden(rows: Sequence[object], limit: int | None) -> int:
    return max(len(rows) - limit, 0) if limit is not None else 0


def _figure(value: float | None, digits: int = 4) -> Cell:
    """So many significant digits, and no exponent where a few more digits do without."""
    if value is None or math.isnan(value):
        return Cell("-" if value is None else "nan")
    return Cell(brief(value, digits), f"{value:.6g}")


def brief(value: float, digits: int = 4) -> str:
    """`value` with so many significant digits; whole numbers up to a million are written out."""
    if math.isfinite(value) and 10 ** (digits - 1) <= abs(value) < 1e6:
        return f"{value:.0f}"
    return words.significant(value, digits)


def _percent(fraction: float | None) -> Cell:
    if fraction is None or math.isnan(fraction):
        return Cell("-")
    percent = 100 * fraction
    return Cell("0" if not percent else "<0.1" if percent < 0.05 else words.number(percent), f"{percent:.6g}")


TOLD = {"activation": "Scales of activations", "weight": "Scales of weights"}
"""Kinds of pairs with a table of their own."""


def by_kind(rows: Iterable[QparamsRow]) -> tuple[tuple[str, tuple[QparamsRow, ...]], ...]:
    """Pairs of activations, weights, and all others, where there are any, each with a title."""
    rows = tuple(rows)
    parts = [(title, tuple(row for row in rows if row.kind == kind)) for kind, title in TOLD.items()]
    parts.append(("Scales of biases and other constants", tuple(row for row in rows if row.kind not in TOLD)))
    return tuple((title, part) for title, part in parts if part)
