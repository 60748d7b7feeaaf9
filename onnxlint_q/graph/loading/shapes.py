"""Element types and shapes by onnx's own shape inference, without copying the weights through it."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping

import onnx

from onnxlint_q.graph.constants import Constants
from onnxlint_q.graph.names import tensor_key, walk_graphs
from onnxlint_q.graph.node import TensorType
from onnxlint_q.graph.operators import Trait, lookup

# Shape arithmetic needs the values of small integer tensors; weights need only their type.
_KEEP_BYTES = 4096
# Elements that inference may carry from node to node, all tensors together; it needs about 70 bytes for each.
_CARRIED = 1 << 21
_LONGEST_SHAPE = 16


def infer_types(proto: onnx.ModelProto, constants: Constants) -> Mapping[str, TensorType]:
    """Type of every tensor of the model that inference can tell, by key.

    A model that shape inference refuses gives what the file itself states.
    """
    skeleton = _without_weights(proto)
    # C++ code raises several unrelated types, and a refusal only means fewer known shapes.
    with contextlib.suppress(Exception):
        skeleton = onnx.shape_inference.infer_shapes(skeleton, data_prop=_carries_little(skeleton))
    types = {key: found for path, graph in walk_graphs(skeleton.graph) for key, found in _types_of(graph, path)}
    for key, tensor in constants.initializers().items():
        types[key] = TensorType(tensor.data_type, tuple(tensor.dims))
    return types


def _carries_little(skeleton: onnx.ModelProto) -> bool:
    """Whether the lists of values that inference carries from node to node stay short, by an estimate.

    A list that a Concat doubles some dozens of times, or that claims to be long, would fill any memory.
    """
    lengths: dict[str, int] = {}
    carried = 0
    stored = {tensor.name: tensor for _, graph in walk_graphs(skeleton.graph) for tensor in graph.initializer}
    for _, graph in walk_graphs(skeleton.graph):
        for value in (*graph.input, *graph.value_info, *graph.output):
            shape = tensor_type(value.type).shape
            if shape is not None and len(shape) < 2:
                lengths[value.name] = math.prod(length or 1 for length in shape)
        lengths |= {tensor.name: math.prod(tensor.dims) for tensor in graph.initializer if len(tensor.dims) < 2}
        for node in graph.node:
            parts = [lengths.get(name, 0) for name in node.input if name]
            made = max(parts, default=0) if all(parts) else 0
            if node.op_type == "Shape":
                made = _LONGEST_SHAPE
            elif node.op_type == "Constant":
                made = max((math.prod(entry.t.dims) for entry in node.attribute if len(entry.t.dims) < 2), default=0)
            elif node.op_type == "ConstantOfShape" and node.input[0] in stored and made == 1:
                made = max(int(onnx.numpy_helper.to_array(stored[node.input[0]]).item()), 0)
            elif node.op_type == "Concat" and made:
                made = sum(parts)
            for name in node.output:
                lengths[name] = max(made, lengths.get(name, 0))
                # onnx carries lists and scalars through, whatever their type, and only if it has all operands.
                carried += lengths[name] if lookup(node.op_type).has(Trait.INFERS_SIZES) else 0
            if carried > _CARRIED:
                return False
    return True


def tensor_type(proto: onnx.TypeProto) -> TensorType:
    """Element type and shape of a TypeProto; anything but a tensor has an unknown type.

    Old exporters write -1 for a dimension that is not known.
    """
    if not proto.HasField("tensor_type"):
        return TensorType(0, None)
    tensor = proto.tensor_type
    if not tensor.HasField("shape"):
        return TensorType(tensor.elem_type, None)
    dims = tuple(d.dim_value if d.HasField("dim_value") and d.dim_value >= 0 else None for d in tensor.shape.dim)
    return TensorType(tensor.elem_type, dims)


def _without_weights(proto: onnx.ModelProto) -> onnx.ModelProto:
    skeleton = onnx.ModelProto()
    skeleton.ir_version = max(proto.ir_version, 4)  # from 4 on an initializer need not be an input
    skeleton.opset_import.extend(proto.opset_import)
    graph = skeleton.graph
    graph.node.extend(proto.graph.node)
    graph.input.extend(proto.graph.input)
    graph.output.extend(proto.graph.output)
    graph.value_info.extend(proto.graph.value_info)
    known = {value.name for value in proto.graph.input}
    for tensor in proto.graph.initializer:
        external = tensor.data_location == onnx.TensorProto.EXTERNAL
        if not external and tensor.ByteSize() <= _KEEP_BYTES:
            graph.initializer.append(tensor)
        elif tensor.name not in known:
            graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    return skeleton


def _types_of(graph: onnx.GraphProto, path: str) -> Iterator[tuple[str, TensorType]]:
    for value in (*graph.input, *graph.value_info, *graph.output):
        if value.type.HasField("tensor_type"):
            yield tensor_key(value.name, path), tensor_type(value.type)
