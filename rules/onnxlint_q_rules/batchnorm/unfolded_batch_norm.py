"""BatchNormalizations that stay in the graph.

A BatchNormalization folds exactly into the layer before it if nothing else reads what lies between, and into the
layer after it if that does not pad. One that stays is quantised on its own by ONNX Runtime: the factors of all its
channels share one int8 scale, as in a depthwise 1x1 layer, and its input and output are rounded once more. Its
variances share one, too: what is under half a step becomes 0, and the channel is multiplied by gamma / sqrt(epsilon).
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
    Remedy,
    Rule,
    Severity,
    Silence,
)
from onnxlint_q_rules.batchnorm.gains import folds
from onnxlint_q_rules.batchnorm.rounded_parameters import rounded_variances

_REMEDIES: Mapping[Blocker, str] = {
    Blocker.TRAINING: "Export the model in evaluation mode, for instance after `model.eval()`.",
    Blocker.PARAMETERS: "Export gamma, beta, mean and variance as constants (constant folding on).",
    Blocker.CHANNELS: "Move the normalisation to the layer's output channels, or keep it in float.",
    Blocker.FACTORS: "Multiply the Gemm's alpha and beta into its weight and bias and leave them at 1.",
    Blocker.NO_LAYER: "Keep it in float. If only one layer reads it, and that layer does not pad, it can fold forward.",
    Blocker.READER: "Keep it in float, or export the model with the normalisation behind a convolution.",
    Blocker.ACTIVATION: "Keep it in float, or swap the activation and the normalisation and fine-tune.",
    Blocker.OTHER_NODE: "Keep it in float, or move the other operator behind the normalisation where that is exact.",
    Blocker.CONSUMERS: "Give the other reader its own copy of the layer, or let it read the normalised result.",
    Blocker.SHARED_WEIGHT: "Give each layer its own copy of the weight, then fold.",
    Blocker.SHARED_BIAS: "Export the layer's bias as a constant.",
    Blocker.PADDING: "Keep it in float, or pad before the normalisation with the value that it maps to zero.",
    Blocker.SUBGRAPH: "Inline the If or Loop, or put layer and normalisation into the same branch.",
}


_REWRITES: Mapping[Blocker, tuple[str, ...]] = {
    Blocker.FACTORS: ("gemm-operands",),
    Blocker.SHARED_WEIGHT: ("shared-constants",),
}


@dataclass(frozen=True)
class UnfoldedBatchNorm(Rule):
    """A BatchNormalization cannot be folded into a layer.

    ## What it does
    Tries to fold every BatchNormalization of a float model into the layer before or after it, and names the obstacle.

    ## Why it breaks INT8
    It is quantised on its own: channels with different gains share one int8 scale, values are rounded twice more, and
    one more operator runs.

    ## What to do
    It depends on the obstacle; each finding says it. Keeping the node in float always works.

    ## Sources
    Yun & Wong, arXiv 2104.11849, eq. 1; microsoft/onnxruntime#9938.
    """

    code: ClassVar[str] = "QB003"
    name: ClassVar[str] = "unfolded-batch-norm"
    severity: ClassVar[Severity] = Severity.WARNING
    confidence: ClassVar[Confidence] = Confidence.HIGH
    rewrites: ClassVar[tuple[str, ...]] = ("gemm-operands", "shared-constants")

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
            lost = rounded_variances(facts.model, item.node)
            zeros = lost.zeros if lost is not None else 0
            alone = (
                f" One int8 scale would round {zeros} of {lost.steps.size} variances to 0." if lost and zeros else ""
            )
            other = f" ({item.other.op_type} {item.other.label!r})" if item.other is not None else ""
            yield self.finding(
                facts.model.locate(item.node),
                f"BatchNorm does not fold: {item.reason.value}{other}.{alone}",
                remedy=Remedy(
                    _REMEDIES[item.reason],
                    nodes_to_exclude=facts.freer.listed(facts.freer.activation(item.node.output)),
                ),
                metrics={"reason": item.reason.name.lower(), "variances_rounded_to_0": zeros},
                rewrites=_REWRITES.get(item.reason, ()),
            )
