"""Activations that are clipped by their range.

A value outside `[s (q_min - z), s (q_max - z)]` becomes the code at that end. A QDQ file holds the values in front of
QuantizeLinear. They show how many lie beyond by more than half a step, and what the loss means:

    clip_db = 10 log10( sum x^2 / sum (x - clip(x))^2 )

At 20 dB the noise is a tenth of the signal's amplitude, at 10 dB a third. Over 20 dB the finding is an info. A loss
that is smaller than that of the rounding is not reported. A QOperator file holds codes only. There the fraction of
values at an end is counted, except a single value, for which the range may have been made.

Not every code at an end was clipped: SiLU and Softmax press many values against a bound of their own, and pixels of an
image reach theirs. So only results of layers are judged, also when added, joined or moved. A lower end at the zero
point (`z = q_min`) is left out, as it is a fused Relu, and with it an upper end at 6, a fused Relu6.

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

from onnxlint_q import Confidence, Example, Facts, Finding, Rule, Severity, Silence, option
from onnxlint_q_rules.batchnorm.rounded_parameters import ruined_norms
from onnxlint_q_rules.qdq.pairs import Pairs, where
from onnxlint_q_rules.qdq.usage import RECALIBRATE, Usage, spoiled, usages


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
    """The quantisation range clips values.

    ## What it does
    Counts the values of each activation that lie outside its range. Where the file holds codes only, it counts those on
    the first and the last code.

    ## Why it breaks INT8
    The error of a clipped value is its distance to the range. Many of them shift the mean of the layer, and detectors
    and classifiers depend on peaks.

    ## What to do
    Calibrate with data like that of the deployment, or with a percentile that clips less. Or give the tensor its
    observed range.

    ## Sources
    Defaults of ONNX Runtime and PPQ; onnxruntime issue 17235.
    """

    code: ClassVar[str] = "QP007"
    name: ClassVar[str] = "saturation"
    severity: ClassVar[Severity] = Severity.WARNING
    confidence: ClassVar[Confidence] = Confidence.MEDIUM
    needs_calibration: ClassVar[bool] = True

    warning_fraction: float = option(
        0.001, doc="a larger fraction of clipped values is reported", source="onnxruntime issue 17235"
    )
    error_fraction: float = option(
        0.01, doc="a larger fraction at the ends is an error where only codes are known", source="ten times that"
    )
    harmless_db: float = option(
        20.0, doc="from this SQNR of clipping alone (dB) on it is an info", source="noise of a tenth of the signal"
    )
    error_db: float = option(
        10.0, doc="under this SQNR of clipping alone (dB) it is an error", source="noise of a third of the signal"
    )

    good: ClassVar[tuple[Example, ...]] = (
        Example(_model("0.08"), samples=_normal, why="The range is five deviations wide on each side."),
        Example(_model("0.02"), samples=_few, why="The range was made for the one of 64 values at its end."),
        Example(_model("0.04", 0), samples=_normal, why="A fused Relu cuts off what is below the zero point 0."),
    )
    bad: ClassVar[tuple[Example, ...]] = (
        Example(_model("0.02"), flags=("twice",), samples=_normal, why="A fifth of the values is clipped."),
    )

    def check(self, facts: Facts) -> Iterator[Finding | Silence]:
        """Each activation pair whose codes were observed."""
        pairs = Pairs(facts)
        seen = usages(facts, pairs)
        bad = spoiled(seen)
        # Behind a normalisation that multiplies by hundreds everything is clipped, and no other range would help.
        norms = ruined_norms(facts.model)
        behind = set[object]().union(*(facts.model.descendants(node) for node in norms))
        for usage in seen.values():
            unmet = self._unmet(pairs, usage)
            if usage.pair.codes in behind:
                unmet = "it is computed from a BatchNormalization whose variances are stored as 0"
            yield Silence(where(facts.model, usage.pair), unmet) if unmet else self._report(facts, usage, bad)

    def _unmet(self, pairs: Pairs, usage: Usage) -> str:
        """Why there is nothing to report; empty where there is."""
        if not pairs.free(usage.pair.tensor):
            return "its values have a bound of their own"
        share = sum(usage.clipped)
        if share <= self.warning_fraction:
            return f"{share:.2%} of its values are clipped, not over {self.warning_fraction:.2%}"
        if usage.clip_db is not None and usage.clip_db >= usage.rounding_db:
            return f"clipping alone leaves {usage.clip_db:.0f} dB, rounding alone {usage.rounding_db:.0f} dB"
        return ""

    def _report(self, facts: Facts, usage: Usage, bad: Mapping[str, Usage]) -> Finding:
        pair, held, (below, above) = usage.pair, usage.grid, usage.clipped
        share = f"{below + above:.2%} of {pair.tensor!r}"
        message = f"{share} sit at the ends of its range {held.low:.3g} to {held.high:.3g}: they were probably clipped"
        if usage.counts_beyond:
            left = f", which leaves {usage.clip_db:.0f} dB there" if usage.clip_db is not None else ""
            message = f"{share} lie outside its range {held.low:.3g} to {held.high:.3g} and are clipped{left}"
        how = usage.recalibration(facts.model, bad, RECALIBRATE)
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
            remedy=how.within(tail="If clipping was intended, compare the outputs with those of the float model."),
        )

    def _severity(self, fraction: float, clip_db: float | None) -> Severity:
        """By what clipping does to the tensor, where that is known, else by how many values it hits."""
        if clip_db is None:
            return Severity.ERROR if fraction > self.error_fraction else self.severity
        if clip_db >= self.harmless_db:
            return Severity.INFO
        return Severity.ERROR if clip_db < self.error_db else self.severity
