"""Ranges taken from a handful of samples.

The largest of `n` independent values is beaten by the next one with probability `1 / (n + 1)`. So a new input exceeds
the upper end of a min-max range with a probability of 3 % after 32 samples, 1 % after 100, 0.3 % after 300. The lower
end is exceeded as often. A verdict needs fewer samples than ranges that go into production. So under 100 samples the
rule gives an info, and under 10 a warning.

Of a float model the data is divided: ranges get at most half of it, and the verdict is measured on the rest. The rule
counts the samples for ranges. It speaks where the data itself is short, or where `--samples` asked for fewer than the
default of 32 although there are more. It is silent where the default left samples over: 32 are enough for a verdict.
For ranges that ship, give `--samples 300`.

Sources: PyTorch quantisation guide (at least 100), NNCF and OpenVINO (300); ZeroQ issue 11 (ResNet-18 keeps
71 % with one image, so few samples are a doubt and no proof).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from onnxlint_q import Confidence, Example, Facts, Finding, Rule, Severity, Silence, option, whole_model

# What the guides take for ranges that ship, and what a run takes unless it is asked for another number.
_SHIPPED, _USUAL = 300, 32

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
    """Too few calibration samples for ranges that ship.

    ## What it does
    Counts the samples that ranges are taken from. Of a float model that is at most half of the data: the other half is
    kept for the verdict. It is silent where the data holds enough samples and at least 32, the default, were taken.

    ## Why it breaks INT8
    New inputs exceed ranges that were learned from few samples, and values beyond a range are clipped.

    ## What to do
    Take ranges from at least 100 samples like those of the deployment, and from 300 for ranges that ship. A float model
    needs twice as many, because half of them are kept for the verdict. Where the data holds more than were taken, give
    `--samples`.

    ## Sources
    PyTorch quantisation guide; NNCF; ZeroQ issue 11.
    """

    code: ClassVar[str] = "QD001"
    name: ClassVar[str] = "too-few-samples"
    severity: ClassVar[Severity] = Severity.WARNING
    confidence: ClassVar[Confidence] = Confidence.MEDIUM
    needs_calibration: ClassVar[bool] = True

    warning_samples: int = option(
        10, doc="fewer samples are a warning", source="arithmetic: 9 % of new inputs exceed each end of a range"
    )
    info_samples: int = option(100, doc="fewer samples are an info", source="PyTorch quantisation guide")

    good: ClassVar[tuple[Example, ...]] = (Example(_NETWORK, why="Without calibration there is nothing to count."),)
    bad: ClassVar[tuple[Example, ...]] = (
        Example(_NETWORK, flags=("x",), samples=_few, why="Ranges of five samples are too narrow."),
    )

    def check(self, facts: Facts) -> Iterator[Finding | Silence]:
        """The one pass over the data; random values are another rule's matter."""
        data = facts.data
        if data is None:
            return
        if data.synthetic:
            yield Silence(whole_model(facts), "random values are no data")
            return
        samples = data.samples if data.for_ranges is None else data.for_ranges
        if samples >= self.info_samples:
            yield Silence(
                whole_model(facts), f"ranges were taken from {samples} samples, not under {self.info_samples}"
            )
            return
        parts = 2 if facts.is_float else 1
        most = min((data.available or 0) // parts, _SHIPPED)
        if samples >= _USUAL and most >= self.info_samples:
            why = f"ranges were taken from {samples} samples, not under {_USUAL}, and the data holds {data.available}"
            yield Silence(whole_model(facts), why)
            return
        more = most > samples
        few = samples < self.warning_samples
        taken = "1 sample" if samples == 1 else f"{samples} samples"
        beaten = 1 / (samples + 1)
        advice = []
        if more:
            advice.append(f"Take more of the {data.available} samples that are there: --samples {most}.")
        if most < self.info_samples:
            kept = "; half of them are kept for the verdict" if parts > 1 else ""
            advice.append(
                f"Collect at least {parts * self.info_samples} samples like those in use, better {parts * _SHIPPED}"
                f"{kept}."
            )
        yield self.finding(
            whole_model(facts),
            f"Ranges come from {taken}, so about {100 * beaten:.1f} % of new inputs exceed each end of a range",
            severity=None if few else Severity.INFO,
            metrics={"samples": samples, "available": data.available, "exceeded_fraction": beaten},
            remedy=" ".join(advice),
            snippet=f"--samples {most}" if more else "",
        )
