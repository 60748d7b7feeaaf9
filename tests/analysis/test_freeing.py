"""Which nodes to exclude so that a tensor stays in float: no fewer would do, and no more are asked for."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx_cases import Array, as_model, versioned_text
from onnxruntime.quantization import CalibrationDataReader, quantize_static

from onnxlint_q.analysis.measured import Measured, measure
from onnxlint_q.analysis.placement import float_weights, scaled_tensors, stored_tensor
from onnxlint_q.analysis.schemes import DEFAULT_SCHEMES, INT8_PER_TENSOR, SCHEMES
from onnxlint_q.graph import read_model

FIXTURES = Path(__file__).parents[2] / "fixtures" / "models"
CONV = "Conv <pads = [1, 1, 1, 1]>"
IMAGE, VECTOR = "agraph (float[1, 2, 8, 8] x) => (float[N, C, H, W] y)", "agraph (float[1, 4] x) => (float[N, M] y)"
KERNEL = np.arange(36, dtype=np.float32).reshape(2, 2, 3, 3) - 17
SQUARE = np.arange(16, dtype=np.float32).reshape(4, 4) - 7
# Graph, tensor, nodes that free it.
CASES = {
    "between layers": (IMAGE, f"a = {CONV}(x, w)\n y = {CONV}(a, w)", "a", {"a", "y"}),
    "behind a rectifier that is absorbed": (
        IMAGE,
        f"a = {CONV}(x, w)\n b = Relu(a)\n y = {CONV}(b, w)",
        "b",
        {"a", "y"},
    ),
    "in front of that rectifier": (IMAGE, f"a = {CONV}(x, w)\n b = Relu(a)\n y = {CONV}(b, w)", "a", {"a", "y"}),
    "in front of a rectifier that others read beside": (
        IMAGE,
        f"a = {CONV}(x, w)\n b = Relu(a)\n y = Add(a, b)",
        "a",
        {"a", "y"},
    ),
    "behind that rectifier": (IMAGE, f"a = {CONV}(x, w)\n b = Relu(a)\n y = Add(a, b)", "b", {"b", "y"}),
    "in front of a gate": (
        IMAGE,
        f"a = {CONV}(x, w)\n s = Sigmoid(a)\n b = Mul(a, s)\n y = {CONV}(b, w)",
        "a",
        {"a", "s", "b"},
    ),
    "what a sum and a layer read": (
        IMAGE,
        f"a = Sigmoid(x)\n c = {CONV}(a, w)\n y = Add(a, c)",
        "a",
        {"a", "c", "y"},
    ),
    "side by side": (
        IMAGE,
        f"a = {CONV}(x, w)\n c = {CONV}(x, w)\n j = Concat <axis = 1> (a, c)\n y = Sigmoid(j)",
        "j",
        {"j", "y"},
    ),
    "scores behind a mask": (VECTOR, "a = Add(x, x)\n s = Softmax(a)\n y = Mul(s, x)", "a", {"a", "s"}),
    "values that are moved": (
        IMAGE,
        f"a = {CONV}(x, w)\n p = MaxPool <kernel_shape = [2, 2]> (a)\n t = Transpose <perm = [0, 2, 3, 1]> (p)\n"
        " y = Softmax(t)",
        "a",
        {"a", "y"},
    ),
    "means with the scale of what they are of": (
        IMAGE,
        "a = Sigmoid(x)\n y = AveragePool <kernel_shape = [2, 2]> (a)",
        "a",
        {"a"},
    ),
    "the means themselves": (IMAGE, "a = Sigmoid(x)\n y = AveragePool <kernel_shape = [2, 2]> (a)", "y", {"y"}),
    "a choice": (VECTOR, "a = Sigmoid(x)\n c = Less(x, a)\n b = Mul(x, x)\n y = Where(c, a, b)", "y", {"y"}),
    "an input": (VECTOR, "a = Sigmoid(x)\n y = Mul(a, x)", "x", {"a", "y"}),
}


def named(graph: str, **arrays: Array) -> Measured:
    """A model whose nodes are called like their results."""
    proto = versioned_text(13, "", graph, **arrays)
    for node in proto.graph.node:
        node.name = node.output[0]
    return measure(as_model(proto), DEFAULT_SCHEMES)


def rounded(measured: Measured, excluded: set[str]) -> set[str]:
    """Tensors with a scale, those that only move values with the scale of another included."""
    return {place.tensor for place in scaled_tensors(measured.model, measured.folded, excluded)}


@pytest.mark.parametrize("name", CASES)
def test_the_nodes_free_the_tensor_and_no_fewer_do(name: str) -> None:
    head, body, tensor, wanted = CASES[name]
    measured = named(f"{head} {{ {body} }}", **({"w": KERNEL} if "w)" in body else {}))
    found = measured.freer.activation(tensor)
    names = {node.name for node in found.nodes}
    assert names == wanted and not found.unnamed
    assert tensor not in rounded(measured, names)
    moved = {"p", "t"} & {key for node in measured.model.nodes for key in node.outputs}
    assert not moved & rounded(measured, names)
    behind = {stored_tensor(measured.model, tensor)}
    for fewer in combinations(names, len(names) - 1):
        assert {tensor, *moved, *behind} & rounded(measured, set(fewer))


@pytest.mark.parametrize("name", ["healthy_resnet", "depthwise_spread", "silu_gate", "two_inputs"])
def test_every_activation_of_a_network_can_be_freed(name: str) -> None:
    measured = measure(read_model(FIXTURES / f"{name}.onnx"), DEFAULT_SCHEMES)
    assert measured.placements
    for place in measured.placements:
        found = measured.freer.activation(place.tensor)
        assert place.tensor not in rounded(measured, {node.name for node in found.nodes})
        assert [node.order for node in found.nodes] == sorted(node.order for node in found.nodes)


def test_a_node_without_a_name_cannot_be_excluded() -> None:
    proto = versioned_text(13, "", f"{IMAGE} {{ a = {CONV}(x, w)\n y = {CONV}(a, w) }}", w=KERNEL)
    proto.graph.node[0].name = "first"
    measured = measure(as_model(proto), DEFAULT_SCHEMES)
    found = measured.freer.activation("a")
    assert [node.output for node in found.unnamed] == ["y"]


class OneSample(CalibrationDataReader):  # type: ignore[misc]  # the base class has no types
    def __init__(self, sample: dict[str, Array]) -> None:
        self.left = [sample]

    def get_next(self) -> dict[str, Array] | None:
        return self.left.pop() if self.left else None


@pytest.mark.parametrize("excluded", [(), ("a",), ("b",), ("a", "b"), ("c",)])
def test_a_weight_that_several_read_stays_in_float_only_with_all_of_them(
    excluded: tuple[str, ...], tmp_path: Path
) -> None:
    body = "a = MatMul(x, w)\n b = MatMul(a, w)\n c = MatMul(b, v)\n y = Sigmoid(c)"
    measured = named(f"{VECTOR} {{ {body} }}", w=SQUARE, v=SQUARE)
    onnx.save(measured.model.proto, tmp_path / "float.onnx")
    files = (str(tmp_path / "float.onnx"), str(tmp_path / "int8.onnx"))
    quantize_static(*files, OneSample({"x": np.ones((1, 4), np.float32)}), nodes_to_exclude=list(excluded))
    left = {tensor.name for tensor in onnx.load(files[1]).graph.initializer} & {"w", "v"}
    weights = {folded.output: folded.layer.weight for folded in measured.folded}
    assert {weights[key] for key in float_weights(measured.model, measured.folded, excluded)} == left
    found = {key: {node.name for node in measured.freer.weight(key).nodes} for key in weights}
    assert found == {"a": {"a", "b"}, "b": {"a", "b"}, "c": {"c"}}


NORMALISED = """
agraph (float[1, 2, 8, 8] x) => (float[N, C, H, W] y) {
  a = Conv <pads = [1, 1, 1, 1]> (x, w)
  n = BatchNormalization(a, one, zero, zero, one)
  y = Relu(n)
}"""


def test_a_list_works_on_the_file_as_it_is_and_after_folding() -> None:
    vectors = {"one": np.ones(2, np.float32), "zero": np.zeros(2, np.float32)}
    measured = named(NORMALISED, w=KERNEL, **vectors)
    found = measured.freer.activation("y")
    assert measured.freer.names(found.nodes) == ("a", "n")
    assert "y" not in rounded(measured, {"a", "n"})


def test_the_sum_that_becomes_a_bias_is_named_as_the_pre_processing_names_it() -> None:
    measured = named(f"{VECTOR} {{ a = MatMul(x, w)\n b = Add(a, bias)\n y = Sigmoid(b) }}", w=SQUARE, bias=SQUARE[0])
    product = [node for node in measured.freer.weight("a").nodes if node.name == "a"]
    assert measured.freer.names(product) == ("a", "a/MatMulAddFusion")


@pytest.mark.parametrize("between", ["", "b = Relu(a)\n", "b = Clip(a, zero, six)\n"])
def test_the_weight_of_a_convolution_between_two_scales_does_not_stay_in_float(between: str, tmp_path: Path) -> None:
    """ONNX Runtime quantises it when it loads the file."""
    result = "b" if between else "a"
    body = f"s = Sigmoid(x)\n a = {CONV}(s, w)\n {between} y = {CONV}({result}, w2)"
    ends = {"zero": np.zeros((), np.float32), "six": np.full((), 6, np.float32)} if "Clip" in between else {}
    measured = named(f"{IMAGE} {{ {body} }}", w=KERNEL, w2=KERNEL, **ends)
    freed = measured.freer.weight("a")
    assert {node.name for node in freed.nodes} == {"a", "y"}
    assert not measured.float_weights(INT8_PER_TENSOR, {"a"})
    assert measured.float_weights(INT8_PER_TENSOR, {"a", "y"}) == {"a", "y"}
    # Only the static quantiser writes pairs of nodes that ONNX Runtime makes integer operators of.
    assert measured.float_weights(SCHEMES["int8-dynamic"], {"a"}) == {"a"}
    assert float_convolutions(measured, ["a"], tmp_path) == 0
    assert float_convolutions(measured, ["a", "y"], tmp_path) == 2


def float_convolutions(measured: Measured, excluded: list[str], folder: Path) -> int:
    """How many ONNX Runtime computes in float, in a file with these nodes excluded."""
    onnx.save(measured.model.proto, folder / "float.onnx")
    sample = {"x": np.random.default_rng(1).normal(size=(1, 2, 8, 8)).astype(np.float32)}
    quantize_static(folder / "float.onnx", folder / "int8.onnx", OneSample(sample), nodes_to_exclude=excluded)
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(folder / "loaded.onnx")
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    ort.InferenceSession(folder / "int8.onnx", options, providers=["CPUExecutionProvider"])
    return sum(node.op_type in {"Conv", "FusedConv"} for node in onnx.load(folder / "loaded.onnx").graph.node)
