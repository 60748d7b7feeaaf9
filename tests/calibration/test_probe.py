"""The probe: synthetic inputs, all layers in one graph, and what it says where it cannot."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import ties
from onnx_cases import as_model, onnx_text
from ties import Key

from onnxlint_q.analysis.propagation.prior import InputScale
from onnxlint_q.analysis.schemes import DEFAULT_SCHEMES, INT8_PER_CHANNEL, INT8_PER_TENSOR, Scheme
from onnxlint_q.calibration.batch_tensors import MixesBatchError
from onnxlint_q.calibration.data import ArraySource
from onnxlint_q.calibration.executable import folded
from onnxlint_q.calibration.fanout import Variant, blocks, fan_out
from onnxlint_q.calibration.layer_table import LayerVariant, measure_layers
from onnxlint_q.calibration.output_error import OutputError
from onnxlint_q.calibration.probe import probe
from onnxlint_q.calibration.session import Session
from onnxlint_q.calibration.synthetic import BUSY, SIMPLE, SyntheticSource, dead_leaves, exposed, pink_noise
from onnxlint_q.calibration.variant_runs import measure_variants
from onnxlint_q.calibration.variants import quantized_weight, with_weight
from onnxlint_q.facts import Facts, measure
from onnxlint_q.graph import TensorType, Value, read_model

SCHEME_LIST = DEFAULT_SCHEMES


def facts_of(path: Path) -> Facts:
    return measure(read_model(path), SCHEME_LIST)


def fan(facts: Facts) -> tuple[Session, dict[str, tuple[str, ...]]]:
    variants = {
        layer.output: Variant(layer.output, quantized_weight(facts, layer, INT8_PER_TENSOR)) for layer in facts.layers
    }
    made = fan_out(facts.model, folded(facts), variants)
    return Session(made.executable), dict(made.order)


def decibels_of(errors: Mapping[Key, OutputError]) -> dict[Key, float | None]:
    return {key: error.sqnr_db for key, error in errors.items()}


def weights_of(facts: Facts, scheme: Scheme) -> dict[str, LayerVariant]:
    return {layer.output: LayerVariant(layer, scheme) for layer in facts.layers}


@pytest.mark.parametrize(
    "name", "healthy_resnet healthy_mobilenet depthwise_spread silu_gate collapsed_channels external_data".split()
)
@pytest.mark.parametrize("scheme", [INT8_PER_TENSOR, INT8_PER_CHANNEL])
def test_all_layers_in_one_graph_give_what_each_gives_alone(
    models: Path, calibration: Path, name: str, scheme: object
) -> None:
    facts = facts_of(models / f"{name}.onnx")
    fan(facts)  # refused networks would be measured one by one, and this test would prove nothing
    base = folded(facts)
    source = ArraySource("s", {"images": np.load(calibration)["images"][:2]})
    samples = partial(source.take, facts.model.inputs, 2)
    chosen = next(s for s in SCHEME_LIST if s is scheme)
    together = measure_layers(facts, base, weights_of(facts, chosen), samples)
    alone = {layer.output: partial(with_weight, base, facts, [layer], chosen) for layer in facts.layers}
    apart = measure_variants(base, alone, samples)
    ties.assert_alike(decibels_of(apart), decibels_of(together))
    assert [error.agreement for error in apart.values()] == [together[key].agreement for key in apart]


def test_a_variant_that_an_output_does_not_depend_on_is_not_computed_for_it() -> None:
    proto = onnx_text(
        "agraph (float[1, 4] x) => (float[1, 4] a, float[1, 4] b) "
        "{ h = MatMul(x, v)\n a = Relu(h)\n b = MatMul(h, w) }",
        v=np.eye(4, dtype=np.float32) + 0.01,
        w=np.eye(4, dtype=np.float32) - 0.01,
    )
    facts = measure(as_model(proto), SCHEME_LIST)
    session, order = fan(facts)
    assert order == {"a": ("h",), "b": ("h", "b")}
    a, b = session.run({"x": np.ones((1, 4), np.float32)}, ["a", "b"])
    assert a.shape == (2, 4) and b.shape == (3, 4)
    exact, variants = blocks(b, order["b"])
    assert exact.shape == (1, 4) and set(variants) == {"h", "b"}


@pytest.mark.parametrize(
    "body",
    [
        "h = Conv(x, v)\n y = ReduceMean <keepdims = 0> (h)",
        "h = Conv(x, v)\n y = Transpose <perm = [1, 0, 2, 3]> (h)",
        "h = Conv(x, v)\n y = Softmax <axis = 0> (h)",
        "h = Conv(x, v)\n y = Concat <axis = 0> (h, x)",
        "h = Conv(x, v)\n s = Size(h)\n y = Cast <to = 1> (s)",
        "h = Conv(x, v)\n y = LSTMish(h)",
    ],
)
def test_graphs_that_mix_the_batch_are_refused_and_measured_one_by_one(body: str) -> None:
    proto = onnx_text(f"agraph (float[1, 3, 4, 4] x) => (y) {{ {body} }}", v=np.ones((3, 3, 1, 1), np.float32) * 0.3)
    facts = measure(as_model(proto), SCHEME_LIST)
    with pytest.raises(MixesBatchError):
        fan(facts)
    if "LSTMish" not in body:
        samples = partial(SyntheticSource(InputScale()).take, facts.model.inputs, 2)
        assert set(measure_layers(facts, folded(facts), weights_of(facts, INT8_PER_TENSOR), samples)) == {"h"}


def test_a_reshape_with_a_batch_of_one_written_into_it() -> None:
    proto = onnx_text(
        "agraph (float[1, 4, 2, 2] x) => (float[1, 2] y) { h = Conv(x, v)\n f = Reshape(h, s)\n y = MatMul(f, w) }",
        v=np.random.default_rng(0).standard_normal((4, 4, 1, 1)).astype(np.float32),
        w=np.random.default_rng(1).standard_normal((16, 2)).astype(np.float32),
        s=np.asarray([1, -1], np.int64),
    )
    facts = measure(as_model(proto), SCHEME_LIST)
    session, order = fan(facts)
    (y,) = session.run({"x": np.ones((1, 4, 2, 2), np.float32)}, ["y"])
    assert y.shape == (1 + len(order["y"]), 2) == (3, 2)


_SHUFFLE = (
    "agraph (float[1, 4, 4, 4] x) => (float[1, 2, 4, 4] y) { h = Conv(x, v)\n "
    "a = Reshape(h, s)\n b = Transpose <perm = [1, 0, 2]> (a)\n"
    "c = Reshape(b, t)\n d = Gather <axis = 0> (c, zero)\n e = Gather <axis = 0> (c, one)\n"
    "f = Concat <axis = 1> (e, d)\n y = Conv(f, w) }"
)
_COMPUTED = (
    "agraph (float[1, 4, 4, 4] x) => (float[1, 2] y) { h = Conv(x, v)\n p = Concat <axis = 0> (pads, ends)\n"
    "q = Pad(h, p)\n n = Shape(h)\n k = Gather <axis = 0> (n, zero)\n u = Unsqueeze(k, axes)\n"
    "l = Concat <axis = 0> (u, rest)\n f = Reshape(q, l)\n g = Relu(f)\n y = MatMul(g, m) }"
)


@pytest.mark.parametrize("body", [_SHUFFLE, _COMPUTED])
def test_channel_shuffles_and_computed_shapes_keep_the_batch_apart(body: str) -> None:
    random = np.random.default_rng(0)
    constants: dict[str, npt.NDArray[Any]] = {
        "v": random.standard_normal((4, 4, 1, 1)).astype(np.float32),
        "w": random.standard_normal((2, 4, 1, 1)).astype(np.float32),
        "m": random.standard_normal((144, 2)).astype(np.float32),
        "s": np.asarray([2, 2, 16], np.int64),
        "t": np.asarray([2, -1, 2, 4, 4], np.int64),
        "zero": np.asarray(0, np.int64),
        "one": np.asarray(1, np.int64),
        "pads": np.asarray([0, 0, 1, 1], np.int64),
        "ends": np.asarray([0, 0, 1, 1], np.int64),
        "axes": np.asarray([0], np.int64),
        "rest": np.asarray([-1], np.int64),
    }
    used = {key: value for key, value in constants.items() if re.search(rf"\b{key}\b", body.split("{")[1])}
    facts = measure(as_model(onnx_text(body, **used)), SCHEME_LIST)
    base = folded(facts)
    fan(facts)
    samples = partial(SyntheticSource(InputScale()).take, facts.model.inputs, 2)
    together = measure_layers(facts, base, weights_of(facts, INT8_PER_TENSOR), samples)
    alone = {layer.output: partial(with_weight, base, facts, [layer], INT8_PER_TENSOR) for layer in facts.layers}
    apart = decibels_of(measure_variants(base, alone, samples))
    assert None not in apart.values()
    ties.assert_alike(apart, decibels_of(together))


def test_pictures_have_the_statistics_they_promise() -> None:
    pink = pink_noise(3, 64, 96, np.random.default_rng(0))
    assert pink.shape == (3, 64, 96)
    assert abs(pink.mean()) < 1e-6 and pink.std() == pytest.approx(1, abs=0.15)
    power = np.abs(np.fft.rfft2(pink_noise(1, 256, 256, np.random.default_rng(1))[0])) ** 2
    frequency = np.hypot(np.fft.fftfreq(256)[:, None], np.fft.rfftfreq(256)[None])
    bands = [power[(frequency > low) & (frequency < 2 * low)].mean() for low in (0.04, 0.08, 0.16)]
    assert np.allclose(np.log2(np.divide(bands[:-1], bands[1:])), 2, atol=0.25)  # power 1/f^2 falls fourfold an octave
    leaves = exposed(dead_leaves(3, 64, 64, np.random.default_rng(0)), np.random.default_rng(1))
    assert leaves.shape == (3, 64, 64) and np.abs(leaves).max() <= 2.4
    assert np.corrcoef(leaves[0].ravel(), leaves[1].ravel())[0, 1] > 0.6
    busy, simple = (
        np.abs(np.diff(dead_leaves(1, 96, 96, np.random.default_rng(0), scene))).mean() for scene in (BUSY, SIMPLE)
    )
    assert busy > 2 * simple


def test_synthetic_inputs_fit_the_model_and_repeat() -> None:
    inputs = [
        Value("nchw", TensorType(onnx.TensorProto.FLOAT, (None, 3, 32, None))),
        Value("nhwc", TensorType(onnx.TensorProto.FLOAT, (1, 16, 24, 1))),
        Value("tokens", TensorType(onnx.TensorProto.INT64, (1, 8))),
    ]
    source = SyntheticSource(InputScale(115, 58))
    one, two = (list(source.take(inputs, 3)) for _ in range(2))
    assert [one[0][value.name].shape for value in inputs] == [(1, 3, 32, 224), (1, 16, 24, 1), (1, 8)]
    assert all(np.array_equal(a[key], b[key]) for a, b in zip(one, two, strict=True) for key in a)
    assert 60 < one[0]["nchw"].mean() < 170 and not np.array_equal(one[0]["nchw"], one[1]["nchw"])


def test_a_model_without_inputs_has_samples_without_arrays() -> None:
    source = SyntheticSource(InputScale())
    assert [list(source.take((), 2)) for _ in range(2)] == [[{}, {}], [{}, {}]]


def test_samples_that_are_too_large_to_keep_repeat_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = [Value("x", TensorType(onnx.TensorProto.FLOAT, (1, 3, 16, 16)))]
    kept = [sample["x"] for sample in SyntheticSource(InputScale()).take(inputs, 5)]
    monkeypatch.setattr("onnxlint_q.calibration.synthetic._KEPT_BYTES", 2 * kept[0].nbytes)
    source = SyntheticSource(InputScale())
    for _ in range(2):
        assert all(np.array_equal(a, b["x"]) for a, b in zip(kept, source.take(inputs, 5), strict=True))


def test_the_probe_tells_what_breaks_from_what_survives(models: Path) -> None:
    facts = facts_of(models / "depthwise_spread.onnx")
    found = probe(facts)
    depthwise = [layer.output for layer in facts.layers if layer.folded.layer.depthwise]
    assert all((found.weights["int8-per-tensor", key].sqnr_db or 99) < 20 for key in depthwise)
    assert all((found.weights["int8-per-channel", key].sqnr_db or 99) > 20 for key in depthwise)
    per_tensor, per_channel = (found.schemes[scheme.name].sqnr_db for scheme in SCHEME_LIST)
    assert per_tensor is not None and per_tensor < 5 and per_channel is not None and per_channel > 14


def test_where_the_scores_are_empty_the_layers_are_compared_before_them() -> None:
    proto = onnx_text(
        "agraph (float[1, 3, 8, 8] x) => (y) { g = Conv(x, u)\n h = Conv(g, v, b)\n y = Sigmoid(h) }",
        u=np.random.default_rng(0).standard_normal((3, 3, 1, 1)).astype(np.float32),
        v=np.full((1, 3, 1, 1), 0.01, np.float32),
        b=np.asarray([-20], np.float32),
    )
    facts = measure(as_model(proto), SCHEME_LIST)
    found = probe(facts)
    assert "input of the final Sigmoid" in found.note and not found.schemes
    logits = facts_of_logits(proto)
    expected = probe(logits)
    assert not expected.note and expected.schemes
    ties.assert_alike(decibels_of(expected.weights), decibels_of(found.weights))


def facts_of_logits(proto: onnx.ModelProto) -> Facts:
    """The model without its last node."""
    cut = onnx.ModelProto()
    cut.CopyFrom(proto)
    last = cut.graph.node.pop()
    cut.graph.output[0].name = last.input[0]
    return measure(as_model(cut), SCHEME_LIST)


def test_layers_that_run_before_any_of_their_activations() -> None:
    proto = onnx_text(
        "agraph (float[1, 4, 4, 4] x) => (float[1, 4, 4, 4] y) "
        "{ a = Conv(x, v)\n b = Conv(x, w)\n c = Relu(a)\n d = Sigmoid(b)\n y = Mul(c, d) }",
        v=np.random.default_rng(0).standard_normal((4, 4, 1, 1)).astype(np.float32),
        w=np.random.default_rng(1).standard_normal((4, 4, 1, 1)).astype(np.float32),
    )
    session, order = fan(measure(as_model(proto), SCHEME_LIST))
    (y,) = session.run({"x": np.ones((1, 4, 4, 4), np.float32)}, ["y"])
    assert order == {"y": ("a", "b")} and len(y) == 3
