"""What programs call: arguments to requests, errors as exceptions.

A model is read and run in a process apart, which is a fresh interpreter: what a file brings about costs a ModelError,
never the program that asked. Nothing that is given is changed, and what comes back are plain values.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack

from onnxlint_q.analysis.observed.observers import DEFAULT_OBSERVER
from onnxlint_q.api.data import DataLike, LabelsLike, data_request
from onnxlint_q.api.jobs import Words, job_of, overrides_of
from onnxlint_q.api.models import ModelLike, given_shapes, model_file
from onnxlint_q.errors import UsageError
from onnxlint_q.execute.data.preprocess import Preprocessing
from onnxlint_q.execute.data.sources import DATA
from onnxlint_q.execute.limits import DEFAULT_SAMPLES, PROVING
from onnxlint_q.execute.progress import silent
from onnxlint_q.report.compare import render as render_comparison
from onnxlint_q.report.fix import FORMATS as FIX_FORMATS
from onnxlint_q.report.fix import render as render_fixed
from onnxlint_q.report.formats import Look, ReportFormat
from onnxlint_q.report.formats import render as render_run
from onnxlint_q.report.inspect import FORMATS as INSPECTION_FORMATS
from onnxlint_q.report.inspect import render as render_inspection
from onnxlint_q.report.quantize import FORMATS as QUANTIZE_FORMATS
from onnxlint_q.report.quantize import render as render_quantized
from onnxlint_q.workflow.check import check_one
from onnxlint_q.workflow.compare import CompareRequest, check_differ, compare_apart
from onnxlint_q.workflow.comparison import (
    Comparison,
)
from onnxlint_q.workflow.inspect import InspectRequest, inspect_apart
from onnxlint_q.workflow.mending.fixed import Fixed
from onnxlint_q.workflow.mending.quantized import Quantized
from onnxlint_q.workflow.reading.inspection import (
    Inspection,
)
from onnxlint_q.workflow.record import CheckRequest
from onnxlint_q.workflow.results import (
    ModelResult,
    Run,
)

_FORMATS: Mapping[type, Sequence[ReportFormat]] = {
    Inspection: INSPECTION_FORMATS,
    Fixed: FIX_FORMATS,
    Quantized: QUANTIZE_FORMATS,
}


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
    prove: str = PROVING[0],
    probe: bool = False,
    fix_preview: bool = False,
    pictures: bool = False,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    schemes: Words | None = None,
    targets: Words | None = None,
    select: Words = (),
    extend_select: Words = (),
    ignore: Words = (),
    fail_on: str | None = None,
    fail_on_verdict: str | None = None,
    config: str | os.PathLike[str] | None = None,
    baseline: str | os.PathLike[str] | None = None,
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
        prove: how much to prove with the data, as `--prove`: `budget` or `all`.
        probe: without data, run the model on synthetic inputs.
        fix_preview: with data, try what `fix` would do; see `result.preview`.
        pictures: take what the format `html` draws of findings.
        input_shapes: shapes of inputs whose axes the file leaves open, by name, as `--input-shape`.
        schemes: those to judge, by name, or `all`.
        targets: what the file has to run on, by name, as `--target`.
        select: rules to run instead of all, by code, first letters of codes, or name.
        extend_select: rules to run as well.
        ignore: rules not to run.
        fail_on: lowest severity for which `result.fails`: `error`, `warning`, `info` or `none`.
        fail_on_verdict: best verdict for which `result.fails`: `breaks`, `degrades` or `none`.
        config: a configuration file. None is looked for: a program says what it wants, and gets the same everywhere.
        baseline: a file of `--write-baseline`: what it knows of this model is in `result.suppressed` and
            `result.accepted`, and fails nothing. It wins over that of the configuration. A model that is no path is
            not known to it.
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
        data_request(data, preprocess, samples, observer, trials, measure_layers, labels, prove),
        probe,
        fix_preview,
        given_shapes(input_shapes),
        page=pictures,
        fresh=True,
    )
    overrides = overrides_of(
        config, select, extend_select, ignore, schemes, fail_on, fail_on_verdict, targets, baseline
    )
    with model_file(model, "<model>") as (path, called):
        return check_one(job_of(path, called, overrides), request, progress)


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
    wanted = data_request(data, preprocess, samples, DEFAULT_OBSERVER, 0, False, labels)
    if wanted is None:
        raise UsageError(f"compare runs both models on data; give {DATA}, or arrays")
    overrides = overrides_of(config, select, extend_select, ignore, None, fail_on, fail_on_verdict)
    with (
        model_file(float_model, "<float model>") as (reference, called),
        model_file(quantised, "<quantised model>") as other,
    ):
        check_differ(reference, other[0])
        request = CompareRequest(
            wanted.source, wanted.samples, wanted.labels, given_shapes(input_shapes), fresh=True, called=called
        )
        return compare_apart(reference, job_of(*other, overrides), request, progress)


def inspect(
    model: ModelLike,
    other: ModelLike | None = None,
    data: DataLike | None = None,
    *,
    preprocess: str | Preprocessing | None = None,
    samples: int = DEFAULT_SAMPLES,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    tensor: str = "",
    values: Iterable[float] = (),
    progress: Callable[[str, int, int], None] = silent,
) -> Inspection:
    """Read the scales, weights and gammas of a model, and with data what its tensors hold; nothing is judged.

    >>> import onnxlint_q
    >>> read = onnxlint_q.inspect("int8.onnx")
    >>> read.models[0].qparams[0].kind
    'activation'

    Args:
        model: as of `lint`; what is no path is called `<model>`.
        other: a second one, told beside the first; what is no path is called `<other model>`.
        data: samples to run, as of `lint`; None tells what stands in the files.
        preprocess: as of `lint`.
        samples: how many to run.
        input_shapes: as of `lint`; of two models, each takes those of its inputs.
        tensor: tell of this tensor, or of the operator of this name, in `sheets`.
        values: what these become at the scale and zero point of that tensor, or of the worst activation, in `rounded`.
        progress: as of `lint`.

    Raises:
        UsageError: an argument cannot be used, or no file has the tensor.
        ModelError: a model cannot be read or run.
        DataError: the samples cannot be read, or do not fit the models.
        DefectError: an error of onnxlint-q itself; please report it.
    """
    wanted = data_request(data, preprocess, samples, DEFAULT_OBSERVER, 0, False, None)
    request = InspectRequest(
        source=wanted.source if wanted is not None else None,
        samples=wanted.samples if wanted is not None else 0,
        tensor=tensor,
        values=_finite(values),
        input_shapes=given_shapes(input_shapes),
        fresh=True,
    )
    with ExitStack() as files:
        given = [(model, "<model>"), *([(other, "<other model>")] if other is not None else [])]
        read = [files.enter_context(model_file(*one)) for one in given]
        return inspect_apart([path for path, _ in read], request, progress, [called for _, called in read])


def render(
    found: ModelResult | Comparison | Inspection | Fixed | Quantized | Iterable[ModelResult],
    report_format: str = ReportFormat.FULL.value,
    *,
    width: int = 100,
    colour: bool = False,
    verbose: bool = False,
) -> str:
    """A report as text, as the command line writes it.

    >>> import onnxlint_q
    >>> onnxlint_q.render(onnxlint_q.lint("model.onnx"), "concise").count("model.onnx: ") > 0
    True

    Args:
        found: what `lint`, `compare`, `inspect`, `fix` or `quantize` gave, or several of the first.
        report_format: as `--output-format`.
        width: columns of the format `full`.
        colour: with ANSI colours, in the format `full`.
        verbose: in the format `full`, every place, table and note, not the first screen alone.

    Raises:
        UsageError: there is no such format, or what was given is no result.
    """
    known = _FORMATS.get(type(found), tuple(ReportFormat))
    if report_format not in known:
        raise UsageError(f"report format {report_format!r}: choose from {', '.join(known)}")
    form, look = ReportFormat(report_format), Look(width, colour, verbose)
    if isinstance(found, Comparison):
        return render_comparison(found, form, look)
    if isinstance(found, Inspection):
        return render_inspection(found, form, look)
    if isinstance(found, Fixed):
        return render_fixed(found, form, look)
    if isinstance(found, Quantized):
        return render_quantized(found, form, look)
    models = (found,) if isinstance(found, ModelResult) else tuple(found)
    other = next((type(one).__name__ for one in models if not isinstance(one, ModelResult)), None)
    if other is not None:
        raise UsageError(f"a {other} among results of lint: give what lint gave, or one other result alone")
    return render_run(Run(models), form, look)


def _finite(values: Iterable[float] | str) -> tuple[float, ...]:
    if isinstance(values, str):
        raise UsageError(f"values: give a list of numbers, not the text {values[:200]!r}")
    try:
        numbers = tuple(map(float, values))
    except (TypeError, ValueError, OverflowError) as error:
        raise UsageError(f"values: give a list of numbers ({error})") from error
    if not all(map(math.isfinite, numbers)):
        raise UsageError("values: NaN and infinity have no code; give finite numbers")
    return numbers
