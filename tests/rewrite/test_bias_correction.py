"""Shifted biases: where they lie, what they move, and the reasons why there is none."""

from __future__ import annotations

import numpy as np
import pytest
from onnx_cases import Array, as_model, onnx_text, run

from onnxlint_q.analysis.measured import Measured, measure
from onnxlint_q.errors import UsageError
from onnxlint_q.graph import Model
from onnxlint_q.rewrite.bias_correction import BiasPlace, bias_places, corrected
from onnxlint_q.rewrite.candidate import Refusal
from onnxlint_q.rewrite.editing import Edit

RANDOM = np.random.default_rng(3)


def normal(*shape: int, dtype: type = np.float32) -> Array:
    return RANDOM.standard_normal(shape).astype(dtype)


def measured(text: str, **arrays: Array) -> Measured:
    return measure(as_model(onnx_text(text, **arrays)))


def outputs(model: Model, x: Array) -> Array:
    return run(model.proto, {"x": x})[0]


CASES: dict[str, tuple[str, dict[str, Array], int]] = {
    "Conv with a bias": (
        "agraph (float[N, 3, 8, 8] x) => (float[N, 4, 6, 6] y) { y = Conv(x, w, b) }",
        {"w": normal(4, 3, 3, 3), "b": normal(4)},
        1,
    ),
    "Conv without one": (
        "agraph (float[N, 3, 8, 8] x) => (float[N, 4, 6, 6] y) { y = Conv(x, w) }",
        {"w": normal(4, 3, 3, 3)},
        1,
    ),
    "ConvTranspose in groups": (
        "agraph (float[N, 4, 8, 8] x) => (float[N, 6, 9, 9] y) { y = ConvTranspose <group = 2> (x, w, b) }",
        {"w": normal(4, 3, 2, 2), "b": normal(6)},
        1,
    ),
    "BatchNormalization behind it": (
        """agraph (float[N, 3, 8, 8] x) => (float[N, 4, 6, 6] y) {
             h = Conv(x, w)
             y = BatchNormalization(h, gamma, beta, mean, variance)
           }""",
        {
            "w": normal(4, 3, 3, 3),
            **{name: normal(4) for name in ("gamma", "beta", "mean")},
            "variance": np.abs(normal(4)) + 1,
        },
        1,
    ),
    "Gemm that halves its bias": (
        "agraph (float[N, 5] x) => (float[N, 4] y) { y = Gemm <transB = 1, alpha = 2.0, beta = 0.5> (x, w, b) }",
        {"w": normal(4, 5), "b": normal(1, 4)},
        1,
    ),
    "Gemm with one bias for all": (
        "agraph (float[N, 5] x) => (float[N, 4] y) { y = Gemm(x, w, b) }",
        {"w": normal(5, 4), "b": normal()},
        1,
    ),
    "MatMul and Add": (
        """agraph (float[N, 2, 5] x) => (float[N, 2, 4] y) {
             h = MatMul(x, w)
             y = Add(b, h)
           }""",
        {"w": normal(5, 4), "b": normal(4)},
        -1,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_result_moves_by_the_shift(case: str) -> None:
    text, arrays, axis = CASES[case]
    network = measured(text, **arrays)
    (place,) = bias_places(network)
    assert isinstance(place, BiasPlace) and place.result == "y" and place.change
    shift = RANDOM.standard_normal(place.channels)
    x = normal(2, *(dim for dim in network.model.inputs[0].type.shape or () if dim))
    before, after = (outputs(model, x) for model in (network.model, corrected(network, {place.tensor: shift})))
    moved = np.moveaxis(after - before, axis, -1)
    np.testing.assert_allclose(moved, np.broadcast_to(shift, moved.shape), atol=2e-5)


def test_a_bias_that_two_layers_share_moves_for_one_of_them() -> None:
    text = """
    agraph (float[N, 5] x) => (float[N, 5] y, float[N, 5] z) {
      y = Gemm(x, w, b)
      z = Gemm(y, v, b)
    }"""
    network = measured(text, w=normal(5, 5), v=normal(5, 5), b=normal(5))
    shift = RANDOM.standard_normal(5)
    x = normal(2, 5)
    before = run(network.model.proto, {"x": x})
    after = run(corrected(network, {"z": shift}).proto, {"x": x})
    np.testing.assert_array_equal(before[0], after[0])
    np.testing.assert_allclose(after[1] - before[1], np.broadcast_to(shift, (2, 5)), atol=1e-5)


def test_a_constant_without_axes_stays_one() -> None:
    text = "agraph (float[N, 5] x) => (float[N, 5] y) { y = Clip(x, low) }"
    edit = Edit(as_model(onnx_text(text, low=np.float32(-1))))
    edit.replace_constant("y", 1, np.asarray(-2.0), "moved")
    x = np.array([[-3, -1.5, 0, 1, 2]], np.float32)
    assert outputs(edit.done(), x).tolist() == [[-2, -1.5, 0, 1, 2]]


def test_half_precision_stays_half_precision() -> None:
    text = "agraph (float16[N, 5] x) => (float16[N, 4] y) { y = Gemm(x, w) }"
    network = measured(text, w=normal(5, 4, dtype=np.float16))
    changed = corrected(network, {"y": np.ones(4)})
    x = normal(2, 5, dtype=np.float16)
    np.testing.assert_allclose(outputs(changed, x) - outputs(network.model, x), 1, atol=0.01)


REFUSED: dict[str, tuple[str, dict[str, Array]]] = {
    "inside the operator": (
        "agraph (float[4, 1, 3] x) => (float[4, 1, 1, 2] y) { y = LSTM <hidden_size = 2> (x, w, r) }",
        {"w": normal(1, 8, 3), "r": normal(1, 8, 2)},
    ),
    "multiplies its bias by 0": (
        "agraph (float[N, 5] x) => (float[N, 4] y) { y = Gemm <beta = 0.0> (x, w, b) }",
        {"w": normal(5, 4), "b": normal(4)},
    ),
    "not a constant with one value a channel": (
        "agraph (float[3, 5] x) => (float[3, 4] y) { y = Gemm(x, w, b) }",
        {"w": normal(5, 4), "b": normal(3, 4)},
    ),
    "nothing adds a bias": (
        "agraph (float[N, 5] x) => (float[N, 4] y) { y = MatMul(x, w) }",
        {"w": normal(5, 4)},
    ),
    "subgraph": (
        """agraph (float[N, 5] x, bool c) => (float[N, 4] y) {
             y = If (c) <then_branch = g () => (float[N, 4] p) { p = Gemm(x, w) },
                         else_branch = e () => (float[N, 4] q) { q = Gemm(x, w) }>
           }""",
        {"w": normal(5, 4)},
    ),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_why_a_layer_has_none(reason: str) -> None:
    text, arrays = REFUSED[reason]
    found = list(bias_places(measured(text, **arrays)))
    assert found and all(isinstance(one, Refusal) and reason in one.reason for one in found)


def test_an_added_matrix_and_a_product_with_other_readers_are_no_bias() -> None:
    matrix = measured(
        "agraph (float[3, 5] x) => (float[3, 4] y) {\n h = MatMul(x, w)\n y = Add(h, b)\n }",
        w=normal(5, 4),
        b=normal(3, 4),
    )
    twice = measured(
        "agraph (float[3, 5] x) => (float[3, 4] y, float[3, 4] z) "
        "{\n h = MatMul(x, w)\n y = Add(h, b)\n z = Abs(h)\n }",
        w=normal(5, 4),
        b=normal(4),
    )
    assert all(isinstance(one, Refusal) for network in (matrix, twice) for one in bias_places(network))


def test_shifts_of_another_model_are_an_error() -> None:
    text, arrays, _ = CASES["MatMul and Add"]
    network = measured(text, **arrays)
    for shifts in ({"nowhere": np.ones(4)}, {"h": np.ones(3)}):
        with pytest.raises(UsageError, match="shifts are of another one"):
            corrected(network, shifts)
