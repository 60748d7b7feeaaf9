"""Samples that repeat each other.

Two samples are equal if every input holds the same bytes. Two images nearly coincide if their thumbnails (16x16 block
averages of all channels, less their mean) correlate by 0.99 or more: a brighter, recompressed or resized copy, or the
next frame of a video does; of 300 photographs of different things no two exceed 0.82.

A range that is the largest of n values is beaten by the next input with probability `1 / (n + 1)`, where n counts
different inputs: repeats add nothing.

Source: arithmetic; representative data sets as asked for by Sony MCT and NNCF.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from onnxlint_q import Confidence, Example, Facts, Finding, Rule, Severity, option, whole_model
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
    Compares all samples: bytes for bytes, and images by their thumbnails.

    ## Why it breaks INT8
    Ranges are learned from different inputs; repeats make few samples look like many, and what the few do not show is
    clipped. If samples of the calibration come again where the result is judged, it looks better than it is.

    ## What to do
    Remove the copies, take frames of a video further apart, and add different samples.

    ## Sources
    Arithmetic of extremes; thresholds measured on photographs.
    """

    code: ClassVar[str] = "QD003"
    name: ClassVar[str] = "duplicate-samples"
    severity: ClassVar[Severity] = Severity.WARNING
    confidence: ClassVar[Confidence] = Confidence.HIGH
    needs_calibration: ClassVar[bool] = True

    warning_fraction: float = option(
        0.5, doc="repeats in so large a part of the samples are a warning, fewer are mentioned", source="arithmetic"
    )
    min_values: int = option(
        16, doc="samples of fewer values than this may well be equal by chance", source="arithmetic"
    )

    good: ClassVar[tuple[Example, ...]] = (Example(_NETWORK, samples=_different, why="eight different pictures"),)
    bad: ClassVar[tuple[Example, ...]] = (
        Example(_NETWORK, flags=("x",), samples=_repeated, why="every picture is there twice"),
        Example(_NETWORK, flags=("x",), samples=_brighter, why="two pictures are darker copies of others"),
    )

    def check(self, facts: Facts) -> Iterator[Finding]:
        """One finding for all repeats."""
        data = facts.data
        if data is None or sum(seen.size for seen in data.inputs.values()) < self.min_values:
            return
        copies = sum(len(group) - 1 for group in data.duplicates)
        alike = sum(len(group) - 1 for group in data.alike)
        if not copies + alike:
            return
        parts = []
        if copies:
            groups = "; ".join(named(data, group) for group in data.duplicates[:3])
            parts.append(f"{copies} of {data.samples} samples are exact copies of others ({groups})")
        if alike:
            groups = "; ".join(named(data, group) for group in data.alike[:3])
            parts.append(f"{alike} of {data.samples} nearly coincide with another ({groups})")
        many = copies + alike >= self.warning_fraction * data.samples
        yield self.finding(
            whole_model(facts),
            f"{', and '.join(parts)}, so all figures rest on {data.samples - copies - alike} different samples",
            severity=None if many else Severity.INFO,
            metrics={
                "samples": data.samples,
                "copies": copies,
                "nearly_alike": alike,
                "different": data.samples - copies - alike,
            },
            remedy="remove the copies and add samples that differ as those of the deployment do",
        )
