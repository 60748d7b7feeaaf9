"""Activations whose range is set by a few outliers.

    waste = (max - min) / (q(1 - t) - q(t))         bits lost = log2(waste),        t = max(1e-4, 4 / counted)

Min-max calibration spreads all codes over `[min, max]`; all but `2 t` of the values share the codes of the range in the
denominator, the bulk. Smallest and largest value are exact, the quantiles come from a histogram of a regular subset. A
quantile with fewer than four values beyond it would say nothing, so with few values `t` grows; under 1000 counted
values (t > 0.4 %) the rule is silent.

A ratio of 4 is two bits, of 16 four. Only tensors that a quantiser rounds are judged: not a layer's result in
front of the BatchNormalization that folds into it, nor in front of a Relu or Clip that the quantiser fuses. If a
tensor copies its tail from another one, only the other one is reported.

Sources: torch.ao.quantization OutlierDetector (max over 97.5 % quantile > 3.5); Sony MCT (z score 5); two
bits here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from onnxlint_q import (
    INT8_PER_TENSOR,
    Claim,
    Confidence,
    Example,
    Facts,
    Finding,
    Location,
    Remedy,
    Requantisation,
    Rule,
    Severity,
    Silence,
    Subject,
    TensorObservation,
    TensorRange,
    Trait,
    option,
)

_LEAST_COUNTED = 1000
# A tail is still there behind them, or is cut and not reported.
_HANDS_ON = Trait.MOVES | Trait.COPIES | Trait.RECTIFIES
_NETWORK = """
<ir_version: 8, opset_import: ["" : 17]>
doubling (float[N, 1, 64, 64] x) => (float[N, 1, 64, 64] y)
<float[1, 1, 1, 1] w = {2.0}> {
  [signal] s = Add(x, x)
  [layer] y = Conv(s, w)
}
"""


def _even(random: np.random.Generator) -> Mapping[str, npt.NDArray[np.float32]]:
    return {"x": random.uniform(-1, 1, size=(32, 1, 64, 64)).astype(np.float32)}


def _one_outlier(random: np.random.Generator) -> Mapping[str, npt.NDArray[np.float32]]:
    values = dict(_even(random))
    values["x"][3, 0, 7, 7] = 40.0
    return values


@dataclass(frozen=True)
class HeavyTailedActivation(Rule):
    """A few outliers set the range of an activation.

    ## What it does
    Divides each activation's range by the range that holds all but a few in ten thousand of its values.

    ## Why it breaks INT8
    The scale follows the outliers: nearly all values share the few codes that are left.

    ## What to do
    Calibrate with a percentile or clip the tensor. If the outliers carry the answer, keep the tensor in 16 bits or its
    layers in float.

    ## Sources
    torch.ao.quantization OutlierDetector; Sony MCT XQuant.
    """

    code: ClassVar[str] = "QA001"
    name: ClassVar[str] = "heavy-tailed-activation"
    severity: ClassVar[Severity] = Severity.WARNING
    confidence: ClassVar[Confidence] = Confidence.MEDIUM
    needs_calibration: ClassVar[bool] = True
    supersedes: ClassVar[tuple[str, ...]] = ("QA002", "QA004")
    rewrites: ClassVar[tuple[str, ...]] = ("joined-outputs",)

    warning_ratio: float = option(4.0, doc="range over bulk range from which it is reported", source="two bits lost")
    error_ratio: float = option(16.0, doc="range over bulk range from which it is an error", source="four bits lost")
    tail: float = option(1e-4, doc="fraction of values left out at each end", source="PPQ's default percentile, 99.99")

    good: ClassVar[tuple[Example, ...]] = (Example(_NETWORK, samples=_even, why="All values are spread evenly."),)
    bad: ClassVar[tuple[Example, ...]] = (
        Example(
            _NETWORK,
            flags=("x", "signal", "layer"),
            samples=_one_outlier,
            why="One value in 131072 takes 95 % of the codes.",
        ),
    )

    def check(self, facts: Facts) -> Iterator[Finding | Silence]:
        """Each activation of a float model that was observed."""
        if facts.observations is None or not facts.is_float:
            return
        model, known = facts.model, set[str]()
        masked = {tensor for mask in facts.masks for tensor in mask.way}
        producers = {key: model.producer(key) for key in facts.observations.tensors}
        for key, producer in sorted(producers.items(), key=lambda item: item[1].order if item[1] else -1):
            ratio, low, high, tail = self._ratio(facts.observations.tensors[key])
            place = model.locate(producer, key) if producer is not None else Location(output=key)
            if ratio < self.warning_ratio:
                yield Silence(place, f"range over bulk range {ratio:.2g} is under {self.warning_ratio:g}")
                continue
            if key in masked:
                yield Silence(place, "its lowest values are a mask")
                continue
            copied = producer is not None and producer.operator.has(_HANDS_ON) and producer.input(0) in known
            known.add(key)
            if copied:
                yield Silence(place, "it only passes on the values of a tensor that is reported")
                continue
            observation = facts.observations.tensors[key]
            yield self.finding(
                place,
                f"{key!r} runs from {observation.low:.3g} to {observation.high:.3g}, but {100 - 200 * tail:.2f} % of "
                f"its values lie in {low:.3g} to {high:.3g}: {np.log2(ratio):.1f} bits are lost.",
                severity=Severity.ERROR if ratio >= self.error_ratio else None,
                metrics={
                    "range_ratio": ratio,
                    "lost_bits": float(np.log2(ratio)),
                    "low": observation.low,
                    "high": observation.high,
                    "bulk_low": low,
                    "bulk_high": high,
                    "tail_fraction": tail,
                },
                remedy=Remedy(
                    f"Calibrate the tensor for {min(low, 0.0):.3g} to {max(high, 0.0):.3g}. If the outliers carry the "
                    "answer, keep it in 16 bits, or the layers that read it in float.",
                    "Keep the tensor in 16 bits, or the layers that read it in float.",
                    Requantisation(ranges=(TensorRange(key, min(low, 0.0), max(high, 0.0)),)),
                )
                if not facts.observations.synthetic
                # The range of random values is none to set.
                else "Calibrate on real data, to see whether the outliers are real.",
                claim=Claim(Subject.ACTIVATION, key, INT8_PER_TENSOR.name),
            )

    def _ratio(self, observation: TensorObservation) -> tuple[float, float, float, float]:
        """Range over bulk range (0 where nothing can be said), the bulk's ends, the tail left out."""
        counted = observation.counted
        tail = max(self.tail, 4 / max(counted, 1))
        if counted < _LEAST_COUNTED:
            return 0.0, observation.low, observation.high, tail
        low, high = observation.quantile(tail), observation.quantile(1 - tail)
        return (observation.range / (high - low) if high > low else 0.0), low, high, tail
