"""Weights that stand out inside their own channel, so that a scale for each channel does not help.

For a channel of `n` weights with root mean square `sigma` and largest magnitude `m`, symmetric int8 has the step
`m / 127` and rounding noise of about `(m / 127)^2 / 12`:

    SQNR_c ~ 20 log10(127 sqrt(12) sigma / m) = 52.9 dB - 20 log10(m / sigma)

A ratio `m / sigma` of 44 leaves 20 dB, noise of 10 % of the weights.

The outliers themselves count in `sigma`, so many of them hide what happens to the rest: every weight below half a step,
`m / 254`, becomes zero. If those are most of the channel's weights and the inputs they read are the ones that carry the
signal, the channel is lost at a fine SQNR. Only a forecast of the output can tell, so such a layer is reported for a
low one alone.
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
    Outlook,
    Rule,
    Severity,
    Silence,
    Subject,
    Weights,
    channels,
    keep_float,
    linear_db,
    locate,
    option,
    outlook,
    quantize_static_call,
    sqnr_by_channel,
    times,
    worst,
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
    """A few weights dwarf the others of their own channel, and a scale for each channel does not help.

    ## What it does
    Gives each output channel of every folded weight a scale of its own, and flags layers with a channel that is left
    with a low SQNR, or in which most weights round to zero while the forecast of the model's output is low.

    ## Why it breaks INT8
    The largest weight of a channel sets its scale, and all others are rounded to a few codes or to zero. No choice of
    granularity along the output channels separates them.

    ## What to do
    Keep the layer in float or give it 16-bit weights. Clipping the outlier is worth a try where the output stays the
    same in float.

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
        doc="fraction of a layer's channels that have to be lost for the layer to be suspected",
        source="arithmetic: without a tenth of equally strong channels the layer's own output has 10 dB",
    )
    warn_below_db: float = option(
        20.0,
        doc="forecast SQNR at the output (dB) below which a finding is a warning, above it an info",
        source="noise of 10 % of the signal at the output",
    )
    drop_above_db: float = option(
        30.0,
        doc="forecast SQNR at the output (dB) from which on vanishing weights are not reported",
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
            why="The weights of one quiet input channel dwarf the others, which carry the signal and round to zero.",
        ),
    )

    def check(self, facts: Facts) -> Iterator[Finding | Silence]:
        """Every layer of a float model with a channel that its own scale does not fit."""
        layers = facts.layers if facts.is_float else ()
        for layer in layers:
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
    ) -> Finding:
        view = outlook(facts, layer, _SCHEME, warn_db=self.warn_below_db, blind=Severity.WARNING)
        channel = int(np.argmin(sqnr))
        ratio = float(layer.weight.absmax[channel] / np.sqrt(layer.weight.power[channel]))
        return self._about(
            facts,
            layer,
            view,
            f"Even with scales of their own {low.size} of {sqnr.size} output channels keep less than "
            f"{self.channel_sqnr_db:g} dB ({worst(sqnr, min(4, low.size))}): in channel {channel} the largest weight "
            f"is {times(ratio)} times the root mean square, which leaves {sqnr[channel]:.0f} dB.",
            {"worst_channel_sqnr_db": float(sqnr[channel]), "largest_over_rms": ratio, "low_channels": int(low.size)},
        )

    def _vanishing(self, facts: Facts, layer: LayerFacts, lost: npt.NDArray[np.intp]) -> Finding | Silence:
        view = outlook(
            facts, layer, _SCHEME, warn_db=self.warn_below_db, drop_db=self.drop_above_db, blind=Severity.INFO
        )
        if view.severity is None:
            known = linear_db(facts, layer, _SCHEME)
            return Silence(
                locate(facts, layer),
                f"most weights of {lost.size} channels round to zero, but the forecast SQNR at the output, {known:.1f} "
                f"dB, is not under {self.drop_above_db:g}",
            )
        share = float(layer.weight.vanishing[lost].mean())
        return self._about(
            facts,
            layer,
            view,
            f"Even with scales of their own {lost.size} of {layer.weight.vanishing.size} output channels lose most of "
            f"their weights: {share:.0%} of them are less than a 254th of the largest of their channel and round to "
            f"zero ({channels(lost)}).",
            {"lost_channels": int(lost.size), "vanishing_fraction": share},
        )

    def _about(
        self, facts: Facts, layer: LayerFacts, view: Outlook, message: str, metrics: Mapping[str, Metric]
    ) -> Finding:
        return self.finding(
            locate(facts, layer),
            message,
            remedy="Keep the layer in float or give it 16-bit weights; if the float model does not need the outlier, "
            "clip it.",
            snippet=quantize_static_call(keep_float(facts.freer, facts.freer.layer(layer.output))),
            metrics={**metrics, "forecast_db": view.forecast_db},
            claim=Claim(Subject.WEIGHT, layer.output, _SCHEME),
            severity=view.severity,
        )
