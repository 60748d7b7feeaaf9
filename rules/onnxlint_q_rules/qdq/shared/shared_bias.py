"""One int32 bias that several operators on codes read, each in a unit of its own.

QLinearConv and QGemm add the codes of the bias to the sum of products as they are, so a code is worth `s_x s_w` of the
operator that reads it. Of two readers `i` and `k` with the same codes the second has

    b_k = b_i * (s_x,k s_w,k) / (s_x,i s_w,i)

which is the bias of the float model for both only if the products are equal. A quantiser that stores each bias once
takes the product of the reader that comes first. What moves the result by less than one of its steps is left out.

Sources: ONNX operator specification, QLinearConv (bias scale = x_scale * w_scale, zero point 0); measured on four
convolutions that share weight and bias: 36.2, 16.2, 7.5 and 1.4 dB at factors of 1, 1.4, 2.3 and 11.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from onnxlint_q import Confidence, Example, Facts, Finding, Remedy, Rule, Severity, Silence, option
from onnxlint_q_rules.qdq.shared.bias_units import BiasReading, bias_readings

_MOST = 3


def _model(second_scale: str) -> str:
    return f"""
<ir_version: 8, opset_import: ["" : 17]>
branches (uint8[1, 2, 4, 4] x, uint8[1, 2, 4, 4] z) => (uint8[1, 2, 4, 4] y, uint8[1, 2, 4, 4] v)
<float sx = {{0.02}}, uint8 zx = {{128}}, float sz = {{{second_scale}}}, int8[2, 2, 1, 1] w = {{100, 20, -30, 90}},
 float sw = {{0.01}}, int8 zw = {{0}}, float sy = {{0.05}}, uint8 zy = {{128}}, int32[2] b = {{5000, -6000}}> {{
  [first] y = QLinearConv(x, sx, zx, w, sw, zw, sy, zy, b)
  [second] v = QLinearConv(z, sz, zx, w, sw, zw, sy, zy, b)
}}
"""


@dataclass(frozen=True)
class SharedBias(Rule):
    """One quantised bias is read by layers to which its codes mean different values.

    ## What it does
    Finds int32 biases with several readers, and compares what a code is worth to each: input scale times weight scale.

    ## Why it breaks INT8
    An operator on codes adds the bias as it is. The codes were made for one reader, and are wrong by the ratio of the
    scales for the others.

    ## What to do
    Give each layer its own bias before quantising: `fix` does it (shared-constants). Or use the QDQ format, where each
    bias has a scale.

    ## Sources
    ONNX operator specification, QLinearConv.
    """

    code: ClassVar[str] = "QP013"
    name: ClassVar[str] = "shared-bias"
    severity: ClassVar[Severity] = Severity.WARNING
    confidence: ClassVar[Confidence] = Confidence.HIGH

    tolerance: float = option(
        0.01, doc="largest accepted difference of the units, relative", source="one per cent of the bias, as for QP004"
    )
    error_factor: float = option(
        2.0, doc="from this factor between two units on it is an error", source="half of the bias is lost"
    )

    good: ClassVar[tuple[Example, ...]] = (
        Example(_model("0.02"), why="Both layers read inputs of one scale, so a code means the same to both."),
    )
    bad: ClassVar[tuple[Example, ...]] = (
        Example(_model("0.002"), flags=("second",), why="To the second layer a code is worth a tenth."),
    )

    def check(self, facts: Facts) -> Iterator[Finding | Silence]:
        """Each bias in codes."""
        readings: dict[str, list[BiasReading]] = {}
        for reading in bias_readings(facts):
            readings.setdefault(reading.bias, []).append(reading)
        for bias, readers in readings.items():
            first, *others = readers
            wrong = [other for other in others if _matters(first, other, self.tolerance)]
            if wrong:
                yield self._report(facts, bias, first, wrong)
                continue
            unmet = "no other layer reads its bias" if not others else "its bias means the same to all its readers"
            yield Silence(facts.model.locate(first.node), unmet)

    def _report(self, facts: Facts, bias: str, first: BiasReading, wrong: Sequence[BiasReading]) -> Finding:
        factors = [_factor(first, other) for other in wrong]
        listed = [f"{_times(factor)} at {other.node.label!r}" for other, factor in zip(wrong, factors, strict=True)]
        rest = f" and so on at {len(wrong) - _MOST} more" if len(wrong) > _MOST else ""
        far = [max(factor, 1 / factor) for factor in factors]
        worst = max(far)
        place, *places = (
            facts.model.locate(wrong[at].node) for at in sorted(range(len(wrong)), key=lambda at: -far[at])
        )
        return self.finding(
            place,
            f"Bias {bias!r} fits {first.node.label!r} at most: it is {', '.join(listed[:_MOST])}{rest}",
            severity=Severity.ERROR if worst >= self.error_factor else None,
            metrics={
                "bias": bias,
                "readers": ", ".join(reader.node.label for reader in (first, *wrong)),
                "factors": ", ".join(f"{factor:.3g}" for factor in (1.0, *factors)),
                "worst_factor": worst,
            },
            remedy=Remedy(
                "Give each layer a bias of its own in the float model (`onnxlint-q fix` applies shared-constants), and "
                "quantise again. Or quantise with quant_format=QuantFormat.QDQ, where each bias has a scale.",
            ),
            places=places,
        )


def _times(factor: float) -> str:
    return f"{factor:.3g} times too small" if factor > 1 else f"{1 / factor:.3g} times too large"


def _factor(first: BiasReading, other: BiasReading) -> float:
    """How many times more a code is worth to the first reader, of the median channel."""
    return float(np.median(first.unit / other.unit))


def _matters(first: BiasReading, other: BiasReading, tolerance: float) -> bool:
    if first.unit.size != other.unit.size and 1 not in (first.unit.size, other.unit.size):
        return False
    apart = np.abs(first.unit - other.unit)
    if not (apart > tolerance * np.minimum(first.unit, other.unit)).any():
        return False
    return float((np.abs(other.codes) * apart).max()) >= max(other.step, 1e-30)
