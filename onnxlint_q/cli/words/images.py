"""What is said about the preprocessing of images."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Any

from onnxlint_q.errors import UsageError
from onnxlint_q.execute.data.preprocess import DEFAULT_PRESET, MOST_PIXELS, Preprocessing, preset
from onnxlint_q.judge.config import Data


@dataclass(frozen=True, slots=True)
class ImageWords:
    """What was said about the preprocessing of images; None where an option was not given."""

    preprocess: str | None = None
    mean: str | None = None
    std: str | None = None
    scale: float | None = None
    channel_order: str | None = None
    resize: str | None = None
    crop: str | None = None
    layout: str | None = None

    @property
    def given(self) -> list[str]:
        """The options that were given."""
        return [option_name(known.name) for known in fields(self) if getattr(self, known.name) is not None]

    def over(self, known: Data) -> ImageWords:
        """With what the configuration says on the others; a preset on the command line leaves nothing of it."""
        if self.preprocess is not None:
            return self
        said = {name.name: getattr(self, name.name) for name in fields(self)}
        return ImageWords(**{name: getattr(known, name) if value is None else value for name, value in said.items()})


def option_name(name: str) -> str:
    """`channel_order` as it is typed, `--channel-order`."""
    return "--" + name.replace("_", "-")


def parse_preprocessing(
    name: str | None,
    *,
    mean: str | None,
    std: str | None,
    scale: float | None,
    channel_order: str | None,
    resize: str | None,
    crop: str | None,
    layout: str | None,
) -> Preprocessing:
    """A preset, the default one without a name, with what else was said on top.

    Raises:
        UsageError: a value is not of its option's form, or cannot be used.
    """
    name = name or DEFAULT_PRESET
    changed: dict[str, Any] = {}
    if mean is not None:
        changed["mean"] = _numbers("--mean", mean)
    if std is not None:
        changed["std"] = _numbers("--std", std)
    if scale is not None:
        changed["scale"] = scale
    if resize is not None:
        changed["resize"] = _pixels("--resize", resize)
    if crop is not None:
        pixels = _pixels("--crop", crop)
        changed["crop"] = (pixels[0], pixels[-1])
    if channel_order is not None:
        changed["channel_order"] = channel_order.lower()
    if layout is not None:
        changed["layout"] = layout.lower()
    base = preset(name)
    return replace(base, name=f"{name} with changes", **changed) if changed else base


def _numbers(option: str, text: str) -> tuple[float, ...]:
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = (math.nan,)
    if not all(map(math.isfinite, numbers)):
        raise UsageError(f"{option} {text!r}: give one number, or one a channel with commas between")
    return numbers


def _pixels(option: str, text: str) -> tuple[int, ...]:
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(part.isdecimal() and len(part) < 5 and 0 < int(part) <= MOST_PIXELS for part in parts):
        raise UsageError(f"{option} {text!r}: give pixels from 1 to {MOST_PIXELS}, or HEIGHTxWIDTH")
    return tuple(int(part) for part in parts)
