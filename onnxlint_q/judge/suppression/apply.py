"""Which findings count, which are known, and which suppressions are out of date."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from onnxlint_q.analysis.pairing.structure import Structure
from onnxlint_q.finding import Finding, Suppression, Suppressor
from onnxlint_q.graph import Model
from onnxlint_q.judge.own_findings import OWN_FINDINGS, UNUSED_SUPPRESSION
from onnxlint_q.judge.registry import load_rules
from onnxlint_q.judge.rule import Rule
from onnxlint_q.judge.select import strength
from onnxlint_q.judge.suppression.baseline import Known, KnownModel, line_of
from onnxlint_q.judge.suppression.entry import Entry, Suppressing
from onnxlint_q.judge.suppression.metadata import entries_of

_OWN = frozenset(kind.code for kind in OWN_FINDINGS)
"""Codes that nothing suppresses: they say that the answer lacks something."""


@dataclass(frozen=True, slots=True)
class Sorted:
    """The findings of one model.

    Attributes:
        kept: those that nobody knows of, and what is to be said of suppressions.
        suppressed: the others, each with its suppression.
        lines: of the baseline, without those that stand for nothing any more; empty without a baseline.
    """

    kept: tuple[Finding, ...]
    suppressed: tuple[Finding, ...] = ()
    lines: tuple[Known, ...] = ()


def sort_out(
    findings: Sequence[Finding],
    model: Model,
    structure: Structure,
    rules: Sequence[Rule],
    said: Suppressing,
    *,
    calibrated: bool,
    comparing: bool = False,
) -> Sorted:
    """The findings of one model, those that somebody knows of apart. Refuted ones stay: they do not count anyway.

    Args:
        findings: of all rules.
        model: that they are about.
        structure: of it.
        rules: that ran.
        said: what is said of the model outside of it.
        calibrated: data was run.
        comparing: it was held against its float original.
    """
    asked = tuple(rule for rule in rules if _could_tell(rule, calibrated, comparing))
    told = [
        one if one.code in _OWN else replace(one, structure=structure.of(one.location, *one.places, about=one.code))
        for one in findings
    ]
    entries = (*said.entries, *(entries_of(model) if said.heed_model else ()))
    known = said.known or KnownModel()
    reasons = [_reason(one, entries) for one in told]
    left = [one for one, reason in zip(told, reasons, strict=True) if reason is None and one.code not in _OWN]
    matches, idle = known.matched(left)
    lines = {id(one): line for one, line in zip(left, matches, strict=True)}
    by_baseline = Suppression(Suppressor.BASELINE, said.baseline)
    kept, suppressed = [], []
    for one, reason in zip(told, reasons, strict=True):
        why = reason or (by_baseline if lines.get(id(one)) is not None else None)
        if why is not None and one.counts:
            suppressed.append(replace(one, suppression=why))
        else:
            kept.append(one)
    codes = {rule.code for rule in asked} if calibrated or not known.calibrated else set[str]()
    gone = [line for line in idle if line.code in codes]
    kept += [*_unused_entries(entries, told, asked), *_unused_lines(gone, known, said.baseline)]
    renewed = [line_of(one) for one in left if lines[id(one)] is not None]
    return Sorted(tuple(kept), tuple(suppressed), (*renewed, *(line for line in idle if line not in gone)))


def _could_tell(rule: Rule, calibrated: bool, comparing: bool) -> bool:
    """Whether a rule would have found what it looks for, were it there."""
    return (calibrated or not rule.needs_calibration) and (comparing or not rule.needs_comparison)


def _reason(finding: Finding, entries: Sequence[Entry]) -> Suppression | None:
    if finding.code in _OWN:
        return None
    return next((entry.suppression for entry in entries if entry.reason and entry.covers(finding)), None)


def _unused_entries(entries: Sequence[Entry], findings: Sequence[Finding], asked: Sequence[Rule]) -> Iterator[Finding]:
    """One finding for each entry that has no reason, or covers nothing that was looked for."""
    every = [entry.rule for entry in load_rules()] if entries else []
    for entry in entries:
        named = ", ".join(entry.rules) or "nothing"
        if not entry.reason:
            message = f"{named} in {entry.where} has no reason, so it suppresses nothing."
            yield UNUSED_SUPPRESSION.finding(entry.where, message, "Write `CODE: why it does not count`.")
            continue
        unknown = [word for word in entry.rules if not any(map(partial(_means, word), every))]
        if unknown:
            message = f"{unknown[0]!r} in {entry.where} is no rule."
            yield UNUSED_SUPPRESSION.finding(entry.where, message, "See `onnxlint-q rule --all`.")
            continue
        looked_for = any(entry.names(rule.code, rule.name) for rule in asked)
        used = any(map(entry.concerns, findings))
        if looked_for and not used:
            message = f"{named} in {entry.where} suppresses nothing."
            yield UNUSED_SUPPRESSION.finding(entry.where, message, f"Take {named} out of {entry.where}.")


def _means(word: str, rule: type[Rule]) -> bool:
    return strength(word, rule.code, rule.name) >= 0


def _unused_lines(gone: Sequence[Known], known: KnownModel, baseline: str) -> Iterator[Finding]:
    if gone:
        message = f"{len(gone)} of {len(known.findings)} lines for this model in {baseline} suppress nothing."
        yield UNUSED_SUPPRESSION.finding(baseline, message, "Run with --prune-baseline to take them out.")
