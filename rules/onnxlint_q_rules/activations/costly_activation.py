"""Activations that make up most of the noise under a scheme that the network does not survive.

Each tensor is quantised alone, on the calibration data. With `noise = 10^(-sqnr_db / 10)` the rule takes the smallest
set of tensors that make at least nine tenths of the summed noise, and names those of them that matter alone:

    sum_(t in set) noise_t >= 0.9 sum_t noise_t,    sqnr_db_t < 20

Every tensor that the quantiser rounds counts: results of layers, sums, gates and concatenations, and inputs of the
model. The rule says what costs the output, not why. Where another rule tells the cause of the same damage, only that
one is reported.
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
)
from onnxlint_q_rules.costs import Costly

_NETWORK = """
<ir_version: 8, opset_import: ["" : 17]>
residual (float[N, 4, 8, 8] x, float[N, 4, 8, 8] offset) => (float[N, 4, 8, 8] y) {
  [raised] s = Add(x, offset)
  [restored] y = Sub(s, offset)
}
"""


def _raised(height: float) -> Mapping[str, npt.NDArray[np.float32]]:
    random = np.random.default_rng(0)
    values = random.normal(size=(16, 4, 8, 8)).astype(np.float32)
    return {"x": values, "offset": np.full_like(values, height)}


@dataclass(frozen=True)
class CostlyActivation(Costly):
    """An activation makes much of the noise under a scheme that the model does not survive.

    ## What it does
    Takes each scheme that the model does not survive on the calibration data, quantises every tensor alone, and names
    the activations among the few tensors that make nine tenths of the noise.

    ## Why it breaks INT8
    What these tensors lose reaches the output. The others make a tenth of the noise, so changing them does not bring
    the model back.

    ## What to do
    Keep the tensor in float or in 16 bits, at every operator that writes or reads it. If another rule knows the cause,
    it reports the tensor instead of this one.

    ## Sources
    Leave-one-in sensitivity, as in Wu et al., Integer Quantization for Deep Learning Inference, arXiv 2004.09602,
    section 5.3.
    """

    code: ClassVar[str] = "QA004"
    name: ClassVar[str] = "costly-activation"
    rewrites: ClassVar[tuple[str, ...]] = ("cross-layer-equalisation", "joined-outputs")
    kind: ClassVar[Subject] = Subject.ACTIVATION
    advice: ClassVar[str] = "Keep the tensor in float or in 16 bits, at every operator that writes or reads it."

    good: ClassVar[tuple[Example, ...]] = (
        Example(_NETWORK, samples=lambda _: _raised(0.0), why="Nothing is raised, and the model survives."),
    )
    bad: ClassVar[tuple[Example, ...]] = (
        Example(
            _NETWORK,
            flags=("raised",),
            samples=lambda _: _raised(1000.0),
            why="One step of the sum is as wide as the whole result after the offset is subtracted.",
        ),
    )

    def what(self, facts: Facts, cost: TensorCost, where: Location) -> str:
        """The activation, by what makes it."""
        return f"the result of {where.label!r}" if where.op_type else f"the input {where.output!r}"

    def form(self, scheme: Scheme) -> str:
        """That of activations."""
        assert scheme.activations is not None
        return scheme.activations.name
