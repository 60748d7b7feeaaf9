"""Quantised weights that make the error jump.

The float operator runs on its float input with the quantised file's weight, dequantised, and nothing else is rounded:

    alone = 10 log10( sum (w * x)^2 / sum (w * x - wq * x)^2 )

over the first samples. Where the operator could not be run alone, the SQNR of the weight itself is taken. The channel
figures are those of the weight, the float one folded as the quantised one is:

    SQNR_c = 10 log10( |w_c|^2 / |w_c - wq_c|^2 )

Below 3 dB half of a channel's power is error. The scale that a weight needs is `max |w| / q_max`; quantisers enlarge it
where the int32 bias would overflow.

A layer may lose channels that hardly matter in its own result, but much in the next one. Where the error jumps at an
operator that inherits it, the float operator also runs on the result that the layer before it has with the quantised
weight. That weight is reported if it explains the error.

Sources: Nagel et al., Data-Free Quantization Through Weight Equalization and Bias Correction, arXiv 1906.04721,
section 3.1 (one scale for channels of unequal range); `_adjust_weight_scale_for_int32_bias` of onnxruntime's quantiser.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
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
    Silence,
    WeightReading,
    option,
)
from onnxlint_q_rules.comparison.jumps import JumpRule, decibel

# Channels that are named.
_FEW = 8

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
    """A quantised weight makes the error jump.

    ## What it does
    At each layer where the error jumps, runs the float layer with only its weight quantised. Reports the weights that
    explain the error, and how many channels they lose. Where the layer only amplifies an error, the weight of the layer
    before it is tried.

    ## Why it breaks INT8
    Small channels keep a few codes or none where one scale serves channels of unequal range, or where the scale is
    larger than the values need.

    ## What to do
    Give every output channel its own scale. Or keep the layer in float.

    ## Sources
    Nagel et al., Data-Free Quantization, arXiv 1906.04721; onnxruntime's adjustment of weight scales to the bias.
    """

    code: ClassVar[str] = "QC002"
    name: ClassVar[str] = "lossy-weight"
    supersedes: ClassVar[tuple[str, ...]] = ("QP005", "QW007")

    lost_db: float = option(
        3.0, doc="a channel with less SQNR (dB) counts as lost", source="half of its power is error"
    )
    coarse_ratio: float = option(
        4.0, doc="a scale so many times as large as the values need is named as the cause", source="two bits lost"
    )

    good: ClassVar[tuple[Example, ...]] = (
        Example(
            _quantised("0.787402, 0.00236220", "127, 127"),
            reference=_FLOAT,
            samples=_uneven,
            why="Every channel has its own scale.",
        ),
    )
    bad: ClassVar[tuple[Example, ...]] = (
        Example(
            _quantised("0.787402", "127, 0"),
            reference=_FLOAT,
            samples=_uneven,
            flags=("depthwise",),
            why="With one scale for both, the channel that matters becomes zero.",
        ),
    )

    def culprits(self, facts: Facts, compared: Compared) -> Iterator[Finding | Silence]:
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
            else:
                yield Silence(row.location, _alone(row))

    def _report(
        self,
        facts: Facts,
        compared: Compared,
        row: ComparedRow,
        layer: ComparedRow,
        weight: WeightReading,
        alone: float | None,
    ) -> Finding:
        found = self.report(
            compared,
            layer,
            layer.location,
            self._words(weight),
            shown_at=row,
            lasting=_behind(self._words(weight), row) if row is not layer else "",
            part="weight",
            tensor=weight.tensor,
            alone_db=alone,
            metrics={
                "weight_sqnr_db": weight.sqnr_db,
                "channels": int(weight.channels_db.size),
                "lost_channels": self._lost(weight),
                "empty_channels": len(weight.empty),
                "channels_named": _named(weight.empty),
                "mean_channel_sqnr_db": float(weight.channels_db.mean()) if weight.channels_db.size else None,
                "scale_excess": weight.excess,
            },
            remedy=self._remedy(facts, layer, weight),
        )
        empty = f"Of {layer.node!r}, channels {_named(weight.empty)} hold only the zero point."
        return replace(found, causes=(empty,) if weight.empty else ())

    def _lost(self, weight: WeightReading) -> int:
        return int(np.count_nonzero(weight.channels_db < self.lost_db))

    def _words(self, weight: WeightReading) -> str:
        if weight.sqnr_db is None or not math.isfinite(weight.sqnr_db):
            return f"The weight {weight.tensor!r} differs from the float one"
        if weight.excess > self.coarse_ratio:
            return f"The weight {weight.tensor!r} has a scale {weight.excess:.3g} times too large"
        lost, channels = self._lost(weight), weight.channels_db.size
        if weight.empty:
            return f"{len(weight.empty)} of {channels} channels of {weight.tensor!r} hold only the zero point"
        if lost:
            return f"The weight {weight.tensor!r} loses {lost} of {channels} channels"
        return f"The weight {weight.tensor!r} loses too much to rounding"

    def _remedy(self, facts: Facts, row: ComparedRow, weight: WeightReading) -> Remedy:
        excluded = (row.reference_node,) if row.reference_node else ()
        if row.op_type == "ConvInteger":
            # ONNX Runtime's CPU kernel takes one zero point of the weight, so no scale a channel either.
            return Remedy(
                "Quantise the layer statically, with a scale a channel. Or keep it in float.", nodes_to_exclude=excluded
            )
        if row.op_type == "MatMulInteger" and weight.scales <= 1:
            return Remedy(
                "Give every output channel its own scale. Or keep the layer in float. Untried.",
                snippet="quantize_dynamic(..., per_channel=True)",
            )
        if weight.excess > self.coarse_ratio:
            return Remedy(
                "Give the weight the scale absmax / 127. Quantisers enlarge it where the int32 bias would overflow: a "
                "larger input scale or a smaller bias avoids that. Or keep the layer in float.",
                nodes_to_exclude=excluded,
            )
        if weight.scales > 1:
            return Remedy(
                "Keep the layer in float: every channel has its own scale already.", nodes_to_exclude=excluded
            )
        if facts.model.opset < PER_CHANNEL_OPSET:
            return Remedy(
                f"Give every output channel its own scale: export the float model at opset {PER_CHANNEL_OPSET} or "
                "higher first. Or keep the layer in float.",
                nodes_to_exclude=excluded,
            )
        return Remedy(
            "Give every output channel its own scale. Or keep the layer in float.",
            change=Requantisation(per_channel=True),
        )


def _behind(what: str, row: ComparedRow) -> str:
    return f"{what}: {decibel(row.sqnr_db)} are left behind {row.node!r}"


def _named(channels: Sequence[int]) -> str:
    more = f" and {len(channels) - _FEW} more" if len(channels) > _FEW else ""
    return f"{', '.join(map(str, channels[:_FEW]))}{more}"


def _alone(row: ComparedRow) -> str:
    """What the weight of a row alone leaves, as far as it was tried."""
    if row.weight is None:
        return "it has no weight"
    alone = row.weight.alone_db if row.weight.alone_db is not None else row.weight.sqnr_db
    return f"its weight alone leaves {decibel(alone)}"
