"""Scale and zero point are found by what is connected, in every format, whatever the names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto
from onnx_cases import as_model, versioned_text

from onnxlint_q.graph import (
    Format,
    Model,
    QuantizedTensor,
    Role,
    detect_format,
    find_layers,
    find_quantized_tensors,
    read_model,
)

QUANTISED = ["qdq_good", "qdq_per_tensor_depthwise", "qdq_blocked", "qoperator", "dynamic", "qdq_invalid_scale"]
BYTE = np.array(0, np.int8)


def scrambled(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The same model with every tensor and node called something that misleads."""
    names = {"": ""}

    def other(name: str) -> str:
        return names.setdefault(name, f"{['scale', 'zero_point', 'weight_quantized'][len(names) % 3]}_{len(names)}")

    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    for node in copy.graph.node:
        node.name = other(f"node {node.name}")
        node.input[:] = [other(name) for name in node.input]
        node.output[:] = [other(name) for name in node.output]
    for group in (copy.graph.input, copy.graph.output, copy.graph.initializer):
        for value in group:
            value.name = other(value.name)
    return copy


def summary(model: Model) -> list[tuple[object, ...]]:
    """Everything about the pairs but names."""
    rows: list[tuple[object, ...]] = []
    for pair in find_quantized_tensors(model):
        scale, zero_point = pair.read_scale(model), pair.read_zero_point(model)
        values = (None if scale is None else scale.tobytes(), None if zero_point is None else zero_point.tobytes())
        rows.append((pair.role, pair.node.op_type, pair.axis, pair.block_size, pair.elem_type, pair.dynamic, *values))
    return rows


@pytest.mark.parametrize("name", QUANTISED)
def test_names_do_not_matter(models: Path, name: str) -> None:
    model = read_model(models / f"{name}.onnx")
    found = summary(model)
    assert found
    assert found == summary(as_model(scrambled(model.proto)))


def roles(model: Model) -> dict[Role, list[QuantizedTensor]]:
    found: dict[Role, list[QuantizedTensor]] = {}
    for pair in find_quantized_tensors(model):
        found.setdefault(pair.role, []).append(pair)
    return found


def test_qdq(models: Path) -> None:
    model = read_model(models / "qdq_good.onnx")
    found = roles(model)
    assert {role: len(pairs) for role, pairs in found.items()} == {Role.ACTIVATION: 11, Role.WEIGHT: 7, Role.BIAS: 7}
    image = next(pair for pair in found[Role.ACTIVATION] if pair.tensor == "images")
    assert (image.codes, image.elem_type, image.code_range) == ("images_codes", TensorProto.INT8, (-128, 127))
    stem = next(pair for pair in found[Role.WEIGHT] if pair.codes == "stem_conv.weight_quantized")
    assert (stem.tensor, stem.axis, stem.elem_type) == ("stem_conv.weight_real", 0, TensorProto.INT8)
    scale = stem.read_scale(model)
    assert scale is not None and scale.shape == (8,)
    bias = next(pair for pair in found[Role.BIAS] if pair.codes == "stem_conv.bias_quantized")
    assert (bias.elem_type, bias.zero_point, bias.read_zero_point(model)) == (TensorProto.INT32, "", None)
    image_scale, bias_scale = image.read_scale(model), bias.read_scale(model)
    assert image_scale is not None and bias_scale is not None
    np.testing.assert_array_equal(bias_scale, image_scale * scale)


def test_a_pair_is_given_once(models: Path) -> None:
    """QuantizeLinear and DequantizeLinear of one tensor share codes, scale and zero point."""
    pairs = list(find_quantized_tensors(read_model(models / "qdq_good.onnx")))
    keys = [(pair.codes, pair.scale, pair.zero_point) for pair in pairs]
    assert len(keys) == len(set(keys))


def test_qoperator(models: Path) -> None:
    model = read_model(models / "qoperator.onnx")
    found = roles(model)
    assert len(found[Role.WEIGHT]) == 7
    assert Role.BIAS not in found, "a QLinearConv's bias has no scale of its own"
    stem = next(pair for pair in found[Role.WEIGHT] if pair.codes == "stem_conv.weight_quantized")
    assert (stem.tensor, stem.axis, stem.scale) == (stem.codes, 0, "stem_conv.weight_scale")
    last = next(pair for pair in found[Role.WEIGHT] if pair.node.op_type == "QGemm")
    assert last.axis == 0, "its weight is stored transposed"
    assert {pair.tensor for pair in found[Role.ACTIVATION]} >= {"images", "block1_relu2_out_codes", "pool_out_codes"}


def test_dynamic(models: Path) -> None:
    model = read_model(models / "dynamic.onnx")
    found = roles(model)
    assert [pair.dynamic for pair in found[Role.ACTIVATION]] == [True] * 3
    assert all(pair.read_scale(model) is None for pair in found[Role.ACTIVATION])
    assert [pair.scale for pair in found[Role.WEIGHT]] == [
        "stem_conv.weight_scale",
        "body_conv.weight_scale",
        "classifier.weight_scale",
    ]
    assert {pair.elem_type for pair in found[Role.WEIGHT]} == {TensorProto.UINT8}


def test_blocked(models: Path) -> None:
    model = read_model(models / "qdq_blocked.onnx")
    (first, second) = roles(model)[Role.WEIGHT]
    assert (first.axis, first.block_size, first.elem_type, first.code_range) == (0, 16, TensorProto.INT4, (-8, 7))
    scale = second.read_scale(model)
    assert scale is not None and scale.shape == (2, 10)


