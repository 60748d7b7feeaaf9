"""Ranges taken from a handful of samples.

The largest of `n` independent values is beaten by the next one with probability `1 / (n + 1)`. So a new input leaves
the min-max range of a tensor at its upper end with a probability of 3 % after 32 samples, 1 % after 100, 0.3 % after
300, and at its lower end as often. Statistics for a verdict need fewer samples than ranges that go into production, so
under 100 the rule only tells, and under 32 it warns.

Sources: PyTorch quantisation guide (at least 100), NNCF and OpenVINO (300); ZeroQ issue 11 (ResNet-18 keeps
71 % with one image, so few samples are a doubt and no proof).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from onnxlint_q.finding import Confidence, Finding, Severity
from onnxlint_q.judge.facts import Facts
from onnxlint_q.judge.rule import Example, Rule, option
from onnxlint_q_rules.advice import whole_model

_NETWORK = """
<ir_version: 8, opset_import: ["" : 17]>
small (float[1, 4] x) => (float[1, 4] y)
<float[4, 4] w = {1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1}> {
  y = MatMul(x, w)
}
"""


def _few(random: np.random.Generator) -> Mapping[str, npt.NDArray[np.float32]]:
    return {"x": random.normal(size=(5, 4)).astype(np.float32)}


@dataclass(frozen=True)
class TooFewSamples(Rule):
    """Too few calibration samples.

    ## What it does
    Looks at the number of samples that the model is calibrated on.

    ## Why it breaks INT8
    Ranges that are learned from few samples are exceeded in use, and what exceeds them is clipped.

    ## What to do
    Use at least 100 samples like those of the deployment, 300 for ranges that ship.

    ## Sources
    PyTorch quantisation guide; NNCF; ZeroQ issue 11.
    """

    code: ClassVar[str] = "QD001"
    name: ClassVar[str] = "too-few-samples"
    severity: ClassVar[Severity] = Severity.WARNING
    confidence: ClassVar[Confidence] = Confidence.MEDIUM
    needs_calibration: ClassVar[bool] = True

    warning_samples: int = option(
        32, doc="fewer samples are a warning", source="arithmetic: each end of a range is exceeded by 3 % of new inputs"
    )
    info_samples: int = option(100, doc="fewer samples are mentioned", source="PyTorch quantisation guide")

    good: ClassVar[tuple[Example, ...]] = (Example(_NETWORK, why="without calibration there is nothing to count"),)
    bad: ClassVar[tuple[Example, ...]] = (Example(_NETWORK, flags=("x",), samples=_few, why="five samples"),)

    def check(self, facts: Facts) -> Iterator[Finding]:
        """The one pass over the data; random values are another rule's matter."""
        data = facts.data
        if data is None or data.synthetic or data.samples >= self.info_samples:
            return
        few = data.samples < self.warning_samples
        more = data.available is not None and data.available > data.samples
        count = "1 calibration sample was" if data.samples == 1 else f"{data.samples} calibration samples were"
        beaten = 1 / (data.samples + 1)
        yield self.finding(
            whole_model(facts),
            f"{count} taken: enough {'to try' if few else 'for a verdict'}, not for ranges that ship, because each end "
            f"of a tensor's range is exceeded by about {100 * beaten:.1f} % of new inputs",
            severity=None if few else Severity.INFO,
            metrics={"samples": data.samples, "available": data.available},
            remedy=(
                "calibrate with at least 100 samples like those of the deployment, better 300"
                + (f"; {data.available} are there" if more else "")
            ),
            snippet=f"--samples {min(data.available or 300, 300)}" if more else "",
        )
