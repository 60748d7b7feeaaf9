"""Calibration data from a folder of images, each made into what the model's one input takes."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxlint_q.analysis.image.inputs import channels_last
from onnxlint_q.analysis.sizes.usual import OPEN_SIDE
from onnxlint_q.errors import DataError
from onnxlint_q.execute.data.preprocess import Preprocessing
from onnxlint_q.execute.data.source import Array, Sample, Source, dtype_of
from onnxlint_q.execute.limits import DEFAULT_LIMITS
from onnxlint_q.graph import Value

# What these names promise: Pillow goes by the content, and would start other programs for some of its formats.
_FORMATS = ("BMP", "JPEG", "PNG", "PPM", "TIFF", "WEBP")

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".tif", ".tiff"})
"""File names of images end so, in any case."""


class ImageFolder(Source):
    """A folder of images, read in the order of their names."""

    def __init__(self, folder: Path, files: Sequence[Path], preprocessing: Preprocessing) -> None:
        self.name = str(folder)
        self.files = files
        self.how = preprocessing
        self.preprocessing = preprocessing.describe()
        self.options = preprocessing.options
        self._kept: dict[tuple[Path, _ImageInput], Array] = {}

    def available(self, inputs: Sequence[Value], enough: int = 0) -> int:
        """One an image."""
        return len(self.files)

    def shapes(self, inputs: Sequence[Value]) -> Mapping[str, tuple[int, ...]]:
        """Images are fitted to the input; only a crop has a size of its own."""
        if self.how.crop is None:
            return {}
        target = _image_input(inputs, self.how)
        image = np.empty((target.channels, target.height, target.width), np.float32)
        return {target.name: target.fit(image).shape}

    def prepared(self, inputs: Sequence[Value]) -> str:
        """With the size that images are fitted to, where the model declares none."""
        target = _image_input(inputs, self.how)
        if self.how.crop is not None or target.value.taken is None:
            return self.preprocessing
        return f"{self.preprocessing}, fitted to {target.height}x{target.width}"

    def sample_name(self, index: int) -> str:
        """The image's file name."""
        return self.files[index].name

    def samples(self, inputs: Sequence[Value]) -> Iterator[Sample]:
        """Every image, preprocessed."""
        target = _image_input(inputs, self.how)
        for path in self.files:
            yield {target.name: self._fitted(path, target)}

    def pick(self, inputs: Sequence[Value], numbers: Sequence[int]) -> Iterator[Sample]:
        """Only these are read."""
        return ImageFolder(Path(self.name), [self.files[number] for number in numbers], self.how).samples(inputs)

    def _fitted(self, path: Path, target: _ImageInput) -> Array:
        """An image as the input takes it; the first ones are kept, as they are asked for again and again."""
        kept = self._kept.get((path, target))
        if kept is not None:
            return kept
        made = target.fit(self._read(path, target))
        if made.nbytes * (len(self._kept) + 1) <= DEFAULT_LIMITS.kept_bytes:
            self._kept[path, target] = made
        return made

    def _read(self, path: Path, target: _ImageInput) -> npt.NDArray[np.float32]:
        from PIL import Image, UnidentifiedImageError  # noqa: PLC0415

        try:
            # Pillow warns of what it can read all the same.
            with warnings.catch_warnings(action="ignore"), Image.open(path, formats=_FORMATS) as image:
                _turn_upright(image)
                return self.how.apply(image, target.height, target.width, target.channels)
        except UnidentifiedImageError as error:
            raise DataError(f"{path}: is not one of {', '.join(_FORMATS)}; remove it or convert it") from error
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            raise DataError(f"{path}: cannot be read as an image ({error}); remove it or convert it") from error
        except DataError as error:
            raise DataError(f"{path}: {error}") from error


def _turn_upright(image: Any) -> None:
    """Turn a photo as its camera noted it was held; where the note cannot be read it stays as it is stored."""
    from PIL import ImageOps  # noqa: PLC0415

    image.load()  # so that what fails below is the note and not the picture
    with suppress(Exception):  # damaged EXIF data raises a dozen unrelated types
        ImageOps.exif_transpose(image, in_place=True)


@dataclass(frozen=True, slots=True)
class _ImageInput:
    value: Value
    channels: int
    height: int
    width: int
    channels_last: bool

    @property
    def name(self) -> str:
        return self.value.name

    def fit(self, image: npt.NDArray[np.float32]) -> Array:
        array = image.transpose(1, 2, 0) if self.channels_last else image
        return np.ascontiguousarray(array[None], dtype_of(self.value))


def _image_input(inputs: Sequence[Value], how: Preprocessing) -> _ImageInput:
    """Which input takes the image, and in what layout."""
    if len(inputs) != 1:
        names = ", ".join(repr(value.name) for value in inputs)
        raise DataError(
            f"the model has {len(inputs)} inputs ({names}); images fill only one; give an .npz with all of them"
        )
    value = inputs[0]
    shape = value.type.shape
    if shape is None or len(shape) != 4 or shape[0] not in {None, 1}:
        raise DataError(f"input {value.name!r} of shape {value.shape_text} does not take one image; give an .npz")
    last = how.layout == "nhwc" or (how.layout is None and channels_last(value.taken or shape))
    places = (3, 1, 2) if last else (1, 2, 3)
    channels, height, width = (shape[place] for place in places)
    if how.crop is not None and any(a not in {None, b} for a, b in zip((height, width), how.crop, strict=True)):
        raise DataError(
            f"--crop {how.crop[0]}x{how.crop[1]} does not fit input {value.name!r} of shape {value.shape_text}"
        )
    if value.taken is not None:
        channels, height, width = (value.taken[place] for place in places)
    channels = 3 if channels is None else channels
    if channels not in {1, 3}:
        raise DataError(f"input {value.name!r} of shape {value.shape_text} has {channels} channels; see --layout")
    height, width = how.crop or (height or OPEN_SIDE, width or OPEN_SIDE)
    return _ImageInput(value, channels, height, width, last)
