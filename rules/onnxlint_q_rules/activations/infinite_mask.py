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

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from onnxlint_q import (
    INT8_PER_TENSOR,
    UINT8,
    Claim,
    Confidence,
    Example,
    Facts,
    Finding,
    Location,
    Mask,
    Remasking,
    Remedy,
    Rule,
    Severity,
    Silence,
    Subject,
    Trait,
    option,
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
    Softmax, in float. The verdict on the model with such a mask stands beside the one on the model as it is;
    `--calibrate` tries it, with a value that fits the scores.

    ## Sources
    pytorch/executorch#8736 and #20471.
    """

    code: ClassVar[str] = "QA003"
    name: ClassVar[str] = "infinite-mask"
    severity: ClassVar[Severity] = Severity.WARNING
    confidence: ClassVar[Confidence] = Confidence.HIGH
    supersedes: ClassVar[tuple[str, ...]] = ("QA001", "QA004")
    rewrites: ClassVar[tuple[str, ...]] = ("mask-values",)

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
        """Each mask of a float model that reaches tensors that would be quantised."""
        if not facts.is_float:
            return
        rounded = {place.tensor for place in facts.placements}
        masked = {softmax for mask in facts.masks for softmax in mask.softmaxes}
        for softmax in (node for node in facts.model.nodes if node.operator.has(Trait.SCORES)):
            if softmax not in masked:
                yield Silence(facts.model.locate(softmax), "no large negative constant is put among its scores")
        for mask in facts.masks:
            first = mask.softmaxes[0]
            # Scores and mask together first; then what holds nothing but masks, one of which may be lost in another.
            tensors = [tensor for tensor in dict.fromkeys((*mask.reach, *mask.way)) if tensor in rounded]
            if not any(tensor in mask.reach for tensor in tensors):
                yield Silence(facts.model.locate(first), "the scores that it reads get no scale")
            elif -mask.lowest < self.magnitude:
                unmet = f"the lowest constant among them, {mask.lowest:.3g}, is above -{self.magnitude:g}"
                yield Silence(facts.model.locate(first), unmet)
            else:
                yield self._report(facts, mask, tensors)

    def _report(self, facts: Facts, mask: Mask, tensors: Sequence[str]) -> Finding:
        first, *others = mask.softmaxes
        lowest = "-inf" if mask.endless else f"{mask.lowest:.3g}"
        step = -mask.lowest / (UINT8.largest - UINT8.lowest)
        more = f" and {len(others)} more" if others else ""
        place, *places = _places(facts, mask, tensors)
        return self.finding(
            place,
            f"A mask of {lowest} reaches {first.op_type} {first.label!r}{more}: one 8-bit step is {step:.3g} "
            "or more, so closer scores share a code.",
            metrics={"mask": mask.lowest, "step": step, "constant": mask.constant, "softmaxes": len(mask.softmaxes)},
            remedy=self._remedy(facts, mask, tensors),
            claim=Claim(Subject.ACTIVATION, tensors[0], _scheme(facts), more=tuple(tensors[1:]), all_formats=True),
            places=places,
        )

    def _remedy(self, facts: Facts, mask: Mask, tensors: Sequence[str]) -> Remedy:
        """Another value where the model stays the same with it; else nodes in float."""
        freed = [facts.freer.activation(tensor) for tensor in tensors]
        unnamed = any(entry.unnamed for entry in freed)
        nodes = () if unnamed else facts.freer.names(node for entry in freed for node in entry.nodes)
        candidate = facts.unmasked.candidates.get(mask.constant) if facts.unmasked is not None else None
        if candidate is None:
            reason = facts.unmasked.refused.get(mask.constant, "") if facts.unmasked is not None else ""
            why = f" A smaller mask would change the model: {reason}." if reason else ""
            return Remedy(f"Leave these nodes in float.{why}", nodes_to_exclude=nodes)
        return Remedy(
            f"Use a mask of about -{candidate.value:.0f}: Softmax turns it into zero as well.",
            otherwise="Leave these nodes in float.",
            change=Remasking(mask.constant, -candidate.value),
            nodes_to_exclude=nodes,
        )


def _scheme(facts: Facts) -> str:
    """The first scheme with calibrated activations, which the claim is tested under."""
    rounding = (scheme.name for scheme in facts.schemes if scheme.is_calibrated)
    return next(rounding, INT8_PER_TENSOR.name)


def _places(facts: Facts, mask: Mask, tensors: Sequence[str]) -> Iterator[Location]:
    """What makes the scores that each Softmax reads; of those that get no scale, what makes the tensors that do."""
    read = [softmax.input(0) for softmax in mask.softmaxes if softmax.input(0) in tensors]
    makers = (facts.model.producer(tensor) for tensor in dict.fromkeys(read or tensors[:1]))
    return (facts.model.locate(node) for node in makers if node is not None)
