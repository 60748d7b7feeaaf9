"""What a scalar scale/zero-point pair can represent."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from onnxlint_q.graph import Model, QuantizedTensor

Float = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Grid:
    """What a scalar pair can represent: `scale * (code - zero_point)`.

    Attributes:
        scale: one step, in the tensor's own unit.
        low, high: smallest and largest representable value.
    """

    scale: float
    low: float
    high: float

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
        step = np.float32(self.scale)
        with np.errstate(over="ignore"):
            nearest: Float = np.rint(values / step) * step
        return nearest.clip(np.float32(self.low), np.float32(self.high))


def grid(model: Model, pair: QuantizedTensor) -> Grid | None:
    """The values of a per-tensor integer pair; None if it is per channel, invalid, or not constant."""
    codes, scale, zero_point = pair.code_range, pair.read_scale(model), pair.read_zero_point(model)
    if codes is None or scale is None or scale.size != 1 or pair.dynamic:
        return None
    if pair.zero_point and (zero_point is None or zero_point.size != 1):
        return None
    step = float(scale.reshape(()))
    if not (np.isfinite(step) and step > 0):
        return None
    shift = 0 if zero_point is None else int(zero_point.reshape(()))
    return Grid(step, step * (codes[0] - shift), step * (codes[1] - shift))
