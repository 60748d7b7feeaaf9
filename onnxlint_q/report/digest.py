"""What the formats made for people pick out of a run: groups, worst layers, counts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from onnxlint_q.finding import Claim, Evidence, Finding, Severity
from onnxlint_q.report.words import count
from onnxlint_q.workflow.results import Basis, LayerRow, LayerSqnr, ModelResult, Run

TRUST = (Basis.MEASURED, Basis.PROBE, Basis.FORECAST)


@dataclass(frozen=True, slots=True)
class Group:
    """Findings of one rule, in the order given.

    Attributes:
        same: for each finding those of other rules that tell the same damage; empty, or as long as `findings`.
    """

    code: str
    name: str
    findings: tuple[Finding, ...]
    same: tuple[tuple[Finding, ...], ...] = ()

    def same_as(self, index: int) -> tuple[Finding, ...]:
        """What other rules say of the same damage as the finding at `index`."""
        return self.same[index] if self.same else ()

    @property
    def severity(self) -> Severity:
        """The highest of its findings."""
        return max((finding.severity for finding in self.findings), key=lambda severity: severity.rank)

    @property
    def evidence(self) -> str:
        """`3 confirmed, 11 untested`; empty where all are facts of the file."""
        kinds = (Evidence.CONFIRMED, Evidence.UNTESTED)
        totals = ((sum(f.evidence is kind for f in self.findings), kind) for kind in kinds)
        return ", ".join(f"{total} {kind.value}" for total, kind in totals if total)


def group_by_rule(findings: Iterable[Finding]) -> tuple[Group, ...]:
    """One group a rule, at the place of its first finding."""
    groups: dict[tuple[str, str], list[Finding]] = {}
    for finding in findings:
        groups.setdefault((finding.code, finding.name), []).append(finding)
    return tuple(Group(*key, tuple(members)) for key, members in groups.items())


def group_by_damage(findings: Iterable[Finding]) -> tuple[Group, ...]:
    """`group_by_rule` of the findings that are first to tell a damage; the others stand under theirs.

    Findings of different rules tell one damage if they make the same claim: then one experiment decides on them all.
    """
    firsts: list[Finding] = []
    same: dict[int, list[Finding]] = {}
    by_claim: dict[Claim, Finding] = {}
    for finding in findings:
        first = by_claim.setdefault(finding.claim, finding) if finding.claim is not None else finding
        if first.code == finding.code:
            firsts.append(finding)
        else:
            same.setdefault(id(first), []).append(finding)
    return tuple(
        replace(group, same=tuple(tuple(same.get(id(finding), ())) for finding in group.findings))
        for group in group_by_rule(firsts)
    )


def counted(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Those that count."""
    return tuple(finding for finding in findings if finding.counts)


def refuted(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Those a run refuted."""
    return tuple(finding for finding in findings if not finding.counts)


def stage(row: LayerRow, basis: Basis) -> Mapping[str, LayerSqnr]:
    """By scheme name what one stage said of a layer."""
    stages = {Basis.FORECAST: row.forecast, Basis.PROBE: row.probe, Basis.MEASURED: row.measured}
    return stages[basis] or {}


def weight_sqnr(row: LayerRow, basis: Basis, scheme: str) -> float | None:
    """Finite SQNR at the output (dB) if only this layer's weight is quantised, None where not determined."""
    said = stage(row, basis).get(scheme)
    value = said.weight_sqnr_db if said else None
    return value if value is not None and math.isfinite(value) else None


def bases(model: ModelResult, scheme: str) -> tuple[Basis, ...]:
    """The stages with a figure for any layer, most trusted first."""
    return tuple(basis for basis in TRUST if any(weight_sqnr(row, basis, scheme) is not None for row in model.layers))


def ranking(model: ModelResult, scheme: str) -> Basis | None:
    """The most trusted stage that has figures for enough layers to say which is worst: a quarter of them.

    Runs that test claims look at suspects only; where there were few, the stage below knows more of the network.
    """
    stages = bases(model, scheme)
    for basis in stages:
        known = sum(weight_sqnr(row, basis, scheme) is not None for row in model.layers)
        if 4 * known >= len(model.layers):
            return basis
    return stages[-1] if stages else None


def worst_layers(model: ModelResult, scheme: str, limit: int) -> tuple[LayerRow, ...]:
    """The layers that cost the output most under a scheme, by the stage that `ranking` names."""
    basis = ranking(model, scheme)
    if basis is None:
        return ()
    known = [
        (value, index)
        for index, row in enumerate(model.layers)
        if (value := weight_sqnr(row, basis, scheme)) is not None
    ]
    return tuple(model.layers[index] for _, index in sorted(known)[:limit])


def noise_share(row: LayerRow, scheme: str) -> float | None:
    """Fraction of the output's noise power that the forecast puts on the layer's weight and output."""
    said = (row.forecast or {}).get(scheme)
    if said is None or said.weight_share is None:
        return None
    return said.weight_share + (said.activation_share or 0.0)


def summary(run: Run) -> str:
    """`12 findings (3 errors, 9 warnings; 4 confirmed) and 2 refuted in 1 model`."""
    findings = [finding for model in run.models for finding in model.findings]
    kept = counted(findings)
    severities = ((sum(f.severity is severity for f in kept), severity.value) for severity in Severity)
    parts = ", ".join(count(total, noun, noun if noun == Severity.INFO else "") for total, noun in severities if total)
    confirmed = sum(finding.evidence is Evidence.CONFIRMED for finding in kept)
    if confirmed:
        parts += f"; {confirmed} confirmed"
    text = f"{count(len(kept), 'finding')} ({parts})" if kept else "no findings"
    if len(findings) > len(kept):
        text += f" and {len(findings) - len(kept)} refuted"
    text += f" in {count(len(run.models), 'model')}"
    suppressed = sum(len(model.suppressed) for model in run.models)
    if suppressed:
        text += f", {suppressed} suppressed"
    if run.failures:
        text += f", {count(len(run.failures), 'model')} could not be linted"
    return text
