"""Ranges taken from a handful of samples.

The largest of `n` independent values is beaten by the next one with probability `1 / (n + 1)`. So a new input leaves
the min-max range of a tensor at its upper end with a probability of 3 % after 32 samples, 1 % after 100, 0.3 % after
300, and at its lower end as often. Statistics for a verdict need fewer samples than ranges that go into production, so
under 100 the rule only tells, and under 32 it warns.

Of a float model the data is divided: ranges get at most half of it, the verdict is measured on others. What counts here
is what ranges got. Where the data holds more, nothing is wrong with it, and the advice is the `--samples` that takes
most and leaves as many for the verdict; the number that is taken where none is given is large enough not to warn.

Sources: PyTorch quantisation guide (at least 100), NNCF and OpenVINO (300); ZeroQ issue 11 (ResNet-18 keeps
71 % with one image, so few samples are a doubt and no proof).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from onnxlint_q import Confidence, Example, Facts, Finding, Rule, Severity, option, whole_model

# What the guides take for ranges that ship.
_SHIPPED = 300

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
    Looks at the number of samples that ranges are taken from. Of a float model that is at most half of the data: the
    other half is kept for the verdict.

    ## Why it breaks INT8
    Ranges that are learned from few samples are exceeded in use, and what exceeds them is clipped.

    ## What to do
    Take ranges from at least 100 samples like those of the deployment, 300 for ranges that ship: have twice as many for
    a float model. Where the data holds more than were taken, give the `--samples` that the finding names.

    ## Sources
    PyTorch quantisation guide; NNCF; ZeroQ issue 11.
    """

    code: ClassVar[str] = "QD001"
    name: ClassVar[str] = "too-few-samples"
    severity: ClassVar[Severity] = Severity.WARNING
    confidence: ClassVar[Confidence] = Confidence.MEDIUM
    needs_calibration: ClassVar[bool] = True

    warning_samples: int = option(
        10, doc="fewer samples are a warning", source="arithmetic: each end of a range is exceeded by 9 % of new inputs"
    )
    info_samples: int = option(100, doc="fewer samples are mentioned", source="PyTorch quantisation guide")

    good: ClassVar[tuple[Example, ...]] = (Example(_NETWORK, why="without calibration there is nothing to count"),)
    bad: ClassVar[tuple[Example, ...]] = (Example(_NETWORK, flags=("x",), samples=_few, why="five samples"),)

    def check(self, facts: Facts) -> Iterator[Finding]:
        """The one pass over the data; random values are another rule's matter."""
        data = facts.data
        if data is None or data.synthetic:
            return
        samples = data.samples if data.for_ranges is None else data.for_ranges
        if samples >= self.info_samples:
            return
        parts = 2 if facts.is_float else 1
        most = min((data.available or 0) // parts, _SHIPPED)
        more = most > samples
        few = samples < self.warning_samples
        taken = "1 sample" if samples == 1 else f"{samples} samples"
        beaten = 1 / (samples + 1)
        advice = []
        if more:
            advice.append(f"take more of the {data.available} samples that are there: --samples {most}")
        if most < self.info_samples:
            kept = ", half of which are kept for the verdict" if parts > 1 else ""
            advice.append(
                f"have at least {parts * self.info_samples} samples like those of the deployment, better "
                f"{parts * _SHIPPED}{kept}"
            )
        yield self.finding(
            whole_model(facts),
            f"ranges were taken from {taken}: enough {'to try' if few else 'for a verdict'}, not for ranges that ship, "
            f"because each end of a tensor's range is exceeded by about {100 * beaten:.1f} % of new inputs",
            severity=None if few else Severity.INFO,
            metrics={"samples": samples, "available": data.available},
            remedy="; ".join(advice),
            snippet=f"--samples {most}" if more else "",
        )
