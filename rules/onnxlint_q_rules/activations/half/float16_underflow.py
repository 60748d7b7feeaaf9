"""Divisors that float16 makes 0.

The smallest magnitude of float16 is 2^-24, 6e-8; half of it and less becomes 0. Most small values do no harm. A
variance, its epsilon or a sum of exponentials does: something is divided by it, by its root, or its logarithm is taken.

With data: divisors that are 0 in a run that rounds every result, where they are not in float32, and what becomes of the
output with the region rounded and with it in float32. Without: constants that guard a division and become 0.

Sources: IEEE 754 binary16; Micikevicius et al. 2018, arXiv 1710.03740, section 3.3 (statistics of normalisations in
float32).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from onnxlint_q import (
    SMALLEST,
    Confidence,
    Constant,
    Example,
    Facts,
    Finding,
    HalfTrial,
    Rule,
    Severity,
    Silence,
    find_constants,
    option,
    whole_model,
)
from onnxlint_q_rules.activations.half.said import and_more, explaining, figure, matters, output, remedy, severity_of
from onnxlint_q_rules.activations.places import place_of


def _norm(epsilon: float) -> str:
    bits = np.float16(epsilon).view(np.uint16)  # as ONNX text has float16 values
    return f"""
<ir_version: 8, opset_import: ["" : 17]>
norm (float16[N, 4] x) => (float16[N, 4] y)
<float16 two = {{16384}}, float16 eps = {{{bits}}}> {{
  [square] s = Pow (x, two)
  [mean] m = ReduceMean <axes = [-1], keepdims = 1> (s)
  [guard] g = Add (m, eps)
  [root] r = Sqrt (g)
  [quotient] y = Div (x, r)
}}
"""


_BARE = """
<ir_version: 8, opset_import: ["" : 17]>
norm (float16[N, 4] x) => (float16[N, 4] y)
<float16 two = {16384}> {
  [square] s = Pow (x, two)
  [mean] m = ReduceMean <axes = [-1], keepdims = 1> (s)
  [root] r = Sqrt (m)
  [quotient] y = Div (x, r)
}
"""


def _quiet(_: np.random.Generator) -> Mapping[str, npt.NDArray[np.float16]]:
    return {"x": (np.linspace(-1, 1, 32).reshape(8, 4) * 1e-4).astype(np.float16)}


@dataclass(frozen=True)
class Float16Underflow(Rule):
    """A divisor is smaller than float16 can hold, and becomes 0.

    ## What it does
    Looks at float16 files, and at float files under `--scheme fp16`. With data it rounds every result to float16, finds
    divisors that become 0, and tries which nodes to keep in float32. Without data it looks at constants that guard a
    division.

    ## Why it breaks INT8
    It breaks float16. What is under 6e-8 becomes 0. Squares of quiet values and small epsilons get there. The quotient
    is infinite or not a number.

    ## What to do
    Keep the nodes in float32 from the square to its root. Or use a larger epsilon.

    ## Sources
    IEEE 754 binary16; Micikevicius et al. 2018, arXiv 1710.03740, section 3.3.
    """

    code: ClassVar[str] = "QA011"
    name: ClassVar[str] = "float16-underflow"
    severity: ClassVar[Severity] = Severity.WARNING
    confidence: ClassVar[Confidence] = Confidence.HIGH

    loss_db: float = option(
        6.0, doc="dB that the output keeps with the nodes in float32, from which it is a warning", source="one bit"
    )

    good: ClassVar[tuple[Example, ...]] = (
        Example(_norm(1e-5), samples=_quiet, why="An epsilon of 1e-5 is left where the squares vanish."),
        Example(_norm(1e-5), why="Float16 holds the epsilon."),
    )
    bad: ClassVar[tuple[Example, ...]] = (
        Example(_BARE, flags=("square",), samples=_quiet, why="Squares of 1e-4 are 0, and the quotient is infinite."),
        Example(_norm(0), flags=("guard",), why="The epsilon became 0 when the file was converted."),
    )

    def check(self, facts: Facts) -> Iterator[Finding | Silence]:
        """One finding a kind of region; without a run one for all guards of one value."""
        if not facts.in_half:
            yield Silence(whole_model(facts), "it is not float16, and is not to be")
            return
        if facts.halved is None:
            guards: dict[tuple[float, bool], list[Constant]] = {}
            for constant in find_constants(facts.model, facts.half_tensors):
                if constant.reader is not None:
                    guards.setdefault((constant.value, constant.reader is constant.node), []).append(constant)
            yield from (self._stored(facts, alike) for alike in guards.values())
            if not guards:
                yield Silence(whole_model(facts), "no guard of a division becomes 0, and nothing was run")
            return
        trials = [trial for trial in facts.halved.trials if not trial.hazards[0].overflows]
        if not trials:
            yield Silence(whole_model(facts), "no divisor becomes 0")
        for trial in trials:
            if matters(trial, self.loss_db):
                yield self._seen(facts, trial)
            else:
                yield Silence(place_of(facts, trial.hazards[0].tensor), "the output keeps what it was")

    def _seen(self, facts: Facts, trial: HalfTrial) -> Finding:
        first, *others = trial.hazards
        reader, fall = first.reader.label if first.reader is not None else "", "fall" if others else "falls"
        found = self.finding(
            place_of(facts, first.tensor),
            f"{first.tensor!r}{and_more(others)} {fall} to {figure(first.value)}, which float16 makes 0 for "
            f"{reader!r}: {output(trial.rounded_db)}.",
            remedy=remedy(facts, trial),
            metrics={
                "tensor": first.tensor,
                "least": first.value,
                "smallest": SMALLEST,
                "divides": reader,
                "float16_db": trial.rounded_db,
                "kept_db": trial.kept_db,
                "float32_nodes": ", ".join(node.label for node in first.nodes),
            },
            severity=severity_of(trial),
            measured=True,
            places=[place_of(facts, one.tensor) for one in others],
        )
        return explaining(found, trial)

    def _stored(self, facts: Facts, alike: list[Constant]) -> Finding:
        first, *others = alike
        node, reader = first.node, first.reader
        assert reader is not None
        if reader is node:
            return self.finding(
                facts.model.locate(node),
                f"{node.label!r}{and_more(others)} {'divide' if others else 'divides'} by {figure(first.value)}, which "
                "is 0 in float16.",
                remedy=f"Multiply by the reciprocal, or keep {node.label} in float32.",
                metrics={"constant": first.key, "value": first.value, "smallest": SMALLEST, "divides": reader.label},
                places=[facts.model.locate(one.node) for one in others],
            )
        adds = f"{node.label!r}{and_more(others)} {'add' if others else 'adds'}"
        guard = f"{figure(first.value)} against a division by 0; in float16 that is 0"
        gone = f"nothing against a division by 0 at {reader.label!r}: the constant is 0 in this file"
        return self.finding(
            facts.model.locate(node),
            f"{adds} {guard if first.value else gone}.",
            remedy=f"Use at least 1e-5, or keep {node.label} to {reader.label} in float32.",
            metrics={"constant": first.key, "value": first.value, "smallest": SMALLEST, "divides": reader.label},
            # Whether a divisor ever is so small, the file does not tell.
            severity=Severity.INFO,
            places=[facts.model.locate(one.node) for one in others],
        )
