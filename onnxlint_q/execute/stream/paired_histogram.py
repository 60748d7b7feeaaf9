"""Two histograms on one grid, filled sample by sample, whose result does not depend on the order of the samples.

Bins are `[k w, (k + 1) w)` with a width `w` that is a power of two. When a value falls outside, `w` doubles and
neighbours merge, which is exact; so the end is the same as if all values had been there at once.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

# Fewer than the 256 codes of eight bits: a healthy int8 tensor then leaves no bin empty that the float one fills.
_BINS = 128
Counts = npt.NDArray[np.int64]


class PairedHistogram:
    """Counts of the values of two tensors in common bins; at most 128 bins and one."""

    def __init__(self) -> None:
        self._exponent: int | None = None
        self._first = 0
        self._counts = np.zeros((2, 0), np.int64)

    def add(self, first: npt.NDArray[Any], second: npt.NDArray[Any]) -> None:
        """Count more values of both; they are finite."""
        parts = [values.ravel() for values in (first, second)]
        ends = [(float(values.min()), float(values.max())) for values in parts if values.size]
        if not ends:
            return
        self._widen(min(low for low, _ in ends), max(high for _, high in ends))
        scale = math.ldexp(1.0, -(self._exponent or 0))
        for row, values in enumerate(parts):
            bins = np.floor(values.astype(np.float64, copy=False) * scale).astype(np.int64) - self._first
            self._counts[row] += np.bincount(bins, minlength=self._counts.shape[1])

    def counts(self) -> tuple[Counts, Counts]:
        """Counts of the first and of the second tensor, bin by bin."""
        return self._counts[0], self._counts[1]

    def _widen(self, low: float, high: float) -> None:
        """Make room for values from `low` to `high`."""
        exponent = _exponent(low, high) if self._exponent is None else self._exponent
        held = self._counts.shape[1]
        while True:
            width = math.ldexp(1.0, exponent)
            shift = 0 if self._exponent is None else exponent - self._exponent
            first, last = math.floor(low / width), math.floor(high / width)
            if held:
                first = min(first, self._first >> shift)
                last = max(last, (self._first + held - 1) >> shift)
            if last - first <= _BINS:
                break
            exponent += 1
        counts = np.zeros((2, last - first + 1), np.int64)
        places = (np.arange(self._first, self._first + held) >> shift) - first
        for row in range(2):
            np.add.at(counts[row], places, self._counts[row])
        self._exponent, self._first, self._counts = exponent, first, counts


def _exponent(low: float, high: float) -> int:
    """Exponent of a width that is certainly not too large for values from `low` to `high`; 0 where there is one value.

    Never so small that a float32 cannot tell the ends of a bin apart.
    """
    span, largest = high - low, max(abs(low), abs(high))
    if largest == 0:
        return -126
    return max(math.frexp(span / _BINS)[1] - 2 if span > 0 else -1074, math.frexp(largest)[1] - 24, -126)
