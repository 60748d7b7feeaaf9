"""Every length that open axes may have, at once.

An open axis of an input is an axis of a grid, with its candidates along it. The length of any axis of any tensor is an
array over that grid, of length 1 along what it does not depend on; NaN stands for a length that is not known. So one
pass over the graph computes the shapes for all candidates, and what an operator demands of a shape is an array of
truth values over the same grid.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Lengths = npt.NDArray[np.float64]
"""One length over the grid."""
Shape = tuple[Lengths, ...]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """The candidates of each open axis.

    Attributes:
        candidates: ascending, one array an axis.
    """

    candidates: tuple[npt.NDArray[np.int64], ...]

    @property
    def rank(self) -> int:
        """How many axes there are."""
        return len(self.candidates)

    def known(self, length: float | None) -> Lengths:
        """The same length everywhere; NaN for None."""
        return np.full((1,) * self.rank, np.nan if length is None else length)

    def open(self, axis: int) -> Lengths:
        """The candidates of an axis, along it."""
        return self.candidates[axis].astype(np.float64).reshape([-1 if a == axis else 1 for a in range(self.rank)])

    def listed(self, values: npt.NDArray[Any]) -> Numbers:
        """A constant list, or a constant number, as the same everywhere."""
        return Numbers(tuple(map(self.known, values.ravel())), single=values.ndim == 0)


@dataclass(frozen=True, slots=True, eq=False)
class Numbers:
    """What a small tensor of lengths holds.

    Attributes:
        entries: its values.
        single: whether it is one number and no list.
    """

    entries: tuple[Lengths, ...]
    single: bool = False

    def whole(self) -> tuple[int, ...] | None:
        """The values where they are known and everywhere the same."""
        if any(entry.size != 1 or not np.isfinite(entry).all() for entry in self.entries):
            return None
        return tuple(int(entry.item()) for entry in self.entries)


def same(one: Lengths, other: Lengths) -> Mask:
    """Where two lengths agree, or nothing says that they do not."""
    return np.asarray((one == other) | np.isnan(one) | np.isnan(other))


def broadcast(shapes: Sequence[Shape]) -> tuple[Shape, list[tuple[Mask, Mask]]]:
    """The shape that shapes give together, as numpy has it; where they fit, and where they are alike besides."""
    rank = max(map(len, shapes), default=0)
    result: list[Lengths] = []
    fits: list[tuple[Mask, Mask]] = []
    for axis in range(rank):
        lengths = [shape[axis - rank + len(shape)] for shape in shapes if axis >= rank - len(shape)]
        found = lengths[0]
        for length in lengths[1:]:
            if not _alike(found, length):
                alike = same(found, length)
                fits.append((np.asarray(alike | (found == 1) | (length == 1)), alike))
                found = _joint(found, length)
        result.append(found)
    return tuple(result), fits


def _joint(one: Lengths, other: Lengths) -> Lengths:
    """The length that two give together where they fit."""
    for length, beside in ((one, other), (other, one)):
        if length.size == 1:
            # What is longer than 1 is the result, even beside what is not known.
            return beside if (length == 1).all() or (np.isnan(length).all() and beside.size > 1) else length
    return np.fmax(one, other)


def _alike(one: Lengths, other: Lengths) -> bool:
    return one is other or (one.shape == other.shape and bool((one == other).all()))


def chosen(condition: Mask, one: Lengths, other: Lengths) -> Lengths:
    """One length where the condition holds, else the other; no larger than it has to be."""
    if condition.all():
        return one
    return np.where(condition, one, other) if condition.any() else other


def product(lengths: Iterable[Lengths], one: Lengths) -> Lengths:
    """All of them multiplied; `one` for none."""
    for length in lengths:
        one = one * length
    return one
