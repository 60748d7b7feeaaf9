"""What programs call: arguments to requests, errors as exceptions.

A model is read and run in a process apart, which is a fresh interpreter: what a file brings about costs a ModelError,
never the program that asked. Nothing that is given is changed, and what comes back are plain values.
"""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
from google.protobuf.message import EncodeError

from onnxlint_q.analysis.observed.observers import DEFAULT_OBSERVER
from onnxlint_q.errors import DataError, ModelError, UsageError
from onnxlint_q.execute.data.images import ImageFolder
from onnxlint_q.execute.data.labels import check_classes
from onnxlint_q.execute.data.preprocess import DEFAULT_PRESET, Preprocessing, preset
from onnxlint_q.execute.data.source import Source
from onnxlint_q.execute.data.sources import DATA, DEFAULT_SAMPLES, ArrayList, ArraySource, open_source
from onnxlint_q.execute.limits import DEFAULT_LIMITS
from onnxlint_q.execute.progress import silent
from onnxlint_q.judge.config import Overrides
from onnxlint_q.report.compare import render as render_comparison
from onnxlint_q.report.formats import Look, ReportFormat
from onnxlint_q.report.formats import render as render_run
from onnxlint_q.workflow.check import Job, check_one, plan
from onnxlint_q.workflow.compare import CompareRequest, check_differ, compare_apart
from onnxlint_q.workflow.record import CheckRequest, DataRequest
from onnxlint_q.workflow.results import Comparison, ModelResult, Run

ModelLike: TypeAlias = str | os.PathLike[str] | bytes | onnx.ModelProto
"""A path, the bytes of an .onnx file, or a model in memory, which has to hold its own weights."""
DataLike: TypeAlias = str | os.PathLike[str] | npt.ArrayLike | Mapping[str, npt.ArrayLike] | Iterable[Any]
"""A path or `random`, an array of samples, arrays by input name, or something that gives those one after another."""
LabelsLike: TypeAlias = str | os.PathLike[str] | Sequence[int] | npt.NDArray[Any]
"""The class of each sample, or a file that holds them."""
Words: TypeAlias = str | Iterable[str]

_ONE_ARRAY = "data"


def lint(
    model: ModelLike,
    data: DataLike | None = None,
    *,
    preprocess: str | Preprocessing | None = None,
    samples: int = DEFAULT_SAMPLES,
    observer: str = DEFAULT_OBSERVER,
    trials: int = 0,
    measure_layers: bool = False,
    labels: LabelsLike | None = None,
    probe: bool = False,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    schemes: Words | None = None,
    select: Words = (),
    extend_select: Words = (),
    ignore: Words = (),
    fail_on: str | None = None,
    fail_on_verdict: str | None = None,
    config: str | os.PathLike[str] | None = None,
    progress: Callable[[str, int, int], None] = silent,
) -> ModelResult:
    """Say whether a model survives INT8, where it breaks, why, and what to do.

    >>> import onnxlint_q
    >>> result = onnxlint_q.lint("model.onnx")
    >>> result.scheme("int8-per-tensor").verdict.value
    'breaks'
    >>> sorted({finding.code for finding in result.findings if finding.severity == "error"})
    []

    Args:
        model: a path, the bytes of a file, or an `onnx.ModelProto`, which stays as it is. What is no path is called
            `<model>` in the result.
        data: samples to run the model on; None reads the file only. A path is one that `--calibrate` takes, `random`
            included. An array holds samples along its first axis, for a model with one input; a mapping holds such an
            array for each input name. Anything else is iterated once: each item is an array or a mapping, and holds
            one sample or a batch. No more items are taken than `samples` and as many again for the verdict.
        preprocess: of a folder of images: the name of a preset, or a `Preprocessing`; `imagenet` by default.
        samples: how many samples to take ranges from, and at most as many others to measure the verdict on.
        observer: how ranges are taken from them, as `--observer`.
        trials: calibrate again on so many disjoint subsets; 0 for none.
        measure_layers: quantise every layer alone as well.
        labels: the class of each sample, or a file that holds them, as `--labels`; accuracy is then measured.
        probe: without data, run the model on synthetic inputs.
        input_shapes: shapes of inputs whose axes the file leaves open, by name, as `--input-shape`.
        schemes: those to judge, by name, or `all`.
        select: rules to run instead of all, by code, first letters of codes, or name.
        extend_select: rules to run as well.
        ignore: rules not to run.
        fail_on: lowest severity for which `result.fails`: `error`, `warning`, `info` or `none`.
        fail_on_verdict: best verdict for which `result.fails`: `breaks`, `degrades` or `none`.
        config: a configuration file. None is looked for: a program says what it wants, and gets the same everywhere.
        progress: told what is done, and how many of how many samples; in the thread of the caller.

    Returns:
        The verdicts, findings and tables. A run that did not happen, as on data that does not fit the model's inputs,
        is a finding (QX002 to QX004), and the reason is in `untested_because`.

    Raises:
        UsageError: an argument cannot be used.
        ModelError: the model cannot be read or trusted.
        DataError: what was given as data or labels are no arrays of numbers, or too many.
        PluginError: a rule package is broken.
        DefectError: an error of onnxlint-q itself; please report it.
    """
    request = CheckRequest(
        _data(data, preprocess, samples, observer, trials, measure_layers, labels),
        probe,
        _shapes(input_shapes),
        fresh=True,
    )
    overrides = _overrides(config, select, extend_select, ignore, schemes, fail_on, fail_on_verdict)
    with _file(model, "<model>") as (path, called):
        return check_one(_job(path, called, overrides), request, progress)


