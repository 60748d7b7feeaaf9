"""Layers whose weight is not that of the float model.

Two layers that stand at one place in both networks have weights `w` and `wq`, `[channels, taps]`. Their likeness is the
larger of two cosines: that of the whole weights, blind to channels that one scale rounded to zero, and the mean of the
channels', blind to a factor on a channel. Rounded weights have 0.99 and more, unrelated ones of nine taps reach 0.5.

Source: arithmetic; the levels were measured on the layers of public float and int8 pairs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from onnxlint_q import Compared, Example, Facts, Finding, Severity, Silence
from onnxlint_q_rules.comparison.jumps import JumpRule

_FLOAT = """
<ir_version: 8, opset_import: ["" : 13]>
two_layers (float[1, 4] x) => (float[1, 4] y)
<float[4, 4] w1, float[4, 4] w2> {
  [first] a = MatMul(x, w1)
  b = Relu(a)
  [second] y = MatMul(b, w2)
}
"""
_QUANTISED = """
<ir_version: 8, opset_import: ["" : 13]>
two_layers (float[1, 4] x) => (float[1, 4] y)
<int8[4, 4] w1q, int8[4, 4] w2q, float s = {0.01}, int8 z = {0}> {
  w1d = DequantizeLinear(w1q, s, z)
  w2d = DequantizeLinear(w2q, s, z)
  [first] a = MatMul(x, w1d)
  b = Relu(a)
  [second] y = MatMul(b, w2d)
}
"""


def _weights(*, swapped: bool) -> Mapping[str, npt.NDArray[np.generic]]:
    random = np.random.default_rng(7)
    codes = [random.integers(-127, 127, (4, 4)).astype(np.int8) for _ in range(3)]
    made: dict[str, npt.NDArray[np.generic]] = {"w1": np.float32(0.01) * codes[0], "w2": np.float32(0.01) * codes[1]}
    return {**made, "w1q": codes[0], "w2q": codes[2 if swapped else 1]}


def _right(_: np.random.Generator) -> Mapping[str, npt.NDArray[np.generic]]:
    return _weights(swapped=False)


def _wrong(_: np.random.Generator) -> Mapping[str, npt.NDArray[np.generic]]:
    return _weights(swapped=True)


def _normal(random: np.random.Generator) -> Mapping[str, npt.NDArray[np.float32]]:
    return {"x": random.normal(size=(16, 4)).astype(np.float32)}


@dataclass(frozen=True)
class ForeignWeight(JumpRule):
    """A layer's weight is not that of the float model.

    ## What it does
    At each layer where the error jumps, checks whether the dequantised weight is the float one, rounded.

    ## Why it breaks INT8
    The file was made from another checkpoint, or the weight is stored in another layout. The layer then computes
    something else.

    ## What to do
    Quantise the layer again from this float model. Or compare with the float model that the file was made from.

    ## Sources
    Measured on the layers of public float and int8 pairs.
    """

    code: ClassVar[str] = "QC005"
    name: ClassVar[str] = "foreign-weight"
    severity: ClassVar[Severity] = Severity.ERROR

    good: ClassVar[tuple[Example, ...]] = (
        Example(_QUANTISED, reference=_FLOAT, weights=_right, samples=_normal, why="Both weights agree."),
    )
    bad: ClassVar[tuple[Example, ...]] = (
        Example(
            _QUANTISED,
            reference=_FLOAT,
            weights=_wrong,
            samples=_normal,
            flags=("second",),
            why="The second layer holds the weight of another network.",
        ),
    )

    def culprits(self, facts: Facts, compared: Compared) -> Iterator[Finding | Silence]:
        """Each layer that jumps and has another weight."""
        for row in self.jumps(compared):
            weight = self.foreign(row)
            if weight is None:
                like = f"the cosine of its weights is {row.weight.likeness:.2f}" if row.weight else "it has no weight"
                yield Silence(row.location, like)
                continue
            yield self.report(
                compared,
                row,
                row.location,
                f"The weight {weight.tensor!r} is not that of the float model",
                part="weight",
                tensor=weight.tensor,
                alone_db=None,
                metrics={"likeness": weight.likeness},
                remedy="Quantise this layer again from the float model. Or compare with the float model of this file.",
            )
