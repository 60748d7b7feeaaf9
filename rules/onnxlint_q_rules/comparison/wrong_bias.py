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

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from onnxlint_q import BiasReading, Compared, ComparedRow, Example, Facts, Finding, Silence
from onnxlint_q_rules.comparison.jumps import JumpRule, decibel

# A factor so near to 1 is rounding.
_SAME = 0.05
# Further layers that are named.
_FEW = 3

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
        """Each bias that takes part in a jump, told where it costs most; layers may share one."""
        found: dict[str, list[tuple[ComparedRow, BiasReading]]] = {}
        for row in self.jumps(compared):
            bias = self.bias(row)
            if bias is None:
                alone = f"its bias alone leaves {decibel(row.bias.alone_db)}" if row.bias else "it has no bias"
                yield Silence(row.location, alone)
            else:
                found.setdefault(bias.tensor, []).append((row, bias))
        for places in found.values():
            yield self._report(compared, sorted(places, key=lambda place: place[0].sqnr_db or 0.0))

    def _report(self, compared: Compared, places: Sequence[tuple[ComparedRow, BiasReading]]) -> Finding:
        row, bias = places[0]
        finding = self.report(
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
        others = [compared.row(key) for key in compared.constants.get(bias.tensor, ()) if key != row.quantized]
        readers = [f"{other.node!r} ({_off(other.bias)})" for other in others if other is not None and other.bias]
        more = f" and {len(readers) - _FEW} more" if len(readers) > _FEW else ""
        return replace(
            finding,
            places=tuple(other.location for other, _ in places[1:]),
            causes=(f"Its codes serve further layers: {', '.join(readers[:_FEW])}{more}.",) if readers else (),
        )


def _off(bias: BiasReading) -> str:
    if bias.factor is None:
        return "not the float one"
    if abs(bias.factor - 1) < _SAME:
        return "as in the float file"
    return f"{1 / bias.factor:.3g} times too small" if 0 < bias.factor < 1 else f"{bias.factor:.3g} times the float one"


def _what(bias: BiasReading) -> str:
    if bias.factor is None or abs(bias.factor - 1) < _SAME:
        return f"The bias {bias.tensor!r} is not that of the float model"
    off = _off(bias)
    if bias.beta != 1:
        return f"The bias {bias.tensor!r} was stored as if beta ({bias.beta:g}) were 1, and is {off}"
    if bias.alpha != 1 and abs(bias.factor / bias.alpha - 1) < _SAME:
        return f"The bias {bias.tensor!r} was scaled as if alpha ({bias.alpha:g}) were 1, and is {off}"
    return f"The bias {bias.tensor!r} is {off}"


def _remedy(bias: BiasReading) -> str:
    alpha = "alpha times " if bias.alpha != 1 else ""
    return f"Quantise the bias again as int32, with the scale {alpha}that of the input times that of the weight." + (
        " Or multiply the weight by alpha in the float model, and set alpha to 1." if alpha else ""
    )
