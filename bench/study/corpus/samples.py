"""Samples for networks of others: photos, pages and lines of text, waves, tokens, numbers.

Each maker takes the shape of one sample, without the batch, and gives so many along a new first axis. Its other
arguments come from the recipe.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

Array = npt.NDArray[Any]
Random = np.random.Generator
_WORDS = (
    "invoice total amount date number page address street river mountain network layer model report measured value "
    "table figure section 2024 1998 kg EUR the of and to a in for is on that by this with you it not or be are"
).split()
# Of ImageNet, as RGB in [0, 1].
_MEANS = {"imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)), "half": ((0.5,) * 3, (0.5,) * 3)}


def photos(random: Random, count: int, shape: Sequence[int], *, images: Path, **how: Any) -> Array:
    """Photos of a folder, short side fitted, middle cropped."""
    files = sorted(path for path in images.iterdir() if path.suffix == ".jpg")
    chosen = [files[place] for place in random.permutation(len(files))[:count]]
    return _pixels([Image.open(path).convert("RGB") for path in chosen], shape, **how)


def pages(random: Random, count: int, shape: Sequence[int], *, images: Path, **how: Any) -> Array:
    """Pages of printed words on light ground, some turned by quarters."""
    height, width = _sides(shape, how.get("layout", "NCHW"))
    found = []
    for _ in range(count):
        page = Image.new("RGB", (width, height), tuple(int(v) for v in random.integers(200, 256, 3)))
        draw, top = ImageDraw.Draw(page), int(random.integers(4, 30))
        while top < height - 12:
            size = int(random.choice([9, 12, 12, 16, 28]))
            draw.text((int(random.integers(4, 40)), top), _line(random, width // size), _ink(random), _font(size))
            top += size + int(random.integers(4, 30))
        found.append(page.rotate(90 * int(random.integers(4))) if how.get("turned") else page)
    return _pixels(found, shape, **how)


def lines(random: Random, count: int, shape: Sequence[int], *, images: Path, **how: Any) -> Array:
    """One line of printed words each, every other one upside down where `turned`."""
    height, width = _sides(shape, how.get("layout", "NCHW"))
    found = []
    for _ in range(count):
        line = Image.new("RGB", (width, height), tuple(int(v) for v in random.integers(180, 256, 3)))
        size = int(height * random.uniform(0.4, 0.8))
        text = _line(random, max(4, 2 * width // size))
        ImageDraw.Draw(line).text((int(random.integers(2, 10)), (height - size) // 3), text, _ink(random), _font(size))
        found.append(line.rotate(180) if how.get("turned") and random.random() < 0.5 else line)
    return _pixels(found, shape, **how)


def waves(
    random: Random, count: int, shape: Sequence[int], *, images: Path, level: float = 0.3, tilt: float = 1.0
) -> Array:
    """Noise whose power falls with frequency to the power of `tilt`, with bursts of harmonics, along the last axis."""
    length = shape[-1]
    bins = (count, *shape[:-1], length // 2 + 1)
    power = np.exp(-0.5 * tilt * np.log1p(np.arange(bins[-1])))
    spectrum = random.standard_normal(bins) * power * np.exp(2j * np.pi * random.random(bins))
    noise = np.fft.irfft(spectrum, length)
    time = np.arange(length) / length
    pitch = random.uniform(0.005, 0.05, (count, *[1] * len(shape))) * length
    tones = sum(np.sin(2 * np.pi * k * pitch * time) / k for k in range(1, 6))
    burst = np.exp(-(((time - random.random(pitch.shape)) / 0.2) ** 2))
    mixed = noise / noise.std() + random.choice([0.0, 1.0, 3.0], pitch.shape) * tones * burst
    return np.asarray(level * mixed / np.abs(mixed).max() * random.uniform(0.1, 1, pitch.shape), np.float32)


def normal(
    random: Random, count: int, shape: Sequence[int], *, images: Path, mean: float = 0.0, std: float = 1.0
) -> Array:
    """Normal numbers."""
    return np.asarray(random.normal(mean, std, (count, *shape)), np.float32)


def tokens(
    random: Random, count: int, shape: Sequence[int], *, images: Path, values: int, first: int = 0, dtype: str = "int64"
) -> Array:
    """Whole numbers from `first`, the frequencies those of words: the n-th as often as 1 / n."""
    share = 1 / np.arange(1, values + 1)
    order = np.random.default_rng(0).permutation(values)
    return (first + order[random.choice(values, (count, *shape), p=share / share.sum())]).astype(dtype)


def windows(
    random: Random, count: int, shape: Sequence[int], *, images: Path, values: int, dtype: str = "float32"
) -> Array:
    """Windows of one sequence of tokens, a step apart, as networks read them that decide one character at a time."""
    ids = tokens(random, count + shape[-1], (), images=images, values=values, dtype=dtype)
    return np.lib.stride_tricks.sliding_window_view(ids, shape[-1])[:count].copy()


def lengths(random: Random, count: int, shape: Sequence[int], *, images: Path, least: int) -> Array:
    """Masks: ones up to a length that is drawn, zeros behind it."""
    return np.asarray(np.arange(shape[-1]) < random.integers(least, shape[-1] + 1, (count, 1)), np.int64)


def constant(random: Random, count: int, shape: Sequence[int], *, images: Path, value: float, dtype: str) -> Array:
    """The same value everywhere."""
    return np.full((count, *shape), value, dtype)


MAKERS: Mapping[str, Callable[..., Array]] = {
    maker.__name__: maker for maker in (photos, pages, lines, waves, normal, tokens, windows, lengths, constant)
}


def _pixels(
    pictures: Sequence[Image.Image],
    shape: Sequence[int],
    *,
    layout: str = "NCHW",
    order: str = "RGB",
    scale: float = 255.0,
    normalise: str = "",
    turned: bool = False,
) -> Array:
    """Pictures as a batch: fitted, divided by `scale`, normalised, channels in order."""
    height, width = _sides(shape, layout)
    fitted = [_fitted(picture, width, height) for picture in pictures]
    values: Array = np.stack([np.asarray(picture, np.float32) for picture in fitted]) / scale
    if normalise:
        mean, std = _MEANS[normalise]
        values = (values - np.asarray(mean, np.float32)) / np.asarray(std, np.float32)
    if order == "BGR":
        values = values[..., ::-1]
    if order == "L":
        values = values.mean(axis=-1, keepdims=True)
    return np.ascontiguousarray(values if layout == "NHWC" else values.transpose(0, 3, 1, 2), np.float32)


def _fitted(picture: Image.Image, width: int, height: int) -> Image.Image:
    factor = max(width / picture.width, height / picture.height)
    sized = picture.resize((round(picture.width * factor), round(picture.height * factor)), Image.Resampling.BILINEAR)
    left, top = (sized.width - width) // 2, (sized.height - height) // 2
    return sized.crop((left, top, left + width, top + height))


def _sides(shape: Sequence[int], layout: str) -> tuple[int, int]:
    return (shape[0], shape[1]) if layout == "NHWC" else (shape[1], shape[2])


def _font(size: int) -> Any:
    return ImageFont.load_default(size)


def _ink(random: Random) -> tuple[int, ...]:
    return tuple(int(value) for value in random.integers(0, 120, 3))


def _line(random: Random, characters: int) -> str:
    words = [str(random.choice(_WORDS)) for _ in range(max(1, characters // 5))]
    return " ".join(word.title() if random.random() < 0.2 else word for word in words)
