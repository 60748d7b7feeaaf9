"""The error at the outputs of a variant of a model, summed over samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxlint_q.analysis.number_formats import decibel

Array = npt.NDArray[Any]
OVERFLOWN_DB = -150.0
"""SQNR of a tensor that is not finite where the float one is: infinitely bad, as a figure."""


@dataclass(frozen=True, slots=True)
class OutputError:
    """Error at the model's outputs over some samples.

    Attributes:
        sqnr_db: `10 log10` of the inverse of the noise-to-signal power ratio, averaged over the outputs; None if the
            outputs are identical or carry no signal. An output that is not finite where the float model's is counts
            as -150 dB; one that ever changes its shape (detections, for example) cannot be compared and is left out.
        agreement: fraction of rows whose largest class is the float model's; None if the model is no classifier.
        has_signal: whether any output can be compared, and is ever finite and different from zero in the float model.
        samples: how many were compared.
    """

    sqnr_db: float | None
    agreement: float | None
    has_signal: bool
    samples: int


class Reference:
    """The float model's outputs of one sample, made ready to compare many variants with.

    Attributes:
        exact: the floating-point outputs in float64, by position.
        power: their sums of squares; only of those that are finite.
        classes: position and shape of a classifier's scores, and the largest class of each row; None if it is none.
    """

    def __init__(self, outputs: Sequence[Array]) -> None:
        floating = {i: array for i, array in enumerate(outputs) if np.issubdtype(array.dtype, np.floating)}
        self.exact = {index: array.astype(np.float64) for index, array in floating.items()}
        powers = {index: _power(array) for index, array in self.exact.items()}
        self.power = {index: power for index, power in powers.items() if math.isfinite(power)}
        self.classes: tuple[int, tuple[int, ...], Array] | None = None
        if len(floating) == 1:
            ((index, array),) = floating.items()
            scores = class_scores(array)
            self.classes = None if scores is None else (index, scores.shape, scores.argmax(axis=1))


@dataclass
class OutputErrorAccumulator:
    """Sums of signal and noise power, one entry an output."""

    signal: dict[int, float] = field(default_factory=dict)
    noise: dict[int, float] = field(default_factory=dict)
    reshaped: set[int] = field(default_factory=set)
    agreed: int = 0
    rows: int = 0
    samples: int = 0

    def add(self, reference: Reference, other: Sequence[Array]) -> None:
        """Compare the outputs of one sample."""
        self.samples += 1
        for index, exact in reference.exact.items():
            if other[index].shape != exact.shape:
                self.reshaped.add(index)
            elif index in reference.power:
                self.signal[index] = self.signal.get(index, 0.0) + reference.power[index]
                self.noise[index] = self.noise.get(index, 0.0) + _power(other[index] - exact)
        if reference.classes is not None:
            index, shape, classes = reference.classes
            self.rows += len(classes)
            others = class_scores(other[index])
            if others is not None and others.shape == shape:
                self.agreed += int(np.count_nonzero(classes == others.argmax(axis=1)))

    def result(self) -> OutputError:
        """The error so far."""
        live = [index for index, power in self.signal.items() if power > 0 and index not in self.reshaped]
        ratios = [self.noise[index] / self.signal[index] for index in live]
        # A variant that overflows has no finite error: infinitely bad is a figure here, not a missing one.
        ratios = [ratio if np.isfinite(ratio) else 10 ** (-OVERFLOWN_DB / 10) for ratio in ratios]
        return OutputError(
            sqnr_db=decibel(1.0, float(np.mean(ratios))) if ratios else None,
            agreement=self.agreed / self.rows if self.rows else None,
            has_signal=bool(live),
            samples=self.samples,
        )


def _power(values: Array) -> float:
    """Sum of squares; infinite where it passes the largest double, NaN where a value is NaN."""
    with np.errstate(over="ignore"):
        return float(np.square(values).sum())


def class_scores(output: Array) -> Array | None:
    """A classifier's scores as `[rows, classes]`; None if the output does not look like scores.

    One output, two axes after trailing axes of length 1 are dropped, at least two classes.
    """
    shape = output.shape
    if len(shape) < 2 or any(dim != 1 for dim in shape[2:]) or shape[1] < 2:
        return None
    return output.reshape(shape[:2])
