"""Weights that stand out inside their own channel, so that a scale for each channel does not help.

For a channel of `n` weights with root mean square `sigma` and largest magnitude `m`, symmetric int8 has the step
`m / 127` and rounding noise of about `(m / 127)^2 / 12`:

    SQNR_c ~ 20 log10(127 sqrt(12) sigma / m) = 52.9 dB - 20 log10(m / sigma)

A ratio `m / sigma` of 44 leaves 20 dB, noise of 10 % of the weights.

The outliers themselves count in `sigma`, so many of them hide what happens to the rest: every weight below half a step,
`m / 254`, becomes zero. If those are most of the channel's weights and their inputs carry the signal, the channel is
lost although its SQNR is good. Only the forecast of the output can tell, so such a layer is reported only if that is
low.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from onnxlint_q import (
    INT8_PER_CHANNEL,
    Claim,
    Confidence,
    Example,
    Facts,
    Finding,
    LayerFacts,
    Metric,
    Remedy,
    Rule,
    Severity,
    Silence,
    Subject,
    Weights,
    harmless,
    left_in_float,
    locate,
    of_operand,
    option,
    outlook,
    sqnr_by_channel,
)

_SCHEME = INT8_PER_CHANNEL.name
_NETWORK = """
<ir_version: 8, opset_import: ["" : 17]>
dense (float[N, 16384] features) => (float[N, 8] y) {
  [classifier] y = Gemm(features, w)
}
"""


def _outlier(magnitude: float) -> Weights:
    """One weight in each channel is `magnitude` standard deviations."""

    def make(random: np.random.Generator) -> dict[str, npt.NDArray[np.float32]]:
        weight = random.normal(size=(16384, 8)).astype(np.float32)
        weight[7] = magnitude
        return {"w": weight}

    return make


_BLOCK = """
<ir_version: 8, opset_import: ["" : 17]>
block (float[N, 16, 8, 8] image) => (float[N, 8, 8, 8] y) {
  [scale] features = Conv <group = 16> (image, gains)
  [mix] y = Conv(features, w)
}
"""


def _loud_input(random: np.random.Generator) -> dict[str, npt.NDArray[np.float32]]:
    """Input channel 0 is a ten-thousandth of the others, and its weights are a thousand times theirs."""
    gains = np.ones((16, 1, 1, 1), np.float32)
    weight = random.normal(size=(8, 16, 1, 1)).astype(np.float32)
    gains[0] = 1e-4
    weight[:, 0] = 1000.0
    return {"gains": gains, "w": weight}


@dataclass(frozen=True)
class InChannelOutlier(Rule):
    """A few weights are so large that the others of their channel round to zero, even with a scale per channel.

    ## What it does
    Gives each output channel of every folded weight its own scale. It flags a layer if a channel is left with a low
    SQNR, or if most weights of some channels round to zero and the forecast of the model's output is low.

    ## Why it breaks INT8
    The largest weight of a channel sets its scale, and all others are rounded to a few codes or to zero. A scale per
    output channel cannot separate them.

    ## What to do
    Keep the layer in float or give it 16-bit weights. If the float output stays the same, clip the outlier.

    ## Sources
    ONNX operator specification, QuantizeLinear; rounding noise of a uniform quantiser (step^2 / 12).
    """

    code: ClassVar[str] = "QW004"
    name: ClassVar[str] = "in-channel-outlier"
    severity: ClassVar[Severity] = Severity.WARNING
    confidence: ClassVar[Confidence] = Confidence.MEDIUM
    supersedes: ClassVar[tuple[str, ...]] = ("QW006",)

    channel_sqnr_db: float = option(
        20.0,
        doc="SQNR (dB) of a channel with its own scale below which it is flagged",
        source="arithmetic: a weight of 44 standard deviations, noise of 10 % of the channel's weights",
    )
    vanishing_fraction: float = option(
        0.5,
        doc="fraction of a channel's non-zero weights that round to zero above which the channel is lost",
        source="arithmetic: the median weight is below half a step, a 254th of the largest",
    )
    lost_channels_fraction: float = option(
        0.1,
        doc="fraction of a layer's channels that must be lost for the layer to be suspected",
        source="arithmetic: without a tenth of equally strong channels the layer's own output has 10 dB",
    )
    warn_below_db: float = option(
        20.0,
        doc="forecast SQNR at the output (dB) below which a finding is a warning, above it an info",
        source="noise of 10 % of the signal at the output",
    )
    drop_above_db: float = option(
        30.0,
        doc="forecast SQNR at the output (dB) from which nothing is reported",
        source="noise of 3 % of the signal, ten decibels from the level where layers are excluded",
    )

    good: ClassVar[tuple[Example, ...]] = (
        Example(_NETWORK, weights=_outlier(5.0), why="The largest weights are within five standard deviations."),
    )
    bad: ClassVar[tuple[Example, ...]] = (
        Example(
            _NETWORK,
            flags=("classifier",),
            weights=_outlier(100.0),
            why="One weight in each channel is 100 standard deviations; most others round to zero or to one code.",
        ),
        Example(
            _BLOCK,
            flags=("mix",),
            weights=_loud_input,
            why="The weights of one quiet input channel are large; the others carry the signal and round to zero.",
        ),
    )

    def check(self, facts: Facts) -> Iterator[Finding | Silence]:
        """Every layer of a float model with a channel that its own scale does not fit."""
        weights = facts.weights if facts.is_float else ()
        for layer in weights:
            if layer.weight.non_finite:
                yield Silence(locate(facts, layer), "its weights are not finite")
                continue
            sqnr = sqnr_by_channel(layer, _SCHEME)
            low = np.flatnonzero(sqnr < self.channel_sqnr_db)
            lost = np.flatnonzero(layer.weight.vanishing > self.vanishing_fraction)
            if low.size:
                yield self._low_sqnr(facts, layer, sqnr, low)
            elif lost.size > self.lost_channels_fraction * sqnr.size:
                yield self._vanishing(facts, layer, lost)
            else:
                yield Silence(
                    locate(facts, layer),
                    f"no channel with its own scale is under {self.channel_sqnr_db:g} dB (the worst has "
                    f"{sqnr.min(initial=np.inf):.1f}), and {lost.size} of {sqnr.size} lose most of their weights, no "
                    f"more than {self.lost_channels_fraction:.0%}",
                )

    def _low_sqnr(
        self, facts: Facts, layer: LayerFacts, sqnr: npt.NDArray[np.float64], low: npt.NDArray[np.intp]
    ) -> Finding | Silence:
        channel = int(np.argmin(sqnr))
        ratio = float(layer.weight.absmax[channel] / np.sqrt(layer.weight.power[channel]))
        what = f"{'channel' if low.size == 1 else 'channels'}{of_operand(layer)}"
        who = f"1 {what} keeps" if low.size == 1 else f"{low.size} {what} keep"
        return self._about(
            facts,
            layer,
            Severity.WARNING,
            f"{who} less than {self.channel_sqnr_db:g} dB even with a scale per channel; the worst, channel {channel}, "
            f"keeps {sqnr[channel]:.0f} dB.",
            {
                "channels": int(sqnr.size),
                "low_channels": int(low.size),
                "worst_channel": channel,
                "worst_channel_sqnr_db": float(sqnr[channel]),
                "largest_over_rms": ratio,
            },
        )

    def _vanishing(self, facts: Facts, layer: LayerFacts, lost: npt.NDArray[np.intp]) -> Finding | Silence:
        share, total = float(layer.weight.vanishing[lost].mean()), layer.weight.vanishing.size
        return self._about(
            facts,
            layer,
            Severity.INFO,
            f"{lost.size} of {total} channels{of_operand(layer)} lose most of their weights even with a scale per "
            f"channel: {100 * share:.0f} % round to zero.",
            {
                "channels": total,
                "lost_channels": int(lost.size),
                "worst_channel": int(np.argmax(layer.weight.vanishing)),
                "vanishing_fraction": share,
            },
        )

    def _about(
        self, facts: Facts, layer: LayerFacts, blind: Severity, message: str, metrics: Mapping[str, Metric]
    ) -> Finding | Silence:
        """A finding at the severity of the forecast, or `blind` without one; a silence where nothing is lost."""
        view = outlook(facts, layer, _SCHEME, warn_db=self.warn_below_db, drop_db=self.drop_above_db, blind=blind)
        if view.severity is None:
            return Silence(locate(facts, layer), harmless(facts, layer, _SCHEME, self.drop_above_db))
        return self.finding(
            locate(facts, layer),
            message,
            remedy=left_in_float(layer, "give the layer 16-bit weights")
            or Remedy(
                "Keep the layer in float or give it 16-bit weights. If the float model does not need the outlier, "
                "clip it.",
                nodes_to_exclude=facts.freer.listed(facts.freer.layer(layer.output)),
            ),
            metrics={**metrics, "forecast_db": view.forecast_db},
            claim=Claim(Subject.WEIGHT, layer.output, _SCHEME),
            severity=view.severity,
        )
