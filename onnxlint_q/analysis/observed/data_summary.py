"""What calibration data looks like before anything runs: plain values that rules read and the inspection fills."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Patches:
    """Mean and covariance of small windows of an image input, over positions and samples.

    Attributes:
        mean: `[channels, height, width]` of the window.
        covariance: square, of the flattened window.
    """

    mean: Vector
    covariance: Vector


@dataclass(frozen=True, slots=True, eq=False)
class ImageSummary:
    """One image input, by channel and by neighbouring pixels.

    Attributes:
        low, high, deviation: by channel, over all samples.
        correlation: by sample, between pixels next to each other, averaged over both directions and all channels; NaN
            for a sample without contrast.
        patches: moments of windows as large as the kernel of the first layer; None where that is unknown.
    """

    low: Vector
    high: Vector
    deviation: Vector
    correlation: Vector
    patches: Patches | None


@dataclass(frozen=True, slots=True, eq=False)
class InputSummary:
    """All samples of one input.

    Attributes:
        shape: of the first sample.
        floating: whether its type is one of floats.
        values: how many were seen over all samples.
        low, high, mean, deviation: of all values.
        skewness, kurtosis: standardised third and fourth moment; 0 and 3 for a normal distribution, NaN if constant.
        constant: indices of the samples that hold one value only.
        unchanging: every sample is the same.
        image: None if it is no image input.
    """

    shape: tuple[int, ...]
    floating: bool
    values: int
    low: float
    high: float
    mean: float
    deviation: float
    skewness: float
    kurtosis: float
    constant: tuple[int, ...]
    unchanging: bool
    image: ImageSummary | None = None

    @property
    def size(self) -> int:
        """Values of one sample."""
        return int(np.prod(self.shape, dtype=np.int64))


@dataclass(frozen=True, slots=True, eq=False)
class DataSummary:
    """The calibration data as the model would see it.

    Attributes:
        source: what the data is, for people.
        synthetic: random values, not data; then nothing is measured of them.
        samples: how many were inspected, the first of those that the run uses.
        available: how many the source holds at least, None if unbounded.
        for_ranges: how many of those that the run uses ranges are taken from; None for all.
        names: what to call each sample: its file, else its index.
        duplicates: groups of indices of samples that are equal in every input.
        alike: groups of indices of images that nearly coincide, `duplicates` counted once.
        inputs: by name.
    """

    source: str
    synthetic: bool
    samples: int
    available: int | None
    for_ranges: int | None = None
    names: tuple[str, ...] = ()
    duplicates: tuple[tuple[int, ...], ...] = ()
    alike: tuple[tuple[int, ...], ...] = ()
    inputs: Mapping[str, InputSummary] = field(default_factory=dict)
