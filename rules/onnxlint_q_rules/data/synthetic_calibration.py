"""Measurements on random values.

`--calibrate random` feeds independent standard normal values. They run through the same layers, but hold nothing that a
filter was trained to find. So observed ranges, tails and saturation, and all figures made from them, say little about
the deployment.

Source: Sony MCT's documentation asks for representative data for the same reason.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from onnxlint_q import Confidence, Example, Facts, Finding, Rule, Severity, Silence, whole_model


@dataclass(frozen=True)
class SyntheticCalibration(Rule):
    """The run used random values, not data.

    ## What it does
    Reports that `--calibrate random` was given.

    ## Why it breaks INT8
    Activation ranges on noise are not those in use. Scales made from them clip values or waste codes.

    ## What to do
    Calibrate with samples from the deployment.

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
            why="Without a run there are no random values.",
        ),
    )
    # An example cannot ask for random data; tests/rules/test_qparam_rules.py shows the finding.
    bad: ClassVar[tuple[Example, ...]] = ()

    def check(self, facts: Facts) -> Iterator[Finding | Silence]:
        """The one pass over the data."""
        observations = facts.observations
        if observations is None:
            return
        if observations.synthetic:
            yield self.finding(
                whole_model(facts),
                f"The run used {observations.samples} samples of random values, so no measured figure holds for real "
                "data",
                metrics={"samples": observations.samples, "source": observations.source},
                remedy="Calibrate with samples from the deployment.",
                snippet="--calibrate PATH --preprocess NAME",
            )
        else:
            yield Silence(whole_model(facts), f"{observations.source} is data")
