"""A quantisation range much wider than the values that occur.

    waste = (q_max - q_min) / (max code - min code)       bits lost = log2(waste)

from the exact smallest and largest value over all samples, in front of the rounding where the file holds that, else
of the codes. A ratio of 4 is two bits, of 16 four: the tensor
works with six or four bits. Ranges of this kind are left over from training with fake quantisation, from
calibration on other data, or from a tensor that shares its scale with a wider one.

A tensor that is constant over all samples has no observed range and is not judged here. Where `large-scale` says that a
step is too coarse, or `input-range-mismatch` that the data does not fill an input, this is the same fault and theirs.

Source: arithmetic, one bit for each factor of two.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from onnxlint_q import Confidence, Example, Facts, Finding, Metric, Rule, Severity, option
from onnxlint_q_rules.qdq.pairs import Pairs, where
from onnxlint_q_rules.qdq.usage import spoiled, usages


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
    """Quantisation range much wider than the data.

    ## What it does
    Divides the range of each activation's codes by the range that the calibration data uses.

    ## Why it breaks INT8
    Codes that never occur carry nothing: every factor of two is one bit less, 6 dB of SQNR.

    ## What to do
    Calibrate again, or give the tensor its observed range; where it shares its scale with a wider tensor, separate
    the two.

    ## Sources
    One bit for each factor of two.
    """

    code: ClassVar[str] = "QP008"
    name: ClassVar[str] = "wasted-range"
    severity: ClassVar[Severity] = Severity.WARNING
    confidence: ClassVar[Confidence] = Confidence.MEDIUM
    needs_calibration: ClassVar[bool] = True

    warning_ratio: float = option(4.0, doc="range over observed range that is reported", source="two bits lost")
    error_ratio: float = option(16.0, doc="range over observed range that is an error", source="four bits lost")

    good: ClassVar[tuple[Example, ...]] = (Example(_model("0.02"), samples=_uniform),)
    bad: ClassVar[tuple[Example, ...]] = (
        Example(_model("0.1"), flags=("twice",), samples=_uniform, why="41 of 256 codes occur"),
    )

    def check(self, facts: Facts) -> Iterator[Finding]:
        """Each activation pair whose codes were observed."""
        pairs = Pairs(facts)
        seen = usages(facts, pairs)
        bad = spoiled(seen)
        for usage in seen.values():
            pair, held = usage.pair, usage.grid
            used = usage.real.range if usage.real is not None else held.scale * usage.codes.range
            if not used > 0 or held.range / used <= self.warning_ratio:
                continue
            ratio = held.range / used
            message = (
                f"{pair.tensor!r} is quantised for {held.low:.3g} to {held.high:.3g}, {ratio:.1f} times the range "
            )
            metrics: dict[str, Metric] = {"range_ratio": ratio, "lost_bits": float(np.log2(ratio))}
            if usage.span is not None:
                low, high = usage.span
                message += f"{low:.3g} to {high:.3g} "
                metrics |= {"observed_low": low, "observed_high": high}
            how = usage.recalibration(facts.model, bad)
            yield self.finding(
                where(facts.model, pair),
                f"{message}that the calibration data uses: {np.log2(ratio):.1f} bits are lost",
                severity=Severity.ERROR if ratio > self.error_ratio else None,
                metrics=metrics,
                remedy=replace(how, text=f"calibrate again with data like that of the deployment, {how.text}"),
            )
