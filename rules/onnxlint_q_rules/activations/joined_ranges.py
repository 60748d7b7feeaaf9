"""A tensor that would be rounded as one, and joins parts of unlike range.

Side by side in one tensor, all parts share the step of the whole, `s = (high - low) / 255`. Of a part with values from
`a` to `b` it leaves

    round(b / s) - round(a / s) + 1        codes.

The range of a part is what bounds it (Sigmoid and Softmax end at 0 and 1, Clip at its constants, a constant is what it
is), within what a run saw or the forecast expects. Reported are parts with fewer than four steps. Whether that matters
is the output's to say: what is over 30 dB there by the forecast, rounding this tensor only, is left out, and what is
over 20 dB is an info. Where the output joins parts itself, that of the worst part counts.

Sources: Ultralytics issue 2165 and onnxruntime issue 13114 (detectors whose scores are all zero after quantisation: one
scale serves boxes in pixels and probabilities).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from onnxlint_q import (
    CONFIRM_BELOW_DB,
    INT8_PER_TENSOR,
    UINT8,
    Claim,
    Confidence,
    Example,
    Facts,
    Finding,
    Joined,
    KnownRanges,
    Range,
    Remedy,
    Rule,
    Severity,
    Silence,
    Subject,
    Trait,
    followed_by,
    joined_branches,
    option,
)
from onnxlint_q_rules.activations.places import place_of

_HEAD = """
<ir_version: 8, opset_import: ["" : 17]>
head (float[N, 4, 8, 8] x) => (float[N, 6, 8, 8] y)
<float[4, 4, 1, 1] wb = {1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1},
 float[2, 4, 1, 1] wc = {0.5, 0, 0, 0.5, 0, 0.5, 0.5, 0}, float stride = {STRIDE}> {
  b = Conv(x, wb)
  c = Conv(x, wc)
  boxes = Mul(b, stride)
  scores = Sigmoid(c)
  [join] y = Concat <axis = 1> (boxes, scores)
}
"""
_WRITTEN = """
<ir_version: 8, opset_import: ["" : 17]>
head (float[N, 4] x) => (float[2, N] y)
<int64[2, 1] at = {4, 5}, float[6, 4] wb = {9, 0, 0, 0, 0, 9, 0, 0, 0, 0, 9, 0, 0, 0, 0, 9, 9, 9, 0, 0, 0, 0, 9, 9},
 float[2, 4] wc = {0.5, 0, 0, 0.5, 0, 0.5, 0.5, 0}, float[2, 6] wy = {0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1}> {
  t = Transpose(x)
  boxes = MatMul(wb, t)
  c = MatMul(wc, t)
  far = Mul(boxes, boxes)
  scores = Sigmoid(c)
  [write] s = ScatterND(far, at, scores)
  y = MatMul(wy, s)
}
"""


@dataclass(frozen=True)
class JoinedRanges(Rule):
    """Parts of unlike range are joined in one tensor, and one part would keep hardly any codes.

    ## What it does
    Compares the range of each part of a joined tensor (Concat, Where, ScatterND, padded and added) with the step that
    the whole would have.

    ## Why it breaks INT8
    The widest part sets the step. A part with values under half a step becomes zero everywhere: boxes are as before,
    and every score is 0.

    ## What to do
    Leave the join, and what follows it, in float. Or give the parts an output each: `fix --unsafe` does it.

    ## Sources
    Ultralytics issue 2165; onnxruntime issue 13114.
    """

    code: ClassVar[str] = "QA006"
    name: ClassVar[str] = "joined-ranges"
    severity: ClassVar[Severity] = Severity.WARNING
    confidence: ClassVar[Confidence] = Confidence.HIGH
    supersedes: ClassVar[tuple[str, ...]] = ("QA001", "QA002", "QA004", "QA005")
    rewrites: ClassVar[tuple[str, ...]] = ("joined-outputs",)

    steps: float = option(4.0, doc="fewer steps in the range of a part are reported", source="two bits of eight")
    warn_below_db: float = option(
        CONFIRM_BELOW_DB,
        doc="forecast SQNR at the output (dB), only this tensor rounded, from which it is an info",
        source="noise of 10 % of the signal, the level where layers are excluded",
    )
    drop_above_db: float = option(
        30.0,
        doc="forecast SQNR at the output (dB), only this tensor rounded, from which nothing is reported",
        source="noise of 3 % of the signal, ten decibels from the level where layers are excluded",
    )

    good: ClassVar[tuple[Example, ...]] = (
        Example(_HEAD.replace("STRIDE", "1"), why="Both parts have values of about one."),
    )
    bad: ClassVar[tuple[Example, ...]] = (
        Example(_HEAD.replace("STRIDE", "200"), flags=("join",), why="Boxes in pixels stand beside scores."),
        Example(
            _WRITTEN.replace("STRIDE", "200"), flags=("write",), why="The scores are written into the same tensor."
        ),
    )

    def check(self, facts: Facts) -> Iterator[Finding | Silence]:
        """Each activation of a float model that would be rounded and is joined."""
        if not facts.is_float:
            return
        known, told = KnownRanges(facts.model), set[str]()
        for place in facts.placements:
            joined = None if place.constant else joined_branches(facts.model, place.tensor)
            if joined is None:
                continue
            step, parts = self._coarse(facts, place.tensor, joined, known)
            fresh = {part: ends for part, ends in parts.items() if part not in told}
            if not fresh:
                unmet = f"no part of known range has under {self.steps:g} steps"
                yield Silence(place_of(facts, place.tensor), unmet)
                continue
            told.update(fresh)
            yield self._judged(facts, place.tensor, joined, fresh, step)

    def _coarse(self, facts: Facts, tensor: str, joined: Joined, known: KnownRanges) -> tuple[float, dict[str, Range]]:
        """The step of the whole, and the ranges of the parts with few of them."""
        whole = facts.range_of(tensor)
        if whole is None or _scored(facts, tensor):
            return 0.0, {}
        step = (max(whole[1], 0.0) - min(whole[0], 0.0)) / (UINT8.largest - UINT8.lowest)
        found: dict[str, Range] = {}
        for part in joined.branches:
            (low, high), seen = known.of(part), facts.range_of(part)
            if seen is not None:
                low, high = max(low, seen[0]), min(high, seen[1])
            # One value needs one code only.
            if np.isfinite(high - low) and 0 < high - low < self.steps * step:
                found[part] = low, high
        return step, found

    def _judged(
        self, facts: Facts, tensor: str, joined: Joined, parts: dict[str, Range], step: float
    ) -> Finding | Silence:
        scheme = next((scheme.name for scheme in facts.calibrated_schemes), INT8_PER_TENSOR.name)
        left = _forecast_db(facts, tensor, scheme)
        if left is not None and left >= self.drop_above_db and facts.observations is None:
            unmet = f"rounding it alone leaves {left:.0f} dB at the output, not under {self.drop_above_db:g}"
            return Silence(place_of(facts, tensor), unmet)
        harmful = left is None or left < self.warn_below_db
        part = min(parts, key=lambda key: parts[key][1] - parts[key][0])
        low, high = parts[part]
        codes, more = int(np.rint(high / step) - np.rint(low / step)) + 1, len(parts) - 1
        kept = "keeps no codes" if codes < 2 else f"keeps {codes} codes"
        beside = f" and {more} more" if more else ""
        excluded = joined.node.name
        return self.finding(
            place_of(facts, tensor),
            f"{joined.node.op_type} puts {part!r} ({low:.3g} to {high:.3g}){beside} into {tensor!r}, where one 8-bit "
            f"step is {step:.3g}: it {kept}.",
            severity=None if harmful else Severity.INFO,
            metrics={
                "step": step,
                "branch": part,
                "branch_low": low,
                "branch_high": high,
                "branch_codes": codes,
                "branches": len(parts),
                **({} if left is None else {"forecast_db": left}),
            },
            remedy=Remedy(
                "Leave the join, and what follows it, in float. Or give the parts an output each.",
                nodes_to_exclude=(excluded,) if excluded else (),
            ),
            claim=Claim(Subject.ACTIVATION, tensor, scheme, all_ranges=True),
        )


def _scored(facts: Facts, tensor: str) -> bool:
    """Whether a Softmax reads it: then what is wide is a mask, which another rule tells."""
    return any(followed_by(facts.model, tensor, Trait.SCORES))


def _forecast_db(facts: Facts, tensor: str, scheme: str) -> float | None:
    """What rounding this tensor only leaves at the output; None where that is not foreseen."""
    forecast = facts.forecasts.get(scheme)
    rows = forecast.tensors if forecast is not None else ()
    alone = (row for row in rows if row.kind is Subject.ACTIVATION and row.tensor == tensor)
    return next((float("inf") if row.sqnr_db is None else row.sqnr_db for row in alone), None)
