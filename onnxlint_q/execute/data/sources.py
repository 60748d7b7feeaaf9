"""Calibration data: sources that give one sample at a time, checked against the model's inputs before any is run."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from onnxlint_q.analysis.sizes.usual import OPEN_LENGTH, OPEN_SIDE
from onnxlint_q.errors import DataError, UsageError
from onnxlint_q.execute.data.archives import read_arrays
from onnxlint_q.execute.data.images import SUFFIXES, ImageFolder
from onnxlint_q.execute.data.preprocess import Preprocessing
from onnxlint_q.execute.data.source import Array, Sample, Source, dtype_of
from onnxlint_q.execute.limits import DEFAULT_LIMITS, Limits
from onnxlint_q.graph import Value
from onnxlint_q.graph.tensors import MOST_AXES

RANDOM = "random"
DATA = f"an .npz, an .npy, a folder of images or of .npz, or `{RANDOM}`"
"""What `open_source` opens, in words."""

_SEED = 0
# Values of one random sample: an input that wants more is not meant to be filled with noise.
_NOISE_VALUES = 1 << 27


class ArraySource(Source):
    """Arrays by input name, the samples stacked along the first axis."""

    def __init__(self, name: str, arrays: Mapping[str, Array]) -> None:
        self.name = name
        self.arrays = arrays

    def available(self, inputs: Sequence[Value], enough: int = 0) -> int:
        """The largest number of samples of any input."""
        return max(map(len, self._columns(inputs).values()), default=0)

    def samples(self, inputs: Sequence[Value]) -> Iterator[Sample]:
        """The slices of the arrays."""
        columns = self._columns(inputs)
        count = self.available(inputs)
        for name, column in columns.items():
            if len(column) not in {1, count}:
                raise DataError(
                    f"{self.name}: input {name!r} has {len(column)} samples, others have {count}; give as many of each"
                )
        for index in range(count):
            yield {name: column[index % len(column)] for name, column in columns.items()}

    def _columns(self, inputs: Sequence[Value]) -> dict[str, Sequence[Array]]:
        return {value.name: _slices(value, self._array(value, inputs), self.name) for value in inputs}

    def _array(self, value: Value, inputs: Sequence[Value]) -> Array:
        if value.name in self.arrays:
            return self.arrays[value.name]
        if len(inputs) == 1 == len(self.arrays):
            return next(iter(self.arrays.values()))
        raise DataError(
            f"{self.name}: holds {', '.join(map(repr, sorted(self.arrays)))} but no array for input {value.name!r}; "
            f"name the arrays {', '.join(repr(v.name) for v in inputs)}"
        )


class ArrayFile(Source):
    """An .npz or .npy file; it is read when its samples are first asked for."""

    def __init__(self, path: Path, limits: Limits = DEFAULT_LIMITS) -> None:
        self.name = str(path)
        self.path = path
        self.limits = limits

    def available(self, inputs: Sequence[Value], enough: int = 0) -> int:
        """The largest number of samples of any input."""
        return self._arrays.available(inputs)

    def samples(self, inputs: Sequence[Value]) -> Iterator[Sample]:
        """The slices of the arrays."""
        return self._arrays.samples(inputs)

    @cached_property
    def _arrays(self) -> ArraySource:
        return ArraySource(self.name, read_arrays(self.path, self.limits))


class _Parts(Source):
    """Arrays in several parts, each with one sample or more."""

    def available(self, inputs: Sequence[Value], enough: int = 0) -> int:
        """What the first parts hold, until that is enough, and one for each of the others."""
        counted = 0
        for read in range(self.parts):
            if counted >= enough:
                return counted + self.parts - read
            counted += self.part(read).available(inputs)
        return counted

    def samples(self, inputs: Sequence[Value]) -> Iterator[Sample]:
        """The samples of each part after those of the one before."""
        for number in range(self.parts):
            yield from self.part(number).samples(inputs)

    @property
    @abstractmethod
    def parts(self) -> int:
        """How many there are."""

    @abstractmethod
    def part(self, number: int) -> ArraySource:
        """One of them."""


class ArrayFolder(_Parts):
    """A folder of .npz or .npy files, read in the order of their names."""

    def __init__(self, folder: Path, files: Sequence[Path], limits: Limits = DEFAULT_LIMITS) -> None:
        self.name = str(folder)
        self.files = files
        self.limits = limits

    @property
    def parts(self) -> int:
        """The number of files."""
        return len(self.files)

    def part(self, number: int) -> ArraySource:
        """A file, read anew."""
        path = self.files[number]
        return ArraySource(str(path), read_arrays(path, self.limits))


class ArrayList(_Parts):
    """Arrays by input name, given one after another, each as a file of a folder would hold them."""

    def __init__(self, name: str, given: Sequence[Mapping[str, Array]]) -> None:
        self.name = name
        self.given = given

    @property
    def parts(self) -> int:
        """How many were given."""
        return len(self.given)

    def part(self, number: int) -> ArraySource:
        """One of those that were given."""
        return ArraySource(f"{self.name}, item {number}", self.given[number])


class RandomSource(Source):
    """Seeded noise: N(0, 1) for floats, zeros and ones for integers and booleans. Says little about real ranges."""

    name = RANDOM
    preprocessing = "standard normal noise, seed 0"
    synthetic = True

    def shapes(self, inputs: Sequence[Value]) -> Mapping[str, tuple[int, ...]]:
        """Noise fits anything."""
        return {}

    def available(self, inputs: Sequence[Value], enough: int = 0) -> None:
        """There is no end."""

    def samples(self, inputs: Sequence[Value]) -> Iterator[Sample]:
        """Samples without end."""
        generator = np.random.default_rng(_SEED)
        while True:
            yield {value.name: _noise(value, generator) for value in inputs}


def open_source(where: str, preprocessing: Preprocessing, limits: Limits = DEFAULT_LIMITS) -> Source:
    """The source that a user names; nothing of it is read yet.

    Args:
        where: a file, a folder, or `random`.
        preprocessing: of images.
        limits: how much an archive may hold.

    Raises:
        UsageError: there is nothing there, or nothing that samples can be read from.
    """
    if where == RANDOM:
        return RandomSource()
    path = Path(where)
    if where and path.is_file():
        return ArrayFile(path, limits)
    if not where or not path.is_dir():
        raise UsageError(f"calibration data {where}: no such file or folder; pass {DATA}")
    files = sorted(entry for entry in path.iterdir() if entry.is_file() and not entry.name.startswith("."))
    images = [entry for entry in files if entry.suffix.lower() in SUFFIXES]
    arrays = [entry for entry in files if entry.suffix.lower() in {".npz", ".npy"}]
    if images:
        return ImageFolder(path, images, preprocessing)
    if arrays:
        return ArrayFolder(path, arrays, limits)
    raise UsageError(
        f"calibration data {where}: holds no images and no .npz or .npy files; give a folder that does (subfolders are "
        "not searched)"
    )


def _slices(value: Value, array: Array, source: str) -> Sequence[Array]:
    """`array` cut into samples of the input `value`."""
    wanted = value.type.shape
    if wanted is None:
        if not array.ndim:
            return [array]
        return [_checked(value, row[None], source, index) for index, row in enumerate(array)]
    first = wanted[0] if wanted else None
    if array.ndim == len(wanted) + 1:
        return _Rows(value, array, source, 0)
    if array.ndim == len(wanted) and first is None and not value.batched:
        return [_checked(value, array, source, 0)]
    if array.ndim == len(wanted):
        return _Rows(value, array, source, first or 1) if wanted else [_checked(value, array, source, 0)]
    if array.ndim == len(wanted) - 1:
        return [_checked(value, array[None], source, 0)]
    raise DataError(
        f"{source}: input {value.name!r} has shape {value.shape_text}, but the data has "
        f"{list(array.shape)}; stack the samples along the first axis"
    )


@dataclass(frozen=True, eq=False)
class _Rows(Sequence[Array]):
    """Samples of one input, cut out of a stack when asked for; `step` 0 takes single rows without their axis."""

    value: Value
    array: Array
    source: str
    step: int

    def __len__(self) -> int:
        return len(self.array) // max(self.step, 1)

    def __getitem__(self, index: Any) -> Any:
        row = self.array[index * self.step : (index + 1) * self.step] if self.step else self.array[index]
        return _checked(self.value, row, self.source, index)


def _checked(value: Value, sample: Array, source: str, index: int) -> Array:
    """`sample` in the input's type, after a check of its shape and values."""
    shape = value.type.shape
    if shape is not None and (
        len(shape) != sample.ndim or any(w not in {None, g} for w, g in zip(shape, sample.shape, strict=True))
    ):
        raise DataError(
            f"{source}: input {value.name!r} has shape {value.shape_text}, but sample {index} has "
            f"{list(sample.shape)}; check layout and preprocessing"
        )
    wanted = dtype_of(value)
    if wanted.isbuiltin != 1 and sample.dtype == np.dtype((np.void, wanted.itemsize)):
        sample = sample.view(wanted)  # numpy stores a type that is not its own, such as bfloat16, as plain bytes
    if not np.can_cast(sample.dtype, wanted, "same_kind") and not (
        np.issubdtype(sample.dtype, np.integer) and np.issubdtype(wanted, np.inexact)
    ):
        raise DataError(f"{source}: input {value.name!r} needs {wanted}, but the data is {sample.dtype}; convert it")
    with np.errstate(over="ignore"):
        converted = np.asarray(sample, wanted, order="C")
    if np.issubdtype(wanted, np.integer) and not np.array_equal(converted, sample):
        raise DataError(
            f"{source}: sample {index} of input {value.name!r} holds values outside {wanted}; check the data"
        )
    if np.issubdtype(wanted, np.floating) and not (finite := np.isfinite(converted)).all():
        bad = f"NaN or infinity in {finite.size - np.count_nonzero(finite)} of {finite.size} values"
        raise DataError(f"{source}: sample {index} of input {value.name!r} holds {bad}; clean the data")
    return converted


def _noise(value: Value, generator: np.random.Generator) -> Array:
    dtype = dtype_of(value)
    if value.type.shape is None:
        raise DataError(f"input {value.name!r} has no known shape, so noise cannot fill it; give an .npz")
    rank = len(value.type.shape)
    # A free dimension is a batch of one, or a picture's side, or a short sequence.
    free = [1 if axis == 0 else (OPEN_SIDE if rank == 4 and axis >= 2 else OPEN_LENGTH) for axis in range(rank)]
    shape = value.taken or [free[axis] if dim is None else dim for axis, dim in enumerate(value.type.shape)]
    if rank > MOST_AXES:
        raise DataError(
            f"input {value.name!r} has {rank} axes, arrays have at most {MOST_AXES}; it cannot be calibrated"
        )
    if math.prod(shape) > _NOISE_VALUES:
        raise DataError(f"input {value.name!r} of shape {value.shape_text} is too large for noise; give an .npz")
    if np.issubdtype(dtype, np.inexact) or dtype.kind == "V":
        return generator.standard_normal(shape).astype(dtype)
    return generator.integers(0, 2, shape).astype(dtype)
