"""Element types and shapes by onnx's own shape inference, without copying the weights through it.

Inference can carry the values of lists and scalars from node to node, which is how it sees through shape arithmetic;
it makes each such list in memory, however long a few bytes of the file claim it to be. So it first runs without, and
then lets only those operators carry whose lists are known to be short; what they tell may show others to be short.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence

import onnx

from onnxlint_q.graph.constants import Constants
from onnxlint_q.graph.names import tensor_key, walk_graphs
from onnxlint_q.graph.node import STANDARD_DOMAINS, TensorType
from onnxlint_q.graph.operators import Trait, lookup
from onnxlint_q.graph.tensors import Array

# Shape arithmetic needs the values of small integer tensors; weights need only their type.
_KEEP_BYTES = 4096
# Elements that inference may carry from node to node, all tensors together; it needs about 70 bytes for each.
_CARRIED = 1 << 21
# How often what became known may let more operators carry: a shape that hangs on a shape, and so on.
_ROUNDS = 8
# onnx carries lists through these by the functions that define them, beside what the operator table says.
_CARRY_BY_FUNCTION = frozenset({"GroupNormalization", "MeanVarianceNormalization"})
# These carry the shape of what they read, not its values.
_SHAPE_READERS = frozenset({"Shape", "Size"})
# onnx passes over an operator that it does not know.
_ASLEEP = "onnxlint_q.asleep:"


def infer_types(
    proto: onnx.ModelProto,
    constants: Constants,
    shapes: Mapping[str, Sequence[int | None]] | None = None,
    values: Mapping[str, Array] | None = None,
) -> Mapping[str, TensorType]:
    """Type of every tensor of the model that inference can tell, by key.

    A model that shape inference refuses gives what the file itself states.

    Args:
        proto: the model.
        constants: its constants.
        shapes: of inputs that are to have others than they are declared with. What the file states of results may then
            be left over from another size, so it does not count.
        values: of computed tensors of the main graph, where they are known although inference cannot compute them.
    """
    skeleton = _without_weights(proto)
    if values:
        _settle(skeleton.graph, values)
    if shapes is not None:
        _reshape_inputs(skeleton.graph, shapes)
    model = _inferred(skeleton, carry=False)
    awake = 0
    for _ in range(_ROUNDS):
        before, awake = awake, _let_short_lists_through(model)
        if awake <= before:
            break
        model = _inferred(model, carry=True)
    types = {key: found for path, graph in walk_graphs(model.graph) for key, found in _types_of(graph, path)}
    for key, tensor in constants.initializers().items():
        types[key] = TensorType(tensor.data_type, tuple(tensor.dims))
    return types


def _inferred(model: onnx.ModelProto, *, carry: bool) -> onnx.ModelProto:
    # C++ code raises several unrelated types, and a refusal only means fewer known shapes.
    with contextlib.suppress(Exception):
        return onnx.shape_inference.infer_shapes(model, data_prop=carry)
    return model


def carries_lists(op_type: str) -> bool:
    """Whether onnx's inference carries short lists of values through an operator of the default domain."""
    return lookup(op_type).has(Trait.INFERS_SIZES) or op_type in _CARRY_BY_FUNCTION


def _let_short_lists_through(model: onnx.ModelProto) -> int:
    """Put those carriers to sleep that read a list which is long or of unknown length; how many others there are."""
    graphs = [graph for _, graph in walk_graphs(model.graph)]
    left, awake = _CARRIED, 0
    carriers = [
        (node, domain)
        for graph in graphs
        for node in graph.node
        if (domain := node.domain.removeprefix(_ASLEEP)) in STANDARD_DOMAINS and carries_lists(node.op_type)
    ]
    lengths = _lengths(graphs) if carriers else {}
    for node, domain in carriers:
        parts = [1] if node.op_type in _SHAPE_READERS else [lengths.get(name) for name in node.input if name]
        known = [length for length in parts if length is not None]
        made = sum(known) if node.op_type == "Concat" else max(known, default=0)
        if len(known) < len(parts) or made > left:
            node.domain = _ASLEEP + domain
            continue
        node.domain = domain
        awake += 1
        for name in node.output:
            # The file may state another length than the values will have that come here.
            length = lengths.get(name)
            lengths[name] = None if length is None else max(length, made)
            left -= lengths[name] or made
    return awake


