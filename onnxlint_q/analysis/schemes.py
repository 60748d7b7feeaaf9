"""Schemes: what is quantised how."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Number(StrEnum):
    """A format of codes.

    Weights are signed and symmetric: INT8 uses the codes -127 … 127, INT4 -7 … 7. Activations are per tensor: UINT8 and
    UINT16 have a zero point fitted to the range, INT8 is symmetric with zero point 0. FLOAT8 is e4m3 without infinities
    (largest value 448), scaled so that the largest magnitude lands on it.
    """

    INT4 = "int4"
    INT8 = "int8"
    UINT8 = "uint8"
    UINT16 = "uint16"
    FLOAT8 = "float8e4m3fn"


FLOAT8_MAX = 448.0


@dataclass(frozen=True, slots=True)
class Scheme:
    """Formats of weights and activations, and how many weights share a scale.

    Attributes:
        name: as on the command line.
        per_channel: one weight scale per output channel instead of one per tensor.
        weights, activations: formats.
    """

    name: str
    per_channel: bool
    weights: Number = Number.INT8
    activations: Number = Number.UINT8

    @property
    def weight_bits(self) -> int:
        """Bits of a weight."""
        return 4 if self.weights is Number.INT4 else 8

    @property
    def activation_bits(self) -> int:
        """Bits of an activation."""
        return 16 if self.activations is Number.UINT16 else 8

    @property
    def activation_symmetric(self) -> bool:
        """Whether the zero point of an activation is fixed, so that a one-sided range wastes half of the codes."""
        return self.activations in {Number.INT8, Number.FLOAT8}


INT8_PER_TENSOR = Scheme("int8-per-tensor", per_channel=False)
INT8_PER_CHANNEL = Scheme("int8-per-channel", per_channel=True)
DEFAULT_SCHEMES = (INT8_PER_TENSOR, INT8_PER_CHANNEL)

SCHEMES: dict[str, Scheme] = {
    scheme.name: scheme
    for scheme in (
        *DEFAULT_SCHEMES,
        Scheme("int8-symmetric", per_channel=True, activations=Number.INT8),
        Scheme("int16-activations", per_channel=True, activations=Number.UINT16),
        Scheme("int4-weights", per_channel=True, weights=Number.INT4),
        Scheme("fp8", per_channel=True, weights=Number.FLOAT8, activations=Number.FLOAT8),
    )
}
