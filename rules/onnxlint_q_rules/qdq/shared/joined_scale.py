"""A tensor that joins parts of unlike range under one scale.

Side by side in one tensor, all parts are rounded with the step of the widest. Of a part with values from `a` to `b` the
step `s` leaves

    round(b / s) - round(a / s) + 1        codes.

The values of a part are known without a run from what makes it: Sigmoid, Softmax and HardSigmoid end at 0 and 1, Clip
at its constants, a constant is what it is, and what was rounded before lies in the range of its own scale. Under four
steps a part keeps two bits at most; under one it is the same number everywhere.

Joined are the inputs of Concat, Where, ScatterND and ScatterElements, and what is padded and then added. A part that is
one constant needs one code only and does not count.

Where layers with constant weights are all that read the tensor along the axis of the join, a part may be worth nothing
to them: `r ||w_c,part||` is less than a step of what the layer stores, in three quarters of its outputs.

Sources: Ultralytics issue 2165 and onnxruntime issue 13114 (detectors whose scores are all zero after quantisation: one
scale serves boxes in pixels and probabilities).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from onnxlint_q import (
    Confidence,
    Evidence,
    Example,
    Facts,
    Finding,
    Format,
    Grid,
    Joined,
    Metric,
    QuantizedTensor,
    Range,
    Remedy,
    Rule,
    Severity,
    Silence,
    grid,
    joined_branches,
    option,
)
from onnxlint_q_rules.qdq.pairs import Pairs, where
from onnxlint_q_rules.qdq.shared.parts import Parts
from onnxlint_q_rules.qdq.shared.weight_of_branch import is_worth_nothing
from onnxlint_q_rules.qdq.usage import float_name


def _model(scale: str) -> str:
    return f"""
