"""Few channels of a tensor take nearly all codes of the scale that each run gives it.

DynamicQuantizeLinear spreads 256 codes over the range of the whole tensor, in every run anew. With the ends of each
channel over all samples, and the range of a tensor that of its median sample,

    ratio = median_samples (high - low) / median_c (high_c - low_c),        codes of the median channel = 256 / ratio

Reported are ratios of 16 and more where a sixteenth of the channels at most makes three quarters of the range. The
median sample, because each run has its own scale: one loud sample is no outlier channel. All such tensors are one
finding: a warning where the median channel keeps no code at all, else an info, because the quiet channels may carry
nothing, and only the float model says what they cost.

In the T5 encoder of a public package 6 of 32 tensors are found, 5 of them the gated hidden layers of its feed-forward
parts. With these in float 22 dB are left at the output instead of 3; with the 26 others in float still 3. In its
decoder 3 of 49 are found: 37 dB instead of 27. In nine other public files, which keep 24 dB and more, none is.

Sources: ONNX operator specification, DynamicQuantizeLinear (one scale for the tensor); Dettmers et al., LLM.int8(),
arXiv 2208.07339, section 4; Xiao et al., SmoothQuant, arXiv 2211.10438.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from onnxlint_q import (
    UINT8,
    Confidence,
    Example,
    Facts,
    Finding,
    Outliers,
    Rule,
    Severity,
    Silence,
    TensorObservation,
    option,
    outlier_channels,
    whole_model,
)
from onnxlint_q_rules.activations.places import place_of

_NETWORK = """
<ir_version: 8, opset_import: ["" : 17]>
dense (float[N, 6, 32] x) => (float[N, 6, 16] y)
<float sw = {0.01}, uint8 zw = {128}> {
  [gains] t = Mul (x, gain)
  q, s, z = DynamicQuantizeLinear (t)
  sums = MatMulInteger (q, w, z, zw)
  wide = Cast <to = 1> (sums)
  both = Mul (s, sw)
  y = Mul (wide, both)
}
"""


def _weights(gain_of_one: float) -> Mapping[str, npt.NDArray[Any]]:
    gain = np.ones(32, np.float32)
    gain[5] = gain_of_one
    return {"gain": gain, "w": np.random.default_rng(0).integers(0, 255, (32, 16)).astype(np.uint8)}


def _even(random: np.random.Generator) -> Mapping[str, npt.NDArray[np.float32]]:
    return {"x": random.normal(size=(16, 6, 32)).astype(np.float32)}


def _one_loud(random: np.random.Generator) -> Mapping[str, npt.NDArray[np.float32]]:
    values = _even(random)["x"]
    values[3, :, 5] *= 60
    return {"x": values}


@dataclass(frozen=True)
class RunTimeOutliers(Rule):
    """A few channels set the scale that a tensor gets in each run.

    ## What it does
    Takes the tensors that are scaled at run time, and compares the range of each in a run with that of its median
    channel.

    ## Why it breaks INT8
    All channels of the tensor share one scale, whenever it is taken. The widest channels set it, and the others keep a
    few codes or none. Weights with a scale for each channel do not change that.

    ## What to do
    Compare the file with its float model: the quiet channels may carry nothing. If they do, leave the products that
    read these tensors in float.

    ## Sources
    LLM.int8(), arXiv 2208.07339; SmoothQuant, arXiv 2211.10438.
    """

    code: ClassVar[str] = "QA009"
    name: ClassVar[str] = "run-time-outliers"
    severity: ClassVar[Severity] = Severity.INFO
    confidence: ClassVar[Confidence] = Confidence.MEDIUM
    needs_calibration: ClassVar[bool] = True

    ratio: float = option(
        16.0, doc="range of the tensor over that of its median channel", source="four bits lost for the median channel"
    )
    warning_codes: float = option(
        1.0, doc="codes of the median channel below which it is a warning", source="all its values have one code"
    )

    good: ClassVar[tuple[Example, ...]] = (
        Example(_NETWORK, weights=lambda _: _weights(1.0), samples=_even, why="All channels have one range."),
        Example(
            _NETWORK,
            weights=lambda _: _weights(1.0),
            samples=_one_loud,
            why="The channel is wide in one sample of many, and each run has its own scale.",
        ),
    )
    bad: ClassVar[tuple[Example, ...]] = (
        Example(
            _NETWORK,
            flags=("gains",),
            weights=lambda _: _weights(60.0),
            samples=_even,
            why="One channel sets the scale of every run, and the others keep a few codes each.",
        ),
    )

    def check(self, facts: Facts) -> Iterator[Finding | Silence]:
        """At most one finding for the model, at the tensor with the fewest codes left."""
        if facts.observations is None:
            return
        seen, found = facts.observations.tensors, dict[str, Outliers]()
        scaled = dict.fromkeys(pair.tensor for pair in facts.quantized if pair.dynamic and pair.tensor in seen)
        if not scaled:
            yield Silence(whole_model(facts), "no tensor is scaled at run time")
        for tensor in scaled:
            outliers = _in_a_run(seen[tensor], self.ratio)
            if outliers is not None:
                found[tensor] = outliers
            else:
                unmet = f"no few channels make its range {self.ratio:g} times that of the median channel"
                yield Silence(place_of(facts, tensor), unmet)
        if found:
            yield self._report(facts, found)

    def _report(self, facts: Facts, found: Mapping[str, Outliers]) -> Finding:
        tensor = max(found, key=lambda name: found[name].ratio)
        worst, others = found[tensor], [name for name in found if name != tensor]
        count = UINT8.largest - UINT8.lowest + 1
        kept = count / worst.ratio
        more = f" and {len(others)} more" if others else ""
        return self.finding(
            place_of(facts, tensor),
            f"Few channels set the scale of {tensor!r}{more} in each run: a typical channel keeps {kept:.1f} of "
            f"{count:.0f} codes.",
            severity=Severity.WARNING if kept < self.warning_codes else None,
            metrics={
                "range_over_median": worst.ratio,
                "median_codes": kept,
                "channels": ", ".join(map(str, worst.channels)),
                "tensors": len(found),
            },
            remedy="Compare the file with its float model. If the outputs differ too much, leave the products that "
            "read these tensors in float.",
            measured=True,
            places=[place_of(facts, name) for name in others],
        )


def _in_a_run(seen: TensorObservation, least_ratio: float) -> Outliers | None:
    """The outlier channels of a tensor whose scale is that of one sample; None where it has none."""
    outliers = outlier_channels(seen.channels, least_ratio) if seen.channels is not None else None
    if outliers is None:
        return None
    ranges = np.maximum(seen.highs.astype(np.float64), 0) - np.minimum(seen.lows.astype(np.float64), 0)
    ratio = outliers.ratio * float(np.median(ranges)) / float(ranges.max())
    return replace(outliers, ratio=ratio) if ratio >= least_ratio else None
