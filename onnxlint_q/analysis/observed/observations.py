"""What running the model on samples showed: plain values that rules read and the streaming pass fills."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add

import numpy as np
import numpy.typing as npt

from onnxlint_q.analysis.observed.histogram import Histogram
from onnxlint_q.analysis.observed.moments import Moments

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class ChannelObservation:
    """Exact smallest and largest value of each channel."""

    low: Vector
    high: Vector

    def __or__(self, other: ChannelObservation) -> ChannelObservation:
        """Of the values of both."""
        return ChannelObservation(np.minimum(self.low, other.low), np.maximum(self.high, other.high))


@dataclass(frozen=True, eq=False)
class TensorObservation:
    """One tensor over all samples.

    Attributes:
        low, high: exact smallest and largest value.
        size: how many values there were.
        histogram: of all values if they are few or codes of 8 bits at most, else of a regular subset that leaves no
            position out in the long run.
        lows, highs: exact extremes sample by sample, in the order of the samples that held any value.
        moments: sums over all values.
        channels: channel by channel; None where the number of channels is unknown or differs between samples.
        ends: exact fractions of values at the lowest and at the highest code; of a tensor that a quantiser reads, of
            those that it clips: more than half a step below and above its range. None for any other tensor.
    """

    low: float
    high: float
    size: int
    histogram: Histogram
    lows: npt.NDArray[np.float32]
    highs: npt.NDArray[np.float32]
    moments: Moments
    channels: ChannelObservation | None = None
    ends: tuple[float, float] | None = None

    @classmethod
    def of(
        cls,
        values: npt.ArrayLike,
        codes: tuple[int, int] | None = None,
        bounds: tuple[float, float] | None = None,
    ) -> TensorObservation:
        """What a pass over one sample with just these values, no channels, would have seen.

        `codes` are the lowest and the highest code, where the values are codes; `bounds` are those beyond which a
        quantiser clips, where one reads them.
        """
        held = np.ravel(np.asarray(values, np.float64))
        low, high = np.float32(held.min()), np.float32(held.max())
        ends = None
        if codes is not None:
            ends = float((held == codes[0]).mean()), float((held == codes[1]).mean())
        elif bounds is not None:
            ends = float((held < bounds[0]).mean()), float((held > bounds[1]).mean())
        return cls(
            float(low),
            float(high),
            held.size,
            Histogram.of(held, whole=codes is not None),
            np.asarray([low]),
            np.asarray([high]),
            Moments.of(held.astype(np.float32)),
            None,
            ends,
        )

    def __add__(self, other: TensorObservation) -> TensorObservation:
        """Both passes as one, `other` after this one."""
        share = other.size / (self.size + other.size)
        mine, theirs = self.channels, other.channels
        same = mine is not None and theirs is not None and mine.low.size == theirs.low.size
        return TensorObservation(
            min(self.low, other.low),
            max(self.high, other.high),
            self.size + other.size,
            self.histogram + other.histogram,
            np.concatenate([self.lows, other.lows]),
            np.concatenate([self.highs, other.highs]),
            self.moments + other.moments,
            mine | theirs if mine is not None and theirs is not None and same else None,
            self._ends(other, share),
        )

    def _ends(self, other: TensorObservation, share: float) -> tuple[float, float] | None:
        if self.ends is None or other.ends is None:
            return None
        return (
            self.ends[0] + share * (other.ends[0] - self.ends[0]),
            self.ends[1] + share * (other.ends[1] - self.ends[1]),
        )

    @property
    def is_finite(self) -> bool:
        """Whether no value was NaN or infinite."""
        return bool(np.isfinite(self.lows).all() and np.isfinite(self.highs).all())

    @property
    def range(self) -> float:
        """Largest minus smallest value."""
        return self.high - self.low

    @property
    def mean(self) -> float:
        """Mean of all values."""
        return min(max(self.moments.mean, self.low), self.high)

    @property
    def deviation(self) -> float:
        """Their standard deviation."""
        return self.moments.deviation if self.high > self.low else 0.0

    @property
    def zeros(self) -> float:
        """Fraction of the values that are zero, or the code of zero."""
        return self.moments.zero_share

    @property
    def outlier_ratio(self) -> float | None:
        """Largest magnitude over the standard deviation; None where all values are one."""
        return max(-self.low, self.high) / self.deviation if self.deviation > 0 else None

    @property
    def counted(self) -> int:
        """How many values quantiles and shares rest on."""
        return self.histogram.total

    @property
    def used_codes(self) -> int:
        """How many different codes occur, a thousandth of them at either end left out; only of a tensor of codes."""
        return self.histogram.used_codes

    def quantile(self, fraction: float) -> float:
        """Quantile, `fraction` in [0, 1], within 0.8 % of a value; NaN if nothing was counted."""
        return float(np.clip(self.histogram.quantile(fraction), self.low, self.high))


@dataclass(frozen=True, eq=False)
class Observations:
    """One pass over calibration data.

    Attributes:
        source: what the data was, for people.
        synthetic: random values, not data: ranges say little about deployment.
        samples: how many samples ran.
        available: how many samples the source holds, None if unbounded.
        tensors: by tensor key: what a quantiser would round of a float model; of a quantised one codes and, where the
            file holds them, the values in front of their rounding.
        non_finite: tensors that held NaN or infinity on some sample; they have no entry in `tensors`.
    """

    source: str
    synthetic: bool
    samples: int
    available: int | None
    tensors: Mapping[str, TensorObservation]
    non_finite: tuple[str, ...] = ()

    def __add__(self, other: Observations) -> Observations:
        """Both passes over parts of one source as one."""
        bad = tuple(dict.fromkeys((*self.non_finite, *other.non_finite)))
        names = [name for name in dict.fromkeys((*self.tensors, *other.tensors)) if name not in bad]
        tensors = {
            name: self.tensors[name] + other.tensors[name]
            if name in self.tensors and name in other.tensors
            else (self.tensors.get(name) or other.tensors[name])
            for name in names
        }
        samples = self.samples + other.samples
        return Observations(self.source, self.synthetic, samples, self.available, tensors, bad)


def merged(parts: Sequence[Observations]) -> Observations:
    """Several passes over disjoint parts of one source as one; at least one."""
    return reduce(add, parts)
