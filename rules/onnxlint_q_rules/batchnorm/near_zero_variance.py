"""Channels that hardly vary, with a gain that only epsilon limits.

    gain_c = gamma_c / sqrt(var_c + eps)  ->  gamma_c / sqrt(eps)    as    var_c -> 0

The running variance is the variance of the channel over the training data: where it is close to zero, the channel is
constant for almost every input. BatchNorm then returns `beta_c`, and its gain is an accident of epsilon, often a
hundred times that of a channel that works. Folded, such a channel may set the int8 scale of the whole tensor. Sheng et
al. (arXiv 1803.08607) traced the collapse of MobileNetV1 under int8 to it.

Many networks have such channels and lose nothing to them. The rule speaks where one of them is the widest of its layer
and the output is forecast or measured to suffer, or where neither is known. Where the widest channel does vary, its
gain is the fault, and outlier-gamma tells it.
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
    compare_gains,
    explained,
    finer_scale,
    harmless,
    multiple,
    option,
    outlook,
    widest_over_median,
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
    """BatchNorm gives a channel that is almost constant an enormous gain.

    ## What it does
    Looks for channels with a running variance close to zero whose gain is far above that of an ordinary channel. It
    reports them where they set the int8 scale of the folded weight and the output is expected to suffer. Without a
    forecast, a low mean SQNR of the folded channels makes it a warning.

    ## Why it breaks INT8
    Folding makes the channel the widest one, although it usually carries no information. It sets the scale of the
    tensor, and all other channels are left with a few codes.

    ## What to do
    Set the weights of a constant channel to zero and its folded bias to beta, then quantise. With calibration data
    this is tried, and the finding says what it gains. A channel that varies after BatchNorm needs a scale of its own
    instead.

    ## Sources
    Sheng et al., arXiv 1803.08607.
    """

    code: ClassVar[str] = "QB002"
    name: ClassVar[str] = "near-zero-variance"
    severity: ClassVar[Severity] = Severity.WARNING
    confidence: ClassVar[Confidence] = Confidence.HIGH
    supersedes: ClassVar[tuple[str, ...]] = ("QB001", "QW001", "QW002", "QW003", "QW006")
    rewrites: ClassVar[tuple[str, ...]] = ("constant-channels", "observed-constants", "cross-layer-equalisation")

    epsilons: float = option(
        EPSILONS,
        doc="a channel is still if its running variance is below this many epsilons",
        source="arithmetic: epsilon is then a tenth of what the gain is divided by",
    )
    share_of_median: float = option(
        SHARE_OF_MEDIAN,
        doc="or if it is below this fraction of the median variance of the other channels",
        source="arithmetic: a standard deviation of 3 % of an ordinary channel's",
    )
    gain_ratio: float = option(
        4.0,
        doc="gain over that of an ordinary channel from which a still channel is looked at",
        source="arithmetic: two of eight bits",
    )
    width_ratio: float = option(
        16.0,
        doc="folded width over that of an ordinary channel from which a still channel is reported",
        source="four of eight bits; Sony MCT 2.6.1 uses the same ratio for unbalanced inputs",
    )
    warn_below_db: float = option(
        15.0,
        doc="forecast SQNR at the output (dB) below which a finding is a warning, above it an info",
        source="noise of 10 % of the signal, the level where layers are excluded, less the forecast's error of 5 dB",
    )
    drop_above_db: float = option(
        30.0,
        doc="forecast SQNR at the output (dB) from which nothing is reported",
        source="noise of 3 % of the signal, ten decibels from the level where layers are excluded",
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
        """Every BatchNormalization of a float model that makes a still channel the widest."""
        for layer, norm in folds(facts):
            place, gains = facts.model.locate(norm.node), compare_gains(norm, self.epsilons, self.share_of_median)
            width = _width(layer, norm, gains)
            lifted = np.flatnonzero(gains.still & (gains.ratio >= self.gain_ratio))
            lifted = lifted[np.argsort(-gains.ratio[lifted], kind="stable")]
            wide = lifted[width[lifted] >= self.width_ratio]
            if not wide.size or width[wide].max() < width.max():
                yield Silence(place, self._unmet(norm, gains, width, lifted))
                continue
            mean_db = layer.weight.mean_channel_sqnr_db(_SCHEME)
            harmed = mean_db is not None and mean_db < self.blind_below_db
            view = outlook(
                facts,
                layer,
                _SCHEME,
                warn_db=self.warn_below_db,
                drop_db=self.drop_above_db,
                blind=Severity.WARNING if harmed else Severity.INFO,
            )
            if view.severity is None:
                yield Silence(place, harmless(facts, layer, _SCHEME, self.drop_above_db))
                continue
            finding = self.finding(
                place,
                f"{lifted.size} of {norm.variance.size} {'input ' * (norm is layer.folded.before)}channels "
                f"{'is' if lifted.size == 1 else 'are'} almost constant, but BatchNorm multiplies "
                f"{'it' if lifted.size == 1 else 'them up to'} {multiple(float(gains.ratio[lifted[0]]))}.",
                remedy=self._advice(facts, layer, lifted, gains),
                metrics={
                    "channels": int(norm.variance.size),
                    "still_channels": int(lifted.size),
                    "wide_channels": int(wide.size),
                    "smallest_variance": float(norm.variance[lifted].min()),
                    "epsilon": norm.epsilon,
                    "largest_gain": float(norm.gain[lifted[0]]),
                    "largest_gain_ratio": float(gains.ratio[lifted[0]]),
                    "largest_width_ratio": float(width[lifted].max()),
                    "largest_swing_ratio": float(gains.swing[lifted].max()),
                    "forecast_db": view.forecast_db,
                },
                claim=Claim(Subject.WEIGHT, layer.output, _SCHEME),
                severity=view.severity,
            )
            yield explained(finding, facts, layer)

    def _unmet(
        self, norm: BatchNorm, gains: Gains, width: npt.NDArray[np.float64], lifted: npt.NDArray[np.intp]
    ) -> str:
        """Why no still channel is the widest by far."""
        if not gains.still.any():
            return f"no channel is still: the smallest running variance is {norm.variance.min(initial=np.inf):.2g}"
        if not lifted.size:
            largest = multiple(float(gains.ratio[gains.still].max()))
            return f"the gain of its still channels is at most {largest} the ordinary one, not {self.gain_ratio:g}×"
        largest_width = float(width[lifted].max())
        if largest_width < self.width_ratio:
            return (
                f"its still channels are at most {multiple(largest_width)} as wide as others, not {self.width_ratio:g}×"
            )
        return f"a channel that varies is the widest, {multiple(float(width.max()))} as wide as others"

    def _advice(self, facts: Facts, layer: LayerFacts, lifted: npt.NDArray[np.intp], gains: Gains) -> Remedy:
        """A channel is only to be zeroed if it is constant behind the normalisation too, and the others then gain."""
        finer, cured = finer_scale(facts, layer), facts.cures.get(layer.output)
        if not gains.constant[lifted].any():
            return finer.within("Do not remove these channels: after BatchNorm they do vary.")
        if cured is None:
            return finer
        wide = widest_over_median(cured.layer.weight) >= self.width_ratio
        then = "give every output channel its own scale" if wide else "quantise"
        return Remedy(
            "Set the weights of the constant channels to zero and their folded bias to beta. Check that the float "
            f"output stays the same, then {then}.",
            finer.text,
        )


def _width(layer: LayerFacts, norm: BatchNorm, gains: Gains) -> npt.NDArray[np.float64]:
    """Width of each folded channel over that of an ordinary one; before a layer, that of its gain."""
    absmax = layer.weight.absmax
    if norm is layer.folded.before:
        return gains.ratio
    ordinary = absmax[~gains.still & (absmax > 0)]
    return np.asarray(absmax / np.median(ordinary), np.float64) if ordinary.size else gains.ratio
