"""Many weight variants in one run, each computed only from its own layer on.

The batch axis carries the variants. At the layer of variant `v` the float part of the batch is convolved with the
float weight and once more with the quantised one, and the second result joins the batch; from there on `v` travels
as one more element of it. A layer late in the network so costs little, nothing upstream of a layer is computed twice,
and one session serves all layers.

Where branches meet, each is brought to the union of their variants; a branch that a variant did not touch gives its
float part. That needs every operator on the way to treat the elements of a batch alike, which is checked operator by
operator: a graph that mixes batch elements, or one that is not known not to, is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from onnxlint_q.calibration.executable import PREFIX, Executable, declare_external
from onnxlint_q.graph import Model, Node
from onnxlint_q.graph.names import ROOT

Array = npt.NDArray[Any]


class MixesBatchError(Exception):
    """The graph does not, or is not known to, treat the elements of a batch alike."""


@dataclass(frozen=True, eq=False)
class FanOut:
    """A model that computes the float result and all variants of it.

    Attributes:
        executable: takes one sample; outputs hold `1 + len(order)` blocks of it along axis 0.
        order: for each output, the variants in the order of their blocks, which follow the float block. A variant
            that an output does not depend on is not among them.
    """

    executable: Executable
    order: Mapping[str, tuple[str, ...]]


def fan_out(model: Model, executable: Executable, variants: Mapping[str, Array]) -> FanOut:
    """Put one variant a layer into one graph.

    Args:
        model: the model that `executable` was folded from.
        executable: the folded float model, with a batch of one.
        variants: another weight for some layers, by layer key, in the layout of the executable's own.

    Raises:
        MixesBatchError: an operator behind one of the layers does not keep batch elements apart.
    """
    return _Builder(model, executable, variants).build()


class _Builder:
    def __init__(self, model: Model, executable: Executable, variants: Mapping[str, Array]) -> None:
        self.model = model
        self.base = executable
        self.by_weight = {executable.layer_weights[key]: key for key in variants}
        self.variants = variants
        self.graph = onnx.GraphProto()
        self.weights: dict[str, Array] = {}
        # The variants that a tensor carries; a tensor that is not named here carries none.
        self.carried: dict[str, tuple[str, ...]] = {}
        self.indices: dict[tuple[int, ...], str] = {}
        self.aligned: dict[tuple[str, tuple[str, ...]], str] = {}
        self.made: set[str] = set()
        self.known = {node.outputs[0]: node for node in model.nodes if node.graph == ROOT and node.outputs}

    def build(self) -> FanOut:
        proto = onnx.ModelProto()
        proto.CopyFrom(self.base.proto)
        source = proto.graph
        for node in list(source.node):
            self._visit(node)
        del source.node[:]
        source.node.extend(self.graph.node)
        source.initializer.extend(self.graph.initializer)
        for value in source.output:
            value.type.tensor_type.ClearField("shape")
        del source.value_info[:]
        executable = replace(self.base, proto=proto, weights={**self.base.weights, **self.weights})
        return FanOut(executable, {value.name: self.carried.get(value.name, ()) for value in source.output})

    def _visit(self, node: onnx.NodeProto) -> None:
        layer = next((self.by_weight[name] for name in node.input if name in self.by_weight), None)
        union = tuple(dict.fromkeys(v for name in node.input for v in self.carried.get(name, ())))
        if union:
            self._check_captures(node)
            self._keep_apart(node, union)
        self.graph.node.append(node)
        for name in filter(None, node.output):
            if union:
                self.carried[name] = union
        if layer is not None:
            self._split_off(node, layer, union)

    def _check_captures(self, node: onnx.NodeProto) -> None:
        if any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute):
            raise MixesBatchError(f"{node.op_type} {node.name or node.output[0]!r} has a subgraph")

    def _keep_apart(self, node: onnx.NodeProto, union: tuple[str, ...]) -> None:
        """Bring the inputs of `node` to the same batch, or refuse it."""
        rule = _RULES.get(node.op_type) if node.domain in {"", "ai.onnx"} else None
        known = self.known.get(node.output[0])
        if rule is None or known is None:
            raise MixesBatchError(f"{node.op_type} {node.name or node.output[0]!r} is not known to keep a batch apart")
        rule(self, node, known, 1 + len(union))
        for position, name in enumerate(node.input):
            if name and not self._is_constant(name) and self._has_batch(name):
                node.input[position] = self._brought_to(name, union)

    def _split_off(self, node: onnx.NodeProto, layer: str, union: tuple[str, ...]) -> None:
        """Compute `node` once more on the float part with the variant's weight, and append that to its result."""
        if self.model.shape(self.known[node.output[0]].outputs[0]) is None and node.op_type == "MatMul":
            raise MixesBatchError(f"the rank of MatMul {node.output[0]!r} is unknown")
        number = len(self.weights)
        weight = f"{PREFIX}v{number}"
        array = np.asarray(self.variants[layer], self.base.weights[self.base.layer_weights[layer]].dtype, order="C")
        elem_type = helper.np_dtype_to_tensor_dtype(array.dtype)
        self.graph.initializer.append(declare_external(weight, elem_type, array.shape))
        self.weights[weight] = array
        result = node.output[0]
        node.output[0] = f"{PREFIX}float{number}"
        self.graph.node[-1].output[0] = node.output[0]
        twin = onnx.NodeProto()
        twin.CopyFrom(node)
        twin.name = ""
        twin.output[0] = f"{PREFIX}twin{number}"
        old = self.base.layer_weights[layer]
        for position, name in enumerate(twin.input):
            if name == old:
                twin.input[position] = weight
            elif self.carried.get(name) or name in self._aligned_names():
                twin.input[position] = self._gathered(name, (0,))
        self.graph.node.append(twin)
        self.graph.node.append(helper.make_node("Concat", [node.output[0], twin.output[0]], [result], axis=0))
        self.carried[node.output[0]] = union
        self.carried[result] = (*union, layer)

    def _aligned_names(self) -> set[str]:
        return set(self.aligned.values())

    def _brought_to(self, name: str, union: tuple[str, ...]) -> str:
        own = self.carried.get(name, ())
        if own == union:
            return name
        key = (name, union)
        if key not in self.aligned:
            places = {variant: block for block, variant in enumerate(own, start=1)}
            self.aligned[key] = self._gathered(name, (0, *(places.get(variant, 0) for variant in union)))
            self.carried[self.aligned[key]] = union
        return self.aligned[key]

    def _gathered(self, name: str, blocks: tuple[int, ...]) -> str:
        """A tensor made of blocks of `name` along the batch axis."""
        if blocks not in self.indices:
            self.indices[blocks] = f"{PREFIX}blocks{len(self.indices)}"
            index = np.asarray(blocks, np.int64)
            self.graph.initializer.append(onnx.numpy_helper.from_array(index, self.indices[blocks]))
        result = f"{PREFIX}gathered{len(self.graph.node)}"
        self.graph.node.append(helper.make_node("Gather", [name, self.indices[blocks]], [result], axis=0))
        return result

    def _is_constant(self, name: str) -> bool:
        return name in self.base.weights or name in self.made or self.model.is_constant(name)

    def _has_batch(self, name: str) -> bool:
        """Whether axis 0 of a tensor that depends on the input is the batch; a scalar has none."""
        if self.carried.get(name):
            return True
        shape = self.model.shape(name)
        if shape is None:
            raise MixesBatchError(f"the shape of {name!r} is unknown")
        return len(shape) > 0 and shape[0] in {1, None}

    # -- what other code asks of a node ---------------------------------------------------------------------------

    def rank(self, name: str) -> int:
        """Rank of a tensor of the model."""
        shape = self.model.shape(name)
        if shape is None:
            raise MixesBatchError(f"the shape of {name!r} is unknown")
        return len(shape)

    def constant(self, name: str) -> Array | None:
        """Value of a constant input, None where it is none."""
        return self.model.constant(name) if name else None

    def add_constant(self, value: Array) -> str:
        """A new small initializer."""
        name = f"{PREFIX}shape{len(self.graph.initializer)}"
        self.made.add(name)
        self.graph.initializer.append(onnx.numpy_helper.from_array(value, name))
        return name


