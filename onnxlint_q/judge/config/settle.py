"""Settings on top of others: those of a file on the defaults, those of a model on those of its file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from onnxlint_q.judge.config.config import Config
from onnxlint_q.judge.config.data import read_data
from onnxlint_q.judge.config.reader import Reader
from onnxlint_q.judge.config.words import FAILING_VERDICTS, SEVERITIES
from onnxlint_q.judge.select import Selection
from onnxlint_q.judge.suppression.baseline import name_from


def settled(config: Config, read: Reader, origin: str) -> Config:
    """The configuration with the settings of a table on top; lists of rules are joined, all else is replaced.

    Args:
        config: what is known already.
        read: the table; it keeps what is wrong with it.
        origin: where the table stands, for people.
    """
    chosen = config.selection
    options = {name: {**config.options.get(name, {}), **read.section("rules", name)} for name in read.section("rules")}
    return replace(
        config,
        selection=Selection(
            read.words("select") or chosen.select,
            (*chosen.extend_select, *read.words("extend-select")),
            (*chosen.ignore, *read.words("ignore")),
        ),
        schemes=read.schemes(config.schemes),
        half=read.half(config.half),
        targets=read.targets(config.targets),
        fail_on=read.choice("fail-on", SEVERITIES, config.fail_on),
        fail_on_verdict=read.choice("fail-on-verdict", FAILING_VERDICTS, config.fail_on_verdict),
        confirm_below_db=read.number("confirm-below-db", config.confirm_below_db),
        levels=read.levels(config.levels),
        severities={**config.severities, **read.severities()},
        options={**config.options, **options},
        data=replace(config.data, **read_data(read.section("data"), config.folder, read.errors)),
        origins={**config.origins, **dict.fromkeys(_keys(read.table), origin)},
    )


def for_model(config: Config, model: Path) -> Config:
    """What applies to one model: the settings of all globs that its path matches, later ones on top of earlier ones."""
    for one in config.models:
        if one.holds(model, config.folder):
            config = settled(config, Reader(one.table), one.title)
    name = name_from(config.folder, model)
    entries = (entry for entry in config.suppressing.entries if not entry.model or fnmatchcase(name, entry.model))
    return replace(config, suppressing=replace(config.suppressing, entries=tuple(entries)))


def _keys(table: Mapping[str, Any], prefix: str = "") -> list[str]:
    """The keys of a table and of those within it, with dots between."""
    found = []
    for key, value in table.items():
        found += _keys(value, f"{prefix}{key}.") if isinstance(value, dict) else [f"{prefix}{key}"]
    return found
