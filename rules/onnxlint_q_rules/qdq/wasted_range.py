"""A quantisation range much wider than the values that occur.

    waste = (q_max - q_min) / (max code - min code)       bits lost = log2(waste)

taken from the smallest and largest value over all samples, in front of the rounding where the file holds that, else
from the codes. A ratio of 4 costs two bits, 16 costs four. Such ranges come from training with fake quantisation, from
calibration on other data, or from sharing the scale with a wider tensor.

A tensor that is constant over all samples has no observed range and is not judged. Where `large-scale` reports the step
as too coarse, or `input-range-mismatch` an input that the data does not fill, this is the same fault and reported
there.

Source: arithmetic, one bit for each factor of two.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from onnxlint_q import Confidence, Example, Facts, Finding, Metric, Rule, Severity, Silence, option
from onnxlint_q_rules.qdq.pairs import Pairs, where
from onnxlint_q_rules.qdq.usage import RECALIBRATE, spoiled, usages


def _model(scale: str) -> str:
    return f"""
<ir_version: 8, opset_import: ["" : 13]>
sum (float[1, 64] x) => (float[1, 64] y)
<float s = {{{scale}}}, uint8 z = {{128}}> {{
  [twice] d = Add(x, x)
  q = QuantizeLinear(d, s, z)
  y = DequantizeLinear(q, s, z)
}}
"""


def _uniform(random: np.random.Generator) -> Mapping[str, npt.NDArray[np.float32]]:
    return {"x": random.uniform(-1, 1, size=(64, 64)).astype(np.float32)}


@dataclass(frozen=True)
class WastedRange(Rule):
    """The quantisation range is much wider than the data.

    ## What it does
    Divides the quantisation range of each activation by the range of the calibration data.

    ## Why it breaks INT8
    Codes that never occur are wasted: every factor of two costs one bit, or 6 dB of SQNR.

    ## What to do
    Calibrate again, or give the tensor its observed range. Where it shares its scale with a wider tensor, give each a
    scale of its own.

    ## Sources
    One bit for each factor of two.
    """

    code: ClassVar[str] = "QP008"
    name: ClassVar[str] = "wasted-range"
    severity: ClassVar[Severity] = Severity.WARNING
    confidence: ClassVar[Confidence] = Confidence.MEDIUM
    needs_calibration: ClassVar[bool] = True

    warning_ratio: float = option(
        4.0, doc="a larger quantisation range over observed range is reported", source="two bits lost"
    )
    error_ratio: float = option(
        16.0, doc="a larger quantisation range over observed range is an error", source="four bits lost"
    )

    good: ClassVar[tuple[Example, ...]] = (Example(_model("0.02"), samples=_uniform),)
    bad: ClassVar[tuple[Example, ...]] = (
        Example(_model("0.1"), flags=("twice",), samples=_uniform, why="Only 41 of 256 codes occur."),
    )

    def check(self, facts: Facts) -> Iterator[Finding | Silence]:
        """Each activation pair whose codes were observed."""
        pairs = Pairs(facts)
        seen = usages(facts, pairs)
        bad = spoiled(seen)
        for usage in seen.values():
            pair, held = usage.pair, usage.grid
            used = usage.real.range if usage.real is not None else held.scale * usage.codes.range
            place, ratio = where(facts.model, pair), held.range / used if used > 0 else 0.0
            if ratio <= self.warning_ratio:
                wide = f"{ratio:.2g} times as wide as the data, not over {self.warning_ratio:g}"
                yield Silence(place, f"its range is {wide}" if used > 0 else "it is constant on the data")
                continue
            metrics: dict[str, Metric] = {"range_ratio": ratio, "lost_bits": float(np.log2(ratio))}
            metrics |= {"quantised_low": held.low, "quantised_high": held.high}
            if usage.span is not None:
                metrics |= dict(zip(("observed_low", "observed_high"), usage.span, strict=True))
            yield self.finding(
                place,
                f"The range of {pair.tensor!r}, {held.low:.3g} to {held.high:.3g}, is {ratio:.1f} times as wide as the "
                f"data: {np.log2(ratio):.1f} bits are lost",
                severity=Severity.ERROR if ratio > self.error_ratio else None,
                metrics=metrics,
                remedy=usage.recalibration(facts.model, bad, RECALIBRATE),
            )
