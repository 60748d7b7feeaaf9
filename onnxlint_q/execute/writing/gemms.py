"""A MatMul and the Add of its bias as one Gemm, as ONNX Runtime's preparation leaves them, with the names they had.

The Gemm has the name of the MatMul, its result that of the sum. A bias that others read as well is copied here: the
quantiser would do so under a name that may be taken.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

from onnxlint_q.analysis.placement import added_bias
from onnxlint_q.graph import Model
from onnxlint_q.graph.names import ROOT


def fuse_biases(model: Model, graph: onnx.GraphProto) -> None:
    """Make a Gemm of each such pair in the main graph of a model; `graph` holds its nodes."""
    products = (node for node in model.nodes_of("MatMul") if node.graph == ROOT)
    biases = {node.output: bias for node in products if (bias := added_bias(model, node)) is not None}
    sums = {bias.add.output for bias in biases.values()}
    made: list[onnx.NodeProto] = []
    for node in graph.node:
        result = node.output[0] if node.output else ""
        if result in biases:
            bias = biases[result]
            operands = [*node.input, _own(model, graph, bias.key, result)]
            made.append(helper.make_node("Gemm", operands, [bias.add.output], name=node.name))
        elif result not in sums:
            made.append(onnx.NodeProto.FromString(node.SerializeToString()))
    stated = [value for value in graph.value_info if value.name not in biases]
    stated = [onnx.ValueInfoProto.FromString(value.SerializeToString()) for value in stated]
    del graph.node[:], graph.value_info[:]
    graph.node.extend(made)
    graph.value_info.extend(stated)


def _own(model: Model, graph: onnx.GraphProto, bias: str, product: str) -> str:
    """The bias, or a copy of it under a free name."""
    if model.sole_consumer(bias) is not None:
        return bias
    name = f"{product}_bias"
    while name in model.flow:
        name += "_"
    graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(model.constants[bias], order="C"), name))
    return name
