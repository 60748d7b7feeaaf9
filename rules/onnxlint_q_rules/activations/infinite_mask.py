"""Masks that stand for minus infinity in front of a Softmax.

Attention adds a large negative number to the scores that do not count, so that Softmax makes them zero. A quantiser
that gives the sum one scale has to cover the number, too:

    step = (max - min) / 255 >= |mask| / 255

With the smallest float32 the step is 1e36, with -10,000 it is 39: all scores that count get one code, and Softmax gives
all of them the same probability. Scores one step apart differ by a factor of e^step in the probabilities; a mask of
-1,000 already makes that 50. Softmax itself needs no more than about -100: e^-100 is zero in float32 beside 1.

Sources: pytorch/executorch#8736 and #20471 (scores that collapse under a mask; capping it is the remedy there).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from onnxlint_q import (
    INT8_PER_TENSOR,
    UINT8,
    Claim,
    Confidence,
    Example,
    Facts,
    Finding,
    Model,
    Rule,
    Severity,
    Silence,
    Subject,
    Trait,
    keep_float,
    option,
    quantize_static_call,
    trace_back,
)

_ATTENTION = """
<ir_version: 8, opset_import: ["" : 17]>
attention (float[N, 2, 4] q, float[N, 4, 2] k) => (float[N, 2, 2] p)
<float[2, 2] mask = {0, MASK, 0, 0}> {
  [scores] s = MatMul(q, k)
  [masked] m = Add(s, mask)
  [softmax] p = Softmax <axis = -1> (m)
}
"""
_COMPUTED = """
<ir_version: 8, opset_import: ["" : 17]>
attention (float[N, 2, 4] q, float[N, 4, 2] k, float[N, 1, 2] keep) => (float[N, 2, 2] p)
<float one = {1}, float large = {-10000}> {
  [scores] s = MatMul(q, k)
  drop = Sub(one, keep)
  mask = Mul(drop, large)
  [masked] m = Add(s, mask)
  [softmax] p = Softmax <axis = -1> (m)
}
"""
# On the way from a mask to Softmax.
_ON_THE_WAY = Trait.MOVES | Trait.COPIES | Trait.ADDS | Trait.SCALES | Trait.CHOOSES


@dataclass(frozen=True)
class InfiniteMask(Rule):
    """A mask for a Softmax is so large that all scores share one code.

    ## What it does
    Looks for large negative constants that are added to the scores of a Softmax, or replace some of them.

    ## Why it breaks INT8
    The scale of the masked scores has to reach down to the mask. Its step is then larger than the differences between
    the scores, so they all get one code.

    ## What to do
    Use a mask of about -100: Softmax turns it into zero as well. Or leave the node that applies the mask, and the
    Softmax, in float.

    ## Sources
    pytorch/executorch#8736 and #20471.
    """

    code: ClassVar[str] = "QA003"
    name: ClassVar[str] = "infinite-mask"
    severity: ClassVar[Severity] = Severity.WARNING
    confidence: ClassVar[Confidence] = Confidence.HIGH
    supersedes: ClassVar[tuple[str, ...]] = ("QA001", "QA004")

    magnitude: float = option(
        1000.0,
        doc="magnitude of a negative constant from which it is reported",
        source="a step of 4 at 8 bits, e^4 = 50",
    )

    good: ClassVar[tuple[Example, ...]] = (
        Example(_ATTENTION.replace("MASK", "-100"), why="A step of 0.4 is coarse, but scores stay apart."),
    )
    bad: ClassVar[tuple[Example, ...]] = (
        Example(_ATTENTION.replace("MASK", "-3.4e38"), flags=("masked",), why="The step is 1e36."),
        Example(_COMPUTED, flags=("masked",), why="The mask is computed from an input, as in exported transformers."),
    )

    def check(self, facts: Facts) -> Iterator[Finding | Silence]:
        """Each tensor of a float model that a Softmax reads and that would be quantised."""
        if not facts.is_float:
            return
        rounded = {place.tensor for place in facts.placements}
        visited = set[str]()
        for softmax in (node for node in facts.model.nodes if node.operator.has(Trait.SCORES)):
            scores = softmax.input(0)
            producer = facts.model.producer(scores)
            if producer is None or scores not in rounded:
                yield Silence(facts.model.locate(softmax), "the scores that it reads are constant or get no scale")
                continue
            if scores in visited:
                continue
            visited.add(scores)
            place, lowest = facts.model.locate(producer), min(_constants(facts.model, scores), default=0.0)
            if -lowest < self.magnitude:
                yield Silence(place, f"the lowest constant among them, {lowest:.3g}, is above -{self.magnitude:g}")
                continue
            step = -lowest / (UINT8.largest - UINT8.lowest)
            yield self.finding(
                place,
                f"A mask of {lowest:.3g} reaches {softmax.op_type} {softmax.label!r}: one 8-bit step is {step:.3g} or "
                "more, so closer scores share a code.",
                metrics={"mask": lowest, "step": step},
                remedy="Use a mask of about -100: Softmax turns it into zero as well. Or leave these nodes in float.",
                snippet=quantize_static_call(keep_float(facts.freer, facts.freer.activation(scores))),
                claim=Claim(Subject.ACTIVATION, scores, INT8_PER_TENSOR.name),
            )


def _constants(model: Model, scores: str) -> Iterator[float]:
    """Smallest values of the constants that are put among the scores."""
    for key in trace_back(model, scores, _ON_THE_WAY, model.constants).ends:
        value = model.constant(key)
        if value is not None and value.size and np.issubdtype(value.dtype, np.floating):
            yield float(np.nan_to_num(value.astype(np.float64), nan=0.0, neginf=float(np.finfo(np.float32).min)).min())