def compare(
    float_model: ModelLike,
    quantised: ModelLike,
    data: DataLike,
    *,
    preprocess: str | Preprocessing | None = None,
    samples: int = DEFAULT_SAMPLES,
    labels: LabelsLike | None = None,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    select: Words = (),
    extend_select: Words = (),
    ignore: Words = (),
    fail_on: str | None = None,
    fail_on_verdict: str | None = None,
    config: str | os.PathLike[str] | None = None,
    progress: Callable[[str, int, int], None] = silent,
) -> Comparison:
    """Compare a quantised model with its float original, layer by layer.

    >>> import onnxlint_q
    >>> comparison = onnxlint_q.compare("float.onnx", "int8.onnx", "random", samples=4)
    >>> comparison.quantized.format
    'qdq'

    Args:
        float_model: as the model of `lint`; what is no path is called `<float model>`.
        quantised: what was made from it; what is no path is called `<quantised model>`.
        data: samples to run both on, as of `lint`.
        preprocess: as of `lint`.
        samples: how many to run.
        labels: as of `lint`.
        input_shapes: as of `lint`, of the float model.
        select: as of `lint`.
        extend_select: as of `lint`.
        ignore: as of `lint`.
        fail_on: as of `lint`.
        fail_on_verdict: as of `lint`.
        config: as of `lint`.
        progress: as of `lint`.

    Returns:
        The verdict (`result`), a row a layer (`rows`), and the findings.

    Raises:
        UsageError: an argument cannot be used, the models are in the wrong order, or the second is not quantised.
        ModelError: a model cannot be read, paired with the other, or run.
        DataError: the samples or labels cannot be read, or do not fit the models.
        PluginError: a rule package is broken.
        DefectError: an error of onnxlint-q itself; please report it.
    """
    wanted = _data(data, preprocess, samples, DEFAULT_OBSERVER, 0, False, labels)
    if wanted is None:
        raise UsageError(f"compare runs both models on data; give {DATA}, or arrays")
    overrides = _overrides(config, select, extend_select, ignore, None, fail_on, fail_on_verdict)
    with _file(float_model, "<float model>") as (reference, called), _file(quantised, "<quantised model>") as other:
        check_differ(reference, other[0])
        request = CompareRequest(
            wanted.source, wanted.samples, wanted.labels, _shapes(input_shapes), fresh=True, called=called
        )
        return compare_apart(reference, _job(*other, overrides), request, progress)