_Rule = Callable[[_Builder, onnx.NodeProto, Node, int], None]


def _free(_builder: _Builder, _node: onnx.NodeProto, _known: Node, _batch: int) -> None:
    """The operator never looks across axis 0."""


def _refuse(node: onnx.NodeProto, why: str) -> None:
    raise MixesBatchError(f"{node.op_type} {node.name or node.output[0]!r} {why}")


def _axis(default: int) -> _Rule:
    """The operator works along one axis, which must not be the batch."""

    def check(builder: _Builder, node: onnx.NodeProto, known: Node, _batch: int) -> None:
        axis = known.int("axis", default)
        if axis % max(builder.rank(known.inputs[0]), 1) == 0:
            _refuse(node, "works along the batch")

    return check


def _axes(builder: _Builder, node: onnx.NodeProto, known: Node, _batch: int) -> None:
    """The operator works along listed axes; none of them may be the batch, and none listed means all."""
    rank = builder.rank(known.inputs[0])
    listed = builder.constant(known.input(1)) if known.input(1) else np.asarray(known.ints("axes"))
    if listed is None or not listed.size or any(int(axis) % max(rank, 1) == 0 for axis in listed.ravel()):
        _refuse(node, "works along the batch, or along axes that are not known")


def _transpose(_builder: _Builder, node: onnx.NodeProto, known: Node, _batch: int) -> None:
    if known.ints("perm")[:1] != (0,):
        _refuse(node, "moves the batch axis")


