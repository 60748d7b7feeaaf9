"""Layers: the operators whose constant weight is what INT8 is about."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from onnxlint_q.graph.codes.layouts import Layout
from onnxlint_q.graph.element_types import FLOATS, HALF
from onnxlint_q.graph.evaluate import check_parameter, dequantize
from onnxlint_q.graph.model import Model
from onnxlint_q.graph.node import Node
from onnxlint_q.graph.operators import LayerInputs, Product, Trait
from onnxlint_q.graph.stored.packed import constant_size, constant_type, packed_layout
from onnxlint_q.graph.tensors import Array, is_real

# A graph computes with codes where weights are whole and fit 16 bits, where those with so many values hold so many
# different ones at least (a kernel written by hand has up to five magnitudes), and sums are brought back to codes.
_LARGEST_CODE, _VALUES, _DIFFERENT = 2**15, 64, 12


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """A Conv, ConvTranspose, Gemm or MatMul with a constant weight, its integer form, or an LSTM, GRU or RNN.

    A recurrent operator has two weights. It is one layer all the same, seen with the first of them; `operands` gives it
    once for each.

    Attributes:
        node: the operator.
        inputs: which of its inputs is what, from the operator table.
        input, weight, bias: tensor keys; `bias` is empty where there is none.
        scale, zero_point: keys of the weight's qparams where the operator carries them, else empty.
        group: number of groups, 1 for Gemm and MatMul.
        channels: number of output channels.
        depthwise: every group reads exactly one input channel, and there is more than one group.
        weight_shape: as stored; of a packed weight as the float operator would hold it.
        weight_left: a MatMul whose constant is the left operand.
        operand: name of the weight, where the operator has several: W or R.
        others: the layer seen with each further weight.
        layout: how a packed weight lies in the file; None for any other.
        elem_type: of the stored weight, as TensorProto.DataType.
    """

    node: Node
    inputs: LayerInputs
    input: str
    weight: str
    bias: str
    scale: str
    zero_point: str
    group: int
    channels: int
    depthwise: bool
    weight_shape: tuple[int, ...]
    weight_left: bool = False
    operand: str = ""
    others: tuple[Layer, ...] = ()
    layout: Layout | None = None
    elem_type: int = 0

    @property
    def operands(self) -> tuple[Layer, ...]:
        """The layer seen with each of its weights; itself where it has one."""
        return (self, *self.others)

    @property
    def is_product(self) -> bool:
        """Whether it is a product with its weight, and nothing else: what others can be folded into."""
        return self.inputs.product is not Product.RECURRENT

    @property
    def weight_slot(self) -> int:
        """Position of its weight among the inputs of the node."""
        return self.inputs.input if self.weight_left else dict(self.inputs.weights)[self.operand]

    @property
    def op_type(self) -> str:
        """Operator name."""
        return self.node.op_type

    @property
    def output(self) -> str:
        """Key of the operator's own result."""
        return self.node.output

    @property
    def is_float(self) -> bool:
        """Whether the operator computes with float weights."""
        return self.inputs.is_float

    @property
    def is_half(self) -> bool:
        """Whether its weight is stored in float16."""
        return self.elem_type == HALF

    @property
    def taps(self) -> int:
        """Positions of the kernel; 1 of a product of matrices."""
        return math.prod(self.weight_shape[2:]) if self.inputs.convolves else 1

    @property
    def products(self) -> int:
        """Products of an input and a weight that one output is the sum of."""
        return math.prod(self.weight_shape) // max(self.channels * self.stacked, 1)

    @property
    def stacked(self) -> int:
        """Matrices that the weight of a MatMul is a stack of, each for other inputs; 1 of anything else."""
        return math.prod(self.weight_shape[:-2]) if self.inputs.product is Product.MATMUL else 1

    @property
    def factor(self) -> float:
        """What the product of input and weight is multiplied by: alpha of a Gemm, else 1."""
        return self.node.float("alpha", 1.0) if self.inputs.product is Product.GEMM else 1.0

    @property
    def bias_factor(self) -> float:
        """What its bias is multiplied by: beta of a Gemm, else 1."""
        return self.node.float("beta", 1.0) if self.inputs.product is Product.GEMM else 1.0

    @property
    def pads(self) -> bool:
        """Whether it puts zeros around its input."""
        same = self.node.text("auto_pad", "NOTSET") in {"SAME_UPPER", "SAME_LOWER"}
        return self.inputs.convolves and (same or any(self.node.ints("pads")))

    @property
    def channel_axis(self) -> int:
        """Axis of the stored weight along which per-channel qparams run."""
        match self.inputs.product:
            case Product.CONVOLUTION:
                return 0
            case Product.TRANSPOSED:
                return 1
            case Product.GEMM:
                return 0 if self.node.int("transB", 0) else 1
            case Product.MATMUL:
                return len(self.weight_shape) - (2 if self.weight_left else 1)
            case Product.RECURRENT:
                return 1

    @property
    def scale_sharing(self) -> int:
        """How many output channels share one per-channel scale.

        One, but for a grouped ConvTranspose: its scales run along axis 1, and a slice of that serves every group.
        """
        return self.group if self.inputs.product is Product.TRANSPOSED else 1

    def by_channel(self, weight: Array) -> Array:
        """The weight as a matrix `[output channels, taps]`, a view where the layout allows."""
        if self.inputs.product is Product.TRANSPOSED:
            inputs, outputs = weight.shape[:2]
            grouped = weight.reshape(self.group, inputs // self.group, outputs, -1)
            return grouped.transpose(0, 2, 1, 3).reshape(self.group * outputs, -1)
        if self.inputs.product is Product.RECURRENT:
            return weight.reshape(self.channels, -1)
        return np.moveaxis(weight, self.channel_axis, 0).reshape(self.channels, -1)

    def as_stored(self, matrix: Array) -> Array:
        """The inverse of `by_channel`: a matrix `[output channels, taps]` in the layout of the stored weight."""
        shape = self.weight_shape
        if self.inputs.product is Product.TRANSPOSED:
            grouped = matrix.reshape(self.group, shape[1], shape[0] // self.group, -1)
            return grouped.transpose(0, 2, 1, 3).reshape(shape)
        if self.inputs.product is Product.RECURRENT:
            return matrix.reshape(shape)
        rest = [dim for axis, dim in enumerate(shape) if axis != self.channel_axis]
        return np.moveaxis(matrix.reshape([self.channels, *rest]), 0, self.channel_axis)

    def channel_shape(self) -> tuple[int, ...]:
        """Shape that makes a vector over output channels broadcast against the stored weight.

        A grouped ConvTranspose has no such shape: one slice of its axis 1 serves several output channels.
        """
        return tuple(-1 if axis == self.channel_axis else 1 for axis in range(len(self.weight_shape)))

    def read_weight(self, model: Model) -> Array:
        """The weight as float32, dequantised where it is stored in codes."""
        stored = model.constants[self.weight]
        if not self.scale and not self.zero_point:
            with np.errstate(over="ignore"):  # what passes float32 becomes infinite, which a rule reports
                return stored.astype(np.float32, copy=False)
        scale = model.constant(self.scale) if self.scale else None
        zero_point = model.constant(self.zero_point) if self.zero_point else None
        if self.layout is not None:
            return self.layout.weight(stored, scale, zero_point)
        return dequantize(stored, np.ones((), np.float32) if scale is None else scale, zero_point, self.channel_axis)

    def made_of(self, model: Model) -> Hashable:
        """What its weight is read from, and how: layers with the same have the same `by_channel` of it."""
        keys = self.weight, self.scale, self.zero_point
        stored = tuple(model.constants.made_of(key) if key else None for key in keys)
        return stored, self.inputs.product, self.channel_axis, self.group

    def read_bias(self, model: Model) -> npt.NDArray[np.float64] | None:
        """One value an output channel, zeros where there is no bias; None where the file does not tell its values."""
        return channel_vector(model, self.bias, self.channels) if self.bias else np.zeros(self.channels)


def channel_vector(model: Model, key: str, channels: int) -> npt.NDArray[np.float64] | None:
    """A constant of one value, or of one for each channel along the last axis of a matrix, as a value a channel.

    None where it has another shape, holds no numbers, or is no constant.
    """
    stored = model.constant(key)
    fits = stored is not None and stored.shape in {(), (1,), (1, 1), (channels,), (1, channels)}
    if stored is None or not fits or not is_real(stored):
        return None
    return np.broadcast_to(np.ravel(stored).astype(np.float64), (channels,))


def find_layers(model: Model) -> Iterator[Layer]:
    """Every layer of the model, subgraphs included, in data order."""
    for node in model.nodes:
        inputs = node.operator.layer
        layer = _as_layer(model, node, inputs) if inputs is not None and node.output else None
        if layer is not None:
            yield layer


def is_integer_graph(model: Model, layers: Iterable[Layer]) -> bool:
    """Whether these layers, all of the model, compute with integer codes that have no scale in the file.

    Toolchains for microcontrollers export a network so after quantisation: the weights are the codes themselves, whole
    numbers in float tensors because ONNX's operators want floats, and a layer's sums are brought back to 8 bits by a
    multiplication and a shift, by operators that round down or one of the toolchain's own.

    Raises:
        ModelError: a weight cannot be read.
    """
    if not any(node.operator.has(Trait.ROUNDS) or not node.operator.known for node in model.nodes):
        return False
    different = 0
    for layer in layers:
        weight = layer.read_weight(model)
        if not layer.is_float or not _is_whole(weight):
            return False
        if weight.size >= _VALUES:
            different = np.unique(weight).size
            if different < _DIFFERENT:
                return False
    return different > 0


def _is_whole(weight: Array) -> bool:
    return bool(np.all(np.abs(weight) <= _LARGEST_CODE) and np.all(weight == np.rint(weight)))


def _as_layer(model: Model, node: Node, inputs: LayerInputs) -> Layer | None:
    if inputs.product is Product.RECURRENT:
        return _as_recurrent(model, node, inputs)
    data, weight = node.input(inputs.input), node.input(inputs.weight)
    left = False
    if inputs.product is Product.MATMUL and inputs.is_float and not model.is_constant(weight):
        data, weight, left = weight, data, True
    if not weight or not model.is_constant(weight) or model.is_constant(data):
        return None
    if inputs.packed:
        return _as_packed(model, node, inputs)
    known = constant_type(model, weight)
    shape = tuple(dim for dim in known.shape or () if dim is not None)
    # Gemm and MatMul multiply integers too, in shape arithmetic, and there is nothing to quantise then.
    if len(shape) < 2 or 0 in shape or (inputs.is_float and known.elem_type not in FLOATS):
        return None
    group = node.int("group", 1) if inputs.convolves else 1
    if group < 1 or shape[0] % group:
        return None
    slots = (inputs.bias, inputs.scale, inputs.zero_point)
    bias, scale, zero_point = (node.input(slot) if slot is not None else "" for slot in slots)
    probe = Layer(node, inputs, data, weight, bias, scale, zero_point, group, 0, False, shape, left)
    if not all(_fits(model, key, shape, probe.channel_axis) for key in (scale, zero_point)):
        return None
    channels = shape[probe.channel_axis] * probe.scale_sharing
    inputs_a_group = shape[0] // group if inputs.product is Product.TRANSPOSED else shape[1]
    depthwise = group > 1 and inputs_a_group == 1
    return replace(probe, channels=channels, depthwise=depthwise, elem_type=known.elem_type)


def _as_recurrent(model: Model, node: Node, inputs: LayerInputs) -> Layer | None:
    """A layer if all weights are constant, `[directions, gates, values]`, and agree on the first two."""
    data, found = node.input(inputs.input), list[Layer]()
    for (name, slot), parameters in zip(inputs.weights, inputs.qparams, strict=True):
        key = node.input(slot)
        if not key or not model.is_constant(key) or model.is_constant(data):
            return None
        known = constant_type(model, key)
        shape = tuple(dim for dim in known.shape or () if dim is not None)
        layout = packed_layout(model, node, slot) if inputs.packed else None
        if layout is not None:
            shape = layout.weight_shape
        elif len(shape) != 3 or 0 in shape or known.elem_type not in FLOATS:
            return None
        scale, zero_point = (node.input(held) if held is not None else "" for held in parameters)
        if layout is not None and not layout.takes(constant_size(model, scale)):
            return None
        channels = shape[0] * shape[1]
        part = Layer(node, inputs, data, key, "", scale, zero_point, 1, channels, False, shape, operand=name)
        found.append(replace(part, layout=layout, elem_type=known.elem_type))
    first, *others = found
    if any(other.weight_shape[:2] != first.weight_shape[:2] for other in others):
        return None
    return replace(first, others=tuple(others))


def _as_packed(model: Model, node: Node, inputs: LayerInputs) -> Layer | None:
    """A product whose weight is packed."""
    layout = packed_layout(model, node, inputs.weight)
    bias, scale, zero_point = (
        node.input(slot) if slot is not None else "" for slot in (inputs.bias, inputs.scale, inputs.zero_point)
    )
    if layout is None or not layout.takes(constant_size(model, scale)):
        return None
    data, weight, shape = node.input(inputs.input), node.input(inputs.weight), layout.weight_shape
    return Layer(node, inputs, data, weight, bias, scale, zero_point, 1, shape[-1], False, shape, layout=layout)


def _fits(model: Model, parameter: str, shape: tuple[int, ...], axis: int) -> bool:
    """Whether a stored scale or zero point can belong to a weight of `shape`; a wrong one is for a rule to report."""
    stored = model.constants.initializer(parameter)
    try:
        if stored is not None:
            check_parameter(tuple(stored.dims), shape, axis)
    except ValueError:
        return False
    return True
