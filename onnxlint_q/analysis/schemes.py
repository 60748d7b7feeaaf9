"""Schemes: what is quantised how."""

from __future__ import annotations

from dataclasses import dataclass

from onnxlint_q.analysis.number_formats import FLOAT8, INT4, INT8, UINT8, UINT16, NumberFormat, Sharing
from onnxlint_q.graph import Layer
from onnxlint_q.graph.names import ROOT

# Of a weight as `[output channels, taps]`. The taps of a matrix are its reduction axis.
PER_CHANNEL_OPSET = 13
"""The opset from which on a file can hold one scale a channel."""
PER_TENSOR = Sharing()
PER_CHANNEL = Sharing(axis=0)
BLOCKS_OF_32 = Sharing(axis=1, block_size=32)


@dataclass(frozen=True, slots=True)
class Scheme:
    """Formats of weights and activations, and which weights share a scale.

    Attributes:
        name: as on the command line.
        sharing: which values of a weight share a scale, the weight being `[output channels, taps]`.
        weights: format of weights; symmetric.
        activations: format of activations, which have one scale a tensor; None if they stay in float.
    """

    name: str
    sharing: Sharing = PER_CHANNEL
    weights: NumberFormat = INT8
    activations: NumberFormat | None = UINT8

    def __post_init__(self) -> None:
        """Weights have no zero point, so an unsigned format would lose every negative one."""
        if self.weights.lowest >= 0:
            raise ValueError(f"scheme {self.name!r} has unsigned weights ({self.weights.name}); take a signed format")

    @property
    def per_channel(self) -> bool:
        """Whether there is one weight scale an output channel."""
        return self.sharing == PER_CHANNEL

    def as_measured(self, observer: str, opset: int = PER_CHANNEL_OPSET, *, folds_late: bool = False) -> str:
        """What a run with ranges by this observer stands for, in the words of ONNX Runtime's quantiser.

        `quantize_static after quant_pre_process, min-max, U8S8 QDQ`: activations, then weights.
        """
        if self.activations is None:
            return f"weights in {self.weights.name}, activations in float"
        kinds = "".join(number.short_name for number in (self.activations, self.weights))
        if self.activations.is_float:
            return f"simulated, {observer}, {kinds}"  # the quantiser takes no such ranges for floats
        later = [f"the model has opset {PER_CHANNEL_OPSET}"] * (
            self.sharing.axis is not None and opset < PER_CHANNEL_OPSET
        )
        later += ["its weights are no longer inputs"] * folds_late
        said = f"quantize_static after quant_pre_process, {observer}, {kinds} QDQ"
        return f"{said}, once {' and '.join(later)}" if later else said

    def quantises(self, layer: Layer) -> bool:
        """Whether the quantiser does so to the layer's weight, where a whole model is quantised.

        ONNX Runtime leaves recurrent operators in float, and all that lies in the body of an If, Loop or Scan.
        """
        return self.covers(layer) and layer.is_product and layer.node.graph == ROOT

    def covers(self, layer: Layer) -> bool:
        """Whether the scheme says how the layer's weight is quantised.

        Blocks run along the one reduction axis of a matrix that is multiplied from the right, as in ONNX Runtime's
        MatMulNBits; a convolution has several such axes and stays in float.
        """
        if not self.sharing.block_size:
            return True
        multiplies = layer.is_float and not layer.inputs.convolves
        return multiplies and len(layer.weight_shape) == 2 and not layer.weight_left


INT8_PER_TENSOR = Scheme("int8-per-tensor", PER_TENSOR)
INT8_PER_CHANNEL = Scheme("int8-per-channel")
DEFAULT_SCHEMES = (INT8_PER_TENSOR, INT8_PER_CHANNEL)

SCHEMES: dict[str, Scheme] = {
    scheme.name: scheme
    for scheme in (
        *DEFAULT_SCHEMES,
        Scheme("int8-symmetric", activations=INT8),
        Scheme("int16-activations", activations=UINT16),
        Scheme("int4-weights", weights=INT4),
        Scheme("fp8", weights=FLOAT8, activations=FLOAT8),
        Scheme("int4-blocks", BLOCKS_OF_32, weights=INT4, activations=None),
    )
}