def _slice(builder: _Builder, node: onnx.NodeProto, known: Node, _batch: int) -> None:
    starts = builder.constant(known.input(1)) if known.input(1) else np.asarray(known.ints("starts"))
    axes = builder.constant(known.input(3)) if known.input(3) else np.asarray(known.ints("axes"))
    if starts is None or axes is None or not axes.size:
        _refuse(node, "slices axes that are not known")
    elif any(int(axis) % builder.rank(known.inputs[0]) == 0 for axis in axes.ravel()):
        _refuse(node, "slices the batch")


def _pad(builder: _Builder, node: onnx.NodeProto, known: Node, _batch: int) -> None:
    pads = builder.constant(known.input(1)) if known.input(1) else np.asarray(known.ints("pads"))
    if pads is None or known.input(3) or not pads.size or pads[0] != 0 or pads[pads.size // 2] != 0:
        _refuse(node, "pads the batch, or axes that are not known")


def _flatten(_builder: _Builder, node: onnx.NodeProto, known: Node, _batch: int) -> None:
    if known.int("axis", 1) < 1:
        _refuse(node, "flattens the batch")


def _reshape(builder: _Builder, node: onnx.NodeProto, known: Node, batch: int) -> None:
    """A leading 1 or -1 that stands for a batch of one becomes the batch itself."""
    shape = builder.constant(known.input(1)) if known.input(1) else np.asarray(known.ints("shape"), np.int64)
    before, after = builder.model.shape(known.inputs[0]), builder.model.shape(known.outputs[0])
    if shape is None or not shape.size or before is None or after is None:
        _refuse(node, "reshapes to a shape that is computed")
        return
    if before[:1] not in {(1,), (None,)} or after[:1] not in {(1,), (None,)}:
        _refuse(node, "does not keep the batch in front")
    if shape[0] == 0 and not known.int("allowzero", 0):
        return
    rest = [int(d) if d is not None else -1 for d in after[1:]]
    if rest.count(-1) > 1:
        _refuse(node, "reshapes to a shape that is not known")
    if len(node.input) < 2:
        _refuse(node, "is of an opset that keeps the shape in an attribute")
    node.input[1] = builder.add_constant(np.asarray([batch, *rest], np.int64))


def _resize(builder: _Builder, node: onnx.NodeProto, known: Node, batch: int) -> None:
    sizes = builder.constant(known.input(3))
    if known.input(3):
        if sizes is None or sizes.size < 2 or known.ints("axes"):
            _refuse(node, "resizes to a size that is computed")
            return
        node.input[3] = builder.add_constant(np.asarray([batch, *sizes[1:]], np.int64))
        return
    scales = builder.constant(known.input(2) or known.input(1))
    listed = scales if scales is not None else np.asarray(known.attributes.get("scales", ()))
    if not listed.size or listed[0] != 1 or known.ints("axes"):
        _refuse(node, "resizes the batch, or by a scale that is computed")


def _matmul(builder: _Builder, node: onnx.NodeProto, known: Node, _batch: int) -> None:
    ranks = [builder.rank(key) for key in known.inputs]
    constant = [builder.model.is_constant(key) for key in known.inputs]
    if constant[1]:
        if ranks[0] < 2 or ranks[1] > 2:
            _refuse(node, "multiplies batches")
    elif not all(not c and r >= 3 for c, r in zip(constant, ranks, strict=True)):
        _refuse(node, "has the batch among its rows")


def _gemm(_builder: _Builder, node: onnx.NodeProto, known: Node, _batch: int) -> None:
    if known.int("transA", 0):
        _refuse(node, "has the batch among its sums")


def _elementwise(builder: _Builder, node: onnx.NodeProto, known: Node, _batch: int) -> None:
    """Ranks of what depends on the input must agree, or axis 0 of one would meet another axis of the other."""
    ranks = {builder.rank(key) for key in known.inputs if key and not builder.model.is_constant(key)}
    constant = [builder.model.shape(key) for key in known.inputs if key and builder.model.is_constant(key)]
    top = max(ranks)
    if len(ranks - {0}) > 1:
        _refuse(node, "meets tensors of different rank")
    if any(s is None or len(s) > top or (len(s) == top and s[0] != 1) for s in constant):
        _refuse(node, "has a constant that runs along the batch")


_RULES: Mapping[str, _Rule] = {
    **dict.fromkeys(
        "Relu LeakyRelu Elu Selu Celu Gelu Sigmoid Tanh HardSigmoid HardSwish Mish Softplus Softsign ThresholdedRelu "
        "Exp Log Sqrt Abs Neg Reciprocal Erf Floor Ceil Round Sign Cast Identity Dropout Clip Conv ConvTranspose "
        "BatchNormalization InstanceNormalization GlobalAveragePool GlobalMaxPool AveragePool MaxPool LpPool LRN "
        "DepthToSpace SpaceToDepth GroupNormalization Sin Cos Not".split(),
        _free,
    ),
    **dict.fromkeys("Add Sub Mul Div Min Max Pow PRelu Sum Mean Where Equal Greater Less".split(), _elementwise),
    **dict.fromkeys("Softmax LogSoftmax Hardmax LayerNormalization TopK ArgMax ArgMin CumSum".split(), _axis(-1)),
    **dict.fromkeys("Concat Split Gather GatherElements".split(), _axis(0)),
    **dict.fromkeys(
        "ReduceMean ReduceSum ReduceMax ReduceMin ReduceL1 ReduceL2 ReduceSumSquare Squeeze Unsqueeze".split(), _axes
    ),
    "Transpose": _transpose,
    "Slice": _slice,
    "Pad": _pad,
    "Flatten": _flatten,
    "Reshape": _reshape,
    "Resize": _resize,
    "Upsample": _resize,
    "MatMul": _matmul,
    "Gemm": _gemm,
}


def blocks(output: Array, order: Sequence[str]) -> tuple[Array, dict[str, Array]]:
    """An output of a FanOut as the float result and the result of each variant."""
    parts = np.split(output, 1 + len(order), axis=0)
    return parts[0], dict(zip(order, parts[1:], strict=True))
