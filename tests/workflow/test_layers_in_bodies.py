"""Networks with layers in the body of a Loop through the whole house: what the quantiser leaves in float."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx_cases import Array, as_model, onnx_text

import onnxlint_q as q
from onnxlint_q.analysis.schemes import INT8_PER_TENSOR
from onnxlint_q.execute.data.sources import ArraySource
from onnxlint_q.execute.executable import as_stored
from onnxlint_q.execute.quantiser import quantised

STEPS = 12
LOOP = """
  last, e = Loop <body = step (int64 i, bool t, float[1, 8] h) => (bool u, float[1, 8] next, float[1, 8] out) {
    s = Gather(m, i)  a = MatMul(s, w)  b = MatMul(h, r)  c = Add(a, b)  next = Tanh(c)
    out = Identity(next)  u = Identity(t)
  }> (trips, , zero)
"""
PARTLY = f"g (float[12, 1, 6] x) => (float[12, 1, 8] y) {{ m = MatMul(x, first) {LOOP} y = MatMul(e, v) }}"
WITHIN = f"g (float[12, 1, 6] x) => (float[12, 1, 8] e) {{ m = Neg(x) {LOOP} }}"


def proto_of(text: str) -> onnx.ModelProto:
    draw = np.random.default_rng(0)
    sizes = {"first": (6, 6), "w": (6, 8), "r": (8, 8), "v": (8, 8)}
    arrays: dict[str, Array] = {
        name: (draw.normal(0, 0.3, size)).astype(np.float32) for name, size in sizes.items() if f" {name})" in text
    }
    return onnx_text(text, **arrays, zero=np.zeros((1, 8), np.float32), trips=np.asarray(STEPS))


def samples(count: int) -> dict[str, Array]:
    return {"x": np.random.default_rng(1).standard_normal((count, STEPS, 1, 6)).astype(np.float32)}


def test_a_verdict_is_about_the_layers_outside_and_the_others_have_figures() -> None:
    result = q.lint(proto_of(PARTLY))
    scheme = next(one for one in result.schemes if one.scheme == INT8_PER_TENSOR.name)
    assert scheme.verdict is not None and scheme.output_sqnr_db is not None and not scheme.note
    assert scheme.left == "2 of 4 layers stay in float under quantize_static (MatMul in Loop)"
    assert all(row.forecast and row.forecast["int8-per-tensor"].weight_sqnr_db for row in result.layers)


def test_a_run_measures_what_the_quantiser_writes() -> None:
    proto, data = proto_of(PARTLY), samples(32)
    foreseen, measured = (
        next(one for one in result.schemes if one.scheme == INT8_PER_TENSOR.name)
        for result in (q.lint(proto), q.lint(proto, data))
    )
    calibration = list(ArraySource("s", data).take(as_model(proto).inputs, 16))
    real = quantised(as_stored(as_model(proto)), iter(calibration), per_channel=False)
    full = onnx.ModelProto()
    full.CopyFrom(real.proto)
    for tensor in full.graph.initializer:
        if tensor.name in real.weights:
            tensor.CopyFrom(onnx.numpy_helper.from_array(real.weights[tensor.name], tensor.name))
    exact, made = (
        np.stack([ort.InferenceSession(one.SerializeToString()).run(None, {"x": x})[0] for x in data["x"][16:]])
        for one in (proto, full)
    )
    wanted = float(10 * np.log10(np.square(exact).sum() / np.square(exact - made).sum()))
    assert measured.output_sqnr_db == pytest.approx(wanted, abs=1.0)
    assert foreseen.output_sqnr_db == pytest.approx(wanted, abs=6)


def test_a_network_whose_layers_all_lie_in_a_loop_is_told_what_to_export() -> None:
    result = q.lint(proto_of(WITHIN))
    notes = {scheme.scheme: scheme.note for scheme in result.schemes if scheme.verdict is None}
    assert INT8_PER_TENSOR.name in notes
    for note in notes.values():
        assert "does not enter the bodies of If, Loop and Scan" in note and "export one round of the body" in note
    assert all(row.forecast and row.forecast["int8-per-tensor"].weight_sqnr_db for row in result.layers)
