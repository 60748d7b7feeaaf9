"""Which normalisations become part of a layer, why others do not, and that the float model stays what it is."""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx_cases import Array, as_model, onnx_text, run, sqnr_db

from onnxlint_q.analysis.measured import Measured, measure
from onnxlint_q.analysis.schemes import DEFAULT_SCHEMES
from onnxlint_q.rewrite.candidate import Refusal
from onnxlint_q.rewrite.fold_batch_norms import REWRITE, FoldableNorms, apply, find

# Of each case: the nodes, the shape of x, the shape of w, the channels of the normalisation.
BEHIND = {
    "conv": ("t = Conv(x, w, b)\n y = BatchNormalization(t, gamma, beta, mean, var)", (2, 4, 7, 7), (6, 4, 3, 3)),
    "no bias": ("t = Conv(x, w)\n y = BatchNormalization(t, gamma, beta, mean, var)", (2, 4, 7, 7), (6, 4, 3, 3)),
    "depthwise": (
        "t = Conv <group = 6, pads = [1, 1, 1, 1]> (x, w)\n y = BatchNormalization(t, gamma, beta, mean, var)",
        (2, 6, 5, 5),
        (6, 1, 3, 3),
    ),
    "grouped, 1-D": (
        "t = Conv <group = 2> (x, w, b)\n y = BatchNormalization <epsilon = 0.01> (t, gamma, beta, mean, var)",
        (2, 4, 9),
        (6, 2, 3),
    ),
    "3-D": ("t = Conv(x, w, b)\n y = BatchNormalization(t, gamma, beta, mean, var)", (2, 3, 4, 4, 4), (6, 3, 2, 2, 2)),
    "transposed": (
        "t = ConvTranspose <group = 2, strides = [2, 2]> (x, w, b)\n y = BatchNormalization(t, gamma, beta, mean, var)",
        (2, 4, 4, 4),
        (4, 3, 3, 3),
    ),
    "Gemm": ("t = Gemm(x, w, b)\n y = BatchNormalization(t, gamma, beta, mean, var)", (5, 4), (4, 6)),
    "Gemm of rows": (
        "t = Gemm <transB = 1> (x, w)\n y = BatchNormalization(t, gamma, beta, mean, var)",
        (5, 4),
        (6, 4),
    ),
    "MatMul": ("t = MatMul(x, w)\n y = BatchNormalization(t, gamma, beta, mean, var)", (5, 4), (4, 6)),
    "MatMul and Add": (
        "t = MatMul(x, w)\n s = Add(b, t)\n y = BatchNormalization(s, gamma, beta, mean, var)",
        (5, 4),
        (4, 6),
    ),
}
IN_FRONT = {
    "conv": ("t = BatchNormalization(x, gamma, beta, mean, var)\n y = Conv(t, w)", (2, 6, 7, 7), (4, 6, 3, 3)),
    "grouped": (
        "t = BatchNormalization(x, gamma, beta, mean, var)\n y = Conv <group = 2> (t, w)",
        (2, 6, 7, 7),
        (4, 3, 3, 3),
    ),
    "Gemm": ("t = BatchNormalization(x, gamma, beta, mean, var)\n y = Gemm(t, w)", (5, 6), (6, 4)),
    "MatMul": ("t = BatchNormalization(x, gamma, beta, mean, var)\n y = MatMul(t, w)", (5, 6), (6, 4)),
}


def parameters(rng: np.random.Generator, channels: int = 6) -> dict[str, Array]:
    return {
        "b": rng.normal(size=channels),
        "gamma": rng.normal(size=channels),
        "beta": rng.normal(size=channels),
        "mean": rng.normal(size=channels),
        "var": rng.uniform(0.1, 3, channels),
    }


def case(
    nodes: str, shape: tuple[int, ...], weight: tuple[int, ...], kind: str = "float", seed: int = 0
) -> tuple[onnx.ModelProto, Array]:
    """A network `x -> y` and a batch for it."""
    rng = np.random.default_rng(seed)
    dtype: npt.DTypeLike = {"float": np.float32, "double": np.float64, "float16": np.float16}[kind]
    values = {**parameters(rng), "w": rng.normal(size=weight)}
    used = {name: value.astype(dtype) for name, value in values.items() if re.search(rf"\b{name}\b", nodes)}
    dims = ", ".join(map(str, shape[1:]))
    rank = ", ".join(["N", *["?"] * (len(shape) - 1)]) if len(shape) > 2 else "N, m"
    proto = onnx_text(f"net ({kind}[N, {dims}] x) => ({kind}[{rank.replace('?', 'k')}] y) {{ {nodes} }}", **used)
    return proto, rng.normal(size=shape).astype(dtype)


def measured(proto: onnx.ModelProto) -> Measured:
    return measure(as_model(proto), DEFAULT_SCHEMES)


