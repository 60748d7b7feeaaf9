"""What applies to one model, whoever said it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, TypeVar

from onnxlint_q.analysis.half.tensors import FP16
from onnxlint_q.analysis.schemes import Scheme
from onnxlint_q.errors import UsageError, did_you_mean
from onnxlint_q.finding import CONFIRM_BELOW_DB, Severity
from onnxlint_q.judge.config.data import Data
from onnxlint_q.judge.rule import Rule
from onnxlint_q.judge.select import Selection, strength
from onnxlint_q.judge.suppression import Baseline, Suppressing
from onnxlint_q.judge.suppression.baseline import name_from
from onnxlint_q.judge.verdict import Verdict, VerdictLevels

_T = TypeVar("_T")
_TYPES: Mapping[type, str] = {float: "a number", int: "a whole number", bool: "true or false", str: "text"}


@dataclass(frozen=True, slots=True)
class ForModels:
    """Settings of some models.

    Attributes:
        glob: that a path from the file's folder has to match.
        table: the settings, as the file has them.
    """

    glob: str
    table: Mapping[str, Any]

    @property
    def title(self) -> str:
        """How the file heads it."""
        return f'[models."{self.glob}"]'

    def holds(self, model: Path, folder: Path) -> bool:
        """Whether they are for `model`."""
        return fnmatchcase(name_from(folder, model), self.glob)


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
        baseline: file with what is known of models; None for none.
        suppressing: what is said of findings that are known.
        rule_pages: address of the page of a rule, with `{code}` and `{name}`; empty for none.
        data: samples that are read where a command asks for those of the configuration, and how images are prepared.
        models: settings of models whose paths match, in the order of the file.
        origins: where a setting comes from that is no default, by its key with dots.
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
    baseline: Path | None = None
    suppressing: Suppressing = field(default_factory=Suppressing)
    rule_pages: str = ""
    data: Data = field(default_factory=Data)
    models: tuple[ForModels, ...] = ()
    origins: Mapping[str, str] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """What paths and globs start from."""
        return self.source.parent if self.source is not None else Path()

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
        errors = self.errors(rules)
        if errors:
            raise UsageError(with_source(self.source, errors))
        return tuple(rule(**self._accepted(rule, [])) for rule in self.selection.choose(rules))

    def errors(self, rules: Sequence[type[Rule]]) -> list[str]:
        """What is wrong where rules are named, and with the options of rules, whether they are chosen or not."""
        errors = list(self.selection.errors(rules))
        known = [name for rule in rules for name in (rule.code, rule.name)]
        folded = {name.casefold() for name in known}
        for section, names in (("rules", self.options), ("severity", self.severities)):
            errors.extend(
                f"[{section}] unknown rule {name!r}{did_you_mean(name, known)}"
                for name in names
                if name.casefold() not in folded
            )
        for entry in self.suppressing.entries:
            errors.extend(
                f"{entry.where}: no rule matches {word!r}{did_you_mean(word, known)}"
                for word in entry.rules
                if not any(strength(word, rule.code, rule.name) >= 0 for rule in rules)
            )
        for rule in rules:
            self._accepted(rule, errors)
        return errors

    def knowing(self, baseline: Baseline, model: Path) -> Config:
        """With what the baseline knows of this model."""
        assert self.baseline is not None
        known = baseline.models.get(name_from(self.baseline.parent, model))
        return replace(self, suppressing=replace(self.suppressing, known=known, baseline=self.baseline.name))

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
                errors.append(f"[rules.{rule.name}] {key} must be {_TYPES[type(default)]}, not {value!r}")
                continue
            if isinstance(default, float) and not math.isfinite(value):
                errors.append(f"[rules.{rule.name}] {key} must be a finite number, not {value!r}")
                continue
            accepted[name] = float(value) if number else value
        return accepted


def _about(rule: type[Rule], named: Mapping[str, _T]) -> list[_T]:
    """What `named` holds under the code or the name of `rule`; what stands under the name is last."""
    own = (rule.code.casefold(), rule.name)
    found = [(own.index(name.casefold()), value) for name, value in named.items() if name.casefold() in own]
    return [value for _, value in sorted(found, key=lambda pair: pair[0])]


def with_source(source: Path | None, errors: Sequence[str]) -> str:
    """All errors as one message that names the file."""
    return (f"{source}: " if source is not None else "") + "; ".join(errors)
