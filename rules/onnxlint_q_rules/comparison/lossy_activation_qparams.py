"""Activation qparams that make the error jump.

The float model's values are rounded with the quantised file's scale and zero point, and nothing else is:

    alone = 10 log10( sum x^2 / sum (x - xq)^2 )

at the tensor itself, and behind the float operator where that reads one activation. The tensor is a cause of a jump if
that leaves at most `takes_part_db` more than the whole quantised file has there. Range, codes and clipping in the
message are those of the float tensor, before its quantiser.

Source: one quantiser switched on at a time, as in the debugging workflow of Nagel et al., A White Paper on Neural
Network Quantization, arXiv 2106.08295.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
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
    QparamsReading,
    Remedy,
    Requantisation,
    Silence,
    TensorRange,
)
from onnxlint_q_rules.comparison.jumps import JumpRule, decibel
from onnxlint_q_rules.qdq.pairs import Pairs, where

_FLOAT = """
<ir_version: 8, opset_import: ["" : 13]>
sum (float[1, 64] x) => (float[1, 64] y)
{
  [twice] y = Add(x, x)
}
"""


# Calibrators clip a hundredth of this on purpose.
_CLIPPED = 0.01
# A range that is wider by no more is that of the float model.
_WIDER = 1.2


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
    """Scale and zero point of an activation make the error jump.

    ## What it does
    At each operator where the error jumps, rounds the float model's values with the scale and zero point of the result
    alone, and of each input alone. Reports the tensors that explain the error.

    ## Why it breaks INT8
    A range that is too wide leaves few codes in use, one that is too narrow clips values. All layers behind get what is
    left.

    ## What to do
    Calibrate again with exactly the preprocessing and the kind of data of the deployment. Or give the tensor the range
    that the float model has there.

    ## Sources
    Nagel et al., A White Paper on Neural Network Quantization, arXiv 2106.08295.
    """

    code: ClassVar[str] = "QC001"
    name: ClassVar[str] = "lossy-activation-qparams"
    supersedes: ClassVar[tuple[str, ...]] = ("QP001", "QP002", "QP018")

    good: ClassVar[tuple[Example, ...]] = (
        Example(_quantised("0.06"), reference=_FLOAT, samples=_normal, why="The step fits the values."),
    )
    bad: ClassVar[tuple[Example, ...]] = (
        Example(
            _quantised("2.0"),
            reference=_FLOAT,
            samples=_normal,
            flags=("twice",),
            why="One step is as large as the deviation of the values.",
        ),
        Example(
            _quantised("0.008"),
            reference=_FLOAT,
            samples=_normal,
            flags=("twice",),
            why="The range ends at half a deviation.",
        ),
    )

    def culprits(self, facts: Facts, compared: Compared) -> Iterator[Finding | Silence]:
        """One finding a tensor, told at the first jump that does not heal."""
        found: dict[str, list[tuple[ComparedRow, ComparedRow, str, float | None]]] = {}
        for row in self.jumps(compared):
            taking = list(self.roundings(compared, row))
            if not taking:
                yield Silence(row.location, "no scale of its result or of its inputs alone explains the jump")
            for held, part, alone in taking:
                if self.lost_parts(held):
                    yield Silence(held.location, "its scale loses a branch that it joins, which is told for itself")
                    continue
                found.setdefault(held.quantized, []).append((row, held, part, alone))
        for places in found.values():
            lasting = (place for place in places if not compared.heals(place[0], self.bad_db))
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
        finding = self.report(
            compared,
            row,
            _place(facts, held),
            _what(held),
            part=part,
            tensor=held.quantized,
            alone_db=alone,
            metrics={**_figures(held), "further_jumps": further},
            remedy=_remedy(row, held),
            lasting=f"The error starts at the model input {held.quantized!r} ({decibel(row.sqnr_db)})"
            if row.op_type == "Input" and held.valid_scale
            else "",
        )
        return replace(finding, causes=tuple(_causes(held)))


def _causes(row: ComparedRow) -> Iterator[str]:
    """How the range of the file and that of the float model differ."""
    reading = row.qparams
    if reading is not None:
        yield (
            f"The file covers {row.quantized!r} from {reading.low:.3g} to {reading.high:.3g}, the float model spans "
            f"{reading.float_low:.3g} to {reading.float_high:.3g}: {reading.used_codes:.0f} of {reading.codes} codes "
            "are in use."
        )


def _what(row: ComparedRow) -> str:
    """What is wrong with a pair, by what costs more: values that are clipped, or a step that is coarse."""
    reading = row.qparams
    if reading is None:
        return f"{row.quantized!r} has a scale that is not a positive number"
    if reading.clipped_fraction > _CLIPPED:
        return f"The range of {row.quantized!r} clips {100 * reading.clipped_fraction:.2g} % of its values"
    return f"The step of {row.quantized!r} is too coarse ({reading.used_codes:.0f} of {reading.codes} codes used)"


def _figures(row: ComparedRow) -> Mapping[str, Metric]:
    reading = row.qparams
    if reading is None:
        return {}
    return {
        "scale": reading.scale,
        "zero_point": reading.zero_point,
        "quantised_low": reading.low,
        "quantised_high": reading.high,
        "float_low": reading.float_low,
        "float_high": reading.float_high,
        "used_codes": reading.used_codes,
        "codes": reading.codes,
        "clipped_fraction": reading.clipped_fraction,
    }


def _remedy(row: ComparedRow, held: ComparedRow) -> Remedy:
    if held.qparams is not None and _is_own_range(held.qparams):
        nodes = tuple(dict.fromkeys(filter(None, (held.reference_node, row.reference_node))))
        return Remedy(
            "The file has the range of the float model, so calibrating again does not help. Keep the tensor in float.",
            nodes_to_exclude=nodes,
        )
    return Remedy(
        "Calibrate again with the preprocessing and the data of the deployment. Or give the tensor the range of the "
        "float model.",
        change=_range(held),
    )


def _is_own_range(reading: QparamsReading) -> bool:
    """Whether the codes cover the float model's range, and little more."""
    fits = reading.span_ratio is not None and reading.span_ratio < _WIDER
    return fits and reading.clipped_fraction <= _CLIPPED


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
