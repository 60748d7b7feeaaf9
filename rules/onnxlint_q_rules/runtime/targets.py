"""What the rules about targets share: one finding for each fact about a target that a file runs into."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from onnxlint_q import Breach, Consequence, Facts, Finding, Rule, Severity, Silence, breaches, read_target, whole_model
from onnxlint_q_rules.runtime.said import places, reason

PAIRS = """
<ir_version: 8, opset_import: ["" : 17]>
small (float[N, 2, 2, 2] x) => (float[N, 1, 2, 2] y)
<float[SIZE] x_s = {SCALES}, TYPE[SIZE] x_z = {ZEROS}, int8[1, 2, 1, 1] w = {100, -30}, float w_s = {0.01},
 int8 w_z = {0}, float y_s = {0.05}, TYPE y_z = {0}> {
  [write] codes = QuantizeLinear <axis = 1> (x, x_s, x_z)
  [read] values = DequantizeLinear <axis = 1> (codes, x_s, x_z)
  weight = DequantizeLinear (w, w_s, w_z)
  [conv] result = Conv (values, weight)
  rounded = QuantizeLinear (result, y_s, y_z)
  y = DequantizeLinear (rounded, y_s, y_z)
}
"""


def pairs(scales: str = "0.02", zeros: str = "0", kind: str = "int8") -> str:
    """An example: a convolution between pairs, its input quantised with these parameters."""
    size = str(len(scales.split(",")))
    return PAIRS.replace("SIZE", size).replace("SCALES", scales).replace("ZEROS", zeros).replace("TYPE", kind)


def told(
    rule: Rule, facts: Facts, consequences: Collection[Consequence], severity: Severity | None = None
) -> Iterator[Finding | Silence]:
    """A finding of `rule` for each fact with one of these consequences."""
    if not facts.targets:
        yield Silence(whole_model(facts), "no target is named: --target")
    seen: set[str] = set()
    for name in facts.targets:
        target, found = read_target(name), 0
        for breach in breaches(target, facts.model, facts.uses):
            known = f"{breach.fact.name} {breach.fact.source}"
            # What a target takes over from another one is told once, with both.
            if breach.fact.consequence not in consequences or not breach.fact.holds or known in seen:
                continue
            seen.add(known)
            where = places(facts, breach.uses)
            if breach.fact.when.get("axis") == "inputs":
                yield Silence(where[0], f"{breach.fact.name} of {name} is what QR003 reports")
            elif name.startswith("ort-cpu") and _failed_at(facts) in where:
                yield Silence(where[0], f"{breach.fact.name} of {name} is what the run showed, which QR001 reports")
            else:
                found += 1
                yield _finding(rule, facts, breach, severity)
        if not found:
            yield Silence(whole_model(facts), f"no fact about {name} with such a consequence applies")


def _failed_at(facts: Facts) -> object:
    refused = facts.deployed.refused if facts.deployed is not None else None
    return refused.location if refused is not None else None


def _finding(rule: Rule, facts: Facts, breach: Breach, severity: Severity | None) -> Finding:
    fact, use = breach.fact, breach.uses[0]
    first, *others = places(facts, breach.uses)
    sharing = [target for target in map(read_target, facts.targets) if fact in target.facts]
    titles = ", ".join(target.title for target in sharing)
    also = f" So do {len(others)} others." if len(others) > 1 else " So does another." if others else ""
    return rule.finding(
        first,
        f"{titles}: {use.node.label!r} {fact.comes}; {reason(breach, facts, use)}.{also}",
        remedy=fact.remedy,
        metrics={
            "target": ", ".join(target.name for target in sharing),
            "fact": fact.name,
            "tensor": use.pair.tensor,
            "places": 1 + len(others),
            "source": fact.source,
            "versions": fact.versions,
        },
        severity=severity,
        places=others,
    )
