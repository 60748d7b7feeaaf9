"""A model made ready to run: a small proto without weights, and the weights beside it.

ONNX Runtime takes the weights as values in memory, so a hundred variants of a model differ in a few arrays and share
the rest, external data needs no path, and nothing is limited by the size of a protobuf.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from onnxlint_q.analysis.folding import FoldedLayer
from onnxlint_q.analysis.measured import Measured
from onnxlint_q.analysis.placement import added_bias
from onnxlint_q.graph import Layer, Model
from onnxlint_q.graph.names import ROOT, names_read, tensor_key, walk_graphs
from onnxlint_q.graph.tensors import is_external

Array = npt.NDArray[Any]
PREFIX = "onnxlint_q__"
# ONNX Runtime wants shapes and axes inline; only weights of at least so many values leave the proto.
_DETACHED_VALUES = 256
_T = onnx.TensorProto
_DETACHABLE = frozenset({_T.FLOAT, _T.FLOAT16, _T.DOUBLE, _T.INT8, _T.UINT8})


@dataclass(frozen=True, eq=False)
class Executable:
    """What a session is made of.

    Attributes:
        proto: the graph; initializers named in `weights` are marked external and carry no data.
        weights: values by initializer name.
        layer_weights: names of the initializers that hold a layer's folded weights, by layer key.
        layer_biases: that of its bias, where it has one that the quantiser treats as such.
    """

    proto: onnx.ModelProto
    weights: Mapping[str, Array]
    layer_weights: Mapping[str, tuple[str, ...]]
    layer_biases: Mapping[str, str] = field(default_factory=dict)

    def with_weights(self, changed: Mapping[str, Array]) -> Executable:
        """The same graph with other values for some initializers."""
        return replace(self, weights={**self.weights, **changed})

    @property
    def weight_bytes(self) -> int:
        """Size of all weights."""
        return sum(array.nbytes for array in self.weights.values())


def as_stored(model: Model) -> Executable:
    """The model as the file has it."""
    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    _drop_unread_initializers(proto)
    return Executable(proto, _detach(model, proto), {})


def folded(measured: Measured) -> Executable:
    """The float model with every BatchNormalization folded that folds, one initializer a layer weight and bias."""
    proto = onnx.ModelProto()
    proto.CopyFrom(measured.model.proto)
    editor = _Editor(measured.model, proto)
    for layer in measured.layers:
        editor.fold(layer.folded)
    _drop_unread_initializers(proto)
    weights = {**_detach(measured.model, proto), **editor.weights}
    return Executable(proto, weights, editor.layer_weights, editor.layer_biases)


def ending_at(executable: Executable, tensors: Sequence[str]) -> Executable:
    """The same graph with these tensors as its outputs."""
    proto = onnx.ModelProto()
    proto.CopyFrom(executable.proto)
    del proto.graph.output[:]
    proto.graph.output.extend(map(onnx.helper.make_empty_tensor_value_info, tensors))
    return replace(executable, proto=proto)


def with_outputs(executable: Executable, names: Iterable[str]) -> Executable:
    """The same graph that gives out these tensors as well, behind its own outputs."""
    proto = onnx.ModelProto()
    proto.CopyFrom(executable.proto)
    there = {value.name for value in proto.graph.output}
    proto.graph.output.extend(
        onnx.helper.make_empty_tensor_value_info(name) for name in dict.fromkeys(names) if name not in there
    )
    return replace(executable, proto=proto)


def part(
    executable: Executable,
    nodes: Iterable[onnx.NodeProto],
    inputs: Iterable[onnx.ValueInfoProto],
    outputs: Iterable[onnx.ValueInfoProto],
) -> Executable:
    """Some nodes of a graph, with those of its initializers that they read."""
    whole, proto = executable.proto, onnx.ModelProto(ir_version=executable.proto.ir_version)
    proto.opset_import.extend(whole.opset_import)
    proto.functions.extend(whole.functions)
    proto.graph.name = whole.graph.name
    proto.graph.node.extend(nodes)
    read = {name for node in proto.graph.node for name in names_read(node)}
    proto.graph.initializer.extend(tensor for tensor in whole.graph.initializer if tensor.name in read)
    proto.graph.sparse_initializer.extend(held for held in whole.graph.sparse_initializer if held.values.name in read)
    proto.graph.input.extend(inputs)
    proto.graph.output.extend(outputs)
    weights = {name: value for name, value in executable.weights.items() if name in read}
    return replace(executable, proto=proto, weights=weights)


def up_to(executable: Executable, tensors: Sequence[str]) -> tuple[Executable, tuple[str, ...]]:
    """The part of a graph that computes some tensors, and the inputs that it reads."""
    graph = executable.proto.graph
    needed, nodes = set(tensors), list[onnx.NodeProto]()
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            needed.update(names_read(node))
            nodes.append(node)
    inputs = [value for value in graph.input if value.name in needed]
    made = part(executable, reversed(nodes), inputs, map(onnx.helper.make_empty_tensor_value_info, tensors))
    return made, tuple(value.name for value in inputs)


def declare_external(name: str, elem_type: int, shape: tuple[int, ...]) -> onnx.TensorProto:
    """An initializer whose value is handed to the session."""
    tensor = onnx.TensorProto(name=name, data_type=elem_type, dims=shape)
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=f"{PREFIX}memory")
    return tensor


def without_unread(executable: Executable) -> Executable:
    """The same graph without weights that nothing in it reads."""
    proto = onnx.ModelProto()
    proto.CopyFrom(executable.proto)
    _drop_unread_initializers(proto)
    kept = {tensor.name for tensor in proto.graph.initializer}
    return replace(executable, proto=proto, weights={n: value for n, value in executable.weights.items() if n in kept})


def _drop_unread_initializers(proto: onnx.ModelProto) -> None:
    """Take what nobody reads out of the main graph: ONNX Runtime fails on a value that is handed over for nothing."""
    graphs = [graph for _, graph in walk_graphs(proto.graph)]
    read = {name for graph in graphs for node in graph.node for name in node.input}
    read |= {value.name for graph in graphs for value in graph.output}
    dense = [tensor for tensor in proto.graph.initializer if tensor.name in read]
    sparse = [tensor for tensor in proto.graph.sparse_initializer if tensor.values.name in read]
    del proto.graph.initializer[:]
    del proto.graph.sparse_initializer[:]
    proto.graph.initializer.extend(dense)
    proto.graph.sparse_initializer.extend(sparse)


def _detach(model: Model, proto: onnx.ModelProto) -> dict[str, Array]:
    """Take the large initializers of the main graph out of `proto`, and what else lies in another file into it.

    An input with a default value is the constant that it is to the rest of the house.
    """
    detached: dict[str, Array] = {}
    given = {value.name for value in model.inputs}
    inputs = [value for value in proto.graph.input if value.name in given]
    del proto.graph.input[:]
    proto.graph.input.extend(inputs)
    for path, graph in walk_graphs(proto.graph):
        for tensor in graph.initializer:
            large = path == ROOT and math.prod(tensor.dims) >= _DETACHED_VALUES and tensor.data_type in _DETACHABLE
            key = tensor_key(tensor.name, path)
            if model.constants.initializer(key) is None or not (large or is_external(tensor)):
                continue  # what the file does not have is declared already
            value = model.constants[key]
            if large:
                detached[tensor.name] = np.ascontiguousarray(value)
                tensor.CopyFrom(declare_external(tensor.name, tensor.data_type, tuple(tensor.dims)))
            else:
                tensor.CopyFrom(onnx.numpy_helper.from_array(value, tensor.name))
        for node in graph.node:
            for attribute in node.attribute:
                if node.op_type == "Constant" and is_external(attribute.t):
                    value = model.constants[tensor_key(node.output[0], path)]
                    attribute.t.CopyFrom(onnx.numpy_helper.from_array(value))
    return detached


class _Editor:
    """Replaces the weights of layers by folded ones."""

    def __init__(self, model: Model, proto: onnx.ModelProto) -> None:
        self.model = model
        self.proto = proto
        self.weights: dict[str, Array] = {}
        self.layer_weights: dict[str, tuple[str, ...]] = {}
        self.layer_biases: dict[str, str] = {}
        self.graphs = dict(walk_graphs(proto.graph))
        self.nodes = {
            tensor_key(node.output[0], path): node
            for path, graph in self.graphs.items()
            for node in graph.node
            if node.output
        }

    def fold(self, layer: FoldedLayer) -> None:
        node = self.nodes[layer.layer.node.outputs[0]]
        number = len(self.layer_weights)
        elem_type = self._elem_type(layer)
        operands = {f"{PREFIX}w{number}{part.layer.operand}": part for part in layer.operands}
        for name, part in operands.items():
            node.input[part.layer.weight_slot] = self._add(name, part.weight(self.model), elem_type)
        self.layer_weights[layer.output] = tuple(operands)
        if not layer.is_folded:
            self._detach_bias(layer.layer, layer.output, f"{PREFIX}b{number}", elem_type)
            return
        values = layer.bias(self.model)
        assert values is not None, "a layer folds only with a bias that is known"
        bias = self._add(f"{PREFIX}b{number}", values, elem_type)
        if layer.bias_add is not None:
            add = self.nodes[layer.bias_add.outputs[0]]
            add.input[layer.bias_add.inputs.index(layer.add_bias)] = bias
        else:
            # A MatMul that folds has rank 2 and becomes a Gemm, which has a place for the bias.
            node.op_type = "Gemm" if node.op_type == "MatMul" else node.op_type
            del node.input[2:]
            node.input.append(bias)
            self.layer_biases[layer.output] = bias
        for norm in filter(None, (layer.after, layer.before)):
            old = self.nodes[norm.node.outputs[0]]
            old.CopyFrom(onnx.helper.make_node("Identity", [old.input[0]], [old.output[0]], name=old.name))

    def _detach_bias(self, layer: Layer, key: str, name: str, elem_type: int) -> None:
        """Give a layer its own copy of a constant bias: that of the file may have other readers."""
        if (bias := added_bias(self.model, layer.node)) is not None:
            slot = bias.add.inputs.index(bias.key)
            self.nodes[bias.add.output].input[slot] = self._add(name, self.model.constants[bias.key], elem_type)
            self.layer_biases[key] = name
            return
        known = layer.read_bias(self.model) if layer.bias else None
        if known is None or layer.inputs.bias is None or layer.node.float("beta", 1.0) != 1:
            return
        node = self.nodes[layer.node.outputs[0]]
        node.input[layer.inputs.bias] = self._add(name, self.model.constants[layer.bias], elem_type)
        self.layer_biases[key] = name

    def _elem_type(self, layer: FoldedLayer) -> int:
        known = self.model.types.get(layer.layer.input) or self.model.types.get(layer.layer.weight)
        floats = (onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE)
        return known.elem_type if known and known.elem_type in floats else int(onnx.TensorProto.FLOAT)

    def _add(self, name: str, value: Array, elem_type: int) -> str:
        """A new initializer of the main graph, which every subgraph can read."""
        array = np.ascontiguousarray(value, onnx.helper.tensor_dtype_to_np_dtype(elem_type))
        self.proto.graph.initializer.append(declare_external(name, elem_type, array.shape))
        self.weights[name] = array
        return name
