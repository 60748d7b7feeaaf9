"""The data of each model: what the command line says, and what the configuration says of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from onnxlint_q.analysis.observed.observers import DEFAULT_OBSERVER
from onnxlint_q.cli.words.images import ImageWords, option_name, parse_preprocessing
from onnxlint_q.cli.words.options import CONFIGURED
from onnxlint_q.cli.words.requests import split_words
from onnxlint_q.errors import UsageError
from onnxlint_q.execute.data.images import ImageFolder
from onnxlint_q.execute.data.sources import open_source
from onnxlint_q.execute.limits import DEFAULT_SAMPLES, PROVING
from onnxlint_q.judge.config import Config, Data, Overrides
from onnxlint_q.workflow.check import Job
from onnxlint_q.workflow.record import DataRequest

MEASURES = ("layers",)
"""What `--measure` can be."""


def parse_data(
    calibrate: str | None,
    images: ImageWords,
    *,
    samples: int | None = None,
    observer: str | None = None,
    trials: int | None = None,
    measure: Sequence[str] | None = None,
    labels: Path | None = None,
    prove: str | None = None,
    known: Data | None = None,
) -> DataRequest | None:
    """What to do with calibration data; None where none was named. `known` is what the configuration says of it.

    Raises:
        UsageError: a word is none of its option, an option that was given has nothing to act on, or there is no data
            where it is said to be.
    """
    said = images if known is None else images.over(known)
    how = parse_preprocessing(
        said.preprocess,
        mean=said.mean,
        std=said.std,
        scale=said.scale,
        channel_order=said.channel_order,
        resize=said.resize,
        crop=said.crop,
        layout=said.layout,
    )
    words = split_words(measure)
    if not set(words) <= set(MEASURES):
        raise UsageError(f"--measure {','.join(words)}: choose `{'`, `'.join(MEASURES)}`")
    if calibrate is None:
        given = {
            "samples": samples,
            "observer": observer,
            "trials": trials,
            "measure": measure or None,
            "labels": labels,
            "prove": prove,
        }
        useless = [*images.given, *(option_name(name) for name, value in given.items() if value is not None)]
        if useless:
            instead = ", or give --probe" if "--measure" in useless else ""
            raise UsageError(f"{_have(useless)} no effect without data; give it with --calibrate{instead}")
        return None
    source = open_source(calibrate, how)
    if images.given and not isinstance(source, ImageFolder):
        raise UsageError(
            f"{_have(images.given)} no effect on --calibrate {calibrate}, which is no folder of images; leave out the "
            "options for images"
        )
    return DataRequest(
        source,
        samples or DEFAULT_SAMPLES,
        observer or DEFAULT_OBSERVER,
        bool(words),
        trials or 0,
        labels,
        prove or PROVING[0],
    )


def data_by_model(
    calibrate: str | None, images: ImageWords, **words: Any
) -> Callable[[Config, Path], DataRequest | None]:
    """What to do with calibration data of a model, with what its configuration says of it; None where none was named.

    What is wrong with the words is told at once, before any configuration is read.

    Args:
        calibrate: of the command line.
        images: of the command line.
        **words: the other options of `parse_data`.

    Raises:
        UsageError: as `parse_data`. The function that is returned raises it, too, also where the data is to be that of
            a configuration which names none.
    """
    first = None if calibrate == CONFIGURED else parse_data(calibrate, images, **words)

    def of(config: Config, model: Path) -> DataRequest | None:
        known = config.data
        if calibrate != CONFIGURED:
            return first if known == Data() else parse_data(calibrate, images, known=known, **words)
        if known.calibrate is None:
            raise UsageError(
                f"{model}: --calibrate {CONFIGURED}: the configuration names no data for it; write `calibrate` under "
                "[data], or give a path"
            )
        labels = words.get("labels") or known.labels
        return parse_data(known.calibrate, images, known=known, **{**words, "labels": labels})

    return of


def data_of_jobs(
    jobs: Sequence[Job], data_of: Callable[[Config, Path], DataRequest | None]
) -> tuple[DataRequest | None, list[Job]]:
    """The data that all models share, None where they do not; and the jobs, each with its own where they do not.

    Raises:
        UsageError: as `data_of`.
    """
    found = [None if job.problem else data_of(job.config, job.path) for job in jobs]
    asked = [data for job, data in zip(jobs, found, strict=True) if not job.problem]
    if all(data is asked[0] for data in asked):
        return (asked[0] if asked else None), list(jobs)
    return None, [replace(job, data=data) for job, data in zip(jobs, found, strict=True)]


def data_for_all(
    models: Sequence[Path], overrides: Overrides, calibrate: str | None, images: ImageWords, **words: Any
) -> tuple[DataRequest | None, tuple[Config, ...]]:
    """The data that all models are run on, None where none was named, and the configurations that say something of it.

    Without `--calibrate` no configuration is read.

    Raises:
        UsageError: as `data_by_model`; a configuration cannot be used, or says different things of the models.
    """
    data_of = data_by_model(calibrate, images, **words)
    if calibrate is None:
        return None, ()
    configs = tuple(overrides.config_for(model) for model in models)
    if len({config.data for config in configs}) > 1:
        raise UsageError(
            f"the configuration names other data for {models[1]} than for {models[0]}, and both are run on the same; "
            "inspect one at a time, or pass --no-config and what --calibrate needs"
        )
    return data_of(configs[0], models[0]), configs


def known_data(configs: Iterable[Config]) -> list[str | Path | None]:
    """The files with data that configurations name."""
    return [path for config in configs for path in (config.data.calibrate, config.data.labels)]


def _have(options: Sequence[str]) -> str:
    """`--mean has`, `--mean and --std have`."""
    *others, last = options
    return f"{', '.join(others)} and {last} have" if others else f"{last} has"
