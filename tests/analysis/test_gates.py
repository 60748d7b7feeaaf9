"""Lowest values that the file alone tells: what a gate of itself lets through, and what bounded operators make."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from onnx_cases import as_model, versioned_text

from onnxlint_q.analysis.causes.known_ranges import KnownRanges

CONSTANTS: dict[str, Any] = {
    "one": np.float32(1),
    "half": np.float32(0.5),
    "root": np.float32(np.sqrt(2)),
    "two": np.float32(2),
    "s": np.float32(0.01),
    "z": np.uint8(100),
}
DIPS = {
    "silu": "g = Sigmoid(x)\n out = Mul(x, g)",
    "the gate first": "g = Sigmoid(x)\n out = Mul(g, x)",
    "a steeper gate": "t = Mul(x, two)\n g = Sigmoid(t)\n out = Mul(x, g)",
    "hard swish": "g = HardSigmoid <alpha = 0.16666667, beta = 0.5> (x)\n out = Mul(x, g)",
    "gelu": "d = Div(x, root)\n e = Erf(d)\n g = Add(e, one)\n p = Mul(x, g)\n out = Mul(p, half)",
    "gelu, the one first": "d = Div(x, root)\n e = Erf(d)\n g = Add(one, e)\n out = Mul(g, x)",
    "one operator": "out = HardSwish(x)",
    "mish": "out = Mish(x)",
    "gelu in one": "out = Gelu(x)",
}
OTHERS = {
    "a gate of something else": "n = Neg(x)\n g = Sigmoid(n)\n out = Mul(x, g)",
    "a gate that falls": "t = Div(one, x)\n g = Sigmoid(t)\n out = Mul(x, g)",
    "no gate": "g = Tanh(x)\n t = Add(g, half)\n out = Mul(x, t)",
    "another sum": "e = Erf(x)\n g = Add(e, half)\n out = Mul(x, g)",
}


def _text(body: str) -> str:
    return f"g (float[1, 4001] x) => (float[1, 4001] out) {{\n {body}\n}}"


def _low(body: str) -> float:
    return KnownRanges(as_model(versioned_text(20, "", _text(body), **CONSTANTS))).of("out")[0]


@pytest.mark.parametrize("body", DIPS.values(), ids=DIPS)
def test_a_value_times_a_gate_of_itself_dips_no_deeper_than_a_run_shows(body: str) -> None:
    proto = versioned_text(20, "", _text(body), **CONSTANTS)
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    (seen,) = session.run(None, {"x": np.linspace(-8, 8, 4001, dtype=np.float32)[None]})
    low = _low(body)
    assert low <= seen.min() + 1e-6 and low == pytest.approx(seen.min(), rel=1e-3)


@pytest.mark.parametrize("body", OTHERS.values(), ids=OTHERS)
def test_other_products_go_as_low_as_they_please(body: str) -> None:
    assert _low(body) == -np.inf


def test_scales_between_a_value_and_its_gate_change_nothing() -> None:
    body = """q = QuantizeLinear(x, s, z)
    d = DequantizeLinear(q, s, z)
    g = Sigmoid(d)
    out = Mul(d, g)"""
    assert _low(body) == pytest.approx(-0.27846, rel=1e-3)
