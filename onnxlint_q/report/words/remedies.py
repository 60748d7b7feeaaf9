"""How a remedy that was tried reads."""

from __future__ import annotations

from onnxlint_q.report.words.names import name
from onnxlint_q.report.words.numbers import PERFECT, count, figure, percent
from onnxlint_q.report.words.verdicts import verdict
from onnxlint_q.workflow.results import JointRemedy, Verdict


def joint_remedy(remedy: JointRemedy) -> str:
    """What to do for a scheme and what comes of it in the first sentence, on how many samples in the second."""
    held_out = "held-out " if remedy.held_out else ""
    first = f" Export the model at opset {remedy.opset} or higher first." if remedy.opset else ""
    tried = f"Tried on {count(remedy.samples, f'{held_out}sample')}."
    return f"{_what(remedy)}: {_change(remedy)}, {_end(remedy)}.{first} {tried}"


def _what(remedy: JointRemedy) -> str:
    scheme = name(remedy.scheme, 80)
    if not remedy.nodes_to_exclude:
        return f"Give every channel its own scale instead of {scheme}"
    kept = f"eep {count(len(remedy.nodes_to_exclude), 'node')} in float under {scheme}"
    return f"Where the hardware has one scale a tensor only, k{kept}" if remedy.coarse_only else f"K{kept}"


def _change(remedy: JointRemedy) -> str:
    """`8.6 → 14.7 dB, top-1 as in float 30 → 95 %`."""
    after = f"{figure(remedy.after_db)} dB" if remedy.after_db is not None else PERFECT
    change = f"{figure(remedy.before_db)} → {after}"
    if remedy.before_agreement is not None and remedy.after_agreement is not None:
        before, now = (round(share, 2) for share in (remedy.before_agreement, remedy.after_agreement))
        change += f", top-1 as in float {percent(before).removesuffix(' %')} → {percent(now)}"
    return change


def _end(remedy: JointRemedy) -> str:
    """`survives`; `still degrades`."""
    still = remedy.verdict_after is remedy.verdict_before and remedy.verdict_after is not Verdict.SURVIVES
    return f"{'still ' if still else ''}{verdict(remedy.verdict_after)}"
