"""A scheme: what is quantised how, and which of ONNX Runtime's quantisers makes such a file."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace
from enum import Enum

from onnxlint_q.analysis.number_formats import INT8, UINT8, NumberFormat, Sharing
from onnxlint_q.finding import Subject
from onnxlint_q.graph import Layer
from onnxlint_q.graph.element_types import QUANTISED_FLOATS
from onnxlint_q.graph.names import ROOT
from onnxlint_q.graph.operators import Product

PER_CHANNEL_OPSET = 13
"""The opset from which on a file can hold one scale a channel."""
# Of a weight as `[output channels, taps]`. The taps of a matrix are its reduction axis.
PER_TENSOR = Sharing()
PER_CHANNEL = Sharing(axis=0)
# What quantize_dynamic has integer operators for; a Gemm becomes a MatMul and an Add. GRU and RNN stay in float.
_DYNAMIC = frozenset({"Conv", "Gemm", "MatMul", "LSTM"})


class Quantizer(Enum):
    """Whose files a scheme stands for. It decides which layers are quantised, and where activations get scales."""

    STATIC = "quantize_static"
    """Scales of activations come from calibration: the same in every run, for every reader."""
    DYNAMIC = "quantize_dynamic"
    """What a layer reads is quantised in front of it, with a scale for the values of this run."""
    BLOCKS = "MatMulNBitsQuantizer"
    """Weights of MatMul in blocks; activations stay in float."""


@dataclass(frozen=True, slots=True)
class Scheme:
    """Formats of weights and activations, and which weights share a scale.

    Attributes:
        name: as on the command line.
        sharing: which values of a weight share a scale, the weight being `[output channels, taps]`.
        weights: format of weights; symmetric, but for blocks.
        activations: format of activations, which have one scale a tensor; None if they stay in float.
        quantizer: whose files these are.
        convolutions: `sharing` of the weights of convolutions, where it is another.
        layers_only: of a static scheme, only layers and products are quantised: what they read, and of convolutions
            what they make. What stands between them stays in float.
    """

    name: str
    sharing: Sharing = PER_CHANNEL
    weights: NumberFormat = INT8
    activations: NumberFormat | None = UINT8
    quantizer: Quantizer = Quantizer.STATIC
    convolutions: Sharing | None = None
    layers_only: bool = False

    def __post_init__(self) -> None:
        """Only blocks have a zero point, so an unsigned format would lose every negative weight."""
        if self.weights.lowest >= 0 and not self.sharing.block_size:
            raise ValueError(f"scheme {self.name!r} has unsigned weights ({self.weights.name}); take a signed format")

    @property
    def per_channel(self) -> bool:
        """Whether there is one weight scale an output channel."""
        return self.sharing == PER_CHANNEL

    @property
    def is_dynamic(self) -> bool:
        """Whether each run takes the scales of activations from its own values."""
        return self.activations is not None and self.quantizer is Quantizer.DYNAMIC

    @property
    def is_calibrated(self) -> bool:
        """Whether the scales of activations come from calibration."""
        return self.activations is not None and self.quantizer is Quantizer.STATIC

    @property
    def is_of_reads(self) -> bool:
        """Whether what layers read is all that gets codes of the tensors between layers."""
        return self.is_dynamic or (self.is_calibrated and self.layers_only)

    @property
    def ranges(self) -> str:
        """Where the ranges of activations come from, in words; empty where it is calibration."""
        if self.is_calibrated:
            return ""
        return "each run takes its own ranges" if self.is_dynamic else "activations stay in float"

    def of_layer(self, layer: Layer) -> Scheme:
        """The scheme with what holds for the weight of this layer as `sharing`.

        `quantize_dynamic` gives each direction of an LSTM a scale of its own.
        """
        if self.quantizer is Quantizer.DYNAMIC and not layer.is_product and self.sharing == PER_TENSOR:
            return replace(self, sharing=Sharing(axis=0, runs=layer.weight_shape[0]), convolutions=None)
        if self.convolutions is None:
            return self
        sharing = self.convolutions if layer.inputs.convolves else self.sharing
        return replace(self, sharing=sharing, convolutions=None)

    def treatment(self, subject: Subject) -> Hashable:
        """What it does to a tensor of this kind: two schemes that agree quantise it alike."""
        if subject is Subject.WEIGHT:
            return self.weights, self.sharing, self.convolutions
        return self.activations, self.quantizer, self.layers_only

    def needs_opset(self, opset: int) -> bool:
        """Whether a file of this opset is too old to hold its scales."""
        return self.quantizer is Quantizer.STATIC and self.sharing.axis is not None and opset < PER_CHANNEL_OPSET

    def as_measured(
        self,
        observer: str,
        opset: int = PER_CHANNEL_OPSET,
        *,
        folds_late: bool = False,
        folds_alone: bool = False,
        half: bool = False,
    ) -> str:
        """What a run stands for, in the words of ONNX Runtime's quantisers, with ranges by this observer.

        `quantize_static after quant_pre_process, min-max, U8S8 QDQ`: activations, then weights.

        Args:
            observer: what ranges were taken by.
            opset: of the model.
            folds_late: weights that are inputs keep the preparation from folding.
            folds_alone: it does not fold all that is folded here.
            half: weights are in float16, of which neither quantiser writes what it writes of float32.
        """
        if self.quantizer is Quantizer.BLOCKS:
            symmetry = "symmetric" if self.weights.symmetric else "asymmetric"
            return f"{self.quantizer.value}, {self.weights.bits} bits, blocks of {self.sharing.block_size}, {symmetry}"
        if self.activations is None:
            return f"weights in {self.weights.name}, activations in float"
        kinds = "".join(number.short_name for number in (self.activations, self.weights))
        if self.activations.is_float:
            return f"simulated, {observer}, {kinds}"  # the quantiser takes no such ranges for floats
        said = f"{self.quantizer.value} after quant_pre_process{' of layers only' if self.layers_only else ''}"
        said += f", {observer}, {kinds} QDQ" if self.is_calibrated else f", {kinds}"
        later = [f"the model has opset {PER_CHANNEL_OPSET}"] * self.needs_opset(opset)
        later += ["its weights are no longer inputs"] * folds_late
        later += ["its weights are float32"] * half
        later += ["`fix` has folded every BatchNormalization that folds"] * folds_alone
        return f"{said}, once {' and '.join(later)}" if later else said

    @property
    def enters_bodies(self) -> bool:
        """Whether its quantiser looks at layers in the bodies of If, Loop and Scan."""
        return self.quantizer is Quantizer.BLOCKS

    def quantises(self, layer: Layer) -> bool:
        """Whether the quantiser writes the layer's weight so where it is given the whole model.

        `quantize_static` leaves recurrent operators in float, and all of them what computes in double precision.
        """
        outside = layer.node.graph != ROOT and not self.enters_bodies
        left = self.quantizer is Quantizer.STATIC and not layer.is_product
        other = layer.is_float and layer.elem_type not in QUANTISED_FLOATS
        return self.covers(layer) and not outside and not left and not other

    def covers(self, layer: Layer) -> bool:
        """Whether the scheme says how the layer's weight is quantised, were it the only one.

        That holds for every layer where the quantiser has no operators of its own. MatMulNBitsQuantizer takes products
        with one constant matrix on the right and leaves Gemm alone; quantize_dynamic has integer operators for some
        layers, and takes a Gemm that is a product and a bias.
        """
        node = layer.node
        match self.quantizer:
            case Quantizer.STATIC:
                return True
            case Quantizer.BLOCKS:
                matrix = all(length == 1 for length in layer.weight_shape[:-2])
                return layer.is_float and layer.inputs.product is Product.MATMUL and matrix and not layer.weight_left
            case Quantizer.DYNAMIC:
                plain = layer.op_type != "Gemm" or (layer.factor == 1 == node.float("beta", 1.0))
                plain = plain and not (layer.op_type == "Gemm" and node.int("transA", 0))
                return layer.op_type in _DYNAMIC and plain and not layer.weight_left
