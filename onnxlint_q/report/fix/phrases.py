"""How a fixed model is told to people, in any format."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence

from onnxlint_q.report import words
from onnxlint_q.workflow.mending.fixed import Fixed, Place, RewriteResult, Verification
from onnxlint_q.workflow.results import SchemeResult

SYNTHETIC = (
    "Tried on synthetic inputs, not on data: the figures may differ on real inputs. Give samples with --calibrate."
)
NOTHING_QUANTISED = "No scheme quantises anything in this model, so there are no figures of int8."
NOTHING = "Nothing to change: no rewrite applies, or none makes the quantised model better."


def headline(fixed: Fixed) -> str:
    """What happened, in a sentence."""
    if not fixed.applied:
        return NOTHING
    places = sum(len(rewrite.places) for rewrite in fixed.applied)
    done = "Changed" if fixed.out else "Would change"
    kinds = words.count(len(fixed.applied), "rewrite")
    return (
        f"{done} {words.count(places, 'place')} with {kinds}; float outputs are {words.unchanged(fixed.float_sqnr_db)}."
    )


def verification(held: Verification) -> str:
    """What the changes were tried on."""
    prepared = f" ({words.shown(held.preprocessing)})" if held.preprocessing and not held.synthetic else ""
    return (
        f"data {words.name(held.source)}{prepared}: {words.count(held.ranges, 'sample')} for ranges, "
        f"{words.count(held.judged, 'other')} for the figures"
    )


def verdict(result: SchemeResult) -> str:
    """`✖ breaks`."""
    return f"{words.VERDICT_MARK[result.verdict]} {words.verdict(result.verdict)}"


def figures(result: SchemeResult) -> str:
    """`3.1 dB, worst output 2.0 dB, same top class 4 %`; the reason where there are none."""
    parts = []
    if result.output_sqnr_db is not None:
        worst = _worst(result)
        parts.append(words.decibel(result.output_sqnr_db))
        if worst is not None:
            parts.append(f"worst output {words.decibel(worst)}")
    if result.agreement is not None:
        parts.append(f"same top class {words.percent(result.agreement)}")
    if result.verdict is None and result.note:
        parts.append(words.shown(result.note))
    return ", ".join(parts)


def _worst(result: SchemeResult) -> float | None:
    """SQNR of the worst output or part, where that is clearly below that of all pooled."""
    ends = (end for output in result.outputs for end in (output, *output.parts))
    known = [end.sqnr_db for end in ends if end.sqnr_db is not None]
    pooled = result.output_sqnr_db
    return min(known) if known and pooled is not None and min(known) < pooled - _APART else None


def pairs(fixed: Fixed) -> Iterator[tuple[SchemeResult, SchemeResult]]:
    """Each scheme before and after."""
    return matched(fixed.before, fixed.after)


def matched(
    before: Sequence[SchemeResult], after: Sequence[SchemeResult]
) -> Iterator[tuple[SchemeResult, SchemeResult]]:
    """The schemes that are in both."""
    known = {result.scheme: result for result in before}
    return ((known[result.scheme], result) for result in after if result.scheme in known)


def gain(rewrite: RewriteResult) -> str:
    """`int8-per-tensor 3.1 → 12.3 dB`, of the scheme that gains most; empty where nothing was quantised."""
    known = [
        (after.output_sqnr_db - before.output_sqnr_db, before, after)
        for before, after in matched(rewrite.before, rewrite.after)
        if before.output_sqnr_db is not None and after.output_sqnr_db is not None
    ]
    if not known:
        return ""
    _, before, after = max(known, key=lambda entry: entry[0])
    first, last = words.decibel(before.output_sqnr_db), words.decibel(after.output_sqnr_db)
    if first == last:
        return "no gain by itself"
    return f"{words.name(after.scheme, 40)} {first.removesuffix(' dB')} → {last}"


def changed(rewrite: RewriteResult) -> str:
    """`27 places, int8-per-tensor 3.1 → 12.3 dB`."""
    said = [words.count(len(rewrite.places), "place")]
    if gain(rewrite):
        said.append(gain(rewrite))
    return ", ".join(said)


def not_changed(fixed: Fixed) -> Iterator[tuple[str, str]]:
    """Why rewrites were not made: the name of each and the kinds of reasons, those of most places first."""
    for rewrite in fixed.rewrites:
        places = (*rewrite.left_out, *rewrite.refused)
        kinds = Counter(_NAMED.sub("", place.said) for place in places)
        told = kinds.most_common(_REASONS)
        for said, number in told:
            yield rewrite.name, f"{words.count(number, 'place')}: {words.shown(said)}"
        if len(kinds) > len(told):
            left = words.count(len(places) - sum(number for _, number in told), "place")
            yield rewrite.name, f"{left} for {words.count(len(kinds) - len(told), 'other reason')}"


def withheld(fixed: Fixed) -> Iterator[str]:
    """What was not asked for, and what asks for it."""
    for one in fixed.withheld:
        places = words.count(one.places, "place")
        yield f"{one.name} applies at {places} and was not tried; to try it, {one.option}"


def findings(fixed: Fixed) -> str:
    """`12 findings resolved, 3 remaining, none new`."""
    new = f"{len(fixed.new)} new" if fixed.new else "none new"
    return f"{words.count(len(fixed.resolved), 'finding')} resolved, {len(fixed.remaining)} remaining, {new}"


def place(one: Place) -> str:
    """`Conv 'conv1' (relu1): its weights …`."""
    node = f"{words.name(one.op_type, 40)} {words.name(one.node)}".strip()
    tensor = words.name(one.tensor)
    where = f"{node} ({tensor})" if node and one.node != one.tensor else node or tensor
    return f"{where}: {words.shown(one.said)}"


_REASONS = 3
# The name of a node, which tells apart reasons that are of one kind.
_NAMED = re.compile(r""" (?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")""")
# Decibels between the worst output and all pooled from which on both are told.
_APART = 1.0
