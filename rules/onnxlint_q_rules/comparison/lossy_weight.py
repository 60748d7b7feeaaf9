"""Quantised weights that make the error jump.

The float operator runs on its float input with the quantised file's weight, dequantised, and nothing else is rounded:

    alone = 10 log10( sum (w * x)^2 / sum (w * x - wq * x)^2 )

over the first samples. Where the operator could not be run alone the SQNR of the weight itself stands for it.
The channel figures in the message are those of the weight, after folding the float one as the quantised one is:

    SQNR_c = 10 log10( |w_c|^2 / |w_c - wq_c|^2 )

Below 3 dB a channel keeps less signal than error. The scale that a weight needs is `max |w| / q_max`; quantisers
enlarge it where the int32 bias would overflow.

A layer may lose channels that are small at its own result, where SQNR hardly falls, and large to the operator that
reads them. Where the error jumps at an operator that inherits it, the float operator also runs on what the layer before
it makes with the quantised file's weight, and that weight is reported if it explains the error.

Sources: Nagel et al., Data-Free Quantization Through Weight Equalization and Bias Correction, arXiv 1906.04721,
section 3.1 (one scale for channels of unequal range); `_adjust_weight_scale_for_int32_bias` of onnxruntime's quantiser.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from onnxlint_q import (
    PER_CHANNEL_OPSET,
    Compared,
    ComparedRow,
    Example,
    Facts,
    Finding,
    Remedy,
    Requantisation,
    WeightReading,
    exclude_named,
    option,
    quantize_static_call,
)
from onnxlint_q_rules.comparison.jumps import JumpRule, fall

_FLOAT = """
<ir_version: 8, opset_import: ["" : 13]>
gains (float[1, 2, 4, 4] x) => (float[1, 2, 4, 4] y)
<float[2, 1, 1, 1] w = {100.0, 0.3}> {
  [depthwise] y = Conv <group = 2> (x, w)
}
"""


def _quantised(scales: str, codes: str) -> str:
    count = len(scales.split(","))
    zero = "0, 0" if count > 1 else "0"
    return f"""
<ir_version: 8, opset_import: ["" : 13]>
gains (float[1, 2, 4, 4] x) => (float[1, 2, 4, 4] y)
<int8[2, 1, 1, 1] wq = {{{codes}}}, float[{count}] s = {{{scales}}}, int8[{count}] z = {{{zero}}}> {{
  w = DequantizeLinear <axis = 0> (wq, s, z)
  [depthwise] y = Conv <group = 2> (x, w)
}}
"""


def _uneven(random: np.random.Generator) -> Mapping[str, npt.NDArray[np.float32]]:
    """The channel with the small weight has the large values."""
    values = random.normal(size=(16, 2, 4, 4)) * np.array([0.01, 10.0]).reshape(1, 2, 1, 1)
    return {"x": values.astype(np.float32)}


@dataclass(frozen=True)
class LossyWeight(JumpRule):
    """Quantised weight that makes the error jump.

    ## What it does
    At each layer where the error jumps, runs the float layer with the quantised file's weight alone. Reports the
    weights that explain the error, with how many channels they lose. Where the layer only amplifies the error, the
    weight of the layer before it is tried the same way.

    ## Why it breaks INT8
    Where one scale serves channels of unequal range, or the scale is larger than the values need, small channels keep a
    few codes or none.

    ## What to do
    Give every output channel its own scale, or keep the layer in float.

    ## Sources
    Nagel et al., Data-Free Quantization, arXiv 1906.04721; onnxruntime's adjustment of weight scales to the bias.
    """

    code: ClassVar[str] = "QC002"
    name: ClassVar[str] = "lossy-weight"
    supersedes: ClassVar[tuple[str, ...]] = ("QP005",)

    lost_db: float = option(3.0, doc="a channel with fewer dB counts as lost", source="half of its power is error")
    coarse_ratio: float = option(
        4.0, doc="a scale so many times larger than the values need is named as the cause", source="two bits lost"
    )

    good: ClassVar[tuple[Example, ...]] = (
        Example(
            _quantised("0.787402, 0.00236220", "127, 127"),
            reference=_FLOAT,
            samples=_uneven,
            why="a scale a channel",
        ),
    )
    bad: ClassVar[tuple[Example, ...]] = (
        Example(
            _quantised("0.787402", "127, 0"),
            reference=_FLOAT,
            samples=_uneven,
            flags=("depthwise",),
            why="one scale for both: the channel that matters becomes zero",
        ),
    )

    def culprits(self, facts: Facts, compared: Compared) -> Iterator[Finding]:
        """Each layer whose weight takes part in a jump."""
        for row in self.jumps(compared):
            taking = self.weight(row)
            if taking is not None:
                weight, alone = taking
                yield self._report(facts, compared, row, row, weight, alone)
            elif self.inherits(row) and self.takes_part(row, row.before_db):
                before = compared.row(row.reads[0])
                if before is not None and before.weight is not None:
                    yield self._report(facts, compared, row, before, before.weight, row.before_db)

    def _report(
        self,
        facts: Facts,
        compared: Compared,
        row: ComparedRow,
        layer: ComparedRow,
        weight: WeightReading,
        alone: float | None,
    ) -> Finding:
        return self.report(
            compared,
            row,
            layer.location,
            f"the weight {weight.tensor!r} {self._words(weight)}: {fall(row)}",
            part="weight",
            tensor=weight.tensor,
            alone_db=alone,
            metrics={
                "weight_sqnr_db": weight.sqnr_db,
                "channels": int(weight.channels_db.size),
                "lost_channels": self._lost(weight),
                "scale_excess": weight.excess,
            },
            remedy=self._remedy(facts, layer, weight),
        )

    def _lost(self, weight: WeightReading) -> int:
        return int(np.count_nonzero(weight.channels_db < self.lost_db))

    def _words(self, weight: WeightReading) -> str:
        if weight.sqnr_db is None or not math.isfinite(weight.sqnr_db):
            return "differs from the float one"
        coarse = ""
        if weight.excess > self.coarse_ratio:
            coarse = f", its scale is {weight.excess:.3g} times what the values need"
        return (
            f"keeps {weight.sqnr_db:.1f} dB, {float(weight.channels_db.mean()):.1f} dB in the mean of its channels, "
            f"{self._lost(weight)} of {weight.channels_db.size} less than {self.lost_db:g} dB{coarse}"
        )

    def _remedy(self, facts: Facts, row: ComparedRow, weight: WeightReading) -> Remedy:
        excluded = quantize_static_call(exclude_named([row.reference_node]))
        if weight.excess > self.coarse_ratio:
            return Remedy(
                "give the weight the scale absmax / 127; quantisers enlarge it where the int32 bias would overflow, "
                "which a larger scale of the input or a smaller bias avoids; or keep the layer in float",
                snippet=excluded,
            )
        if weight.scales > 1:
            return Remedy("every channel has its own scale already: keep the layer in float", snippet=excluded)
        if facts.model.opset < PER_CHANNEL_OPSET:
            return Remedy(
                f"give every output channel its own scale, for which the float model has to be of opset "
                f"{PER_CHANNEL_OPSET} or later, or keep the layer in float",
                snippet=excluded,
            )
        return Remedy(
            "give every output channel its own scale, or keep the layer in float",
            change=Requantisation(per_channel=True),
        )
