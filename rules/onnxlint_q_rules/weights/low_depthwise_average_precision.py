"""Depthwise layers whose channels share one scale they do not fit.

    average_precision = mean_c(range_c) / range_tensor            (Yun & Wong, arXiv 2104.11849, eq. 2)

One int8 scale for the tensor gives channel `c` about `256 * range_c / range_tensor` codes, so every halving costs the
channel one bit, 6.02 dB. A depthwise layer sees each input channel through one filter only, and folded BatchNorm gains
spread the ranges, so nothing averages the loss out.

Average precision is only a screen: it does not say what the network makes of the noise. The rule therefore asks for two
more figures: the mean SQNR of the channels, which a mean of ranges hides, and the forecast of the SQNR at the model's
output. The forecast uses the same weights and the network around them. Where it is very low, a loss of one bit in the
average channel is enough.
"""

from __future__ import annotations

from collections.abc import Iterator
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
    Rule,
    Severity,
    Silence,
    Subject,
    Weights,
    explained,
    finer_scale,
    harmless,
    linear_db,
    locate,
    multiple,
    of_operand,
    option,
    outlook,
    shared_scale,
    widest_over_median,
)

_SCHEME = INT8_PER_TENSOR.name
_NETWORK = """
<ir_version: 8, opset_import: ["" : 17]>
separable (float[N, 16, 8, 8] image) => (float[N, 8, 8, 8] y) {
  [depthwise] features = Conv <group = 16, pads = [1, 1, 1, 1]> (image, w)
  positive = Relu(features)
  [pointwise] y = Conv(positive, mix)
}
"""


def _spread(ratio: float) -> Weights:
    """Channel 0 is `ratio` times as wide as the others, and the next layer takes that back."""

    def make(random: np.random.Generator) -> dict[str, npt.NDArray[np.float32]]:
        depthwise = random.normal(size=(16, 1, 3, 3)).astype(np.float32)
        pointwise = random.normal(size=(8, 16, 1, 1)).astype(np.float32)
        depthwise[0] *= ratio
        pointwise[:, 0] /= ratio
        return {"w": depthwise, "mix": pointwise}

    return make


