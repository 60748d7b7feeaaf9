"""The statistics of one sample's tensors, and their sum over samples.

Tensors are read where ONNX Runtime left them, by few and long vectorised calls. Extremes of all channels of all
tensors lie one after the other in one vector, and so do sums, so that adding up a sample takes a few calls and not a
few for each tensor. The histogram takes a regular subset of at most SUBSET values a tensor and sample.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache, reduce
from itertools import chain
from operator import add
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from onnxlint_q.analysis.histogram import Codes, Histogram, float_codes
from onnxlint_q.analysis.observations import ChannelObservation, TensorObservation

Array = npt.NDArray[Any]
Single = npt.NDArray[np.float32]
SUBSET = 1024
# Sums are made of parts of this many values: numpy's BLAS starts threads of its own above 10,000, and float32 sums stay
# accurate.
_PART = 8192
# Bytes of subsets that wait to be counted together; counting costs the same for one sample as for many.
_WAITING = 16 << 20
_GOLDEN = 0.6180339887498949


class Watched(NamedTuple):
    """What is known of a tensor before it is seen.

    Attributes:
        tensor: its key.
        axis: where its channels are, None if it has none.
        codes: the lowest and the highest code, if it holds codes.
    """

    tensor: str
    axis: int | None = None
    codes: tuple[int, int] | None = None


class Place(NamedTuple):
    """Where the statistics of one tensor of a sample are.

    Attributes:
        number, order: which of the tensors, and which of those that hold anything.
        watched: what it is.
        shape: its values as `[lead, channel, value]`.
        channels: it has an axis of channels.
        extremes: its extremes, by lead and channel.
        parts: its sums.
        stride, codes: the values that are counted, and where they go.
    """

    number: int
    order: int
    watched: Watched
    shape: tuple[int, int, int]
    channels: bool
    extremes: slice
    parts: slice
    stride: int
    codes: slice

    @property
    def size(self) -> int:
        """How many values the tensor holds."""
        return math.prod(self.shape)


class Layout:
    """Where the statistics of all tensors of a sample are; it follows from their shapes.

    Attributes:
        shapes: of the tensors.
        places: by number; a tensor without values has none.
        starts: by place, how many values a subset can start at: all that leave room for it, so that none is left out
            in the long run.
        rows, parts, counted: how many extremes, sums and counted values there are.
    """

    def __init__(self, watched: Sequence[Watched], shapes: tuple[tuple[int, ...], ...]) -> None:
        """Lay out tensors of these shapes."""
        self.shapes = shapes
        self.places: dict[int, Place] = {}
        rows = parts = counted = 0
        for number, (one, shape) in enumerate(zip(watched, shapes, strict=True)):
            size = math.prod(shape)
            if not size:
                continue
            channels = one.axis is not None and len(shape) > one.axis
            split = _split(shape, one.axis if channels else None)
            stride = _stride(size)
            place = Place(
                number=number,
                order=len(self.places),
                watched=one,
                shape=split,
                channels=channels,
                extremes=slice(rows, rows + _rows(split)),
                parts=slice(parts, parts + size // _part(size)),
                stride=stride,
                codes=slice(counted, counted + size // stride),
            )
            self.places[number] = place
            rows, parts, counted = place.extremes.stop, place.parts.stop, place.codes.stop
        self.rows, self.parts, self.counted = rows, parts, counted
        self.starts = np.asarray([p.size - (p.size // p.stride - 1) * p.stride for p in self.places.values()], np.int64)


def _split(shape: tuple[int, ...], axis: int | None) -> tuple[int, int, int]:
    """A shape as `[lead, channel, value]`; all values are one channel's where there is no axis of channels."""
    if axis is None:
        return 1, 1, math.prod(shape)
    return math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])


def _rows(split: tuple[int, int, int]) -> int:
    """How many extremes it takes; where a channel has a single value, they are taken over what is in front."""
    lead, count, length = split
    return count if length == 1 else lead * count


class Reduced(NamedTuple):
    """One sample.

    Attributes:
        layout: what the rest is of.
        low, high: extremes.
        total, square: sums and sums of squares.
        codes: upper halves of the values that are counted.
        ends: `[place, 2]`: how many values equal the lowest and the highest code.
    """

    layout: Layout
    low: Single
    high: Single
    total: Single
    square: Single
    codes: Codes
    ends: npt.NDArray[np.int64]


def reduce_sample(layout: Layout, arrays: Sequence[Array], sample: int) -> Reduced:
    """Reduce the tensors of one sample. NaN and infinity go through.

    Args:
        layout: of the shapes of `arrays`.
        arrays: the tensors' values.
        sample: its number; each sample's subset starts at another place.
    """
    low, high = np.empty(layout.rows, np.float32), np.empty(layout.rows, np.float32)
    total, square = np.empty(layout.parts, np.float32), np.empty(layout.parts, np.float32)
    codes = np.empty(layout.counted, np.uint16)
    ends = np.zeros((len(layout.places), 2), np.int64)
    # Consecutive samples start a golden ratio apart, which spreads any number of them evenly.
    starts = (layout.starts * (sample * _GOLDEN % 1.0)).astype(np.int64).tolist()
    with np.errstate(over="ignore", invalid="ignore"):
        for place, start in zip(layout.places.values(), starts, strict=True):
            array = arrays[place.number]
            if place.watched.codes is not None:
                ends[place.order] = [np.count_nonzero(array == code) for code in place.watched.codes]
            values = np.ascontiguousarray(array, np.float32).reshape(-1)
            _extremes(values, place.shape, low[place.extremes], high[place.extremes])
            part = _part(values.size)
            parts = values.reshape(-1, 1, part)
            np.matmul(parts, _ones(part), out=total[place.parts].reshape(-1, 1, 1))
            np.matmul(parts, values.reshape(-1, part, 1), out=square[place.parts].reshape(-1, 1, 1))
            subset = codes[place.codes]
            subset[:] = float_codes(values, start, place.stride)[: subset.size]
    return Reduced(layout, low, high, total, square, codes, ends)


