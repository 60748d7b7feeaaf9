"""Channels that one int8 scale for the tensor turns into zeros.

    absmax_c < absmax / 254    =>    round(w / scale) = 0 for every weight of channel c,    scale = absmax / 127

Half a step of a symmetric int8 scale is `absmax / 254`; what is smaller becomes code zero. The channel then returns its
bias for every input. A dead channel, whose weights are zero in the file already, loses nothing and is not counted.
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
    constant_channels,
    explained,
    finer_scale,
    harmless,
    locate,
    of_operand,
    option,
    outlook,
)

_SCHEME = INT8_PER_TENSOR.name
_NETWORK = """
<ir_version: 8, opset_import: ["" : 17]>
two (float[N, 8, 8, 8] image) => (float[N, 4, 8, 8] y) {
  [first] features = Conv(image, w)
  positive = Relu(features)
  [second] y = Conv(positive, mix)
}
"""


def _narrow(ratio: float, dead: bool = False) -> Weights:
    """Half of the channels are dead, or narrower by `ratio`, which the next layer takes back."""

    def make(random: np.random.Generator) -> dict[str, npt.NDArray[np.float32]]:
        first = random.uniform(-1, 1, size=(16, 8, 1, 1)).astype(np.float32)
        second = random.uniform(-1, 1, size=(4, 16, 1, 1)).astype(np.float32)
        first[:8] *= 0 if dead else 1 / ratio
        second[:, :8] *= ratio
        return {"w": first, "mix": second}

    return make


@dataclass(frozen=True)
class CollapsedChannels(Rule):
    """One int8 scale for the tensor rounds whole channels of it to zero.

    ## What it does
    Counts, after BatchNorm folding, the channels whose weights all become zero under one scale for the tensor, and
    flags a layer with many of them. Channels that are constant in the float model already are not counted: all their
    weights are zero, or they hardly vary after a folded BatchNormalization.

    ## Why it breaks INT8
    A collapsed channel returns its bias for every input. If the network uses the channel, that information is gone.
    If it does not, nothing is lost and the channel can be pruned. The forecast of the model's output tells which;
    without a forecast the finding is only an info.

    ## What to do
    Quantise with one scale for each output channel, or prune the channels if the float model does not need them.

    ## Sources
    ONNX operator specification, QuantizeLinear; Yun & Wong, arXiv 2104.11849 (noise that "washes out" a channel).
    """

    code: ClassVar[str] = "QW003"
    name: ClassVar[str] = "collapsed-channels"
    severity: ClassVar[Severity] = Severity.WARNING
    confidence: ClassVar[Confidence] = Confidence.MEDIUM
    supersedes: ClassVar[tuple[str, ...]] = ("QW006",)
    rewrites: ClassVar[tuple[str, ...]] = ("constant-channels", "observed-constants", "cross-layer-equalisation")

    share: float = option(
        0.1,
        doc="fraction of the channels that may collapse, constant ones left out",
        source="arithmetic: without a tenth of equally strong channels the layer's own output has 10 dB",
    )
    warn_below_db: float = option(
        10.0,
        doc="forecast SQNR at the output (dB) below which a finding is a warning, above it an info",
        source="noise of a third of the signal: 10 dB of forecast error below the level where layers are excluded",
    )
    drop_above_db: float = option(
        30.0,
        doc="forecast SQNR at the output (dB) from which nothing is reported",
        source="noise of 3 % of the signal, ten decibels from the level where layers are excluded",
    )

    good: ClassVar[tuple[Example, ...]] = (
        Example(_NETWORK, weights=_narrow(10.0), why="The narrow channels keep a tenth of the codes."),
        Example(_NETWORK, weights=_narrow(1.0, dead=True), why="Dead channels have nothing to lose."),
    )
    bad: ClassVar[tuple[Example, ...]] = (
        Example(
            _NETWORK,
            flags=("first",),
            weights=_narrow(1000.0),
            why="Eight of sixteen channels are below half a step of the scale.",
        ),
    )

    def check(self, facts: Facts) -> Iterator[Finding | Silence]:
        """Every layer of a float model that loses too many channels."""
        weights = facts.weights if facts.is_float else ()
        for layer in weights:
            place = locate(facts, layer)
            if layer.weight.non_finite:
                yield Silence(place, "its weights are not finite")
                continue
            idle = constant_channels(layer)
            lost = np.setdiff1d(layer.weight.collapsed, idle)
            total = layer.weight.absmax.size
            alive = total - idle.size
            if lost.size <= self.share * alive:
                yield Silence(place, f"{lost.size} of {alive} channels collapse, no more than {self.share:.0%}")
                continue
            view = outlook(
                facts, layer, _SCHEME, warn_db=self.warn_below_db, drop_db=self.drop_above_db, blind=Severity.INFO
            )
            if view.severity is None:
                yield Silence(place, harmless(facts, layer, _SCHEME, self.drop_above_db))
                continue
            finding = self.finding(
                place,
                f"One int8 scale{of_operand(layer)} rounds all weights of {lost.size} of {total} channels to zero "
                f"({channels(lost)}).",
                remedy=finer_scale(facts, layer).within(
                    tail="If the float model gives the same output without these channels, prune them."
                ),
                metrics={
                    "collapsed_channels": int(lost.size),
                    "collapsed_fraction": float(lost.size / alive),
                    "constant_channels": int(idle.size),
                    "forecast_db": view.forecast_db,
                },
                claim=Claim(Subject.WEIGHT, layer.output, _SCHEME),
                severity=view.severity,
            )
            yield explained(finding, facts, layer)