def render(
    found: ModelResult | Comparison | Iterable[ModelResult],
    report_format: str = ReportFormat.FULL.value,
    *,
    width: int = 100,
    colour: bool = False,
) -> str:
    """A report as text, as the command line writes it.

    >>> import onnxlint_q
    >>> onnxlint_q.render(onnxlint_q.lint("model.onnx"), "concise").count("model.onnx: ") > 0
    True

    Args:
        found: what `lint` or `compare` gave, or several of the former.
        report_format: as `--output-format`.
        width: columns of the format `full`.
        colour: with ANSI colours, in the format `full`.

    Raises:
        UsageError: there is no such format.
    """
    if report_format not in set(ReportFormat):
        raise UsageError(f"report format {report_format!r}: choose from {', '.join(ReportFormat)}")
    form, look = ReportFormat(report_format), Look(width, colour)
    if isinstance(found, Comparison):
        return render_comparison(found, form, look)
    models = (found,) if isinstance(found, ModelResult) else tuple(found)
    return render_run(Run(models), form, look)


def _job(path: Path, called: str, overrides: Overrides) -> Job:
    (job,) = plan([path], overrides)
    return replace(job, called=called)


def _overrides(
    config: str | os.PathLike[str] | None,
    select: Words,
    extend_select: Words,
    ignore: Words,
    schemes: Words | None,
    fail_on: str | None,
    fail_on_verdict: str | None,
) -> Overrides:
    return Overrides(
        file=None if config is None else Path(config),
        search=False,
        select=_words(select),
        extend_select=_words(extend_select),
        ignore=_words(ignore),
        scheme=None if schemes is None else _words(schemes),
        fail_on=fail_on,
        fail_on_verdict=fail_on_verdict,
        prefix="",
    )


def _shapes(given: Mapping[str, Sequence[int]] | None) -> dict[str, tuple[int, ...]]:
    """Shapes by input.

    Raises:
        UsageError: a length is no whole number above zero.
    """
    shapes = {name: tuple(shape) for name, shape in (given or {}).items()}
    for name, shape in shapes.items():
        if not all(isinstance(length, (int, np.integer)) and length > 0 for length in shape):
            raise UsageError(f"input_shapes[{name!r}]: {shape} holds a length that is no whole number above zero")
    return {name: tuple(map(int, shape)) for name, shape in shapes.items()}


def _words(given: Words) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)


# -- models --------------------------------------------------------------------------------------------------------


@contextmanager
def _file(model: ModelLike, called: str) -> Iterator[tuple[Path, str]]:
    """The file of a model, and what to call it where it has none of its own: it is then written for the time being."""
    if isinstance(model, str | os.PathLike):
        yield Path(model), ""
        return
    with tempfile.TemporaryDirectory(prefix="onnxlint-q-") as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(_bytes(model, called))
        yield path, called


def _bytes(model: bytes | onnx.ModelProto, called: str) -> bytes:
    if isinstance(model, bytes | bytearray | memoryview):
        return bytes(model)
    if not isinstance(model, onnx.ModelProto):
        raise UsageError(f"{called}: a {type(model).__name__} is no model; give a path, bytes, or an onnx.ModelProto")
    try:
        stored: bytes = model.SerializeToString(deterministic=True)
    except (EncodeError, ValueError) as error:
        raise ModelError(
            f"{called}: cannot be written as one message ({error}); save it with external data, and give its path"
        ) from error
    return stored


# -- data ----------------------------------------------------------------------------------------------------------


def _data(
    data: DataLike | None,
    preprocess: str | Preprocessing | None,
    samples: int,
    observer: str,
    trials: int,
    measure_layers: bool,
    labels: LabelsLike | None,
) -> DataRequest | None:
    if data is None:
        said = {"preprocess": preprocess, "trials": trials, "measure_layers": measure_layers}
        useless = [name for name, value in said.items() if value] + ["labels"] * (labels is not None)
        if useless:
            raise UsageError(f"without data, {' and '.join(useless)} would have no effect; give data")
        return None
    how = preset(preprocess or DEFAULT_PRESET) if preprocess is None or isinstance(preprocess, str) else preprocess
    source = _source(data, how, most=max(1, samples * max(2, trials + 1)))
    if preprocess is not None and not isinstance(source, ImageFolder):
        raise UsageError(f"preprocess has no effect on {source.name}, which is no folder of images; leave it out")
    return DataRequest(source, samples, observer, measure_layers, trials, _labels(labels))


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


def _labels(labels: LabelsLike | None) -> Path | tuple[int, ...] | None:
    if labels is None:
        return None
    if isinstance(labels, str | os.PathLike):
        return Path(labels)
    return check_classes("labels", _array(labels, "labels"))
