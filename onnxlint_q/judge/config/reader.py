"""From a table of a configuration file, or the words of the command line, to settings."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeVar

from onnxlint_q.analysis.half.tensors import FP16
from onnxlint_q.analysis.schemes import SCHEMES, Scheme
from onnxlint_q.analysis.targets import TARGETS
from onnxlint_q.errors import did_you_mean
from onnxlint_q.finding import Severity, Suppressor
from onnxlint_q.judge.config.words import ALL_SCHEMES, SCHEME_NAMES, SEVERITIES
from onnxlint_q.judge.suppression import Entry
from onnxlint_q.judge.verdict import VerdictLevels

ENTRY = ("code", "reason", "node", "model")
"""Keys of a table under `[[suppress]]`."""
_T = TypeVar("_T")


class Reader:
    """Takes settings out of a table and keeps what is wrong with them, each error with the name of its key."""

    def __init__(self, table: Mapping[str, Any], prefix: str = "") -> None:
        self.table = table
        self.prefix = prefix
        self.errors: list[str] = []

    def choice(self, key: str, choices: Mapping[str, _T], default: _T) -> _T:
        """What `key` says, one of the keys of `choices`."""
        return self._chosen(key, self.table[key], choices, default) if key in self.table else default

    def words(self, key: str) -> tuple[str, ...]:
        """A list of words."""
        value = self.table.get(key, [])
        if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
            self.errors.append(f"{self.prefix + key!r} must be a list of words, not {value!r}")
            return ()
        return tuple(value)

    def schemes(self, default: tuple[Scheme, ...] | None) -> tuple[Scheme, ...] | None:
        """Those that `scheme` names and that quantise."""
        if "scheme" not in self.table:
            return default
        words = self.words("scheme")
        if words == (ALL_SCHEMES,):
            return tuple(SCHEMES.values())
        unknown = [word for word in words if word not in SCHEME_NAMES]
        if words and not unknown:
            return tuple(SCHEMES[word] for word in dict.fromkeys(words) if word != FP16)
        if self.table["scheme"] == list(words):  # else it is said already that it is no list of words
            said = ",".join(unknown)
            self.errors.append(f"{self.prefix}scheme {said!r}: choose from {', '.join(SCHEME_NAMES)}, or {ALL_SCHEMES}")
        return default

    def half(self, default: bool) -> bool:
        """Whether `scheme` names float16."""
        words = self.table.get("scheme")
        return default if words is None else isinstance(words, list) and bool({FP16, ALL_SCHEMES}.intersection(words))

    def targets(self, default: tuple[str, ...]) -> tuple[str, ...]:
        """Those that `target` names."""
        if "target" not in self.table:
            return default
        words = self.words("target")
        unknown = [word for word in words if word not in TARGETS]
        if words and not unknown:
            return tuple(dict.fromkeys(words))
        if self.table["target"] == list(words):  # else it is said already that it is no list of words
            self.errors.append(f"{self.prefix}target {','.join(unknown)!r}: choose from {', '.join(TARGETS)}")
        return default

    def number(self, key: str, default: float) -> float:
        """A finite number."""
        return self._finite(key, self.table[key], default) if key in self.table else default

    def levels(self, standard: VerdictLevels) -> VerdictLevels:
        """Where verdicts change, of the table `verdict`."""
        names = {f.name.replace("_", "-"): f.name for f in fields(VerdictLevels)}
        values = {}
        for key, value in self.section("verdict").items():
            if key in names:
                values[names[key]] = self._finite(f"verdict.{key}", value, getattr(standard, names[key]))
            else:
                self.errors.append(f"unknown key {key!r} in [verdict]{did_you_mean(key, names)}")
        levels = replace(standard, **values)
        for name in ("breaks_agreement", "survives_agreement"):
            if not 0 <= getattr(levels, name) <= 1:
                self.errors.append(f"verdict.{name.replace('_', '-')} must be a fraction from 0 to 1")
        return levels

    def severities(self) -> Mapping[str, Severity]:
        """By code or name of a rule, of the table `severity`."""
        found = {}
        for name, value in self.section("severity").items():
            severity = self._chosen(f"severity.{name}", value, SEVERITIES, Severity.ERROR)
            if severity is None:
                self.errors.append(f"severity.{name} cannot be none; put the rule into ignore")
            else:
                found[name] = severity
        return found

    def flag(self, key: str, default: bool) -> bool:
        """True or false."""
        value = self.table.get(key, default)
        if not isinstance(value, bool):
            self.errors.append(f"{self.prefix + key!r} must be true or false, not {value!r}")
            return default
        return value

    def path(self, key: str, folder: Path) -> Path | None:
        """A path, from `folder` unless it is absolute."""
        value = self.table.get(key)
        if value is None:
            return None
        if not isinstance(value, str) or not value:
            self.errors.append(f"{self.prefix + key!r} must be a path, not {value!r}")
            return None
        return folder / value

    def address(self, key: str) -> str:
        """An address of the web with `{code}` in it; empty where there is none."""
        value = self.table.get(key, "")
        fits = isinstance(value, str) and value.startswith(("https://", "http://")) and "{code}" in value
        if key in self.table and not (fits and value.isprintable() and " " not in value):
            self.errors.append(f"{self.prefix + key!r} must be an address with {{code}} in it, not {value!r}")
            return ""
        return str(value)

    def suppressions(self, source: str) -> tuple[Entry, ...]:
        """What stands under `[[suppress]]`; `source` is the name of the file."""
        value = self.table.get("suppress", [])
        if not isinstance(value, list) or not all(isinstance(table, dict) for table in value):
            self.errors.append(f"'suppress' must be tables, each under [[suppress]], not {value!r}")
            return ()
        found = (self._suppression(f"[[suppress]] {n}", t, source) for n, t in enumerate(value, 1))
        return tuple(entry for entry in found if entry is not None)

    def _suppression(self, which: str, table: Mapping[str, Any], source: str) -> Entry | None:
        wrong = [f"unknown key {key!r} in {which}{did_you_mean(key, ENTRY)}" for key in table if key not in ENTRY]
        code = table.get("code")
        rules = [code] if isinstance(code, str) else code
        if not isinstance(rules, list) or not rules or not all(isinstance(word, str) for word in rules):
            wrong.append(f"{which} needs `code`: the code or the name of a rule, or a list of them, not {code!r}")
        words = {key: table.get(key, "") for key in ("reason", "node", "model")}
        wrong += [
            f"{which}: {key!r} must be text, not {word!r}" for key, word in words.items() if type(word) is not str
        ]
        if isinstance(words["reason"], str) and not words["reason"].strip():
            wrong.append(f"{which} needs `reason`: why the finding does not count")
        self.errors.extend(wrong)
        if wrong or not isinstance(rules, list):
            return None
        return Entry(
            tuple(rules),
            words["reason"].strip(),
            Suppressor.CONFIGURATION,
            f"{which} of {source}",
            words["node"],
            words["model"],
        )

    def section(self, *keys: str) -> Mapping[str, Any]:
        """The table under these keys, empty where there is none."""
        value: Any = self.table
        for key in keys:
            value = value.get(key, {})
            if not isinstance(value, dict):
                self.errors.append(f"{'.'.join(keys)!r} must be a table, not {value!r}")
                return {}
        return dict(value)

    def _chosen(self, key: str, word: Any, choices: Mapping[str, _T], default: _T) -> _T:
        if isinstance(word, str) and word in choices:
            return choices[word]
        self.errors.append(f"{self.prefix}{key} {word!r} is not one of {', '.join(choices)}")
        return default

    def _finite(self, key: str, value: Any, default: float) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            self.errors.append(f"{key!r} must be a finite number, not {value!r}")
            return default
        return float(value)
