"""What a scalar scale/zero-point pair can represent."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnxlint_q.analysis.number_formats import Float, NumberFormat, round_trip
from onnxlint_q.graph import Model, QuantizedTensor
from onnxlint_q.graph.element_types import CODE_RANGES


@dataclass(frozen=True, slots=True)
class Grid:
    """What a scalar pair can represent: `scale * (code - zero_point)`.

    Attributes:
        scale: one step, in the tensor's own unit.
        zero_point: the code of zero.
        number: format of the codes, all of which count.
    """

    scale: float
    zero_point: int
    number: NumberFormat

    @property
    def low(self) -> float:
        """Smallest representable value."""
        return self.scale * (self.number.lowest - self.zero_point)

    @property
    def high(self) -> float:
        """Largest representable value."""
        return self.scale * (self.number.largest - self.zero_point)

    @property
    def range(self) -> float:
        """Largest minus smallest representable value."""
        return self.high - self.low

    @property
    def bounds(self) -> tuple[float, float]:
        """What lies beyond is clipped: it is more than half a step away from every representable value."""
        return self.low - self.scale / 2, self.high + self.scale / 2

    def round_trip(self, values: Float) -> Float:
        """The nearest representable values, ties to the even step, saturated."""
        return round_trip(values, self.scale, self.number, self.zero_point)


def grid(model: Model, pair: QuantizedTensor) -> Grid | None:
    """The values of a per-tensor integer pair; None if it is per channel, invalid, or not constant."""
    scale, zero_point = pair.read_scale(model), pair.read_zero_point(model)
    if pair.elem_type not in CODE_RANGES or scale is None or scale.size != 1 or pair.dynamic:
        return None
    if pair.zero_point and (zero_point is None or zero_point.size != 1):
        return None
    step = float(scale.reshape(()))
    if not (np.isfinite(step) and step > 0):
        return None
    shift = 0 if zero_point is None else int(zero_point.reshape(()))
    return Grid(step, shift, NumberFormat(pair.elem_type, symmetric=False))
