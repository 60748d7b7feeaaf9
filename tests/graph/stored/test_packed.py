"""Packed weights: what is unpacked against what ONNX Runtime computes, and shapes against what it takes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx_cases import Array, as_model, run, versioned_text

from onnxlint_q.graph import Format, Model, detect_format, find_layers, find_quantized_tensors
from onnxlint_q.graph.codes.definition import has_packed_weight, wrong_attributes
from onnxlint_q.graph.stored.packed import packed_weights, shape_demands

RNG = np.random.default_rng(4)


def floats(*shape: int) -> Array:
    return RNG.uniform(0.1, 1, shape).astype(np.float32)


def raw(*shape: int) -> Array:
    return RNG.integers(0, 256, shape).astype(np.uint8)


def product(op: str, attributes: str, inputs: int, **arrays: Array) -> Any:
    names = ", ".join(["x", *arrays])
    text = f"g (float[N,{inputs}] x) => (float[N,M] y) {{ [dense] y = com.microsoft.{op} <{attributes}> ({names}) }}"
    return versioned_text(21, "com.microsoft", text, **arrays)


def n_bits(inputs: int, block: int, bits: int, extra: str = "", **arrays: Array) -> Any:
    blocks = -(-inputs // block)
    held = {"w": raw(10, blocks, block * bits // 8), "s": floats(10, blocks), **arrays}
    return product("MatMulNBits", f"K={inputs}, N=10, bits={bits}, block_size={block}{extra}", inputs, **held)


def agrees(proto: Any, inputs: int) -> None:
    """The weight that is read is what the operator makes of the identity."""
    model = as_model(proto)
    (layer,) = find_layers(model)
    (made,) = run(proto, {"x": np.eye(inputs, dtype=np.float32)})
    weight = layer.read_weight(model)
    assert layer.channels == 10 and layer.weight_shape == weight.shape == (inputs, 10)
    np.testing.assert_allclose(weight, made, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize(("inputs", "block"), [(96, 16), (90, 32), (33, 16)])
def test_blocks_of_bits(bits: int, inputs: int, block: int) -> None:
    blocks = -(-inputs // block)
    agrees(n_bits(inputs, block, bits), inputs)
    agrees(n_bits(inputs, block, bits, z=raw(10, -(-blocks * bits // 8))), inputs)
    if bits < 8:  # the CPU takes no others for 8 bits
        agrees(n_bits(inputs, block, bits, z=floats(10, blocks)), inputs)


@pytest.mark.parametrize("table", [0, 1])
@pytest.mark.parametrize(("inputs", "block"), [(96, 16), (48, 64)])
def test_four_bit_floats(table: int, inputs: int, block: int) -> None:
    attributes = f"K={inputs}, N=10, block_size={block}, quant_type={table}"
    held = {"w": raw(inputs * 10 // 2), "s": floats(-(-inputs * 10 // block))}
    agrees(product("MatMulBnb4", attributes, inputs, **held), inputs)


def test_a_quantised_table_is_no_layer_and_has_a_pair() -> None:
    text = """g (int64[N] x) => (float[N,32] y) {
      y = com.microsoft.GatherBlockQuantized <bits=4, block_size=16, quantize_axis=1, gather_axis=0> (d, x, s, z) }"""
    proto = versioned_text(21, "com.microsoft", text, d=raw(5, 16), s=floats(5, 2), z=raw(5, 1))
    model = as_model(proto)
    assert detect_format(model, [])[0] is Format.WEIGHT_ONLY and not list(find_layers(model))
    (pair,) = find_quantized_tensors(model)
    assert (pair.type_name, pair.axis, pair.block_size, pair.code_range) == ("uint4", 1, 16, (0, 15))
    codes, scale, zero = pair.read_codes(model), pair.read_scale(model), pair.read_zero_point(model)
    assert codes is not None and scale is not None and zero is not None and codes.shape == (5, 32)
    real = (codes.reshape(5, 2, 16) - zero[..., None].astype(np.float32)) * scale[..., None]
    (made,) = run(proto, {"x": np.arange(5)})
    np.testing.assert_allclose(real.reshape(5, 32), made, rtol=1e-5)


def lstm(directions: int, scales: tuple[int, ...]) -> Any:
    held: dict[str, Any] = {
        "w": RNG.integers(-127, 128, (directions, 6, 16)).astype(np.int8),
        "r": RNG.integers(-127, 128, (directions, 4, 16)).astype(np.int8),
        "ws": floats(*scales) / 100,
        "wz": np.zeros(scales, np.int8),
        "rs": floats(*scales) / 100,
        "rz": np.zeros(scales, np.int8),
    }
    direction = "bidirectional" if directions == 2 else "forward"
    text = f"""g (float[3,1,6] x) => (float[3,{directions},1,4] y) {{
      [cell] y = com.microsoft.DynamicQuantizeLSTM <hidden_size = 4, direction = "{direction}">
        (x, w, r, , , , , , ws, wz, rs, rz) }}"""
    return versioned_text(17, "com.microsoft", text, **held)


@pytest.mark.parametrize(("directions", "scales"), [(1, (1,)), (1, (1, 16)), (2, (2,)), (2, (2, 16))])
def test_a_dynamic_lstm_is_a_layer_with_two_weights(directions: int, scales: tuple[int, ...]) -> None:
    proto = lstm(directions, scales)
    model = as_model(proto)
    (layer,) = find_layers(model)
    assert [(part.operand, part.weight_shape) for part in layer.operands] == [
        ("W", (directions, 16, 6)),
        ("R", (directions, 16, 4)),
    ]
    weights = {f"{part.operand.lower()}f": part.read_weight(model) for part in layer.operands}
    # The float operator with the weights that were read makes the same, but for the rounding of its input.
    direction = "bidirectional" if directions == 2 else "forward"
    text = f"""g (float[3,1,6] x) => (float[3,{directions},1,4] y) {{
      y = LSTM <hidden_size = 4, direction = "{direction}"> (x, wf, rf) }}"""
    x = {"x": RNG.normal(size=(3, 1, 6)).astype(np.float32)}
    (exact,), (made,) = run(versioned_text(17, "", text, **weights), x), run(proto, x)
    assert np.abs(exact - made).max() < 0.03
    assert detect_format(model, [layer])[0] is Format.DYNAMIC


# -- shapes ------------------------------------------------------------------------------------------------------------

SHAPES: dict[str, tuple[Any, bool]] = {
    "packed zero points": (n_bits(96, 16, 4, z=raw(10, 3)), True),
    "flat zero points": (n_bits(96, 16, 4, z=raw(30)), True),
    "a column of zero points": (n_bits(96, 16, 4, z=raw(30, 1)), False),
    "a zero point a byte": (n_bits(96, 16, 4, z=raw(10, 6)), False),
    "real zero points": (n_bits(96, 16, 4, z=floats(10, 6)), True),
    "real zero points, packed": (n_bits(96, 16, 4, z=floats(10, 3)), False),
    "flat scales": (n_bits(96, 16, 4, s=floats(60)), True),
    "turned scales": (n_bits(96, 16, 4, s=floats(6, 10)), False),
    "too few scales": (n_bits(96, 16, 4, s=floats(10, 5)), False),
    "a flat weight": (n_bits(96, 16, 4, w=raw(480)), False),
    "a turned weight": (n_bits(96, 16, 4, w=raw(6, 10, 8)), False),
    "a small block": (n_bits(96, 8, 4), False),
    "an odd block": (n_bits(96, 24, 4), False),
    "three bits": (n_bits(96, 16, 4, w=raw(10, 6, 6)), False),
    "runs": (product("MatMulBnb4", "K=96, N=10, block_size=16, quant_type=1", 96, w=raw(480), s=floats(60)), True),
    "too few runs": (
        product("MatMulBnb4", "K=96, N=10, block_size=16, quant_type=1", 96, w=raw(480), s=floats(59)),
        False,
    ),
    "a direction": (lstm(1, (1,)), True),
    "a scalar": (lstm(1, ()), False),
    "a row without its direction": (lstm(1, (16,)), False),
}


@pytest.mark.parametrize("name", SHAPES)
def test_shapes_are_those_that_onnx_runtime_takes(name: str) -> None:
    proto, right = SHAPES[name]
    model = as_model(proto)
    (node,) = (node for node in model.nodes if has_packed_weight(node))
    met = all(demand.met_by(found) for demand, found in shape_demands(model, node))
    assert (met and not list(wrong_attributes(node))) is right
    feeds = {"x": np.ones((3, 1, 6) if node.op_type == "DynamicQuantizeLSTM" else (2, 96), np.float32)}
    if right:
        run(proto, feeds)
    else:
        with pytest.raises(Exception, match=r"ONNXRuntimeError"):
            onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, feeds)


def test_parameters_of_as_many_values_are_read_and_others_are_not() -> None:
    """A wrong shape is for a rule to report; the layer is listed all the same where the values can be told."""

    def layers(model: Model) -> int:
        return len(list(find_layers(model)))

    column, few = as_model(SHAPES["a column of zero points"][0]), as_model(SHAPES["too few scales"][0])
    assert layers(column) == 1 and layers(few) == 0
    assert detect_format(few, [])[0] is Format.WEIGHT_ONLY
    (packed,) = packed_weights(few, few.nodes[0])
    assert packed.read_scale(few) is None
