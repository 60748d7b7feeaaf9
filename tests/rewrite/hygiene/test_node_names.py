"""Every node that a quantiser handles has a name of its own."""

from __future__ import annotations

import re

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from onnx_cases import onnx_text
from rewrite_cases import applied, assert_same, found

from onnxlint_q.rewrite.hygiene.node_names import REWRITE

TEXT = """named (float[N, 4] x) => (float[N, 4] y) {
  [same] a = Relu(x)
  [same] b = Sigmoid(a)
  c = MatMul(b, w)
  [Add_d] e = Relu(c)
  d = Add(e, w)
  f = Shape(d)
  [y] y = Mul(d, d)
}"""
PROTO = onnx_text(TEXT, w=np.eye(4, dtype=np.float32))
NAMELESS = onnx_text(re.sub(r"\[\w+\] ", "", TEXT), w=np.eye(4, dtype=np.float32))
FEEDS = {"x": np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32)}


def test_who_lacks_a_name_is_called_after_operator_and_result() -> None:
    wanted, refused = found(REWRITE, PROTO)
    assert not refused
    assert [(one.tensor, one.old, one.name) for one in wanted] == [
        ("b", "same", "Sigmoid_b"),
        ("c", "", "MatMul_c"),
        ("d", "", "Add_d_1"),  # another node is called Add_d already
    ]
    made = applied(REWRITE, PROTO, wanted)
    assert [node.name for node in made.proto.graph.node] == [
        "same",
        "Sigmoid_b",
        "MatMul_c",
        "Add_d",
        "Add_d_1",
        "",
        "y",
    ]
    assert found(REWRITE, made.proto) == ([], [])


@given(st.permutations(range(3)), st.integers(0, 3))
def test_any_part_in_any_order(order: list[int], count: int) -> None:
    wanted, _ = found(REWRITE, PROTO)
    made = applied(REWRITE, PROTO, [wanted[place] for place in order[:count]])
    names = [node.name for node in made.proto.graph.node if node.name]
    twice = 0 not in order[:count]
    assert len(names) - len(set(names)) == twice
    if not twice:  # ONNX Runtime takes no name twice
        assert_same(NAMELESS, made, FEEDS)
