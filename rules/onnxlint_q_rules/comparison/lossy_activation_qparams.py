"""Activation qparams that make the error jump.

The float model's values are rounded with the quantised file's scale and zero point, and nothing else is:

    alone = 10 log10( sum x^2 / sum (x - xq)^2 )

at the tensor itself, and, where an operator reads one activation, behind that float operator. The tensor takes part in
a jump where that leaves at most `takes_part_db` more than the whole quantised file has there. What the message says of
range, codes and clipping is read from the float tensor, before its quantiser.

Source: one quantiser switched on at a time, as in the debugging workflow of Nagel et al., A White Paper on Neural
Network Quantization, arXiv 2106.08295.
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
    Example,
    Facts,
    Finding,
    Location,
    Metric,
    Remedy,
    Requantisation,
    TensorRange,
)
from onnxlint_q_rules.comparison.jumps import JumpRule, fall
from onnxlint_q_rules.qdq.pairs import Pairs, where

_FLOAT = """
<ir_version: 8, opset_import: ["" : 13]>
sum (float[1, 64] x) => (float[1, 64] y)
{
  [twice] y = Add(x, x)
}
"""


def _quantised(scale: str) -> str:
    return f"""
<ir_version: 8, opset_import: ["" : 13]>
sum (float[1, 64] x) => (float[1, 64] y)
<float s = {{{scale}}}, int8 z = {{0}}> {{
  [twice] n = Add(x, x)
  [write] q = QuantizeLinear(n, s, z)
  [read] y = DequantizeLinear(q, s, z)
}}
"""


def _normal(random: np.random.Generator) -> Mapping[str, npt.NDArray[np.float32]]:
    return {"x": random.normal(size=(16, 64)).astype(np.float32)}


@dataclass(frozen=True)
class LossyActivationQparams(JumpRule):
    """Scale and zero point of an activation that make the error jump.

    ## What it does
    At each place where the error jumps, rounds the float model's values with the qparams of the result, and with those
    of what the operator reads, each alone. Reports the tensors that explain the error.

    ## Why it breaks INT8
    A range that is too wide leaves a few codes, one that is too narrow clips; everything behind works with what is
    left.

    ## What to do
    Calibrate again with exactly the preprocessing and the kind of data of the deployment, or give the tensor the range
    that the float model has there.

    ## Sources
    Nagel et al., A White Paper on Neural Network Quantization, arXiv 2106.08295.
    """

    code: ClassVar[str] = "QC001"
    name: ClassVar[str] = "lossy-activation-qparams"
    supersedes: ClassVar[tuple[str, ...]] = ("QP001", "QP002")

    good: ClassVar[tuple[Example, ...]] = (Example(_quantised("0.06"), reference=_FLOAT, samples=_normal),)
    bad: ClassVar[tuple[Example, ...]] = (
        Example(
            _quantised("2.0"),
            reference=_FLOAT,
            samples=_normal,
            flags=("twice",),
            why="one step is as large as the deviation of the values",
        ),
        Example(
            _quantised("0.008"), reference=_FLOAT, samples=_normal, flags=("twice",), why="clipped at half a deviation"
        ),
    )

    def culprits(self, facts: Facts, compared: Compared) -> Iterator[Finding]:
        """One finding a tensor, told at the first jump that does not heal."""
        found: dict[str, list[tuple[ComparedRow, ComparedRow, str, float | None]]] = {}
        for row in self.jumps(compared):
            for held, part, alone in self.roundings(compared, row):
                found.setdefault(held.quantized, []).append((row, held, part, alone))
        for places in found.values():
            lasting = (place for place in places if not self.healed(compared, place[0]))
            yield self._report(facts, compared, *next(lasting, places[0]), len(places) - 1)

    def _report(
        self,
        facts: Facts,
        compared: Compared,
        row: ComparedRow,
        held: ComparedRow,
        part: str,
        alone: float | None,
        further: int,
    ) -> Finding:
        what, metrics = _reading(held)
        more = f" and in {further} more place{'s' * (further > 1)}" if further else ""
        return self.report(
            compared,
            row,
            _place(facts, held),
            f"{held.quantized!r} {what}: {fall(row)}{more}",
            part=part,
            tensor=held.quantized,
            alone_db=alone,
            metrics=metrics,
            remedy=Remedy(
                "calibrate again with the preprocessing and the data of the deployment, or give the tensor its range",
                change=_range(held),
            ),
        )


def _reading(row: ComparedRow) -> tuple[str, Mapping[str, Metric]]:
    reading = row.qparams
    if reading is None:
        return "has a scale that is not a positive number", {}
    clipped = f", {100 * reading.clipped_fraction:.3g} % of it clipped" if reading.clipped_fraction else ""
    return (
        f"is quantised for {reading.low:.3g} to {reading.high:.3g} in steps of {reading.scale:.3g}, the float tensor "
        f"spans {reading.float_low:.3g} to {reading.float_high:.3g}, {reading.used_codes:.0f} of {reading.codes} codes"
        f"{clipped}"
    ), {
        "scale": reading.scale,
        "zero_point": reading.zero_point,
        "quantised_low": reading.low,
        "quantised_high": reading.high,
        "float_low": reading.float_low,
        "float_high": reading.float_high,
        "used_codes": reading.used_codes,
        "clipped_fraction": reading.clipped_fraction,
    }


def _range(row: ComparedRow) -> Requantisation | None:
    reading = row.qparams
    if reading is None:
        return None
    own = TensorRange(row.reference, min(reading.float_low, 0.0), max(reading.float_high, 0.0))
    return Requantisation(ranges=(own,))


def _place(facts: Facts, held: ComparedRow) -> Location:
    """Where the rules about one file put what they say of the same pair."""
    for pair in Pairs(facts).unique():
        row = facts.comparison.row(pair.codes) if facts.comparison is not None else None
        if row is not None and row.quantized == held.quantized:
            return where(facts.model, pair)
    return held.location
