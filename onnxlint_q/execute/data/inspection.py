"""One pass over the calibration data before the model runs: what it looks like, not what the model does with it.

Nothing is kept of a sample but a digest, one number on its smoothness, and for images a thumbnail; and no more samples
are looked at than `INSPECTED`. So memory is bounded whatever the source.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxlint_q.analysis.image.inputs import channels_last
from onnxlint_q.analysis.image.stem import Stem
from onnxlint_q.analysis.measured import Measured
from onnxlint_q.analysis.observed.data_summary import DataSummary, ImageSummary, InputSummary, Patches
from onnxlint_q.errors import DataError
from onnxlint_q.execute.data.source import Source
from onnxlint_q.execute.progress import Progress, silent
from onnxlint_q.graph import Value

Array = npt.NDArray[Any]
Vector = npt.NDArray[np.float64]

# Samples that are looked at: ten times what a verdict needs, and few enough to compare each with each.
INSPECTED = 512
# Images whose thumbnails correlate so much show the same thing; of 300 photographs no two exceed 0.82.
ALIKE = 0.99
_THUMBNAIL = 16
_SMALLEST_SIDE = 8
# Windows of each image along each axis, spread evenly.
_WINDOWS = 20


def inspect(measured: Measured, source: Source, count: int = 32, progress: Progress = silent) -> DataSummary:
    """Look at the first `count` samples, at most `INSPECTED`, as the model would get them.

    Raises:
        DataError: the data does not fit the model or there is none.
    """
    inputs = measured.model.inputs
    available = source.available(inputs, enough=count)
    if source.synthetic:
        return DataSummary(source.name, True, count, available)
    planned = min(count, INSPECTED, count if available is None else max(available, 1))
    views = {value.name: _Input(measured.stem if _feeds(value, measured.stem) else None) for value in inputs}
    digests: list[bytes] = []
    for sample in source.take(inputs, min(count, INSPECTED)):
        digest = hashlib.blake2b(digest_size=16)
        for name, view in views.items():
            view.add(np.ascontiguousarray(sample[name]))
            digest.update(view.digests[-1])
        digests.append(digest.digest())
        progress("inspecting", len(digests), max(planned, len(digests)))
    if not digests:
        raise DataError(f"{source.name}: holds no samples; give at least one")
    duplicates = _groups(digests)
    images = [view.thumbnails for view in views.values() if view.image is not None]
    return DataSummary(
        source=source.name,
        synthetic=False,
        samples=len(digests),
        available=available,
        names=tuple(source.sample_name(index) for index in range(len(digests))),
        duplicates=duplicates,
        alike=_alike(images[0], {i for group in duplicates for i in group[1:]}) if len(images) == 1 else (),
        inputs={name: view.summary() for name, view in views.items()},
    )


def _feeds(value: Value, stem: Stem | None) -> bool:
    return stem is not None and stem.input == value.name


def _groups(digests: Sequence[bytes]) -> tuple[tuple[int, ...], ...]:
    """Indices of equal digests, where there are several."""
    found: dict[bytes, list[int]] = {}
    for index, digest in enumerate(digests):
        found.setdefault(digest, []).append(index)
    return tuple(tuple(group) for group in found.values() if len(group) > 1)


def _alike(thumbnails: Sequence[Vector], left_out: set[int]) -> tuple[tuple[int, ...], ...]:
    """Groups of images that nearly coincide with the first of their group; flat ones and `left_out` are in none."""
    size = thumbnails[0].size if thumbnails else 0
    # Where a model takes pictures of any size, one may have fewer blocks than the first; it is like none.
    matrix = np.stack([one if one.size == size else np.zeros(size) for one in thumbnails])
    near = matrix @ matrix.T >= ALIKE
    taken = set(left_out)
    groups: list[tuple[int, ...]] = []
    for index, row in enumerate(near):
        if index in taken:
            continue
        group = [int(other) for other in np.flatnonzero(row) if other >= index and other not in taken]
        if len(group) > 1:
            groups.append(tuple(group))
            taken.update(group)
    return tuple(groups)


@dataclass
class _Input:
    """Running figures of one input.

    Attributes:
        stem: the layer that it feeds, where that is known.
    """

    stem: Stem | None
    shape: tuple[int, ...] | None = None
    floating: bool = False
    low: float = np.inf
    high: float = -np.inf
    pivot: float = 0.0
    powers: Vector = field(default_factory=lambda: np.zeros(5))
    constant: list[int] = field(default_factory=list)
    digests: list[bytes] = field(default_factory=list)
    thumbnails: list[Vector] = field(default_factory=list)
    image: _Image | None = None

    def add(self, stored: Array) -> None:
        """One sample."""
        self.digests.append(hashlib.blake2b(np.atleast_1d(stored).view(np.uint8).data).digest())
        values = _as_float(stored)
        if self.shape is None:
            self.shape = stored.shape
            self.floating = stored.dtype.kind not in "biu"
            self.pivot = float(values.flat[0]) if values.size else 0.0
            if _is_image(stored.shape, self.stem):
                self.image = _Image(self.stem)
        if not values.size:
            self.thumbnails.append(np.empty(0))
            return
        low, high = float(values.min()), float(values.max())
        self.low, self.high = min(self.low, low), max(self.high, high)
        if low == high:
            self.constant.append(len(self.digests) - 1)
        with np.errstate(all="ignore"):  # squares of huge values
            moved = np.ravel(values) - self.pivot
            square = moved * moved
            self.powers += np.asarray([moved.size, moved.sum(), square.sum(), square @ moved, square @ square])
        if self.image is not None:
            fits = _is_image(stored.shape, self.stem) and self.image.fits(stored.shape)
            self.thumbnails.append(self.image.add(values) if fits else np.empty(0))

    def summary(self) -> InputSummary:
        """The figures so far."""
        with np.errstate(all="ignore"):
            _, first, second, third, fourth = self.powers / max(self.powers[0], 1)
            variance = max(second - first**2, 0.0)
            skewness = (third - 3 * first * second + 2 * first**3) / variance**1.5
            kurtosis = (fourth - 4 * first * third + 6 * first**2 * second - 3 * first**4) / variance**2
        return InputSummary(
            shape=self.shape or (),
            floating=self.floating,
            values=int(self.powers[0]),
            low=self.low,
            high=self.high,
            mean=float(first + self.pivot),
            deviation=float(np.sqrt(variance)),
            skewness=float(skewness),
            kurtosis=float(kurtosis),
            constant=tuple(self.constant),
            unchanging=len(set(self.digests)) == 1,
            image=self.image.summary() if self.image is not None else None,
        )


class _Image:
    """Running figures of an image input."""

    def __init__(self, stem: Stem | None) -> None:
        self.stem = stem
        self.low: Vector = np.empty(0)
        self.high: Vector = np.empty(0)
        self.total: Vector = np.empty(0)
        self.square: Vector = np.empty(0)
        self.pixels = 0
        self.correlation: list[float] = []
        self.windows = 0
        self.window_total: Vector = np.empty(0)
        self.window_square: Vector = np.empty((0, 0))

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether a picture of this shape has the colours of those before it."""
        last = self.stem.channels_last if self.stem is not None else channels_last(shape)
        return not self.pixels or shape[3 if last else 1] == self.low.size

    def add(self, values: Vector) -> Vector:
        """One sample; returns its thumbnail, of unit norm and zero mean, or all zero without contrast."""
        last = self.stem.channels_last if self.stem is not None else channels_last(values.shape)
        planes = np.moveaxis(values, 3, 1) if last else values
        channels = planes.shape[1]
        if not self.pixels:
            self.low, self.high = np.full(channels, np.inf), np.full(channels, -np.inf)
            self.total, self.square = np.zeros(channels), np.zeros(channels)
        self.low = np.minimum(self.low, planes.min(axis=(0, 2, 3)))
        self.high = np.maximum(self.high, planes.max(axis=(0, 2, 3)))
        with np.errstate(all="ignore"):
            self.total = self.total + planes.sum(axis=(0, 2, 3))
            self.square = self.square + np.square(planes).sum(axis=(0, 2, 3))
            self.correlation.append(_neighbours(planes))
        self.pixels += planes[:, 0].size
        if self.stem is not None:
            self._add_windows(planes, self.stem.kernel.shape[2:])
        return _thumbnail(planes)

    def _add_windows(self, planes: Vector, size: tuple[int, ...]) -> None:
        channels, height, width = planes.shape[1:]
        if height < size[0] or width < size[1]:
            return
        views = np.lib.stride_tricks.sliding_window_view(planes, size, axis=(2, 3))
        rows = np.linspace(0, height - size[0], min(_WINDOWS, height - size[0] + 1)).astype(np.intp)
        columns = np.linspace(0, width - size[1], min(_WINDOWS, width - size[1] + 1)).astype(np.intp)
        chosen = views[:1, :, rows[:, None], columns[None, :]]
        flat = chosen.transpose(0, 2, 3, 1, 4, 5).reshape(-1, channels * size[0] * size[1])
        if not self.windows:
            self.window_total = np.zeros(flat.shape[1])
            self.window_square = np.zeros((flat.shape[1], flat.shape[1]))
        self.windows += len(flat)
        with np.errstate(all="ignore"):
            self.window_total += flat.sum(axis=0)
            self.window_square += flat.T @ flat

    def summary(self) -> ImageSummary:
        """The figures so far."""
        patches = None
        if self.stem is not None and self.windows:
            mean = self.window_total / self.windows
            covariance = self.window_square / self.windows - np.outer(mean, mean)
            patches = Patches(mean.reshape(self.stem.kernel.shape[1:]), covariance)
        mean = self.total / max(self.pixels, 1)
        return ImageSummary(
            low=self.low,
            high=self.high,
            deviation=np.sqrt(np.maximum(self.square / max(self.pixels, 1) - mean**2, 0.0)),
            correlation=np.asarray(self.correlation),
            patches=patches,
        )


