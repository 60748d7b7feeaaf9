"""Sums over the values of a tensor, which add up over samples and passes: mean, standard deviation, zeros."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Moments:
    """What was summed up of some values, in float64.

    Attributes:
        size: how many values.
        total, squares: sums of the values and of their squares.
        zeros: how many of them stand for zero.
    """

    size: int
    total: float
    squares: float
    zeros: int

    @classmethod
    def of(cls, values: npt.NDArray[Any], zero: float = 0.0) -> Moments:
        """Of every one of some values; `zero` is the one that stands for zero."""
        held = np.ravel(values).astype(np.float64)
        return cls(held.size, float(held.sum()), float(held @ held), int(np.count_nonzero(held == zero)))

    def __add__(self, other: Moments) -> Moments:
        return Moments(
            self.size + other.size,
            self.total + other.total,
            self.squares + other.squares,
            self.zeros + other.zeros,
        )

    @property
    def mean(self) -> float:
        """NaN of nothing."""
        return self.total / self.size if self.size else math.nan

    @property
    def deviation(self) -> float:
        """Standard deviation, the mean square deviation's root; NaN of nothing.

        Float32 values have 29 bits less than the sums, so that a mean far from zero costs the difference little.
        """
        if not self.size:
            return math.nan
        return math.sqrt(max(self.squares / self.size - self.mean**2, 0.0))

    @property
    def zero_share(self) -> float:
        """Fraction of the values that stand for zero; NaN of nothing."""
        return self.zeros / self.size if self.size else math.nan
