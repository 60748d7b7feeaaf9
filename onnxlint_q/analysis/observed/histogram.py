"""Histograms whose bins are the float's own bits, so that no range has to be known and no second pass is needed.

A bin is the upper 16 bits of a float32: sign, exponent and seven bits of the mantissa. There are 65,536 of them, of
a relative width of 2^-7 to 2^-8 (0.4 to 0.8 %) at every magnitude. Counts are exact, two histograms add up to that of
all their values, and every whole number up to 256 has a bin of its own, which makes 8-bit codes exact.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]
Codes = npt.NDArray[np.uint16]

BINS = 1 << 16
_HALF = BINS // 2
# Fraction of the values at either end that does not make a code one in use: a tensor is not finely rounded because an
# outlier in a thousand is.
_RARE = 0.001
# Which half of a float32 in memory holds its sign.
_UPPER = 1 if sys.byteorder == "little" else 0


def float_codes(values: npt.NDArray[np.float32], start: int = 0, stride: int = 1) -> Codes:
    """The upper 16 bits of every `stride`-th value from `start` on, a view; `values` is contiguous."""
    return values.reshape(-1).view(np.uint16)[2 * start + _UPPER :: 2 * stride]


@dataclass(frozen=True, eq=False)
class Histogram:
    """How often values fell into each bin.

    Attributes:
        bins: numbers of the bins that hold anything, ascending, which is the order of their values.
        counts: how many values each of them holds.
        whole: all values are whole numbers.
    """

    bins: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64]
    whole: bool = False

    @classmethod
    def empty(cls, whole: bool = False) -> Histogram:
        """No values."""
        nothing = np.zeros(0, np.int64)
        return cls(nothing, nothing, whole)

    @classmethod
    def of_codes(cls, codes: Iterable[Codes], whole: bool = False) -> Histogram:
        """What `float_codes` gave, however many times."""
        parts = list(codes)
        if not parts:
            return cls.empty(whole)
        counts = np.bincount(np.concatenate(parts), minlength=BINS)
        held = np.flatnonzero(counts > 0)
        # Negative floats descend with their bits: their half comes first, turned round.
        held = np.concatenate([held[held >= _HALF][::-1], held[held < _HALF]])
        return cls(np.where(held < _HALF, held + _HALF, BINS - 1 - held), counts[held], whole)

    @classmethod
    def of(cls, values: npt.ArrayLike, whole: bool = False) -> Histogram:
        """Every one of some finite values."""
        return cls.of_codes([float_codes(np.ascontiguousarray(values, np.float32))], whole)

    @classmethod
    def of_counts(cls, first: int, counts: npt.NDArray[np.int64]) -> Histogram:
        """Of codes: how often each whole number from `first` on occurs."""
        held = np.flatnonzero(counts > 0)
        found = cls.of(first + held, whole=True)
        # What shares a bin is adjacent, because bins and numbers ascend alike.
        starts = np.cumsum(np.concatenate([[0], found.counts]))[:-1]
        return replace(found, counts=np.add.reduceat(counts[held], starts) if held.size else found.counts)

    def __add__(self, other: Histogram) -> Histogram:
        if not (self.bins.size and other.bins.size):
            return replace(self if self.bins.size else other, whole=self.whole and other.whole)
        counts = np.zeros(BINS, np.int64)
        counts[self.bins] = self.counts
        counts[other.bins] += other.counts
        bins = np.flatnonzero(counts > 0)
        return Histogram(bins, counts[bins], self.whole and other.whole)

    @cached_property
    def total(self) -> int:
        """How many values were counted."""
        return int(self.counts.sum())

    @cached_property
    def edges(self) -> tuple[Vector, Vector]:
        """Smallest and largest value that each bin stands for; the same where it is a single whole number."""
        inner, outer = _magnitudes(self.bins)
        if self.whole:
            outer = np.maximum(inner, outer - 1)
        negative = self.bins < _HALF
        return np.where(negative, -outer, inner), np.where(negative, -inner, outer)

    @cached_property
    def centres(self) -> Vector:
        """The middle of each bin."""
        low, high = self.edges
        return (low + high) / 2

    def quantile(self, fraction: float) -> float:
        """The value that `fraction` of all values do not exceed, values spread evenly in a bin; NaN of nothing."""
        if not self.total:
            return float("nan")
        low, high = self.edges
        reached = np.cumsum(self.counts)
        wanted = min(max(fraction, 0.0), 1.0) * self.total
        place = min(int(np.searchsorted(reached, wanted)), self.bins.size - 1)
        inside = (wanted - (reached[place] - self.counts[place])) / self.counts[place]
        return float(low[place] + inside * (high[place] - low[place]))

    @cached_property
    def used_codes(self) -> int:
        """How many whole numbers occur, a thousandth of the values at either end left out, and two where they are few.

        Exact where no bin stands for several, which holds up to 256; else the numbers that the bins span.
        """
        tail = max(_RARE, 2.0 / max(self.total, 8)) * self.total
        reached = np.cumsum(self.counts)
        kept = (reached > tail) & (reached - self.counts < self.total - tail)
        if not kept.any():
            return 0
        low, high = (edge[kept] for edge in self.edges)
        return int(low.size if np.array_equal(low, high) else high[-1] - low[0] + 1)

    def below(self, values: npt.ArrayLike) -> Vector:
        """How many values lie at or below each of `values`, estimated inside a bin."""
        wanted = np.asarray(values, np.float64)
        if not self.total:
            return np.zeros_like(wanted)
        low, high = self.edges
        reached = np.concatenate([[0.0], np.cumsum(self.counts, dtype=np.float64)])
        place = np.searchsorted(low, wanted, side="right") - 1
        held = np.maximum(place, 0)
        width = (high - low)[held]
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            inside = np.where(width > 0, np.minimum((wanted - low[held]) / width, 1.0), 1.0)
        return np.where(place < 0, 0.0, reached[held] + inside * self.counts[held])


def _magnitudes(bins: npt.NDArray[np.int64]) -> tuple[Vector, Vector]:
    """Magnitudes where each bin begins and ends, seen from zero."""
    bits = np.where(bins < _HALF, _HALF - 1 - bins, bins - _HALF).astype(np.uint32)
    inner = (bits << 16).view(np.float32).astype(np.float64)
    # The last finite bin ends at the largest float.
    outer = np.minimum((bits + 1) << 16, 0x7F7F_FFFF).astype(np.uint32).view(np.float32).astype(np.float64)
    return inner, np.maximum(inner, outer)