def _as_float(stored: Array) -> Vector:
    """The values in double precision; a complex number is two of them."""
    real = stored.view(stored.real.dtype) if np.iscomplexobj(stored) and stored.ndim else np.asarray(stored.real)
    return np.asarray(real, np.float64)


def _is_image(shape: tuple[int, ...], stem: Stem | None) -> bool:
    """Whether a sample is one picture: two axes of pixels and one of colours."""
    if len(shape) != 4 or 0 in shape:
        return False
    last = stem.channels_last if stem is not None else channels_last(shape)
    channels, sides = (shape[3], shape[1:3]) if last else (shape[1], shape[2:])
    if stem is not None:
        return int(stem.kernel.shape[1]) == channels
    return shape[0] == 1 and channels in {1, 3} and all(side >= _SMALLEST_SIDE for side in sides)


def _neighbours(planes: Vector) -> float:
    """Correlation of pixels beside and below each other, each channel about its own mean."""
    centred = planes - planes.mean(axis=(2, 3), keepdims=True)
    power = float(np.square(centred).mean())
    if not power > 0 or min(planes.shape[2:]) < 2:
        return float("nan")
    down = float((centred[:, :, 1:] * centred[:, :, :-1]).mean())
    right = float((centred[:, :, :, 1:] * centred[:, :, :, :-1]).mean())
    return (down + right) / (2 * power)


def _thumbnail(planes: Vector) -> Vector:
    """Block averages of all channels."""
    rows, columns = (np.linspace(0, side, min(_THUMBNAIL, side) + 1).astype(np.intp)[:-1] for side in planes.shape[2:])
    blocks = np.add.reduceat(np.add.reduceat(planes[0], rows, axis=1), columns, axis=2)
    height, width = np.diff([*rows, planes.shape[2]]), np.diff([*columns, planes.shape[3]])
    small = blocks / np.outer(height, width)
    centred = (small - small.mean()).ravel()
    norm = float(np.linalg.norm(centred))
    return np.asarray(centred / norm if norm > 1e-12 * (1 + float(np.abs(small).max())) else 0 * centred, np.float64)
