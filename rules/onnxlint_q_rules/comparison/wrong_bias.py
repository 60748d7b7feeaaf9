"""Quantised biases that make the error jump.

The bias of a layer is compared with the float one, folded the same way. A difference `d_c` in channel `c` moves every
value of the channel by `d_c`, so that alone it leaves

    alone = 10 log10( mean y^2 / mean_c d_c^2 )

at the layer's result `y`. Where it is a multiple of the float one, the factor is named: int32 codes are read with the
scale `alpha * x_scale * w_scale`, so that a bias that other layers share, or that forgot alpha, is off by just that.

Source: ONNX operator specification, QLinearConv (bias codes have the scale `x_scale * w_scale`): the codes are added as
they are, so any other scale is a constant error a channel.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from onnxlint_q import BiasReading, Compared, Example, Facts, Finding, Silence
from onnxlint_q_rules.comparison.jumps import JumpRule, decibel

# A factor so near to 1 is rounding.
_SAME = 0.05

_FLOAT = """
<ir_version: 8, opset_import: ["" : 13]>
shifted (float[1, 2, 4, 4] x) => (float[1, 2, 4, 4] y)
<float[2, 2, 1, 1] w = {1.0, 0.2, -0.3, 0.9}, float[2] b = {2.0, -3.0}> {
  [conv] y = Conv(x, w, b)
}
"""


def _quantised(bias_scale: str) -> str:
    return f"""
<ir_version: 8, opset_import: ["" : 13]>
shifted (float[1, 2, 4, 4] x) => (float[1, 2, 4, 4] y)
<int8[2, 2, 1, 1] wq = {{100, 20, -30, 90}}, float sw = {{0.01}}, int8 zw = {{0}},
 int32[2] bq = {{2000, -3000}}, float sb = {{{bias_scale}}}, int32 zb = {{0}}> {{
  w = DequantizeLinear(wq, sw, zw)
  b = DequantizeLinear(bq, sb, zb)
  [conv] y = Conv(x, w, b)
}}
"""


def _normal(random: np.random.Generator) -> Mapping[str, npt.NDArray[np.float32]]:
    return {"x": random.normal(size=(16, 2, 4, 4)).astype(np.float32)}


@dataclass(frozen=True)
class WrongBias(JumpRule):
    """A layer's bias is not that of the float model.

    ## What it does
    At each layer where the error jumps, compares the dequantised bias with the float one. Reports biases whose
    difference alone explains the error.

    ## Why it breaks INT8
    A wrong bias shifts whole channels by a constant, and nothing behind corrects that.

    ## What to do
    Quantise the bias again as int32, with the scale of the input times that of the weight.

    ## Sources
    ONNX operator specification, QLinearConv.
    """

    code: ClassVar[str] = "QC003"
    name: ClassVar[str] = "wrong-bias"
    supersedes: ClassVar[tuple[str, ...]] = ("QP004",)

    good: ClassVar[tuple[Example, ...]] = (
        Example(_quantised("0.001"), reference=_FLOAT, samples=_normal, why="Both files have one bias."),
    )
    bad: ClassVar[tuple[Example, ...]] = (
        Example(
            _quantised("0.0001"),
            reference=_FLOAT,
            samples=_normal,
            flags=("conv",),
            why="The scale of the bias is ten times too small.",
        ),
    )

    def culprits(self, facts: Facts, compared: Compared) -> Iterator[Finding | Silence]:
        """Each layer whose bias takes part in a jump."""
        for row in self.jumps(compared):
            bias = self.bias(row)
            if bias is None:
                alone = f"its bias alone leaves {decibel(row.bias.alone_db)}" if row.bias else "it has no bias"
                yield Silence(row.location, alone)
                continue
            yield self.report(
                compared,
                row,
                row.location,
                _what(bias),
                part="bias",
                tensor=bias.tensor,
                alone_db=bias.alone_db,
                metrics={"difference": bias.difference, "factor": bias.factor, "alpha": bias.alpha},
                remedy=_remedy(bias),
            )


def _what(bias: BiasReading) -> str:
    if bias.factor is None or abs(bias.factor - 1) < _SAME:
        return f"The bias {bias.tensor!r} is not that of the float model"
    if bias.alpha != 1 and abs(bias.factor / bias.alpha - 1) < _SAME:
        return f"The bias {bias.tensor!r} was scaled as if alpha ({bias.alpha:g}) were 1, and is {bias.factor:.3g} times the float one"
    return f"The bias {bias.tensor!r} is {bias.factor:.3g} times that of the float model"


def _remedy(bias: BiasReading) -> str:
    alpha = "alpha times " if bias.alpha != 1 else ""
    return (
        f"Quantise the bias again as int32, with the scale {alpha}that of the input times that of the weight."
        + (" Or multiply the weight by alpha in the float model, and set alpha to 1." if alpha else "")
    )
