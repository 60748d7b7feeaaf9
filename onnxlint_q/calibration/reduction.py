"""The statistics of one sample's tensors, and their sum over samples.

A tensor is read where ONNX Runtime left it, while it is still in the processor's cache, and only numpy's vectorised
loops touch all of its values: extremes, sum and sum of squares of each channel. They release the interpreter's lock,
so that several samples are worked on at once. The histogram takes a regular subset of at most SUBSET values a tensor
and sample.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxlint_q.analysis.histogram import Codes, Histogram, float_codes
from onnxlint_q.analysis.observations import ChannelObservation, TensorObservation

Array = npt.NDArray[Any]
Single = npt.NDArray[np.float32]
SUBSET = 2048
# Rows of this many values: numpy's BLAS starts threads of its own above 10,000, and float32 sums stay accurate.
_ROW = 8192
# Samples whose subsets wait to be counted together; counting costs the same for one sample as for many.
_WAITING = 32


@dataclass(frozen=True, slots=True, eq=False)
class Reduced:
    """One tensor of one sample.

    Attributes:
        low, high, total, square: extremes, sum and sum of squares of each channel; of all values where `channels` is
            false.
        size: how many values.
        codes: upper halves of a subset of the values.
        ends: how many values equal the lowest and the highest code.
        channels: the tensor has an axis of channels.
    """

    low: Single
    high: Single
    total: npt.NDArray[np.float64]
    square: npt.NDArray[np.float64]
    size: int
    codes: Codes
    ends: tuple[int, int]
    channels: bool


def reduce_tensor(array: Array, axis: int | None, number: int, codes: tuple[int, int] | None = None) -> Reduced:
    """Reduce one tensor, which holds at least one value.

    Args:
        array: its values.
        axis: where its channels are, None if it has none.
        number: which sample it is from; each takes its subset from another place.
        codes: the lowest and the highest code, if it holds codes.
    """
    ends = (0, 0)
    if codes is not None:
        ends = (int(np.count_nonzero(array == codes[0])), int(np.count_nonzero(array == codes[1])))
    with np.errstate(over="ignore", invalid="ignore"):
        values = np.ascontiguousarray(array, np.float32)
        channels = axis is not None and values.ndim > axis
        lead = math.prod(values.shape[:axis]) if channels else 1
        count = values.shape[axis] if channels and axis is not None else 1
        rows = values.reshape(lead, count, -1)
        low, high, total, square = _by_column(rows) if rows.shape[2] == 1 else _by_row(rows)
    stride = _stride(values.size)
    # Consecutive samples start a golden ratio of the stride apart, which spreads any number of them evenly.
    start = int(stride * ((number * 0.6180339887498949) % 1.0))
    return Reduced(low, high, total, square, values.size, float_codes(values, start, stride), ends, channels)


def _by_row(rows: Single) -> tuple[Single, Single, npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Statistics of `[lead, channel, value]` for each channel, its values lying together."""
    lead, channels, length = rows.shape
    part = _part(length)
    parts = rows.reshape(lead, channels, length // part, part)
    low, high = np.minimum.reduce(parts, axis=3), np.maximum.reduce(parts, axis=3)
    total = np.matmul(parts[..., None, :], _ones(part))[..., 0, 0]
    square = np.matmul(parts[..., None, :], parts[..., None])[..., 0, 0]
    if low.shape[0] == low.shape[2] == 1:
        return low[0, :, 0], high[0, :, 0], total[0, :, 0].astype(np.float64), square[0, :, 0].astype(np.float64)
    return (
        low.min(axis=(0, 2)),
        high.max(axis=(0, 2)),
        total.sum(axis=(0, 2), dtype=np.float64),
        square.sum(axis=(0, 2), dtype=np.float64),
    )


def _by_column(rows: Single) -> tuple[Single, Single, npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The same with the channels along the last axis."""
    table = rows[:, :, 0]
    return (
        table.min(axis=0),
        table.max(axis=0),
        table.sum(axis=0, dtype=np.float64),
        np.asarray(np.einsum("rc,rc->c", table, table, dtype=np.float64)),
    )


@lru_cache(maxsize=256)
def _part(length: int) -> int:
    """The largest divisor of `length` that is no longer than a row; `length` itself if all are short."""
    if length <= _ROW:
        return length
    best = max(part for small in range(1, math.isqrt(length) + 1) if length % small == 0
               for part in (small, length // small) if part <= _ROW)  # fmt: skip
    return best if best >= 64 else length


@lru_cache(maxsize=64)
def _ones(length: int) -> Single:
    return np.ones((length, 1), np.float32)


@lru_cache(maxsize=4096)
def _stride(size: int) -> int:
    """Distance of the values that are counted: a prime that does not divide the size.

    So the subset is in step with no axis: all rows, columns and channels get their share.
    """
    stride = -(-size // SUBSET)
    while stride > 1 and (size % stride == 0 or any(stride % small == 0 for small in range(2, math.isqrt(stride) + 1))):
        stride += 1
    return stride


class Sums:
    """The running statistics of one tensor."""

    def __init__(self, whole: bool) -> None:
        self.whole = whole
        self.low = self.high = np.zeros(0, np.float32)
        self.total = self.square = np.zeros(0)
        self.size = 0
        self.ends = [0, 0]
        self.lows: list[np.float32] = []
        self.highs: list[np.float32] = []
        self.channels = True
        self.histogram = Histogram.empty(whole)
        self._waiting: list[Codes] = []

    def add(self, new: Reduced) -> None:
        """One more sample."""
        low, high, total, square = new.low, new.high, new.total, new.square
        # np.min keeps a NaN, so one bad sample marks the tensor for good.
        self.lows.append(low.min())
        self.highs.append(high.max())
        self.channels &= new.channels and self.low.size in {0, low.size}
        if not self.channels:
            low, high = low.min(keepdims=True), high.max(keepdims=True)
            total, square = total.sum(keepdims=True), square.sum(keepdims=True)
            if self.size:
                self.low, self.high = self.low.min(keepdims=True), self.high.max(keepdims=True)
                self.total, self.square = self.total.sum(keepdims=True), self.square.sum(keepdims=True)
        if self.size:
            low, high = np.minimum(self.low, low), np.maximum(self.high, high)
            total, square = self.total + total, self.square + square
        self.low, self.high, self.total, self.square = low, high, total, square
        self.size += new.size
        self.ends = [self.ends[0] + new.ends[0], self.ends[1] + new.ends[1]]
        self._waiting.append(new.codes)
        if len(self._waiting) >= _WAITING:
            self._count()

    def _count(self) -> None:
        self.histogram += Histogram.of_codes(self._waiting, self.whole)
        self._waiting = []

    def result(self) -> TensorObservation | None:
        """What was seen; None if a value was NaN or infinite."""
        if not (np.isfinite(self.low).all() and np.isfinite(self.high).all() and np.isfinite(self.total).all()):
            return None
        self._count()
        share = self.low.size / self.size
        channels = ChannelObservation(
            self.low.astype(np.float64), self.high.astype(np.float64), self.total * share, self.square * share
        )
        return TensorObservation(
            low=float(self.low.min()),
            high=float(self.high.max()),
            mean=float(self.total.sum() / self.size),
            power=float(self.square.sum() / self.size),
            size=self.size,
            histogram=self.histogram,
            lows=np.asarray(self.lows, np.float32),
            highs=np.asarray(self.highs, np.float32),
            channels=channels if self.channels else None,
            ends=(self.ends[0] / self.size, self.ends[1] / self.size) if self.whole else None,
        )


class Collector:
    """The running statistics of all tensors."""

    def __init__(self, tensors: Sequence[str], codes: Mapping[str, tuple[int, int]]) -> None:
        self.samples = 0
        self.sums = {tensor: Sums(tensor in codes) for tensor in tensors}

    def add(self, sample: Mapping[str, Reduced]) -> None:
        """One more sample; a tensor that held nothing is not in it."""
        for tensor, reduced in sample.items():
            self.sums[tensor].add(reduced)
        self.samples += 1

    def result(self) -> tuple[dict[str, TensorObservation], tuple[str, ...]]:
        """Observations by tensor, and the tensors that held NaN or infinity."""
        made = {tensor: sums.result() for tensor, sums in self.sums.items() if sums.size}
        found = {tensor: seen for tensor, seen in made.items() if seen is not None}
        return found, tuple(tensor for tensor in made if tensor not in found)
