"""From a photo to a model input, as stated on the command line and written into every report."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxlint_q.errors import DataError, UsageError

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)

CHANNEL_ORDERS = ("rgb", "bgr")
LAYOUTS = ("nchw", "nhwc")
MOST_PIXELS = 8192


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """`(pixel * scale - mean) / std` on pixels 0-255, after resizing and cropping.

    Attributes:
        name: what reports call it.
        mean, std: one value, or one a channel in the order the model reads them.
        scale: factor on the pixel values.
        channel_order: one of CHANNEL_ORDERS.
        resize: pixels of the short side before the centre crop, or (height, width) without keeping the aspect ratio;
            None takes 256 for a 224-pixel input, the usual practice, and else the crop itself.
        crop: (height, width) of the centre crop, None takes the model's input.
        layout: one of LAYOUTS, or None to see it from the input's shape.

    Raises:
        UsageError: a value is none that can be used.
    """

    name: str = "imagenet"
    mean: tuple[float, ...] = _IMAGENET_MEAN
    std: tuple[float, ...] = _IMAGENET_STD
    scale: float = 1 / 255
    channel_order: str = "rgb"
    resize: tuple[int, ...] | None = None
    crop: tuple[int, int] | None = None
    layout: str | None = None

    def __post_init__(self) -> None:
        for name, values in (("mean", self.mean), ("std", self.std)):
            if not values or not all(map(math.isfinite, values)):
                raise UsageError(f"{name} {values}: give finite numbers, one for all channels or one for each")
        if min(self.std) <= 0:
            raise UsageError(f"std {_list(self.std)}: a standard deviation cannot be zero or negative")
        if not math.isfinite(self.scale) or self.scale == 0:
            raise UsageError(f"scale {self.scale}: give a finite factor other than zero")
        for name, size, sides in (("resize", self.resize, {1, 2}), ("crop", self.crop, {2})):
            if size is not None and not (len(size) in sides and all(0 < pixels <= MOST_PIXELS for pixels in size)):
                raise UsageError(f"{name} {size}: give pixels from 1 to {MOST_PIXELS}, or height and width")
        if self.channel_order not in CHANNEL_ORDERS:
            raise UsageError(f"channel order {self.channel_order!r}: choose {' or '.join(CHANNEL_ORDERS)}")
        if self.layout is not None and self.layout not in LAYOUTS:
            raise UsageError(f"layout {self.layout!r}: choose {' or '.join(LAYOUTS)}")

    def describe(self) -> str:
        """One line for reports."""
        pixel = "pixel" if self.scale == 1 else f"pixel * {self.scale:.6g}"
        shifted = pixel if not any(self.mean) else f"{pixel} - {_list(self.mean)}"
        scaled = shifted if set(self.std) == {1.0} else f"({shifted}) / {_list(self.std)}"
        steps = [self.name, self.channel_order.upper(), scaled]
        if self.resize is not None:
            steps.append(
                "resized to " + _size(self.resize) if len(self.resize) == 2 else f"short side {self.resize[0]}"
            )
        if self.crop is not None:
            steps.append(f"centre crop {_size(self.crop)}")
        return ", ".join(steps)

    @property
    def options(self) -> tuple[str, ...]:
        """What asks for it on the command line; nothing for the default."""
        base = PRESETS.get(self.name.partition(" ")[0], PRESETS[DEFAULT_PRESET])
        said = ["--preprocess", base.name] if base.name != DEFAULT_PRESET else []
        for name in ("mean", "std", "scale", "channel_order", "resize", "crop", "layout"):
            value = getattr(self, name)
            if value != getattr(base, name) and value is not None:
                values = value if isinstance(value, tuple) else (value,)
                between = "x" if name in {"resize", "crop"} else ","
                said += [f"--{name.replace('_', '-')}", between.join(map(str, values))]
        return tuple(said)

    def apply(self, image: Any, height: int, width: int, channels: int) -> npt.NDArray[np.float32]:
        """A PIL image of 8 bits a channel as float32 `[channels, height, width]`.

        Raises:
            DataError: it has more bits, or is too small for the crop.
        """
        from PIL import Image  # noqa: PLC0415 - a run on arrays needs no image library

        if image.mode[0] in "IF":  # Pillow would clip these at 255
            raise DataError(f"its pixels have more than 8 bits (Pillow mode {image.mode}); convert it to 8 bits")
        image = image.convert("L" if channels == 1 else "RGB")
        height, width = self.crop or (height, width)
        image = image.resize(self._target(image.size, height, width), Image.Resampling.BILINEAR)
        left, top = (image.width - width) // 2, (image.height - height) // 2
        image = image.crop((left, top, left + width, top + height))
        pixels = np.asarray(image, np.float32).reshape(height, width, -1)
        if self.channel_order == "bgr":
            pixels = pixels[:, :, ::-1]
        values = (pixels * np.float32(self.scale) - self._vector(self.mean, channels)) / self._vector(
            self.std, channels
        )
        return np.ascontiguousarray(values.transpose(2, 0, 1), np.float32)

    def _target(self, size: tuple[int, int], height: int, width: int) -> tuple[int, int]:
        """Width and height to resize to."""
        if self.resize is not None and len(self.resize) == 2:
            return self.resize[1], self.resize[0]
        usual = 256 if (height, width) == (224, 224) else None
        short = self.resize[0] if self.resize else usual
        factor = max(height / size[1], width / size[0]) if short is None else short / min(size)
        target = round(size[0] * factor), round(size[1] * factor)
        if max(target) > MOST_PIXELS:
            raise DataError(f"{size[0]}x{size[1]} pixels would become {target[0]}x{target[1]}; cut it to its content")
        if target[0] < width or target[1] < height:
            raise DataError(
                f"an image resized to {target[0]}x{target[1]} is smaller than the crop {width}x{height}; raise --resize"
            )
        return target

    def _vector(self, values: tuple[float, ...], channels: int) -> npt.NDArray[np.float32]:
        if len(values) not in {1, channels}:
            if channels == 1:
                return np.asarray([np.mean(values)], np.float32)
            raise DataError(f"--mean or --std gives {len(values)} values for {channels} channels; give 1 or {channels}")
        return np.asarray(values, np.float32)


PRESETS: dict[str, Preprocessing] = {
    "imagenet": Preprocessing(),
    "tf": Preprocessing("tf", (1.0,), (1.0,), 1 / 127.5),
    "unit": Preprocessing("unit", (0.0,), (1.0,), 1 / 255),
    "raw": Preprocessing("raw", (0.0,), (1.0,), 1.0),
}
"""What the words of `--preprocess` do to an image."""
DEFAULT_PRESET = "imagenet"


def preset(name: str) -> Preprocessing:
    """A named preprocessing.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in PRESETS:
        raise UsageError(f"preprocessing {name!r} is not one of {', '.join(PRESETS)}; or give mean, std and scale")
    return PRESETS[name]


def _size(pixels: tuple[int, ...]) -> str:
    return "x".join(map(str, pixels))


def _list(values: tuple[float, ...]) -> str:
    return f"{values[0]:g}" if len(values) == 1 else "[" + ", ".join(f"{value:g}" for value in values) + "]"
