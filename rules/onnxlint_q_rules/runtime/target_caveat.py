"""What runs on a target with a loss: on another processor, without gain, or with sums that may clip.

The facts are those of QR010. Of a float model it says which of the schemes that are judged give a file that the target
does not take.

Sources: those of each fact, in the metrics of a finding.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from onnxlint_q import (
    Confidence,
    Consequence,
    Example,
    Facts,
    Finding,
    Rule,
    Severity,
    Silence,
    read_target,
    whole_model,
)
from onnxlint_q_rules.runtime.targets import pairs, told

_FLOAT = """
<ir_version: 8, opset_import: ["" : 17]>
small (float[N, 2] x) => (float[N, 2] y)
<float[2, 2] w = {0.3, -0.1, 0.2, 0.7}> {
  [product] y = MatMul (x, w)
}
"""


@dataclass(frozen=True)
class TargetCaveat(Rule):
    """A file runs on a target, but slower or less exactly than it could.

    ## What it does
    Holds every quantised operand against the facts about each target that `--target` or `target` in the configuration
    names: what leaves the accelerator (a warning), what is computed in float there, and sums that may clip. Of a float
    model it names the schemes whose files the target does not take.

    ## Why it breaks INT8
    An operator that another processor computes costs two copies. Sums of uint8 and int8 products in 16 bits clip on x86
    machines without VNNI.

    ## What to do
    Quantise with the options that the finding names, or run the file elsewhere.

    ## Sources
    Those of each fact, which the finding names.
    """

    code: ClassVar[str] = "QR012"
    name: ClassVar[str] = "target-caveat"
    severity: ClassVar[Severity] = Severity.WARNING
    confidence: ClassVar[Confidence] = Confidence.HIGH

    good: ClassVar[tuple[Example, ...]] = (
        Example(pairs(), targets=("ort-cpu", "qnn"), why="int8 with one scale has a kernel there."),
        Example(_FLOAT, targets=("ort-cpu",), why="It takes files of every scheme."),
    )
    bad: ClassVar[tuple[Example, ...]] = (
        Example(
            pairs("0.02, 0.03", "0, 0"),
            flags=("write",),
            targets=("qnn",),
            why="QNN takes one scale for an activation, so the operator runs on the CPU.",
        ),
        Example(
            pairs(kind="uint8"),
            flags=("conv",),
            targets=("ort-cpu",),
            why="Without VNNI, sums of uint8 and int8 products may clip.",
        ),
        Example(_FLOAT, flags=("x",), targets=("tensorrt",), why="The default schemes have zero points other than 0."),
    )

    def check(self, facts: Facts) -> Iterator[Finding | Silence]:
        """One finding a target and fact, and one a target for a float model."""
        yield from told(self, facts, {Consequence.FALLBACK})
        yield from told(self, facts, {Consequence.SATURATES, Consequence.SLOW}, Severity.INFO)
        if facts.is_float:
            yield from self._schemes(facts)

    def _schemes(self, facts: Facts) -> Iterator[Finding | Silence]:
        for name in facts.targets:
            target = read_target(name)
            refused = [scheme.name for scheme in facts.schemes if scheme.name in target.schemes]
            if not refused:
                yield Silence(whole_model(facts), f"{name} takes files of every scheme that is judged")
                continue
            why = target.schemes[refused[0]]
            yield self.finding(
                whole_model(facts),
                f"{target.title} does not take files of {', '.join(refused)}: {why}.",
                remedy=f"Judge a scheme that it takes: --scheme {target.instead}.",
                metrics={"target": name, "schemes": ", ".join(refused)},
                severity=Severity.INFO,
            )
