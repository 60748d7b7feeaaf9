"""What the words of the command line mean: from text to values, with an error that says what would be right."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from onnxlint_q.errors import UsageError
from onnxlint_q.judge.config import Overrides


def parse_shapes(words: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Shapes by input.

    Raises:
        UsageError: a word is not of the form NAME=1,3,320,320, or names an input a second time.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for word in words:
        # A name may hold an equals sign itself.
        name, _, listed = word.rpartition("=")
        lengths = [length.strip() for length in listed.split(",")]
        if not name or not all(length.isdecimal() and len(length) < 10 and int(length) > 0 for length in lengths):
            raise UsageError(f"--input-shape {word!r}: give NAME=1,3,320,320, each axis 1 or more")
        if name in shapes:
            raise UsageError(f"--input-shape {name}: given twice; give one shape an input")
        shapes[name] = tuple(map(int, lengths))
    return shapes


def parse_values(words: Sequence[str] | None) -> tuple[float, ...]:
    """The numbers of `--values`, with spaces or commas between.

    Raises:
        UsageError: one is no number.
    """
    numbers = [part for text in words or () for part in text.replace(",", " ").split() or [text]]
    wrong = next((text for text in numbers if not _is_number(text)), None)
    if wrong is not None:
        raise UsageError(f"--values {wrong!r}: give numbers, with spaces or commas between")
    return tuple(map(float, numbers))


def parse_overrides(
    config: Path | None,
    *,
    no_config: bool,
    select: Sequence[str] | None,
    extend_select: Sequence[str] | None,
    ignore: Sequence[str] | None,
    scheme: str | None,
    fail_on: str | None,
    fail_on_verdict: str | None,
    target: str | None = None,
    baseline: Path | None = None,
    write_baseline: Path | None = None,
) -> Overrides:
    """What the command line says of the configuration.

    Raises:
        UsageError: two options contradict each other.
    """
    return Overrides(
        file=check_config(config, no_config=no_config),
        search=not no_config,
        select=split_words(select),
        extend_select=split_words(extend_select),
        ignore=split_words(ignore),
        scheme=None if scheme is None else split_words([scheme]),
        target=None if target is None else split_words([target]),
        fail_on=fail_on,
        fail_on_verdict=fail_on_verdict,
        baseline=baseline,
        anew=write_baseline is not None,
    )


def check_config(config: Path | None, *, no_config: bool) -> Path | None:
    """The configuration file that was named.

    Raises:
        UsageError: none is to be used, either.
    """
    if config is not None and no_config:
        raise UsageError("--config and --no-config contradict each other; leave one out")
    return config


def split_words(options: Sequence[str] | None) -> tuple[str, ...]:
    """Repeated options, each with commas between, as one list."""
    return tuple(word.strip() for option in options or () for word in option.split(",") if word.strip())


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
