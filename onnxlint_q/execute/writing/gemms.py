"""A MatMul and the Add of its bias as one Gemm, as ONNX Runtime's preparation leaves them, with the names they had.

The Gemm has the name of the MatMul, its result that of the sum. A Gemm multiplies matrices: around one of another rank
stand two Reshape, and its own result has the name of the product. A bias that others read as well is copied.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import helper

from onnxlint_q.analysis.placement import fused_add
from onnxlint_q.graph import Model, Node
from onnxlint_q.graph.names import ROOT


def with_gemms(model: Model, graph: onnx.GraphProto) -> None:
    """Fuse what ONNX Runtime fuses in the main graph of a model; `graph` holds its nodes."""
    adds = {
        node.output: add
        for node in model.nodes_of("MatMul")
        if node.graph == ROOT and (add := fused_add(model, node)) is not None
    }
    products = {node.output: node for node in model.nodes_of("MatMul") if node.output in adds}
    sums = {add.output for add in adds.values()}
    nodes = [
        made
        for node in graph.node
        for made in (
            _fused(model, graph, products[node.output[0]], adds[node.output[0]])
            if node.output and node.output[0] in adds
            else (node,) * (not sums.intersection(node.output))
        )
    ]
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    stated = [value for value in graph.value_info if value.name not in adds]
    del graph.node[:], graph.value_info[:]
    graph.node.extend(kept)
    graph.value_info.extend(onnx.ValueInfoProto.FromString(value.SerializeToString()) for value in stated)


def _fused(model: Model, graph: onnx.GraphProto, product: Node, add: Node) -> Iterator[onnx.NodeProto]:
    (left, right), bias = product.inputs, next(key for key in add.inputs if key != product.output)
    shape, width, result = model.shape(left) or (), (model.shape(right) or ())[0], model.shape(add.output) or ()
    if model.sole_consumer(bias) is None:
        copied = _free(model, f"{product.output}_bias")
        graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(model.constants[bias], order="C"), copied))
        bias = copied
    if len(shape) == 2:
        yield helper.make_node("Gemm", [left, right, bias], [add.output], name=product.name)
        return
    rows, sizes = (_free(model, f"{product.output}_{what}") for what in ("rows", "sizes"))
    flat, whole = f"{sizes}_in", f"{sizes}_out"
    for name, lengths in ((flat, (-1, width)), (whole, result)):
        graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(lengths, np.int64), name))
    yield helper.make_node("Reshape", [left, flat], [rows], name=rows)
    yield helper.make_node("Gemm", [rows, right, bias], [product.output], name=product.name)
    yield helper.make_node("Reshape", [product.output, whole], [add.output], name=f"{rows}_back")


def _free(model: Model, name: str) -> str:
    """A name that nothing in the graph has."""
    while any(isinstance(key, str) and key.startswith(name) for key in model.flow):
        name += "_"
    return name