<ir_version: 8, opset_import: ["" : 17]>
head (float[N, 4, 8] b, float[N, 2, 8] c) => (float[N, 6, 8] y)
<float sb = {{1.25}}, uint8 zb = {{0}}, float s = {{{scale}}}, uint8 z = {{0}}> {{
  qb = QuantizeLinear(b, sb, zb)
  boxes = DequantizeLinear(qb, sb, zb)
  scores = Sigmoid(c)
  [join] t = Concat <axis = 1> (boxes, scores)
  q = QuantizeLinear(t, s, z)
  y = DequantizeLinear(q, s, z)
}}
"""


_CHOSEN = """
<ir_version: 8, opset_import: ["" : 17]>
padded (float[N, 8] x, float[N, 8] age) => (float[N, 8] y)
<float far = {-1000}, float zero = {0}, float s = {3.93}, uint8 z = {254}> {
  inside = Tanh(x)
  absent = Less(age, zero)
  [fill] t = Where(absent, far, inside)
  q = QuantizeLinear(t, s, z)
  y = DequantizeLinear(q, s, z)
}
"""


@dataclass(frozen=True)
class JoinedScale(Rule):
    """One scale serves parts of unlike range, and one part keeps hardly any codes.

    ## What it does
    Takes each quantised tensor that is joined from several, and counts the steps of its scale in the range that each
    part is known to have.

    ## Why it breaks INT8
    The widest part sets the step. A part with values under half a step becomes zero everywhere: boxes are as before,
    and every score is 0.

    ## What to do
    Leave the join, and what follows it, in float. Or give the parts an output each.

    ## Sources
    Ultralytics issue 2165; onnxruntime issue 13114.
    """

    code: ClassVar[str] = "QP011"
    name: ClassVar[str] = "joined-scale"
    severity: ClassVar[Severity] = Severity.WARNING
    confidence: ClassVar[Confidence] = Confidence.HIGH
    supersedes: ClassVar[tuple[str, ...]] = ("QP001", "QP007", "QP008")

    warning_steps: float = option(
        4.0, doc="fewer steps in the range of a part are reported", source="two bits of eight"
    )
    error_steps: float = option(1.0, doc="fewer steps are an error", source="all values of the part may share one code")

    good: ClassVar[tuple[Example, ...]] = (
        Example(_model("0.0157"), why="One step is a 64th of what Sigmoid can give."),
        Example(
            _CHOSEN.replace("3.93", "0.0079").replace("254", "127"), why="When it was calibrated, none was absent."
        ),
    )
    bad: ClassVar[tuple[Example, ...]] = (
        Example(_model("1.25"), flags=("join",), why="One step is 1.25, and no score is above 1."),
        Example(_CHOSEN, flags=("fill",), why="The step has to reach -1000, and the values that count end at 1."),
    )

    def check(self, facts: Facts) -> Iterator[Finding | Silence]:
        """Each activation pair of a tensor that is joined."""
        pairs = Pairs(facts)
        parts, told = Parts(facts, pairs), set[str]()
        for pair in pairs.unique():
            joined, held = joined_branches(facts.model, pair.unrounded or pair.codes), grid(facts.model, pair)
            if joined is None or held is None:
                continue
            # A join behind a join has the same parts.
            fresh = {part: ends for part, ends in parts.coarse(pair, self.warning_steps).items() if part not in told}
            told.update(fresh)
            weighing = {
                part: ends
                for part, ends in fresh.items()
                if not is_worth_nothing(facts, pairs, pair, joined, part, ends)
            }
            if weighing:
                yield self._report(facts, pair, joined, weighing, held)
            else:
                unmet = f"no part of known range that matters has under {self.warning_steps:g} steps"
                yield Silence(where(facts.model, pair), unmet)

    def _report(
        self, facts: Facts, pair: QuantizedTensor, joined: Joined, coarse: Mapping[str, Range], held: Grid
    ) -> Finding:
        part = min(coarse, key=lambda key: coarse[key][1] - coarse[key][0])
        low, high = coarse[part]
        codes, more = _codes(held, (low, high)), f" and {len(coarse) - 1} more" if len(coarse) > 1 else ""
        one = f"keeps no codes: all of it becomes {held.scale * np.rint(low / held.scale) + 0.0:.3g}"
        left = one if codes < 2 else f"keeps {codes} codes"
        metrics: dict[str, Metric] = {
            "scale": held.scale,
            "join": joined.node.label,
            "branch": part,
            "branch_low": low,
            "branch_high": high,
            "branch_codes": codes,
            "branches": len(coarse),
        }
        finding = self.finding(
            where(facts.model, pair),
            f"One step of {float_name(facts.model, pair)!r} is {held.scale:.3g}, so its part {part!r} ({low:.3g} to "
            f"{high:.3g}){more} {left}.",
            severity=Severity.ERROR if high - low < self.error_steps * held.scale else None,
            metrics=metrics,
            remedy=Remedy(
                "Leave the join, and what follows it, in float. Or give the parts an output each.",
                nodes_to_exclude=(joined.node.name,) if joined.node.name and facts.format is Format.QDQ else (),
            ),
        )
        return self._tested(facts, finding, part, held)

    def _tested(self, facts: Facts, finding: Finding, branch: str, held: Grid) -> Finding:
        """What data says of the part, where a run saw it before it was joined."""
        seen = facts.observations.tensors.get(branch) if facts.observations is not None else None
        if seen is None:
            return finding
        metrics = {**finding.metrics, "observed_branch_low": seen.low, "observed_branch_high": seen.high}
        finding = replace(finding, metrics=metrics)
        if not seen.range > 0:
            return finding
        codes = _codes(held, (seen.low, seen.high))
        note = f"On the data it ranges from {seen.low:.3g} to {seen.high:.3g}: {codes} code{'s' * (codes > 1)}."
        return finding.tested(Evidence.CONFIRMED, None, note)


def _codes(held: Grid, ends: Sequence[float]) -> int:
    low, high = (float(np.clip(end, held.low, held.high)) for end in ends)
    return int(np.rint(high / held.scale) - np.rint(low / held.scale)) + 1
