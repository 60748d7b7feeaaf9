"""BatchNormalization folded into the layer beside it.

Backward, into the layer before: `w_fold = gamma * w / sqrt(var + eps)` and
`b_fold = beta + gamma * (b - mean) / sqrt(var + eps)` (Yun & Wong, arXiv 2104.11849, eq. 1).
Forward, into the layer after, where no layer stands before: the gain multiplies the input channels of the weight and
the shift goes through it into the bias; exact only if the layer does not pad, because padding inserts zeros after
the normalisation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from onnxlint_q.graph import Layer, Model, Node
from onnxlint_q.graph.layers import channel_vector
from onnxlint_q.graph.operators import Product, Trait
from onnxlint_q.graph.tensors import is_real

Vector = npt.NDArray[np.float64]
Single = npt.NDArray[np.float32]


class Blocker(StrEnum):
    """Why a BatchNormalization cannot be folded; the value is the sentence that a report shows."""

    TRAINING = "it is in training mode"
    PARAMETERS = "its parameters are not constant vectors of one length"
    CHANNELS = "its channels are not the layer's output channels"
    FACTORS = "the Gemm beside it multiplies by alpha or beta"
    NO_LAYER = "no layer with a constant weight stands before it"
    READER = "no layer stands before it, and nothing folds into what reads it"
    ACTIVATION = "an activation stands between it and the layer"
    OTHER_NODE = "another operator stands between it and the layer"
    CONSUMERS = "the layer's result has other readers"
    SHARED_WEIGHT = "the layer shares its weight with another operator"
    SHARED_BIAS = "the layer's bias is computed at run time"
    PADDING = "the layer after it pads with values that are not normalised"
    SUBGRAPH = "it and the layer are in different graphs"


@dataclass(frozen=True, slots=True, eq=False)
class BatchNorm:
    """A BatchNormalization as `y = gain * x + shift` per channel.

    Attributes:
        gamma, variance, mean, beta: float64, one value a channel.
        epsilon: added to the variance.
    """

    node: Node
    gamma: Vector
    beta: Vector
    mean: Vector
    variance: Vector
    epsilon: float

    @property
    def gain(self) -> Vector:
        """`gamma / sqrt(var + eps)`."""
        with np.errstate(all="ignore"):  # a negative or zero variance is for a rule to report
            return np.asarray(self.gamma / np.sqrt(self.variance + self.epsilon), np.float64)

    @property
    def single_gain(self) -> Single:
        """`gain` in the arithmetic of float32 throughout, which is that of ONNX Runtime where it folds."""
        gamma, variance = self.gamma.astype(np.float32), self.variance.astype(np.float32)
        with np.errstate(all="ignore"):
            return np.asarray(gamma / np.sqrt(variance + np.float32(self.epsilon)), np.float32)

    @property
    def shift(self) -> Vector:
        """`beta - mean * gain`."""
        with np.errstate(all="ignore"):
            return np.asarray(self.beta - self.mean * self.gain, np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class Blocked:
    """A BatchNormalization that stays, and why.

    Attributes:
        other: the operator that is in the way, where one is.
    """

    node: Node
    reason: Blocker
    other: Node | None = None


@dataclass(frozen=True, slots=True, eq=False)
class FoldedLayer:
    """A layer with the BatchNormalizations that fold into it, often none.

    Attributes:
        after: folded backward from behind the layer.
        before: folded forward from in front of it.
        bias_add: the Add that is a MatMul's bias and stands between it and `after`.
        add_bias: key of that Add's constant.
    """

    layer: Layer
    after: BatchNorm | None = None
    before: BatchNorm | None = None
    bias_add: Node | None = None
    add_bias: str = ""

    @property
    def output(self) -> str:
        """Key of the result tensor after folding: the layer's name in every report."""
        return self.after.node.output if self.after else self.layer.output

    @property
    def operands(self) -> tuple[FoldedLayer, ...]:
        """The layer seen with each of its weights; itself where it has one."""
        return tuple(replace(self, layer=layer) for layer in self.layer.operands) if self.layer.others else (self,)

    @property
    def is_folded(self) -> bool:
        """Whether anything folds into it."""
        return self.after is not None or self.before is not None

    @property
    def folds_in_preparation(self) -> bool:
        """Whether `quant_pre_process` of ONNX Runtime folds what is folded here.

        It folds behind a convolution and behind a MatMul (conv_bn_fusion.cc, matmul_bn_fusion.cc), and not behind a
        Gemm or a bias that is a node of its own, nor in front of a layer.
        """
        plain = self.before is None and self.bias_add is None
        return not self.is_folded or (plain and self.layer.inputs.product is not Product.GEMM)

    def made_of(self, model: Model) -> Hashable:
        """Layers with the same have the same folded weight."""
        return (self.output, self.layer.operand) if self.is_folded else self.layer.made_of(model)

    def weight(self, model: Model) -> Single:
        """The folded weight in its stored layout.

        To the bit that of the file that ONNX Runtime prepares: the last one decides where a value is next to a tie
        between two codes, and each code that flips for it moves a measured figure.
        """
        weight = self.layer.read_weight(model)
        with np.errstate(all="ignore"):  # what is not finite, or passes float32, shows up in the statistics
            if self.before is not None:
                weight = scale_inputs(self.layer, weight, self.before.gain)
            if self.after is not None:
                single = weight.astype(np.float32, copy=False)
                weight = scale_outputs(self.layer, single, self.after.single_gain)
            return weight.astype(np.float32, copy=False)

    def matrix(self, model: Model) -> npt.NDArray[np.float32]:
        """The folded weight as `[output channels, taps]`, a view where the layout allows."""
        return self.layer.by_channel(self.weight(model))

    def bias(self, model: Model) -> npt.NDArray[np.float32] | None:
        """The folded bias, one value an output channel, zeros where there is none.

        None where the file does not tell its values, which keeps everything from folding into the layer.
        """
        layer = self.layer
        own = layer.read_bias(model)
        added = channel_vector(model, self.add_bias, layer.channels) if self.add_bias else np.zeros(layer.channels)
        if own is None or added is None:
            return None
        bias = own + added
        with np.errstate(all="ignore"):  # as in `weight`
            if self.before is not None:
                shifted = scale_inputs(layer, layer.read_weight(model), self.before.shift)
                bias = bias + layer.by_channel(shifted).sum(axis=1, dtype=np.float64)
            if self.after is not None:
                mean, beta = self.after.mean.astype(np.float32), self.after.beta.astype(np.float32)
                return (bias.astype(np.float32) - mean) * self.after.single_gain + beta
            return bias.astype(np.float32)

    def real_bias(self, model: Model) -> npt.NDArray[np.float64] | None:
        """The bias in real values, also of a layer that holds it as codes.

        None where its values or scales are open, or do not fit each other.
        """
        part = self.layer
        if part.is_float:
            bias = self.bias(model)
            return None if bias is None else bias.astype(np.float64)
        stored = model.constant(part.bias) if part.bias else None
        if stored is not None and stored.dtype.kind == "f":
            bias = self.bias(model)
            return None if bias is None else bias.astype(np.float64)
        read, own = (model.constant(key) for key in (part.node.input(1), part.scale))
        if stored is None or read is None or own is None or not np.issubdtype(stored.dtype, np.integer):
            return None
        if not read.size or own.size not in {1, stored.size}:
            return None
        # QGemm reads codes of the scale alpha * a_scale * b_scale (ONNX Runtime, ContribOperators.md).
        step: npt.NDArray[np.float64] = part.factor * float(read.flat[0]) * own.ravel().astype(np.float64)
        return stored.ravel().astype(np.float64) * step


