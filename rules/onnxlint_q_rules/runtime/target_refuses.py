"""What a target does not load, import or run.

Each target has a data file of facts; a fact says to which operators, element types, granularities and zero points it
applies, since which version, and who says so. Those about ONNX Runtime on a CPU are run by a test with the installed
version.

Sources: those of each fact, in the metrics of a finding.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from onnxlint_q import Confidence, Consequence, Example, Facts, Finding, Rule, Severity, Silence
from onnxlint_q_rules.runtime.targets import pairs, told


@dataclass(frozen=True)
class TargetRefuses(Rule):
    """A target does not load the file, or no run on it succeeds.

    ## What it does
    Holds every quantised operand against the facts about each target that `--target` or `target` in the configuration
    names. The finding gives the source of the fact and the versions that it holds for.

    ## Why it breaks INT8
    ONNX allows more than a runtime takes: a zero point that is not 0, one scale for each channel of an activation, 16
    bits. The file is valid and cannot be used there.

    ## What to do
    Quantise again with the options that the finding names.

    ## Sources
    Those of each fact, which the finding names.
    """

    code: ClassVar[str] = "QR010"
    name: ClassVar[str] = "target-refuses"
    severity: ClassVar[Severity] = Severity.ERROR
    confidence: ClassVar[Confidence] = Confidence.HIGH

    good: ClassVar[tuple[Example, ...]] = (
        Example(pairs(), targets=("ort-cpu", "tensorrt", "qnn"), why="One scale, zero point 0, int8."),
        Example(pairs(zeros="3"), targets=("ort-cpu",), why="ONNX Runtime takes any zero point."),
    )
    bad: ClassVar[tuple[Example, ...]] = (
        Example(pairs(zeros="3"), flags=("write",), targets=("tensorrt",), why="TensorRT takes zero points of 0 only."),
        Example(
            pairs("0.02, 0.03", "0, 0"),
            flags=("conv",),
            targets=("ort-cpu",),
            why="The kernel takes one scale for its input.",
        ),
    )

    def check(self, facts: Facts) -> Iterator[Finding | Silence]:
        """One finding a target and fact."""
        yield from told(self, facts, {Consequence.REFUSED, Consequence.FAILS})