@dataclass(frozen=True)
class LowDepthwiseAveragePrecision(Rule):
    """One int8 scale leaves most channels of a depthwise layer only a few codes.

    ## What it does
    Computes the average precision of every depthwise weight after BatchNorm folding. It flags a weight if its average
    precision, the mean SQNR of its channels and the forecast of the model's output are all low. If the forecast is
    very low, a loss of one bit in the average channel is enough.

    ## Why it breaks INT8
    The widest channel sets the scale. A channel with a hundredth of its range keeps two or three codes, and a depthwise
    layer has no other filter for the same input channel.

    ## What to do
    Quantise with one scale for each output channel (opset 13 or higher). On hardware without per-channel scales,
    equalise neighbouring layers or keep the layer in float.

    ## Sources
    Yun & Wong, arXiv 2104.11849, section 3 and eq. 2; Nagel et al., arXiv 1906.04721; Sheng et al., arXiv 1803.08607.
    """

    code: ClassVar[str] = "QW001"
    name: ClassVar[str] = "low-depthwise-average-precision"
    severity: ClassVar[Severity] = Severity.WARNING
    confidence: ClassVar[Confidence] = Confidence.MEDIUM
    supersedes: ClassVar[tuple[str, ...]] = ("QW003", "QW006")
    rewrites: ClassVar[tuple[str, ...]] = ("constant-channels", "observed-constants", "cross-layer-equalisation")

    average_precision: float = option(
        0.25,
        doc="average precision (fraction) below which a depthwise layer is suspected",
        source="arithmetic: a quarter of the codes is two of eight bits lost in the average channel",
    )
    channel_sqnr_db: float = option(
        30.0,
        doc="mean SQNR of the channels (dB) below which a depthwise layer is suspected",
        source="noise of 3 % of the average channel's weights, which nothing averages out",
    )
    blind_below_db: float = option(
        20.0,
        doc="mean SQNR of the channels (dB) below which a suspected layer is flagged if there is no forecast",
        source="noise of 10 % of the average channel's weights, which nothing averages out",
    )
    warn_below_db: float = option(
        15.0,
        doc="forecast SQNR at the output (dB) below which a finding is a warning, above it an info",
        source="noise of 10 % of the signal, the level where layers are excluded, less the forecast's error of 5 dB",
    )
    sure_below_db: float = option(
        10.0,
        doc="forecast SQNR at the output (dB) below which twice that average precision is enough, at any channel SQNR",
        source="noise of a third of the signal: 10 dB of forecast error below the level where layers are excluded",
    )
    drop_above_db: float = option(
        30.0,
        doc="forecast SQNR at the output (dB) from which nothing is reported",
        source="noise of 3 % of the signal, ten decibels from the level where layers are excluded",
    )

    good: ClassVar[tuple[Example, ...]] = (
        Example(_NETWORK, weights=_spread(1.0), why="All channels are equally wide."),
    )
    bad: ClassVar[tuple[Example, ...]] = (
        Example(
            _NETWORK,
            flags=("depthwise",),
            weights=_spread(300.0),
            why="Channel 0 is 300 times as wide as the others, which round to zero or to one code.",
        ),
    )

    # What low-channel-precision, the same rule for all other layers, has otherwise.
    depthwise: ClassVar[bool] = True
    blind_severity: ClassVar[Severity] = Severity.WARNING

    def check(self, facts: Facts) -> Iterator[Finding | Silence]:
        """Every depthwise layer of a float model with three low figures, or with a very low forecast."""
        weights = facts.weights if facts.is_float else ()
        for layer in weights:
            place = locate(facts, layer)
            if layer.depthwise is not self.depthwise:
                yield Silence(place, f"it is {'not ' * self.depthwise}a depthwise layer")
                continue
            mean_db, known = layer.weight.mean_channel_sqnr_db(_SCHEME), linear_db(facts, layer, _SCHEME)
            if mean_db is None or layer.weight.non_finite:
                yield Silence(place, "its weights are zero or not finite")
                continue
            if doubt := self._doubt(layer.weight.average_precision, mean_db, known):
                yield Silence(place, doubt)
                continue
            view = outlook(
                facts,
                layer,
                _SCHEME,
                warn_db=self.warn_below_db,
                drop_db=self.drop_above_db,
                blind=self.blind_severity if mean_db < self.blind_below_db else None,
            )
            if view.severity is None:
                blind = (
                    f"there is no forecast, and mean channel SQNR {mean_db:.1f} dB is not under {self.blind_below_db:g}"
                )
                yield Silence(place, blind if known is None else harmless(facts, layer, _SCHEME, self.drop_above_db))
                continue
            metrics = shared_scale(layer)
            finding = self.finding(
                place,
                f"One int8 scale{of_operand(layer)} serves {layer.weight.absmax.size} "
                f"{'depthwise' if self.depthwise else 'output'} channels, but the widest has "
                f"{multiple(widest_over_median(layer.weight))} the median range.",
                remedy=finer_scale(facts, layer),
                metrics={**metrics, "forecast_db": view.forecast_db},
                claim=Claim(Subject.WEIGHT, layer.output, _SCHEME),
                severity=view.severity,
            )
            yield explained(finding, facts, layer)

    def _doubt(self, average_precision: float, mean_db: float, known_db: float | None) -> str:
        """Why the weight is good enough, given the forecast; empty if it is not."""
        sure = known_db is not None and known_db < self.sure_below_db
        level = 2 * self.average_precision if sure else self.average_precision  # one bit less in the average channel
        if average_precision >= level:
            return f"average precision {average_precision:.3g} is not under {level:g}"
        if not sure and mean_db >= self.channel_sqnr_db:
            return f"mean channel SQNR {mean_db:.1f} dB is not under {self.channel_sqnr_db:g}"
        return ""
