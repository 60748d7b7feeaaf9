"""Everything that can stop an answer.

OnnxlintError
├── UsageError            an option, a path or a configuration value that cannot be used
├── PluginError           a rule package that cannot be loaded, or two rules with one code
├── ModelError            the model file cannot be read or cannot be trusted
└── DataError             the calibration data cannot be read or does not fit the model

Each message names the file, says what is wrong and what to do next. All of them end in exit code 2.
Something that is wrong *inside* a readable model is not an error here but a finding.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


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


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """` (did you mean 'x'?)` for the nearest known word, empty where none is near."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
