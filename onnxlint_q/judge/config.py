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
from typing import Any, TypeVar

from onnxlint_q.analysis.half.tensors import FP16
from onnxlint_q.analysis.schemes import SCHEMES, Scheme
from onnxlint_q.analysis.targets import TARGETS
from onnxlint_q.errors import UsageError, did_you_mean
from onnxlint_q.finding import CONFIRM_BELOW_DB, Severity
from onnxlint_q.judge.rule import Rule
from onnxlint_q.judge.select import ALL, Selection
from onnxlint_q.judge.verdict import Verdict, VerdictLevels

SEVERITIES: Mapping[str, Severity | None] = {**{level.value: level for level in Severity}, "none": None}
"""What `fail-on` can be."""
FAILING_VERDICTS: Mapping[str, Verdict | None] = {
    **{verdict.value: verdict for verdict in (Verdict.BREAKS, Verdict.DEGRADES)},
    "none": None,
}
"""What `fail-on-verdict` can be."""
ALL_SCHEMES = "all"
SCHEME_NAMES = (*SCHEMES, FP16)
"""What `scheme` can be, beside all of them. The last one quantises nothing."""
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
)
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Config:
    """What a configuration file can say.

    Attributes:
        source: the file, None for the defaults.
        selection: which rules run.
        schemes: which schemes a float model is judged for; None for those of its kind of network.
        half: whether it is judged as float16, too.
        targets: what the file has to run on.
        fail_on: lowest severity that makes the exit code 1; None for never.
        fail_on_verdict: best verdict that makes the exit code 1; None for never.
        confirm_below_db: a claim is confirmed if its test leaves the output below this SQNR.
        levels: where the end-to-end verdict changes.
        severities: severity by rule code or name in any case, instead of the rule's own.
        options: rule options by rule code or name in any case.
    """

    source: Path | None = None
    selection: Selection = field(default_factory=Selection)
    schemes: tuple[Scheme, ...] | None = None
    half: bool = False
    targets: tuple[str, ...] = ()
    fail_on: Severity | None = Severity.WARNING
    fail_on_verdict: Verdict | None = Verdict.BREAKS
    confirm_below_db: float = CONFIRM_BELOW_DB
    levels: VerdictLevels = field(default_factory=VerdictLevels)
    severities: Mapping[str, Severity] = field(default_factory=dict)
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def check_quantises(self) -> None:
        """Check that a scheme which quantises is left where schemes are named.

        Raises:
            UsageError: there is none.
        """
        if self.schemes == ():
            raise UsageError(
                f"scheme {FP16!r} quantises nothing, `check` judges it; convert with convert_float_to_float16 of "
                "onnxruntime.transformers.float16, and name another scheme here"
            )

    def build(self, rules: Sequence[type[Rule]]) -> tuple[Rule, ...]:
        """The chosen rules with their options.

        Raises:
            UsageError: a selector, a rule, an option or a type in the file is unknown; all of them are named.
        """
        errors = list(self.selection.errors(rules))
        known = [name for rule in rules for name in (rule.code, rule.name)]
        folded = {name.casefold() for name in known}
        for section, names in (("rules", self.options), ("severity", self.severities)):
            errors.extend(
                f"[{section}] unknown rule {name!r}{did_you_mean(name, known)}"
                for name in names
                if name.casefold() not in folded
            )
        accepted = {rule: self._accepted(rule, errors) for rule in rules}
        if errors:
            raise UsageError(_with_source(self.source, errors))
        return tuple(rule(**accepted[rule]) for rule in self.selection.choose(rules))

    def severity_of(self, rule: Rule) -> Severity | None:
        """The severity that the configuration sets for `rule`, if it does."""
        return next(iter(_about(type(rule), self.severities)), None)

    def _accepted(self, rule: type[Rule], errors: list[str]) -> Mapping[str, Any]:
        """The options of `rule` that the file sets, whether the rule is chosen or not."""
        values = {key: value for table in _about(rule, self.options) for key, value in table.items()}
        options = {f.name: f for f in fields(rule)}
        accepted: dict[str, Any] = {}
        for key, value in values.items():
            name = key.replace("-", "_")
            if name not in options:
                errors.append(f"[rules.{rule.name}] has no option {key!r}{did_you_mean(name, options)}")
                continue
            default = options[name].default
            number = isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool)
            if type(value) is not type(default) and not number:
                errors.append(f"[rules.{rule.name}] {key} must be a {type(default).__name__}, not {value!r}")
                continue
            if isinstance(default, float) and not math.isfinite(value):
                errors.append(f"[rules.{rule.name}] {key} must be a finite number, not {value!r}")
                continue
            accepted[name] = float(value) if number else value
        return accepted


