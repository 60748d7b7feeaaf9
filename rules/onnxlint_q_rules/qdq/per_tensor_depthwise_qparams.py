"""A quantised depthwise layer with one weight scale for channels that differ.

Channel `c` of a tensor with the scale `s` uses

    codes_c = (max w_c - min w_c) / s + 1,        average_precision = mean_c(range_c) / range_tensor   (eq. 2)

A depthwise channel sees one filter only, so nothing averages its loss out. The rule looks at the median
channel and asks for three bits, 8 codes; a channel whose codes are all zero uses one. On 176 depthwise layers of 12
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
    """One weight scale for all channels of a depthwise layer.

    ## What it does
    Counts the codes that each channel of a depthwise weight uses under its one scale, in a model that is quantised
    already.

    ## Why it breaks INT8
    A channel whose range is a sixteenth of the widest one keeps four bits of eight, and a depthwise layer has no
    other input to average the error with.

    ## What to do
    Quantise again per channel; below opset 13 convert the float model first. Where the target has no per-channel
    weights, equalise the channels across layers before quantising.

    ## Sources
    Yun & Wong, arXiv 2104.11849, eq. 2; neural-compressor issue 819; aimet issue 2474.
    """

    code: ClassVar[str] = "QP005"
    name: ClassVar[str] = "per-tensor-depthwise-qparams"
    severity: ClassVar[Severity] = Severity.WARNING
    confidence: ClassVar[Confidence] = Confidence.MEDIUM

    median_codes: float = option(
        8.0,
        doc="the median channel has to use fewer codes",
        source="arithmetic: three of eight bits are all that half of the channels use",
    )

    good: ClassVar[tuple[Example, ...]] = (
        Example(_NETWORK, weights=_even, why="one scale, but all channels use it"),
        Example(_NETWORK, weights=_per_channel, why="one scale a channel"),
    )
    bad: ClassVar[tuple[Example, ...]] = (
        Example(_NETWORK, flags=("depthwise",), weights=_narrow, why="15 of 16 channels have at most seven codes"),
    )

    def check(self, facts: Facts) -> Iterator[Finding]:
        """Each quantised depthwise layer whose weight has one scale."""
        for layer in facts.layers:
            scale = _one_scale(facts.model, layer) if layer.depthwise else None
            if scale is None or not np.any(layer.weight.absmax > 0):
                continue
            used = (layer.weight.high - layer.weight.low) / scale + 1
            median, precision = float(np.median(used)), layer.weight.average_precision
            if median >= self.median_codes:
                continue
            node = layer.node
            yield self.finding(
                facts.model.locate(node),
                f"the weight of depthwise {node.op_type} {node.label!r} has one scale for {used.size} channels, and "
                f"half of them use {median:.0f} codes or fewer (average precision {precision:.3f})",
                metrics={
                    "median_codes": median,
                    "fraction_under_16_codes": float(np.mean(used < 16)),
                    "average_precision": precision,
                },
                remedy=Remedy(
                    f"quantise the float model again with one scale a channel (opset {PER_CHANNEL_OPSET} or later); "
                    "where the target has none, equalise the channels across layers first",
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
