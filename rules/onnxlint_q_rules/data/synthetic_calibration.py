"""Measurements on random values.

`--calibrate random` feeds standard normal values, independent of each other. They drive a network through the same
layers, but what a filter was trained to find does not occur in them, so observed ranges, tails and saturation, and
every figure made with them, say little about deployment.

Source: Sony MCT's documentation asks for representative data for the same reason.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from onnxlint_q import Confidence, Example, Facts, Finding, Rule, Severity, whole_model


@dataclass(frozen=True)
class SyntheticCalibration(Rule):
    """Calibration on random values.

    ## What it does
    Says that the run used generated values instead of data.

    ## Why it breaks INT8
    Ranges of activations on noise are not those in use; scales made from them clip or waste codes.

    ## What to do
    Calibrate with samples of the deployment before believing a range.

    ## Sources
    Sony MCT documentation, representative data set.
    """

    code: ClassVar[str] = "QD002"
    name: ClassVar[str] = "synthetic-calibration"
    severity: ClassVar[Severity] = Severity.INFO
    confidence: ClassVar[Confidence] = Confidence.HIGH
    needs_calibration: ClassVar[bool] = True

    good: ClassVar[tuple[Example, ...]] = (
        Example(
            """
<ir_version: 8, opset_import: ["" : 17]>
nothing (float[1] x) => (float[1] y) {
  y = Relu(x)
}
""",
            why="no run, no data",
        ),
    )
    # An example cannot ask for random data; tests/rules/test_qparam_rules.py shows the finding.
    bad: ClassVar[tuple[Example, ...]] = ()

    def check(self, facts: Facts) -> Iterator[Finding]:
        """The one pass over the data."""
        observations = facts.observations
        if observations is not None and observations.synthetic:
            yield self.finding(
                whole_model(facts),
                f"no data: {observations.samples} samples of {observations.source} were generated, so every range, "
                f"tail and "
                "saturation in this report is that of random values",
                metrics={"samples": observations.samples},
                remedy="calibrate with samples of the deployment before a range is believed",
                snippet="--calibrate PATH --preprocess NAME",
            )
