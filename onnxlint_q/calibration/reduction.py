"""The statistics of one sample's tensors, and their sum over samples.

A tensor is read where ONNX Runtime left it, while it is still in the processor's cache, and only numpy's vectorised
loops touch all of its values: extremes, sum and sum of squares of each channel. They release the interpreter's lock,
so that several samples are worked on at once. The histogram takes a regular subset of at most SUBSET values a tensor
and sample.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from onnxlint_q.analysis.histogram import Codes, Histogram, float_codes
from onnxlint_q.analysis.observations import ChannelObservation, TensorObservation

Array = npt.NDArray[Any]
Single = npt.NDArray[np.float32]
SUBSET = 1024
# Rows of this many values: numpy's BLAS starts threads of its own above 10,000, and float32 sums stay accurate.
_ROW = 8192
# Samples whose subsets wait to be counted together; counting costs the same for one sample as for many.
_WAITING = 64
_GOLDEN = 0.6180339887498949


class Reduced(NamedTuple):
    """One tensor of one sample.

    Attributes:
        low, high, total, square: extremes, sum and sum of squares of each channel; of all values where `channels` is
            false.
        size: how many values.
        codes: upper halves of a subset of the values.
        ends: how many values equal the lowest and the highest code.
        channels: the tensor has an axis of channels.
    """

    low: Array
    high: Array
    total: Array
    square: Array
    size: int
    codes: Codes
    ends: tuple[int, int]
    channels: bool


def reduce_tensor(
    array: Array,
    axis: int | None,
    number: int,
    codes: tuple[int, int] | None = None,
    extremes: tuple[Array, Array] | None = None,
) -> Reduced:
    """Reduce one tensor, which holds at least one value. NaN and infinity go through and warn of nothing.

    Args:
        array: its values.
        axis: where its channels are, None if it has none.
        number: which sample it is from; each takes its subset from another place.
        codes: the lowest and the highest code, if it holds codes.
        extremes: smallest and largest value by channel, where they are known already.
    """
    ends = (0, 0)
    if codes is not None:
        ends = (int(np.count_nonzero(array == codes[0])), int(np.count_nonzero(array == codes[1])))
    values = np.ascontiguousarray(array, np.float32)
    size = values.size
    channels = axis is not None and values.ndim > axis
    count = values.shape[axis] if channels and axis is not None else 1
    lead = math.prod(values.shape[:axis]) if channels else 1
    length = size // (lead * count)
    if extremes is not None and extremes[0].size != count:
        extremes = None
    found = _by_column(values.reshape(lead, count)) if length == 1 else _by_row(values, lead, count, length, extremes)
    stride = _stride(size)
    # Consecutive samples start a golden ratio of the stride apart, which spreads any number of them evenly.
    start = int(stride * (number * _GOLDEN % 1.0))
    return Reduced(*found, size, float_codes(values, start, stride), ends, channels)


def _by_row(
    values: Single, lead: int, count: int, length: int, extremes: tuple[Array, Array] | None
) -> tuple[Array, Array, Array, Array]:
    """Extremes, sum and sum of squares of `[lead, channel, value]` by channel, its values lying together."""
    part = _part(length)
    rows = values.reshape(-1, part)
    low, high = extremes or (np.minimum.reduce(rows, axis=1), np.maximum.reduce(rows, axis=1))
    upright = rows[:, None, :]
    total = np.matmul(upright, _ones(part)).reshape(-1)
    square = np.matmul(upright, rows[:, :, None]).reshape(-1)
    if rows.shape[0] == count:
        return low, high, total, square
    shape = (lead, count, length // part)
    if extremes is None:
        low, high = low.reshape(shape).min(axis=(0, 2)), high.reshape(shape).max(axis=(0, 2))
    return (
        low,
        high,
        total.reshape(shape).sum(axis=(0, 2), dtype=np.float64),
        square.reshape(shape).sum(axis=(0, 2), dtype=np.float64),
    )


def _by_column(table: Single) -> tuple[Array, Array, Array, Array]:
    """The same of `[value, channel]`."""
    if len(table) == 1:
        return table[0].copy(), table[0].copy(), table[0].copy(), np.square(table[0])
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
    """The running statistics of one tensor; samples wait until it pays to add them up."""

    def __init__(self, whole: bool) -> None:
        self.whole = whole
        self.waiting: list[Reduced] = []
        self._sum: TensorObservation | None = None
        self._finite = True

    def add(self, new: Reduced) -> None:
        """One more sample."""
        self.waiting.append(new)
        if len(self.waiting) >= _WAITING:
            self._settle()

    @property
    def seen(self) -> bool:
        """Whether there was any value."""
        return bool(self.waiting) or self._sum is not None or not self._finite

    def result(self) -> TensorObservation | None:
        """What was seen; None if a value was NaN or infinite."""
        self._settle()
        return self._sum if self._finite else None

    def _settle(self) -> None:
        if self.waiting and self._finite:
            with np.errstate(over="ignore", invalid="ignore"):  # sums of NaN and infinity, marked in the next line
                new = _observation(self.waiting, self.whole)
            # NaN and infinity stay in what they are compared with, so one bad sample marks the tensor for good.
            self._finite = math.isfinite(new.low) and math.isfinite(new.high) and math.isfinite(new.mean)
            self._sum = new if self._sum is None else self._sum + new
        self.waiting = []


def _observation(samples: Sequence[Reduced], whole: bool) -> TensorObservation:
    """Some samples of one tensor together."""
    size = sum(sample.size for sample in samples)
    channels = None
    totals, squares = [s.total for s in samples], [s.square for s in samples]
    if all(s.channels and s.low.size == samples[0].low.size for s in samples):
        low, high = np.stack([s.low for s in samples]), np.stack([s.high for s in samples])
        lows, highs = low.min(axis=1), high.max(axis=1)
        share = low.shape[1] / size
        channels = ChannelObservation(
            low.min(axis=0).astype(np.float64),
            high.max(axis=0).astype(np.float64),
            np.asarray(np.sum(totals, axis=0, dtype=np.float64) * share),
            np.asarray(np.sum(squares, axis=0, dtype=np.float64) * share),
        )
        mean, power = float(channels.mean.mean()), float(channels.power.mean())
    else:
        lows, highs = np.asarray([s.low.min() for s in samples]), np.asarray([s.high.max() for s in samples])
        mean, power = (float(sum(p.sum(dtype=np.float64) for p in parts)) / size for parts in (totals, squares))
    ends = [sum(s.ends[side] for s in samples) / size for side in (0, 1)]
    return TensorObservation(
        low=float(lows.min()),
        high=float(highs.max()),
        mean=mean,
        power=power,
        size=size,
        histogram=Histogram.of_codes((s.codes for s in samples), whole),
        lows=lows,
        highs=highs,
        channels=channels,
        ends=(ends[0], ends[1]) if whole else None,
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
        made = {tensor: sums.result() for tensor, sums in self.sums.items() if sums.seen}
        found = {tensor: seen for tensor, seen in made.items() if seen is not None}
        return found, tuple(tensor for tensor in made if tensor not in found)
