"""A BatchNormalization that widens a layer's result, into a layer that does not need the width.

    amplification = range(stored) / range(BN input),     input_c = (stored_c - shift_c) / gain_c
    width         = range(stored) / max range(tensors stored behind the layers that read it)

`stored` is what an integer runtime keeps: the result after the fused Relu or Clip, else the BN's output. The inputs are
those whose results are kept: what a Relu cuts off needs no codes. A case study of EfficientNet-B0 traces its loss
(about 90 % to 34 %) to this place: a depthwise layer's range of 6.8 became 30 behind its BN, a factor of 4.4. The
factor alone says little, because the scale of a weight in front of a BN is arbitrary. So the result must also be wide
compared with the results of the layers that read it: their weights shrink it again, and its rounding error is then
large compared with their own range.

What is stored is observed channel by channel, and the input follows from it by the BN's own arithmetic. A channel that
does not vary, or has no gain, says nothing about its input and is left out.

Sources: "A case study on Quantizing EfficientNetB0 and ResNet18" (range of a depthwise convolution 6.8, of
its BatchNorm 30); two bits for each factor of four.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from onnxlint_q import (
    INT8_PER_TENSOR,
    BatchNorm,
    Claim,
    Confidence,
    Example,
    Facts,
    Finding,
    Remedy,
    Requantisation,
    Rule,
    Severity,
    Silence,
    Subject,
    TensorObservation,
    TensorRange,
    Trait,
    followed_by,
    multiple,
    option,
)

_NETWORK = """
<ir_version: 8, opset_import: ["" : 17]>
separable (float[N, 8, 6, 6] x) => (float[N, 4, 6, 6] y) {
  c = Conv <group = 8, pads = [1, 1, 1, 1]> (x, w)
  [norm] n = BatchNormalization (c, gamma, beta, mean, variance)
  [point] y = Conv(n, mix)
}
"""
_RESOLVED = 1e-5
# What a tensor goes through on its way to the next layers; a product is a gate.
_FORWARD = Trait.ACTIVATION | Trait.SCALES | Trait.COPIES | Trait.MOVES | Trait.AVERAGES


def _amplified(random: np.random.Generator, gain: float) -> dict[str, npt.NDArray[np.float32]]:
    ones = np.ones(8, np.float32)
    return {
        "w": random.normal(scale=0.1, size=(8, 1, 3, 3)).astype(np.float32),
        "gamma": gain * ones,
        "beta": 0 * ones,
        "mean": 0 * ones,
        "variance": ones,
        "mix": random.normal(scale=0.3 / max(gain, 1.0), size=(4, 8, 1, 1)).astype(np.float32),
    }


def _strong(random: np.random.Generator) -> Mapping[str, npt.NDArray[np.float32]]:
    return _amplified(random, 20.0)


def _mild(random: np.random.Generator) -> Mapping[str, npt.NDArray[np.float32]]:
    return _amplified(random, 1.0)


def _samples(random: np.random.Generator) -> Mapping[str, npt.NDArray[np.float32]]:
    return {"x": random.normal(size=(16, 8, 6, 6)).astype(np.float32)}


@dataclass(frozen=True)
class RangeAmplification(Rule):
    """BatchNorm widens a range that the next layers shrink again.

    ## What it does
    Compares the range behind each folded BatchNormalization with the range in front of it, and with the ranges of the
    layers that read it.

    ## Why it breaks INT8
    The step of a tensor grows with its range. Where the next layers shrink the values again, the coarse step remains.

    ## What to do
    Equalise the layers, clip the range, or keep the tensor in 16 bits. When training, regularise gamma.

    ## Sources
    A case study on Quantizing EfficientNetB0 and ResNet18.
    """

    code: ClassVar[str] = "QA002"
    name: ClassVar[str] = "range-amplification"
    severity: ClassVar[Severity] = Severity.WARNING
    confidence: ClassVar[Confidence] = Confidence.LOW
    needs_calibration: ClassVar[bool] = True
    supersedes: ClassVar[tuple[str, ...]] = ("QA004",)
    rewrites: ClassVar[tuple[str, ...]] = ("joined-outputs",)

    amplification: float = option(
        4.0,
        doc="range behind the BatchNorm over range in front",
        source="two bits; 4.4 in the EfficientNet-B0 case study",
    )
    width: float = option(4.0, doc="range over the widest result of the layers that read it", source="two bits")

    good: ClassVar[tuple[Example, ...]] = (
        Example(_NETWORK, weights=_mild, samples=_samples, why="BatchNorm leaves the range as it is."),
    )
    bad: ClassVar[tuple[Example, ...]] = (
        Example(
            _NETWORK,
            flags=("norm",),
            weights=_strong,
            samples=_samples,
            why="BatchNorm multiplies by 20, and the next layer shrinks the result again.",
        ),
    )

    def check(self, facts: Facts) -> Iterator[Finding | Silence]:
        """Each layer of a float model with a BatchNormalization folded backward into it."""
        if facts.observations is None or not facts.is_float:
            return
        for layer in facts.layers:
            norm, after = layer.folded.after, facts.stored(layer)
            if norm is None or after is None:
                what = "no BatchNormalization folds into it" if norm is None else "its result gets no scale"
                yield Silence(facts.model.locate(layer.node, layer.output), what)
                continue
            place, before = facts.model.locate(norm.node), _range_before(norm, after)
            gain = after.range / before if before > 0 else 0.0
            if gain < self.amplification:
                yield Silence(place, f"it widens the range {gain:.2g}×, not {self.amplification:g}×")
                continue
            rounded = facts.stored_tensor(layer)
            next_range = _next_range(facts, rounded)
            if not next_range > 0:
                yield Silence(place, "no result of a layer that reads it was observed")
                continue
            if after.range < self.width * next_range:
                ratio = after.range / next_range
                yield Silence(place, f"its range is {ratio:.2g}× that of the next layers, not {self.width:g}×")
                continue
            yield self.finding(
                place,
                f"BatchNorm widens {rounded!r} {multiple(gain)} to a range of {after.range:.3g}; the next layers "
                f"shrink it {multiple(after.range / next_range)}.",
                metrics={
                    "amplification": gain,
                    "range_before": before,
                    "range": after.range,
                    "next_range": next_range,
                },
                remedy=_remedy(rounded, after, synthetic=facts.observations.synthetic),
                claim=Claim(Subject.ACTIVATION, rounded, INT8_PER_TENSOR.name),
            )


def _remedy(tensor: str, observation: TensorObservation, *, synthetic: bool) -> Remedy:
    """A range for all but a thousandth of the values at either end, zero included; that of random values is none."""
    otherwise = "Equalise this layer and the next, or keep the tensor in 16 bits. When training, regularise gamma."
    if synthetic:
        return Remedy(otherwise)
    middle = TensorRange(tensor, min(observation.quantile(1e-3), 0.0), max(observation.quantile(1 - 1e-3), 0.0))
    return Remedy(
        f"Calibrate the tensor for {middle.low:.3g} to {middle.high:.3g}. If that is not enough, equalise this "
        "layer and the next, or keep the tensor in 16 bits.",
        otherwise,
        Requantisation(ranges=(middle,)),
    )


def _range_before(norm: BatchNorm, after: TensorObservation) -> float:
    """Range of what a BatchNormalization read, from what is stored of its result; 0 where that cannot be told."""
    observation = after.channels
    if observation is None or observation.low.size != norm.gamma.size:
        return 0.0
    # A span that float32 does not resolve beside its own value is rounding, which a small gain would blow up.
    told = (
        observation.high - observation.low > _RESOLVED * np.maximum(np.abs(observation.low), np.abs(observation.high))
    ) & (norm.gain != 0)
    if not told.any():
        return 0.0
    ends = [(edge[told] - norm.shift[told]) / norm.gain[told] for edge in (observation.low, observation.high)]
    spread = float(np.max(ends) - np.min(ends))
    return spread if np.isfinite(spread) else 0.0


def _next_range(facts: Facts, tensor: str) -> float:
    """Largest range of what is stored behind the layers that read `tensor`; 0 where none was observed."""
    by_node = {layer.node: layer for layer in facts.layers}
    readers = followed_by(facts.model, tensor, by_node.__contains__, _FORWARD)
    observed = (facts.stored(by_node[reader]) for reader in readers)
    return max((stored.range for stored in observed if stored is not None), default=0.0)
