"""The table of rules with precision and recall, from results that the scripts of `bench/truth` saved."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from onnxlint_q.judge.registry import load_rules

from .markdown import generated, table
from .rules import file_name

_RESULTS = Path(__file__).parents[2] / "bench" / "truth" / "results"
_LEVELS = ("20", "25")
_INTRODUCTION = """\
How often each rule is right on public networks, none of which is in this repository. Two questions are asked; rules
that neither reaches stand at the end. Most networks are those of the [scorecard](../scorecard.md). They are few,
and rules were written with most of them in sight: read the counts, not the digits, and expect less elsewhere.
"""
_MEASURED = """\
## Against damage that was measured

From the file alone: a layer is flagged with a warning or an error, and is right if quantising its weight alone in
{scheme} leaves the output below the level, as an independent script measured it. Of {layers} layers of {networks}
networks {bad20} are below 20 dB and {bad25} below 25. Recall is of the bad layers that a rule is about. Each rule runs
alone; in a report a layer stands once, under the rule that names the cause. `bench/truth/rule_scores.py` makes it.
"""
_TRIED = """\
## When it is tried

What a rule says of {networks} networks, run on {samples} samples with `--prove all`: the experiment of each finding
confirms or refutes it. Infos say of themselves that they do little harm, so they stand apart. What one rule tells
another one does not repeat: these are the reports that users see. There is no recall, as nobody knows all that should
have been found. `bench/truth/rule_claims.py` makes it.
"""
_NOTHING = """\
## No truth

On these networks the following have no finding that could be tried. The tests run their examples, a model that is
flagged and one that is not; how often they are right elsewhere is not known. Many of them state what can be read off
the file, such as a scale that is not valid, and there is nothing to try.
"""


def scores() -> str:
    """Two tables, and the rules that are in neither."""
    rules = {entry.rule.code: entry.rule for entry in load_rules()}
    names = {code: f"[{code} {rule.name}](../rules/{file_name(rule)})" for code, rule in rules.items()}
    measured, tried = _read("rule_scores"), _read("rule_claims")
    said = _by_rule(tried["networks"])
    without = sorted(names.keys() - measured["rules"].keys() - said.keys())
    networks = measured["networks"]
    head = (
        "rule",
        "about",
        "flagged",
        "right under 20, 25 dB",
        "precision",
        "recall",
        "right under 25 dB, where",
    )
    lines = [
        generated("the results in bench/truth"),
        "",
        "# How often each rule is right",
        "",
        _INTRODUCTION,
        _MEASURED.format(
            scheme=measured["scheme"],
            layers=_layers(networks),
            networks=len(networks),
            **{f"bad{level}": _bad(networks, level) for level in _LEVELS},
        ),
        *table(head, (_measured(names[code], row) for code, row in measured["rules"].items())),
        "",
        _TRIED.format(networks=len(tried["networks"]), samples=tried["samples"]),
        *table(
            ("rule", "warnings and errors confirmed", "precision", "infos confirmed", "warnings and errors, where"),
            (_tried(names[code], row) for code, row in sorted(said.items()) if code in names),
        ),
        "",
        _NOTHING,
        *(f"- {names[code]}" for code in without),
    ]
    return "\n".join(lines) + "\n"


def _measured(name: str, row: Mapping[str, Any]) -> tuple[str, ...]:
    flagged = row["flagged"]
    total = _layers(flagged)
    right = [_bad(flagged, level) for level in _LEVELS]
    found = [_share(count, _bad(row["layers"], level)) for count, level in zip(right, _LEVELS, strict=True)]
    where = (f"{network} {own['bad'][_LEVELS[-1]]} of {own['layers']}" for network, own in flagged.items())
    return (
        *(name, row["about"], str(total), ", ".join(map(str, right))),
        *(", ".join(_share(count, total) for count in right), ", ".join(found), "; ".join(where)),
    )


def _by_rule(networks: Mapping[str, Mapping[str, Mapping[str, int]]]) -> Mapping[str, Mapping[str, Counter[str]]]:
    """Confirmed and refuted findings by rule and network, infos under names of their own."""
    found: dict[str, dict[str, Counter[str]]] = {}
    for network, rules in networks.items():
        for code, counts in rules.items():
            for words, count in counts.items():
                severity, evidence = words.split()
                if evidence in {"confirmed", "refuted"}:
                    own = found.setdefault(code, {}).setdefault(network, Counter())
                    own[f"info {evidence}" if severity == "info" else evidence] += count
    return found


def _tried(name: str, row: Mapping[str, Counter[str]]) -> tuple[str, ...]:
    every: Counter[str] = sum(row.values(), Counter())
    total = every["confirmed"] + every["refuted"]
    infos = every["info confirmed"] + every["info refuted"]
    return (
        *(name, _of(every["confirmed"], total), _share(every["confirmed"], total)),
        *(_of(every["info confirmed"], infos), "; ".join(_places(row)) or "-"),
    )


def _places(row: Mapping[str, Counter[str]]) -> Iterator[str]:
    for network, own in row.items():
        total = own["confirmed"] + own["refuted"]
        if total:
            yield f"{network} {own['confirmed']} of {total}"


def _layers(networks: Mapping[str, Any]) -> int:
    return sum(own["layers"] for own in networks.values())


def _bad(networks: Mapping[str, Any], level: str) -> int:
    return sum(own["bad"][level] for own in networks.values())


def _of(part: int, whole: int) -> str:
    return f"{part} of {whole}" if whole else "-"


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.2f}" if whole else "-"


def _read(name: str) -> Any:
    return json.loads((_RESULTS / f"{name}.json").read_text("utf-8"))