@dataclass(frozen=True, slots=True, eq=False)
class Folding:
    """All layers, with what folds into them, and the BatchNormalizations that stay."""

    layers: tuple[FoldedLayer, ...]
    blocked: tuple[Blocked, ...]


def scale_outputs(layer: Layer, weight: Single, gain: Single) -> Single:
    """The stored weight with each output channel multiplied by its gain."""
    if layer.inputs.product is Product.TRANSPOSED:
        inputs, outputs = weight.shape[:2]
        grouped = weight.reshape(layer.group, inputs // layer.group, outputs, -1)
        return (grouped * gain.reshape(layer.group, 1, outputs, 1)).reshape(weight.shape)
    return np.asarray(weight * gain.reshape(layer.channel_shape()), np.float32)


def scale_inputs(layer: Layer, weight: npt.NDArray[np.float32], gain: Vector) -> npt.NDArray[np.float64]:
    """The stored weight with each input channel multiplied by its gain."""
    match layer.inputs.product:
        case Product.CONVOLUTION:
            outputs, inputs = weight.shape[:2]
            grouped = weight.reshape(layer.group, outputs // layer.group, inputs, -1)
            return np.asarray((grouped * gain.reshape(layer.group, 1, inputs, 1)).reshape(weight.shape), np.float64)
        case Product.GEMM:
            return np.asarray(weight * (gain if layer.node.int("transB", 0) else gain[:, None]), np.float64)
        case Product.MATMUL:
            return np.asarray(weight * gain[:, None], np.float64)
        case Product.TRANSPOSED | Product.RECURRENT:
            raise ValueError(f"inputs of this layer cannot be scaled: {layer.op_type}")


def fold_batch_norms(model: Model, layers: Sequence[Layer]) -> Folding:
    """Fold every BatchNormalization that can be folded exactly; say for each other one what is in the way."""
    folder = _Folder(model, layers)
    blocked = [result for node in model.nodes_of("BatchNormalization") if (result := folder.fold(node)) is not None]
    return Folding(tuple(folder.folded[layer.output] for layer in layers), tuple(blocked))


def batch_norm(model: Model, node: Node) -> BatchNorm | None:
    """A BatchNormalization with its parameters; None where they are not constant vectors of one length.

    Raises:
        ModelError: one cannot be read.
    """
    keys = node.inputs[1:5]
    if len(keys) < 4 or not all(model.is_constant(key) for key in keys):
        return None
    stored = [np.ravel(model.constants[key]) for key in keys]
    if len({values.size for values in stored}) > 1 or not all(map(is_real, stored)):
        return None
    gamma, beta, mean, variance = (values.astype(np.float64) for values in stored)
    return BatchNorm(node, gamma, beta, mean, variance, node.float("epsilon", 1e-5))


class _Folder:
    def __init__(self, model: Model, layers: Sequence[Layer]) -> None:
        self.model = model
        self.folded = {layer.output: FoldedLayer(layer) for layer in layers}
        self.by_node = {layer.node: layer for layer in layers if layer.is_product}
        # A node that only passes constants on, such as a Transpose, is no reader of its own.
        origins = (
            model.constants.origin(key)
            for node in model.nodes
            if node.output not in model.constants
            for key in node.inputs
            if key in model.constants
        )
        self.readers = Counter(origins)

    def fold(self, node: Node) -> Blocked | None:
        if node.int("training_mode", 0) or (self.model.opset < 14 and len([o for o in node.outputs if o]) > 1):
            return Blocked(node, Blocker.TRAINING)
        norm = batch_norm(self.model, node)
        if norm is None:
            return Blocked(node, Blocker.PARAMETERS)
        blocked = self._fold_backward(norm)
        if blocked is not None and blocked.reason is Blocker.NO_LAYER:
            return self._fold_forward(norm)
        return blocked

    def _fold_backward(self, norm: BatchNorm) -> Blocked | None:
        """Put `norm` into the layer before it; what blocks it otherwise."""
        node, model = norm.node, self.model
        tensor = node.input(0)
        add, constant = self._bias_add(model.producer(tensor))
        if add is not None:
            tensor = next(key for key in add.inputs if key != constant)
        producer = model.producer(tensor)
        layer = self.by_node.get(producer) if producer is not None else None
        if producer is None or layer is None or not layer.is_float:
            return Blocked(node, *self._what_is_between(producer))
        if producer.graph != node.graph:
            return Blocked(node, Blocker.SUBGRAPH, producer)
        if model.sole_consumer(tensor) is not (add or node) or (add and model.sole_consumer(add.output) is not node):
            return Blocked(node, Blocker.CONSUMERS, producer)
        if reason := self._unfit(layer, norm.gain.size, layer.channels):
            return Blocked(node, reason, producer)
        if layer.inputs.product is Product.MATMUL and (len(model.shape(tensor) or ()) != 2 or layer.weight_left):
            return Blocked(node, Blocker.CHANNELS, producer)
        self.folded[layer.output] = replace(self.folded[layer.output], after=norm, bias_add=add, add_bias=constant)
        return None

    def _fold_forward(self, norm: BatchNorm) -> Blocked | None:
        """Put `norm` into the layer that alone reads it; what blocks it otherwise."""
        node, model = norm.node, self.model
        reader = model.sole_consumer(node.output)
        layer = self.by_node.get(reader) if reader is not None else None
        if reader is None or layer is None or layer.input != node.output:
            return Blocked(node, Blocker.NO_LAYER)
        if not layer.is_float or layer.inputs.product is Product.TRANSPOSED or layer.weight_left:
            return Blocked(node, Blocker.READER, reader)
        if layer.node.graph != node.graph:
            return Blocked(node, Blocker.SUBGRAPH, reader)
        inputs = _input_channels(layer)
        if reason := self._unfit(layer, norm.gain.size, inputs):
            return Blocked(node, reason, reader)
        shape = model.shape(node.output)
        is_row = shape is not None and len(shape) == 2 and not layer.node.int("transA", 0)
        if layer.inputs.product is not Product.CONVOLUTION and not is_row:
            return Blocked(node, Blocker.CHANNELS, reader)
        if layer.pads and bool(np.any(norm.shift)):
            return Blocked(node, Blocker.PADDING, reader)
        self.folded[layer.output] = replace(self.folded[layer.output], before=norm)
        return None

    def _unfit(self, layer: Layer, channels: int, wanted: int) -> Blocker | None:
        if channels != wanted:
            return Blocker.CHANNELS
        if layer.bias and not self.model.is_constant(layer.bias):
            return Blocker.SHARED_BIAS
        factors = layer.node.float("alpha", 1.0), layer.node.float("beta", 1.0)
        if layer.inputs.product is Product.GEMM and factors != (1, 1):
            return Blocker.FACTORS
        if layer.read_bias(self.model) is None:
            return Blocker.CHANNELS
        if self.readers[self.model.constants.origin(layer.weight)] > 1:
            return Blocker.SHARED_WEIGHT
        return None

    def _bias_add(self, node: Node | None) -> tuple[Node | None, str]:
        """A MatMul's bias: an Add whose one operand is a MatMul layer's result and the other a constant vector."""
        if node is None or node.op_type != "Add" or not node.is_standard or len(node.inputs) != 2:
            return None, ""
        for tensor, constant in (node.inputs, node.inputs[::-1]):
            producer = self.model.producer(tensor)
            layer = self.by_node.get(producer) if producer is not None else None
            if layer is None or not layer.is_float or layer.inputs.product is not Product.MATMUL:
                continue
            if self.model.is_constant(constant) and channel_vector(self.model, constant, layer.channels) is not None:
                return node, constant
        return None, ""

    def _what_is_between(self, node: Node | None) -> tuple[Blocker, Node | None]:
        """Nothing folds: is it that no layer is there, or that something stands before it?"""
        if node is None:
            return Blocker.NO_LAYER, None
        above = self.model.producer(node.input(0))
        if above is not None and above in self.by_node:
            return (Blocker.ACTIVATION if node.operator.has(Trait.ACTIVATION) else Blocker.OTHER_NODE), node
        return Blocker.NO_LAYER, node


def _input_channels(layer: Layer) -> int:
    if layer.inputs.product is Product.CONVOLUTION:
        return layer.weight_shape[1] * layer.group
    if layer.inputs.product is Product.GEMM:
        return layer.weight_shape[1 if layer.node.int("transB", 0) else 0]
    return layer.weight_shape[0] if len(layer.weight_shape) == 2 else -1
