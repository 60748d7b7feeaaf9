"""BatchNorm gains that spread the channels of the weight they are folded into.

    w_fold_c = gain_c * w_c,    gain_c = gamma_c / sqrt(var_c + eps)          (Yun & Wong, arXiv 2104.11849, eq. 1)

Training keeps the channels of `w` alike, but not gamma and the running variance, so folding is where one scale for the
tensor breaks. A large gain is harmless if the weights of its channel are small in return. The rule therefore compares
the mean SQNR of the channels under one int8 scale before and after folding.
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
    channels,
    compare_gains,
    explained,
    finer_scale,
    harmless,
    multiple,
    option,
    outlook,
)
from onnxlint_q_rules.batchnorm.gains import folds

_SCHEME = INT8_PER_TENSOR.name
_NETWORK = """
<ir_version: 8, opset_import: ["" : 17]>
block (float[N, 8, 8, 8] x) => (float[N, 4, 8, 8] y) {
  [conv] features = Conv <pads = [1, 1, 1, 1]> (x, w)
  [norm] normal = BatchNormalization(features, gamma, beta, mean, variance)
  positive = Relu(normal)
  [next] y = Conv(positive, mix)
}
"""


def _gamma(ratio: float, smaller_weights: bool = False) -> Weights:
    """Channel 5 has `ratio` times the gain of the others, which the next layer takes back."""

    def make(random: np.random.Generator) -> dict[str, npt.NDArray[np.float32]]:
        weight = random.normal(size=(16, 8, 3, 3))
        gamma, mix = np.ones(16), random.normal(size=(4, 16, 1, 1))
        gamma[5] *= ratio
        mix[:, 5] /= 1 if smaller_weights else ratio
        weight[5] /= ratio if smaller_weights else 1
        made = {"w": weight, "mix": mix, "gamma": gamma}
        made |= {"beta": np.zeros(16), "mean": np.zeros(16), "variance": np.full(16, 72.0)}
        return {name: value.astype(np.float32) for name, value in made.items()}

    return make


@dataclass(frozen=True)
class OutlierGamma(Rule):
    """A few BatchNorm gains are far larger than the others, and folding them spoils the weight.

    ## What it does
    Compares the gain of each channel with that of an ordinary one. A BatchNormalization with outliers is flagged if
    folding costs the channels of its layer SQNR under one int8 scale. Channels whose gain is large because they are
    almost constant are left to near-zero-variance.

    ## Why it breaks INT8
    The channel with the large gain sets the scale of the folded weight, and all other channels lose bits to it.

    ## What to do
    Quantise with one scale for each output channel. When training again, put weight decay on gamma.

    ## Sources
    Sheng et al., arXiv 1803.08607 (MobileNetV1 on ImageNet: 70.5 % to 1.8 %); Yun & Wong, arXiv 2104.11849, eq. 1.
    """

    code: ClassVar[str] = "QB001"
    name: ClassVar[str] = "outlier-gamma"
    severity: ClassVar[Severity] = Severity.WARNING
    confidence: ClassVar[Confidence] = Confidence.HIGH
    supersedes: ClassVar[tuple[str, ...]] = ("QW001", "QW002", "QW003", "QW006")
    rewrites: ClassVar[tuple[str, ...]] = ("constant-channels", "observed-constants", "cross-layer-equalisation")

    gain_ratio: float = option(
        8.0,
        doc="gain over that of an ordinary channel from which it is an outlier",
        source="arithmetic: three of eight bits lost by the ordinary channels",
    )
    lost_db: float = option(
        6.0, doc="mean channel SQNR (dB) that folding must cost", source="arithmetic: 6.02 dB are one bit"
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

    good: ClassVar[tuple[Example, ...]] = (
        Example(_NETWORK, weights=_gamma(1.0), why="All gains are alike."),
        Example(
            _NETWORK,
            weights=_gamma(100.0, smaller_weights=True),
            why="The large gain meets small weights: folding makes the channels alike.",
        ),
    )
    bad: ClassVar[tuple[Example, ...]] = (
        Example(
            _NETWORK, flags=("norm",), weights=_gamma(200.0), why="Channel 5 has 200 times the gain of the others."
        ),
    )

    def check(self, facts: Facts) -> Iterator[Finding | Silence]:
        """Every BatchNormalization of a float model that folding turns into an outlier."""
        for layer, norm in folds(facts):
            gains = compare_gains(norm)
            outliers = np.flatnonzero((gains.ratio >= self.gain_ratio) & ~gains.still)
            if not outliers.size:
                widest = float(gains.ratio[~gains.still].max(initial=0.0))
                yield Silence(
                    facts.model.locate(norm.node),
                    f"the largest gain of a channel that varies is {multiple(widest)} the ordinary one, not "
                    f"{self.gain_ratio:g}×",
                )
                continue
            before = layer.before.mean_channel_sqnr_db(_SCHEME)
            after = layer.weight.mean_channel_sqnr_db(_SCHEME)
            if before is None or after is None or before - after < self.lost_db:
                lost = f"costs {before - after:.1f} dB" if before is not None and after is not None else "has no figure"
                yield Silence(
                    facts.model.locate(norm.node),
                    f"folding {lost} of mean channel SQNR, not {self.lost_db:g} dB",
                )
                continue
            view = outlook(
                facts, layer, _SCHEME, warn_db=self.warn_below_db, drop_db=self.drop_above_db, blind=Severity.WARNING
            )
            if view.severity is None:
                yield Silence(facts.model.locate(norm.node), harmless(facts, layer, _SCHEME, self.drop_above_db))
                continue
            listed = outliers[np.argsort(-gains.ratio[outliers], kind="stable")]
            finding = self.finding(
                facts.model.locate(norm.node),
                f"BatchNorm multiplies {channels(listed, limit=2)} by {'up to ' * (listed.size > 1)}"
                f"{multiple(float(gains.ratio[listed[0]]))} the usual gain; folding costs {before - after:.0f} dB of "
                "channel SQNR.",
                remedy=finer_scale(facts, layer).within(tail="When training again, put weight decay on gamma."),
                metrics={
                    "largest_gain_ratio": float(gains.ratio[listed[0]]),
                    "outlier_channels": int(outliers.size),
                    "average_precision_before_folding": layer.before.average_precision,
                    "average_precision_after_folding": layer.weight.average_precision,
                    "sqnr_before_folding_db": before,
                    "sqnr_after_folding_db": after,
                    "forecast_db": view.forecast_db,
                },
                claim=Claim(Subject.WEIGHT, layer.output, _SCHEME),
                severity=view.severity,
            )
            yield explained(finding, facts, layer)
