"""A tensor with a fine scale of its own, whose values come from a coarser one.

Reshape, Transpose, Slice, MaxPool and their like hand values on as they are, so what was rounded with a step `s` before
them has that step behind them, under any scale. Of a range from `a` to `b` that this scale can hold,

    (b - a) / s        steps

are ever used. Under four the tensor has two bits at most. Its codes look fine, because its own scale is.

Where the coarser tensor joins several, and one of the parts has that few steps, the join is reported and not this.

Sources: the noise `s^2 / 12` of the first rounding stays behind a finer one: Widrow & Kollar,
Quantization Noise, 2008.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from onnxlint_q import Confidence, Example, Facts, Finding, Grid, QuantizedTensor, Rule, Severity, Silence, grid, option
from onnxlint_q_rules.qdq.pairs import Pairs, where
from onnxlint_q_rules.qdq.shared.parts import Parts
from onnxlint_q_rules.qdq.usage import float_name


def _model(coarse: str) -> str:
    return f"""
<ir_version: 8, opset_import: ["" : 17]>
scores (float[N, 6, 8] x) => (float[N, 2, 8] y)
<float sx = {{{coarse}}}, uint8 zx = {{0}}, float s = {{0.004}}, uint8 z = {{0}},
 int64[1] from = {{4}}, int64[1] to = {{6}}, int64[1] axis = {{1}}> {{
  qx = QuantizeLinear(x, sx, zx)
  d = DequantizeLinear(qx, sx, zx)
  [cut] t = Slice(d, from, to, axis)
  q = QuantizeLinear(t, s, z)
  y = DequantizeLinear(q, s, z)
}}
"""


@dataclass(frozen=True)
class RequantisedTensor(Rule):
    """A tensor is given a fine scale after its values were rounded with a coarse one.

    ## What it does
    Follows each quantised tensor back through operators that only move values, and counts the steps of the scale
    before them in the range behind them.

    ## Why it breaks INT8
    The first rounding decides. The tensor has its own fine codes, but takes on a handful of values.

    ## What to do
    Quantise the tensor in front of the operator with the range that is needed behind it, or leave both in float.

    ## Sources
    Widrow & Kollar, Quantization Noise, 2008.
    """

    code: ClassVar[str] = "QP012"
    name: ClassVar[str] = "requantised-tensor"
    severity: ClassVar[Severity] = Severity.WARNING
    confidence: ClassVar[Confidence] = Confidence.HIGH

    warning_steps: float = option(4.0, doc="fewer steps in the range are reported", source="two bits of eight")
    error_steps: float = option(1.0, doc="fewer steps are an error", source="all values may share one code")

    good: ClassVar[tuple[Example, ...]] = (Example(_model("0.016"), why="There are 64 steps in the range behind."),)
    bad: ClassVar[tuple[Example, ...]] = (
        Example(_model("1.25"), flags=("cut",), why="Its range ends at 1, and the values came in steps of 1.25."),
    )

    def check(self, facts: Facts) -> Iterator[Finding | Silence]:
        """Each pair whose values another pair has rounded before."""
        pairs = Pairs(facts)
        parts = Parts(facts, pairs)
        for pair in pairs.unique():
            before = pairs.source(pair.unrounded) if pair.unrounded else None
            held = grid(facts.model, pair)
            first = grid(facts.model, before) if before is not None else None
            if before is None or held is None or first is None or before.codes == pair.codes:
                continue
            steps = held.range / first.scale
            if steps >= self.warning_steps:
                yield Silence(where(facts.model, pair), f"{steps:.0f} steps of the scale before it are in its range")
            elif parts.coarse(before, self.warning_steps):
                yield Silence(where(facts.model, pair), "what it comes from joins parts of unlike range")
            else:
                yield self._report(facts, before, pair, first, held)

    def _report(self, facts: Facts, before: QuantizedTensor, pair: QuantizedTensor, first: Grid, held: Grid) -> Finding:
        steps = held.range / first.scale
        return self.finding(
            where(facts.model, pair),
            f"{float_name(facts.model, pair)!r} ranges from {held.low:.3g} to {held.high:.3g}, but comes from "
            f"{float_name(facts.model, before)!r} in steps of {first.scale:.3g}",
            severity=Severity.ERROR if steps < self.error_steps else None,
            metrics={"steps": steps, "scale": held.scale, "scale_before": first.scale, "before": before.tensor},
            remedy="Quantise the tensor in front of the operator with the range behind it, or leave both in float.",
        )
