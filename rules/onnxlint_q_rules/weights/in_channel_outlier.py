"""Weights that stand out inside their own channel, so that a scale for each channel does not help.

For a channel of `n` weights with root mean square `sigma` and largest magnitude `m`, symmetric int8 has the step
`m / 127` and rounding noise of about `(m / 127)^2 / 12`:

    SQNR_c ~ 20 log10(127 sqrt(12) sigma / m) = 52.9 dB - 20 log10(m / sigma)

A ratio `m / sigma` of 44 leaves 20 dB, noise of 10 % of the weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from onnxlint_q.analysis.schemes import INT8_PER_CHANNEL
from onnxlint_q.facts import Facts
from onnxlint_q.finding import Claim, Confidence, Finding, Severity, Subject
from onnxlint_q.rule import Example, Rule, Weights, option
from onnxlint_q_rules.weights.advice import (
    CLAIM_BELOW_DB,
    exclude,
    locate,
    outlook,
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


@dataclass(frozen=True)
class InChannelOutlier(Rule):
    """A few weights dwarf the others of their own channel, and a scale for each channel does not help.

    ## What it does
    Computes the SQNR of each channel of every folded weight under one scale for each output channel, and flags layers
    with a channel below the threshold.

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

    channel_sqnr_db: float = option(
        20.0,
        doc="SQNR (dB) of a channel with its own scale below which it is flagged",
        source="arithmetic: a weight of 44 standard deviations, noise of 10 % of the channel's weights",
    )
    warn_below_db: float = option(
        20.0,
        doc="forecast SQNR at the output (dB) below which a finding is a warning, above it an info",
        source="noise of 10 % of the signal at the output",
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
    )

    def check(self, facts: Facts) -> Iterator[Finding]:
        """Every layer of a float model with a channel that its own scale does not fit."""
        layers = facts.layers if facts.is_float else ()
        for layer in layers:
            if layer.weight.non_finite:
                continue
            sqnr = sqnr_by_channel(layer, _SCHEME)
            low = np.flatnonzero(sqnr < self.channel_sqnr_db)
            if not low.size:
                continue
            view = outlook(
                facts, layer, _SCHEME, warn_db=self.warn_below_db, drop_db=float("inf"), blind=Severity.WARNING
            )
            channel = int(np.argmin(sqnr))
            ratio = float(layer.weight.absmax[channel] / np.sqrt(layer.weight.power[channel]))
            keep_float = exclude([layer.folded.layer.node])
            yield self.finding(
                locate(facts, layer),
                f"Even with scales of their own {low.size} of {sqnr.size} output channels keep less than "
                f"{self.channel_sqnr_db:g} dB ({worst(sqnr, min(4, low.size))}): in channel {channel} the largest "
                f"weight is {times(ratio)} times the root mean square, which leaves {sqnr[channel]:.0f} "
                f"dB{view.words}.",
                remedy="Keep the layer in float or give it 16-bit weights; if the float model does not need the "
                "outlier, clip it.",
                snippet=f"quantize_static(..., {keep_float})" if keep_float else "",
                metrics={
                    "worst_channel_sqnr_db": float(sqnr[channel]),
                    "largest_over_rms": ratio,
                    "low_channels": int(low.size),
                    "forecast_db": view.forecast_db,
                },
                claim=Claim(Subject.WEIGHT, layer.output, _SCHEME, CLAIM_BELOW_DB),
                severity=view.severity,
            )
