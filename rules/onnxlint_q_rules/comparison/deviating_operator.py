"""Operators that compute something else than in the float model.

This is what remains once everything quantised is ruled out. The error jumps at the operator: its SQNR is below
`broken_db`, while all that it reads is at or above `bad_db`. And

- neither its weight, nor its bias, nor another constant, nor the qparams of its result or of what it reads alone leave
  as little, and it lost no activation behind it, and
- it does not inherit the error: the float operator, fed with the quantised file's inputs, leaves at least
  `inherited_db` more. An operator that was not run alone, because it reads several values, is not reported.

Then the operator has other attributes, which are named, or other operands, or was fused wrongly. Or it depends on
differences of its inputs that are finer than one step.

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
    Silence,
)
from onnxlint_q_rules.comparison.jumps import JumpRule

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


_ROUNDED = "codes, scale, zero = DynamicQuantizeLinear (power)\n  read = DequantizeLinear (codes, scale, zero)"


def _rms(rounding: str) -> str:
    return f"""
<ir_version: 8, opset_import: ["" : 13]>
norm (float[16, 64] x) => (float[16, 64] y)
<float one = {{1}}, float eps = {{0.05}}> {{
  square = Mul (x, x)
  power = ReduceMean <axes = [-1], keepdims = 1> (square)
  {rounding or "read = Identity (power)"}
  held = Add (read, eps)
  [root] root = Sqrt (held)
  [inverse] inverse = Div (one, root)
  y = Mul (x, inverse)
}}
"""


def _one_loud(random: np.random.Generator) -> Mapping[str, npt.NDArray[np.float32]]:
    values = np.asarray(random.normal(size=(16, 64)), np.float32)
    values *= np.linspace(0.3, 1.2, 16, dtype=np.float32)[:, None]
    values[0] *= 60
    return {"x": values}


def _normal(random: np.random.Generator) -> Mapping[str, npt.NDArray[np.float32]]:
    return {"x": random.normal(size=(16, 64)).astype(np.float32)}


@dataclass(frozen=True)
class DeviatingOperator(JumpRule):
    """An operator computes something else than in the float model.

    ## What it does
    Reports operators where the error jumps although nothing quantised there explains it. The float operator, on the
    same inputs, does not make that error.

    ## Why it breaks INT8
    A lost activation function, other attributes or a wrong fusion change the network. No calibration repairs that.

    ## What to do
    Compare the attributes and operands of the operator in the two files. If they are equal, keep it in float.

    ## Sources
    Elimination of what the other rules about a pair look for.
    """

    code: ClassVar[str] = "QC004"
    name: ClassVar[str] = "deviating-operator"
    confidence: ClassVar[Confidence] = Confidence.MEDIUM

    good: ClassVar[tuple[Example, ...]] = (
        Example(_quantised("0.1"), reference=_FLOAT, samples=_normal, why="Both operators compute the same."),
        Example(
            _rms(_ROUNDED),
            reference=_rms(""),
            samples=_one_loud,
            why="Beside a loud row the others are rounded coarsely, and the reciprocal is large where they are small.",
        ),
    )
    bad: ClassVar[tuple[Example, ...]] = (
        Example(_quantised("1.0"), reference=_FLOAT, samples=_normal, flags=("bend",), why="The slope was lost."),
    )

    def culprits(self, facts: Facts, compared: Compared) -> Iterator[Finding | Silence]:
        """Each jump that nothing explains."""
        for row in self.jumps(compared):
            unmet = self._explained(compared, row)
            if unmet:
                yield Silence(row.location, unmet)
            else:
                yield self.report(
                    compared,
                    row,
                    row.location,
                    f"{row.op_type} computes something else {_how(row)}",
                    part="operator",
                    tensor=row.node,
                    alone_db=None,
                    metrics={"fused": row.fused, "differing": "; ".join(row.differing)},
                    remedy=Remedy(
                        "Compare the attributes and operands of the operator in the two files"
                        + (", and of those fused with it." if row.fused else ". If they are equal, keep it in float."),
                        # What belongs to the operator is not kept in float with it.
                        nodes_to_exclude=(row.reference_node,) if row.reference_node and not row.fused else (),
                    ),
                )

    def _explained(self, compared: Compared, row: ComparedRow) -> str:
        """What speaks for the operator; empty where nothing does."""
        # What was never tried alone is not ruled out to inherit its error.
        if row.sqnr_db is None or row.reads_db is None or row.inherited_db is None:
            return "the float operator was not run on the same inputs"
        if row.sqnr_db >= self.broken_db:
            return f"{row.sqnr_db:.1f} dB are left, not under {self.broken_db:g}"
        if row.reads_db < self.bad_db:
            return f"its inputs have {row.reads_db:.1f} dB, under {self.bad_db:g}"
        if self.inherits(row):
            return f"the float operator leaves {row.inherited_db:.1f} dB on the same inputs"
        parts = (self.weight(row), self.foreign(row), self.bias(row), next(self.roundings(compared, row), None))
        if any(part is not None for part in parts):
            return "its weight, its bias or a scale explains the jump"
        if row.missing or any(self.takes_part(row, held.alone_db) for held in row.parameters):
            return "an activation that is gone, or another constant, explains the jump"
        return ""


def _how(row: ComparedRow) -> str:
    """The first attribute that differs, where one does."""
    return f"({row.differing[0]})" if row.differing else "than in the float model"
