"""What is told of rules to who debugs them: where they looked and did not fire, and the first condition that failed."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence

from onnxlint_q.finding import Finding, Location, Silence
from onnxlint_q.judge.facts import Facts
from onnxlint_q.judge.rule import Rule

Overhear = Callable[[Iterable[str]], object]
"""Takes lines; they are only made where somebody goes through them."""


def unheard(_: Iterable[str]) -> None:
    """Nobody debugs."""


def silences_of(rule: Rule, facts: Facts, told: Sequence[Finding | Silence], kept: Sequence[Finding]) -> Iterator[str]:
    """Where a rule did not fire, and why.

    Args:
        rule: that was asked.
        facts: that it saw.
        told: all that it said.
        kept: its findings about schemes that are judged.
    """
    if not told:
        yield f"{_name(rule)}: {_why_nothing(rule, facts)}"
    for said in told:
        if isinstance(said, Silence):
            yield f"{_name(rule)}: not at {_place(said.location)}: {said.unmet}"
    claimed = {finding.claim.scheme for finding in told if isinstance(finding, Finding) and finding.claim is not None}
    for scheme in sorted(claimed - {finding.claim.scheme for finding in kept if finding.claim is not None}):
        yield f"{_name(rule)}: what it found is about {scheme}, which is not judged"


def given_way(findings: Sequence[Finding], alone: Sequence[Finding]) -> Iterator[str]:
    """The findings that leave their fault to another rule's about the same tensor."""
    stay = {(finding.code, finding.location, finding.claim) for finding in alone}
    for finding in findings:
        if (finding.code, finding.location, finding.claim) not in stay:
            place = _place(finding.location)
            yield f"{finding.code} {finding.name}: not at {place}: another rule reports this tensor better"


def trace_of(what: str, error: Exception) -> Iterator[str]:
    """The traceback of a rule or of a run that failed."""
    yield f"{what}: failed"
    yield from "".join(traceback.format_exception(error)).splitlines()


def _why_nothing(rule: Rule, facts: Facts) -> str:
    """Why a rule said nothing at all, as far as can be seen from outside."""
    if rule.needs_comparison and facts.comparison is None:
        return "it needs two files, and only `compare` has those"
    if rule.needs_calibration and facts.data is None and facts.observations is None:
        return "it needs calibration data, and there is none; give it with --calibrate"
    return f"it found nothing in this {facts.format} model"


def _name(rule: Rule) -> str:
    return f"{rule.code} {rule.name}"


def _place(location: Location) -> str:
    kind = f" ({location.op_type})" if location.op_type else ""
    return f"{location.label}{kind}" if location.label else "the model"
