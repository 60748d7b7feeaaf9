"""Convolutions and matrix products whose channels do not fit the one scale that they share.

    p_c = range_c / range_tensor,    SQNR_c = 10 log10(sum_k w_ck^2 / sum_k (w_ck - q(w_ck))^2)

The maths and the check are those of low-depthwise-average-precision. The damage is usually smaller: every output
channel sees all input channels, a channel with small weights is often one that the network hardly uses, and the next
layer sums it with hundreds of others. Weights alone do not tell which of these layers hurt. The rule therefore warns
only if the forecast of the model's output is low enough to allow for its own error; without a forecast the finding is
an info.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from onnxlint_q import Confidence, Example, Severity, Weights, option
from onnxlint_q_rules.weights.low_depthwise_average_precision import LowDepthwiseAveragePrecision

_NETWORK = """
<ir_version: 8, opset_import: ["" : 17]>
two (float[N, 8, 8, 8] image) => (float[N, 4, 8, 8] y) {
  [first] features = Conv(image, w)
  positive = Relu(features)
  [second] y = Conv(positive, mix)
}
"""


def _spread(ratio: float) -> Weights:
    """Channel 0 is `ratio` times as wide as the others, and the next layer takes that back."""

    def make(random: np.random.Generator) -> dict[str, npt.NDArray[np.float32]]:
        first = random.normal(size=(16, 8, 1, 1)).astype(np.float32)
        second = random.normal(size=(4, 16, 1, 1)).astype(np.float32)
        first[0] *= ratio
        second[:, 0] /= ratio
        return {"w": first, "mix": second}

    return make


@dataclass(frozen=True)
class LowChannelPrecision(LowDepthwiseAveragePrecision):
    """One int8 scale leaves most output channels of a layer only a few codes.

    ## What it does
    Computes average precision and channel SQNR of every weight that is not depthwise, after BatchNorm folding. It flags
    a weight if both and the forecast of the model's output are low. A very low forecast makes it a warning; then a
    loss of one bit in the average channel is enough.

    ## Why it breaks INT8
    The widest output channel sets the scale, and the others keep only a few codes. A later layer may amplify their
    noise and pass it on.

    ## What to do
    Quantise with one scale for each output channel (opset 13 or higher), or keep the layer in float.

    ## Sources
    Yun & Wong, arXiv 2104.11849, eq. 2; Nagel et al., arXiv 1906.04721.
    """

    code: ClassVar[str] = "QW002"
    name: ClassVar[str] = "low-channel-precision"
    severity: ClassVar[Severity] = Severity.WARNING
    confidence: ClassVar[Confidence] = Confidence.MEDIUM
    rewrites: ClassVar[tuple[str, ...]] = ("constant-channels", "observed-constants", "cross-layer-equalisation")
    depthwise: ClassVar[bool] = False
    blind_severity: ClassVar[Severity] = Severity.INFO

    channel_sqnr_db: float = option(
        28.0,
        doc="mean SQNR of the channels (dB) below which a layer is suspected",
        source="noise of 4 % of the average channel's weights, which a dense layer averages over its inputs",
    )
    blind_below_db: float = option(
        20.0,
        doc="mean SQNR of the channels (dB) below which a suspected layer is an info if there is no forecast",
        source="noise of 10 % of the average channel's weights",
    )
    warn_below_db: float = option(
        15.0,
        doc="forecast SQNR at the output (dB) below which a finding is a warning, above it an info",
        source="noise of 10 % of the signal, the level where layers are excluded, less the forecast's error of 5 dB",
    )

    good: ClassVar[tuple[Example, ...]] = (
        Example(_NETWORK, weights=_spread(1.0), why="All channels are equally wide."),
    )
    bad: ClassVar[tuple[Example, ...]] = (
        Example(
            _NETWORK,
            flags=("first",),
            weights=_spread(300.0),
            why="Channel 0 is 300 times as wide as the others, which round to zero or to one code.",
        ),
    )
