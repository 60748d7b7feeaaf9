"""Operators that compute something else than in the float model.

What is left when everything that is quantised has been ruled out. The error jumps at the operator, SQNR lies below
`broken_db` although all that it reads lies at or above `bad_db`, and

- neither its weight, nor its bias, nor the qparams of its result or of what it reads alone leave as little, and
- it does not inherit the error: the float operator, fed with what the quantised file has at its inputs, leaves at least
  `inherited_db` more. One that was not run alone, as it reads several values, is not accused.

Then the operator has other attributes or operands, lost a rectifier, was fused wrongly, or tells fine differences of
its inputs apart that no input on a grid can show.

Source: elimination; the experiments are those of the other rules about a pair.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from onnxlint_q import (
    Compared,
    ComparedRow,
    Confidence,
    Example,
    Facts,
    Finding,
    Remedy,
    exclude_named,
    quantize_static_call,
)
from onnxlint_q_rules.comparison.jumps import JumpRule, fall

_FLOAT = """
<ir_version: 8, opset_import: ["" : 13]>
leaky (float[1, 64] x) => (float[1, 64] y)
{
  [bend] y = LeakyRelu <alpha = 0.1> (x)
}
"""


def _quantised(alpha: str) -> str:
    return f"""
<ir_version: 8, opset_import: ["" : 13]>
leaky (float[1, 64] x) => (float[1, 64] y)
<float s = {{0.03}}, int8 z = {{0}}> {{
  q = QuantizeLinear(x, s, z)
  d = DequantizeLinear(q, s, z)
  [bend] y = LeakyRelu <alpha = {alpha}> (d)
}}
"""


def _normal(random: np.random.Generator) -> Mapping[str, npt.NDArray[np.float32]]:
    return {"x": random.normal(size=(16, 64)).astype(np.float32)}


@dataclass(frozen=True)
class DeviatingOperator(JumpRule):
    """Operator that does not do what it does in the float model.

    ## What it does
    Reports operators at which the error jumps although nothing that is quantised there explains it, and the float
    operator would not have made that error of the same inputs.

    ## Why it breaks INT8
    A lost activation, other attributes or a wrong fusion change the network; no calibration brings it back.

    ## What to do
    Compare attributes and operands of the operator in the two files. If they are the same, keep it in float.

    ## Sources
    Elimination of what the other rules about a pair look for.
    """

    code: ClassVar[str] = "QC004"
    name: ClassVar[str] = "deviating-operator"
    confidence: ClassVar[Confidence] = Confidence.MEDIUM

    good: ClassVar[tuple[Example, ...]] = (Example(_quantised("0.1"), reference=_FLOAT, samples=_normal),)
    bad: ClassVar[tuple[Example, ...]] = (
        Example(_quantised("1.0"), reference=_FLOAT, samples=_normal, flags=("bend",), why="the slope was lost"),
    )

    def culprits(self, facts: Facts, compared: Compared) -> Iterator[Finding]:
        """Each jump that nothing explains."""
        for row in self.jumps(compared):
            if self._unexplained(compared, row):
                yield self.report(
                    compared,
                    row,
                    row.location,
                    f"the {row.op_type}{' with what was fused with it' if row.fused else ''} computes something else "
                    f"than in the float model: {fall(row)}",
                    part="operator",
                    tensor=row.node,
                    alone_db=None,
                    remedy=Remedy(
                        "compare attributes and operands of the operator in the two files"
                        + (
                            ", and of what was fused with it"
                            if row.fused
                            else "; if they are the same, keep it in float"
                        ),
                        # What belongs to the operator is not kept in float with it.
                        snippet="" if row.fused else quantize_static_call(exclude_named([row.reference_node])),
                    ),
                )

    def _unexplained(self, compared: Compared, row: ComparedRow) -> bool:
        # What was never tried alone is not ruled out to inherit its error.
        if row.sqnr_db is None or row.reads_db is None or row.inherited_db is None:
            return False
        if row.sqnr_db >= self.broken_db or row.reads_db < self.bad_db or self.inherits(row):
            return False
        parts = (self.weight(row), self.foreign(row), self.bias(row), next(self.roundings(compared, row), None))
        return all(part is None for part in parts)
