"""Integer graphs are told by their numbers, and nothing that computes in floats is taken for one."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from onnx_cases import as_model, onnx_text, versioned_text

from onnxlint_q.analysis.measured import measure
from onnxlint_q.analysis.schemes import DEFAULT_SCHEMES
from onnxlint_q.graph import Format, Model

RANDOM = np.random.default_rng(11)
CODES = RANDOM.integers(-127, 128, size=(8, 8, 3, 3)).astype(np.float32)
SMALL = RANDOM.integers(-7, 8, size=(2, 8, 1, 1)).astype(np.float32)


def network(first: npt.NDArray[np.float32], shift: str = "Floor") -> Model:
    text = f"""g (float[1,8,6,6] x) => (float[1,2,4,4] y) {{
      a = Conv(x, first)
      b = Mul(a, scale)
      c = {shift}(b)
      y = Conv(c, second) }}"""
    return as_model(versioned_text(17, "own.tool", text, first=first, second=SMALL, scale=np.float32(0.01)))


def format_of(model: Model) -> Format:
    return measure(model, DEFAULT_SCHEMES).format


@pytest.mark.parametrize("shift", ["Floor", "own.tool.ShiftBack"])
def test_an_integer_graph_is_quantised_and_has_no_float_layer(shift: str) -> None:
    model = network(CODES, shift)
    known = measure(model, DEFAULT_SCHEMES)
    assert known.format is Format.QOPERATOR
    assert (known.layers, known.coded, known.is_float) == ((), 2, False)


@pytest.mark.parametrize(
    "first",
    [CODES / 127, CODES * 1000, np.sign(CODES), np.where(CODES.max() == CODES, 0.5, CODES).astype(np.float32)],
    ids=["floats", "too large for codes", "hand-written kernels", "one float among codes"],
)
def test_a_float_graph_is_none(first: npt.NDArray[np.float32]) -> None:
    model = network(first)
    known = measure(model, DEFAULT_SCHEMES)
    assert known.format is Format.FLOAT
    assert (len(known.layers), known.coded) == (2, 0)


def test_what_rounds_nothing_back_to_codes_is_a_float_graph() -> None:
    assert format_of(network(CODES, "Relu")) is Format.FLOAT


def test_small_whole_weights_alone_are_no_sign() -> None:
    assert format_of(network(np.ones((8, 8, 3, 3), np.float32))) is Format.FLOAT
    text = "g (float[1,4] x) => (float[1,4] y) { y = MatMul(x, w) }"
    assert format_of(as_model(onnx_text(text, w=np.arange(16, dtype=np.float32).reshape(4, 4)))) is Format.FLOAT


def test_a_quantised_layer_beside_them_decides() -> None:
    text = """g (float[1,8,6,6] x) => (float[1,8,4,4] y) {
      w = DequantizeLinear(codes, s)
      y = Conv(x, w) }"""
    model = as_model(onnx_text(text, codes=CODES.astype(np.int8), s=np.float32(0.1)))
    known = measure(model, DEFAULT_SCHEMES)
    assert (known.format, len(known.layers), known.coded) == (Format.WEIGHT_ONLY, 1, 0)
