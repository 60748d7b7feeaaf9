"""Names, paths and edges across subgraphs."""

from __future__ import annotations

from pathlib import Path

import networkx as nx
import numpy as np
import pytest
from onnx_cases import as_model, onnx_text

from onnxlint_q.errors import ModelError
from onnxlint_q.graph import Model, find_layers, read_model
from onnxlint_q.graph.names import names_read

THEN, ELSE = "main/branch_out.then_branch", "main/branch_out.else_branch"
LOOP = """
g (int64 trips, bool go, float[2] x) => (float[2] y) {
  twice = Add(x, x)
  y = Loop(trips, go, x) <body = body (int64 i, bool c, float[2] state) => (bool c_out, float[2] next) {
    c_out = Identity(c)
    next = Mul(state, twice)
  }>
}
"""


def reaches_output(model: Model, tensor: str) -> bool:
    """Whether any output of the model depends on `tensor`."""
    return any(nx.has_path(model.graph, tensor, name) for name in model.output_names)


def test_equal_names_in_two_branches_stay_apart(models: Path) -> None:
    model = read_model(models / "subgraph_if.onnx")
    layers = [layer for layer in find_layers(model) if layer.node.name == "branch_conv"]
    assert {layer.output for layer in layers} == {f"{THEN}/branch_conv_out", f"{ELSE}/branch_conv_out"}
    assert {layer.weight for layer in layers} == {f"{THEN}/branch.weight", f"{ELSE}/branch.weight"}
    first, second = (model.constants[layer.weight] for layer in layers)
    assert not np.array_equal(first, second)


def test_location_names_graph_and_local_output(models: Path) -> None:
    model = read_model(models / "subgraph_if.onnx")
    node = next(node for node in model.nodes if node.graph == THEN and node.op_type == "Conv")
    location = model.locate(node)
    assert (location.graph, location.node, location.op_type) == (THEN, "branch_conv", "Conv")
    assert location.output == "branch_conv_out"


def test_types_of_inner_tensors(models: Path) -> None:
    model = read_model(models / "subgraph_if.onnx")
    assert model.shape(f"{THEN}/branch_conv_out") == (None, 8, 16, 16)


def test_captured_tensor_is_an_input_of_the_outer_node(models: Path) -> None:
    model = read_model(models / "subgraph_if.onnx")
    branch = next(node for node in model.nodes if node.op_type == "If")
    assert branch.captured == ("stem_relu_out",)
    assert branch.subgraphs == {"then_branch": THEN, "else_branch": ELSE}
    assert branch in model.consumers("stem_relu_out")
    inner = [node for node in model.consumers("stem_relu_out") if node.op_type == "Conv"]
    assert {node.graph for node in inner} == {THEN, ELSE}


def test_inner_layers_reach_the_output(models: Path) -> None:
    model = read_model(models / "subgraph_if.onnx")
    assert reaches_output(model, f"{THEN}/branch_conv_out")
    assert "classifier_out" in nx.descendants(model.graph, "images")


def test_data_flows_into_a_loop_and_out() -> None:
    model = as_model(onnx_text(LOOP))
    state = "main/y.body/state"
    assert [node.op_type for node in model.nodes].index("Mul") < [n.op_type for n in model.nodes].index("Loop")
    assert state in nx.descendants(model.graph, "x")
    assert reaches_output(model, state)
    assert next(node for node in model.nodes if node.op_type == "Loop").captured == ("twice",)


def test_cycle_inside_a_body() -> None:
    proto = onnx_text(LOOP.replace("next = Mul(state, twice)", "next = Mul(state, other) other = Neg(next)"))
    with pytest.raises(ModelError, match="the graph has a cycle through"):
        as_model(proto)


def test_inner_names_are_unknown_outside() -> None:
    proto = onnx_text(LOOP.replace("twice = Add(x, x)", "twice = Add(x, next)"))
    with pytest.raises(ModelError, match="reads tensor 'next', which no input, initializer or node defines"):
        as_model(proto)


def test_branches_without_names_of_their_own() -> None:
    """A branch may hand an outer tensor through without a node."""
    model = as_model(
        onnx_text("""
        g (bool c, float[2] x) => (float[2] y) {
          z = Relu(x)
          y = If(c) <then_branch = t () => (float[2] z) { }, else_branch = e () => (float[2] n) { n = Neg(x) }>
        }
        """)
    )
    branch = next(node for node in model.nodes if node.op_type == "If")
    assert set(branch.captured) == {"z", "x"}
    assert reaches_output(model, "z")


def test_an_operator_with_an_invisible_name_is_told_visibly() -> None:
    proto = onnx_text(LOOP.replace("twice = Add(x, x)", "twice = Add(x, next)"))
    next(node for node in proto.graph.node if node.op_type == "Add").op_type = "\u202e"
    with pytest.raises(ModelError, match=r"the '\\u202e' node 'twice' reads tensor 'next'"):
        as_model(proto)


def test_names_that_a_body_makes_for_itself_are_not_read_around_it() -> None:
    """A tensor behind the node may have one of them."""
    text = """g (float[2] x, bool c) => (float[2] y) {
        r = If (c) <then_branch = t () => (float[2] p) { k = Abs(x)  p = Add(k, outer) },
                    else_branch = e () => (float[2] outer) { q = Neg(x) } >
        k = Relu(r)
        y = Relu(k)
    }"""
    node = onnx_text(text).graph.node[0]
    assert set(names_read(node)) == {"c", "x", "outer"}
