"""What a rule is and which settings apply, as text."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path

from onnxlint_q.analysis.half.tensors import FP16
from onnxlint_q.errors import UsageError, did_you_mean
from onnxlint_q.execute.data.sources import RANDOM
from onnxlint_q.glossary import GLOSSARY, found, used_in
from onnxlint_q.judge.config import Config
from onnxlint_q.judge.own_findings import OWN_FINDINGS, OwnFinding
from onnxlint_q.judge.registry import RegisteredRule
from onnxlint_q.judge.rule import Rule
from onnxlint_q.judge.suppression.baseline import name_from


def listing(rules: Sequence[RegisteredRule], prefix: str = "") -> str:
    """One line a rule, and one for each of the linter's own findings, whose codes begin with `prefix`."""
    rows = [(entry.rule.code, entry.rule.name, entry.rule.severity, summary(entry.rule)) for entry in rules]
    rows += [(kind.code, kind.name, kind.severity, kind.summary) for kind in OWN_FINDINGS]
    rows = [row for row in rows if row[0].startswith(prefix)]
    width = max((len(name) for _, name, _, _ in rows), default=0)
    return "\n".join(f"{code}  {name:<{width}}  {severity:<7}  {said}" for code, name, severity, said in rows)


def explain(rules: Sequence[RegisteredRule], wanted: str) -> str:
    """The page of one rule, by its code or name in any case, or what a word of the glossary means.

    For the first letters of codes, the list of those rules.

    Raises:
        UsageError: there is no such rule, and no such word.
    """
    pages: dict[str, Callable[[], str]] = {}
    for kind in OWN_FINDINGS:
        pages |= dict.fromkeys((kind.code, kind.name), partial(_own_page, kind))
    for entry in rules:
        pages |= dict.fromkeys((entry.rule.code, entry.rule.name), partial(_rule_page, entry))
    page = {name.casefold(): page for name, page in pages.items()}.get(wanted.casefold())
    if page is None and wanted and (family := listing(rules, wanted.upper())):
        return family
    if page is None and (word := found(wanted)) is not None:
        return f"{word}\n\n{told(word)}"
    if page is None:
        meant = did_you_mean(wanted, [*pages, *GLOSSARY])
        raise UsageError(f"there is no rule {wanted!r}, and no such word{meant}; see `onnxlint-q rule --all`")
    return page()


def everything(rules: Sequence[RegisteredRule]) -> str:
    """The list of all rules, and of the words that can be asked for as rules can."""
    words = textwrap.fill(", ".join(GLOSSARY), 100)
    return f"{listing(rules)}\n\nWords that `onnxlint-q rule WORD` explains:\n{words}"


def told(word: str) -> str:
    """What a word of the glossary means, as a sentence."""
    meaning = GLOSSARY[word]
    return f"{meaning[:1].upper()}{meaning[1:]}."


def _own_page(kind: OwnFinding) -> str:
    head = f"{kind.code} {kind.name}\nseverity {kind.severity}, from onnxlint-q itself; it cannot be turned off"
    return f"{head}\n\n{kind.summary}\n\n{kind.text}"


def _rule_page(entry: RegisteredRule) -> str:
    rule = entry.rule
    lines = [
        f"{rule.code} {rule.name}",
        f"severity {rule.severity}, confidence {rule.confidence}, from {entry.source}"
        + (", needs --calibrate" if rule.needs_calibration else "")
        + (", found by `compare` only" if rule.needs_comparison else ""),
        "",
        inspect.getdoc(rule) or "",
    ]
    words = [f"{word}: {meaning}" for word, meaning in used_in(inspect.getdoc(rule) or "")]
    lines += ["", "## Words", *words] if words else []
    if options := rule.options():
        lines += ["", f"Options, in [rules.{rule.name}]:"]
        lines += [
            f"  {name.replace('_', '-')} = {default!r}: {doc} ({source})" for name, default, doc, source in options
        ]
    return "\n".join(lines)


def settings(config: Config, rules: Sequence[type[Rule]]) -> str:
    """Every setting with its value and where that comes from: a default, a file, or what it says of some models."""
    chosen = config.build(rules)
    lines = [f"file = {config.source or 'none found'}"]
    lines += [f"{key} = {value}  ({config.origins.get(key, 'default')})" for key, value in _rows(config)]
    lines.append(f"rules = {len(chosen)} of {len(rules)}: {', '.join(rule.code for rule in chosen)}")
    for entry in config.suppressing.entries:
        where = "".join(f", {key} {glob!r}" for key, glob in (("node", entry.node), ("model", entry.model)) if glob)
        lines.append(f"suppress = {', '.join(entry.rules)}{where}: {entry.reason}  ({entry.where})")
    for rule in chosen:
        severity = config.severity_of(rule)
        if severity is not None:
            lines.append(f"severity.{rule.name} = {severity}  ({_origin(config, 'severity', rule)})")
        for name, standard, _, _ in rule.options():
            value = getattr(rule, name)
            if value != standard:
                option = name.replace("_", "-")
                origin = _origin(config, "rules", rule, f".{option}")
                lines.append(f"rules.{rule.name}.{option} = {value!r}  ({origin}; default {standard!r})")
    return "\n".join(lines)


def _origin(config: Config, section: str, rule: Rule, rest: str = "") -> str:
    """Where a setting of a rule comes from; what stands under its name is stronger."""
    wanted = [f"{section}.{own}{rest}".casefold() for own in (rule.name, rule.code)]
    found = {key.casefold().replace("_", "-"): origin for key, origin in config.origins.items()}
    return next((found[key] for key in wanted if key in found), "default")


def summary(rule: type[Rule]) -> str:
    """The first sentence of its documentation."""
    return (inspect.getdoc(rule) or "").split("\n", 1)[0]


def _schemes(config: Config) -> str:
    if config.schemes is None:
        return "those of the kind of network"
    return ", ".join([*(scheme.name for scheme in config.schemes), *([FP16] * config.half)])


def _data(config: Config) -> list[tuple[str, str | None]]:
    known = config.data
    paths = {"calibrate": known.calibrate if known.calibrate != RANDOM else None, "labels": known.labels}
    told = {name: _from_its_file(config.source, Path(path)) for name, path in paths.items() if path is not None}
    held = ((f.name, told.get(f.name, getattr(known, f.name))) for f in fields(known))
    return [(name.replace("_", "-"), None if value is None else str(value)) for name, value in held]


def _from_its_file(source: Path | None, path: Path) -> str:
    """A path as the configuration writes it: from the folder of its file."""
    return name_from(source.parent, path) if source is not None else str(path)


def _rows(config: Config) -> list[tuple[str, str]]:
    words = config.selection
    return [
        ("select", ", ".join(words.select)),
        ("extend-select", ", ".join(words.extend_select) or "nothing"),
        ("ignore", ", ".join(words.ignore) or "nothing"),
        ("scheme", _schemes(config)),
        ("target", ", ".join(config.targets) or "none"),
        ("fail-on", config.fail_on or "none"),
        ("fail-on-verdict", config.fail_on_verdict or "none"),
        ("confirm-below-db", f"{config.confirm_below_db:g}"),
        ("baseline", _from_its_file(config.source, config.baseline) if config.baseline is not None else "none"),
        ("rule-pages", config.rule_pages or "none"),
        ("suppress-in-model", str(config.suppressing.heed_model).lower()),
        *((f"data.{key}", value) for key, value in _data(config) if value is not None),
        *(
            (f"verdict.{f.name.replace('_', '-')}", f"{getattr(config.levels, f.name):g}")
            for f in fields(config.levels)
        ),
    ]
