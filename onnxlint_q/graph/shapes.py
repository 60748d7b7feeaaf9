"""Element types and shapes by onnx's own shape inference, without copying the weights through it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import onnx

from onnxlint_q.graph.constants import Constants
from onnxlint_q.graph.names import tensor_key, walk_graphs
from onnxlint_q.graph.node import TensorType

# Shape arithmetic needs the values of small integer tensors; weights need only their type.
_KEEP_BYTES = 4096


def infer_types(proto: onnx.ModelProto, constants: Constants) -> Mapping[str, TensorType]:
    """Type of every tensor of the model that inference can tell, by key.

    A model that shape inference refuses gives what the file itself states.
    """
    skeleton = _without_weights(proto)
    # C++ code raises several unrelated types, and a refusal only means fewer known shapes.
    with contextlib.suppress(Exception):
        skeleton = onnx.shape_inference.infer_shapes(skeleton, data_prop=True)
    types = {key: found for path, graph in walk_graphs(skeleton.graph) for key, found in _types_of(graph, path)}
    for key, tensor in constants.initializers().items():
        types[key] = TensorType(tensor.data_type, tuple(tensor.dims))
    return types


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
