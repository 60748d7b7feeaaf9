"""What findings say of a rewrite that was tried."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from onnxlint_q.analysis.schemes import DEFAULT_SCHEMES, SCHEMES
from onnxlint_q.finding import Finding, Remasking, Rescaling, Rewriting, Tried
from onnxlint_q.judge.verdict import GAIN_DB, Judge, Verdict
from onnxlint_q.proof.gain import Gain
from onnxlint_q.proof.mending.trial import Mending


def with_mendings(findings: Sequence[Finding], mendings: Sequence[Mending], judge: Judge) -> tuple[Finding, ...]:
    """The findings with what came of the rewrites that they advise.

    Args:
        findings: any; those that are refuted advise nothing.
        mendings: what was tried.
        judge: the verdict on an error; what survives is enough.
    """
    return tuple(_told(finding, mendings, judge) for finding in findings)


def _told(finding: Finding, mendings: Sequence[Mending], judge: Judge) -> Finding:
    change = finding.change
    if not isinstance(change, Remasking | Rescaling) or not finding.counts:
        return finding
    mending = next((one for one in mendings if change in one.made or change in one.refused), None)
    return finding if mending is None else _with(finding, change, mending, judge)


def _with(finding: Finding, change: Rewriting, mending: Mending, judge: Judge) -> Finding:
    reason, made = mending.refused.get(change), mending.made.get(change)
    if made is None or mending.exact is None:
        untried = f"{_named(change)} was not tried: {reason}." if reason else ""
        return replace(finding, remedy=f"{finding.otherwise} {untried}".strip(), change=None)
    name = f"{_named(made)} was tried"
    if mending.whole is None:
        exact = mending.exact.worst_db
        left = "they could not be compared" if exact is None else f"{exact:.0f} dB"
        said = f"{name} and changes the float outputs on these samples ({left})."
        return replace(finding, remedy=finding.otherwise, change=None, tried=Tried(said))
    scheme = SCHEMES[finding.claim.scheme] if finding.claim is not None else DEFAULT_SCHEMES[0]
    gain = mending.gain(scheme)
    if gain is None:
        return finding
    upon = f", with {mending.upon}" if mending.upon else ""
    under = f"{gain.figures} with everything quantised ({scheme.name}{upon})"
    figures = (*gain.decibels, scheme.name)
    if gain.db < GAIN_DB:
        how = "does harm" if gain.db <= -GAIN_DB else "does not help"
        said = f"{name} and {how}: {under}."
        return replace(finding, remedy=finding.otherwise, change=None, tried=Tried(said, *figures))
    same = "identical" if mending.exact.worst_db is None else f"the same ({mending.exact.worst_db:.0f} dB)"
    how = "Tried" if judge(gain.after) is Verdict.SURVIVES else "Helps, but not enough"
    said = f"{how}: {under}; float outputs are {same}.{_losing(mending.gains)}"
    remedy = finding.remedy
    if isinstance(made, Remasking):
        remedy = (
            f"Use a mask of {made.value:.0f} in place of {finding.metrics['mask']:.3g}: Softmax turns it into zero as "
            "well."
        )
    return replace(finding, remedy=remedy, change=made, tried=Tried(said, *figures), snippet="", nodes_to_exclude=())


def _named(change: Rewriting) -> str:
    if isinstance(change, Remasking):
        return f"A mask of {change.value:.0f}"
    return "Moving the factors"


def _losing(gains: Mapping[str, Gain]) -> str:
    """The schemes that lose by it."""
    losing = [f"{name} loses ({gain.figures})" for name, gain in gains.items() if gain.db <= -GAIN_DB]
    return f" {' and '.join(losing)}." if losing else ""
