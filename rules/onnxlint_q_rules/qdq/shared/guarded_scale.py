"""A scale that was made for a constant that stands in for absent values.

Where calibration met an absent value, the range of a quantised file reaches to the constant `c` in its place. On the
other side of zero, fewer than four steps are left:

    |c| >= 64 s,        range on the other side < 4 s.

The values that count share a few codes, unless they are as far out as the constant. So it is looked for from 1,000 on
only, and where the range of the values is not known; of one that is, the steps are counted (joined-scale). Data tells
how many codes are in use.

Sources: pytorch/executorch#8736 and #20471 (the same of masks).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from onnxlint_q import (
    Confidence,
    Evidence,
    Example,
    Facts,
    Finding,
    Grid,
    Guard,
    QuantizedTensor,
    Remedy,
    Rule,
    Severity,
    Silence,
    find_guards,
    grid,
    option,
)
from onnxlint_q_rules.qdq.pairs import Pairs, where
from onnxlint_q_rules.qdq.shared.parts import Parts
from onnxlint_q_rules.qdq.usage import RESOLVED_CODES, float_name, usages


def _model(scale: str, zero_point: int) -> str:
    return f"""
<ir_version: 8, opset_import: ["" : 17]>
pool (float[N, 8, 4] slots, float[N, 8, 1] age) => (float[N, 4] y)
<float guard = {{-10000}}, float zero = {{0}}, float s = {{{scale}}}, uint8 z = {{{zero_point}}}> {{
  present = Greater(age, zero)
  [fill] guarded = Where(present, slots, guard)
  q = QuantizeLinear(guarded, s, z)
  d = DequantizeLinear(q, s, z)
  y = ReduceMax <axes = [1], keepdims = 0> (d)
}}
"""


@dataclass(frozen=True)
class GuardedScale(Rule):
    """A scale reaches to a constant that stands in for absent values, and leaves the others no codes.

    ## What it does
    Looks for constants of 1,000 and more that take the place of values, and ranges that end at them.

    ## Why it breaks INT8
    One step is a 255th of the constant. The values that count are smaller than that, so they share a code.

    ## What to do
    Use a constant just outside the range of the values in the float model, and quantise again. Or leave the node and
    its readers in float.

    ## Sources
    pytorch/executorch#8736 and #20471.
    """

    code: ClassVar[str] = "QP015"
    name: ClassVar[str] = "guarded-scale"
    severity: ClassVar[Severity] = Severity.WARNING
    confidence: ClassVar[Confidence] = Confidence.MEDIUM
    supersedes: ClassVar[tuple[str, ...]] = ("QP001", "QP007", "QP008")

    magnitude: float = option(
        1000.0, doc="magnitude of the constant from which it is reported", source="no usual activation is as large"
    )
    steps: float = option(4.0, doc="fewer steps on the other side of zero are reported", source="two bits of eight")

    good: ClassVar[tuple[Example, ...]] = (
        Example(_model("0.02", 128), why="When it was calibrated, nothing was absent."),
    )
    bad: ClassVar[tuple[Example, ...]] = (
        Example(_model("39.2", 255), flags=("fill",), why="The range ends at the constant, and one step is 39."),
    )

    def check(self, facts: Facts) -> Iterator[Finding | Silence]:
        """Each such constant of a quantised file."""
        if facts.is_float:
            return
        pairs = Pairs(facts)
        parts = Parts(facts, pairs)
        for guard in find_guards(facts.model, self.magnitude):
            pair = pairs.destination(guard.node.output)
            held = grid(facts.model, pair) if pair is not None else None
            if pair is None or held is None or parts.ranges(pair) or not self._reaches(held, guard.value):
                unmet = "its result has no scale that was made for the constant"
                yield Silence(facts.model.locate(guard.node), unmet)
                continue
            yield self._tested(facts, pairs, pair, self._report(facts, guard, pair, held))

    def _reaches(self, held: Grid, value: float) -> bool:
        end, other = (held.low, held.high) if value < 0 else (held.high, held.low)
        near = abs(abs(end) - abs(value)) <= 0.1 * abs(end)
        return near and abs(other) < self.steps * held.scale

    def _report(self, facts: Facts, guard: Guard, pair: QuantizedTensor, held: Grid) -> Finding:
        return self.finding(
            where(facts.model, pair),
            f"The range of {float_name(facts.model, pair)!r} ends at the {guard.value:.5g} that {guard.node.op_type} "
            f"puts in: one step is {held.scale:.3g} for all other values",
            metrics={"constant": guard.constant, "value": guard.value, "scale": held.scale},
            remedy=Remedy(
                "Use a constant just outside the range of the values, and quantise again. Or leave the nodes in float.",
                nodes_to_exclude=(guard.node.name,) if guard.node.name and pair.unrounded else (),
            ),
        )

    def _tested(self, facts: Facts, pairs: Pairs, pair: QuantizedTensor, finding: Finding) -> Finding:
        usage = usages(facts, pairs).get(pair.codes)
        if usage is None or not np.isfinite(usage.rounding_db):
            return finding
        few = usage.used_codes < RESOLVED_CODES
        note = f"The data uses {usage.used_codes} codes."
        return finding.tested(Evidence.CONFIRMED if few else Evidence.REFUTED, None, note)
