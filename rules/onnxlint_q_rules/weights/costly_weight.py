"""Weights that make up most of the noise under a scheme that the network does not survive.

Each tensor is quantised alone, on the calibration data. With `noise = 10^(-sqnr_db / 10)` the rule takes the smallest
set of tensors that make at least nine tenths of the summed noise, and names those of them that matter alone:

    sum_(t in set) noise_t >= 0.9 sum_t noise_t,    sqnr_db_t < 20

The rule says what costs the output, not why. Where another rule tells the cause of the same damage, only that one is
reported.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from onnxlint_q import (
    Example,
    Facts,
    Location,
    Scheme,
    Subject,
    TensorCost,
    Weights,
)
from onnxlint_q_rules.costs import Costly

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
class CostlyWeight(Costly):
    """A weight makes much of the noise under a scheme that the model does not survive.

    ## What it does
    Takes each scheme that the model does not survive on the calibration data, quantises every tensor alone, and names
    the weights among the few tensors that make nine tenths of the noise.

    ## Why it breaks INT8
    What these tensors lose reaches the output. The others make a tenth of the noise, so changing them does not bring
    the model back.

    ## What to do
    Keep the layer in float, or give its weight 16 bits or finer scales. If another rule knows the cause, it reports the
    layer instead of this one.

    ## Sources
    Leave-one-in sensitivity, as in Wu et al., Integer Quantization for Deep Learning Inference, arXiv 2004.09602,
    section 5.3.
    """

    code: ClassVar[str] = "QW006"
    name: ClassVar[str] = "costly-weight"
    rewrites: ClassVar[tuple[str, ...]] = ("constant-channels", "observed-constants", "cross-layer-equalisation")
    kind: ClassVar[Subject] = Subject.WEIGHT
    advice: ClassVar[str] = "Keep the layer in float, or give its weight 16 bits or finer scales."

    good: ClassVar[tuple[Example, ...]] = (
        Example(_NETWORK, weights=_loud_input(1.0), samples=_quiet_first, why="All weights are alike."),
    )
    bad: ClassVar[tuple[Example, ...]] = (
        Example(
            _NETWORK,
            flags=("classifier",),
            weights=_loud_input(300.0),
            samples=_quiet_first,
            why="The weights of an input that hardly varies take all codes.",
        ),
    )

    def what(self, facts: Facts, cost: TensorCost, where: Location) -> str:
        """The weight, by its layer."""
        return f"the weight of {where.label!r}"

    def form(self, scheme: Scheme) -> str:
        """That of weights."""
        return scheme.weights.name
