"""Places where rounding leaves nothing, or far less than its steps alone tell."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx_cases import Array, onnx_text

import onnxlint_q as q

WIDTH = 32


def weights(*names: str, scale: float = 0.2) -> dict[str, Array]:
    random = np.random.default_rng(0)
    return {name: (scale * random.standard_normal((WIDTH, WIDTH))).astype(np.float32) for name in names}


def foreseen(proto: onnx.ModelProto) -> tuple[float, str]:
    """What is told of a network under `int8-per-tensor` (dB), and the tensor that makes most of the noise."""
    (scheme,) = q.lint(proto, schemes="int8-per-tensor").schemes
    assert scheme.output_sqnr_db is not None
    return scheme.output_sqnr_db, scheme.noise[0].tensor


def attention(length: int) -> onnx.ModelProto:
    """An attention that attends to all positions nearly alike."""
    flat = weights("wq", "wk", scale=0.05)
    return onnx_text(
        f"g (float[N, {length}, {WIDTH}] x) => (y) {{ a = MatMul(x, wq)  b = MatMul(x, wk)  "
        "c = Transpose <perm = [0, 2, 1]> (b)  s = MatMul(a, c)  p = Softmax <axis = -1> (s)  v = MatMul(x, wv)  "
        "h = MatMul(p, v)  y = MatMul(h, wo) }",
        **flat,
        **weights("wv", "wo"),
    )


def test_weights_of_many_positions_are_shorter_than_a_step() -> None:
    """ONNX Runtime's own files leave 28.8, 10.9 and 4.0 dB of 24, 400 and 1500 positions of such a network."""
    told = [foreseen(attention(length))[0] for length in (24, 400, 1500)]
    assert told[0] > 20 > told[1] + 4 and told[1] > told[2] + 3
    assert foreseen(attention(1500))[1] == "p"


@pytest.mark.parametrize("made", ["Softmax <axis = -1>", "Sigmoid"])
def test_a_logarithm_of_what_is_rounded_to_zero_leaves_nothing(made: str) -> None:
    body = f"g (float[N, {WIDTH}] x) => (y) {{ h = MatMul(x, w)  p = {made} (h)  y = Log(p) }}"
    sqnr_db, worst = foreseen(onnx_text(body, **weights("w", scale=2.0)))
    assert sqnr_db < 8 and worst == "p"
    assert foreseen(onnx_text(body.replace("Log", "Relu"), **weights("w", scale=2.0)))[0] > 20


def test_what_a_pad_fills_in_is_in_the_range() -> None:
    body = (
        "g (float[1, 3, 16, 16] x) => (y) { h = Conv <pads = [1, 1, 1, 1]> (x, k)  p = Pad(h, pads, fill)  "
        "m = MaxPool <kernel_shape = [3, 3], strides = [2, 2]> (p)  y = Conv(m, l) }"
    )
    random = np.random.default_rng(0)
    held = {
        "k": random.standard_normal((8, 3, 3, 3)).astype(np.float32),
        "l": random.standard_normal((4, 8, 1, 1)).astype(np.float32),
        "pads": np.asarray([0, 0, 1, 1, 0, 0, 1, 1]),
    }
    told = [foreseen(onnx_text(body, fill=np.float32(fill), **held)) for fill in (0.0, -1e30)]
    assert told[0][0] > 20 and told[1][0] < 10 and told[1][1] in {"p", "m"}


def test_a_range_that_hides_all_values_in_front_of_a_product_is_no_fault() -> None:
    """Exp of wide values has a range in which nearly all of them are zero; the product behind it has a weight."""
    model = onnx_text(
        f"g (float[N, {WIDTH}] x) => (y) {{ h = MatMul(x, a)  k = Mul(h, twelve)  e = Exp(k)  y = MatMul(e, b) }}",
        twelve=np.float32(12),
        **weights("a", "b", scale=0.25),
    )
    (scheme,) = q.lint(model, schemes="int8-per-tensor").schemes
    assert scheme.verdict is not q.Verdict.SURVIVES
