"""A bias of a Gemm that is no vector, which `quantize_static` cannot give one scale a channel.

A Gemm adds its bias by broadcasting: a vector of N, `[1, N]`, one value, or a matrix. With `per_channel=True` ONNX
Runtime 1.32.0 walks the entries along the bias's first axis, one for each channel of the weight:

| shape | what quantize_static(per_channel=True) raises |
|---|---|
| `[1, N]`, `[M, N]` | ValueError: the truth value of an array with more than one element is ambiguous |
| `[]`, `[1]`, `[1, 1]`, `[M, 1]` | IndexError |

With one scale for the weight all of them are right; so is a bias of one value where there is one channel.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from onnxlint_q import (
    ROOT,
    Confidence,
    Example,
    Facts,
    Finding,
    LayerFacts,
    Product,
    Rule,
    Severity,
    Silence,
    locate,
    option,
    whole_model,
)
from onnxlint_q_rules.finer_scales import needs_channels


def _model(bias: str) -> str:
    return f"""
<ir_version: 8, opset_import: ["" : 17]>
dense (float[N, 2] x) => (float[N, 2] y) <float[2, 2] w = {{1.0, 0.2, -0.3, 0.9}}, {bias}> {{
  [dense] y = Gemm (x, w, b)
}}
"""


@dataclass(frozen=True)
class BiasWithoutAxis(Rule):
    """The bias of a Gemm is no vector, so it cannot have one scale a channel.

    ## What it does
    Looks for Gemm with a stored bias that has not one axis with an entry a channel: `[1, N]`, a single value, a matrix.
    It is a warning where the network needs one scale a channel, and an info elsewhere.

    ## Why it breaks INT8
    `quantize_static(per_channel=True)` fails there with a ValueError or an IndexError that names neither node nor
    tensor. With one scale a tensor it works.

    ## What to do
    Store the bias as a vector: `fix` does it (gemm-operands), and the float model computes the same.

    ## Sources
    onnxruntime 1.32.0, quantization/base_quantizer.py (quantize_bias_static_impl), measured.
    """

    code: ClassVar[str] = "QG012"
    name: ClassVar[str] = "bias-without-axis"
    severity: ClassVar[Severity] = Severity.WARNING
    confidence: ClassVar[Confidence] = Confidence.HIGH
    rewrites: ClassVar[tuple[str, ...]] = ("gemm-operands",)

    gain_db: float = option(
        1.0, doc="one scale a channel is needed if it brings so many dB more", source="as for opset-blocks-per-channel"
    )

    good: ClassVar[tuple[Example, ...]] = (Example(_model("float[2] b = {3, -4}"), why="One entry a channel."),)
    bad: ClassVar[tuple[Example, ...]] = (
        Example(_model("float[1, 2] b = {3, -4}"), flags=("dense",), why="The first axis has one entry."),
        Example(_model("float b = {3}"), flags=("dense",), why="One value has no axis."),
    )

    def check(self, facts: Facts) -> Iterator[Finding | Silence]:
        """One finding for all such Gemm of the main graph, at the first."""
        found = [(layer, shape) for layer in facts.layers if (shape := _shape(facts, layer)) is not None]
        if not found:
            yield Silence(whole_model(facts), "every stored bias of a Gemm has an entry a channel")
            return
        (first, shape), *others = found
        more = f" and {len(others)} more" if others else ""
        yield self.finding(
            locate(facts, first),
            f"quantize_static(per_channel=True) fails on {first.node.label!r}{more}: its bias has shape {list(shape)}",
            remedy="Store the bias as a vector with one entry a channel; the float model computes the same.",
            metrics={"bias": first.folded.layer.bias, "shape": str(list(shape)), "layers": len(found)},
            places=[locate(facts, layer) for layer, _ in others],
            severity=Severity.WARNING if needs_channels(facts, self.gain_db) else Severity.INFO,
        )


def _shape(facts: Facts, layer: LayerFacts) -> tuple[int, ...] | None:
    """Shape of a stored bias that has not an entry a channel along its first axis; None of any other."""
    inner = layer.folded.layer
    if not facts.is_float or inner.inputs.product is not Product.GEMM or layer.node.graph != ROOT or not inner.bias:
        return None
    bias = facts.model.constant(inner.bias)
    if bias is None or bias.shape == (inner.channels,) or inner.channels == 1:
        return None
    return tuple(int(dim) for dim in bias.shape)
