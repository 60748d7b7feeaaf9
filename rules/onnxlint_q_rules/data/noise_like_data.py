"""Data that looks generated.

Neighbouring pixels of a picture are alike: their correlation is over 0.65 in each of 300 photographs shrunk to 32x32,
and over 0.72 at 224x224, but zero in independent noise. Other inputs are compared with random generators: over n values
the mean of N(0, 1) is 0 with a standard error of `1 / sqrt(n)`, its variance 1 with `sqrt(2 / n)`, its kurtosis 3 with
`sqrt(24 / n)`; U(0, 1) has mean 1/2, variance 1/12 and kurtosis 1.8, with errors of `sqrt(1 / 12 n)`, `sqrt(1 / 180 n)`
and about `sqrt(2 / n)`. Real data comes near one of these figures by chance, but hardly ever within four errors of all
of them.

Sources: Field (1987) on the statistics of natural images; moments of the two distributions; Sony MCT's documentation
on representative data.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import sqrt
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from onnxlint_q import Confidence, DataSummary, Example, Facts, Finding, InputSummary, Rule, Severity, Silence, option
from onnxlint_q_rules.data.pictures import at_input, named, pictures

_IMAGES = """
<ir_version: 8, opset_import: ["" : 17]>
colours (float[N, 3, 32, 32] x) => (float[N, 3, 32, 32] y)
<float[3, 3, 1, 1] w = {1, 0, 0, 0, 1, 0, 0, 0, 1}> {
  y = Conv(x, w)
}
"""
_FEATURES = """
<ir_version: 8, opset_import: ["" : 17]>
features (float[N, 256] x) => (float[N, 256] y) {
  y = Relu(x)
}
"""
# Fewer values than these look like anything.
_ENOUGH = 4096
_ERRORS = 4.0


def _pictures(random: np.random.Generator) -> Mapping[str, npt.NDArray[np.float32]]:
    return {"x": pictures(random)}


def _noise(random: np.random.Generator) -> Mapping[str, npt.NDArray[np.float32]]:
    return {"x": random.integers(0, 256, size=(8, 3, 32, 32)).astype(np.float32)}


def _skewed(random: np.random.Generator) -> Mapping[str, npt.NDArray[np.float32]]:
    return {"x": random.gamma(2.0, size=(32, 256)).astype(np.float32)}


def _normal(random: np.random.Generator) -> Mapping[str, npt.NDArray[np.float32]]:
    return {"x": random.standard_normal((32, 256)).astype(np.float32)}


def _uniform(random: np.random.Generator) -> Mapping[str, npt.NDArray[np.float32]]:
    return {"x": random.random((32, 256)).astype(np.float32)}


@dataclass(frozen=True)
class NoiseLikeData(Rule):
    """Calibration data that looks like noise.

    ## What it does
    Looks for images whose neighbouring pixels hardly correlate. Of other inputs it looks for values with exactly the
    moments of N(0, 1) or U(0, 1).

    ## Why it breaks INT8
    Noise holds nothing that a filter was trained to find, so activation ranges are not those in use.

    ## What to do
    Calibrate with samples from the deployment. If they are real pictures, check layout and decoding.

    ## Sources
    Field (1987); Sony MCT documentation, representative data set.
    """

    code: ClassVar[str] = "QD005"
    name: ClassVar[str] = "noise-like-data"
    severity: ClassVar[Severity] = Severity.WARNING
    confidence: ClassVar[Confidence] = Confidence.HIGH
    needs_calibration: ClassVar[bool] = True

    correlation: float = option(
        0.2,
        doc="images whose neighbouring pixels correlate less look like noise",
        source="measured: photographs 0.65 to 0.99, noise 0",
    )

    good: ClassVar[tuple[Example, ...]] = (
        Example(_IMAGES, samples=_pictures, why="Pictures are smooth."),
        Example(_FEATURES, samples=_skewed, why="The features have another distribution."),
    )
    bad: ClassVar[tuple[Example, ...]] = (
        Example(_IMAGES, flags=("x",), samples=_noise, why="The pixels are random and independent."),
        Example(_FEATURES, flags=("x",), samples=_normal, why="The values are standard normal."),
        Example(_FEATURES, flags=("x",), samples=_uniform, why="All values between 0 and 1 are equally frequent."),
    )

    def check(self, facts: Facts) -> Iterator[Finding | Silence]:
        """Each input of floats, and each image."""
        data = facts.data
        if data is None:
            return
        for name, seen in data.inputs.items():
            if seen.image is not None:
                yield self._image(name, seen.image.correlation, len(seen.image.low), data)
            elif seen.floating and (kind := _generated(seen)):
                yield self.finding(
                    at_input(name),
                    f"The values of {name!r} look generated: they have the moments of {kind}",
                    severity=Severity.INFO,
                    metrics={
                        "mean": seen.mean,
                        "deviation": seen.deviation,
                        "kurtosis": seen.kurtosis,
                        "values": seen.values,
                    },
                    remedy="Calibrate with samples from the deployment. Ignore this if the deployment feeds noise too.",
                )
            else:
                moments = f"mean {seen.mean:.3g}, deviation {seen.deviation:.3g}, kurtosis {seen.kurtosis:.3g}"
                yield Silence(at_input(name), f"its values do not have the moments of generated ones: {moments}")

    def _image(
        self, name: str, correlation: npt.NDArray[np.float64], channels: int, data: DataSummary
    ) -> Finding | Silence:
        noisy = np.flatnonzero(correlation < self.correlation)
        if 2 * noisy.size <= data.samples:
            what = f"neighbouring pixels correlate less than {self.correlation:g}"
            return Silence(at_input(name), f"{what} in {noisy.size} of {data.samples} samples, not in most")
        median = float(np.median(correlation[noisy]))
        return self.finding(
            at_input(name),
            f"{noisy.size} of {data.samples} samples of {name!r} look like noise: neighbouring pixels correlate by "
            f"only {median:.2f}",
            # A single channel may be something else than a picture, such as a spectrogram.
            severity=None if channels == 3 else Severity.INFO,
            metrics={
                "neighbour_correlation": median,
                "noisy_samples": int(noisy.size),
                "samples": data.samples,
                "examples": named(data, noisy),
            },
            remedy="Calibrate with samples from the deployment. If these are real pictures, check layout and decoding.",
        )


def _generated(seen: InputSummary) -> str:
    """The generator whose moments the values have; empty if none."""
    n = seen.values
    if n < _ENOUGH:
        return ""
    variance = seen.deviation**2
    symmetric = abs(seen.skewness) < _ERRORS * sqrt(6 / n)
    normal = (
        abs(seen.mean) < _ERRORS / sqrt(n)
        and abs(variance - 1) < _ERRORS * sqrt(2 / n)
        and abs(seen.kurtosis - 3) < _ERRORS * sqrt(24 / n)
    )
    uniform = (
        0 <= seen.low < seen.high <= 1
        and abs(seen.mean - 1 / 2) < _ERRORS * sqrt(1 / (12 * n))
        and abs(variance - 1 / 12) < _ERRORS * sqrt(1 / (180 * n))
        and abs(seen.kurtosis - 1.8) < _ERRORS * sqrt(2 / n)
    )
    if not symmetric:
        return ""
    return "N(0, 1)" if normal else "U(0, 1)" if uniform else ""