def _lengths(graphs: list[onnx.GraphProto]) -> dict[str, int | None]:
    """How many values a tensor stands for in inference, None where that is not known; not a list, none at all."""
    lengths: dict[str, int | None] = {}
    for graph in graphs:
        shapes = [
            *((value.name, tensor_type(value.type).shape) for value in graph.input),
            *((value.name, tensor_type(value.type).shape) for value in graph.value_info),
            *((value.name, tensor_type(value.type).shape) for value in graph.output),
            *((tensor.name, tuple(tensor.dims)) for tensor in graph.initializer),
        ]
        for name, shape in shapes:
            length = None if shape is None else _list_length(shape)
            known = lengths.get(name, 0)  # two graphs may each have a tensor of this name
            lengths[name] = None if length is None or known is None else max(length, known)
    return lengths


def _list_length(shape: tuple[int | None, ...]) -> int | None:
    if len(shape) > 1:
        return 0
    return None if None in shape else math.prod(filter(None, shape))


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
    skeleton.opset_import.extend(onnx.helper.make_opsetid(_ASLEEP + domain, 1) for domain in STANDARD_DOMAINS)
    graph = skeleton.graph
    graph.node.extend(proto.graph.node)
    graph.input.extend(proto.graph.input)
    graph.output.extend(proto.graph.output)
    graph.value_info.extend(proto.graph.value_info)
    known = {value.name for value in proto.graph.input}
    for sparse in proto.graph.sparse_initializer:
        values = sparse.values
        graph.input.append(onnx.helper.make_tensor_value_info(values.name, values.data_type, sparse.dims))
    for tensor in proto.graph.initializer:
        external = tensor.data_location == onnx.TensorProto.EXTERNAL
        # Shape arithmetic has few elements; to ask a large tensor for its bytes takes as long as to copy it.
        if not external and math.prod(tensor.dims) <= _KEEP_BYTES and tensor.ByteSize() <= _KEEP_BYTES:
            graph.initializer.append(tensor)
        elif tensor.name not in known:
            graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    return skeleton


def _reshape_inputs(graph: onnx.GraphProto, shapes: Mapping[str, Sequence[int | None]]) -> None:
    """Give inputs these shapes, and results none but where inference cannot find one again."""
    for value in graph.input:
        for dim, length in zip(value.type.tensor_type.shape.dim, shapes.get(value.name, ()), strict=False):
            dim.Clear()
            if length is not None:
                dim.dim_value = length
    foreign = {name for node in graph.node if node.domain not in STANDARD_DOMAINS for name in node.output}
    for value in (*graph.value_info, *graph.output):
        if value.type.HasField("tensor_type") and value.name not in foreign:
            value.type.tensor_type.ClearField("shape")


def _settle(graph: onnx.GraphProto, values: Mapping[str, Array]) -> None:
    """Put short lists of values in the place of the nodes that compute them."""
    short = {name: value for name, value in values.items() if value.ndim < 2 and value.nbytes <= _KEEP_BYTES}
    kept = [node for node in graph.node if not set(node.output) & short.keys()]
    graph.ClearField("node")
    graph.node.extend(kept)
    graph.initializer.extend(onnx.numpy_helper.from_array(value, name) for name, value in short.items())


def _types_of(graph: onnx.GraphProto, path: str) -> Iterator[tuple[str, TensorType]]:
    for value in (*graph.input, *graph.value_info, *graph.output):
        if value.type.HasField("tensor_type"):
            yield tensor_key(value.name, path), tensor_type(value.type)
