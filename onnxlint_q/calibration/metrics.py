"""How far tensors of a quantised model are from the float model's: definitions, and sums over samples.

The definitions are those of Yun & Wong (arXiv 2104.11849, section 3), natural log throughout: QMSE is the mean squared
error, QCE the cross-entropy and QKL the Kullback-Leibler divergence from the float to the dequantised distribution;
of a hidden tensor the distribution is a histogram over all samples, of a classifier's output it is its softmax.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxlint_q.analysis.quantize import decibel, sqnr_db
from onnxlint_q.calibration.paired_histogram import PairedHistogram

Array = npt.NDArray[Any]
Vector = npt.NDArray[np.float64]
OVERFLOWN_DB = -150.0
"""SQNR of a tensor that is not finite where the float one is: infinitely bad, as a figure."""


def cross_entropy(p: Vector, q: Vector) -> float:
    """QCE of two distributions: `-sum p ln q`, in nats; infinite where `q` is 0 and `p` is not."""
    with np.errstate(divide="ignore"):
        return float(-np.where(p > 0, p * np.log(np.where(p > 0, q, 1.0)), 0.0).sum())


def divergence(p: Vector, q: Vector) -> float:
    """QKL of two distributions: `sum p ln(p / q)`, in nats, at least 0; infinite where `q` is 0 and `p` is not."""
    return max(0.0, cross_entropy(p, q) - cross_entropy(p, p))


def distribution(counts: npt.NDArray[np.int64], occupied: npt.NDArray[np.bool]) -> Vector:
    """A histogram as probabilities over the `occupied` bins.

    Each of them gets half a count more (Jeffreys' prior), so that a bin that quantisation emptied costs much and not
    infinitely much.
    """
    smoothed = counts[occupied] + 0.5
    return np.asarray(smoothed / smoothed.sum(), np.float64)


def softmax(scores: Array) -> Vector:
    """Probabilities of each row; rows that are probabilities already stay as they are."""
    scores = scores.astype(np.float64)
    if scores.size and bool((scores >= 0).all()) and np.allclose(scores.sum(axis=1), 1.0, atol=1e-3):
        return np.asarray(scores / scores.sum(axis=1, keepdims=True), np.float64)
    exponential = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(exponential / exponential.sum(axis=1, keepdims=True), np.float64)


@dataclass(frozen=True, slots=True)
class TensorError:
    """One tensor over all samples, float against dequantised.

    Attributes:
        sqnr_db: `10 log10(sum x^2 / sum (x - xq)^2)`; infinite for a perfect match, -150 where `xq` is not finite and
            `x` is, None where there is no signal.
        qmse: mean squared error.
        qce, qkl: cross-entropy and divergence of the two histograms, nats.
        cosine: `sum x xq / (|x| |xq|)`; None where one of them is zero.
        values: how many were compared.
    """

    sqnr_db: float | None
    qmse: float | None
    qce: float | None
    qkl: float | None
    cosine: float | None
    values: int


class TensorErrorAccumulator:
    """Sums behind a `TensorError`; memory does not grow with the samples."""

    def __init__(self) -> None:
        self._signal = self._noise = self._other = self._product = 0.0
        self._values = 0
        self._overflown = False
        self._histogram = PairedHistogram()

    def add(self, exact: Array, other: Array) -> None:
        """Compare one sample; both have one shape."""
        x, y = np.ravel(exact), np.ravel(other)
        if not (np.isfinite(x).all() and np.isfinite(y).all()):
            known = np.isfinite(x)
            self._overflown |= bool((known & ~np.isfinite(y)).any())
            known &= np.isfinite(y)
            x, y = x[known], y[known]
        self._values += x.size
        self._signal += _dot(x, x)
        self._other += _dot(y, y)
        self._product += _dot(x, y)
        error = x - y
        self._noise += _dot(error, error)
        self._histogram.add(x, y)

    def result(self) -> TensorError:
        """The error so far."""
        p_counts, q_counts = self._histogram.counts()
        occupied = np.asarray((p_counts > 0) | (q_counts > 0))
        p, q = distribution(p_counts, occupied), distribution(q_counts, occupied)
        norm = math.sqrt(self._signal) * math.sqrt(self._other)
        measured = self._values > 0
        return TensorError(
            sqnr_db=OVERFLOWN_DB if self._overflown else sqnr_db(self._signal, self._noise),
            qmse=self._noise / self._values if measured else None,
            qce=cross_entropy(p, q) if measured else None,
            qkl=divergence(p, q) if measured else None,
            cosine=min(1.0, max(-1.0, self._product / norm)) if norm > 0 else None,
            values=self._values,
        )


def _dot(x: Array, y: Array) -> float:
    """Sum of products; in float64 where float32 would overflow."""
    with np.errstate(over="ignore", invalid="ignore"):
        product = float(np.dot(x, y)) if x.dtype == y.dtype == np.float32 else math.nan
    if math.isfinite(product):
        return product
    with np.errstate(over="ignore"):
        return float(np.dot(x.astype(np.float64), y.astype(np.float64)))


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
class ErrorAccumulator:
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


@dataclass
class ClassifierErrorAccumulator:
    """Softmax of a classifier's scores, float against quantised, and both against labels where there are any."""

    rows: int = 0
    squared: float = 0.0
    entropy: float = 0.0
    divergence: float = 0.0
    labelled: int = 0
    right: tuple[int, int] = (0, 0)

    def add(self, exact: Array, other: Array, label: int | None = None) -> None:
        """Compare the scores `[rows, classes]` of one sample, whose class is `label` if it is known."""
        p, q = softmax(exact), softmax(other)
        self.rows += len(p)
        self.squared += float(np.square(p - q).mean(axis=1).sum())
        # A probability that rounding took to zero is as small as a double holds: costly, not infinitely so.
        q = np.maximum(q, np.finfo(np.float64).tiny)
        self.entropy += cross_entropy(p, q)
        self.divergence += divergence(p, q)
        if label is not None:
            self.labelled += len(p)
            hits = [int(np.count_nonzero(scores.argmax(axis=1) == label)) for scores in (p, q)]
            self.right = self.right[0] + hits[0], self.right[1] + hits[1]


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
