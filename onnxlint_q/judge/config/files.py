"""Configuration files: found, read, checked, all errors told at once.

`onnxlint-q.toml`, `.onnxlint-q.toml` or `[tool.onnxlint-q]` in `pyproject.toml`, in this order, nearest to the model
and not above the repository. Files are not merged. The command line wins over the file.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from onnxlint_q.errors import UsageError, did_you_mean
from onnxlint_q.judge.config.config import Config, ForModels, with_source
from onnxlint_q.judge.config.reader import Reader
from onnxlint_q.judge.config.settle import settled
from onnxlint_q.judge.config.words import KEYS, MODEL_KEYS
from onnxlint_q.judge.rule import Rule
from onnxlint_q.judge.suppression import Suppressing

_NAMES = ("onnxlint-q.toml", ".onnxlint-q.toml", "pyproject.toml")


def find_config(model: Path, rules: Sequence[type[Rule]] = ()) -> Config:
    """The configuration nearest to `model`, else the defaults; checked against `rules`, if there are any.

    Raises:
        UsageError: the file found cannot be read or says something unknown.
    """
    start = model if model.is_dir() else model.parent
    for folder in (start.absolute(), *start.absolute().parents):
        for name in _NAMES:
            path = folder / name
            table = _table(path) if path.is_file() else None
            if table is not None:
                return parse_config(table, path, rules)
        if (folder / ".git").exists():
            break
    return Config()


def read_config(path: Path, rules: Sequence[type[Rule]] = ()) -> Config:
    """The configuration in `path`, checked against `rules`, if there are any.

    Raises:
        UsageError: it is not there, not TOML, holds no section for this tool, or says something unknown.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such configuration file")
    table = _table(path)
    if table is None:
        raise UsageError(f"{path}: has no section [tool.onnxlint-q]")
    return parse_config(table, path, rules)


def parse_config(table: Mapping[str, Any], source: Path, rules: Sequence[type[Rule]] = ()) -> Config:
    """A Config from its TOML table, checked against `rules`, if there are any.

    Raises:
        UsageError: with every error of the table.
    """
    read = Reader(table)
    read.errors.extend(f"unknown key {key!r}{did_you_mean(key, KEYS)}" for key in table if key not in KEYS)
    config = replace(
        settled(Config(source=source), read, source.name),
        baseline=read.path("baseline", source.parent),
        suppressing=Suppressing(read.suppressions(source.name), read.flag("suppress-in-model", True)),
        rule_pages=read.address("rule-pages"),
        models=tuple(ForModels(glob, read.section("models", glob)) for glob in read.section("models")),
    )
    errors = [*read.errors, *(config.errors(rules) if rules else ())]
    for one in config.models:
        errors.extend(f"{one.title} {error}" for error in _errors_of(one, config, rules) if error not in errors)
    if errors:
        raise UsageError(with_source(source, errors))
    return config


def _errors_of(one: ForModels, config: Config, rules: Sequence[type[Rule]]) -> Iterator[str]:
    """What is wrong with the settings of some models."""
    for key in one.table:
        if key in KEYS and key not in MODEL_KEYS:
            yield f"{key!r} cannot be set for single models; put it at the top of the file"
        elif key not in MODEL_KEYS:
            yield f"unknown key {key!r}{did_you_mean(key, MODEL_KEYS)}"
    read = Reader(one.table)
    over = settled(config, read, one.title)
    yield from read.errors
    yield from over.errors(rules) if rules else ()


def _table(path: Path) -> Mapping[str, Any] | None:
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path}: cannot be read as TOML ({error})") from error
    if path.name != "pyproject.toml":
        return document
    tool = document.get("tool", {})
    table = tool.get("onnxlint-q") if isinstance(tool, dict) else None
    return table if isinstance(table, dict) else None
