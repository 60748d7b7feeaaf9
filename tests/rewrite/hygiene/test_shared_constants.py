"""Who stores a shared weight or bias in another way gets one of its own."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import onnx
import pytest
from onnx_cases import as_model, onnx_text
from rewrite_cases import applied, assert_same, found

from onnxlint_q.analysis.measured import measure
from onnxlint_q.analysis.schemes import INT8_DYNAMIC
from onnxlint_q.rewrite.hygiene.shared_constants import REWRITE, own_constants

RNG = np.random.default_rng(5)
FEEDS = {"x": RNG.normal(size=(3, 4, 5, 5)).astype(np.float32)}
CONVS = """convs (float[N, 4, 5, 5] x) => (float[N, 4, 5, 5] y) {
  a = Conv(x, w, bias)
  b = Conv(a, w, bias)
  c = Conv(b, w, bias)
  y = Relu(c)
}"""
TABLE = """tied (int64[N, 3] ids) => (float[N, 3, 7] y, float[N, 3, 7] z, float[N, 3, 7] u) {
  e = Gather(table, ids)
  rows = Reshape(e, two)
  flat = Gemm <transB = 1> (rows, table)
  again = Gemm <transB = 1> (rows, table)
  y = Reshape(flat, three)
  u = Reshape(again, three)
  z = MatMul(e, square)
}"""


def convs(text: str = CONVS) -> onnx.ModelProto:
    values = {"w": RNG.normal(size=(4, 4, 1, 1)), "bias": RNG.normal(size=4)}
    return onnx_text(text, **{name: value.astype(np.float32) for name, value in values.items()})


def test_every_reader_of_a_bias_but_the_first() -> None:
    proto = convs()
    wanted, refused = found(REWRITE, proto)
    assert not refused and [(one.tensor, one.what, one.shared) for one in wanted] == [
        ("b", "bias", "bias"),
        ("c", "bias", "bias"),
    ]
    for count in range(3):
        for part in combinations(wanted, count):
            made = applied(REWRITE, proto, part[::-1])
            read = [node.input[2] for node in made.proto.graph.node[:3]]
            assert len(set(read)) == count + 1 and read[0] == "bias"
            assert {node.input[1] for node in made.proto.graph.node[:3]} == {"w"}
            assert_same(proto, made, FEEDS)
    assert found(REWRITE, applied(REWRITE, proto, wanted).proto) == ([], [])


@pytest.mark.parametrize("other", ["a = Conv(x, w)  b = Conv(a, v)", "a = Conv(x, w, bias)  b = Conv(a, w, other)"])
def test_what_one_scale_serves_stays_shared(other: str) -> None:
    values = {"w": (4, 4, 1, 1), "v": (4, 4, 1, 1), "bias": (4,), "other": (4,)}
    arrays = {name: RNG.normal(size=shape).astype(np.float32) for name, shape in values.items()}
    text = f"g (float[N, 4, 5, 5] x) => (float[N, 4, 5, 5] y) {{ {other}  y = Relu(b) }}"
    assert found(REWRITE, onnx_text(text, **arrays)) == ([], [])


def test_a_table_that_is_a_weight_as_well() -> None:
    """Both products store it alike, so they share the copy."""
    arrays = {"table": RNG.normal(size=(7, 6)), "square": RNG.normal(size=(6, 7))}
    proto = onnx_text(
        TABLE,
        two=np.asarray([-1, 6]),
        three=np.asarray([-1, 3, 7]),
        **{name: value.astype(np.float32) for name, value in arrays.items()},
    )
    wanted, _ = found(REWRITE, proto)
    assert [(one.tensor, one.what) for one in wanted] == [("flat", "weight"), ("again", "weight")]
    made = applied(REWRITE, proto, wanted)
    assert_same(proto, made, {"ids": RNG.integers(0, 7, (2, 3))})
    assert len(made.proto.graph.initializer) == len(proto.graph.initializer) + 1
    assert "copy of the weight 'table'" in wanted[0].change


def test_a_product_that_reads_it_the_other_way() -> None:
    text = "g (float[N, 4] x) => (float[N, 4] y) { a = Gemm(x, w)  b = Gemm <transB = 1> (a, w)  y = MatMul(b, w) }"
    proto = onnx_text(text, w=RNG.normal(size=(4, 4)).astype(np.float32))
    wanted, _ = found(REWRITE, proto)
    assert [one.tensor for one in wanted] == ["b", "y"]
    made = applied(REWRITE, proto, wanted[1:])
    assert_same(proto, made, {"x": RNG.normal(size=(2, 4)).astype(np.float32)})


def test_a_bias_that_a_branch_reads_too() -> None:
    text = """g (float[N, 4, 5, 5] x, bool b) => (float[N, 4, 5, 5] y) {
      a = Conv(x, w, bias)
      y = If (b) <then_branch = t () => (float[N, 4, 5, 5] p) { p = Conv(a, w, bias) },
                  else_branch = e () => (float[N, 4, 5, 5] q) { q = Relu(a) }>
    }"""
    proto = convs(text)
    wanted, _ = found(REWRITE, proto)
    assert len(wanted) == 1 and wanted[0].tensor.endswith("/p")
    assert_same(proto, applied(REWRITE, proto, wanted), {**FEEDS, "b": np.asarray(True)})


def test_lstm_share_no_weights_where_each_is_stored_anew() -> None:
    random = np.random.default_rng(2)
    proto = onnx_text(
        """g (float[5, 1, 8] x) => (float[5, 1, 1, 8] y) {
            a = LSTM <hidden_size = 8> (x, w, r)
            b = LSTM <hidden_size = 8> (x, w, r)
            y = Add(a, b)
        }""",
        **{name: random.standard_normal((1, 32, 8)).astype(np.float32) for name in "wr"},
    )
    assert found(REWRITE, proto) == ([], []), "the static quantiser leaves both in float"
    wanted = list(own_constants(measure(as_model(proto), [INT8_DYNAMIC])))
    assert [(one.tensor, one.what, one.shared) for one in wanted] == [("b", "weight", "w"), ("b", "weight", "r")]
    made = applied(REWRITE, proto, wanted)
    assert_same(proto, made, {"x": random.standard_normal((5, 1, 8)).astype(np.float32)})
    assert list(own_constants(measure(made, [INT8_DYNAMIC]))) == []
