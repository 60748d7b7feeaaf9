"""Channels that hardly vary, with a gain that only epsilon holds.

    gain_c = gamma_c / sqrt(var_c + eps)  ->  gamma_c / sqrt(eps)    as    var_c -> 0

The running variance is the variance of the channel over the training data: where it is next to zero, the channel is
constant for nearly every input. What the normalisation returns for it is `beta_c`, and its gain is an accident of
epsilon, often a hundred times that of a channel that works. Sheng et al. (arXiv 1803.08607) traced the collapse of
MobileNetV1 under int8 to such channels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from onnxlint_q import (
    EPSILONS,
    INT8_PER_TENSOR,
    SHARE_OF_MEDIAN,
    BatchNorm,
    Claim,
    Confidence,
    Example,
    Facts,
    Finding,
    Gains,
    LayerFacts,
    Remedy,
    Rule,
    Severity,
    Silence,
    Subject,
    Weights,
    channels,
    compare_gains,
    explained,
    finer_scale,
    option,
    outlook,
    times,
)
from onnxlint_q_rules.batchnorm.gains import folds

_SCHEME = INT8_PER_TENSOR.name
_NETWORK = """
<ir_version: 8, opset_import: ["" : 17]>
block (float[N, 8, 8, 8] x) => (float[N, 4, 8, 8] y) {
  [conv] features = Conv <group = 8, pads = [1, 1, 1, 1]> (x, w)
  [norm] normal = BatchNormalization <epsilon = 0.001> (features, gamma, beta, mean, variance)
  positive = Relu(normal)
  [next] y = Conv(positive, mix)
}
"""


def _variance(value: float, gamma: float = 1.0) -> Weights:
    """Channel 3 has this running variance, the others 100."""

    def make(random: np.random.Generator) -> dict[str, npt.NDArray[np.float32]]:
        variance, gammas = np.full(8, 100.0), np.ones(8)
        variance[3], gammas[3] = value, gamma
        made = {"w": random.normal(size=(8, 1, 3, 3)), "mix": random.normal(size=(4, 8, 1, 1))}
        made["mix"][:, 3] /= 1000
        made |= {"gamma": gammas, "beta": np.ones(8), "mean": np.zeros(8), "variance": variance}
        return {name: value.astype(np.float32) for name, value in made.items()}

    return make


@dataclass(frozen=True)
class NearZeroVariance(Rule):
    """A channel that hardly varies is given an enormous gain by its BatchNormalization.

    ## What it does
    Looks for channels whose running variance is next to zero while gamma is not, and whose gain is far above that of
    an ordinary channel. It is a warning if the folded channel is so wide that it takes the int8 scale from the
    others, and if the forecast of the model's output is low. Without a forecast the mean SQNR of the folded channels
    has to be low instead. Else it is an info.

    ## Why it breaks INT8
    A wide folded channel, of no use to the network, sets the scale of the tensor. A channel with nearly no weight
    does not, but its own scale, under per-channel, is so small that its int32 bias may overflow, and the gain
    amplifies whatever noise INT8 brings into a channel that used to be constant.

    ## What to do
    If `gain * sqrt(variance)` is nothing beside that of an ordinary channel, the channel is constant: set its weights
    to zero and its folded bias to beta, then quantise. The finding says what this is forecast to gain, and with
    calibration data it is tried out: what the float output changes by, and what the cured weight leaves. Else the
    channel does vary, and needs a scale of its own.

    ## Sources
    Sheng et al., arXiv 1803.08607; microsoft/onnxruntime#11415 for the bias.
    """

    code: ClassVar[str] = "QB002"
    name: ClassVar[str] = "near-zero-variance"
    severity: ClassVar[Severity] = Severity.WARNING
    confidence: ClassVar[Confidence] = Confidence.HIGH
    supersedes: ClassVar[tuple[str, ...]] = ("QW006",)

    epsilons: float = option(
        EPSILONS,
        doc="a channel is still if its running variance is below this many epsilons",
        source="arithmetic: epsilon is then a tenth of what the gain is divided by",
    )
    share_of_median: float = option(
        SHARE_OF_MEDIAN,
        doc="or below this fraction of the median variance of the other channels",
        source="arithmetic: a standard deviation of 3 % of an ordinary channel's",
    )
    gain_ratio: float = option(
        4.0,
        doc="gain over that of an ordinary channel from which on a still channel is reported",
        source="arithmetic: two of eight bits",
    )
    width_ratio: float = option(
        16.0,
        doc="folded width over that of an ordinary channel from which on the finding is a warning",
        source="four of eight bits; Sony MCT 2.6.1 uses the same ratio for unbalanced inputs",
    )
    warn_below_db: float = option(
        15.0,
        doc="forecast SQNR at the output (dB) below which a finding is a warning, else it is an info",
        source="noise of 10 % of the signal, the level where layers are excluded, less the forecast's error of 5 dB",
    )
    blind_below_db: float = option(
        20.0,
        doc="mean SQNR of the folded channels (dB) below which a finding is a warning if there is no forecast",
        source="noise of 10 % of the average channel's weights: the wide channel harms the others",
    )

    good: ClassVar[tuple[Example, ...]] = (
        Example(_NETWORK, weights=_variance(100.0), why="All channels vary."),
        Example(_NETWORK, weights=_variance(1e-12, gamma=0.0), why="The still channel has no gain: gamma is zero."),
    )
    bad: ClassVar[tuple[Example, ...]] = (
        Example(
            _NETWORK,
            flags=("norm",),
            weights=_variance(1e-12),
            why="Channel 3 never varies; epsilon alone gives it 300 times the gain of the others.",
        ),
    )

    def check(self, facts: Facts) -> Iterator[Finding | Silence]:
        """Every BatchNormalization of a float model that lifts a still channel."""
        for layer, norm in folds(facts):
            gains = compare_gains(norm, self.epsilons, self.share_of_median)
            lifted = np.flatnonzero(gains.still & (gains.ratio >= self.gain_ratio))
            if not lifted.size:
                yield Silence(facts.model.locate(norm.node), self._unmet(norm, gains))
                continue
            lifted = lifted[np.argsort(-gains.ratio[lifted], kind="stable")]
            width = self._width(layer, norm, gains)[lifted]
            wide = lifted[width >= self.width_ratio]
            mean_db = layer.weight.mean_channel_sqnr_db(_SCHEME)
            harmed = mean_db is not None and mean_db < self.blind_below_db
            blind = Severity.WARNING if harmed else Severity.INFO
            view = outlook(facts, layer, _SCHEME, warn_db=self.warn_below_db, blind=blind)
            effect = (
                f"; folded, {channels(wide)} {'take' if wide.size > 1 else 'takes'} the int8 scale, up to "
                f"{times(float(width.max()))} times as wide as an ordinary channel"
                if wide.size
                else "; folded, they stay narrow, but under scales of their own their int32 bias may overflow"
            )
            finding = self.finding(
                facts.model.locate(norm.node),
                f"{lifted.size} of {norm.variance.size} channels {'has' if lifted.size == 1 else 'have'} next to no "
                f"variance (running variance from {norm.variance[lifted].min():.2g}, epsilon {norm.epsilon:.0e}) and "
                f"yet a gain up to {times(float(gains.ratio[lifted[0]]))} times that of an ordinary channel: "
                f"{channels(lifted)} with gain {', '.join(f'{gain:.3g}' for gain in norm.gain[lifted[:4]])}{effect}.",
                remedy=_advice(facts, layer, norm, lifted, gains),
                metrics={
                    "still_channels": int(lifted.size),
                    "wide_channels": int(wide.size),
                    "smallest_variance": float(norm.variance[lifted].min()),
                    "largest_gain_ratio": float(gains.ratio[lifted[0]]),
                    "largest_width_ratio": float(width.max()),
                    "forecast_db": view.forecast_db,
                },
                claim=Claim(Subject.WEIGHT, layer.output, _SCHEME) if wide.size else None,
                severity=view.severity if wide.size else Severity.INFO,
            )
            yield explained(finding, facts, layer) if wide.size else finding

    def _unmet(self, norm: BatchNorm, gains: Gains) -> str:
        """Why no channel is a lifted one."""
        if not gains.still.any():
            return f"no channel is still: the smallest running variance is {norm.variance.min(initial=np.inf):.2g}"
        largest = times(float(gains.ratio[gains.still].max()))
        return f"the gain of its still channels is at most {largest} times the ordinary one, not {self.gain_ratio:g}"

    def _width(self, layer: LayerFacts, norm: BatchNorm, gains: Gains) -> npt.NDArray[np.float64]:
        """Width of each folded channel over that of an ordinary one; before a layer, that of its gain."""
        absmax = layer.weight.absmax
        if norm is layer.folded.before:
            return gains.ratio
        ordinary = absmax[~gains.still & (absmax > 0)]
        return np.asarray(absmax / np.median(ordinary), np.float64) if ordinary.size else gains.ratio


def _advice(facts: Facts, layer: LayerFacts, norm: BatchNorm, lifted: npt.NDArray[np.intp], gains: Gains) -> Remedy:
    """A channel is only to be zeroed if it is constant behind the normalisation too."""
    constant = lifted[gains.constant[lifted]]
    if norm is layer.folded.before or not constant.size:
        swing = times(float(gains.swing[lifted].max()))
        return finer_scale(facts, layer).within(
            f"Do not remove these channels: amplified, they vary by up to {swing} times as much as an ordinary one."
            if not constant.size
            else "These channels are constant for nearly all inputs; the layer behind can take them into its bias."
        )
    who = "These channels are" if constant.size == lifted.size else f"Of these, {channels(constant)} are"
    return Remedy(
        f"{who} constant for nearly all inputs. Set their weights to zero and their folded bias to beta, check that "
        "the output in float stays the same, then quantise.",
        finer_scale(facts, layer).text,
    )
