"""What the qparams of one quantised tensor would do to the float model's values there, and to nothing else."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxlint_q.analysis.grid import Grid
from onnxlint_q.analysis.number_formats import sqnr_db
from onnxlint_q.analysis.observed.histogram import Histogram
from onnxlint_q.analysis.observed.readings import QparamsReading


class QparamsAccumulator:
    """Range, clipping and rounding error of a float tensor on a grid, over samples."""

    def __init__(self, grid: Grid, lowest_code: int) -> None:
        self.grid = grid
        self.lowest_code = lowest_code
        self._low, self._high = math.inf, -math.inf
        self._clipped = self._values = 0
        self._signal = self._noise = 0.0
        self._codes = np.zeros(round(grid.range / grid.scale) + 1, np.int64)

    def add(self, exact: npt.NDArray[Any]) -> None:
        """One more sample of the float tensor; what is not finite is left out."""
        x = np.ravel(exact)
        if not np.isfinite(x).all():
            x = x[np.isfinite(x)]
        if not x.size:
            return
        grid = self.grid
        self._low, self._high = min(self._low, float(x.min())), max(self._high, float(x.max()))
        if self._low < grid.low - grid.scale / 2 or self._high > grid.high + grid.scale / 2:
            outside = (x < grid.low - grid.scale / 2) | (x > grid.high + grid.scale / 2)
            self._clipped += int(np.count_nonzero(outside))
        self._values += x.size
        rounded = grid.round_trip(x)
        codes = np.rint((rounded - np.float32(grid.low)) / np.float32(grid.scale)).astype(np.int64)
        self._codes += np.bincount(codes.clip(0, self._codes.size - 1), minlength=self._codes.size)
        error = (rounded - x).astype(np.float64)
        self._noise += float(np.dot(error, error))
        self._signal += float(np.dot(x.astype(np.float64), x.astype(np.float64)))

    def result(self) -> QparamsReading | None:
        """What was seen; None where nothing was."""
        grid = self.grid
        if not self._values:
            return None
        span = max(self._high, 0.0) - min(self._low, 0.0)
        return QparamsReading(
            scale=grid.scale,
            zero_point=self.lowest_code - round(grid.low / grid.scale),
            low=grid.low,
            high=grid.high,
            float_low=self._low,
            float_high=self._high,
            clipped_fraction=self._clipped / self._values,
            used_codes=Histogram.of_counts(self.lowest_code, self._codes).used_codes,
            codes=self._codes.size,
            span_ratio=grid.range / span if span > 0 else None,
            rounding_sqnr_db=sqnr_db(self._signal, self._noise),
        )
