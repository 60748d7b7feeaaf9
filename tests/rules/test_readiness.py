"""What quantisers cannot take or pass over: other shapes of the same faults, and harmless neighbours."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.parser
import pytest
from onnx import numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from onnxlint_q.finding import Finding
from onnxlint_q.graph.loading.build import build_model
from onnxlint_q.graph.tensors import TensorStore
from onnxlint_q.judge.facts import facts_of
from onnxlint_q.judge.registry import load_rules

CODES = {f"QG0{number}" for number in range(11, 19)}
RULES = [entry.rule() for entry in load_rules() if entry.rule.code in CODES]
HEAD = '<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>'


def _net(text: str, **weights: npt.NDArray[Any]) -> onnx.ModelProto:
    model = onnx.parser.parse_model(HEAD + text)
    del model.graph.initializer[:], model.graph.value_info[:]
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in weights.items())
    return model


def _random(*shape: int, seed: int = 0) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def _found(model: onnx.ModelProto) -> dict[str, Finding]:
    facts = facts_of(build_model(model, TensorStore(Path(), "net.onnx"), path=Path("net.onnx"), sha256=""))
    return {finding.code: finding for rule in RULES for finding in rule.findings(facts)}


def _gemm(factors: str, bias: npt.NDArray[np.float32], attributes: str = "") -> onnx.ModelProto:
    names = ", ".join(filter(None, (factors, attributes)))
    text = f"""
gemm (float[N, 8] x) => (float[N, 4] y) <float[1] w, float[1] b> {{
  [head] y = Gemm <{names}> (x, w, b)
}}"""
    weight = _random(4, 8) if attributes else _random(8, 4)
    return _net(text, w=weight, b=bias)


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, samples: list[Mapping[str, Any]]) -> None:
        self._left = iter(samples)

    def get_next(self) -> Mapping[str, Any] | None:
        return next(self._left, None)


@pytest.mark.parametrize(
    ("factors", "attributes", "format_"),
    [
        ("alpha: float = 4.0", "", "QOperator"),
        ("alpha: float = 0.1", "transB: int = 1", "QOperator"),
        ("beta: float = 0.5", "", "QDQ"),
        ("beta: float = -1.0", "transB: int = 1", "QDQ"),
    ],
)
def test_factors_of_a_gemm_name_the_format_that_loses(factors: str, attributes: str, format_: str) -> None:
    finding = _found(_gemm(factors, 5 * _random(4, seed=1), attributes))["QG011"]
    assert "'head'" in finding.message and format_ in finding.message
    assert finding.severity.value == "warning"


@pytest.mark.parametrize("factors", ["alpha: float = 4.0", "beta: float = 0.5"])
def test_a_tiny_bias_is_not_worth_a_word(factors: str) -> None:
    assert "QG011" not in _found(_gemm(factors, np.full(4, 1e-5, np.float32)))


@pytest.mark.parametrize("shape", [(1, 4), (1,), (), (1, 1)])
def test_a_bias_without_an_entry_a_channel_fails_per_channel(shape: tuple[int, ...], tmp_path: Path) -> None:
    model = _gemm("", np.full(shape, 2, np.float32), "transB: int = 1")
    assert str(list(shape)) in _found(model)["QG012"].message
    onnx.save(model, tmp_path / "float.onnx")
    reader = _Reader([{"x": _random(2, 8, seed=2)}])
    with pytest.raises((ValueError, IndexError)):
        quantize_static(
            tmp_path / "float.onnx",
            tmp_path / "int8.onnx",
            reader,
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            weight_type=QuantType.QInt8,
        )


def test_a_bias_of_one_value_is_right_for_one_channel() -> None:
    text = "one (float[N, 8] x) => (float[N, 1] y) <float[1] w, float[1] b> { [one] y = Gemm (x, w, b) }"
    assert "QG012" not in _found(_net(text, w=_random(8, 1), b=np.ones((1, 1), np.float32)))


def test_a_convolution_in_float16_is_told() -> None:
    text = "c (float16[1, 2, 4, 4] x) => (float16[1, 3, 4, 4] y) <float16[1] w> { [conv] y = Conv (x, w) }"
    assert set(_found(_net(text, w=_random(3, 2, 1, 1).astype(np.float16)))) == {"QG013"}


@pytest.mark.parametrize("maker", ["Identity (w)", "Transpose <perm: ints = [1, 0]> (w)", "Cast <to: int = 1> (h)"])
def test_a_node_before_a_weight_hides_it(maker: str) -> None:
    text = f"""
hidden (float[N, 8] x) => (float[N, 8] y) <float[1] w, float16[1] h> {{
  [maker] made = {maker}
  [dense] y = MatMul (x, made)
}}"""
    model = _net(text, w=_random(8, 8), h=_random(8, 8).astype(np.float16))
    assert _found(model)["QG014"].location.node == "dense"


def test_a_loop_keeps_its_weights_in_float() -> None:
    text = """
loop (float[2, 8] x, int64 rounds, bool go) => (float[2, 8] y) <float[1] w> {
  [loop] y = Loop (rounds, go, x) <
    body = b (int64 i, bool c, float[2, 8] state) => (bool on, float[2, 8] next) {
      [on] on = Identity (c)
      [inner] next = MatMul (state, w)
    }
  >
}"""
    finding = _found(_net(text, w=_random(8, 8)))["QG015"]
    assert "1 of 1 layers, with 100% of the weights, are inside Loop" in finding.message


def test_what_stands_behind_an_operator_of_another_domain_has_no_type_unless_the_file_says_it() -> None:
    text = """
fused (float[N, 8] x) => (float[N, 8] y) <float[1] w, float[1] v> {
  [first] h = MatMul (x, w)
  [gelu] g = com.microsoft.QuickGelu (h)
  [second] y = MatMul (g, v)
}"""
    model = _net(text, w=_random(8, 8), v=_random(8, 8, seed=1))
    assert _found(model)["QG016"].location.node == "second"
    model.graph.value_info.append(onnx.helper.make_tensor_value_info("g", onnx.TensorProto.FLOAT, ["N", 8]))
    assert "QG016" not in _found(model)


def test_names_may_be_shared_between_branches_but_not_within_one() -> None:
    text = """
branches (float[N, 8] x, bool late) => (float[N, 8] y) {
  [same] h = Relu (x)
  [choice] y = If (late) <
    then_branch = a () => (float[N, 8] one) { [same] one = Identity (h) },
    else_branch = b () => (float[N, 8] two) { [same] most = Relu (h) [SECOND] two = Identity (most) }
  >
}"""
    assert "QG018" not in _found(_net(text.replace("SECOND", "other")))
    assert "QG018" in _found(_net(text.replace("SECOND", "same")))
