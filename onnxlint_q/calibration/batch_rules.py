"""Whether an operator keeps the elements of a batch apart, and what has to change in it for a larger batch.

A tensor of the network that starts with an axis of length 1 has the batch there. One that does not, because a reshape
merged the batch with the axis behind it (a channel shuffle `[1, C, H, W]` to `[C / 2, 2, HW]`), carries the batch as
one more axis in front; only operators that rearrange are allowed on it, until its first axis has length 1 again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from onnxlint_q.analysis.propagation.values import is_known, settled_values
from onnxlint_q.calibration.executable import PREFIX
from onnxlint_q.graph import Model, Node, TensorType
from onnxlint_q.graph.names import ROOT
from onnxlint_q.graph.shapes import infer_types

Array = npt.NDArray[Any]
Shape = tuple[int | None, ...]
# What the order of sums may change, relative to what there is.
_SAME = 1e-3
_INTEGERS = frozenset({onnx.TensorProto.INT64, onnx.TensorProto.INT32})


class MixesBatchError(Exception):
    """The graph does not, or is not known to, treat the elements of a batch alike."""


def check_same(alone: Array, made: Array) -> None:
    """Raise MixesBatchError if an element of a batch is not, up to the order of sums, what it is alone."""
    if alone.shape != made.shape:
        raise MixesBatchError("a tensor has another shape in a batch")
    if np.issubdtype(alone.dtype, np.floating) and alone.size:
        power = float(np.square(alone, dtype=np.float64).sum())
        # Infinity less infinity would tell nothing.
        if np.isfinite(power) and not np.square(made.astype(np.float64) - alone).sum() <= _SAME**2 * power:
            raise MixesBatchError("a tensor has other values in a batch")


class Tensors:
    """What is known of the tensors of a graph whose batch is about to grow.

    Attributes:
        added: small initializers made on the way.
        front: tensors that carry the batch as an axis of its own in front of their axes.
    """

    def __init__(self, model: Model, proto: onnx.ModelProto) -> None:
        """Compute integer tensors that only constants and shapes decide, and take their nodes out of `proto`."""
        self.model = model
        self.added: list[onnx.TensorProto] = []
        self.front: set[str] = set()
        self.types: Mapping[str, TensorType] = model.types
        self._made: dict[str, Array] = {}
        self._values = settled_values(model)
        self._settle(proto)

    def _settle(self, proto: onnx.ModelProto) -> None:
        settled: list[onnx.TensorProto] = []
        outputs = {value.name for value in proto.graph.output}
        known = {node.outputs[0]: node for node in self.model.nodes if node.graph == ROOT and len(node.outputs) == 1}
        kept = []
        for node in proto.graph.node:
            found = known.get(node.output[0]) if node.output and node.output[0] not in outputs else None
            value = self._settled(found) if found is not None else None
            if found is None or value is None:
                kept.append(node)
                continue
            self._made[found.outputs[0]] = value
            settled.append(onnx.numpy_helper.from_array(value, found.outputs[0]))
        if settled:
            del proto.graph.node[:]
            proto.graph.node.extend(kept)
            proto.graph.initializer.extend(settled)
            self.types = infer_types(proto, self.model.constants)

    def _settled(self, node: Node) -> Array | None:
        """Value of an integer tensor that is the same for every input of this shape, computed from integers alone."""
        own = self.model.types.get(node.outputs[0])
        if own is None or own.elem_type not in _INTEGERS or node.op_type == "Constant":
            return None
        if node.op_type != "Shape" and not all(self.is_constant(name) for name in node.inputs if name):
            return None
        value = self._values.get(node.outputs[0])
        dtype = onnx.helper.tensor_dtype_to_np_dtype(own.elem_type)
        return None if value is None or not is_known(value) else np.ascontiguousarray(value, dtype)

    def shape(self, name: str) -> Shape | None:
        """Shape of a tensor with a batch of one, as far as it is known."""
        known = self.types.get(name)
        return known.shape if known else None

    def rank(self, name: str) -> int:
        """Rank of a tensor.

        Raises:
            MixesBatchError: it is unknown.
        """
        shape = self.shape(name)
        if shape is None:
            raise MixesBatchError(f"the shape of {name!r} is unknown")
        return len(shape)

    def has_batch(self, name: str) -> bool:
        """Whether axis 0 of a tensor that depends on the input is the batch; a scalar has none."""
        return self.rank(name) > 0 and (self.shape(name) or ())[0] in {1, None}

    def is_constant(self, name: str) -> bool:
        """Whether a tensor is the same for every sample."""
        return name in self._made or self.model.is_constant(name)

    def constant(self, name: str) -> Array | None:
        """Value of a constant input, None where it is none."""
        if not name:
            return None
        return self._made[name] if name in self._made else self.model.constant(name)

    def add_constant(self, value: Array) -> str:
        """A new small initializer."""
        name = f"{PREFIX}shape{len(self.added)}"
        self._made[name] = value
        self.added.append(onnx.numpy_helper.from_array(value, name))
        return name


Rule = Callable[[Tensors, onnx.NodeProto, Node, int], None]


def _free(_tensors: Tensors, _node: onnx.NodeProto, _known: Node, _batch: int) -> None:
    """The operator never looks across axis 0."""


def _refuse(node: onnx.NodeProto, why: str) -> None:
    raise MixesBatchError(f"{node.op_type} {node.name or node.output[0]!r} {why}")


def _axis(default: int) -> Rule:
    """The operator works along one axis, which must not be the batch."""

    def check(tensors: Tensors, node: onnx.NodeProto, known: Node, _batch: int) -> None:
        axis = known.int("axis", default)
        if axis % max(tensors.rank(known.inputs[0]), 1) == 0:
            _refuse(node, "works along the batch")

    return check


def _axes(tensors: Tensors, node: onnx.NodeProto, known: Node, _batch: int) -> None:
    """The operator works along listed axes; none of them may be the batch, and none listed means all."""
    rank = tensors.rank(known.inputs[0])
    listed = tensors.constant(known.input(1)) if known.input(1) else np.asarray(known.ints("axes"))
    if listed is None or not listed.size or any(int(axis) % max(rank, 1) == 0 for axis in listed.ravel()):
        _refuse(node, "works along the batch, or along axes that are not known")


def _transpose(tensors: Tensors, node: onnx.NodeProto, known: Node, _batch: int) -> None:
    perm = known.ints("perm") or tuple(reversed(range(tensors.rank(known.inputs[0]))))
    if known.inputs[0] in tensors.front:
        _set(node, "perm", [0, *(axis + 1 for axis in perm)])
        tensors.front.add(known.outputs[0])
    elif perm[:1] != (0,):
        _refuse(node, "moves the batch axis")


def _pick(tensors: Tensors, node: onnx.NodeProto, known: Node, _batch: int) -> None:
    """Gather by constant indices, and Split: one axis, which must not be the batch."""
    if node.op_type == "Gather" and not tensors.is_constant(known.inputs[1]):
        _refuse(node, "takes indices that are computed")
    axis = known.int("axis", 0) % max(tensors.rank(known.inputs[0]), 1)
    if known.inputs[0] in tensors.front:
        _set(node, "axis", axis + 1)
        tensors.front.update(filter(None, known.outputs))
    elif axis == 0:
        _refuse(node, "works along the batch")


def _set(node: onnx.NodeProto, name: str, value: int | list[int]) -> None:
    others = [attribute for attribute in node.attribute if attribute.name != name]
    del node.attribute[:]
    node.attribute.extend([*others, onnx.helper.make_attribute(name, value)])


def _slice(tensors: Tensors, node: onnx.NodeProto, known: Node, _batch: int) -> None:
    starts = tensors.constant(known.input(1)) if known.input(1) else np.asarray(known.ints("starts"))
    axes = tensors.constant(known.input(3)) if known.input(3) else np.asarray(known.ints("axes"))
    if starts is None or axes is None or not axes.size:
        _refuse(node, "slices axes that are not known")
    elif any(int(axis) % tensors.rank(known.inputs[0]) == 0 for axis in axes.ravel()):
        _refuse(node, "slices the batch")


def _pad(tensors: Tensors, node: onnx.NodeProto, known: Node, _batch: int) -> None:
    pads = tensors.constant(known.input(1)) if known.input(1) else np.asarray(known.ints("pads"))
    if pads is None or known.input(3) or not pads.size or pads[0] != 0 or pads[pads.size // 2] != 0:
        _refuse(node, "pads the batch, or axes that are not known")


def _flatten(_tensors: Tensors, node: onnx.NodeProto, known: Node, _batch: int) -> None:
    if known.int("axis", 1) < 1:
        _refuse(node, "flattens the batch")


def _reshape(tensors: Tensors, node: onnx.NodeProto, known: Node, batch: int) -> None:
    """A leading 1 that stands for a batch of one becomes the batch; another leading axis gets the batch in front."""
    data, result = known.inputs[0], known.outputs[0]
    after = tensors.shape(result)
    shape = tensors.constant(known.input(1)) if known.input(1) else np.asarray(known.ints("shape"), np.int64)
    if shape is None or not shape.size or not after:
        _refuse(node, "reshapes to a shape that is computed")
        return
    in_front = data in tensors.front
    if not in_front and not tensors.has_batch(data):
        _refuse(node, "does not keep the batch in front")
    opens = after[0] not in {1, None}
    if in_front and after[0] is None:
        _refuse(node, "reshapes to a shape that is not known")
    if not in_front and not opens and shape[0] == 0 and not known.int("allowzero", 0):
        return
    target = [batch, *(dim if dim is not None else -1 for dim in (after if opens else after[1:]))]
    if target.count(-1) > 1:
        _refuse(node, "reshapes to a shape that is not known")
    if len(node.input) < 2:
        _refuse(node, "is of an opset that keeps the shape in an attribute")
    node.input[1] = tensors.add_constant(np.asarray(target, np.int64))
    if opens:
        tensors.front.add(result)


def _resize(tensors: Tensors, node: onnx.NodeProto, known: Node, batch: int) -> None:
    sizes = tensors.constant(known.input(3))
    if known.input(3):
        if sizes is None or sizes.size < 2 or known.ints("axes") or batch < 0:
            _refuse(node, "resizes to a size that is computed, or to one in numbers")
            return
        node.input[3] = tensors.add_constant(np.asarray([batch, *sizes[1:]], np.int64))
        return
    scales = tensors.constant(known.input(2) or known.input(1))
    listed = scales if scales is not None else np.asarray(known.attributes.get("scales", ()))
    if not listed.size or listed[0] != 1 or known.ints("axes"):
        _refuse(node, "resizes the batch, or by a scale that is computed")


def _matmul(tensors: Tensors, node: onnx.NodeProto, known: Node, _batch: int) -> None:
    ranks = [tensors.rank(key) for key in known.inputs]
    constant = [tensors.is_constant(key) for key in known.inputs]
    if constant[1]:
        if ranks[0] < 2 or ranks[1] > 2:
            _refuse(node, "multiplies batches")
    elif not all(not c and r >= 3 for c, r in zip(constant, ranks, strict=True)):
        _refuse(node, "has the batch among its rows")


def _batch_norm(_tensors: Tensors, node: onnx.NodeProto, known: Node, _batch: int) -> None:
    if known.int("training_mode", 0):
        _refuse(node, "takes its statistics from the batch")


def _gemm(_tensors: Tensors, node: onnx.NodeProto, known: Node, _batch: int) -> None:
    if known.int("transA", 0):
        _refuse(node, "has the batch among its sums")


def _quantize(tensors: Tensors, node: onnx.NodeProto, known: Node, _batch: int) -> None:
    """Scales by constants, one for all values or for each element of an axis that is not the batch."""
    parameters = [key for key in known.inputs[1:] if key]
    if not all(tensors.is_constant(key) for key in parameters):
        _refuse(node, "takes scales that are computed")
    if (
        any(tensors.rank(key) for key in parameters)
        and known.int("axis", 1) % max(tensors.rank(known.inputs[0]), 1) == 0
    ):
        _refuse(node, "has scales that run along the batch")


def _elementwise(tensors: Tensors, node: onnx.NodeProto, known: Node, _batch: int) -> None:
    """Ranks of what depends on the input must agree, or axis 0 of one would meet another axis of the other."""
    ranks = {tensors.rank(key) for key in known.inputs if key and not tensors.is_constant(key)}
    constant = [tensors.shape(key) for key in known.inputs if key and tensors.is_constant(key)]
    top = max(ranks)
    if len(ranks - {0}) > 1:
        _refuse(node, "meets tensors of different rank")
    if any(s is None or len(s) > top or (len(s) == top and s[0] != 1) for s in constant):
        _refuse(node, "has a constant that runs along the batch")


# Operators that may see a tensor whose batch is an axis of its own in front.
REARRANGING = frozenset({"Reshape", "Transpose", "Gather", "Split"})
RULES: Mapping[str, Rule] = {
    **dict.fromkeys(
        "Relu LeakyRelu Elu Selu Celu Gelu Sigmoid Tanh HardSigmoid HardSwish Mish Softplus Softsign ThresholdedRelu "
        "Exp Log Sqrt Abs Neg Reciprocal Erf Floor Ceil Round Sign Cast Identity Dropout Clip Conv ConvTranspose "
        "InstanceNormalization GlobalAveragePool GlobalMaxPool AveragePool MaxPool LpPool LRN "
        "DepthToSpace SpaceToDepth GroupNormalization Sin Cos Not".split(),
        _free,
    ),
    **dict.fromkeys("Add Sub Mul Div Min Max Pow PRelu Sum Mean Where Equal Greater Less".split(), _elementwise),
    **dict.fromkeys("Softmax LogSoftmax Hardmax LayerNormalization TopK ArgMax ArgMin CumSum".split(), _axis(-1)),
    **dict.fromkeys("Concat GatherElements".split(), _axis(0)),
    **dict.fromkeys(
        "ReduceMean ReduceSum ReduceMax ReduceMin ReduceL1 ReduceL2 ReduceSumSquare Squeeze Unsqueeze".split(), _axes
    ),
    "BatchNormalization": _batch_norm,
    "Gather": _pick,
    "Split": _pick,
    "Transpose": _transpose,
    "Slice": _slice,
    "Pad": _pad,
    "Flatten": _flatten,
    "Reshape": _reshape,
    "QuantizeLinear": _quantize,
    "DequantizeLinear": _quantize,
    "Resize": _resize,
    "Upsample": _resize,
    "MatMul": _matmul,
    "Gemm": _gemm,
}


def keep_apart(tensors: Tensors, node: onnx.NodeProto, known: Node | None, batch: int) -> None:
    """Change what has to change in `node` for a batch of this size, -1 for one of any size.

    Args:
        tensors: what is known of its inputs.
        node: of the graph that grows; at least one of its inputs depends on the sample.
        known: the same node of the model; None if the model has none.
        batch: how long axis 0 becomes.

    Raises:
        MixesBatchError: it is not known to keep the elements of a batch apart.
    """
    if any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute):
        _refuse(node, "has a subgraph")
    rule = RULES.get(node.op_type) if node.domain in {"", "ai.onnx"} else None
    if rule is None or known is None:
        raise MixesBatchError(f"{node.op_type} {node.name or node.output[0]!r} is not known to keep a batch apart")
    if not tensors.front.isdisjoint(known.inputs) and node.op_type not in REARRANGING:
        _refuse(node, "follows a reshape of the batch")
    rule(tensors, node, known, batch)


def closed(tensors: Tensors, node: onnx.NodeProto, batch: int) -> Iterator[onnx.NodeProto]:
    """Reshapes behind `node`: a result with the batch in front whose own first axis has length 1 has the batch there.

    Raises:
        MixesBatchError: the shape of such a result is unknown.
    """
    for position, name in enumerate(node.output):
        shape = tensors.shape(name)
        if name not in tensors.front or not shape or shape[0] != 1:
            continue
        target = [batch, *(dim or -1 for dim in shape[1:])]
        if target.count(-1) > 1:
            raise MixesBatchError(f"the shape of {name!r} is unknown")
        node.output[position] = f"{PREFIX}front_{name}"
        constant = tensors.add_constant(np.asarray(target, np.int64))
        yield onnx.helper.make_node("Reshape", [node.output[position], constant], [name])
        tensors.front.discard(name)
