"""Activations that are clipped by their range.

A value outside `[s (q_min - z), s (q_max - z)]` becomes the code at that end. In a QDQ file the values in front of
QuantizeLinear tell how many lie beyond by more than half a step, and what their loss means:

    clip_db = 10 log10( sum x^2 / sum (x - clip(x))^2 )

Under 20 dB the noise is a tenth of the signal's amplitude, under 10 dB a third; over 20 dB the finding is a remark, and
nothing is said of a loss that is smaller than that of the rounding, which moves a value over the edge now and then. A
QOperator file holds codes only. There the fraction of values at an end is counted, a single value aside, which may be
the one that the range was made for.

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
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from onnxlint_q import Confidence, Example, Facts, Finding, Rule, Severity, option
from onnxlint_q_rules.qdq.pairs import Pairs, where
from onnxlint_q_rules.qdq.usage import Usage, spoiled, usages


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


def _few(random: np.random.Generator) -> Mapping[str, npt.NDArray[np.float32]]:
    return {"x": np.linspace(-1.28, 1.27, 64, dtype=np.float32).reshape(1, 1, 8, 8)}


def _normal(random: np.random.Generator) -> Mapping[str, npt.NDArray[np.float32]]:
    return {"x": random.normal(size=(64, 1, 8, 8)).astype(np.float32)}


@dataclass(frozen=True)
class Saturation(Rule):
    """Values clipped by the quantisation range.

    ## What it does
    Counts how many values of each activation lie beyond its range, or end up on its smallest or largest code where the
    file holds codes only.

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
    error_fraction: float = option(
        0.01, doc="fraction at the ends that is an error where only codes are known", source="ten times that"
    )
    harmless_db: float = option(
        20.0, doc="SQNR (dB) of clipping alone from which on it is a remark", source="noise of a tenth of the signal"
    )
    error_db: float = option(
        10.0, doc="SQNR (dB) of clipping alone under which it is an error", source="noise of a third of the signal"
    )

    good: ClassVar[tuple[Example, ...]] = (
        Example(_model("0.08"), samples=_normal, why="five deviations on each side"),
        Example(_model("0.02"), samples=_few, why="one of 64 values is the one that the range was made for"),
        Example(_model("0.04", 0), samples=_normal, why="what is below the zero point 0 is cut off by a fused Relu"),
    )
    bad: ClassVar[tuple[Example, ...]] = (
        Example(_model("0.02"), flags=("twice",), samples=_normal, why="a fifth of the values is clipped"),
    )

    def check(self, facts: Facts) -> Iterator[Finding]:
        """Each activation pair whose codes were observed."""
        pairs = Pairs(facts)
        seen = usages(facts, pairs)
        bad = spoiled(seen)
        for usage in seen.values():
            if not pairs.free(usage.pair.tensor) or sum(usage.clipped) <= self.warning_fraction:
                continue
            if usage.clip_db is None or usage.clip_db < usage.rounding_db:
                yield self._report(facts, usage, bad)

    def _report(self, facts: Facts, usage: Usage, bad: Mapping[str, Usage]) -> Finding:
        pair, held, (below, above) = usage.pair, usage.grid, usage.clipped
        message = (
            f"{below + above:.2%} of the values of {pair.tensor!r} lie beyond its range {held.low:.3g} to "
            f"{held.high:.3g} ({below:.2%} below, {above:.2%} above), so they are clipped"
            if usage.counts_beyond
            else f"{below + above:.2%} of the values of {pair.tensor!r} lie at the ends of its range {held.low:.3g} to "
            f"{held.high:.3g} ({below:.2%} at the lower, {above:.2%} at the upper end), so they were clipped"
        )
        if usage.clip_db is not None:
            message += f"; clipping alone leaves {usage.clip_db:.0f} dB"
        how = usage.recalibration(facts.model, bad)
        return self.finding(
            where(facts.model, pair),
            message,
            severity=self._severity(below + above, usage.clip_db),
            metrics={
                "clipped_fraction": below + above,
                "clipped_below_fraction": below,
                "clipped_above_fraction": above,
                "clip_sqnr_db": usage.clip_db,
                "quantised_low": held.low,
                "quantised_high": held.high,
            },
            remedy=replace(
                how,
                text=f"calibrate again with data like that of the deployment and a range that holds it, {how.text}; if "
                "clipping was meant, compare the outputs of the float and the quantised model before keeping it",
            ),
        )

    def _severity(self, fraction: float, clip_db: float | None) -> Severity:
        """By what clipping does to the tensor, where that is known, else by how many values it hits."""
        if clip_db is None:
            return Severity.ERROR if fraction > self.error_fraction else self.severity
        if clip_db >= self.harmless_db:
            return Severity.INFO
        return Severity.ERROR if clip_db < self.error_db else self.severity
