"""The columns that rows can be sorted by, and which end of each is the worse one."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from onnxlint_q.workflow.reading.values import ActivationRow, NormRow, QparamsRow, WeightRow


@dataclass(frozen=True, slots=True)
class Column:
    """A figure of a row.

    Attributes:
        shown: the figure; None sorts last.
        smallest_first: smaller is worse.
    """

    shown: Callable[[Any], float | None]
    smallest_first: bool = False

    def badness(self, row: object) -> float:
        """By which rows are sorted, the largest first."""
        value = self.shown(row)
        if value is None:
            return -math.inf
        if math.isnan(value):
            return math.inf
        return -value if self.smallest_first else value


_ACTIVATIONS = {
    "range": Column(lambda row: row.range),
    "low": Column(lambda row: row.low, smallest_first=True),
    "high": Column(lambda row: row.high),
    "mean": Column(lambda row: abs(row.mean)),
    "std": Column(lambda row: row.std),
    "zeros": Column(lambda row: row.zeros),
    "outlier-ratio": Column(lambda row: row.outlier_ratio),
    "scale": Column(lambda row: row.scale),
}
_QPARAMS = {
    "scale": Column(lambda row: row.largest_scale),
    "range": Column(lambda row: row.range),
    "codes": Column(lambda row: row.observed.codes if row.observed else None, smallest_first=True),
    "clipped": Column(lambda row: row.observed.clipped if row.observed else None),
}
_WEIGHTS = {
    "channel-ratio": Column(lambda row: row.after.channel_ratio),
    "range": Column(lambda row: row.after.range),
    "low": Column(lambda row: row.after.low, smallest_first=True),
    "high": Column(lambda row: row.after.high),
    "std": Column(lambda row: row.after.std),
    "average-precision": Column(lambda row: row.after.average_precision, smallest_first=True),
}
_NORMS = {
    "gain-ratio": Column(lambda row: row.ratio),
    "gain": Column(lambda row: row.gain_high),
    "gamma": Column(lambda row: max(-row.gamma_low, row.gamma_high)),
}
_TABLES: Mapping[type, Mapping[str, Column]] = {
    ActivationRow: _ACTIVATIONS,
    QparamsRow: _QPARAMS,
    WeightRow: _WEIGHTS,
    NormRow: _NORMS,
}
COLUMNS = tuple(dict.fromkeys(name for table in _TABLES.values() for name in table))
"""All names, as `--by` takes them."""


def columns_of(kind: type) -> Mapping[str, Column]:
    """The columns of a kind of rows, its default first."""
    return _TABLES[kind]


def column_of(kind: type, by: str) -> tuple[str, Column]:
    """The column to sort by: the one that was asked for, or where these rows have none of that name the default."""
    columns = columns_of(kind)
    name = by if by in columns else next(iter(columns))
    return name, columns[name]


def worst_first(rows: Sequence[Any], by: str) -> tuple[Any, ...]:
    """Rows of one kind, the worst first; those that are alike stay in data order."""
    if not rows:
        return ()
    _, column = column_of(type(rows[0]), by)
    return tuple(sorted(rows, key=column.badness, reverse=True))
