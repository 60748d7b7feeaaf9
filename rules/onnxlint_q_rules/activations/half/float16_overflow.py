"""Values past 65,504 in a network that is float16, or is to be.

The largest value of float16 is 65,504; from 65,520 on a value becomes infinite. Squares get there first: one activation
of 256 is enough. ONNX Runtime's CPU has no float16 kernels for most operators and keeps float32 between them, so the
file runs well there and fails on a GPU or an NPU. What decides are extremes, and a run that rounds after every node.

With data: tensors whose float32 values pass the limit, and what becomes of the output with their region rounded and
with it in float32. Without: constants that are too large. Infinity times 0 is not a number, which is what
`(1 - mask) * -3.4e38` comes to where the mask leaves a score; in front of a Softmax minus infinity is harmless but for
rows whose every score is ruled out.

Sources: IEEE 754 binary16; onnxconverter-common, float16.py (`node_block_list`, constants clamped to 10,000).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from onnxlint_q import (
    LARGEST,
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
from onnxlint_q_rules.activations.half.said import (
    and_more,
    explaining,
    figure,
    matters,
    output,
    remedy,
    severity_of,
    span,
)
from onnxlint_q_rules.activations.places import place_of

# ONNX text has float16 values as their bits: these are 2 and 0.001.
_NORM = """
<ir_version: 8, opset_import: ["" : 17]>
norm (float16[N, 4] x) => (float16[N, 4] y)
<float16 two = {16384}, float16 eps = {5145}> {
  [square] s = Pow (x, two)
  [mean] m = ReduceMean <axes = [-1], keepdims = 1> (s)
  [guard] g = Add (m, eps)
  [root] r = Sqrt (g)
  [quotient] y = Div (x, r)
}
"""


def _of(largest: float) -> Mapping[str, npt.NDArray[np.float16]]:
    values = np.linspace(-1, 1, 32).reshape(8, 4)
    return {"x": (values * largest).astype(np.float16)}


def _quiet(_: np.random.Generator) -> Mapping[str, npt.NDArray[np.float16]]:
    return _of(100)


def _loud(_: np.random.Generator) -> Mapping[str, npt.NDArray[np.float16]]:
    return _of(700)


@dataclass(frozen=True)
class Float16Overflow(Rule):
    """A value is larger than float16 can hold, and becomes infinite.

    ## What it does
    Looks at float16 files, and at float files under `--scheme fp16`. With data it compares what tensors hold in float32
    with 65,504, rounds every result to float16, and tries which nodes to keep in float32. Without data it looks at
    constants.

    ## Why it breaks INT8
    It breaks float16. Squares, sums and exponentials pass 65,504 where their inputs do not. What follows is infinite,
    0 or not a number. On a CPU the file may run well, because most nodes compute in float32 there.

    ## What to do
    Keep the nodes in float32 from the one that overflows to the root, logarithm or quotient behind it.

    ## Sources
    IEEE 754 binary16; onnxconverter-common, float16.py.
    """

    code: ClassVar[str] = "QA010"
    name: ClassVar[str] = "float16-overflow"
    severity: ClassVar[Severity] = Severity.WARNING
    confidence: ClassVar[Confidence] = Confidence.HIGH

    loss_db: float = option(
        6.0, doc="dB that the output keeps with the nodes in float32, from which it is a warning", source="one bit"
    )

    good: ClassVar[tuple[Example, ...]] = (
        Example(_NORM, samples=_quiet, why="The largest square is 10,000."),
        Example(_NORM, why="What it reaches hangs on the values, and nothing was run."),
    )
    bad: ClassVar[tuple[Example, ...]] = (
        Example(_NORM, flags=("square",), samples=_loud, why="700 squared is 490,000; the quotient becomes 0."),
    )

    def check(self, facts: Facts) -> Iterator[Finding | Silence]:
        """One finding a kind of region; without a run one for each constant."""
        if not facts.in_half:
            yield Silence(whole_model(facts), "it is not float16, and is not to be")
            return
        if facts.halved is None:
            found = [one for one in find_constants(facts.model, facts.half_tensors) if one.reader is None]
            masks = {mask.constant for mask in facts.masks}
            yield from (self._stored(facts, one, masks=one.key in masks) for one in found)
            if not found:
                yield Silence(whole_model(facts), "no constant reaches 65,504, and nothing was run")
            return
        told = [self._seen(facts, trial) for trial in facts.halved.trials if trial.hazards[0].overflows]
        yield from told
        if not told:
            yield Silence(whole_model(facts), "no value reaches 65,504")

    def _seen(self, facts: Facts, trial: HalfTrial) -> Finding:
        first, *others = trial.hazards
        lost = matters(trial, self.loss_db)
        reach, become = ("reach", "become") if others else ("reaches", "becomes")
        passes = f"{first.tensor!r}{and_more(others)} {reach} {figure(first.value)}, past the 65,504 of float16"
        harmless = f"{passes}, and {become} infinite; the output of these samples keeps what it was."
        masked = first.nodes and first.nodes[-1].op_type == "Softmax"
        found = self.finding(
            place_of(facts, first.tensor),
            f"{passes}: {output(trial.rounded_db)}." if lost else harmless,
            remedy=remedy(facts, trial)
            if lost
            else "A row that is masked as a whole is not a number then. Use a mask of about -10,000."
            if masked
            else f"Keep {span(trial.hazards)} in float32 if other samples may be louder.",
            metrics={
                "tensor": first.tensor,
                "extreme": first.value,
                "largest": LARGEST,
                "float16_db": trial.rounded_db,
                "kept_db": trial.kept_db,
                "float32_nodes": ", ".join(node.label for node in first.nodes),
            },
            severity=severity_of(trial) if lost else Severity.INFO,
            measured=True,
            places=[place_of(facts, one.tensor) for one in others],
        )
        return explaining(found, trial) if lost else found

    def _stored(self, facts: Facts, constant: Constant, *, masks: bool) -> Finding:
        node = constant.node
        times_zero = node.op_type == "Mul"
        follows = " Infinity times 0 is not a number." if times_zero else ""
        rows = " A row that is masked as a whole is not a number then." if masks and not times_zero else ""
        return self.finding(
            facts.model.locate(node),
            f"The constant of {node.label!r} is {figure(constant.value)}, past the 65,504 of float16: it becomes "
            f"infinite.{follows}{rows}",
            remedy=f"Use about {-10000 if constant.value < 0 else 10000:,}, or keep {node.label} in float32. Some "
            "converters write their largest constant in its place.",
            metrics={"constant": constant.key, "extreme": constant.value, "largest": LARGEST},
            severity=Severity.INFO if masks and not times_zero else None,
        )
