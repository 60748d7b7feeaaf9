"""A recurrent network through the whole house: one layer with two weights, which the quantiser leaves in float."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from conftest import public_network
from onnx_cases import Array, as_model, onnx_text

import onnxlint_q as q
from onnxlint_q.analysis.schemes import INT8_PER_TENSOR
from onnxlint_q.execute.data.sources import ArraySource
from onnxlint_q.execute.executable import as_stored
from onnxlint_q.execute.quantiser import quantised
from onnxlint_q.graph import find_layers
from onnxlint_q.report.json import document
from onnxlint_q.workflow.results import ModelResult, Run

NETWORK = """
g (float[7, 1, 6] x, float[1, 1, 8] h) => (float[7, 1, 1, 8] y, float[1, 1, 8] last, float[7, 1, 1, 3] z) {
  y, last = GRU <hidden_size = 8> (x, w, r, b, , h)
  z = MatMul(y, v)
}
"""
BRANCHES = """
g (float[7, 1, 6] x, bool c) => (float[7, 1, 1, 8] y) {
  y = If(c) <
    then_branch = a () => (float[7, 1, 1, 8] t) { t = GRU <hidden_size = 8> (x, w, r) },
    else_branch = b () => (float[7, 1, 1, 8] e) { e = LSTM <hidden_size = 8> (x, w4, r4) }
  >
}
"""


def weights() -> dict[str, Array]:
    draw = np.random.default_rng(0)
    shapes = {"w": (1, 24, 6), "r": (1, 24, 8), "b": (1, 48), "v": (8, 3), "w4": (1, 32, 6), "r4": (1, 32, 8)}
    return {name: draw.normal(0, 0.5, shape).astype(np.float32) for name, shape in shapes.items()}


def proto_of(text: str) -> onnx.ModelProto:
    return onnx_text(
        text, **{name: value for name, value in weights().items() if f"{name}," in text or f"{name})" in text}
    )


def samples(count: int = 24) -> dict[str, Array]:
    draw = np.random.default_rng(1)
    return {
        "x": draw.normal(size=(count, 7, 1, 6)).astype(np.float32),
        "h": np.tanh(draw.normal(size=(count, 1, 1, 8))).astype(np.float32),
    }


def linted(text: str, **how: Any) -> ModelResult:
    return q.lint(proto_of(text), **how)


def rounded(value: Array) -> Array:
    step = np.abs(value).max() / 127
    return np.asarray(np.round(value / step) * step, np.float32)


@pytest.mark.parametrize("op_type", ["GRU", "LSTM", "RNN"])
def test_a_recurrent_operator_is_one_layer_with_two_weights(op_type: str) -> None:
    gates = {"RNN": 1, "GRU": 3, "LSTM": 4}[op_type]
    arrays = {"w": np.ones((2, 4 * gates, 5), np.float32), "r": np.ones((2, 4 * gates, 4), np.float32)}
    text = f"""g (float[s, n, 5] x) => (float[2, n, 4] last) {{
        , last = {op_type} <hidden_size = 4, direction = "bidirectional"> (x, w, r) }}"""
    (layer,) = find_layers(as_model(onnx_text(text, **arrays)))
    assert (layer.output, layer.op_type, layer.is_product) == ("last", op_type, False)
    assert [(part.operand, part.weight, part.weight_slot) for part in layer.operands] == [("W", "w", 1), ("R", "r", 2)]
    for part in layer.operands:
        matrix = part.by_channel(arrays[part.weight])
        assert matrix.shape == (8 * gates, part.weight_shape[2])
        np.testing.assert_array_equal(part.as_stored(matrix), arrays[part.weight])


def test_a_computed_weight_is_no_layer_and_one_that_is_put_together_is() -> None:
    given, feedback = weights()["w"][0], weights()["r"]
    computed = "g (float[7, 1, 6] x, float[1, 24, 6] w) => (y) { y = GRU(x, w, r) }"
    assert not list(find_layers(as_model(onnx_text(computed, r=feedback))))
    text = """
    g (float[7, 1, 6] x) => (y) {
      first = Slice(given, s0, s8, axis)
      rest = Slice(given, s8, s24, axis)
      swapped = Concat <axis = 0> (rest, first)
      w = Unsqueeze(swapped, axis)
      y = GRU <hidden_size = 8> (x, w, r)
    }
    """
    ends = {f"s{n}": np.array([n]) for n in (0, 8, 24)}
    model = as_model(onnx_text(text, given=given, axis=np.array([0]), r=feedback, **ends))
    (layer,) = find_layers(model)
    np.testing.assert_allclose(layer.read_weight(model)[0], np.roll(given, -8, axis=0), rtol=1e-5)


def test_each_weight_alone_and_both_are_measured_and_told() -> None:
    proto, data = proto_of(NETWORK), samples()
    result = q.lint(proto, data, measure_layers=True)
    (model,) = json.loads(json.dumps(document(Run((result,)))))["models"]
    row, other = model["layers"]
    assert (row["op_type"], row["output"], other["operands"]) == ("GRU", "y", [])
    assert [(part["operand"], part["weight"], part["shape"]) for part in row["operands"]] == [
        ("W", "w", [1, 24, 6]),
        ("R", "r", [1, 24, 8]),
    ]
    assert row["measured"]["int8-per-tensor"]["weight_sqnr_db"] < min(
        part["measured"]["int8-per-tensor"]["weight_sqnr_db"] for part in row["operands"]
    )
    for part in row["operands"]:
        changed = onnx.ModelProto()
        changed.CopyFrom(proto)
        for tensor in changed.graph.initializer:
            if tensor.name == part["weight"]:
                tensor.CopyFrom(onnx.numpy_helper.from_array(rounded(onnx.numpy_helper.to_array(tensor)), tensor.name))
        assert part["measured"]["int8-per-tensor"]["weight_sqnr_db"] == pytest.approx(
            pooled(proto, changed, data), abs=1.5
        )
        forecast = part["forecast"]["int8-per-tensor"]["weight_sqnr_db"]
        assert forecast == pytest.approx(part["measured"]["int8-per-tensor"]["weight_sqnr_db"], abs=5)


def pooled(proto: onnx.ModelProto, other: onnx.ModelProto, data: dict[str, Array]) -> float:
    """SQNR over all outputs, each counting the same."""
    exact, made = (ort.InferenceSession(one.SerializeToString()) for one in (proto, other))
    pairs = []
    for n in range(len(data["x"])):
        feed = {key: values[n] for key, values in data.items()}
        pairs.append((exact.run(None, feed), made.run(None, feed)))
    ratios = []
    for output in range(3):
        signal = sum(np.square(one[output]).sum() for one, _ in pairs)
        noise = sum(np.square(one[output] - two[output]).sum() for one, two in pairs)
        ratios.append(noise / signal)
    return float(-10 * np.log10(np.mean(ratios)))


def test_the_whole_scheme_is_what_the_quantiser_writes() -> None:
    """It leaves the GRU in float, and so do the figures and what is said of them."""
    proto, data = proto_of(NETWORK), samples(32)
    result = q.lint(proto, data)
    scheme = next(one for one in result.schemes if one.scheme == INT8_PER_TENSOR.name)
    assert scheme.in_float == scheme.left == "1 of 2 layers stays in float under quantize_static (GRU)"
    source = ArraySource("s", data)
    calibration = list(source.take(as_model(proto).inputs, 16))
    real = quantised(as_stored(as_model(proto)), iter(calibration), per_channel=False)
    assert sum(node.op_type == "GRU" for node in real.proto.graph.node) == 1
    held_out = {key: values[16:] for key, values in data.items()}
    full = onnx.ModelProto()
    full.CopyFrom(real.proto)
    for tensor in full.graph.initializer:
        if tensor.name in real.weights:
            tensor.CopyFrom(onnx.numpy_helper.from_array(real.weights[tensor.name], tensor.name))
    assert scheme.output_sqnr_db == pytest.approx(pooled(proto, full, held_out), abs=1.0)


def test_layers_in_branches_alone_have_figures_but_no_scheme_quantises_them() -> None:
    result = linted(BRANCHES)
    assert {row.op_type for row in result.layers} == {"GRU", "LSTM"}
    assert all(row.forecast and row.forecast["int8-per-tensor"].weight_sqnr_db for row in result.layers)
    notes = {scheme.scheme: scheme.note for scheme in result.schemes if scheme.verdict is None}
    assert len(notes) == len(result.schemes)
    assert "MatMulNBitsQuantizer leaves GRU, LSTM in float, and there is no other layer" in notes.pop("int4-blocks")
    for note in notes.values():
        assert "does not enter the bodies of If, Loop and Scan" in note and "export the branch" in note
    assert "QG005" not in {finding.code for finding in result.findings}


@pytest.mark.parametrize("name", ["akiki_vad", "arabic_roman_enc", "dtln_model_1", "gtcrn", "silero_vad"])
def test_public_recurrent_networks_have_a_verdict_or_a_reason(name: str) -> None:
    result = q.lint(public_network(f"{name}.onnx"))
    recurrent = [row for row in result.layers if row.op_type in {"GRU", "LSTM", "RNN"}]
    assert recurrent and all([part.name for part in row.operands] == ["W", "R"] for row in recurrent)
    assert "QG005" not in {finding.code for finding in result.findings}
    assert all(scheme.verdict is not None or "nothing to quantise" in scheme.note for scheme in result.schemes)
