"""The statistics of one sample's tensors.

Tensors are read where ONNX Runtime left them, by few and long vectorised calls. Extremes of all channels of all
tensors lie one after the other in one vector, so that adding up a sample takes a few calls and not a few for each
tensor. The histogram, and what follows from it, takes a regular subset of each tensor's values.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from onnxlint_q.analysis.observed.histogram import Codes, float_codes

Array = npt.NDArray[Any]
Single = npt.NDArray[np.float32]
# Values of a tensor that the histogram counts: of one sample at least and at most, and of all samples, if they are
# enough.
_LEAST, _MOST, _COUNTED = 1 << 10, 1 << 13, 1 << 17
_GOLDEN = 0.6180339887498949


def subset_size(samples: int) -> int:
    """How many values of a tensor and sample are counted where there are so many samples.

    Tails decide about percentiles, and a few samples have to show them, too.
    """
    return min(max(_COUNTED // max(samples, 1), _LEAST), _MOST)


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
        stride, codes: the values that are counted, and where they go.
    """

    number: int
    order: int
    watched: Watched
    shape: tuple[int, int, int]
    channels: bool
    extremes: slice
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
        rows, counted: how many extremes and counted values there are.
    """

    def __init__(self, watched: Sequence[Watched], shapes: tuple[tuple[int, ...], ...], subset: int) -> None:
        """Lay out tensors of these shapes, of each of which at most `subset` values are counted."""
        self.shapes = shapes
        self.places: dict[int, Place] = {}
        rows = counted = 0
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
                codes=slice(counted, counted + size // stride),
            )
            self.places[number] = place
            rows, counted = place.extremes.stop, place.codes.stop
        self.rows, self.counted = rows, counted
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
        codes: upper halves of the values that are counted.
        ends: `[place, 2]`: how many values equal the lowest and the highest code.
    """

    layout: Layout
    low: Single
    high: Single
    codes: Codes
    ends: npt.NDArray[np.int64]


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
    starts = [_starts(layout, first + sample) for sample in range(count)]
    with np.errstate(over="ignore", invalid="ignore"):
        for place in layout.places.values():
            array = arrays[place.number]
            if place.watched.codes is not None:
                held = array.reshape(count, -1)
                for end, code in enumerate(place.watched.codes):
                    ends[:, place.order, end] = np.count_nonzero(held == code, axis=1)
            values = np.ascontiguousarray(array, np.float32).reshape(count, -1)
            _extremes(values, place.shape, low[:, place.extremes], high[:, place.extremes])
            for sample in range(count):
                subset = codes[sample, place.codes]
                start = starts[sample][place.order]
                subset[:] = float_codes(values[sample], start, place.stride)[: subset.size]
    return [Reduced(layout, *each) for each in zip(low, high, codes, ends, strict=True)]


def _starts(layout: Layout, sample: int) -> list[int]:
    """Where each tensor's subset starts: consecutive samples a golden ratio apart, which spreads any number of them."""
    return list((layout.starts * (sample * _GOLDEN % 1.0)).astype(np.int64).tolist())


def _extremes(values: Single, shape: tuple[int, int, int], low: Single, high: Single) -> None:
    """Extremes of `[sample, lead * channel * value]` by what `_rows` counts."""
    lead, channels, length = shape
    axis = 1 if length == 1 else 2
    each = values.reshape(len(values), *((lead, channels) if length == 1 else (lead * channels, length)))
    np.minimum.reduce(each, axis=axis, out=low)
    np.maximum.reduce(each, axis=axis, out=high)


@lru_cache(maxsize=4096)
def _stride(size: int, subset: int) -> int:
    """Distance of the values that are counted: a prime that does not divide the size.

    So the subset is in step with no axis: all rows, columns and channels get their share.
    """
    stride = -(-size // subset)
    while stride > 1 and (size % stride == 0 or any(stride % small == 0 for small in range(2, math.isqrt(stride) + 1))):
        stride += 1
    return stride
