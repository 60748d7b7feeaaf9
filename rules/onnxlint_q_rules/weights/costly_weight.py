"""Weights that make up most of the noise under a scheme that the network does not survive.

Each tensor is quantised alone, on the calibration data. With `noise = 10^(-sqnr_db / 10)` the rule names the smallest
set of tensors whose noise is at least nine tenths of the sum over all of them, as far as each matters alone:

    sum_(t in set) noise_t >= 0.9 sum_t noise_t,    sqnr_db_t < 20

It says what costs the output, not why. Where another rule tells the cause of the same damage, that one stands.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from onnxlint_q import SCHEMES, Confidence, Example, Facts, Finding, Rule, Severity, Silence, Subject, Weights, option
from onnxlint_q_rules.costs import place, told

_NETWORK = """
<ir_version: 8, opset_import: ["" : 17]>
dense (float[N, 64] x) => (float[N, 8] y) {
  [classifier] y = Gemm(x, w)
}
"""


def _loud_input(ratio: float) -> Weights:
    """Input 0 hardly varies, and its weights are `ratio` times those of the others."""

    def make(random: np.random.Generator) -> dict[str, npt.NDArray[np.float32]]:
        weight = random.normal(size=(64, 8)).astype(np.float32)
        weight[0] *= ratio
        return {"w": weight}

    return make


def _quiet_first(random: np.random.Generator) -> Mapping[str, npt.NDArray[np.float32]]:
    values = random.normal(size=(16, 64)).astype(np.float32)
    values[:, 0] *= 1e-4
    return {"x": values}


@dataclass(frozen=True)
class CostlyWeight(Rule):
    """A weight that makes up much of the noise under a scheme that the model does not survive.

    ## What it does
    Takes each scheme that the measurement on the calibration data shows the model not to survive, quantises every
    tensor alone, and names the weights among the few that make up nine tenths of the noise.

    ## Why it breaks INT8
    What these tensors lose reaches the output. The others together make a tenth of the noise, so nothing that is done
    about them brings the model back.

    ## What to do
    Keep the layer in float, or give its weight 16 bits or finer scales. A finding of another rule about the same layer
    tells the cause.

    ## Sources
    Leave-one-in sensitivity, as in Wu et al., Integer Quantization for Deep Learning Inference, arXiv 2004.09602,
    section 5.3.
    """

    code: ClassVar[str] = "QW006"
    name: ClassVar[str] = "costly-weight"
    severity: ClassVar[Severity] = Severity.WARNING
    confidence: ClassVar[Confidence] = Confidence.MEDIUM
    needs_calibration: ClassVar[bool] = True

    share: float = option(
        0.9, doc="fraction of the noise whose causes are named", source="what is left is 10 dB below the whole"
    )
    below_db: float = option(
        20.0,
        doc="SQNR at the output (dB), the tensor alone quantised, under which it is told whatever its part of the loss",
        source="noise of 10 % of the signal, the level where layers are excluded",
    )

    good: ClassVar[tuple[Example, ...]] = (
        Example(_NETWORK, weights=_loud_input(1.0), samples=_quiet_first, why="all weights are alike"),
    )
    bad: ClassVar[tuple[Example, ...]] = (
        Example(
            _NETWORK,
            flags=("classifier",),
            weights=_loud_input(300.0),
            samples=_quiet_first,
            why="the weights of an input that hardly varies take all codes",
        ),
    )

    def check(self, facts: Facts) -> Iterator[Finding | Silence]:
        """Each scheme that the model does not survive."""
        for found in told(facts, Subject.WEIGHT, self.share, self.below_db):
            if isinstance(found, Silence):
                yield found
                continue
            layer, scheme = facts.layer_by_output[found.cost.tensor], SCHEMES[found.cost.scheme]
            yield self.finding(
                place(facts, found.cost),
                found.message(f"the weight of {layer.node.label}", scheme.weights.name),
                metrics=found.metrics,
                remedy="keep the layer in float, or give its weight 16 bits or finer scales",
                claim=found.claim,
            )
