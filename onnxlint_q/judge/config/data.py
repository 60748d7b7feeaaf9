"""The data that a configuration names for a model; it is read only where a command line asks for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from onnxlint_q.errors import did_you_mean
from onnxlint_q.execute.data.preprocess import CHANNEL_ORDERS, LAYOUTS, MOST_PIXELS, PRESETS
from onnxlint_q.execute.data.sources import RANDOM


@dataclass(frozen=True, slots=True)
class Data:
    """Samples of a model and how images of them are prepared, as the options of these names take it; None for unsaid.

    Attributes:
        calibrate: the samples, a path or `random`.
        labels: file with their classes.
        preprocess, mean, std, scale, channel_order, resize, crop, layout: of images.
    """

    calibrate: str | None = None
    labels: Path | None = None
    preprocess: str | None = None
    mean: str | None = None
    std: str | None = None
    scale: float | None = None
    channel_order: str | None = None
    resize: str | None = None
    crop: str | None = None
    layout: str | None = None


KEYS = tuple(known.name.replace("_", "-") for known in fields(Data))
CHOICES: Mapping[str, tuple[str, ...]] = {
    "preprocess": tuple(PRESETS),
    "channel-order": CHANNEL_ORDERS,
    "layout": LAYOUTS,
}
"""Keys of which the values are words."""
_WANTED: Mapping[str, str] = {
    **{key: f"one of {', '.join(words)}" for key, words in CHOICES.items()},
    **dict.fromkeys(("calibrate", "labels"), "a path"),
    **dict.fromkeys(("mean", "std"), "a number, or a list of them"),
    **dict.fromkeys(("resize", "crop"), f"pixels from 1 to {MOST_PIXELS}, or [height, width]"),
    "scale": "a number",
}


def read_data(table: Mapping[str, Any], folder: Path, errors: list[str]) -> Mapping[str, Any]:
    """The fields of Data that a table `[data]` sets; what is wrong with others is added to `errors`.

    Args:
        table: as TOML has it: numbers are numbers, and several of them a list.
        folder: that paths start from.
        errors: one sentence each.
    """
    found: dict[str, Any] = {}
    for key, value in table.items():
        if key not in KEYS:
            errors.append(f"unknown key {key!r} in [data]{did_you_mean(key, KEYS)}")
        elif (read := _value(key, value, folder)) is not None:
            found[key.replace("-", "_")] = read
        else:
            errors.append(f"data.{key} {value!r}: give {_WANTED[key]}")
    return found


def _value(key: str, value: Any, folder: Path) -> Any:
    """The value of a field; None for what cannot be one."""
    match key:
        case "calibrate" if isinstance(value, str) and value:
            return value if value == RANDOM else str(folder / value)
        case "labels" if isinstance(value, str) and value:
            return folder / value
        case "preprocess" | "channel-order" | "layout":
            return value if value in CHOICES[key] else None
        case "scale" if _is_number(value):
            return float(value)
        case "mean" | "std":
            listed = _listed(value)
            return ",".join(map(repr, listed)) if listed else None
        case "resize" | "crop":
            pixels = _listed(value)
            fits = 0 < len(pixels) < 3 and all(isinstance(one, int) and 0 < one <= MOST_PIXELS for one in pixels)
            return "x".join(map(repr, pixels)) if fits else None
    return None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _listed(value: Any) -> list[Any]:
    """A number, or a list of them, as a list; empty for anything else."""
    values = value if isinstance(value, list) else [value]
    return values if all(map(_is_number, values)) else []
