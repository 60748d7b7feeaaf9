"""Layers read their weights where they are stored."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import onnx
from onnx_cases import onnx_text
from rewrite_cases import applied, assert_same, found

from onnxlint_q.rewrite.hygiene.stored_weights import REWRITE

RNG = np.random.default_rng(13)
TEXT = """made (float[N, 4, 5, 5] x) => (float[N, 4, 5, 5] y, float[4, 4] other) {
  w = Identity(stored)  i = Identity(w)  a = Conv(x, i, bias)
  v = Identity(stored)  b = Conv(a, v)
  t = Transpose <perm = [0, 2, 3, 1]> (b)
  m = Transpose <perm = [1, 0]> (square)  c = MatMul(t, m)
  n = Transpose <perm = [1, 0]> (square)  d = MatMul(c, n)
  k = Constant <value_floats = [1.0, 2.0, 3.0, 4.0]> ()
  z = Transpose <perm = [0, 3, 1, 2]> (d)  y = Conv(z, kept, k)
  other = Identity(m)
}"""
FEEDS = {"x": RNG.normal(size=(2, 4, 5, 5)).astype(np.float32)}


def network() -> onnx.ModelProto:
    shapes = {"stored": (4, 4, 1, 1), "bias": (4,), "square": (4, 4), "kept": (4, 4, 1, 1)}
    return onnx_text(TEXT, **{name: RNG.normal(size=shape).astype(np.float32) for name, shape in shapes.items()})


def test_what_is_made_alike_is_stored_once() -> None:
    proto = network()
    wanted, refused = found(REWRITE, proto)
    assert not refused and [(one.tensor, one.what, one.maker) for one in wanted] == [
        ("a", "weight", "Identity"),
        ("b", "weight", "Identity"),
        ("c", "weight", "Transpose"),
        ("d", "weight", "Transpose"),
        ("y", "bias", "Constant"),
    ]
    made = applied(REWRITE, proto, wanted)
    assert_same(proto, made, FEEDS)
    read = {node.output[0]: list(node.input) for node in made.proto.graph.node}
    assert read["a"][1] == read["b"][1] == "stored" and read["c"][1] == read["d"][1]
    # The first Transpose stays for the output, with the matrix that it reads.
    assert sorted(tensor.name for tensor in made.proto.graph.initializer) == [
        "bias",
        "k_stored0",
        "kept",
        "m_stored0",
        "square",
        "stored",
    ]
    assert not {"w", "i", "v", "n", "k"} & set(read) and "m" in read
    assert found(REWRITE, made.proto) == ([], [])


def test_any_part_of_them() -> None:
    proto = network()
    wanted, _ = found(REWRITE, proto)
    for count in range(len(wanted)):
        for part in combinations(wanted, count):
            assert_same(proto, applied(REWRITE, proto, part[::-1]), FEEDS)


def test_what_the_main_graph_makes_for_a_branch() -> None:
    text = """g (float[N, 4] x, bool b) => (float[N, 4] y) {
      w = Transpose <perm = [1, 0]> (square)
      y = If (b) <then_branch = t () => (float[N, 4] p) { p = MatMul(x, w) },
                  else_branch = e () => (float[N, 4] q) { v = Transpose <perm = [1, 0]> (w)  q = MatMul(x, v) }>
    }"""
    proto = onnx_text(text, square=RNG.normal(size=(4, 4)).astype(np.float32))
    wanted, _ = found(REWRITE, proto)
    assert len(wanted) == 2
    made = applied(REWRITE, proto, wanted)
    for way in (True, False):
        assert_same(proto, made, {"x": FEEDS["x"][0, 0, :, :4], "b": np.asarray(way)})
