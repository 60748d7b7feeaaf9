"""Where a mask is looked for on the way to a Softmax, and where it is none."""

from __future__ import annotations

import numpy as np
import pytest
from onnx_cases import as_model, onnx_text

from onnxlint_q.analysis.schemes import DEFAULT_SCHEMES
from onnxlint_q.judge.facts import facts_of
from onnxlint_q_rules.activations.infinite_mask import InfiniteMask

HEAD = "g (float[1,2,4] q, float[1,4,2] k, bool[1,2,2] keep) => (float[1,2,2] p)"
MASKED = {
    "where": "s = MatMul(q, k)\n m = Where(keep, s, low)\n p = Softmax(m)",
    "cast of a flag": "f = Cast <to = 1> (keep)\n n = Mul(f, low)\n s = MatMul(q, k)\n m = Add(n, s)\n p = Softmax(m)",
    "added twice": "s = MatMul(q, k)\n a = Add(s, zero)\n b = Add(a, low)\n m = Add(b, zero)\n p = LogSoftmax(m)",
    "moved": "f = Expand(low, shape)\n t = Reshape(f, shape)\n s = MatMul(q, k)\n m = Add(s, t)\n p = Softmax(m)",
}
FREE = {
    "in front of the product": "h = Add(q, low)\n m = MatMul(h, k)\n p = Softmax(m)",
    "no softmax": "s = MatMul(q, k)\n m = Add(s, low)\n p = Relu(m)",
    "a large positive number": "s = MatMul(q, k)\n h = Neg(low)\n m = Mul(s, zero)\n p = Softmax(m)",
}


def found(body: str, low: float) -> list[tuple[str, object]]:
    arrays = {"low": np.float32(low), "zero": np.float32(0), "shape": np.asarray([1, 2, 2], np.int64)}
    used = {name: np.asarray(array) for name, array in arrays.items() if name in body}
    facts = facts_of(as_model(onnx_text(f"{HEAD} {{ {body} }}", **used)), DEFAULT_SCHEMES)
    return [(finding.location.output, finding.metrics["mask"]) for finding in InfiniteMask().findings(facts)]


@pytest.mark.parametrize("body", MASKED.values(), ids=MASKED)
def test_a_mask_is_found_on_every_way(body: str) -> None:
    assert found(body, -1e4) == [("m", -1e4)]
    assert found(body, -np.inf) == [("m", float(np.finfo(np.float32).min))]
    assert found(body, -100.0) == []


@pytest.mark.parametrize("body", FREE.values(), ids=FREE)
def test_other_large_numbers_are_none(body: str) -> None:
    assert found(body, -1e4) == []


def test_a_quantised_model_has_its_scale_already() -> None:
    body = "s = MatMul(q, k)\n m = Add(s, low)\n c = QuantizeLinear(m, step)\n d = DequantizeLinear(c, step)"
    body += "\n p = Softmax(d)"
    arrays = {"low": np.asarray(-1e4, np.float32), "step": np.asarray(40, np.float32)}
    facts = facts_of(as_model(onnx_text(f"{HEAD} {{ {body} }}", **arrays)), DEFAULT_SCHEMES)
    assert not list(InfiniteMask().findings(facts))
