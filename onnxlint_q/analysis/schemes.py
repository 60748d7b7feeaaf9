"""Schemes: what is quantised how."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scheme:
    """Bits, granularity and symmetry of weights and activations.

    Attributes:
        name: as on the command line.
        per_channel: one weight scale per output channel instead of one per tensor.
        weight_bits: symmetric signed weights, codes -(2^(b-1)-1) … 2^(b-1)-1.
        activation_bits: unsigned activations with one scale per tensor.
        activation_symmetric: zero point in the middle instead of fitted to the range.
        ort_options: the arguments of onnxruntime.quantization.quantize_static that ask for it.
    """

    name: str
    per_channel: bool
    weight_bits: int = 8
    activation_bits: int = 8
    activation_symmetric: bool = False
    ort_options: str = ""


INT8_PER_TENSOR = Scheme("int8-per-tensor", per_channel=False, ort_options="per_channel=False")
INT8_PER_CHANNEL = Scheme("int8-per-channel", per_channel=True, ort_options="per_channel=True")

SCHEMES: dict[str, Scheme] = {scheme.name: scheme for scheme in (INT8_PER_TENSOR, INT8_PER_CHANNEL)}