def format_of(model: Model) -> Format:
    return detect_format(model, list(find_layers(model)))[0]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("healthy_resnet", Format.FLOAT),
        ("fp16", Format.FLOAT),
        ("qdq_good", Format.QDQ),
        ("qdq_blocked", Format.WEIGHT_ONLY),
        ("qoperator", Format.QOPERATOR),
        ("dynamic", Format.DYNAMIC),
    ],
)
def test_format(models: Path, name: str, expected: Format) -> None:
    assert format_of(read_model(models / f"{name}.onnx")) is expected


def of(body: str, inputs: str = "float[N,4] x", /, **arrays: npt.ArrayLike) -> Model:
    proto = versioned_text(21, "com.microsoft", f"g ({inputs}) => (float[N,4] y) {{ {body} }}", **arrays)
    return as_model(proto)


WEIGHT: dict[str, npt.ArrayLike] = {"w": np.ones((4, 4), np.int8), "s": np.float32(0.1), "z": BYTE}


def test_format_of_integer_products_without_dynamic_ranges() -> None:
    model = of("i = MatMulInteger(x, w) y = Cast<to = 1>(i)", "int8[N,4] x", **WEIGHT)
    assert format_of(model) is Format.QOPERATOR


def test_mixed_format() -> None:
    body = """q, qs, qz = DynamicQuantizeLinear(x) i = MatMulInteger(q, w, qz) f = Cast<to = 1>(i)
              c = DequantizeLinear(w, s, z) y = MatMul(f, c)"""
    assert format_of(of(body, **WEIGHT)) is Format.MIXED


def test_pairs_without_a_layer_are_qdq() -> None:
    model = of("q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) y = Relu(d)", **WEIGHT)
    assert format_of(model) is Format.QDQ


def test_a_weight_behind_moves_is_still_a_weight() -> None:
    body = "d = DequantizeLinear(w, s, z) t = Transpose<perm = [1, 0]>(d) y = MatMul(x, t)"
    model = of(body, **WEIGHT)
    assert format_of(model) is Format.WEIGHT_ONLY
    (pair,) = find_quantized_tensors(model)
    assert (pair.role, pair.codes) == (Role.WEIGHT, "w")


def test_a_constant_that_is_no_weight() -> None:
    (pair,) = find_quantized_tensors(of("d = DequantizeLinear(w, s, z) y = Add(x, d)", **WEIGHT))
    assert pair.role is Role.CONSTANT


def test_a_float_weight_that_is_quantised_in_the_graph() -> None:
    arrays = {**WEIGHT, "w": np.ones((4, 4), np.float32)}
    body = "q = QuantizeLinear<axis = 0>(w, s, z) d = DequantizeLinear<axis = 0>(q, s, z) y = MatMul(x, d)"
    (pair,) = find_quantized_tensors(of(body, **arrays))
    assert (pair.role, pair.axis, pair.tensor) == (Role.WEIGHT, 0, "w")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z)", TensorProto.INT8),
        ("q = QuantizeLinear(x, s) y = DequantizeLinear(q, s)", TensorProto.UINT8),
        ("q = QuantizeLinear<output_dtype = 5>(x, s) y = DequantizeLinear(q, s)", TensorProto.INT16),
    ],
)
def test_element_type_of_the_codes(body: str, expected: int) -> None:
    (pair, *_) = find_quantized_tensors(of(body, **WEIGHT))
    assert pair.elem_type == expected


def test_weight_of_a_quantised_product_has_its_channels_last() -> None:
    body = "q = QuantizeLinear(x, t, z) p = QLinearMatMul(q, t, z, w, s, zs, t, z) y = DequantizeLinear(p, t, z)"
    arrays: dict[str, npt.ArrayLike] = {"w": np.ones((4, 4), np.int8), "s": np.ones(4, np.float32)}
    model = of(body, **arrays, zs=np.zeros(4, np.int8), t=np.float32(0.2), z=np.int8(0))
    (pair,) = roles(model)[Role.WEIGHT]
    assert (pair.codes, pair.axis) == ("w", -1)


def test_qlinear_concat() -> None:
    body = """a = QuantizeLinear(x, s, z) b = QuantizeLinear(x, t, z)
              c = com.microsoft.QLinearConcat<axis = 1>(u, z, a, s, z, b, t, z) y = DequantizeLinear(c, u, z)"""
    model = of(body, **WEIGHT, t=np.float32(0.2), u=np.float32(0.3))
    assert [(pair.codes, pair.scale) for pair in find_quantized_tensors(model)] == [("a", "s"), ("b", "t"), ("c", "u")]


def test_dynamic_quantize_matmul() -> None:
    model = of("y = com.microsoft.DynamicQuantizeMatMul(x, w, s, z)", **WEIGHT)
    (pair,) = find_quantized_tensors(model)
    assert (pair.role, pair.codes, pair.scale, pair.zero_point) == (Role.WEIGHT, "w", "s", "z")
    assert format_of(model) is Format.DYNAMIC


def test_invalid_scales_are_read_as_they_are(models: Path) -> None:
    model = read_model(models / "qdq_invalid_scale.onnx")
    scales = {pair.tensor: pair.read_scale(model) for pair in find_quantized_tensors(model)}
    assert scales["stem_relu_out"] == 0
    assert np.isnan(np.asarray(scales["block1_relu1_out"], np.float32))
    assert scales["block1_relu2_out"] == np.float32(-0.02)
