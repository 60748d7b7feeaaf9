"""Everything that can stop an answer.

OnnxlintError
├── UsageError            an option, a path or a configuration value that cannot be used
├── PluginError           a rule package that cannot be loaded, or two rules with one code
├── ModelError            the model file cannot be read or cannot be trusted
└── DataError             the calibration data cannot be read or does not fit the model

Each message names the file, the option or the key, says what is wrong and what to do next. The command line ends in
exit code 2, the functions for programs raise; but for a DataError that `check` or `lint` meets when it runs the model:
it costs the run, not what the file tells, and becomes a finding.
Something that is wrong *inside* a readable model is not an error here but a finding.
"""

from __future__ import annotations

import difflib
import os
import traceback
from collections.abc import Iterable
from pathlib import Path


class OnnxlintError(Exception):
    """Base of all errors that are reported as one line."""


class UsageError(OnnxlintError):
    """The command line or the configuration cannot be used."""


class PluginError(OnnxlintError):
    """A rule package is broken: it cannot be imported, or claims a code that is taken."""


class ModelError(OnnxlintError):
    """The model file cannot be read or cannot be trusted."""


class DataError(OnnxlintError):
    """The calibration data cannot be read or does not fit the model's inputs."""


class DefectError(Exception):
    """An error of onnxlint-q itself that happened in another process; the text is that of `with_place` there."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """` (did you mean 'x'?)` for the nearest known word in any case, empty where none is near."""
    by_fold = {name.casefold(): name for name in known}
    close = difflib.get_close_matches(word.casefold(), list(by_fold), n=1)
    return f" (did you mean {by_fold[close[0]]!r}?)" if close else ""


def as_one_line(error: Exception, subject: str = "") -> str:
    """An error as a sentence; `subject` is the file it concerns, for an error that does not name it itself."""
    if isinstance(error, OnnxlintError):
        return str(error)
    if isinstance(error, OSError) and error.filename is not None:
        return f"{os.fsdecode(error.filename)}: {error.strerror}"
    prefix = f"{subject}: " if subject else ""
    return f"{prefix}an error of onnxlint-q itself, {with_place(error)}; report it with the model"


def with_place(error: Exception) -> str:
    """Kind, text and place of an error that should not happen: `KeyError: 'b' (layers.py:124)`."""
    if isinstance(error, DefectError):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{place}"
