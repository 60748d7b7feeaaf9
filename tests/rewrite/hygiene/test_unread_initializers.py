"""What no node reads is left out; what a caller may feed stays."""

from __future__ import annotations

import numpy as np
import onnx
from onnx_cases import onnx_text
from rewrite_cases import applied, assert_same, found

from onnxlint_q.rewrite.hygiene.unread_initializers import REWRITE

TEXT = """unread (float[N, 4] x) => (float[N, 4] y, float[4] kept) {
  b = ReduceMax <keepdims = 0> (x)
  c = Cast <to = 9> (b)
  y = If (c) <then_branch = t () => (float[N, 4] p) { p = MatMul(x, inner) },
              else_branch = e () => (float[N, 4] q) { q = Identity(x) }>
}"""


def network() -> onnx.ModelProto:
    values = {"inner": np.eye(4), "kept": np.ones(4), "old": np.ones((4, 5)), "one": np.ones(())}
    return onnx_text(TEXT, **{name: value.astype(np.float32) for name, value in values.items()})


def test_only_what_nothing_reads_goes() -> None:
    proto = network()
    wanted, refused = found(REWRITE, proto)
    assert not refused
    assert [(one.tensor, one.change.split(",")[0]) for one in wanted] == [
        ("old", "its 20 values"),
        ("one", "its 1 value"),
    ]
    made = applied(REWRITE, proto, wanted)
    assert [tensor.name for tensor in made.proto.graph.initializer] == ["inner", "kept"]
    assert_same(proto, made, {"x": np.ones((2, 4), np.float32)})
    alone = applied(REWRITE, proto, wanted[1:])
    assert [tensor.name for tensor in alone.proto.graph.initializer] == ["inner", "kept", "old"]


def test_an_input_with_a_default_stays() -> None:
    proto = network()
    proto.graph.input.append(onnx.helper.make_tensor_value_info("old", onnx.TensorProto.FLOAT, [4, 5]))
    wanted, (refused,) = found(REWRITE, proto)
    assert [one.tensor for one in wanted] == ["one"]
    assert refused.tensor == "old" and "caller may feed it" in refused.reason
