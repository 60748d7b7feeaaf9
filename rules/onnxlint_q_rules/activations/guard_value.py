"""A constant that stands in for absent values, far from those that are present.

A pooling over slots puts `c` = -10,000 where a slot is empty. If calibration meets an empty slot, the scale has to
reach `c`, and one step is `|c| / 255` or more: 39 here, and all values that count share a code. If it meets none,
nothing is lost, until the deployment does and the value is clipped. So the outcome hangs on the data, and the file
cannot say more.

Looked for are constants that Where, ScatterND or ScatterElements put in the place of values, that a Pad puts around
them, or that a mask of an input adds to them. They are far if they lie 32 times farther from 0 than the values beside
them are known or expected to, or where nothing is known of these at 1,000. What a Softmax reads is a mask, another
rule's matter. A run tests what rounding the tensor costs with the ranges of its data, and with it what layers make of
it, which is as far out.

Sources: pytorch/executorch#8736 and #20471 (the same of masks).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
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
    Guard,
    KnownRanges,
    Node,
    Remedy,
    Rule,
    Severity,
    Silence,
    Subject,
    Trait,
    find_guards,
    option,
    trace_forward,
)
from onnxlint_q_rules.activations.places import place_of

_WHOLE = Trait.REARRANGES | Trait.REPEATS | Trait.COPIES


def _model(value: str) -> str:
    return f"""
<ir_version: 8, opset_import: ["" : 17]>
pool (float[N, 8, 4] slots, bool[N, 8, 1] present) => (float[N, 4] y)
<float guard = {{{value}}}, float[4, 4] w = {{1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1}}> {{
  [fill] guarded = Where(present, slots, guard)
  mixed = MatMul(guarded, w)
  y = ReduceMax <axes = [1], keepdims = 0> (mixed)
}}
"""


_ADDED = """
<ir_version: 8, opset_import: ["" : 17]>
pool (float[N, 8, 4] slots, float[N, 8, 1] present) => (float[N, 4] y)
<float one = {1}, float far = {-1000000}, float[4, 4] w = {1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1}> {
  absent = Sub(one, present)
  guard = Mul(absent, far)
  [mask] guarded = Add(slots, guard)
  mixed = MatMul(guarded, w)
  y = ReduceMax <axes = [1], keepdims = 0> (mixed)
}
"""


@dataclass(frozen=True)
class GuardValue(Rule):
    """A constant far from all values stands in for those that are absent.

    ## What it does
    Looks for constants that take the place of some values, or are added to them, and lie far outside their range.

    ## Why it breaks INT8
    If calibration meets an absent value, the scale has to reach the constant, and the values that count share a few
    codes. If it does not, all seems well until the deployment meets one.

    ## What to do
    Use a constant just outside the range of the values. Or leave the node and its readers in float. Calibrate with
    samples that have absent values: `--calibrate` tests what they cost.

    ## Sources
    pytorch/executorch#8736 and #20471.
    """

    code: ClassVar[str] = "QA007"
    name: ClassVar[str] = "guard-value"
    severity: ClassVar[Severity] = Severity.WARNING
    confidence: ClassVar[Confidence] = Confidence.MEDIUM
    supersedes: ClassVar[tuple[str, ...]] = ("QA001", "QA002", "QA004", "QA005", "QA006")

    far: float = option(
        32.0, doc="how many times farther from 0 than the values beside it", source="eight codes are left of 256"
    )
    magnitude: float = option(
        1000.0, doc="magnitude from which it is far where nothing is known of the values", source="as for QA003"
    )
    least: float = option(
        16.0, doc="magnitude under which no constant is looked at", source="a step of a sixteenth serves values of one"
    )

    good: ClassVar[tuple[Example, ...]] = (
        Example(_model("-8"), why="The constant lies just outside what the slots hold."),
    )
    bad: ClassVar[tuple[Example, ...]] = (
        Example(_model("-10000"), flags=("fill",), why="One step is 39 where a slot is absent."),
        Example(_ADDED, flags=("mask",), why="The constant is added to what is absent."),
    )

    def check(self, facts: Facts) -> Iterator[Finding | Silence]:
        """Each such constant of a float model whose result would be rounded."""
        if not facts.is_float:
            return
        rounded = {place.tensor for place in facts.placements if not place.constant}
        masked = {tensor for mask in facts.masks for tensor in mask.way}
        known = KnownRanges(facts.model)
        for guard in find_guards(facts.model, 1.0):
            held = [tensor for tensor in _far_out(facts, guard.node.output) if tensor in rounded]
            reach = self._reach(facts, known, guard)
            if not held:
                unmet = "its result gets no scale"
            elif guard.node.output in masked:
                unmet = "a Softmax reads it, so its constant is a mask"
            elif abs(guard.value) < max(self.least, reach):
                unmet = f"its constant, {guard.value:.3g}, is not {self.far:g} times as far out as the values beside it"
            else:
                yield self._report(facts, guard, held)
                continue
            yield Silence(facts.model.locate(guard.node), unmet)

    def _reach(self, facts: Facts, known: KnownRanges, guard: Guard) -> float:
        """Magnitude from which a constant is far from the values beside it."""
        ends = [known.of(guard.beside), *filter(None, [facts.expected.get(guard.beside)])]
        low, high = max(end[0] for end in ends), min(end[1] for end in ends)
        widest = max(abs(low), abs(high))
        return self.far * widest if np.isfinite(widest) else self.magnitude

    def _report(self, facts: Facts, guard: Guard, tensors: list[str]) -> Finding:
        scheme = next((scheme.name for scheme in facts.calibrated_schemes), INT8_PER_TENSOR.name)
        step = abs(guard.value) / (UINT8.largest - UINT8.lowest)
        freed = [facts.freer.activation(tensor) for tensor in tensors]
        unnamed = any(entry.unnamed for entry in freed)
        exclude = () if unnamed else facts.freer.names(node for entry in freed for node in entry.nodes)
        return self.finding(
            place_of(facts, guard.node.output),
            f"{guard.node.op_type} puts {guard.value:.5g} among the values of {guard.beside!r}: if it is ever chosen, "
            f"one 8-bit step of {tensors[0]!r} is {step:.3g} or more.",
            metrics={"constant": guard.constant, "value": guard.value, "step": step, "beside": guard.beside},
            remedy=Remedy(
                "Use a constant just outside the range of the values, or leave these nodes in float. Calibrate with "
                "samples in which it is chosen.",
                nodes_to_exclude=exclude,
            ),
            claim=Claim(Subject.ACTIVATION, tensors[0], scheme, more=tuple(tensors[1:]), all_formats=True),
        )


def _far_out(facts: Facts, tensor: str) -> tuple[str, ...]:
    """What holds the constant, moved or behind layers and sums."""

    def through(node: Node) -> Iterable[str]:
        linear = node.operator.layer is not None or node.operator.has(_WHOLE | Trait.ADDS)
        return node.operator.results_of(node.outputs) if linear else ()

    return trace_forward(facts.model, tensor, through).tensors
