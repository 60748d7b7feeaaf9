"""Whether an operator keeps the elements of a batch apart, and what has to change in it for a larger batch.

A tensor of the network that starts with an axis of length 1 has the batch there. One that does not, because a reshape
merged the batch with the axis behind it (a channel shuffle `[1, C, H, W]` to `[C / 2, 2, HW]`), carries the batch as
one more axis in front; only operators that rearrange are allowed on it, until its first axis has length 1 again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import onnx

from onnxlint_q.execute.batch.batch_tensors import MixesBatchError, Tensors
from onnxlint_q.execute.executable import PREFIX
from onnxlint_q.graph import Node
from onnxlint_q.graph.operators import BatchAxis, lookup

BatchRule = Callable[[Tensors, onnx.NodeProto, Node, int], None]


def _free(_tensors: Tensors, _node: onnx.NodeProto, _known: Node, _batch: int) -> None:
    """The operator never looks across axis 0."""


def _refuse(node: onnx.NodeProto, why: str) -> None:
    raise MixesBatchError(f"{node.op_type} {node.name or node.output[0]!r} {why}")


def _one_result(_tensors: Tensors, node: onnx.NodeProto, known: Node, _batch: int) -> None:
    """Further results are places counted over the whole batch, or its statistics."""
    if any(known.outputs[1:]) or known.int("training_mode", 0):
        _refuse(node, "takes its statistics from the batch, or counts places in it")


def _dropout(tensors: Tensors, node: onnx.NodeProto, known: Node, _batch: int) -> None:
    training = tensors.constant(known.input(2))
    if known.input(2) and (training is None or training.any()):
        _refuse(node, "draws random numbers")


def _cumsum(tensors: Tensors, node: onnx.NodeProto, known: Node, _batch: int) -> None:
    axis = tensors.constant(known.input(1))
    if axis is None or not axis.size or int(axis.ravel()[0]) % max(tensors.rank(known.inputs[0]), 1) == 0:
        _refuse(node, "works along the batch, or along an axis that is computed")


def _axis(tensors: Tensors, node: onnx.NodeProto, known: Node, _batch: int) -> None:
    """The operator works along one axis, which must not be the batch."""
    axis = known.int("axis", known.operator.axis or 0)
    if axis % max(tensors.rank(known.inputs[0]), 1) == 0:
        _refuse(node, "works along the batch")


def _joined(tensors: Tensors, node: onnx.NodeProto, known: Node, batch: int) -> None:
    """Several tensors along one axis, each with the batch."""
    if not all(_is_batch(tensors, key) for key in known.inputs if key):
        _refuse(node, "takes something without a batch")
    _axis(tensors, node, known, batch)


def _is_batch(tensors: Tensors, key: str) -> bool:
    return not tensors.is_constant(key) and tensors.has_batch(key)


def _axes(tensors: Tensors, node: onnx.NodeProto, known: Node, _batch: int) -> None:
    """The operator works along listed axes; none of them may be the batch, and none listed means all."""
    rank = tensors.rank(known.inputs[0])
    listed = tensors.constant(known.input(1)) if known.input(1) else np.asarray(known.ints("axes"))
    if node.op_type == "Unsqueeze" and listed is not None:  # its axes are those of the result
        rank += listed.size
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
    if node.op_type == "Gather" and not tensors.is_constant(known.input(1)):
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
    elif any(int(axis) % max(tensors.rank(known.inputs[0]), 1) == 0 for axis in axes.ravel()):
        _refuse(node, "slices the batch")


def _pad(tensors: Tensors, node: onnx.NodeProto, known: Node, _batch: int) -> None:
    pads = tensors.constant(known.input(1)) if known.input(1) else np.asarray(known.ints("pads"))
    if pads is None or known.input(3) or not pads.size or pads[0] != 0 or pads[pads.size // 2] != 0:
        _refuse(node, "pads the batch, or axes that are not known")


def _flatten(tensors: Tensors, node: onnx.NodeProto, known: Node, _batch: int) -> None:
    shape = tensors.shape(known.inputs[0]) or ()
    axis = known.int("axis", 1)
    axis += len(shape) if axis < 0 else 0
    if axis < 1 or any(length != 1 for length in shape[1:axis]):
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
    if not in_front and shape[0] == 0 and not known.int("allowzero", 0):
        return
    if after[0] is None or 0 in after:
        _refuse(node, "reshapes to a shape that is not known, or that holds nothing")
    opens = after[0] != 1
    target = [batch, *(dim if dim is not None else -1 for dim in (after if opens else after[1:]))]
    if target.count(-1) > 1:
        _refuse(node, "reshapes to a shape that is not known")
    if len(node.input) < 2:
        _refuse(node, "is of an opset that keeps the shape in an attribute")
    node.input[1] = tensors.add_constant(np.asarray(target, np.int64))
    if opens:
        tensors.front.add(result)


def _expand(tensors: Tensors, node: onnx.NodeProto, known: Node, _batch: int) -> None:
    """The shape is broadcast from behind: one as long as the rank has a 1 for the batch, a shorter one leaves it."""
    shape = tensors.constant(known.input(1))
    rank = tensors.rank(known.inputs[0])
    if shape is None or shape.size > rank or (shape.size == rank and shape.ravel()[0] != 1):
        _refuse(node, "repeats the batch, or to a shape that is computed")


def _tile(tensors: Tensors, node: onnx.NodeProto, known: Node, _batch: int) -> None:
    repeats = tensors.constant(known.input(1))
    if repeats is None or not repeats.size or repeats.ravel()[0] != 1:
        _refuse(node, "repeats the batch, or as often as is computed")


def _resize(tensors: Tensors, node: onnx.NodeProto, known: Node, batch: int) -> None:
    if known.text("coordinate_transformation_mode", "") == "tf_crop_and_resize":
        _refuse(node, "cuts out of every axis, of the batch as well")
    sizes = tensors.constant(known.input(3))
    if known.input(3):
        if sizes is None or sizes.size < 2 or sizes[0] != 1 or known.ints("axes") or batch < 0:
            _refuse(node, "resizes to a size that is computed, or to one in numbers")
            return
        node.input[3] = tensors.add_constant(np.asarray([batch, *sizes[1:]], np.int64))
        return
    scales = tensors.constant(known.input(2) or known.input(1))
    listed = scales if scales is not None else np.asarray(known.attributes.get("scales", ()))
    if not listed.size or listed[0] != 1 or known.ints("axes"):
        _refuse(node, "resizes the batch, or by a scale that is computed")


def _matmul(tensors: Tensors, node: onnx.NodeProto, known: Node, _batch: int) -> None:
    left, right = known.inputs[0], known.input(1)
    if tensors.is_constant(right):
        if not _is_batch(tensors, left) or tensors.rank(left) < 2 or tensors.rank(right) > 2:
            _refuse(node, "multiplies batches")
    elif (
        not (_is_batch(tensors, left) and _is_batch(tensors, right))
        or not tensors.rank(left) == tensors.rank(right) > 2
    ):
        _refuse(node, "has the batch among its rows")


def _gemm(tensors: Tensors, node: onnx.NodeProto, known: Node, _batch: int) -> None:
    data, weight, bias = known.inputs[0], known.input(1), known.input(2)
    if known.int("transA", 0) or tensors.is_constant(data) or not tensors.is_constant(weight):
        _refuse(node, "has the batch among its sums")
    most = 1 if bias and tensors.is_constant(bias) else 0
    if bias and tensors.rank(bias) > most and not (tensors.rank(bias) == 2 and tensors.has_batch(bias)):
        _refuse(node, "adds what does not run along the batch")


def _quantize(tensors: Tensors, node: onnx.NodeProto, known: Node, _batch: int) -> None:
    """Scales by constants, one for all values or for each element of an axis that is not the batch."""
    parameters = [key for key in known.inputs[1:] if key]
    if not all(tensors.is_constant(key) and tensors.rank(key) < 2 for key in parameters):
        _refuse(node, "takes scales that are computed, or one a block")
    if (
        any(tensors.rank(key) for key in parameters)
        and known.int("axis", 1) % max(tensors.rank(known.inputs[0]), 1) == 0
    ):
        _refuse(node, "has scales that run along the batch")


def _elementwise(tensors: Tensors, node: onnx.NodeProto, known: Node, _batch: int) -> None:
    """Ranks of what depends on the input must agree, or axis 0 of one would meet another axis of the other."""
    depends = [key for key in known.inputs if key and not tensors.is_constant(key)]
    ranks = {tensors.rank(key) for key in depends}
    constant = [tensors.shape(key) for key in known.inputs if key and tensors.is_constant(key)]
    top = max(ranks)
    if len(ranks - {0}) > 1 or not all(tensors.has_batch(key) for key in depends if tensors.rank(key)):
        _refuse(node, "meets tensors of different rank, or one without a batch")
    if any(s is None or len(s) > top or (len(s) == top and s[0] != 1) for s in constant):
        _refuse(node, "has a constant that runs along the batch")


# Operators whose rule places the batch where it is an axis of its own in front.
REARRANGING = frozenset({"Reshape", "Transpose", "Gather", "Split"})
RULES: Mapping[BatchAxis, BatchRule] = {
    BatchAxis.FREE: _free,
    BatchAxis.BROADCAST: _elementwise,
    BatchAxis.ALONG_AXIS: _axis,
    BatchAxis.JOINED: _joined,
    BatchAxis.ALONG_AXES: _axes,
    BatchAxis.FIRST_RESULT: _one_result,
}
"""By the way an operator keeps a batch apart."""
OWN_RULES: Mapping[str, BatchRule] = {
    "CumSum": _cumsum,
    "Dropout": _dropout,
    "Gather": _pick,
    "Split": _pick,
    "Transpose": _transpose,
    "Slice": _slice,
    "Pad": _pad,
    "Expand": _expand,
    "Tile": _tile,
    "Flatten": _flatten,
    "Reshape": _reshape,
    "QuantizeLinear": _quantize,
    "DequantizeLinear": _quantize,
    "Resize": _resize,
    "Upsample": _resize,
    "MatMul": _matmul,
    "Gemm": _gemm,
}
"""Of the operators that keep a batch apart under conditions of their own."""


def rule_of(node: onnx.NodeProto) -> BatchRule | None:
    """The rule of an operator, None if it mixes a batch or is not known not to."""
    batch = lookup(node.op_type, node.domain).batch
    return OWN_RULES[node.op_type] if batch is BatchAxis.OWN else RULES.get(batch)


# Operators that may take several tensors that depend on the sample; of all others it is the first input.
_SEVERAL = frozenset({_elementwise, _joined, _matmul, _gemm})


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
    rule = rule_of(node)
    if rule is None or known is None:
        raise MixesBatchError(f"{node.op_type} {node.name or node.output[0]!r} is not known to keep a batch apart")
    if not tensors.front.isdisjoint(known.inputs) and node.op_type not in REARRANGING:
        _refuse(node, "follows a reshape of the batch")
    rule(tensors, node, known, batch)
    if rule not in _SEVERAL and not _only_data(tensors, known):
        _refuse(node, "takes weights or settings that are computed")


def _only_data(tensors: Tensors, known: Node) -> bool:
    """Whether nothing but the first input has a batch; a scalar has none."""
    data, *settings = known.inputs
    return not tensors.is_constant(data) and all(
        tensors.is_constant(key) or not tensors.rank(key) for key in settings if key
    )


def closed(tensors: Tensors, node: onnx.NodeProto, batch: int) -> Iterator[onnx.NodeProto]:
    """Reshapes behind `node`: a result with the batch in front whose own first axis has length 1 has the batch there.

    Raises:
        MixesBatchError: the shape of such a result is unknown.
    """
    for position, name in enumerate(node.output):
        shape = tensors.shape(name)
        if name not in tensors.front or not shape or shape[0] != 1:
            continue
        target = [batch, *(-1 if dim is None else dim for dim in shape[1:])]
        if target.count(-1) > 1 or 0 in target:
            raise MixesBatchError(f"the shape of {name!r} is unknown")
        node.output[position] = f"{PREFIX}front_{name}"
        constant = tensors.add_constant(np.asarray(target, np.int64))
        yield onnx.helper.make_node("Reshape", [node.output[position], constant], [name])
        tensors.front.discard(name)
