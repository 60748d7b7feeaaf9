"""Constants of operators, other than weights and biases of products, that make the error jump.

A BatchNormalization that was not folded is `y = g x + b` with `g = gamma / sqrt(var + eps)` and `b = beta - g mean`.
Its own mean `m` and variance `v` tell what it reads, so that the constants of the quantised file, `g'` and `b'`, alone
leave

    alone = 10 log10( sum_c (g_c^2 v_c + (g_c m_c + b_c)^2)
                    / sum_c ((g'_c - g_c)^2 v_c + ((g'_c - g_c) m_c + b'_c - b_c)^2) )

Of other constants (gains of a normalisation, slopes, the gates of an LSTM or GRU) it is the mean noise-to-signal ratio
of their rows, as one gate or channel matters as much as another. A constant is a cause of a jump if that leaves at most
`takes_part_db` more than the whole quantised file has there.

Sources: Ioffe & Szegedy, Batch Normalization, arXiv 1502.03167, section 3.1; ONNX operator specification.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from onnxlint_q import Compared, Example, Facts, Finding, ParameterReading, Remedy, Silence, Trait
from onnxlint_q_rules.comparison.jumps import JumpRule, decibel

_FLOAT = """
<ir_version: 8, opset_import: ["" : 13]>
residual (float[1, 4, 2, 2] x) => (float[1, 4, 2, 2] y)
<float[4] scale = {1, 1, 1, 1}, float[4] beta = {0, 0, 0, 0}, float[4] mean = {0, 0, 0, 0},
 float[4] var = {100, 0.01, 0.04, 25}> {
  sum = Add(x, x)
  [norm] y = BatchNormalization(sum, scale, beta, mean, var)
}
"""


def _quantised(scale: str, codes: str) -> str:
    return f"""
<ir_version: 8, opset_import: ["" : 13]>
residual (float[1, 4, 2, 2] x) => (float[1, 4, 2, 2] y)
<float[4] scale = {{1, 1, 1, 1}}, float[4] beta = {{0, 0, 0, 0}}, float[4] mean = {{0, 0, 0, 0}},
 int8[4] var_q = {{{codes}}}, float[{len(scale.split(","))}] s = {{{scale}}}> {{
  var = DequantizeLinear <axis = 0> (var_q, s)
  sum = Add(x, x)
  [norm] y = BatchNormalization(sum, scale, beta, mean, var)
}}
"""


def _spread(random: np.random.Generator) -> Mapping[str, npt.NDArray[np.float32]]:
    deviations = np.array([5, 0.05, 0.1, 2.5]).reshape(1, 4, 1, 1)
    return {"x": (random.normal(size=(16, 4, 2, 2)) * deviations).astype(np.float32)}


@dataclass(frozen=True)
class LossyParameter(JumpRule):
    """A quantised constant of a normalisation or a recurrent cell makes the error jump.

    ## What it does
    At each operator where the error jumps, compares gains, variances, slopes and recurrent weights with those of the
    float file. Reports those that explain the error, and how many of their values are lost.

    ## Why it breaks INT8
    Such values lie many decades apart. With one scale for all the small ones become zero, and the variance of a
    BatchNormalization stands under a root in a denominator.

    ## What to do
    Fold the BatchNormalization before quantising, or keep the constant in float. Give each row of a recurrent weight
    its own scale.

    ## Sources
    Ioffe & Szegedy, Batch Normalization, arXiv 1502.03167; ONNX operator specification.
    """

    code: ClassVar[str] = "QC006"
    name: ClassVar[str] = "lossy-parameter"
    supersedes: ClassVar[tuple[str, ...]] = ("QW007",)

    good: ClassVar[tuple[Example, ...]] = (
        Example(
            _quantised("0.787402, 0.0000787, 0.000315, 0.19685", "127, 127, 127, 127"),
            reference=_FLOAT,
            samples=_spread,
            why="Every variance has its own scale.",
        ),
    )
    bad: ClassVar[tuple[Example, ...]] = (
        Example(
            _quantised("0.787402", "127, 0, 0, 32"),
            reference=_FLOAT,
            samples=_spread,
            flags=("norm",),
            why="Two of four variances round to zero, so their channels are amplified without bound.",
        ),
    )

    def culprits(self, facts: Facts, compared: Compared) -> Iterator[Finding | Silence]:
        """The worst constant of each operator that jumps, or in front of one that only amplifies."""
        for row in self.jumps(compared):
            before = [compared.row(key) for key in row.reads] if self.inherits(row) else []
            holders = [row, *(holder for holder in before if holder is not None)]
            taking = [
                (holder, held)
                for holder in holders
                for held in holder.parameters
                if self.takes_part(row, held.alone_db)
            ]
            if not taking:
                yield Silence(row.location, "no constant of its operators explains the jump")
                continue
            holder, worst = max(taking, key=lambda pair: (pair[1].zeros, pair[1].lost, -pair[1].alone_db))
            yield self.report(
                compared,
                holder,
                worst.location,
                _what(worst),
                shown_at=row,
                part="parameter",
                tensor=worst.tensor,
                alone_db=worst.alone_db,
                metrics={
                    "parameter": worst.what,
                    "parameter_sqnr_db": worst.sqnr_db,
                    "values": worst.rows,
                    "lost": worst.lost,
                    "zeros": worst.zeros,
                },
                lasting=f"{_what(worst)}: {decibel(row.sqnr_db)} are left behind "
                f"{(worst.location.label if holder is row else row.node)!r}",
                remedy=_remedy(facts, worst),
            )


def _what(held: ParameterReading) -> str:
    what = f"The {held.what} {held.reference!r}" if held.what else repr(held.reference)
    if held.zeros:
        return f"{what} has {held.zeros} of {held.rows} values that round to 0"
    if held.width > 1:
        return f"{what} keeps {decibel(held.alone_db)} a row, of {held.rows} rows"
    if held.lost:
        return f"{what} loses {held.lost} of {held.rows} values to rounding"
    return f"{what} differs from the float one ({decibel(held.sqnr_db)})"


def _remedy(facts: Facts, held: ParameterReading) -> Remedy:
    maker = next((n for n in facts.model.nodes if facts.model.locate(n) == held.location), None)
    excluded = (held.location.node,) if held.location.node else ()
    if maker is not None and maker.operator.has(Trait.RECURRENT):
        return Remedy("Give each row of the weight its own scale. Or keep the operator in float.")
    return Remedy(
        "Keep the constant in float: exclude the operator, or fold it before quantising.", nodes_to_exclude=excluded
    )
