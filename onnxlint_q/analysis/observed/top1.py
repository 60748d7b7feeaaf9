"""How often a classifier is right, float and quantised, on the same labelled samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxlint_q.analysis.intervals import paired_loss


@dataclass(frozen=True, slots=True)
class Top1:
    """Counts over labelled samples; every row of scores is one.

    Attributes:
        rows: how many.
        float_right: those that the float model has right.
        lost: those that it alone has right.
        gained: those that the quantised model alone has right.
    """

    rows: int = 0
    float_right: int = 0
    lost: int = 0
    gained: int = 0

    def with_sample(self, exact: npt.NDArray[Any], other: npt.NDArray[Any], label: int) -> Top1:
        """The counts with one sample more: its scores `[rows, classes]`, float and quantised, and its class."""
        right, still = (scores.argmax(axis=1) == label for scores in (exact, other))
        return Top1(
            self.rows + len(right),
            self.float_right + int(np.count_nonzero(right)),
            self.lost + int(np.count_nonzero(right & ~still)),
            self.gained + int(np.count_nonzero(still & ~right)),
        )

    @property
    def float_accuracy(self) -> float:
        """Fraction that the float model has right; there has to be a row."""
        return self.float_right / self.rows

    @property
    def quantised_accuracy(self) -> float:
        """Fraction that the quantised model has right."""
        return (self.float_right - self.lost + self.gained) / self.rows

    @property
    def loss(self) -> float:
        """What quantising costs of it; negative where it gains."""
        return (self.lost - self.gained) / self.rows

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the loss, for paired samples."""
        return paired_loss(self.lost, self.gained, self.rows)