def folded(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The network with everything folded that folds; every normalisation does."""
    known = measured(proto)
    found = list(find(known))
    assert found and all(isinstance(one, FoldableNorms) for one in found)
    made = apply(known.model, [one for one in found if isinstance(one, FoldableNorms)])
    onnx.checker.check_model(made.proto, full_check=True)
    assert not list(made.nodes_of("BatchNormalization"))
    return made.proto


@pytest.mark.parametrize("name", BEHIND)
def test_one_behind_a_layer_becomes_part_of_it(name: str) -> None:
    proto, x = case(*BEHIND[name])
    made = folded(proto)
    assert [node.op_type for node in made.graph.node] == ["Gemm" if "MatMul" in name else proto.graph.node[0].op_type]
    assert sorted(value.name.rstrip("0123456789") for value in made.graph.initializer) == sorted(
        ["w_folded", "b_folded" if "t, b" in name or "w, b" in BEHIND[name][0] else "t_folded"]
    )
    assert sqnr_db(run(proto, {"x": x})[0], run(made, {"x": x})[0]) > 110


@pytest.mark.parametrize("name", IN_FRONT)
def test_one_in_front_of_a_layer_becomes_part_of_it(name: str) -> None:
    proto, x = case(*IN_FRONT[name])
    made = folded(proto)
    assert [node.op_type for node in made.graph.node] == ["Gemm" if name in {"Gemm", "MatMul"} else "Conv"]
    assert sqnr_db(run(proto, {"x": x})[0], run(made, {"x": x})[0]) > 110


@pytest.mark.parametrize(("name", "kind", "least"), [("MatMul", "double", 110), ("conv", "float16", 55)])
def test_a_layer_keeps_its_element_type(name: str, kind: str, least: float) -> None:
    proto, x = case(*BEHIND[name], kind=kind)
    made = folded(proto)
    assert {value.data_type for value in made.graph.initializer} == {proto.graph.initializer[0].data_type}
    assert sqnr_db(run(proto, {"x": x})[0], run(made, {"x": x})[0]) > least


STACK = """
net (float[N, 6, 9, 9] x) => (float[N, 6, 7, 7] first, float[N, 6, 5, 5] y) {
  before = BatchNormalization(x, gamma, beta, mean, var)
  a = Conv(before, w, b)
  first = BatchNormalization(a, gamma, beta, mean, var)
  positive = Relu(first)
  c = Conv <group = 6> (positive, d, b)
  y = BatchNormalization(c, gamma, beta, mean, var)
}
"""


def stack(seed: int = 0) -> onnx.ModelProto:
    """Three normalisations with the same parameters, around two layers that share a bias; one makes an output."""
    rng = np.random.default_rng(seed)
    values = {**parameters(rng), "w": rng.normal(size=(6, 6, 3, 3)), "d": rng.normal(size=(6, 1, 3, 3))}
    return onnx_text(STACK, **{name: value.astype(np.float32) for name, value in values.items()})


@given(chosen=st.lists(st.integers(0, 1), unique=True), seed=st.integers(0, 20))
def test_any_of_them_in_any_order(chosen: list[int], seed: int) -> None:
    proto = stack(seed)
    known = measured(proto)
    found = [one for one in find(known) if isinstance(one, FoldableNorms)]
    assert [(one.tensor, one.norms) for one in found] == [("first", 2), ("y", 1)]
    made = apply(known.model, [found[place] for place in chosen])
    onnx.checker.check_model(made.proto, full_check=True)
    x = np.random.default_rng(seed + 1).normal(size=(3, 6, 9, 9)).astype(np.float32)
    for before, after in zip(run(proto, {"x": x}), run(made.proto, {"x": x}), strict=True):
        assert sqnr_db(before, after) > 100
    assert len(list(made.nodes_of("BatchNormalization"))) == 3 - sum(found[place].norms for place in chosen)


def test_the_model_that_was_given_stays_as_it_is() -> None:
    proto = stack()
    before = proto.SerializeToString(deterministic=True)
    folded(proto)
    assert proto.SerializeToString(deterministic=True) == before


def test_a_subgraph_that_reads_the_result_reads_it_still() -> None:
    proto, x = case(*BEHIND["conv"])
    branches = []
    for name, node in (("twice", "Add"), ("squared", "Mul")):
        inner = onnx.helper.make_node(node, ["y", "y"], [name])
        branches.append(onnx.helper.make_graph([inner], name, [], [onnx.helper.make_empty_tensor_value_info(name)]))
    graph = proto.graph
    graph.node.append(onnx.helper.make_node("If", ["c"], ["z"], then_branch=branches[0], else_branch=branches[1]))
    graph.input.append(onnx.helper.make_tensor_value_info("c", onnx.TensorProto.BOOL, []))
    graph.output.append(onnx.helper.make_tensor_value_info("z", onnx.TensorProto.FLOAT, [None] * 4))
    made = folded(proto)
    for choice in (np.array(True), np.array(False)):
        for before, after in zip(run(proto, {"x": x, "c": choice}), run(made, {"x": x, "c": choice}), strict=True):
            assert sqnr_db(before, after) > 110


def test_inside_a_subgraph() -> None:
    proto, x = case(*BEHIND["conv"])
    graph = proto.graph
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in graph.node]
    other = [onnx.helper.make_node("Conv", ["x", "w", "b"], ["e"])]
    then = onnx.helper.make_graph(nodes, "then", [], [onnx.helper.make_empty_tensor_value_info("y")])
    orelse = onnx.helper.make_graph(other, "orelse", [], [onnx.helper.make_empty_tensor_value_info("e")])
    del graph.node[:]
    graph.node.append(onnx.helper.make_node("If", ["c"], ["z"], then_branch=then, else_branch=orelse))
    graph.input.append(onnx.helper.make_tensor_value_info("c", onnx.TensorProto.BOOL, []))
    graph.output[0].name = "z"
    known = measured(proto)
    (refused,) = find(known)  # the other branch reads the weight as well
    assert isinstance(refused, Refusal) and "shares its weight" in refused.reason
    graph.node[0].attribute[1].g.node[0].input[1] = "v"
    graph.initializer.append(onnx.numpy_helper.from_array(np.ones((6, 4, 3, 3), np.float32), "v"))
    made = folded(proto)
    feeds = {"x": x, "c": np.array(True)}
    assert sqnr_db(run(proto, feeds)[0], run(made, feeds)[0]) > 110


def test_initializers_that_are_inputs_stay_inputs() -> None:
    proto, x = case(*BEHIND["conv"])
    for value in proto.graph.initializer:
        proto.graph.input.append(onnx.helper.make_tensor_value_info(value.name, value.data_type, value.dims))
    made = folded(proto)
    assert [value.name for value in made.graph.input] == [value.name for value in proto.graph.input]
    assert {value.name for value in proto.graph.initializer} < {value.name for value in made.graph.initializer}
    assert sqnr_db(run(proto, {"x": x})[0], run(made, {"x": x})[0]) > 110


def test_what_is_stated_about_tensors_that_are_gone_goes_too() -> None:
    proto, _ = case(*BEHIND["conv"])
    proto.graph.value_info.append(onnx.helper.make_tensor_value_info("t", onnx.TensorProto.FLOAT, None))
    assert not folded(proto).graph.value_info


@pytest.mark.parametrize(
    ("nodes", "reason"),
    [
        ("t = Conv(x, w)\n r = Relu(t)\n y = BatchNormalization(r, gamma, beta, mean, var)", "an activation stands"),
        ("t = BatchNormalization(x, gamma, beta, mean, var)\n y = Sin(t)", "no layer with a constant weight"),
        ("t = BatchNormalization(x, gamma, beta, mean, var)\n y = Conv <pads = [1, 1, 1, 1]> (t, w)", "pads"),
        (
            "t = Conv(x, w)\n s = BatchNormalization(t, gamma, beta, mean, var)\n u = Sin(t)\n y = Add(s, u)",
            "other readers",
        ),
    ],
)
def test_a_refusal_names_the_normalisation_and_the_reason(nodes: str, reason: str) -> None:
    proto, _ = case(nodes, (2, 6, 7, 7), (6, 6, 3, 3))
    (refused,) = find(measured(proto))
    (norm,) = (node for node in proto.graph.node if node.op_type == "BatchNormalization")
    assert isinstance(refused, Refusal) and refused.tensor == norm.output[0] and reason in refused.reason


@pytest.mark.parametrize(("kind", "name", "value"), [("float", "var", -1.0), ("float16", "gamma", 6e4)])
def test_what_would_not_be_finite_is_refused(kind: str, name: str, value: float) -> None:
    proto, _ = case(*BEHIND["conv"], kind=kind)
    (stored,) = (one for one in proto.graph.initializer if one.name == name)
    values = onnx.numpy_helper.to_array(stored).copy()
    values[2] = value
    stored.CopyFrom(onnx.numpy_helper.from_array(values, name))
    (refused,) = find(measured(proto))
    assert isinstance(refused, Refusal) and "would not be finite" in refused.reason


def test_the_change_is_told_in_words() -> None:
    assert FoldableNorms("y", "Conv", 1).change == "the BatchNormalization becomes part of the Conv"
    assert FoldableNorms("y", "Conv", 2).change == "2 BatchNormalizations become part of the Conv"
    assert REWRITE.find is find and REWRITE.apply is apply
