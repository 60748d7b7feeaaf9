"""Arguments of programs as what a command is given: a model with the rules and configuration for it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from onnxlint_q.judge.config import Overrides
from onnxlint_q.workflow.check import Job, plan

Words: TypeAlias = str | Iterable[str]
"""Names: one, or several."""


def job_of(path: Path, called: str, overrides: Overrides) -> Job:
    """The model with what it is linted with; `called` is what messages call one that is no file of the user's."""
    (job,) = plan([path], overrides)
    return replace(job, called=called)


def overrides_of(
    config: str | os.PathLike[str] | None,
    select: Words,
    extend_select: Words,
    ignore: Words,
    schemes: Words | None,
    fail_on: str | None,
    fail_on_verdict: str | None,
    targets: Words | None = None,
    baseline: str | os.PathLike[str] | None = None,
) -> Overrides:
    """What a program says of the configuration; none is looked for."""
    return Overrides(
        file=None if config is None else Path(config),
        search=False,
        select=words_of(select),
        extend_select=words_of(extend_select),
        ignore=words_of(ignore),
        scheme=None if schemes is None else words_of(schemes),
        target=None if targets is None else words_of(targets),
        fail_on=fail_on,
        fail_on_verdict=fail_on_verdict,
        baseline=None if baseline is None else Path(baseline),
        prefix="",
    )


def words_of(given: Words) -> tuple[str, ...]:
    """Names as a tuple."""
    return (given,) if isinstance(given, str) else tuple(given)
