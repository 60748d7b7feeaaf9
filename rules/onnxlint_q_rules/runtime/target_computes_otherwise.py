"""What a target computes in another way than the file says.

The facts are those of QR010: data files with a source and the versions that each holds for.

Sources: those of each fact, in the metrics of a finding.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from onnxlint_q import Confidence, Consequence, Example, Facts, Finding, Rule, Severity, Silence
from onnxlint_q_rules.runtime.targets import pairs, told


@dataclass(frozen=True)
class TargetComputesOtherwise(Rule):
    """A target reads a parameter in its own way, and returns other values without a word.

    ## What it does
    Holds every quantised operand against the facts about each target that `--target` or `target` in the configuration
    names. The finding gives the source of the fact and the versions that it holds for.

    ## Why it breaks INT8
    The file loads and runs, and its values are wrong there.

    ## What to do
    Quantise again with the options that the finding names. Compare the outputs on the target.

    ## Sources
    Those of each fact, which the finding names.
    """

    code: ClassVar[str] = "QR011"
    name: ClassVar[str] = "target-computes-otherwise"
    severity: ClassVar[Severity] = Severity.ERROR
    confidence: ClassVar[Confidence] = Confidence.HIGH

    good: ClassVar[tuple[Example, ...]] = (Example(pairs(), targets=("tensorrt",), why="TensorRT takes int8."),)
    bad: ClassVar[tuple[Example, ...]] = (
        Example(pairs(kind="uint8"), flags=("write",), targets=("tensorrt",), why="TensorRT imports uint8 as int8."),
    )

    def check(self, facts: Facts) -> Iterator[Finding | Silence]:
        """One finding a target and fact."""
        yield from told(self, facts, {Consequence.WRONG})
