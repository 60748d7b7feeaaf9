"""Weights that Cast, Mul and Add restore, and those that a Quant rounds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx_cases import Array, as_model, onnx_text, run, versioned_text

from onnxlint_q.graph import Format, Role, detect_format, find_layers, find_quantized_tensors

RNG = np.random.default_rng(6)
CODES = RNG.integers(0, 256, (12, 8)).astype(np.uint8)
SCALE = RNG.uniform(0.01, 0.02, (12, 1)).astype(np.float32)

BODIES = {
    "zero point before": "c = Cast<to = 1>(q)  d = Sub(c, z)  w = Mul(d, s)",
    "scale first": "c = Cast<to = 1>(q)  d = Sub(c, z)  w = Mul(s, d)",
    "stored zero point": "c = Cast<to = 1>(q)  k = Cast<to = 1>(zq)  d = Sub(c, k)  w = Mul(d, s)",
    "divided": "c = Cast<to = 1>(q)  d = Sub(c, z)  w = Div(d, i)",
    "offset behind": "c = Cast<to = 1>(q)  m = Mul(c, s)  w = Add(m, o)",
    "offset taken off": "c = Cast<to = 1>(q)  m = Mul(c, s)  w = Sub(m, n)",
}
PARTS: dict[str, Any] = {
    "z": np.float32(128),
    "zq": np.uint8(128),
    "s": SCALE,
    "i": 1 / SCALE,
    "o": -128 * SCALE,
    "n": 128 * SCALE,
}
REAL = (CODES.astype(np.float32) - 128) * SCALE


@pytest.mark.parametrize("name", BODIES)
def test_the_weight_is_that_of_the_graph(name: str) -> None:
    body = BODIES[name]
    parts = {key: value for key, value in PARTS.items() if any(f"{key}{end}" in body for end in ",)")}
    text = f"g (float[N,8] x) => (float[N,12] y) {{ {body} y = Gemm<transB = 1>(x, w) }}"
    proto = onnx_text(text, q=CODES, **parts)
    model = as_model(proto)
    (layer,) = find_layers(model)
    np.testing.assert_allclose(layer.read_weight(model), REAL, rtol=1e-4, atol=1e-6)
    (made,) = run(proto, {"x": np.eye(8, dtype=np.float32)})
    np.testing.assert_allclose(made.T, REAL, rtol=1e-4, atol=1e-5)
    assert detect_format(model, [layer]) == (Format.WEIGHT_ONLY, False)
    (pair,) = find_quantized_tensors(model)
    assert (pair.role, pair.tensor, pair.codes, pair.type_name, pair.axis) == (Role.WEIGHT, "w", "q", "uint8", 0)
    scale, zero = pair.read_scale(model), pair.read_zero_point(model)
    assert scale is not None and zero is not None
    np.testing.assert_allclose(scale, SCALE, rtol=1e-6)
    np.testing.assert_allclose(zero, np.broadcast_to(128, zero.shape), rtol=1e-5)


def test_half_precision_and_a_move_on_the_way() -> None:
    body = "c = Cast<to = 10>(q)  h = Mul(c, s)  f = Cast<to = 1>(h)  w = Transpose<perm = [1, 0]>(f)  y = MatMul(x, w)"
    proto = onnx_text(f"g (float[N,8] x) => (float[N,12] y) {{ {body} }}", q=CODES, s=SCALE.astype(np.float16))
    model = as_model(proto)
    (layer,) = find_layers(model)
    (made,) = run(proto, {"x": np.eye(8, dtype=np.float32)})
    np.testing.assert_allclose(layer.read_weight(model), made, rtol=1e-3)
    assert layer.channels == 12 and detect_format(model, [layer])[0] is Format.WEIGHT_ONLY


@pytest.mark.parametrize(
    "body",
    [
        "w = Mul(f, s)",  # no codes: a factor that was not folded
        "c = Cast<to = 1>(q)  w = Mul(c, long)",  # the scale enlarges what it meets
        "c = Cast<to = 1>(q)  d = Sub(z, c)  w = Mul(d, s)",  # the codes are taken off
    ],
)
def test_what_is_no_weight_in_codes(body: str) -> None:
    arrays: dict[str, Any] = {"f": REAL, "q": CODES, "long": np.ones((3, 1, 1), np.float32), "s": SCALE}
    held = {
        key: value for key, value in {**arrays, "z": np.float32(1)}.items() if f"{key}," in body or f"{key})" in body
    }
    model = as_model(onnx_text(f"g (float[N,8] x) => (float y) {{ {body} y = MatMul(x, w) }}", **held))
    assert not list(find_layers(model)) and not list(find_quantized_tensors(model))


def test_a_mask_in_codes_is_no_weight() -> None:
    text = "g (float[N,8] x) => (float[N,8] y) { c = Cast<to = 1>(q)  m = Mul(c, s)  y = Add(x, m) }"
    model = as_model(onnx_text(text, q=CODES[:1], s=np.float32(-1e4)))
    assert not list(find_quantized_tensors(model)) and detect_format(model, [])[0] is Format.FLOAT


# -- the rounding of a training tool -----------------------------------------------------------------------------------


def quant(attributes: str, bits: float, domain: str = "onnx.brevitas") -> tuple[Array, Array, Array]:
    """What a Quant of these attributes makes of a weight, with its codes and the scales."""
    weight = RNG.normal(size=(12, 8)).astype(np.float32)
    text = f"""g (float[N,8] x) => (float[N,12] y) {{
      w = {domain}.Quant <{attributes}> (f, s, z, b)
      a = {domain}.Quant <signed = 0> (x, t, z, b)
      y = Gemm<transB = 1>(a, w) }}"""
    arrays: dict[str, Any] = {"f": weight, "s": SCALE * 10, "t": np.float32(0.1), "z": np.float32(0)}
    model = as_model(versioned_text(17, domain, text, b=np.float32(bits), **arrays))
    (layer,) = find_layers(model)
    assert detect_format(model, [layer])[0] is Format.QDQ
    pairs = {pair.role: pair for pair in find_quantized_tensors(model)}
    assert pairs[Role.WEIGHT].axis == 0 and pairs[Role.ACTIVATION].type_name == f"uint{int(bits)}"
    codes = pairs[Role.WEIGHT].read_codes(model)
    assert codes is not None
    return layer.read_weight(model), codes, weight / (SCALE * 10)


@pytest.mark.parametrize("domain", ["onnx.brevitas", "qonnx.custom_op.general"])
@pytest.mark.parametrize(("attributes", "bits", "ends"), [("signed = 1", 4, (-8, 7)), ("narrow = 1", 3, (-3, 3))])
def test_a_quant_rounds_and_clamps(domain: str, attributes: str, bits: int, ends: tuple[int, int]) -> None:
    made, codes, steps = quant(attributes, bits, domain)
    expected = np.clip(np.rint(steps), *ends)
    np.testing.assert_allclose(made, expected * SCALE * 10, rtol=1e-5)
    np.testing.assert_array_equal(codes, expected)


@pytest.mark.parametrize(
    ("mode", "rounded"), [("FLOOR", np.floor), ("CEIL", np.ceil), ("ROUND_TO_ZERO", np.trunc), ("ROUND", np.rint)]
)
def test_rounding_modes(mode: str, rounded: np.ufunc) -> None:
    _, codes, steps = quant(f'rounding_mode = "{mode}"', 6)
    np.testing.assert_array_equal(codes, np.clip(rounded(steps), -32, 31))


@pytest.mark.parametrize("body", ['<rounding_mode = "DICE"> (f, s, z, b)', "(f, s, z, x)", "(f, long, z, b)"])
def test_what_cannot_be_told_is_no_constant(body: str) -> None:
    text = f"g (float[1] x) => (float y) {{ w = onnx.brevitas.Quant {body}  y = MatMul(v, w) }}"
    arrays: dict[str, Any] = {"f": REAL, "s": SCALE, "z": np.float32(0), "b": np.float32(4)}
    arrays |= {"long": np.ones((3, 1, 1), np.float32), "v": REAL}
    held = {key: value for key, value in arrays.items() if f"{key}," in text or f"{key})" in text}
    model = as_model(versioned_text(17, "onnx.brevitas", text, **held))
    assert not model.is_constant("w")
