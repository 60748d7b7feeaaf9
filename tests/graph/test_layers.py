"""Layers: which operators are one, their channels, groups and weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx_cases import Array, as_model, onnx_text, run, versioned_text

from onnxlint_q.graph import Layer, find_layers, read_model

RNG = np.random.default_rng(2)


def weight(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


def layers_of(body: str, graph_input: str = "float[N,4,8,8] x", **arrays: Array) -> list[Layer]:
    proto = onnx_text(f"g ({graph_input}) => (float y) {{ {body} }}", **arrays)
    return list(find_layers(as_model(proto)))


CONVOLUTIONS = {
    "plain": ("y = Conv(x, w)", (6, 4, 3, 3), 6, 1, False, 0),
    "grouped": ("y = Conv<group = 2>(x, w)", (6, 2, 3, 3), 6, 2, False, 0),
    "depthwise": ("y = Conv<group = 4>(x, w)", (4, 1, 3, 3), 4, 4, True, 0),
    "depthwise with a multiplier": ("y = Conv<group = 4>(x, w)", (8, 1, 3, 3), 8, 4, True, 0),
    "one input channel": ("y = Conv(x, w)", (6, 1, 3, 3), 6, 1, False, 0),
    "transposed": ("y = ConvTranspose(x, w)", (4, 6, 3, 3), 6, 1, False, 1),
    "transposed and grouped": ("y = ConvTranspose<group = 2>(x, w)", (4, 3, 3, 3), 6, 2, False, 1),
    "transposed and depthwise": ("y = ConvTranspose<group = 4>(x, w)", (4, 1, 3, 3), 4, 4, True, 1),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions(name: str) -> None:
    body, shape, channels, group, depthwise, axis = CONVOLUTIONS[name]
    (layer,) = layers_of(body, w=weight(*shape))
    assert (layer.channels, layer.group, layer.depthwise, layer.channel_axis) == (channels, group, depthwise, axis)
    assert (layer.input, layer.weight, layer.bias, layer.output) == ("x", "w", "", "y")
    assert layer.weight_shape == shape
    assert layer.is_float


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_rows_of_the_matrix_are_output_channels(name: str) -> None:
    """Silencing one row of the matrix silences exactly that channel of the output."""
    body, shape, channels, group, _, _ = CONVOLUTIONS[name]
    full = weight(*shape)
    (layer,) = layers_of(body, w=full)
    matrix = layer.by_channel(full)
    assert matrix.shape == (channels, full.size // channels)
    victim = channels - 2
    silenced = full.copy()
    if "transposed" in name:
        inputs, outputs = shape[0] // group, shape[1]
        silenced[victim // outputs * inputs : (victim // outputs + 1) * inputs, victim % outputs] = 0
    else:
        silenced[victim] = 0
    alive = np.abs(layer.by_channel(silenced)).max(axis=1) > 0
    np.testing.assert_array_equal(np.flatnonzero(~alive), [victim])
    data_channels = 1 if name == "one input channel" else 4
    proto = onnx_text(f"g (float[N,{data_channels},8,8] x) => (float[N,{channels},h,w_] y) {{ {body} }}", w=silenced)
    (result,) = run(proto, {"x": weight(1, data_channels, 8, 8)})
    np.testing.assert_array_equal(np.flatnonzero(np.abs(result).max(axis=(0, 2, 3)) == 0), [victim])


@pytest.mark.parametrize(
    ("body", "shape", "axis", "left"),
    [
        ("y = Gemm(x, w)", (4, 6), 1, False),
        ("y = Gemm<transB = 1>(x, w)", (6, 4), 0, False),
        ("y = MatMul(x, w)", (4, 6), 1, False),
        ("y = MatMul(x, w)", (2, 4, 6), 2, False),
        ("y = MatMul(w, x)", (6, 4), 0, True),
    ],
)
def test_products(body: str, shape: tuple[int, ...], axis: int, left: bool) -> None:
    full = weight(*shape)
    (layer,) = layers_of(body, "float[4,4] x", w=full)
    assert (layer.channels, layer.channel_axis, layer.weight_left) == (6, axis, left)
    assert (layer.input, layer.group, layer.depthwise) == ("x", 1, False)
    rows = layer.by_channel(full)
    np.testing.assert_array_equal(rows[2], np.take(full, 2, axis).ravel())


def test_bias() -> None:
    (layer,) = layers_of("y = Gemm(x, w, b)", "float[N,4] x", w=weight(4, 6), b=weight(6))
    assert layer.bias == "b"


@pytest.mark.parametrize(
    ("body", "graph_input", "arrays"),
    [
        ("y = MatMul(x, z)", "float[4,4] x, float[4,4] z", {}),
        ("y = MatMul(w, v)", "float[4,4] x", {"w": weight(4, 4), "v": weight(4, 4)}),
        ("y = MatMul(x, w)", "float[4,4] x", {"w": weight(4)}),
        ("y = MatMul(x, w)", "float[4,4] x", {"w": weight(4, 0)}),
        ("y = Conv<group = 3>(x, w)", "float[N,6,8,8] x", {"w": weight(4, 2, 3, 3)}),
        ("y = Conv<group = 0>(x, w)", "float[N,6,8,8] x", {"w": weight(4, 2, 3, 3)}),
        ("y = ConvTranspose<group = 3>(x, w)", "float[N,4,8,8] x", {"w": weight(4, 2, 3, 3)}),
        ("y = Add(x, w)", "float[4,4] x", {"w": weight(4, 4)}),
    ],
    ids=["two activations", "two constants", "vector", "empty", "groups", "no group", "groups of inputs", "no layer"],
)
def test_what_is_no_layer(body: str, graph_input: str, arrays: dict[str, Array]) -> None:
    assert layers_of(body, graph_input, **arrays) == []


def test_an_operator_of_another_domain_is_no_layer() -> None:
    proto = versioned_text(17, "other", "g (float[4,4] x) => (float y) { y = other.Conv(x, w) }", w=weight(4, 4))
    assert list(find_layers(as_model(proto))) == []


@pytest.mark.parametrize("name", ["qdq_good", "qoperator"])
def test_quantised_weights_are_read_as_real_values(models: Path, name: str) -> None:
    """Both formats store the same network, so its weights agree within half a step."""
    plain = {layer.node.name: layer for layer in find_layers(read_model(models / "qdq_good.onnx"))}
    model = read_model(models / f"{name}.onnx")
    layers = list(find_layers(model))
    assert len(layers) == 7
    reference = read_model(models / "qdq_good.onnx")
    for layer in layers:
        real = layer.read_weight(model)
        np.testing.assert_array_equal(real, plain[layer.node.name].read_weight(reference))
        assert layer.is_float == (name == "qdq_good")


def test_dynamic_weights(models: Path) -> None:
    model = read_model(models / "dynamic.onnx")
    layers = list(find_layers(model))
    assert [layer.op_type for layer in layers] == ["ConvInteger", "ConvInteger", "MatMulInteger"]
    for layer in layers:
        codes = model.constants[layer.weight].astype(np.float32)
        np.testing.assert_array_equal(layer.read_weight(model), codes - 128)
    assert [layer.channels for layer in layers] == [8, 16, 10]


def test_layers_come_in_data_order(models: Path) -> None:
    model = read_model(models / "healthy_resnet.onnx")
    orders = [layer.node.order for layer in find_layers(model)]
    assert orders == sorted(orders)


@pytest.mark.parametrize("dtype", [np.int64, np.complex64, object])
def test_a_product_that_is_not_of_floats_is_no_layer(dtype: type) -> None:
    values = np.full((4, 3), "a", object) if dtype is object else np.ones((4, 3), dtype)
    assert layers_of("y = MatMul(x, w)", "float[2,4] x", w=values) == []


def test_what_passes_float32_becomes_infinite_without_a_warning() -> None:
    huge, nothing = np.full((4, 3), 1e300), np.full((4, 3), np.nan, np.float32)
    for body, values in (
        ("y = MatMul(x, w)", huge),
        ("f = Cast<to = 1>(w)  y = MatMul(x, f)", huge),
        ("i = Cast<to = 3>(w)  f = Cast<to = 1>(i)  y = MatMul(x, f)", nothing),
    ):
        proto = onnx_text(f"g (float[2,4] x) => (float y) {{ {body} }}", w=values)
        model = as_model(proto)
        (layer,) = find_layers(model)
        assert layer.read_weight(model).dtype == np.float32
