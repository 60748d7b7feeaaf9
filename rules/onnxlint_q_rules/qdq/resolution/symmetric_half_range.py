"""Activations that are never below zero, in a range as wide below zero as above it.

Under a zero point in the middle of the codes the range is `-max … max`. Of a tensor that ends at `low >= -max` below,
the codes beyond are never used, and a step is longer than it has to be:

    step / step of the range that is used = 2 max / (max + |low|),

so a Relu, a Sigmoid or a Softmax loses one bit: half of the codes, 6 dB at the tensor. The dips of SiLU, GELU and
HardSwish (0.28, 0.17, 0.38) cost nearly as much where the range is much wider than they are.

Between which values a tensor lies is what the file tells: bounded operators, constants, scales in front.

Measured on 10 networks, quantised by quantize_static with 16 samples, int8 activations: with asymmetric ranges 9 have
0.2 to 4.8 dB more at the output than with symmetric ones, 2.3 in the median. The tenth has 9 dB less: a tensor with
both signs reaches further below zero than in any of the 16 samples, and only its symmetric range was wide enough.
All of the 650 tensors that are named in 16 such files stay above zero in a run, or dip by 6 % of the upper end at most.

Sources: arithmetic; NVIDIA, Integer Quantization for Deep Learning Inference, arXiv 2004.09602, section 3.1 (affine and
scale quantisation); onnxruntime issue 21398.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite, log10
from typing import ClassVar

from onnxlint_q import (
    INT8_PER_TENSOR,
    Confidence,
    Example,
    Facts,
    Finding,
    Grid,
    KnownRanges,
    Range,
    Remedy,
    Requantisation,
    Rule,
    Severity,
    Silence,
    grid,
    option,
    read_target,
    whole_model,
)
from onnxlint_q_rules.qdq.pairs import Pairs, where

_HALF = 128
# In steps: as many codes on one side of the zero point as on the other, but for one.
_ONE_MORE = 1


def _model(made: str, codes: str = "int8", zero: int = 0) -> str:
    return f"""
<ir_version: 8, opset_import: ["" : 17]>
one (float[N, 8] x) => (float[N, 8] y)
<float s = {{0.05}}, {codes} z = {{{zero}}}> {{
  qx = QuantizeLinear(x, s, z)
  dx = DequantizeLinear(qx, s, z)
  {made}
  q = QuantizeLinear(a, s, z)
  y = DequantizeLinear(q, s, z)
}}
"""


@dataclass(frozen=True)
class SymmetricHalfRange(Rule):
    """Activations that are never negative are quantised symmetrically, so half of their codes are never used.

    ## What it does
    Finds activations of 8 bits whose zero point is in the middle of the codes, and which the file keeps from going
    below zero: behind Relu, Sigmoid, Softmax, Clip and what adds, joins or multiplies such values. Those behind SiLU,
    HardSwish and GELU count too if the dip is small in their range. Silent for a target that takes a zero point of 0
    only.

    ## Why it breaks INT8
    A step is twice as long as it has to be. That is one bit, or 6 dB at the tensor. At the output of nine networks it
    was 0.2 to 4.8 dB.

    ## What to do
    Quantise the activations asymmetrically, as uint8 or int8, and calibrate with enough samples: such ranges are no
    wider than these have shown. Keep them symmetric for a runtime that takes nothing else.

    ## Sources
    NVIDIA, Integer Quantization for Deep Learning Inference, arXiv 2004.09602; onnxruntime issue 21398.
    """

    code: ClassVar[str] = "QP017"
    name: ClassVar[str] = "symmetric-half-range"
    severity: ClassVar[Severity] = Severity.INFO
    confidence: ClassVar[Confidence] = Confidence.HIGH

    dip: float = option(
        0.05,
        doc="how far below zero a tensor may go, as a fraction of the upper end of its range",
        source="Model Compression Toolkit, shift_negative_ratio",
    )

    good: ClassVar[tuple[Example, ...]] = (
        Example(_model("[act] a = Relu(dx)", "uint8"), why="All codes of uint8 with zero point 0 are above zero."),
        Example(_model("[act] a = Tanh(dx)"), why="It goes as far below zero as above."),
        Example(_model("[act] a = Relu(dx)"), targets=("tensorrt",), why="TensorRT takes no other zero point."),
    )
    bad: ClassVar[tuple[Example, ...]] = (
        Example(_model("[act] a = Relu(dx)"), flags=("act",), why="Codes below zero are never used."),
        Example(
            _model("g = Sigmoid(dx)\n  [act] a = Mul(dx, g)"),
            flags=("act",),
            why="SiLU ends at -0.28, and the range at -6.4.",
        ),
    )

    def check(self, facts: Facts) -> Iterator[Finding | Silence]:
        """One finding for the model, at the first of the tensors."""
        symmetric = {name for name in facts.targets if INT8_PER_TENSOR.name in read_target(name).schemes}
        if symmetric:
            yield Silence(whole_model(facts), f"{min(symmetric)} takes a zero point of 0 only")
            return
        model, pairs = facts.model, Pairs(facts)
        held = {pair.codes: found for pair in pairs.unique() if (found := grid(model, pair)) is not None}
        known = KnownRanges(model, {codes: (one.low, one.high) for codes, one in held.items()})
        own = [pair for pair in pairs.unique() if pair.codes in held and pairs.moved_from(pair) is None]
        centred = [pair for pair in own if _is_centred(held[pair.codes])]
        half = [
            pair for pair in centred if self._is_one_sided(held[pair.codes], known.of(pair.unrounded or pair.tensor))
        ]
        if not half:
            yield Silence(whole_model(facts), "no activation that stays above zero has its zero point in the middle")
            return
        first, *others = (where(model, pair) for pair in half)
        yield self.finding(
            first,
            f"In {len(half)} of {len(own)} activations half of the codes are for values below zero, which do not occur",
            metrics={"tensors": len(half), "activations": len(own), "unused_codes": _HALF, "lost_db": 20 * log10(2)},
            remedy=Remedy(
                "Quantise the activations asymmetrically: a step is half as long then. "
                "If the target takes a zero point of 0 only, name it with --target, and this is not told.",
                change=Requantisation(options=("activation_type=QuantType.QUInt8",)),
            ),
            places=others,
        )

    def _is_one_sided(self, held: Grid, values: Range) -> bool:
        return isfinite(values[0]) and -values[0] <= self.dip * held.high


def _is_centred(held: Grid) -> bool:
    """Whether eight bits reach as far below zero as above."""
    return held.number.bits == 8 and abs(held.high + held.low) <= _ONE_MORE * held.scale
