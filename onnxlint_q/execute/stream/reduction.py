"""The statistics of one sample's tensors.

Tensors are read where ONNX Runtime left them, by few and long vectorised calls. Extremes of all channels of all
tensors lie one after the other in one vector, so that adding up a sample takes a few calls and not a few for each
tensor. The histogram, and what follows from it, takes a regular subset of each tensor's values; codes of 8 bits are few
enough to be counted all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from onnxlint_q.analysis.observed.histogram import Codes, float_codes
from onnxlint_q.execute.limits import DEFAULT_LIMITS, StreamLimits

Array = npt.NDArray[Any]
Single = npt.NDArray[np.float32]
Double = npt.NDArray[np.float64]
# Codes that are counted one by one.
CODES = 256
_GOLDEN = 0.6180339887498949
# Values that are summed up at a time: few enough for the cache, and for a library not to take threads for them.
_SUMMED = 8192
_SINGLE_ONES, _DOUBLE_ONES = np.ones(_SUMMED, np.float32), np.ones(_SUMMED)
_LARGE, _CLOSE = 1e30, 1.01


def subset_size(samples: int, limits: StreamLimits = DEFAULT_LIMITS.stream) -> int:
    """How many values of a tensor and sample are counted where there are so many samples.

    Tails decide about percentiles, and a few samples have to show them, too.
    """
    return min(max(limits.counted // max(samples, 1), limits.fewest_counted), limits.most_counted)


class Watched(NamedTuple):
    """What is known of a tensor before it is seen.

    Attributes:
        tensor: its key.
        axis: where its channels are, None if it has none.
        codes: the lowest and the highest code, if it holds codes.
        bounds: the values beyond which it is clipped, if a quantiser reads it.
        zero: the value that stands for zero: 0, or the code of it.
    """

    tensor: str
    axis: int | None = None
    codes: tuple[int, int] | None = None
    bounds: tuple[float, float] | None = None
    zero: int = 0

    @property
    def is_rounded(self) -> bool:
        """Whether it holds codes, or what is computed from codes."""
        return self.codes is not None or self.bounds is not None

    @property
    def has_few_codes(self) -> bool:
        """Whether it holds codes and each of them is counted."""
        return self.codes is not None and self.codes[1] - self.codes[0] < CODES


class Place(NamedTuple):
    """Where the statistics of one tensor of a sample are.

    Attributes:
        number, order: which of the tensors, and which of those that hold anything.
        watched: what it is.
        shape: its values as `[lead, channel, value]`.
        channels: it has an axis of channels.
        extremes: its extremes, by lead and channel.
        stride, codes: the values of the histogram's subset, and where they go.
        row: which of the tensors whose codes are all counted; None of another, which has a subset instead.
    """

    number: int
    order: int
    watched: Watched
    shape: tuple[int, int, int]
    channels: bool
    extremes: slice
    stride: int
    codes: slice
    row: int | None

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
        rows, counted, coded: how many extremes, values of subsets, and tensors whose codes are all counted there are.
    """

    def __init__(self, watched: Sequence[Watched], shapes: tuple[tuple[int, ...], ...], subset: int) -> None:
        """Lay out tensors of these shapes, whose subsets hold at most `subset` values each."""
        self.shapes = shapes
        self.places: dict[int, Place] = {}
        rows = counted = coded = 0
        for number, (one, shape) in enumerate(zip(watched, shapes, strict=True)):
            size = math.prod(shape)
            if not size:
                continue
            channels = one.axis is not None and len(shape) > one.axis
            split = _split(shape, one.axis if channels else None)
            stride = _stride(size, subset)
            place = Place(
                number=number,
                order=len(self.places),
                watched=one,
                shape=split,
                channels=channels,
                extremes=slice(rows, rows + _rows(split)),
                stride=stride,
                codes=slice(counted, counted + (0 if one.has_few_codes else size // stride)),
                row=coded if one.has_few_codes else None,
            )
            self.places[number] = place
            rows, counted, coded = place.extremes.stop, place.codes.stop, coded + one.has_few_codes
        self.rows, self.counted, self.coded = rows, counted, coded
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
        codes: upper halves of the values of the subsets.
        ends: `[place, 2]`: how many values equal the lowest and the highest code, or lie outside the bounds.
        counts: `[coded, code]`: how often each code occurs, the lowest first.
        sums: `[place, 3]`: the sum of all values, that of their squares, and how many stand for zero.
    """

    layout: Layout
    low: Single
    high: Single
    codes: Codes
    ends: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64]
    sums: Double


def reduce_samples(layout: Layout, arrays: Sequence[Array], first: int, count: int) -> list[Reduced]:
    """Reduce the tensors of consecutive samples. NaN and infinity go through.

    Args:
        layout: of the shapes of one sample's tensors.
        arrays: the tensors' values, the samples one after the other along axis 0.
        first: number of the first sample; each sample's subset starts at another place.
        count: how many samples.
    """
    low, high = (np.empty((count, layout.rows), np.float32) for _ in range(2))
    codes = np.empty((count, layout.counted), np.uint16)
    ends = np.zeros((count, len(layout.places), 2), np.int64)
    counts = np.zeros((count, layout.coded, CODES), np.int64)
    sums = np.zeros((count, len(layout.places), 3))
    starts = [_starts(layout, first + sample) for sample in range(count)]
    with np.errstate(over="ignore", invalid="ignore"):
        for place in layout.places.values():
            held = arrays[place.number].reshape(count, -1)
            row, order = place.row, place.order
            # Codes need no float: the shortest type has the most of them in a vector.
            values = held if row is not None else np.ascontiguousarray(held, np.float32)
            lows, highs = low[:, place.extremes], high[:, place.extremes]
            _extremes(values, place.shape, lows, highs)
            if row is not None:
                counts[:, row] = [_code_counts(one, place.watched.codes) for one in values]
                sums[:, order] = _code_sums(counts[:, row], place.watched)
                continue
            sums[:, order] = _sums(values, place.watched.zero, lows, highs)
            ends[:, order] = _ends(values, place.watched, lows, highs)
            for sample in range(count):
                subset = codes[sample, place.codes]
                subset[:] = float_codes(values[sample], starts[sample][order], place.stride)[: subset.size]
    return [Reduced(layout, *each) for each in zip(low, high, codes, ends, counts, sums, strict=True)]


def _code_counts(values: Array, codes: tuple[int, int] | None) -> npt.NDArray[np.int64]:
    """How often each code occurs in one sample, from the lowest code on."""
    lowest = codes[0] if codes is not None else 0
    if values.dtype.itemsize == 1 and values.dtype.kind in "iu":
        # The bits of a signed code are those of the code plus 256.
        return np.roll(np.bincount(values.view(np.uint8), minlength=CODES), -lowest)
    return np.bincount(np.asarray(values, np.int64) - lowest, minlength=CODES)


def _code_sums(counts: npt.NDArray[np.int64], watched: Watched) -> Double:
    """`_sums` of samples whose codes are counted."""
    lowest = watched.codes[0] if watched.codes is not None else 0
    code = np.arange(lowest, lowest + CODES, dtype=np.float64)
    return np.asarray(counts @ np.stack([code, code**2, code == watched.zero], axis=1), np.float64)


def _sums(values: Single, zero: float, lows: Single, highs: Single) -> Double:
    """`[sample, 3]`: sum and sum of squares, and how many values equal `zero`."""
    sums = np.zeros((len(values), 3))
    holds_zero = lows.min() <= zero <= highs.max()
    for held, into in zip(values, sums, strict=True):
        total, squares = _summed(held, _SINGLE_ONES)
        # Short sums in float32 are as exact as the values, unless squares overflow or differ from the mean's by little.
        if not squares < _LARGE or squares * held.size < _CLOSE * total**2:
            total, squares = _summed(held, _DOUBLE_ONES)
        into[:] = total, squares, np.count_nonzero(held == np.float32(zero)) if holds_zero else 0
    return sums


def _summed(values: Single, ones: npt.NDArray[Any]) -> tuple[float, float]:
    """Sum and sum of squares: some thousand values at a time in the type of the ones, those sums in float64."""
    total = squares = 0.0
    for start in range(0, values.size, _SUMMED):
        part = values[start : start + _SUMMED].astype(ones.dtype, copy=False)
        total += float(part.dot(ones[: part.size]))
        squares += float(part.dot(part))
    return total, squares


def _ends(values: Single, watched: Watched, lows: Single, highs: Single) -> npt.NDArray[np.int64]:
    """`[sample, 2]`: how many values are the lowest and the highest code, or lie outside the bounds."""
    counts = np.zeros((len(values), 2), np.int64)
    if watched.codes is not None:
        for end, code in enumerate(watched.codes):
            counts[:, end] = np.count_nonzero(values == np.float32(code), axis=1)
    elif watched.bounds is not None:
        least, most = (np.float32(bound) for bound in watched.bounds)
        # Nearly no tensor is clipped, which its extremes tell.
        if lows.min() < least:
            counts[:, 0] = np.count_nonzero(values < least, axis=1)
        if highs.max() > most:
            counts[:, 1] = np.count_nonzero(values > most, axis=1)
    return counts


def _starts(layout: Layout, sample: int) -> list[int]:
    """Where each tensor's subset starts: consecutive samples a golden ratio apart, which spreads any number of them."""
    return list((layout.starts * (sample * _GOLDEN % 1.0)).astype(np.int64).tolist())


def _extremes(values: Array, shape: tuple[int, int, int], low: Single, high: Single) -> None:
    """Extremes of `[sample, lead * channel * value]` by what `_rows` counts."""
    lead, channels, length = shape
    axis = 1 if length == 1 else 2
    each = values.reshape(len(values), *((lead, channels) if length == 1 else (lead * channels, length)))
    # Not into the result at once: numpy would then compare codes as floats.
    low[...] = np.minimum.reduce(each, axis=axis)
    high[...] = np.maximum.reduce(each, axis=axis)


@lru_cache(maxsize=4096)
def _stride(size: int, subset: int) -> int:
    """Distance of the values that are counted: a prime that does not divide the size.

    So the subset is in step with no axis: all rows, columns and channels get their share.
    """
    stride = -(-size // subset)
    while stride > 1 and (size % stride == 0 or any(stride % small == 0 for small in range(2, math.isqrt(stride) + 1))):
        stride += 1
    return stride
