"""Classes of the samples: an .npy of integers, or text lines of a file name and a class index."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxlint_q.errors import DataError
from onnxlint_q.execute.data.archives import read_arrays
from onnxlint_q.execute.data.images import ImageFolder
from onnxlint_q.execute.data.source import Source


def read_labels(given: Path | Sequence[int], source: Source) -> Sequence[int]:
    """The class of each sample of `source`, in the order in which it gives them.

    Classes that are given as such are taken as they are. Lines of a file name the image and its class with a comma, a
    semicolon, a tab or a space between; what follows on a line is not read, and neither is a first line whose second
    column is no number. An .npy, or lines of a class alone, go by the order of the samples.

    Raises:
        DataError: the file cannot be read, a line is of another form, or an image has no class.
    """
    if not isinstance(given, Path):
        return given
    path = given
    if path.suffix == ".npy":
        return check_classes(str(path), next(iter(read_arrays(path).values())))
    by_name, in_order = _from_lines(path)
    if in_order or not isinstance(source, ImageFolder):
        return in_order or list(by_name.values())
    missing = [image.name for image in source.files if image.name not in by_name]
    if missing:
        raise DataError(
            f"{path}: has no line for {missing[0]!r}"
            + f" and {len(missing) - 1} other images" * (len(missing) > 1)
            + "; add what is missing, or remove the images"
        )
    return [by_name[image.name] for image in source.files]


def label_of(labels: Sequence[int], index: int, classes: int) -> int:
    """The class of a sample of a model with so many classes.

    Raises:
        DataError: it has none, or none that the model has.
    """
    if index >= len(labels):
        raise DataError(f"--labels: holds {len(labels)} classes, but there are more samples; give one each")
    if labels[index] >= classes:
        raise DataError(
            f"--labels: sample {index} has class {labels[index]}, but the model has classes 0 to {classes - 1}; name "
            "labels of this model's classes"
        )
    return labels[index]


def check_labels(labels: Sequence[int], samples: int, classes: Sequence[int | None] = ()) -> None:
    """Check that each of the first samples has a class that the model has, as far as the number of those is known.

    Raises:
        DataError: one has not.
    """
    known = next(iter(classes), None) or sys.maxsize
    for index in range(samples):
        label_of(labels, index, known)


def check_classes(name: str, labels: npt.NDArray[Any]) -> tuple[int, ...]:
    """An array as one class a sample; `name` is what messages call it.

    Raises:
        DataError: it is none.
    """
    if labels.ndim == 1 and np.issubdtype(labels.dtype, np.integer) and (labels < 0).any():
        raise DataError(f"{name}: sample {int(np.argmax(labels < 0))} has class {labels.min()}; count classes from 0")
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise DataError(f"{name}: holds {labels.dtype} {list(labels.shape)}; labels are one class index a sample")
    return tuple(int(label) for label in labels)


def _from_lines(path: Path) -> tuple[dict[str, int], list[int]]:
    """Classes by file name, or classes in order where lines hold nothing else."""
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise DataError(f"--labels {path}: cannot be read ({reason}); give lines of `file name, class index`") from None
    by_name: dict[str, int] = {}
    in_order: list[int] = []
    seen: set[str] = set()
    for number, row in enumerate(_rows(text), start=1):
        label = row[min(1, len(row) - 1)]
        if not label.isdecimal() or len(label) > 9:
            if number == 1:
                continue  # a heading
            raise DataError(f"{path}: line {number} is not `file name, class index`; fix it, or remove it")
        if len(row) == 1:
            in_order.append(int(label))
        elif by_name.setdefault(row[0], int(label)) != int(label) or row[0] in seen:
            raise DataError(f"{path}: line {number} names {row[0]!r} again; give each sample one line")
        else:
            seen.add(row[0])
    if bool(by_name) == bool(in_order):
        raise DataError(
            f"{path}: some lines have a file name and some have none; give every line one"
            if by_name
            else f"{path}: holds no lines of `file name, class index`; write one for each sample"
        )
    return by_name, in_order


def _rows(text: str) -> Iterable[list[str]]:
    lines = [line for line in text.splitlines() if line.strip()]
    separator = next((mark for mark in ",;\t" if lines and mark in lines[0]), None)
    if separator is None:
        return (line.rsplit(maxsplit=1) for line in lines)
    return ([cell.strip() for cell in row] for row in csv.reader(lines, delimiter=separator, strict=False))
