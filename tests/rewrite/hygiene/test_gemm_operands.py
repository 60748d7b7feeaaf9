"""A Gemm without factors, with a bias that is a vector."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx_cases import Array, onnx_text
from rewrite_cases import applied, assert_same, found

from onnxlint_q.rewrite.hygiene.gemm_operands import REWRITE

RNG = np.random.default_rng(3)
FEEDS = {"x": RNG.normal(size=(5, 6)).astype(np.float32)}


def network(settings: str, bias: Array | None = None, number: type = np.float32) -> onnx.ModelProto:
    kind = "float" if number is np.float32 else "float16"
    arrays: dict[str, Array] = {"w": RNG.normal(size=(4, 6) if "transB" in settings else (6, 4)).astype(number)}
    if bias is not None:
        arrays["c"] = bias.astype(number)
    settings = f"<{settings}>" if settings else ""
    return onnx_text(
        f"g ({kind}[N, 6] x) => ({kind}[N, 4] y) {{ y = Gemm {settings} (x, w{', c' if bias is not None else ''}) }}",
        **arrays,
    )


@pytest.mark.parametrize("settings", ["", "alpha = 0.3", "beta = 2.5, transB = 1", "alpha = -2.0, beta = 0.0"])
@pytest.mark.parametrize("shape", [(4,), (1, 4), (1,), (1, 1), ()])
def test_factors_move_and_the_bias_is_a_vector(settings: str, shape: tuple[int, ...]) -> None:
    proto = network(settings, np.asarray(RNG.normal(size=shape)))
    wanted, refused = found(REWRITE, proto)
    assert not refused
    if not settings and shape == (4,):
        assert not wanted
        return
    (one,) = wanted
    made = applied(REWRITE, proto, [one])
    assert_same(proto, made, FEEDS)
    (node,) = made.proto.graph.node
    assert {attribute.name for attribute in node.attribute} <= {"transB"}
    assert found(REWRITE, made.proto) == ([], [])
    assert len(made.proto.graph.initializer) == 2
    told = {"alpha 0.3": "weight", "beta 2.5": "bias", "alpha -2": "weight", "beta 0": "bias"}
    for factor, place in told.items():
        if factor.replace(" ", " = ") in settings:
            assert f"{factor} moves into its {place}" in one.change


def test_without_a_bias_beta_says_nothing() -> None:
    (one,), _ = found(REWRITE, network("alpha = 0.5, beta = 3.0"))
    assert one.change == "alpha 0.5 moves into its weight"
    assert found(REWRITE, network("beta = 3.0")) == ([], [])


@given(alpha=st.floats(-8, 8).filter(lambda value: abs(value) > 1e-3), beta=st.floats(-8, 8), transposed=st.booleans())
def test_whatever_the_factors(alpha: float, beta: float, transposed: bool) -> None:
    settings = f"alpha = {alpha:.6f}, beta = {beta:.6f}" + ", transB = 1" * transposed
    proto = network(settings, RNG.normal(size=4))
    made = applied(REWRITE, proto, found(REWRITE, proto)[0])
    assert_same(proto, made, FEEDS)


def test_a_second_reader_keeps_the_weight() -> None:
    text = "g (float[N, 6] x) => (float[N, 4] y, float[N, 4] z) { y = Gemm <alpha = 0.5> (x, w)  z = MatMul(x, w) }"
    proto = onnx_text(text, w=RNG.normal(size=(6, 4)).astype(np.float32))
    assert_same(proto, applied(REWRITE, proto, found(REWRITE, proto)[0]), FEEDS)


def test_a_gemm_in_a_branch() -> None:
    text = """g (float[N, 6] x, bool b) => (float[N, 4] y) {
      y = If (b) <then_branch = t () => (float[N, 4] p) { p = Gemm <alpha = 0.25> (x, w) },
                  else_branch = e () => (float[N, 4] q) { q = MatMul(x, w) }>
    }"""
    proto = onnx_text(text, w=RNG.normal(size=(6, 4)).astype(np.float32))
    made = applied(REWRITE, proto, found(REWRITE, proto)[0])
    for way in (True, False):
        assert_same(proto, made, {**FEEDS, "b": np.asarray(way)})


def test_refusals_say_why() -> None:
    computed = "g (float[N, 6] x, float[4] c) => (float[N, 4] y) { y = Gemm <beta = 2.0> (x, w, c) }"
    refusals = {
        "no constant that beta": onnx_text(computed, w=np.ones((6, 4), np.float32)),
        "[5, 4] has other values in each row": network("alpha = 2.0", RNG.normal(size=(5, 4))),
        "no place in its type": network("alpha = 0.3", number=np.float16),
    }
    for reason, proto in refusals.items():
        wanted, (refused,) = found(REWRITE, proto)
        assert not wanted and refused.tensor == "y" and reason in refused.reason


def test_float16_takes_powers_of_two() -> None:
    proto = network("alpha = 0.25", number=np.float16)
    made = applied(REWRITE, proto, found(REWRITE, proto)[0])
    assert_same(proto, made, {"x": FEEDS["x"].astype(np.float16)})
    assert made.proto.graph.initializer[0].data_type == onnx.TensorProto.FLOAT16
