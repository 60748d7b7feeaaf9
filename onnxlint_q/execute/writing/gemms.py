"""A MatMul and the Add of its bias as one Gemm, as ONNX Runtime's preparation leaves them, with the names they had.

The Gemm has the name of the MatMul, its result that of the sum. A Gemm multiplies matrices: around one of another rank
stand two Reshape, and its own result has the name of the product. A bias that others read as well is copied here: the
quantiser would do so under a name that may be taken.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

from onnxlint_q.analysis.placement import added_bias
from onnxlint_q.graph import Model, Node
from onnxlint_q.graph.names import ROOT


def fuse_biases(model: Model, graph: onnx.GraphProto, *, whole_only: bool = False) -> None:
    """Make a Gemm of each such pair in the main graph of a model.

    Args:
        model: the model.
        graph: its nodes, which are replaced.
        whole_only: leave products of another rank than 2. Where layers only are quantised, codes would have what the
            Reshape in front makes of a tensor, and what else reads that tensor would see it in float.
    """
    products = {node.output: node for node in model.nodes_of("MatMul") if node.graph == ROOT}
    found = ((result, added_bias(model, node)) for result, node in products.items())
    biases = {result: bias for result, bias in found if bias is not None and (bias.whole or not whole_only)}
    sums = {bias.add.output for bias in biases.values()}
    added = {node.output[0]: node.input for node in graph.node if node.output and node.output[0] in sums}
    made: list[onnx.NodeProto] = []
    for node in graph.node:
        result = node.output[0] if node.output else ""
        if result in biases:
            bias = biases[result]
            named = next(name for name in added[bias.add.output] if name != result)
            shared = model.sole_consumer(bias.key) is None
            operands = [*node.input, _copied(model, graph, bias.key, result) if shared else named]
            whole = helper.make_node("Gemm", operands, [bias.add.output], name=node.name)
            made.extend([whole] if bias.whole else _between_reshapes(model, graph, whole, products[result]))
        elif result not in sums:
            made.append(onnx.NodeProto.FromString(node.SerializeToString()))
    stated = [value for value in graph.value_info if value.name not in biases]
    stated = [onnx.ValueInfoProto.FromString(value.SerializeToString()) for value in stated]
    del graph.node[:], graph.value_info[:]
    graph.node.extend(made)
    graph.value_info.extend(stated)


def _between_reshapes(
    model: Model, graph: onnx.GraphProto, gemm: onnx.NodeProto, product: Node
) -> tuple[onnx.NodeProto, ...]:
    """A Gemm for a product of another rank than 2; all shapes are known."""
    (left, *others), (result,), key = gemm.input, gemm.output, product.output
    width, sizes = (model.shape(product.input(1)) or ())[:1], model.shape(key)
    rows, before, behind = (_free(model, f"{key}_{what}") for what in ("rows", "as_rows", "as_it_was"))
    for name, shape in ((before, (-1, *width)), (behind, sizes)):
        graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(shape, np.int64), name))
    return (
        helper.make_node("Reshape", [left, before], [rows]),
        helper.make_node("Gemm", [rows, *others], [key], name=gemm.name),
        helper.make_node("Reshape", [key, behind], [result]),
    )


def _copied(model: Model, graph: onnx.GraphProto, bias: str, product: str) -> str:
    """A copy of the bias under a free name."""
    name = _free(model, f"{product}_bias")
    graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(model.constants[bias], order="C"), name))
    return name


def _free(model: Model, name: str) -> str:
    """The name, made longer until no tensor has it."""
    while name in model.flow:
        name += "_"
    return name
