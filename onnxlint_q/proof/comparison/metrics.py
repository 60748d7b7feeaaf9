"""How far tensors of a quantised model are from the float model's: definitions, and sums over samples.

The definitions are those of Yun & Wong (arXiv 2104.11849, section 3), natural log throughout: QMSE is the mean squared
error, QCE the cross-entropy and QKL the Kullback-Leibler divergence from the float to the dequantised distribution;
of a hidden tensor the distribution is a histogram over all samples, of a classifier's output it is its softmax.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxlint_q.analysis.number_formats import OVERFLOWN_DB, sqnr_db
from onnxlint_q.analysis.observed.top1 import Top1
from onnxlint_q.execute.stream.paired_histogram import PairedHistogram

Array = npt.NDArray[Any]
Vector = npt.NDArray[np.float64]


def cross_entropy(p: Vector, q: Vector) -> float:
    """QCE of two distributions: `-sum p ln q`, in nats; infinite where `q` is 0 and `p` is not."""
    with np.errstate(divide="ignore"):
        return float(-np.where(p > 0, p * np.log(np.where(p > 0, q, 1.0)), 0.0).sum())


def divergence(p: Vector, q: Vector) -> float:
    """QKL of two distributions: `sum p ln(p / q)`, in nats, at least 0; infinite where `q` is 0 and `p` is not."""
    return max(0.0, cross_entropy(p, q) - cross_entropy(p, p))


def distribution(counts: npt.NDArray[np.int64], occupied: npt.NDArray[np.bool_]) -> Vector:
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
        qce, qkl: cross-entropy and divergence of the two histograms, nats. `qce` holds the entropy of the float one,
            which depends on the width of its bins, so it does not compare one tensor with another.
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


@dataclass
class ClassifierErrorAccumulator:
    """Softmax of a classifier's scores, float against quantised, and both against labels where there are any."""

    rows: int = 0
    squared: float = 0.0
    entropy: float = 0.0
    divergence: float = 0.0
    top1: Top1 = field(default_factory=Top1)

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
            self.top1 = self.top1.with_sample(p, q, label)
