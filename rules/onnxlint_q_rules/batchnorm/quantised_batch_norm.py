"""A BatchNormalization whose gains or variances are stored with one scale.

    y_c = gamma_c (x_c - mean_c) / sqrt(var_c + eps) + beta_c

Variances go over many decades. Under one scale `s` all below `s / 2` become 0, and the channel is multiplied by
`gamma_c / sqrt(eps)`: up to 300 times too much at `eps = 1e-5`. A gain below four steps is wrong by an eighth and more.

Variances of 0 count where the gain is not 0 and half a step is over epsilon. Gains count where half of those that are
not 0 have fewer than four steps; a gain of 0 may have been one.

Sources: onnxruntime/python/tools/quantization/operators/norm.py, 1.32.0 (one int8 scale for the scale of a
normalisation); measured on a residual network: 14 of 16 variances at 0 leave -9.2 dB.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from onnxlint_q import Confidence, Example, Facts, Finding, Node, Remedy, Rule, Severity, Silence, option
from onnxlint_q_rules.batchnorm.rounded_parameters import (
    Rounded,
    rounded_gains,
    rounded_variances,
)


def _model(variances: str, gains: str = "100, 90, 80, 120") -> str:
    return f"""
<ir_version: 8, opset_import: ["" : 17]>
norm (float[N, 4, 4, 4] x) => (float[N, 4, 4, 4] y)
<int8[4] qv = {{{variances}}}, float sv = {{2.5}}, int8 zero = {{0}}, int8[4] qg = {{{gains}}}, float sg = {{0.01}},
 float[4] mean = {{0, 0, 0, 0}}, float[4] beta = {{0, 0, 0, 0}}> {{
  v = DequantizeLinear(qv, sv, zero)
  g = DequantizeLinear(qg, sg, zero)
  [norm] y = BatchNormalization(x, g, beta, mean, v)
}}
"""


@dataclass(frozen=True)
class QuantisedBatchNorm(Rule):
    """One scale for the variances or the gains of a BatchNormalization loses most of them.

    ## What it does
    Looks at each BatchNormalization that reads quantised parameters, and counts those that became 0 or keep under four
    steps of their scale.

    ## Why it breaks INT8
    A variance of 0 leaves only epsilon to divide by, so the channel grows by a factor of hundreds. A coarse gain is
    wrong by a large part of itself.

    ## What to do
    Leave the BatchNormalization in float, or fold it before quantising.

    ## Sources
    ONNX Runtime, quantization/operators/norm.py.
    """

    code: ClassVar[str] = "QB004"
    name: ClassVar[str] = "quantised-batch-norm"
    severity: ClassVar[Severity] = Severity.WARNING
    confidence: ClassVar[Confidence] = Confidence.HIGH
    supersedes: ClassVar[tuple[str, ...]] = ("QP001", "QP007", "QP008")

    coarse_share: float = option(
        0.5, doc="fraction of the channels with under four steps from which it is reported", source="the median channel"
    )

    good: ClassVar[tuple[Example, ...]] = (
        Example(_model("100, 90, 40, 127"), why="All variances are of one size."),
        Example(_model("100, 0, 40, 127", "100, 0, 80, 120"), why="The channel without a variance has no gain either."),
    )
    bad: ClassVar[tuple[Example, ...]] = (
        Example(_model("127, 0, 0, 0"), flags=("norm",), why="Three of four variances became 0."),
        Example(_model("100, 90, 40, 127", "127, 1, 1, 2"), flags=("norm",), why="Three gains have 1 or 2 steps."),
    )

    def check(self, facts: Facts) -> Iterator[Finding | Silence]:
        """Each BatchNormalization of a quantised file."""
        if facts.is_float:
            return
        for node in facts.model.nodes_of("BatchNormalization"):
            both = rounded_variances(facts.model, node), rounded_gains(facts.model, node)
            stored = [one for one in both if one is not None and one.coded]
            zeros = next((one for one in stored if one is both[0] and one.zeros), None)
            coarse = next((one for one in stored if one.coarse >= self.coarse_share * max(one.counted, 1)), None)
            if zeros is not None:
                yield self._zeros(facts, node, zeros)
            elif coarse is not None:
                yield self._coarse(facts, node, coarse)
            else:
                yield Silence(facts.model.locate(node), "its parameters have float values, or steps fine enough")

    def _zeros(self, facts: Facts, node: Node, found: Rounded) -> Finding:
        epsilon = node.float("epsilon", 1e-5)
        return self.finding(
            facts.model.locate(node),
            f"{found.zeros} of {found.steps.size} variances of {node.label!r} are 0 in {found.key!r}: one step of its "
            f"only scale is {found.step:.3g}, and epsilon is {epsilon:.0e}",
            severity=Severity.ERROR,
            metrics={
                "tensor": found.key,
                "zeros": found.zeros,
                "channels": int(found.steps.size),
                "step": found.step,
                "epsilon": epsilon,
            },
            remedy=_remedy(node),
        )

    def _coarse(self, facts: Facts, node: Node, found: Rounded) -> Finding:
        return self.finding(
            facts.model.locate(node),
            f"{found.coarse} of {found.steps.size} {found.what} of {node.label!r} have under four steps of the only "
            f"scale of {found.key!r}",
            metrics={
                "tensor": found.key,
                "coarse": found.coarse,
                "channels": int(found.steps.size),
                "step": found.step,
            },
            remedy=_remedy(node),
        )


def _remedy(node: Node) -> Remedy:
    return Remedy(
        "Leave the BatchNormalization in float, or fold it into a layer before quantising.",
        nodes_to_exclude=(node.name,) if node.name else (),
    )
