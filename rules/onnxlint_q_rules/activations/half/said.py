"""What the rules about float16 say alike."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from onnxlint_q import (
    CONFIRM_BELOW_DB,
    FP16,
    LARGEST,
    OVERFLOWN_DB,
    Facts,
    Finding,
    HalfTrial,
    Hazard,
    Node,
    Remedy,
    Severity,
    float16_call,
)


def figure(value: float) -> str:
    """`176,400`, `-3.4e+38`, `1e-08`."""
    return f"{value:,.0f}" if 1e3 <= abs(value) < 1e9 else f"{value:.3g}"


def matters(trial: HalfTrial, loss_db: float) -> bool:
    """Whether the output is lost, or loses so much (dB) that it keeps with the nodes in float32."""
    if trial.rounded_db is None:
        return False
    spared = trial.kept_db is None or trial.kept_db - trial.rounded_db >= loss_db
    return spared or trial.rounded_db < CONFIRM_BELOW_DB


def severity_of(trial: HalfTrial) -> Severity:
    """An error where the output is lost."""
    lost = trial.rounded_db is not None and trial.rounded_db < CONFIRM_BELOW_DB
    return Severity.ERROR if lost else Severity.WARNING


def output(decibel: float | None) -> str:
    """`the output keeps 5.1 dB`."""
    if decibel is None:
        return "the output loses nothing"
    return "the output is not finite" if decibel <= OVERFLOWN_DB else f"the output keeps {decibel:.1f} dB"


def remedy(facts: Facts, trial: HalfTrial) -> Remedy:
    """The nodes to keep in float32, and what came of it."""
    nodes = [node for hazard in trial.hazards for node in hazard.nodes]
    if not nodes:
        return Remedy("Scale the input down, and the first weight up by as much.")
    enough = trial.kept_db is None or trial.kept_db >= CONFIRM_BELOW_DB
    kept = f"Keep {span(trial.hazards)} in float32{':' if enough else '. It takes more:'} {output(trial.kept_db)} then"
    end = f" Or write {LARGEST:,.0f} for larger constants: {output(_decibel(trial.clamped_db))} (tried)."
    clamps = trial.clamped_db is not None and trial.clamped_db >= CONFIRM_BELOW_DB
    return Remedy(f"{kept} (tried).{end if clamps else ''}", snippet=_call(facts, [node.name for node in nodes]))


def _call(facts: Facts, names: Sequence[str]) -> str:
    """How the float file is converted; of a file that is float16 already it is not known."""
    file = facts.model.path
    return float16_call(file.name, f"{file.stem}-fp16{file.suffix}", names) if facts.half_asked else ""


def explaining(finding: Finding, trial: HalfTrial) -> Finding:
    """The finding with what its tensors make of the loss as float16."""
    return replace(finding, explains={FP16: trial.share})


def _decibel(value: float | None) -> float | None:
    return None if value == math.inf else value


def span(hazards: Sequence[Hazard]) -> str:
    """`/norm/Pow to /norm/Sqrt (4 nodes)`, of the first place, and how many more there are."""
    first, *others = hazards
    more = f", and the same in {len(others)} more place{'s' * (len(others) > 1)}," if others else ""
    return f"{_reach(first.nodes)}{more}"


def _reach(nodes: Sequence[Node]) -> str:
    if len(nodes) == 1:
        return nodes[0].label
    return f"{nodes[0].label} to {nodes[-1].label} ({len(nodes)} nodes)"


def and_more(others: Sequence[object]) -> str:
    """` and 3 more`; empty where there are none."""
    return f" and {len(others)} more" if others else ""
