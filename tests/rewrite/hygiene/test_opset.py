"""Old opsets are raised, or the reason is told."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx_cases import versioned_text
from rewrite_cases import applied, assert_same, found

from onnxlint_q.rewrite.hygiene import opset as module
from onnxlint_q.rewrite.hygiene.converter import NotConvertibleError, run_converter
from onnxlint_q.rewrite.hygiene.opset import REWRITE

RNG = np.random.default_rng(7)
TEXT = """old (float[N, 3, 6, 6] x) => (float[N, 9] y) {
  a = Conv <pads = [1, 1, 1, 1]> (x, w)
  b = Upsample <mode = "nearest"> (a, scales)
  c = Clip <min = 0.0, max = 6.0> (b)
  d = ReduceMean <axes = [2, 3], keepdims = 0> (c)
  e = Unsqueeze <axes = [2]> (d)
  f = Squeeze <axes = [2]> (e)
  y = Softmax <axis = 1> (f)
}"""
FEEDS = {"x": RNG.normal(size=(2, 3, 6, 6)).astype(np.float32)}


def network(opset: int = 9, listed: bool = False, ir_version: int = 4) -> onnx.ModelProto:
    arrays = {"w": RNG.normal(size=(9, 3, 3, 3)).astype(np.float32), "scales": np.asarray([1, 1, 2, 2], np.float32)}
    proto = versioned_text(opset, "", TEXT, **arrays)
    proto.ir_version = ir_version
    if listed:
        proto.graph.input.extend(
            onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
            for tensor in proto.graph.initializer
        )
    return proto


@pytest.mark.parametrize(("listed", "ir_version"), [(False, 4), (True, 4), (True, 3)])
def test_it_is_raised_and_the_outputs_stay(listed: bool, ir_version: int) -> None:
    proto = network(listed=listed, ir_version=ir_version)
    proto.metadata_props.add(key="author", value="somebody")
    (wanted,), refused = found(REWRITE, proto)
    assert not refused and (wanted.tensor, wanted.old, wanted.new) == ("y", 9, 17)
    made = applied(REWRITE, proto, [wanted])
    assert made.opset == 17 and made.proto.metadata_props[0].value == "somebody"
    assert_same(proto, made, FEEDS)
    assert found(REWRITE, made.proto) == ([], [])
    weights = [tensor for tensor in made.proto.graph.initializer if tensor.name == "w"]
    assert weights == [tensor for tensor in proto.graph.initializer if tensor.name == "w"]
    names = {value.name for value in made.proto.graph.input}
    assert names <= {"x", "w", "scales"} and ("w" in names) == (listed and ir_version == 4)


@pytest.mark.parametrize("listed", [False, True])
def test_a_resize_keeps_its_sizes_alone(listed: bool) -> None:
    """Both are what opset 11 asks for, and what ONNX Runtime does not load at a later one."""
    text = 'g (float[N, 3, 6, 6] x) => (float[N, 3, 9, 9] y) { y = Resize <mode = "linear"> (x, none, none, sizes) }'
    proto = versioned_text(11, "", text, none=np.zeros(0, np.float32), sizes=np.asarray([2, 3, 9, 9]))
    if listed:
        proto.graph.input.append(onnx.helper.make_tensor_value_info("none", onnx.TensorProto.FLOAT, [0]))
    made = applied(REWRITE, proto, found(REWRITE, proto)[0])
    assert list(made.proto.graph.node[0].input) == ["x", "", "", "sizes"]
    assert_same(proto, made, FEEDS)


def test_what_is_new_enough_stays() -> None:
    text = "new (float[N, 4] x) => (float[N, 4] y) { y = MatMul(x, w) }"
    assert found(REWRITE, versioned_text(13, "", text, w=np.ones((4, 4), np.float32))) == ([], [])


def test_the_reason_of_the_converter_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> bytes:
        raise NotConvertibleError("the converter crashed (signal 11)")

    monkeypatch.setattr(module, "run_converter", fails)
    wanted, (refused,) = found(REWRITE, network())
    assert not wanted and refused.tensor == "y"
    assert refused.reason == "onnx's converter cannot raise opset 9: the converter crashed (signal 11)"


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import os; os.abort()", "crashed (signal 6)"),
        ("raise ValueError('no adapter')", "ValueError: no adapter"),
        ("import time; time.sleep(60)", "longer than 0.5 seconds"),
        ("raise SystemExit(3)", "ended with code 3"),
    ],
)
def test_the_converter_may_do_what_it_likes(code: str, said: str) -> None:
    with pytest.raises(NotConvertibleError, match=said.replace("(", r"\(").replace(")", r"\)")):
        run_converter(code, seconds=0.5 if "sleep" in code else 20)


def test_an_operator_of_another_kind_is_a_reason() -> None:
    """The converter has no way for an operator that the opset does not know."""
    proto = network()
    proto.graph.node[0].op_type = "NoSuchOperator"
    wanted, refused = found(REWRITE, proto)
    assert not wanted and len(refused) == 1
