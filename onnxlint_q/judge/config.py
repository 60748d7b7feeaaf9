"""Configuration files: found, read, checked, all errors told at once.

`onnxlint-q.toml`, `.onnxlint-q.toml` or `[tool.onnxlint-q]` in `pyproject.toml`, in this order, nearest to the model
and not above the repository. Files are not merged. The command line wins over the file.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from onnxlint_q.errors import UsageError, did_you_mean
from onnxlint_q.finding import CONFIRM_BELOW_DB, Severity
from onnxlint_q.judge.rule import Rule
from onnxlint_q.judge.select import Selection
from onnxlint_q.judge.verdict import VerdictLevels

_NAMES = ("onnxlint-q.toml", ".onnxlint-q.toml", "pyproject.toml")
_KEYS = ("select", "extend-select", "ignore", "fail-on", "confirm-below-db", "verdict", "severity", "rules")


@dataclass(frozen=True, slots=True)
class Config:
    """What a configuration file can say.

    Attributes:
        source: the file, None for the defaults.
        selection: which rules run.
        fail_on: lowest severity that makes the exit code 1; None for never.
        confirm_below_db: a claim is confirmed if its test leaves the output below this SQNR.
        levels: where the end-to-end verdict changes.
        severities: severity by rule code or name, instead of the rule's own.
        options: rule options by rule code or name.
    """

    source: Path | None = None
    selection: Selection = field(default_factory=Selection)
    fail_on: Severity | None = Severity.WARNING
    confirm_below_db: float = CONFIRM_BELOW_DB
    levels: VerdictLevels = field(default_factory=VerdictLevels)
    severities: Mapping[str, Severity] = field(default_factory=dict)
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def build(self, rules: Sequence[type[Rule]]) -> tuple[Rule, ...]:
        """The chosen rules with their options.

        Raises:
            UsageError: a rule, an option or a type in the file is unknown; all of them are named.
        """
        errors: list[str] = []
        known = {name: rule for rule in rules for name in (rule.code, rule.name)}
        errors.extend(
            f"unknown rule {name!r}{did_you_mean(name, known)}"
            for name in (*self.options, *self.severities)
            if name not in known
        )
        built = [self._instance(rule, errors) for rule in self.selection.choose(rules)]
        if errors:
            raise UsageError(f"{self.source}: " + "; ".join(errors))
        return tuple(rule for rule in built if rule is not None)

    def severity_of(self, rule: Rule) -> Severity | None:
        """The severity that the configuration sets for `rule`, if it does."""
        return self.severities.get(rule.code) or self.severities.get(rule.name)

    def _instance(self, rule: type[Rule], errors: list[str]) -> Rule | None:
        values = {**self.options.get(rule.code, {}), **self.options.get(rule.name, {})}
        options = {f.name: f for f in fields(rule)}
        accepted: dict[str, Any] = {}
        for key, value in values.items():
            name = key.replace("-", "_")
            if name not in options:
                errors.append(f"rule {rule.name} has no option {key!r}{did_you_mean(name, options)}")
                continue
            default = options[name].default
            number = isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool)
            if type(value) is not type(default) and not number:
                errors.append(f"option {key!r} of {rule.name} must be a {type(default).__name__}, not {value!r}")
                continue
            accepted[name] = float(value) if number else value
        return rule(**accepted) if not errors else None


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
    errors = [f"unknown key {key!r}{did_you_mean(key, _KEYS)}" for key in table if key not in _KEYS]
    words = {key: _words(table, key, errors) for key in ("select", "extend-select", "ignore")}
    selection = Selection(words["select"] or ("ALL",), words["extend-select"], words["ignore"])
    config = Config(source, selection)
    if "fail-on" in table:
        config = replace(config, fail_on=_severity_or_none(table["fail-on"], errors))
    if "confirm-below-db" in table:
        config = replace(config, confirm_below_db=_number("confirm-below-db", table["confirm-below-db"], errors))
    config = replace(config, levels=_levels(_section(table, "verdict", errors), errors))
    severities = {}
    for name, value in _section(table, "severity", errors).items():
        severity = _severity_or_none(value, errors)
        if severity is not None:
            severities[name] = severity
        elif value == "none":
            errors.append(f"severity of {name!r} cannot be none; put the rule into ignore")
    options = {name: _section(table.get("rules", {}), name, errors) for name in _section(table, "rules", errors)}
    if errors:
        raise UsageError(f"{source}: " + "; ".join(errors))
    return replace(config, severities=severities, options=options)


def parse_fail_on(word: str) -> Severity | None:
    """`error`, `warning`, `info`, or None for `none`.

    Raises:
        UsageError: any other word.
    """
    errors: list[str] = []
    severity = _severity_or_none(word, errors)
    if errors:
        raise UsageError(errors[0])
    return severity


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


def _levels(table: Mapping[str, Any], errors: list[str]) -> VerdictLevels:
    names = {f.name.replace("_", "-"): f.name for f in fields(VerdictLevels)}
    values = {}
    for key, value in table.items():
        if key not in names:
            errors.append(f"unknown key {key!r} in [verdict]{did_you_mean(key, names)}")
        else:
            values[names[key]] = _number(f"verdict.{key}", value, errors)
    return VerdictLevels(**values)


def _words(table: Mapping[str, Any], key: str, errors: list[str]) -> tuple[str, ...]:
    value = table.get(key, [])
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        errors.append(f"{key!r} must be a list of codes or names")
        return ()
    return tuple(value)


def _section(table: Any, key: str, errors: list[str]) -> Mapping[str, Any]:
    value = table.get(key, {}) if isinstance(table, dict) else {}
    if not isinstance(value, dict):
        errors.append(f"{key!r} must be a table")
        return {}
    return value


def _number(key: str, value: Any, errors: list[str]) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        errors.append(f"{key!r} must be a finite number, not {value!r}")
        return 0.0
    return float(value)


def _severity_or_none(word: Any, errors: list[str]) -> Severity | None:
    if word == "none":
        return None
    if isinstance(word, str) and word in set(Severity):
        return Severity(word)
    errors.append(f"{word!r} is not one of error, warning, info, none")
    return None
