"""Constants through every operator that is followed, with ONNX Runtime's result as the truth."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx_cases import Array, as_model, onnx_text, run, versioned_text

from onnxlint_q.errors import ModelError
from onnxlint_q.graph import find_layers, read_model
from onnxlint_q.graph.evaluate import check_parameter, dequantize

RNG = np.random.default_rng(1)
FLOATS = (RNG.standard_normal((2, 3, 4)) * 50).astype(np.float32)
CODES = RNG.integers(-128, 128, (4, 6)).astype(np.int8)


def shape(*dims: int) -> Array:
    return np.array(dims, np.int64)


CASES: dict[str, tuple[str, dict[str, npt.ArrayLike]]] = {
    "identity": ("y = Identity(w)", {"w": FLOATS}),
    "cast to int": ("y = Cast<to = 6>(w)", {"w": FLOATS}),
    "cast to half": ("y = Cast<to = 10>(w)", {"w": FLOATS}),
    "cast to double": ("y = Cast<to = 11>(w)", {"w": FLOATS}),
    "cast to bool": ("y = Cast<to = 9>(w)", {"w": CODES}),
    "cast from int": ("y = Cast<to = 1>(w)", {"w": CODES}),
    "transpose": ("y = Transpose<perm = [2, 0, 1]>(w)", {"w": FLOATS}),
    "transpose all": ("y = Transpose(w)", {"w": FLOATS}),
    "reshape": ("y = Reshape(w, s)", {"w": FLOATS, "s": shape(4, -1)}),
    "reshape keeps": ("y = Reshape(w, s)", {"w": FLOATS, "s": shape(0, 12)}),
    "reshape to zero": (
        "y = Reshape<allowzero = 1>(w, s)",
        {"w": np.zeros((0, 3), np.float32), "s": shape(3, 0)},
    ),
    "squeeze": ("y = Squeeze(w, a)", {"w": FLOATS.reshape(1, 6, 1, 4), "a": shape(-2)}),
    "squeeze all": ("y = Squeeze(w)", {"w": FLOATS.reshape(1, 6, 1, 4)}),
    "unsqueeze": ("y = Unsqueeze(w, a)", {"w": FLOATS, "a": shape(0, -1)}),
    "flatten": ("y = Flatten<axis = 2>(w)", {"w": FLOATS}),
    "flatten from the end": ("y = Flatten<axis = -1>(w)", {"w": FLOATS}),
    "flatten to a row": ("y = Flatten<axis = 0>(w)", {"w": FLOATS}),
    "dequantize": ("y = DequantizeLinear(w, s)", {"w": CODES, "s": np.float32(0.1)}),
    "dequantize with zero point": (
        "y = DequantizeLinear(w, s, z)",
        {"w": CODES.view(np.uint8), "s": np.array([0.1], np.float32), "z": np.array([7], np.uint8)},
    ),
    "dequantize per channel": (
        "y = DequantizeLinear<axis = 0>(w, s, z)",
        {"w": CODES, "s": np.geomspace(1e-3, 1, 4).astype(np.float32), "z": np.arange(4, dtype=np.int8)},
    ),
    "dequantize along the last axis": (
        "y = DequantizeLinear<axis = -1>(w, s)",
        {"w": CODES, "s": np.geomspace(1e-3, 1, 6).astype(np.float32)},
    ),
    "dequantize a bias": (
        "y = DequantizeLinear<axis = 0>(w, s)",
        {"w": np.array([70000, -3, 123456789], np.int32), "s": np.array([1e-4, 2e-5, 3e-6], np.float32)},
    ),
    "dequantize blocks": (
        "y = DequantizeLinear<axis = 1, block_size = 3>(w, s, z)",
        {"w": CODES, "s": RNG.random((4, 2)).astype(np.float32), "z": RNG.integers(-9, 9, (4, 2)).astype(np.int8)},
    ),
    "constant tensor": ("y = Constant<value = float[2] {1.5, -2}>()", {}),
    "constant float": ("y = Constant<value_float = 0.1>()", {}),
    "constant floats": ("y = Constant<value_floats = [0.1, 2.0]>()", {}),
    "constant int": ("y = Constant<value_int = 7>()", {}),
    "constant ints": ("y = Constant<value_ints = [7, -8]>()", {}),
    "a chain": (
        "a = Identity(w) b = Transpose(a) c = Cast<to = 10>(b) d = Cast<to = 1>(c) y = Reshape(d, s)",
        {"w": FLOATS, "s": shape(-1)},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_value_is_what_onnx_runtime_computes(case: str) -> None:
    body, arrays = CASES[case]
    probe = versioned_text(21, "", f"g () => (float y) {{ {body} }}", **arrays)
    probe.graph.output[0].ClearField("type")
    inferred = onnx.shape_inference.infer_shapes(probe)
    (expected,) = run(inferred, {})
    model = as_model(probe)
    assert model.is_constant("y")
    value = model.constants["y"]
    assert value.dtype == expected.dtype
    assert value.shape == expected.shape
    np.testing.assert_array_equal(value, expected)


def test_dequantize_of_onnx_runtimes_own_domain() -> None:
    """16-bit codes below opset 21."""
    body = "y = com.microsoft.DequantizeLinear<axis = 0>(w, s, z)"
    proto = versioned_text(
        17,
        "com.microsoft",
        f"g () => (float[2,2] y) {{ {body} }}",
        w=np.array([[30000, -5], [7, 8]], np.int16),
        s=np.array([0.1, 0.2], np.float32),
        z=np.zeros(2, np.int16),
    )
    (expected,) = run(proto, {})
    np.testing.assert_array_equal(as_model(proto).constants["y"], expected)


def test_axes_as_attributes() -> None:
    """Until opset 12 Squeeze and Unsqueeze carry their axes themselves."""
    proto = versioned_text(
        11,
        "",
        "g () => (float[3,1] y) { a = Squeeze<axes = [0]>(w) y = Unsqueeze<axes = [1]>(a) }",
        w=np.ones((1, 3), np.float32),
    )
    (expected,) = run(proto, {})
    np.testing.assert_array_equal(as_model(proto).constants["y"], expected)


def test_origin_is_the_stored_tensor() -> None:
    model = as_model(
        onnx_text("g () => (float[4,2] y) { a = Identity(w) y = Transpose(a) }", w=np.ones((2, 4), np.float32))
    )
    assert model.constants.origin("y") == "w"
    assert model.constants.origin("w") == "w"
    assert model.constants.initializer("y") is None


def test_what_depends_on_an_input_is_no_constant() -> None:
    model = as_model(onnx_text("g (float[2] x) => (float[2] y) { a = Identity(x) y = Neg(a) }"))
    assert not model.is_constant("x")
    assert not model.is_constant("a")
    assert model.constant("y") is None


def test_weights_behind_nodes_are_found(models: Path) -> None:
    model = read_model(models / "constant_weights.onnx")
    layers = [layer for layer in find_layers(model) if layer.op_type == "Conv"]
    assert [layer.weight_shape for layer in layers] == [
        (8, 3, 3, 3),
        (8, 8, 3, 3),
        (8, 8, 1, 1),
        (12, 8, 3, 3),
        (12, 12, 1, 1),
    ]
    extended = onnx.load(models / "constant_weights.onnx")
    for layer in layers:
        extended.graph.output.append(helper.make_tensor_value_info(layer.weight, TensorProto.FLOAT, layer.weight_shape))
    _, *expected = run(extended, {"images": np.zeros((1, 3, 32, 32), np.float32)})
    for layer, weight in zip(layers, expected, strict=True):
        np.testing.assert_array_equal(layer.read_weight(model), weight)


def test_an_operator_that_does_not_fit_its_constant() -> None:
    model = as_model(onnx_text("g () => (float[5] y) { y = Reshape(w, s) }", w=FLOATS, s=shape(5)))
    with pytest.raises(
        ModelError, match=r"the Reshape node 'y' cannot be applied .* \[2, 3, 4\].*export the model again"
    ):
        _ = model.constants["y"]


def test_a_constant_without_a_value_is_none() -> None:
    proto = onnx_text("g (float[2] x) => (float[2] y) { y = Add(x, x) }")
    proto.graph.node.insert(0, helper.make_node("Constant", [], ["c"], sparse_value=sparse()))
    proto.graph.node.insert(0, helper.make_node("Constant", [], ["d"], value=3))
    model = as_model(proto)
    assert not model.is_constant("c")
    assert not model.is_constant("d")


def sparse() -> onnx.SparseTensorProto:
    return helper.make_sparse_tensor(
        numpy_helper.from_array(np.ones(1, np.float32)), numpy_helper.from_array(np.zeros(1, np.int64)), [2]
    )


def test_parameters_that_are_chains_cost_no_exponential_time() -> None:
    """Each DequantizeLinear reads its predecessor three times: written out that is 3^60 operators."""
    body = " ".join(f"c{i + 1} = DequantizeLinear(c{i}, c{i}, c{i})" for i in range(60))
    proto = onnx_text(f"g () => (float[1] c60) {{ {body} }}", c0=np.ones(1, np.float32))
    start = time.perf_counter()
    model = as_model(proto)
    assert model.constant("c60") is None
    assert model.constant("c3") is not None
    assert time.perf_counter() - start < 2


def test_scale_of_the_wrong_length_leaves_the_file_readable(models: Path) -> None:
    model = read_model(models / "qdq_wrong_scale_shape.onnx")
    assert not model.is_constant("block1_1_conv.weight_real")
    assert len(list(find_layers(model))) == 6


@pytest.mark.parametrize(
    ("parameter", "axis", "block", "message"),
    [
        ((3,), 0, 0, "3. values for 4 channels of axis 0"),
        ((4,), 2, 0, "axis 2 is outside a tensor of rank 2"),
        ((4,), -3, 0, "axis -3 is outside"),
        ((4, 3), 1, 3, "blocks of 3 do not fit"),
        ((4, 2), 1, -3, "the block size -3 is negative"),
    ],
)
def test_parameters_that_do_not_fit(parameter: tuple[int, ...], axis: int, block: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_parameter(parameter, (4, 6), axis, block)


def test_last_block_may_be_short() -> None:
    codes = np.ones((1, 5), np.int8)
    value = dequantize(codes, np.array([[1.0, 2.0]], np.float32), None, axis=1, block_size=3)
    np.testing.assert_array_equal(value, [[1, 1, 1, 2, 2]])


def test_small_values_are_kept_and_large_ones_are_not() -> None:
    arrays: dict[str, Any] = {"small": np.ones(4, np.float32), "large": np.ones(20_000, np.float32)}
    model = as_model(onnx_text("g (float[1] x) => (float[1] y) { y = Neg(x) }", **arrays))
    assert model.constants["small"] is model.constants["small"]
    assert model.constants["large"] is not model.constants["large"]


def test_values_that_are_made_alike_are_known_to_be_the_same() -> None:
    text = """g (float[1] x) => (float[1] y) {
        a = Transpose <perm=[1, 0]> (w) b = Transpose <perm=[1, 0]> (w) c = Transpose <perm=[0, 1]> (w)
        d = Transpose <perm=[1, 0]> (v) e = Identity (a) f = Identity (b) y = Neg(x) }"""
    made = {key: np.ones((2, 2), np.float32) for key in "wv"}
    constants = as_model(onnx_text(text, **made)).constants
    assert constants.made_of("a") == constants.made_of("b")
    assert constants.made_of("e") == constants.made_of("f")
    assert len({constants.made_of(key) for key in "wvacde"}) == 6


@pytest.mark.parametrize("name", ["value_float", "value_ints", "value_string"])
def test_an_attribute_that_holds_something_else_is_no_constant(name: str) -> None:
    proto = onnx_text("g () => (float[2] y) { y = Constant<value_float = 0.1>() }")
    (attribute,) = proto.graph.node[0].attribute
    attribute.CopyFrom(onnx.helper.make_attribute(name, onnx.numpy_helper.from_array(np.ones(2, np.float32))))
    assert "y" not in as_model(proto).constants
