"""Parameters of layers are constants; what a caller may set stays an input."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
from onnx_cases import onnx_text
from rewrite_cases import applied, assert_same, found

from onnxlint_q.rewrite.hygiene.listed_weights import REWRITE
from onnxlint_q.rewrite.hygiene.node_names import REWRITE as NAMES

TEXT = """listed (float[N, 3, 6, 6] x) => (float[N, 4, 6, 6] y) {
  [conv] a = Conv(x, w)
  [norm] b = BatchNormalization(a, gamma, beta, mean, variance)
  [limit] c = Min(b, limit)
  [y] y = Relu(c)
}"""
PARAMETERS = ["beta", "gamma", "mean", "variance", "w"]


def network(ir_version: int = 8) -> onnx.ModelProto:
    rng = np.random.default_rng(1)
    values = {"w": rng.normal(size=(4, 3, 1, 1)), "limit": np.full((), 0.5)}
    values |= {name: rng.uniform(0.5, 2, 4) for name in PARAMETERS[:4]}
    proto = onnx_text(TEXT, **{name: value.astype(np.float32) for name, value in values.items()})
    proto.graph.input.extend(
        onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
        for tensor in proto.graph.initializer
    )
    proto.ir_version = ir_version
    return proto


def test_parameters_are_taken_off_the_list() -> None:
    proto = network()
    wanted, (refused,) = found(REWRITE, proto)
    assert sorted(one.tensor for one in wanted) == PARAMETERS
    assert refused.tensor == "limit" and "caller may feed it" in refused.reason
    made = applied(REWRITE, proto, wanted)
    assert [value.name for value in made.proto.graph.input] == ["x", "limit"]
    feeds = {"x": np.random.default_rng(0).normal(size=(2, 3, 6, 6)).astype(np.float32)}
    assert_same(proto, made, feeds)
    assert_same(proto, made, {**feeds, "limit": np.asarray(0.1, np.float32)})
    session = ort.InferenceSession(made.proto.SerializeToString(), providers=["CPUExecutionProvider"])
    assert [value.name for value in session.get_overridable_initializers()] == ["limit"]
    assert [one.tensor for one in found(REWRITE, made.proto)[0]] == []


def test_any_part_of_them() -> None:
    proto = network()
    wanted, _ = found(REWRITE, proto)
    made = applied(REWRITE, proto, [one for one in wanted if one.tensor == "w"])
    assert [value.name for value in made.proto.graph.input] == [
        "x",
        *(v.name for v in proto.graph.input[1:] if v.name != "w"),
    ]


def test_before_version_4_all_are_constants_anyway() -> None:
    """A change of any kind may then add initializers that are on no list."""
    proto = network(3)
    assert found(REWRITE, proto) == ([], [])
    proto.graph.node[0].name = ""
    made = applied(NAMES, proto, found(NAMES, proto)[0])
    assert made.proto.ir_version == 4 and [value.name for value in made.proto.graph.input] == ["x"]
    assert not made.replaceable
    assert_same(proto, made, {"x": np.ones((1, 3, 6, 6), np.float32)})
