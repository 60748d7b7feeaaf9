"""How a remedy that was tried reads."""

from __future__ import annotations

from onnxlint_q.report.words.names import name
from onnxlint_q.report.words.numbers import PERFECT, count, figure, percent
from onnxlint_q.report.words.verdicts import verdict
from onnxlint_q.workflow.results import JointRemedy, Verdict


def joint_remedy(remedy: JointRemedy) -> str:
    """For whom, what it did, on how many samples: `It survives: 8.6 → 14.7 dB, tried on 32 held-out samples`."""
    scheme, samples = name(remedy.scheme, 80), f"{'held-out ' if remedy.held_out else ''}sample"
    condition = "Where the hardware has one scale a tensor only, do" if remedy.coarse_only else "Do"
    first = f" Export the model at opset {remedy.opset} or higher first." if remedy.opset else ""
    told = f"{_outcome(remedy)}, tried on {count(remedy.samples, samples)}"
    parts = "all of this" if len(remedy.nodes_to_exclude) > 1 else "this"
    return f"{condition} {parts} for {scheme}. It {told}.{first}"


def _outcome(remedy: JointRemedy) -> str:
    """`survives: 8.6 → 14.7 dB`; `helps, not enough: 8.6 → 11.0 dB, still degrades`."""
    after = figure(remedy.after_db) if remedy.after_db is not None else PERFECT
    change = f"{figure(remedy.before_db)} → {after}" + (" dB" if remedy.after_db is not None else "")
    if remedy.before_agreement is not None and remedy.after_agreement is not None:
        change += f", top-1 agreement {percent(remedy.before_agreement)} → {percent(remedy.after_agreement)}"
    if remedy.verdict_after is Verdict.SURVIVES:
        return f"survives: {change}"
    still = "still " if remedy.verdict_after is remedy.verdict_before else ""
    return f"helps, not enough: {change}, {still}{verdict(remedy.verdict_after)}"