def _extremes(values: Single, shape: tuple[int, int, int], low: Single, high: Single) -> None:
    """Extremes of `[lead, channel, value]` by lead and channel; by channel where each has a single value."""
    lead, count, length = shape
    table, axis = (values.reshape(lead, count), 0) if length == 1 else (values.reshape(-1, length), 1)
    np.minimum.reduce(table, axis, None, low)
    np.maximum.reduce(table, axis, None, high)


@lru_cache(maxsize=4096)
def _part(size: int) -> int:
    """The largest divisor of `size` that makes a part; `size` itself if it has none worth the name."""
    if size <= _PART:
        return size
    best = max(part for small in range(1, math.isqrt(size) + 1) if size % small == 0
               for part in (small, size // small) if part <= _PART)  # fmt: skip
    return best if best >= 64 else size


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


class Collector:
    """The running statistics of some tensors; samples wait until it pays to count their subsets."""

    def __init__(self, watched: Sequence[Watched]) -> None:
        """Nothing seen yet."""
        self.watched = watched
        self._runs: list[_Run] = []
        self._waiting = 0
        self._sums: dict[str, TensorObservation] = {}
        self._bad: set[str] = set()

    def add(self, sample: Reduced) -> None:
        """One more sample."""
        if not self._runs or self._runs[-1].layout.shapes != sample.layout.shapes:
            self._runs.append(_Run(sample.layout))
            self._waiting += self._runs[-1].bytes
        self._runs[-1].add(sample)
        self._waiting += sample.codes.nbytes
        if self._waiting >= _WAITING:
            self._settle()

    def result(self) -> tuple[dict[str, TensorObservation], tuple[str, ...]]:
        """Observations by tensor, and the tensors that held NaN or infinity; none of those that held nothing."""
        self._settle()
        found = {w.tensor: self._sums[w.tensor] for w in self.watched if w.tensor in self._sums}
        return found, tuple(w.tensor for w in self.watched if w.tensor in self._bad)

    def _settle(self) -> None:
        for number, watched in enumerate(self.watched):
            runs = [run for run in self._runs if number in run.layout.places]
            if not runs or watched.tensor in self._bad:
                continue
            new = [run.observation(number) for run in runs]
            if all(one.is_finite for one in new):
                codes = chain.from_iterable(run.counted(number) for run in runs)
                histogram = Histogram.of_codes(codes, watched.codes is not None)
                before = [self._sums[watched.tensor]] if watched.tensor in self._sums else []
                self._sums[watched.tensor] = reduce(add, [*before, replace(reduce(add, new), histogram=histogram)])
            else:  # one bad sample marks the tensor for good
                self._sums.pop(watched.tensor, None)
                self._bad.add(watched.tensor)
        self._runs, self._waiting = [], 0


class _Run:
    """Consecutive samples of the same shapes."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.low, self.high = np.full(layout.rows, np.inf, np.float32), np.full(layout.rows, -np.inf, np.float32)
        self.total, self.square = np.zeros(layout.parts), np.zeros(layout.parts)
        self.ends = np.zeros((len(layout.places), 2), np.int64)
        self.lows: list[Single] = []
        self.highs: list[Single] = []
        self.codes: list[Codes] = []
        self._starts = [place.extremes.start for place in layout.places.values()]

    @property
    def bytes(self) -> int:
        """Room that it takes, its samples' subsets aside."""
        return self.low.nbytes + self.high.nbytes + self.total.nbytes + self.square.nbytes

    def add(self, sample: Reduced) -> None:
        """One more sample."""
        with np.errstate(over="ignore", invalid="ignore"):  # sums of NaN and infinity, which mark their tensor
            np.minimum(self.low, sample.low, self.low)
            np.maximum(self.high, sample.high, self.high)
            self.lows.append(np.minimum.reduceat(sample.low, self._starts) if self._starts else sample.low)
            self.highs.append(np.maximum.reduceat(sample.high, self._starts) if self._starts else sample.high)
            self.total += sample.total
            self.square += sample.square
        self.ends += sample.ends
        self.codes.append(sample.codes)

    def counted(self, number: int) -> Iterator[Codes]:
        """A tensor's values for the histogram, sample by sample."""
        place = self.layout.places[number]
        return (codes[place.codes] for codes in self.codes)

    def observation(self, number: int) -> TensorObservation:
        """What was seen of a tensor, its histogram aside."""
        place = self.layout.places[number]
        size = len(self.codes) * place.size
        low, high = self.low[place.extremes], self.high[place.extremes]
        lows, highs = (np.asarray([sample[place.order] for sample in each]) for each in (self.lows, self.highs))
        whole = place.watched.codes is not None
        ends = (self.ends[place.order] / size).tolist()
        return TensorObservation(
            low=float(lows.min()),
            high=float(highs.max()),
            mean=float(self.total[place.parts].sum()) / size,
            power=float(self.square[place.parts].sum()) / size,
            size=size,
            histogram=Histogram.empty(whole),
            lows=lows,
            highs=highs,
            channels=_by_channel(low, high, place.shape[1]) if place.channels else None,
            ends=(ends[0], ends[1]) if whole else None,
        )


def _by_channel(low: Single, high: Single, count: int) -> ChannelObservation:
    """Extremes by channel, from those by lead and channel."""
    return ChannelObservation(
        low.reshape(-1, count).min(axis=0).astype(np.float64), high.reshape(-1, count).max(axis=0).astype(np.float64)
    )
