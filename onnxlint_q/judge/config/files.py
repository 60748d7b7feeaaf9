"""Configuration files: found, read, checked, all errors told at once.

`onnxlint-q.toml`, `.onnxlint-q.toml` or `[tool.onnxlint-q]` in `pyproject.toml`, in this order, nearest to the model
and not above the repository. Files are not merged. The command line wins over the file.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onnxlint_q.errors import UsageError, did_you_mean
from onnxlint_q.judge.config.config import Config, with_source
from onnxlint_q.judge.config.reader import Reader
from onnxlint_q.judge.config.words import FAILING_VERDICTS, SEVERITIES
from onnxlint_q.judge.select import ALL, Selection
from onnxlint_q.judge.suppression import Suppressing

_NAMES = ("onnxlint-q.toml", ".onnxlint-q.toml", "pyproject.toml")
_KEYS = (
    "select",
    "extend-select",
    "ignore",
    "scheme",
    "target",
    "fail-on",
    "fail-on-verdict",
    "confirm-below-db",
    "verdict",
    "severity",
    "rules",
    "baseline",
    "suppress",
    "suppress-in-model",
    "rule-pages",
)


def find_config(model: Path) -> Config:
    """The configuration nearest to `model`, the defaults where there is none.

    Raises:
        UsageError: the file found cannot be read or says something unknown.
    """
    start = model if model.is_dir() else model.parent
    for folder in (start.absolute(), *start.absolute().parents):
        for name in _NAMES:
            path = folder / name
            table = _table(path) if path.is_file() else None
            if table is not None:
                return parse_config(table, path)
        if (folder / ".git").exists():
            break
    return Config()


def read_config(path: Path) -> Config:
    """The configuration in `path`.

    Raises:
        UsageError: it is not there, not TOML, holds no section for this tool, or says something unknown.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such configuration file")
    table = _table(path)
    if table is None:
        raise UsageError(f"{path}: has no section [tool.onnxlint-q]")
    return parse_config(table, path)


def parse_config(table: Mapping[str, Any], source: Path) -> Config:
    """A Config from its TOML table.

    Raises:
        UsageError: with every error of the table.
    """
    read = Reader(table)
    read.errors.extend(f"unknown key {key!r}{did_you_mean(key, _KEYS)}" for key in table if key not in _KEYS)
    standard = Config()
    config = Config(
        source=source,
        selection=Selection(read.words("select") or (ALL,), read.words("extend-select"), read.words("ignore")),
        schemes=read.schemes(standard.schemes),
        half=read.half(standard.half),
        targets=read.targets(standard.targets),
        fail_on=read.choice("fail-on", SEVERITIES, standard.fail_on),
        fail_on_verdict=read.choice("fail-on-verdict", FAILING_VERDICTS, standard.fail_on_verdict),
        confirm_below_db=read.number("confirm-below-db", standard.confirm_below_db),
        levels=read.levels(),
        severities=read.severities(),
        options={name: read.section("rules", name) for name in read.section("rules")},
        baseline=read.path("baseline", source.parent),
        suppressing=Suppressing(read.suppressions(source.name), read.flag("suppress-in-model", True)),
        rule_pages=read.address("rule-pages"),
    )
    if read.errors:
        raise UsageError(with_source(source, read.errors))
    return config


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
