"""Samples that repeat each other.

Two samples are equal if every input holds the same bytes. Two images are nearly equal if their thumbnails (16x16 block
averages of all channels, minus their mean) correlate by 0.99 or more. Brighter, recompressed or resized copies and
neighbouring frames of a video do. Of 300 photographs of different things no two exceed 0.82.

The next input exceeds the largest of n values with probability `1 / (n + 1)`, where n counts different inputs. So
repeats add nothing.

Source: arithmetic; representative data sets as asked for by Sony MCT and NNCF.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from onnxlint_q import Confidence, Example, Facts, Finding, Rule, Severity, Silence, option, whole_model
from onnxlint_q_rules.data.pictures import named, pictures

_NETWORK = """
<ir_version: 8, opset_import: ["" : 17]>
colours (float[N, 3, 32, 32] x) => (float[N, 3, 32, 32] y)
<float[3, 3, 1, 1] w = {1, 0, 0, 0, 1, 0, 0, 0, 1}> {
  y = Conv(x, w)
}
"""


def _different(random: np.random.Generator) -> Mapping[str, npt.NDArray[np.float32]]:
    return {"x": pictures(random, 8)}


def _repeated(random: np.random.Generator) -> Mapping[str, npt.NDArray[np.float32]]:
    return {"x": np.concatenate([pictures(random, 6)] * 2)}


def _brighter(random: np.random.Generator) -> Mapping[str, npt.NDArray[np.float32]]:
    images = pictures(random, 6)
    return {"x": np.concatenate([images, images[:2] * np.float32(0.9)])}


@dataclass(frozen=True)
class DuplicateSamples(Rule):
    """Calibration samples that repeat each other.

    ## What it does
    Compares all samples with each other: byte by byte, and images by their thumbnails.

    ## Why it breaks INT8
    Ranges are learned from different inputs, so repeats make few samples look like many. Values that the few do not
    show are clipped later. A verdict on samples that calibration has seen is too good.

    ## What to do
    Remove the copies and add different samples. Take frames of a video further apart.

    ## Sources
    Arithmetic of extremes; thresholds measured on photographs.
    """

    code: ClassVar[str] = "QD003"
    name: ClassVar[str] = "duplicate-samples"
    severity: ClassVar[Severity] = Severity.WARNING
    confidence: ClassVar[Confidence] = Confidence.HIGH
    needs_calibration: ClassVar[bool] = True

    warning_fraction: float = option(
        0.5, doc="from this fraction of repeats on it is a warning, below it an info", source="arithmetic"
    )
    min_values: int = option(
        16, doc="samples with fewer values are not compared, as they may be equal by chance", source="arithmetic"
    )

    good: ClassVar[tuple[Example, ...]] = (
        Example(_NETWORK, samples=_different, why="These are eight different pictures."),
    )
    bad: ClassVar[tuple[Example, ...]] = (
        Example(_NETWORK, flags=("x",), samples=_repeated, why="Every picture is there twice."),
        Example(_NETWORK, flags=("x",), samples=_brighter, why="Two pictures are darker copies of others."),
    )

    def check(self, facts: Facts) -> Iterator[Finding | Silence]:
        """One finding for all repeats."""
        data = facts.data
        if data is None:
            return
        size = sum(seen.size for seen in data.inputs.values())
        if size < self.min_values:
            yield Silence(whole_model(facts), f"a sample has {size} values, under {self.min_values}")
            return
        copies = sum(len(group) - 1 for group in data.duplicates)
        alike = sum(len(group) - 1 for group in data.alike)
        different = data.samples - copies - alike
        if different == data.samples:
            yield Silence(whole_model(facts), f"all {data.samples} samples are different")
            return
        groups = [named(data, group) for group in (*data.duplicates, *data.alike)[:3]]
        yield self.finding(
            whole_model(facts),
            f"{different} of {data.samples} samples are different: {_repeats(copies, alike)}",
            severity=None if copies + alike >= self.warning_fraction * data.samples else Severity.INFO,
            metrics={
                "samples": data.samples,
                "copies": copies,
                "nearly_alike": alike,
                "different": different,
                "examples": "; ".join(groups),
            },
            remedy="Remove the repeats, and add samples that differ as much as those in use.",
        )


def _repeats(copies: int, alike: int) -> str:
    """`2 are exact copies and 1 is nearly the same as another`."""
    parts = []
    if copies:
        parts.append(f"{copies} {'is an exact copy' if copies == 1 else 'are exact copies'} of another")
    if alike:
        parts.append(f"{alike} {'is' if alike == 1 else 'are'} nearly the same as another")
    return " and ".join(parts)
