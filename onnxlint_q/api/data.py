"""What a program may give as samples and their classes."""

from __future__ import annotations

import itertools
import operator
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from onnxlint_q.errors import DataError, UsageError
from onnxlint_q.execute.data.images import ImageFolder
from onnxlint_q.execute.data.labels import check_classes
from onnxlint_q.execute.data.preprocess import DEFAULT_PRESET, Preprocessing, preset
from onnxlint_q.execute.data.source import Source
from onnxlint_q.execute.data.sources import ArrayList, ArraySource, open_source
from onnxlint_q.execute.limits import DEFAULT_LIMITS, PROVING
from onnxlint_q.workflow.record import DataRequest

DataLike: TypeAlias = str | os.PathLike[str] | npt.ArrayLike | Mapping[str, npt.ArrayLike] | Iterable[Any]
"""A path or `random`, an array of samples, arrays by input name, or something that gives those one after another."""
LabelsLike: TypeAlias = str | os.PathLike[str] | Sequence[int] | npt.NDArray[Any]
"""The class of each sample, or a file that holds them."""

_ONE_ARRAY = "data"


def data_request(
    data: DataLike | None,
    preprocess: str | Preprocessing | None,
    samples: int,
    observer: str,
    trials: int,
    measure_layers: bool,
    labels: LabelsLike | None,
    prove: str = PROVING[0],
) -> DataRequest | None:
    """What the arguments about data ask for; None without data.

    Raises:
        UsageError: an argument has nothing to act on.
        DataError: the samples or labels are no arrays of numbers, or too many.
    """
    if data is None:
        said = {"preprocess": preprocess, "trials": trials, "measure_layers": measure_layers}
        said |= {"prove": prove != PROVING[0]}
        useless = [name for name, value in said.items() if value] + ["labels"] * (labels is not None)
        if useless:
            raise UsageError(f"without data, {' and '.join(useless)} would have no effect; give data")
        return None
    samples, trials = _whole("samples", samples), _whole("trials", trials)
    how = preset(preprocess or DEFAULT_PRESET) if preprocess is None or isinstance(preprocess, str) else preprocess
    source = _source(data, how, most=max(1, samples * max(2, trials + 1)))
    if preprocess is not None and not isinstance(source, ImageFolder):
        raise UsageError(f"preprocess has no effect on {source.name}, which is no folder of images; leave it out")
    return DataRequest(source, samples, observer, measure_layers, trials, _labels(labels), prove)


def _source(data: DataLike, how: Preprocessing, most: int) -> Source:
    """What gives the samples; of an iterable at most `most` items are read."""
    if isinstance(data, str | os.PathLike):
        return open_source(os.fspath(data), how)
    if isinstance(data, Mapping):
        return ArraySource("<data>", _bounded([_arrays(data, "data")])[0])
    if hasattr(data, "__array__"):
        return ArraySource("<data>", _bounded([_arrays(data, "data")])[0])
    if not isinstance(data, Iterable):
        raise DataError(f"data: a {type(data).__name__} holds no samples; give a path, arrays, or what gives them")
    items = (_arrays(item, f"data, item {number}") for number, item in enumerate(itertools.islice(data, most)))
    given = _bounded(items)
    if not given:
        raise DataError("data: it gave no item; an iterator that was read before is empty, give a new one")
    return ArrayList("<data>", given)


def _arrays(item: object, name: str) -> Mapping[str, npt.NDArray[Any]]:
    """An item as arrays by input name; one array alone is for whatever input there is."""
    if isinstance(item, Mapping):
        if not item or not all(isinstance(key, str) for key in item):
            raise DataError(f"{name}: give an array for each input name, `{{'input': array}}`")
        return {key: _array(value, f"{name}, input {key!r}") for key, value in item.items()}
    return {_ONE_ARRAY: _array(item, name)}


def _array(value: object, name: str) -> npt.NDArray[Any]:
    try:
        array = np.asarray(value)
    except Exception as error:  # of whatever library the value is from
        raise DataError(f"{name}: a {type(value).__name__} cannot be read as an array ({error})") from error
    if array.dtype.hasobject or array.dtype.kind in "USmM":
        raise DataError(f"{name}: a {type(value).__name__} is no array of numbers; give a numpy array")
    return array


def _bounded(items: Iterable[Mapping[str, npt.NDArray[Any]]]) -> Sequence[Mapping[str, npt.NDArray[Any]]]:
    """The items, as long as they fit into what an .npz may hold."""
    taken, total = [], 0
    for item in items:
        total += sum(array.nbytes for array in item.values())
        if total > DEFAULT_LIMITS.archive_bytes:
            raise DataError(
                f"data: holds more than {DEFAULT_LIMITS.archive_bytes / 2**30:.0f} GB; give fewer samples, or the path "
                "of an .npy or of a folder of .npz, which are read piece by piece"
            )
        taken.append(item)
    return taken


def _whole(name: str, value: int) -> int:
    try:
        return operator.index(value)
    except TypeError as error:
        raise UsageError(f"{name} {value!r}: give a whole number") from error


def _labels(labels: LabelsLike | None) -> Path | tuple[int, ...] | None:
    if labels is None:
        return None
    if isinstance(labels, str | os.PathLike):
        return Path(labels)
    return check_classes("labels", _array(labels, "labels"))
