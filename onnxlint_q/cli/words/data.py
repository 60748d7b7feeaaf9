"""The data of each model: what the command line says, and what the configuration says of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from onnxlint_q.cli.words.options import CONFIGURED
from onnxlint_q.cli.words.requests import ImageWords, parse_data
from onnxlint_q.errors import UsageError
from onnxlint_q.judge.config import Config, Data
from onnxlint_q.workflow.check import Job
from onnxlint_q.workflow.record import DataRequest


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


def known_data(configs: Iterable[Config]) -> list[str | Path | None]:
    """The files with data that configurations name."""
    return [path for config in configs for path in (config.data.calibrate, config.data.labels)]
