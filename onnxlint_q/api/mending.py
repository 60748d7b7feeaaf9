"""What programs call to write models, as `calls` has what reads them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from onnxlint_q.analysis.observed.observers import DEFAULT_OBSERVER
from onnxlint_q.api.data import DataLike, LabelsLike, data_request
from onnxlint_q.api.jobs import Words, job_of, overrides_of, words_of
from onnxlint_q.api.models import ModelLike, given_shapes, model_file
from onnxlint_q.errors import UsageError
from onnxlint_q.execute.data.preprocess import Preprocessing
from onnxlint_q.execute.limits import DEFAULT_SAMPLES
from onnxlint_q.execute.progress import silent
from onnxlint_q.graph.loading.external import lost
from onnxlint_q.graph.loading.save import model_files
from onnxlint_q.proof.recipe.goal import MOST_FLOAT
from onnxlint_q.workflow.mending.fix import FixRequest
from onnxlint_q.workflow.mending.fix import fix as fix_model
from onnxlint_q.workflow.mending.fixed import Fixed
from onnxlint_q.workflow.mending.mend import Selection
from onnxlint_q.workflow.mending.quantize import quantize as quantize_model
from onnxlint_q.workflow.mending.quantize_request import QuantizeRequest, written_beside
from onnxlint_q.workflow.mending.quantized import Quantized


def fix(
    model: ModelLike,
    out: str | os.PathLike[str] | None = None,
    data: DataLike | None = None,
    *,
    preprocess: str | Preprocessing | None = None,
    samples: int = DEFAULT_SAMPLES,
    observer: str = DEFAULT_OBSERVER,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    schemes: Words | None = None,
    select: Words = (),
    ignore: Words = (),
    exact_only: bool = False,
    unsafe: bool = False,
    config: str | os.PathLike[str] | None = None,
    progress: Callable[[str, int, int], None] = silent,
) -> Fixed:
    """Change a float model so that it quantises better and computes the same.

    >>> import onnxlint_q
    >>> fixed = onnxlint_q.fix("model.onnx")
    >>> fixed.out, [rewrite.name for rewrite in fixed.applied if rewrite.safety == "unsafe"]
    ('', [])

    Args:
        model: as of `lint`; what is no path is called `<model>`.
        out: the file to write; None writes nothing and tells what would change.
        data: samples to try changes on, as of `lint`; None tries them on synthetic inputs.
        preprocess: as of `lint`.
        samples: how many to take ranges from, and at most as many others for the figures.
        observer: as of `lint`.
        input_shapes: as of `lint`.
        schemes: those that have to gain, by name; as of `lint`.
        select: rewrites to try instead of all, by name.
        ignore: rewrites not to try.
        exact_only: only what leaves the outputs the same for every input.
        unsafe: also what changes the inputs or outputs of the model.
        config: as of `lint`.
        progress: as of `lint`.

    Returns:
        What was changed and what was not, with the reasons, and the schemes before and after.

    Raises:
        UsageError: an argument cannot be used, or a file would replace one that is read.
        ModelError: the model cannot be read or run, is quantised already, or what was made is not what it has to be.
        DataError: the samples cannot be read, or do not fit the model.
        PluginError: a rule package is broken.
        DefectError: an error of onnxlint-q itself; please report it.
    """
    wanted = data_request(data, preprocess, samples, observer, 0, False, None)
    with model_file(model, "<model>") as (path, called):
        target = None if out is None else Path(out)
        selection = Selection(words_of(select), words_of(ignore), exact_only, unsafe)
        request = FixRequest(target, wanted, selection, given_shapes(input_shapes), fresh=True)
        job = job_of(path, called, overrides_of(config, (), (), (), schemes, None, None))
        _replaces_nothing([] if target is None else model_files(target), [path, data, job.config.source])
        return fix_model(path, job.rules, job.config, request, progress, called)


def quantize(
    model: ModelLike,
    out: str | os.PathLike[str],
    data: DataLike | None = None,
    *,
    preprocess: str | Preprocessing | None = None,
    samples: int = DEFAULT_SAMPLES,
    labels: LabelsLike | None = None,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    schemes: Words | None = None,
    min_sqnr: float | None = None,
    min_agreement: float | None = None,
    max_float: float = MOST_FLOAT,
    recipe: str | os.PathLike[str] | None = None,
    keep_float: bool = False,
    select: Words = (),
    ignore: Words = (),
    exact_only: bool = False,
    config: str | os.PathLike[str] | None = None,
    progress: Callable[[str, int, int], None] = silent,
) -> Quantized:
    """Quantise a float model so that it reaches a goal at the least cost, and run what was written.

    >>> import onnxlint_q
    >>> made = onnxlint_q.quantize("model.onnx", "int8.onnx", "random", samples=8)
    >>> made.result.scheme in ("int8-per-tensor", "int8-per-channel")
    True

    Args:
        model: as of `lint`; what is no path is called `<model>`.
        out: the file to write; its recipe is written beside it.
        data: samples to take ranges from and to measure on, as of `lint`; None takes both from synthetic inputs, and
            then nothing about accuracy on real data is measured.
        preprocess: as of `lint`.
        samples: how many to take ranges from, and at most as many others for the figures.
        labels: as of `lint`; they are counted and nothing is chosen by them.
        input_shapes: as of `lint`.
        schemes: those that may be used, by name; as of `lint`.
        min_sqnr: SQNR (dB) that the worst output has to keep.
        min_agreement: fraction of samples that have to keep the float model's top class. Without a goal the model has
            to survive.
        max_float: fraction of the multiplications that may leave 8 bits, for float or 16 bits.
        recipe: the file of a recipe to follow instead of searching for one.
        keep_float: write the float model that is quantised, too: its name ends in `.float.onnx`.
        select: rewrites of `fix` to try instead of all, by name.
        ignore: rewrites of `fix` not to try.
        exact_only: only rewrites that leave the outputs the same for every input.
        config: as of `lint`.
        progress: as of `lint`.

    Returns:
        What was made, whether it `reached` the goal, and what was tried.

    Raises:
        UsageError: an argument cannot be used, or a file would replace one that is read.
        ModelError: the model cannot be read, run or quantised, or is quantised already.
        DataError: the samples or labels cannot be read, or do not fit the model.
        PluginError: a rule package is broken.
        DefectError: an error of onnxlint-q itself; please report it.
    """
    wanted = data_request(data, preprocess, samples, DEFAULT_OBSERVER, 0, False, labels)
    with model_file(model, "<model>") as (path, called):
        request = QuantizeRequest(
            Path(out),
            wanted,
            min_sqnr,
            min_agreement,
            max_float,
            None if recipe is None else Path(recipe),
            keep_float,
            Selection(words_of(select), words_of(ignore), exact_only),
            given_shapes(input_shapes),
            fresh=True,
        )
        job = job_of(path, called, overrides_of(config, (), (), (), schemes, None, None))
        written = written_beside(Path(out), keep_float=keep_float)
        _replaces_nothing(written, [path, data, labels, recipe, job.config.source])
        return quantize_model(path, job.rules, job.config, request, progress, called)


def _replaces_nothing(written: Sequence[Path], read: Sequence[object]) -> None:
    """Check that no file is written over one that is read; what is no path cannot be."""
    for source in (Path(one) for one in read if isinstance(one, str | os.PathLike)):
        for target in written:
            if what := lost(source, str(target)):
                raise UsageError(f"{target}: would replace a file of this run, {what}; name another file")