@dataclass(frozen=True, slots=True)
class Overrides:
    """What the command line says of the configuration.

    Attributes:
        file: this file instead of the one that is found.
        search: whether to look for a file at all.
        select, extend_select, ignore: words; empty where the option was not given.
        scheme, target, fail_on, fail_on_verdict: words; None where the option was not given.
        prefix: what stands before the name of an option in a message.
    """

    file: Path | None = None
    search: bool = True
    select: tuple[str, ...] = ()
    extend_select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    scheme: tuple[str, ...] | None = None
    target: tuple[str, ...] | None = None
    fail_on: str | None = None
    fail_on_verdict: str | None = None
    prefix: str = "--"

    def check(self, rules: Sequence[type[Rule]]) -> None:
        """Check the words for themselves, before any file is read.

        Raises:
            UsageError: one of them is none of its option; it is named with the option.
        """
        self._over(Config())
        chosen = Selection(self.select or (ALL,), self.extend_select, self.ignore)
        errors = list(chosen.errors(rules, self.prefix))
        if errors:
            raise UsageError("; ".join(errors))

    def config_for(self, model: Path) -> Config:
        """The configuration that applies to `model`, with these words on top.

        Raises:
            UsageError: the file cannot be read or says something unknown, or one of the words is unknown.
        """
        if self.file is not None:
            return self._over(read_config(self.file))
        return self._over(find_config(model) if self.search else Config())

    def _over(self, config: Config) -> Config:
        said = {
            "scheme": None if self.scheme is None else list(self.scheme),
            "target": None if self.target is None else list(self.target),
            "fail-on": self.fail_on,
            "fail-on-verdict": self.fail_on_verdict,
        }
        read = _Reader({key: value for key, value in said.items() if value is not None}, self.prefix)
        chosen = config.selection
        # Who selects anew starts from nothing; who does not adds to what the file says.
        ignore = self.ignore if self.select else (*chosen.ignore, *self.ignore)
        extend = (*chosen.extend_select, *self.extend_select)
        over = replace(
            config,
            selection=Selection(self.select or chosen.select, extend, ignore),
            schemes=read.schemes(config.schemes),
            half=read.half(config.half),
            targets=read.targets(config.targets),
            fail_on=read.choice("fail-on", SEVERITIES, config.fail_on),
            fail_on_verdict=read.choice("fail-on-verdict", FAILING_VERDICTS, config.fail_on_verdict),
        )
        if read.errors:
            raise UsageError("; ".join(read.errors))
        return over


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
    read = _Reader(table)
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
    )
    if read.errors:
        raise UsageError(_with_source(source, read.errors))
    return config


class _Reader:
    """Takes settings out of a table and keeps what is wrong with them, each error with the name of its key."""

    def __init__(self, table: Mapping[str, Any], prefix: str = "") -> None:
        self.table = table
        self.prefix = prefix
        self.errors: list[str] = []

    def choice(self, key: str, choices: Mapping[str, _T], default: _T) -> _T:
        return self._chosen(key, self.table[key], choices, default) if key in self.table else default

    def words(self, key: str) -> tuple[str, ...]:
        value = self.table.get(key, [])
        if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
            self.errors.append(f"{self.prefix + key!r} must be a list of words, not {value!r}")
            return ()
        return tuple(value)

    def schemes(self, default: tuple[Scheme, ...] | None) -> tuple[Scheme, ...] | None:
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
        words = self.table.get("scheme")
        return default if words is None else isinstance(words, list) and bool({FP16, ALL_SCHEMES}.intersection(words))

    def targets(self, default: tuple[str, ...]) -> tuple[str, ...]:
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
        return self._finite(key, self.table[key], default) if key in self.table else default

    def levels(self) -> VerdictLevels:
        names = {f.name.replace("_", "-"): f.name for f in fields(VerdictLevels)}
        standard = VerdictLevels()
        values = {}
        for key, value in self.section("verdict").items():
            if key in names:
                values[names[key]] = self._finite(f"verdict.{key}", value, getattr(standard, names[key]))
            else:
                self.errors.append(f"unknown key {key!r} in [verdict]{did_you_mean(key, names)}")
        levels = VerdictLevels(**values)
        for name in ("breaks_agreement", "survives_agreement"):
            if not 0 <= getattr(levels, name) <= 1:
                self.errors.append(f"verdict.{name.replace('_', '-')} must be a fraction from 0 to 1")
        return levels

    def severities(self) -> Mapping[str, Severity]:
        found = {}
        for name, value in self.section("severity").items():
            severity = self._chosen(f"severity.{name}", value, SEVERITIES, Severity.ERROR)
            if severity is None:
                self.errors.append(f"severity.{name} cannot be none; put the rule into ignore")
            else:
                found[name] = severity
        return found

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


def _about(rule: type[Rule], named: Mapping[str, _T]) -> list[_T]:
    """What `named` holds under the code or the name of `rule`; what stands under the name is last."""
    own = (rule.code.casefold(), rule.name)
    found = [(own.index(name.casefold()), value) for name, value in named.items() if name.casefold() in own]
    return [value for _, value in sorted(found, key=lambda pair: pair[0])]


def _with_source(source: Path | None, errors: Sequence[str]) -> str:
    return (f"{source}: " if source is not None else "") + "; ".join(errors)
