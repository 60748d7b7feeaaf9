"""What a rule is and which settings apply, as text."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import fields

from onnxlint_q.errors import UsageError, did_you_mean
from onnxlint_q.finding import RULE_CRASHED
from onnxlint_q.judge.config import Config
from onnxlint_q.judge.registry import RegisteredRule
from onnxlint_q.judge.rule import Rule

# The linter's own findings, which no rule makes and no selector turns off.
_OWN = {
    RULE_CRASHED: "rule-crashed\nseverity error, from onnxlint-q itself\n\n"
    "A rule failed on this model, so the answer is incomplete and the exit code is 2. Run with `--ignore` and\n"
    "the code of that rule to go on without it, and report the failure to whoever made the rule."
}


def listing(rules: Sequence[RegisteredRule]) -> str:
    """One line a rule."""
    width = max(len(entry.rule.name) for entry in rules)
    return "\n".join(
        f"{entry.rule.code}  {entry.rule.name:<{width}}  {entry.rule.severity:<7}  {summary(entry.rule)}"
        for entry in rules
    )


def explain(rules: Sequence[RegisteredRule], wanted: str) -> str:
    """The page of one rule.

    Raises:
        UsageError: there is no such rule.
    """
    if wanted in _OWN:
        return f"{wanted} {_OWN[wanted]}"
    by_name = {key: entry for entry in rules for key in (entry.rule.code, entry.rule.name)}
    entry = by_name.get(wanted)
    if entry is None:
        raise UsageError(f"there is no rule {wanted!r}{did_you_mean(wanted, by_name)}; see `onnxlint-q rule --all`")
    rule = entry.rule
    lines = [
        f"{rule.code} {rule.name}",
        f"severity {rule.severity}, confidence {rule.confidence}, from {entry.source}"
        + (", needs --calibrate" if rule.needs_calibration else "")
        + (", found by `compare` only" if rule.needs_comparison else ""),
        "",
        inspect.getdoc(rule) or "",
    ]
    if options := rule.options():
        lines += ["", f"Options, in [rules.{rule.name}]:"]
        lines += [
            f"  {name.replace('_', '-')} = {default!r}: {doc} ({source})" for name, default, doc, source in options
        ]
    return "\n".join(lines)


def settings(config: Config, rules: Sequence[type[Rule]]) -> str:
    """Every setting with its value and whether it is a default."""
    chosen = config.build(rules)
    lines = [f"file = {config.source or 'none found'}"]
    for (key, value), (_, standard) in zip(_rows(config), _rows(Config()), strict=True):
        lines.append(f"{key} = {value}" + ("  (default)" if value == standard else ""))
    lines.append(f"rules = {len(chosen)} of {len(rules)}: {', '.join(rule.code for rule in chosen)}")
    for rule in chosen:
        severity = config.severity_of(rule)
        if severity is not None:
            lines.append(f"severity.{rule.name} = {severity}")
        for name, standard, _, _ in rule.options():
            value = getattr(rule, name)
            if value != standard:
                lines.append(f"rules.{rule.name}.{name.replace('_', '-')} = {value!r}  (default {standard!r})")
    return "\n".join(lines)


def summary(rule: type[Rule]) -> str:
    """The first sentence of its documentation."""
    return (inspect.getdoc(rule) or "").split("\n", 1)[0]


def _rows(config: Config) -> list[tuple[str, str]]:
    words = config.selection
    return [
        ("select", ", ".join(words.select)),
        ("extend-select", ", ".join(words.extend_select) or "nothing"),
        ("ignore", ", ".join(words.ignore) or "nothing"),
        ("fail-on", config.fail_on or "none"),
        ("confirm-below-db", f"{config.confirm_below_db:g}"),
        *(
            (f"verdict.{f.name.replace('_', '-')}", f"{getattr(config.levels, f.name):g}")
            for f in fields(config.levels)
        ),
    ]
