"""BatchNormalizations that stay in the graph.

A BatchNormalization folds exactly into the layer before it if nothing else reads what lies between, and into the
layer after it if that does not pad. One that stays is quantised on its own by ONNX Runtime: its scale, with one value
a channel, gets one int8 scale for all of them, as a depthwise 1x1 layer would, and its input and output two more
roundings.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from onnxlint_q import (
    Blocker,
    Confidence,
    Example,
    Facts,
    Finding,
    Rule,
    Severity,
    Silence,
    keep_float,
    quantize_static_call,
)
from onnxlint_q_rules.batchnorm.gains import folds

_REMEDIES: Mapping[Blocker, str] = {
    Blocker.TRAINING: "Export the model in evaluation mode, for instance after `model.eval()`.",
    Blocker.PARAMETERS: "Export gamma, beta, mean and variance as constants (constant folding on).",
    Blocker.CHANNELS: "Move the normalisation to the layer's output channels, or keep it in float.",
    Blocker.FACTORS: "Multiply the Gemm's alpha and beta into its weight and bias and leave them at 1.",
    Blocker.NO_LAYER: "No layer can take it. If one layer alone reads it, without padding, let it fold forward; "
    "else keep it in float.",
    Blocker.ACTIVATION: "Swap the activation and the normalisation in the architecture and fine-tune, or keep it in "
    "float.",
    Blocker.OTHER_NODE: "Move the operator between the layer and the normalisation behind the normalisation where "
    "that is exact, or keep it in float.",
    Blocker.CONSUMERS: "Give the other reader its own copy of the layer, or let it read the normalised result.",
    Blocker.SHARED_WEIGHT: "Give each layer its own copy of the weight, then fold.",
    Blocker.SHARED_BIAS: "Export the layer's bias as a constant.",
    Blocker.PADDING: "Pad in an operator of its own before the normalisation, with the value that it maps to zero, "
    "or keep it in float.",
    Blocker.SUBGRAPH: "Inline the If or Loop, or put layer and normalisation into the same branch.",
}


@dataclass(frozen=True)
class UnfoldedBatchNorm(Rule):
    """A BatchNormalization cannot be folded into a layer.

    ## What it does
    Tries to fold every BatchNormalization of a float model backward and forward, and names what is in the way.

    ## Why it breaks INT8
    It is quantised on its own: one int8 scale for gains that differ from channel to channel, two more roundings, and
    an operator more at run time.

    ## What to do
    It depends on what is in the way; each finding says it. Keeping the node in float always works.

    ## Sources
    Yun & Wong, arXiv 2104.11849, eq. 1; microsoft/onnxruntime#9938.
    """

    code: ClassVar[str] = "QB003"
    name: ClassVar[str] = "unfolded-batch-norm"
    severity: ClassVar[Severity] = Severity.WARNING
    confidence: ClassVar[Confidence] = Confidence.HIGH

    good: ClassVar[tuple[Example, ...]] = (
        Example(
            """
<ir_version: 8, opset_import: ["" : 17]>
block (float[N, 1, 4, 4] x) => (float[N, 2, 4, 4] y)
<float[2, 1, 1, 1] w = {1.0, 2.0}, float[2] one = {1.0, 1.0}, float[2] zero = {0.0, 0.0}>
{
  [conv] features = Conv(x, w)
  [norm] y = BatchNormalization(features, one, zero, zero, one)
}
""",
            why="Nothing stands between the convolution and the normalisation.",
        ),
    )
    bad: ClassVar[tuple[Example, ...]] = (
        Example(
            """
<ir_version: 8, opset_import: ["" : 17]>
block (float[N, 1, 4, 4] x) => (float[N, 2, 4, 4] y)
<float[2, 1, 1, 1] w = {1.0, 2.0}, float[2] one = {1.0, 1.0}, float[2] zero = {0.0, 0.0}>
{
  [conv] features = Conv(x, w)
  [relu] positive = Relu(features)
  [norm] y = BatchNormalization(positive, one, zero, zero, one)
}
""",
            flags=("norm",),
            why="A Relu stands between the convolution and the normalisation.",
        ),
        Example(
            """
<ir_version: 8, opset_import: ["" : 17]>
block (float[N, 1, 4, 4] x) => (float[N, 2, 4, 4] y)
<float[2, 1, 1, 1] w = {1.0, 2.0}, float[2] one = {1.0, 1.0}, float[2] zero = {0.0, 0.0}>
{
  [conv] features = Conv(x, w)
  [norm] normal = BatchNormalization(features, one, zero, zero, one)
  [add] y = Add(normal, features)
}
""",
            flags=("norm",),
            why="The Add reads the convolution as it is, so the convolution cannot be changed.",
        ),
    )

    def check(self, facts: Facts) -> Iterator[Finding | Silence]:
        """Every BatchNormalization of a float model that stays."""
        for layer, norm in folds(facts):
            yield Silence(facts.model.locate(norm.node), f"it folds into {layer.node.op_type} {layer.node.label!r}")
        blocked = facts.blocked if facts.is_float else ()
        for item in blocked:
            other = f" (the {item.other.op_type} node {item.other.label!r})" if item.other is not None else ""
            yield self.finding(
                facts.model.locate(item.node),
                f"This BatchNormalization does not fold: {item.reason.value}{other}.",
                remedy=_REMEDIES[item.reason],
                snippet=quantize_static_call(keep_float(facts.freer, facts.freer.activation(item.node.output))),
                metrics={"reason": item.reason.name.lower()},
            )
