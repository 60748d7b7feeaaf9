"""Activations that make up most of the noise under a scheme that the network does not survive.

Each tensor is quantised alone, on the calibration data. With `noise = 10^(-sqnr_db / 10)` the rule names the smallest
set of tensors whose noise is at least nine tenths of the sum over all of them, as far as each matters alone:

    sum_(t in set) noise_t >= 0.9 sum_t noise_t,    sqnr_db_t < 20

Any tensor that the quantiser rounds counts: results of layers, of sums, gates and joints, and inputs of the model. It
says what costs the output, not why. Where another rule tells the cause of the same damage, that one stands.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from onnxlint_q import SCHEMES, Confidence, Example, Facts, Finding, Rule, Severity, Silence, Subject, option
from onnxlint_q_rules.costs import place, told

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
class CostlyActivation(Rule):
    """An activation that makes up much of the noise under a scheme that the model does not survive.

    ## What it does
    Takes each scheme that the measurement on the calibration data shows the model not to survive, quantises every
    tensor alone, and names the activations among the few that make up nine tenths of the noise.

    ## Why it breaks INT8
    What these tensors lose reaches the output. The others together make a tenth of the noise, so nothing that is done
    about them brings the model back.

    ## What to do
    Keep the tensor in float or in 16 bits: all operators that write or read it have to leave it so. A finding of
    another rule about the same tensor tells the cause.

    ## Sources
    Leave-one-in sensitivity, as in Wu et al., Integer Quantization for Deep Learning Inference, arXiv 2004.09602,
    section 5.3.
    """

    code: ClassVar[str] = "QA004"
    name: ClassVar[str] = "costly-activation"
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
        Example(_NETWORK, samples=lambda _: _raised(0.0), why="nothing is raised, and the model survives"),
    )
    bad: ClassVar[tuple[Example, ...]] = (
        Example(
            _NETWORK,
            flags=("raised",),
            samples=lambda _: _raised(1000.0),
            why="one step of the sum is as wide as what is left once the offset is taken back",
        ),
    )

    def check(self, facts: Facts) -> Iterator[Finding | Silence]:
        """Each scheme that the model does not survive."""
        for found in told(facts, Subject.ACTIVATION, self.share, self.below_db):
            if isinstance(found, Silence):
                yield found
                continue
            number, where = SCHEMES[found.cost.scheme].activations, place(facts, found.cost)
            assert number is not None
            what = f"the result of {where.label}" if where.op_type else f"the input {where.output!r}"
            yield self.finding(
                where,
                found.message(what, number.name),
                metrics=found.metrics,
                remedy="keep the tensor in float or in 16 bits, at every operator that writes or reads it",
                claim=found.claim,
            )
