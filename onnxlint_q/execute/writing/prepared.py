"""A float model as a quantiser wants it: what `quant_pre_process` does for the result, with all names as they were.

ONNX Runtime's own preparation fuses nodes and gives what it makes other names, so that an exclusion or a range would
point nowhere. Here

- a BatchNormalization becomes part of the layer beside it;
- what does not depend on the inputs is an initializer: weights behind other nodes, and values of Constant nodes;
- where the static quantiser is to take it, a MatMul and the Add of its bias are a Gemm;
- each layer has a bias of its own: the quantiser copies one that several read under a name that may be taken;
- an initializer is no input of the model as well: nobody can replace what a scale was made for;
- each node has a name, so that the quantiser tells nodes apart;
- the element type of each tensor is stated, where the quantiser's own inference may not know an operator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableSequence
from typing import Any

import numpy as np
import onnx
from onnx import helper

from onnxlint_q.analysis.measured import Measured, measure
from onnxlint_q.analysis.schemes import Scheme
from onnxlint_q.execute.writing.gemms import fuse_biases
from onnxlint_q.graph import Model
from onnxlint_q.graph.loading.build import rebuilt
from onnxlint_q.graph.names import walk_graphs
from onnxlint_q.rewrite import fold_batch_norms
from onnxlint_q.rewrite.candidate import Candidate
from onnxlint_q.rewrite.hygiene import shared_constants


def prepared(measured: Measured, scheme: Scheme) -> Model:
    """A copy of the model that is ready to be quantised; its float outputs are the same.

    Args:
        measured: the model.
        scheme: what it is quantised under; the static quantiser has products and their biases as one.

    Raises:
        ModelError: a weight cannot be read.
    """
    for rewrite in (fold_batch_norms.REWRITE, shared_constants.REWRITE):
        places = [one for one in rewrite.find(measured, None) if isinstance(one, Candidate)]
        if places:
            measured = measure(rewrite.apply(measured.model, places), measured.schemes)
    model = measured.model
    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    graph = proto.graph
    given = {value.name for value in model.inputs}
    _leave_out(graph.input, lambda value: value.name not in given)
    if scheme.is_calibrated:
        fuse_biases(model, graph, whole_only=scheme.layers_only)
    _store_constants(model, graph)
    taken = {node.name for node in graph.node}
    for node in graph.node:
        if not node.name:
            node.name = next(name for name in _names(node.op_type) if name not in taken)
            taken.add(node.name)
    _state_types(model, graph)
    return rebuilt(model, proto)


def _store_constants(model: Model, graph: onnx.GraphProto) -> None:
    """Put initializers in the place of nodes that compute constants; a copy is read where it is made from."""
    computed = {name for node in graph.node for name in node.output if _is_computed(model, name)}
    for node in graph.node:
        node.input[:] = [_original(model, name) for name in node.input]
    _leave_out(graph.node, lambda node: bool(computed.intersection(node.output)))
    read = {name for _, inner in walk_graphs(graph) for node in inner.node for name in node.input}
    read |= {value.name for _, inner in walk_graphs(graph) for value in inner.output}
    _leave_out(graph.initializer, lambda tensor: tensor.name not in read)
    for name in sorted(computed & read):
        graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(model.constants[name], order="C"), name))


def _is_computed(model: Model, name: str) -> bool:
    """Whether a node makes it although it does not depend on the inputs; strings are left alone."""
    known = model.types.get(name)
    text = known is not None and known.elem_type == onnx.TensorProto.STRING
    return model.producer(name) is not None and model.is_constant(name) and not text


def _original(model: Model, name: str) -> str:
    """The initializer that something is a copy of; itself where it is none."""
    key = name
    while (node := model.producer(key)) is not None and node.op_type == "Identity" and node.is_standard:
        key = node.input(0)
    return key if key != name and model.constants.initializer(key) is not None else name


def _state_types(model: Model, graph: onnx.GraphProto) -> None:
    stated = {value.name for value in (*graph.value_info, *graph.input, *graph.output)}
    for node in graph.node:
        for name in node.output:
            known = model.types.get(name)
            if name and name not in stated and known is not None and known.elem_type:
                graph.value_info.append(helper.make_tensor_value_info(name, known.elem_type, None))


def _names(like: str) -> Iterator[str]:
    number = 0
    while True:
        yield f"{like}_{number}"
        number += 1


def _leave_out(held: MutableSequence[Any], unwanted: Callable[[Any], bool]) -> None:
    for place in reversed(range(len(held))):
        if unwanted(held[place]):
            del held[place]
