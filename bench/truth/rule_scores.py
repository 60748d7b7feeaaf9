"""How often each rule is right about a layer's weight, and how many of the bad layers it finds, against measured truth.

    python bench/truth/rule_scores.py MODELS TRUTH [--markdown] [--bad-db 20 25] [--no-forecast] [--json FILE]

MODELS is a folder of .onnx files, TRUTH a folder of .json files of the same names with `layers` (`output`,
`weight_only_sqnr_db`): the SQNR at the model's output with only this layer's folded weight in symmetric int8, one scale
for the tensor. A layer is bad if that is below the level, and a rule flags it with a warning or an error whose claim
is this very experiment; infos are counted apart. Every rule runs at its defaults, without calibration data, and alone:
none leaves a layer to another one. FILE gets the counts by network; docs/generate.py makes the table of rules from
results/rule_scores.json.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from onnxlint_q.analysis.schemes import INT8_PER_TENSOR, SCHEMES
from onnxlint_q.analysis.statistics import LayerFacts
from onnxlint_q.finding import Finding, Severity, Subject
from onnxlint_q.graph import read_model
from onnxlint_q.judge.config import Config
from onnxlint_q.judge.facts import facts_of
from onnxlint_q.judge.own_findings import RULE_CRASHED
from onnxlint_q.judge.registry import load_rules
from onnxlint_q.judge.rule import Rule
from onnxlint_q.workflow.judging import judge

Key = tuple[str, str]  # network and layer


def _depthwise(layer: LayerFacts) -> bool:
    return layer.depthwise


def _dense(layer: LayerFacts) -> bool:
    return not layer.depthwise


def _normalised(layer: LayerFacts) -> bool:
    return layer.folded.before is not None or layer.folded.after is not None


# What a rule is about; a rule that is not named here is about every layer.
ABOUT: Mapping[str, tuple[str, Callable[[LayerFacts], bool]]] = {
    "QW001": ("depthwise", _depthwise),
    "QW002": ("not depthwise", _dense),
    "QB001": ("folded BatchNorm", _normalised),
    "QB002": ("folded BatchNorm", _normalised),
}
TOGETHER: tuple[tuple[str, ...], ...] = (("QW001", "QW002"),)


@dataclass(frozen=True)
class Truth:
    """What was measured of all layers, and what the linter said about them.

    Attributes:
        measured: SQNR (dB) at the output by layer.
        about: layers that each of the special rules is about.
        flagged: layers with a warning or an error, by rule code.
        noted: layers with an info and nothing worse, by rule code.
        others: findings without such a claim by rule code and severity.
        unmatched: claims about layers that were not measured.
    """

    measured: Mapping[Key, float]
    about: Mapping[str, frozenset[Key]]
    flagged: Mapping[str, frozenset[Key]]
    noted: Mapping[str, frozenset[Key]]
    others: Mapping[str, Counter[Severity]]
    unmatched: int


def collect(models: Path, truths: Path, rules: Sequence[Rule], *, forecast: bool) -> Truth:
    """Lint every float model that has a truth file."""
    measured: dict[Key, float] = {}
    about: dict[str, set[Key]] = {code: set() for code in ABOUT}
    said: list[tuple[Key, Finding]] = []
    others: dict[str, Counter[Severity]] = {}
    for path in sorted(truths.glob("*.json")):
        facts = facts_of(read_model(models / f"{path.stem}.onnx"), tuple(SCHEMES.values()))
        if not facts.is_float:
            continue
        for entry in json.loads(path.read_text("utf-8"))["layers"]:
            if entry["weight_only_sqnr_db"] is not None:
                measured[path.stem, entry["output"]] = entry["weight_only_sqnr_db"]
        for code, (_, applies) in ABOUT.items():
            about[code] |= {(path.stem, layer.output) for layer in facts.layers if applies(layer)}
        known = facts if forecast else replace(facts, forecasts={})
        findings = [finding for rule in rules for finding in judge(known, [rule], Config())]
        if any(finding.code == RULE_CRASHED.code for finding in findings):
            raise SystemExit(f"{path.stem}: a rule crashed; run onnxlint-q on the model to see which")
        for finding in findings:
            claim = finding.claim
            if claim and (claim.subject, claim.scheme) == (Subject.WEIGHT, INT8_PER_TENSOR.name):
                said.append(((path.stem, claim.tensor), finding))
            else:
                others.setdefault(finding.code, Counter())[finding.severity] += 1
    matched = [(key, finding) for key, finding in said if key in measured]
    flagged, noted = {}, {}
    for code in {finding.code for _, finding in matched}:
        own = [(key, finding.severity is Severity.INFO) for key, finding in matched if finding.code == code]
        flagged[code] = frozenset(key for key, info in own if not info)
        noted[code] = frozenset(key for key, info in own if info) - flagged[code]
    return Truth(
        measured,
        {code: frozenset(keys & measured.keys()) for code, keys in about.items()},
        flagged,
        noted,
        others,
        len(said) - len(matched),
    )


def table(truth: Truth, names: Mapping[str, str], bad_db: float) -> Iterator[tuple[str, ...]]:
    """Header and one row a rule, then rows of rules taken together."""
    yield (
        *("rule", "about", "bad layers", "flagged", "right", "precision", "worst without one network"),
        *("recall", "recall of all", "infos", "bad among infos"),
    )
    codes = sorted(truth.flagged)
    for code in codes:
        yield _row(truth, f"{code} {names[code]}", (code,), bad_db)
    for group in (*TOGETHER, tuple(codes)):
        yield _row(truth, "all" if len(group) == len(codes) else " or ".join(group), group, bad_db)


def _row(truth: Truth, title: str, codes: Sequence[str], bad_db: float) -> tuple[str, ...]:
    bad = frozenset(key for key, value in truth.measured.items() if value < bad_db)
    flagged = frozenset[Key]().union(*(truth.flagged.get(code, ()) for code in codes))
    noted = frozenset[Key]().union(*(truth.noted.get(code, ()) for code in codes)) - flagged
    label, about = "every layer", frozenset(truth.measured)
    if len(codes) == 1 and codes[0] in ABOUT:
        label, about = ABOUT[codes[0]][0], truth.about[codes[0]]
    right = flagged & bad
    return (
        *(title, label, f"{len(bad & about)} of {len(about)}", str(len(flagged)), str(len(right))),
        *(_share(len(right), len(flagged)), _left_out(flagged, bad)),
        *(_share(len(right & about), len(bad & about)), _share(len(right), len(bad))),
        *(str(len(noted)), str(len(noted & bad))),
    )


def _left_out(flagged: frozenset[Key], bad: frozenset[Key]) -> str:
    """Lowest precision over all ways to leave one network out, with the counts it rests on: the fewest, if several."""
    rest = [[key for key in flagged if key[0] != network] for network in {key[0] for key in flagged}]
    counts = [(sum(key in bad for key in keys), len(keys)) for keys in rest if keys]
    if not counts:
        return "-"
    right, total = min(counts, key=lambda count: (count[0] / count[1], count[1]))
    return f"{right / total:.2f} ({right}/{total})"


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.2f}" if whole else "-"


def by_network(truth: Truth, bad_db: Sequence[float]) -> dict[str, Any]:
    """The counts behind the tables, by network and level, for a file."""

    def counts(keys: frozenset[Key]) -> dict[str, Any]:
        return {
            network: {
                "layers": len(own),
                "bad": {f"{level:g}": sum(truth.measured[key] < level for key in own) for level in bad_db},
            }
            for network in sorted({network for network, _ in keys})
            if (own := [key for key in keys if key[0] == network])
        }

    every = frozenset(truth.measured)
    return {
        "scheme": INT8_PER_TENSOR.name,
        "networks": counts(every),
        "rules": {
            code: {
                "about": ABOUT[code][0] if code in ABOUT else "every layer",
                "layers": counts(truth.about.get(code, every)),
                "flagged": counts(truth.flagged[code]),
                "infos": counts(truth.noted[code]),
            }
            for code in sorted(truth.flagged)
        },
    }


def show(rows: Sequence[tuple[str, ...]], *, markdown: bool) -> None:
    """Print the rows, the first of which is the header."""
    if markdown:
        print("| " + " | ".join(rows[0]) + " |\n|" + "---|" * 2 + "--:|" * (len(rows[0]) - 2))
        for row in rows[1:]:
            print("| " + " | ".join(row) + " |")
        return
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        left = "  ".join(cell.ljust(width) for cell, width in zip(row[:2], widths[:2], strict=True))
        print(left, *(cell.rjust(width) for cell, width in zip(row[2:], widths[2:], strict=True)), sep="  ")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path)
    parser.add_argument("truths", type=Path)
    parser.add_argument("--bad-db", type=float, nargs="+", default=[20.0, 25.0], help="levels, a table each")
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--no-forecast", action="store_true", help="judge as if nothing could be forecast")
    parser.add_argument("--json", type=Path, help="write the counts by network to this file")
    asked = parser.parse_args()
    rules = Config().build([entry.rule for entry in load_rules()])
    names = {rule.code: rule.name for rule in rules}
    truth = collect(asked.models, asked.truths, rules, forecast=not asked.no_forecast)
    if asked.json:
        asked.json.write_text(json.dumps(by_network(truth, asked.bad_db), indent=1) + "\n", "utf-8")
    for bad_db in asked.bad_db:
        print(f"Bad: below {bad_db:g} dB at the output with this weight alone in {INT8_PER_TENSOR.name}.\n")
        show(list(table(truth, names, bad_db)), markdown=asked.markdown)
        print()
    if truth.unmatched:
        print(f"{truth.unmatched} findings are about layers that were not measured; they are left out.\n")
    print("No per-layer truth (findings on these models):\n")
    for code in sorted(names.keys() - truth.flagged.keys()):
        found = ", ".join(f"{count} {severity}" for severity, count in truth.others.get(code, Counter()).items())
        print(f"{'- ' * asked.markdown}{code} {names[code]}: {found or 'none'}")


if __name__ == "__main__":
    main()
