"""Activations that are clipped by their range.

A value outside `[s (q_min - z), s (q_max - z)]` becomes the code at that end. The rule counts the fraction
of values at an end among all codes that the calibration data gives.

Not every code at an end was clipped: SiLU and Softmax press many values against a bound of their own, and the pixels
of an image touch theirs. So only results of layers are judged, added, joined or moved, and not a lower end at the
zero point (`z = q_min`), which is a fused Relu, nor then an upper end at 6, a fused Relu6.

Clipping is not always bad: percentile calibration clips on purpose, ONNX Runtime 0.001 % and PPQ 0.01 % by
default.

Sources: defaults of ONNX Runtime's and PPQ's calibrators; onnxruntime issue 17235 (99.9 % was the best
percentile for one network, so 0.1 % is where doubt begins).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from onnxlint_q.analysis.grid import Grid
from onnxlint_q.analysis.observed.observations import TensorObservation
from onnxlint_q.finding import Confidence, Finding, Severity
from onnxlint_q.graph import QuantizedTensor
from onnxlint_q.judge.facts import Facts
from onnxlint_q.judge.rule import Example, Rule, option
from onnxlint_q_rules.qdq.pairs import Pairs, where

_RELU6 = 6.0


def _model(scale: str, zero_point: int = 128) -> str:
    return f"""
<ir_version: 8, opset_import: ["" : 13]>
layer (float[N, 1, 8, 8] x) => (float[N, 1, 8, 8] y)
<float[1, 1, 1, 1] w = {{2.0}}, float s = {{{scale}}}, uint8 z = {{{zero_point}}}> {{
  [twice] d = Conv(x, w)
  q = QuantizeLinear(d, s, z)
  y = DequantizeLinear(q, s, z)
}}
"""


def _normal(random: np.random.Generator) -> Mapping[str, npt.NDArray[np.float32]]:
    return {"x": random.normal(size=(64, 1, 8, 8)).astype(np.float32)}


@dataclass(frozen=True)
class Saturation(Rule):
    """Values clipped by the quantisation range.

    ## What it does
    Counts how many values of each activation end up on its smallest or largest code.

    ## Why it breaks INT8
    A clipped value has an error as large as its distance to the range; many of them shift the mean of the layer, and
    peaks are what detectors and classifiers look at.

    ## What to do
    Calibrate with data like that of the deployment, or with a milder percentile; give the tensor its observed range.

    ## Sources
    Defaults of ONNX Runtime and PPQ; onnxruntime issue 17235.
    """

    code: ClassVar[str] = "QP007"
    name: ClassVar[str] = "saturation"
    severity: ClassVar[Severity] = Severity.WARNING
    confidence: ClassVar[Confidence] = Confidence.MEDIUM
    needs_calibration: ClassVar[bool] = True

    warning_fraction: float = option(
        0.001, doc="fraction of clipped values that is reported", source="onnxruntime issue 17235"
    )
    error_fraction: float = option(0.01, doc="fraction of clipped values that is an error", source="ten times that")

    good: ClassVar[tuple[Example, ...]] = (
        Example(_model("0.08"), samples=_normal, why="five deviations on each side"),
        Example(_model("0.04", 0), samples=_normal, why="what is below the zero point 0 is cut off by a fused Relu"),
    )
    bad: ClassVar[tuple[Example, ...]] = (
        Example(_model("0.02"), flags=("twice",), samples=_normal, why="a fifth of the values is clipped"),
    )

    def check(self, facts: Facts) -> Iterator[Finding]:
        """Each activation pair whose codes were observed."""
        pairs = Pairs(facts)
        for pair, held, seen in pairs.observed(facts):
            if not pairs.free(pair.tensor):
                continue
            below, above = _at_the_ends(held, seen)
            if below + above > self.warning_fraction:
                yield self._report(facts, pair, held, below, above)

    def _report(self, facts: Facts, pair: QuantizedTensor, held: Grid, below: float, above: float) -> Finding:
        return self.finding(
            where(facts.model, pair),
            f"{below + above:.2%} of the values of {pair.tensor!r} lie at the ends of its range {held.low:.3g} to "
            f"{held.high:.3g} ({below:.2%} at the lower, {above:.2%} at the upper end), so they were clipped",
            severity=Severity.ERROR if below + above > self.error_fraction else None,
            metrics={
                "clipped_fraction": below + above,
                "clipped_below_fraction": below,
                "clipped_above_fraction": above,
                "quantised_low": held.low,
                "quantised_high": held.high,
            },
            remedy=(
                "calibrate again with data like that of the deployment and a range that holds it; if clipping was "
                "meant, compare the outputs of the float and the quantised model before keeping it"
            ),
            snippet="quantize_static(..., calibrate_method=CalibrationMethod.MinMax)",
        )


def _at_the_ends(held: Grid, seen: TensorObservation) -> tuple[float, float]:
    """Fraction of values at the lower and at the upper end that no fused activation put there."""
    ends = seen.ends or (0.0, 0.0)
    relu = held.low == 0
    relu6 = relu and bool(np.isclose(held.high, _RELU6, rtol=0.002))
    below = 0.0 if relu else ends[0]
    above = 0.0 if relu6 else ends[1]
    return below, above
