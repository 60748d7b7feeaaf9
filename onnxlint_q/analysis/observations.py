"""What running the model on samples showed: plain values that rules read and the calibration pass fills."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True, eq=False)
class TensorObservation:
    """One tensor over all samples.

    Attributes:
        low, high: exact smallest and largest value.
        mean, power: mean and mean square.
        drawn: a bounded random draw of its values, sorted; quantiles are estimated from it.
    """

    low: float
    high: float
    mean: float
    power: float
    drawn: npt.NDArray[np.float32]

    @property
    def range(self) -> float:
        """Largest minus smallest value."""
        return self.high - self.low

    @property
    def deviation(self) -> float:
        """Standard deviation."""
        return float(np.sqrt(max(self.power - self.mean**2, 0.0)))

    def quantile(self, fraction: float) -> float:
        """Estimated quantile, `fraction` in [0, 1]."""
        return float(np.quantile(self.drawn, fraction)) if self.drawn.size else float("nan")

    def share_above(self, value: float) -> float:
        """Estimated fraction of values above `value`."""
        return 1.0 - float(np.searchsorted(self.drawn, value, side="right")) / max(self.drawn.size, 1)

    def share_below(self, value: float) -> float:
        """Estimated fraction of values below `value`."""
        return float(np.searchsorted(self.drawn, value, side="left")) / max(self.drawn.size, 1)


@dataclass(frozen=True, slots=True, eq=False)
class Observations:
    """One pass over calibration data.

    Attributes:
        source: what the data was, for people.
        synthetic: random values, not data: ranges say little about deployment.
        samples: how many samples ran.
        available: how many samples the source holds, None if unbounded.
        tensors: by tensor key: activations of a float model, codes of a quantised one.
        non_finite: tensors that held NaN or infinity on some sample; they have no entry in `tensors`.
    """

    source: str
    synthetic: bool
    samples: int
    available: int | None
    tensors: Mapping[str, TensorObservation]
    non_finite: tuple[str, ...] = ()
