"""Dynamic schemes, beside the files that ONNX Runtime's `quantize_dynamic` writes."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx_cases import Array, as_model, onnx_text
from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented
from onnxruntime.quantization import QuantType, quantize_dynamic

from onnxlint_q.analysis.experiment import Experiment
from onnxlint_q.analysis.placement import dynamic_tensors
from onnxlint_q.analysis.schemes import INT8_DYNAMIC, SCHEMES
from onnxlint_q.execute.data.sources import ArraySource
from onnxlint_q.execute.session import Session
from onnxlint_q.execute.variants.experiment_runs import run_experiments
from onnxlint_q.execute.variants.fanout import fan_out
from onnxlint_q.execute.variants.variant_runs import run_variants
from onnxlint_q.execute.variants.workbench import workbench
from onnxlint_q.judge.facts import facts_of

RANDOM = np.random.default_rng(0)
PER_CHANNEL = SCHEMES["int8-dynamic-per-channel"]
# A residual stream that layers read beside a sum, a Gemm, a convolution, a Transpose of codes, and embeddings.
STREAM = """
g (float[1, 5, 8] x) => (float[1, 5, 8] y) {
    [q] a = MatMul(x, w0)
    [k] b = MatMul(x, w1)
    m = Mul(a, b)
    s = Add(m, x)
    [v] c = MatMul(s, w2)
    y = Add(c, s)
}
"""
CASES: dict[str, tuple[str, dict[str, tuple[int, ...]]]] = {
    "stream": (STREAM, {f"w{n}": (8, 8) for n in range(3)}),
    "gemm": (
        "g (float[5, 8] x) => (float[5, 6] y) { [g] h = Gemm <transB = 1> (x, w0, b)\n "
        "[f] r = Gemm <alpha = 0.5> (h, w1)\n [d] y = Gemm(r, w2, b) }",
        {"w0": (6, 8), "w1": (6, 6), "w2": (6, 6), "b": (6,)},
    ),
    "convolution": (
        "g (float[1, 4, 7, 7] x) => (float[1, 6, 3, 3] y) { [c] h = Conv(x, w0, b)\n r = Relu(h)\n "
        "[d] y = Conv(r, w1) }",
        {"w0": (6, 4, 3, 3), "b": (6,), "w1": (6, 6, 3, 3)},
    ),
    "transpose": (
        "g (float[5, 8] x) => (float[5, 5] y, float[8, 5] t) { [m] h = MatMul(x, w0)\n [t] t = Transpose(x)\n "
        "[n] z = MatMul(t, w1)\n y = MatMul(h, z) }",
        {"w0": (8, 8), "w1": (5, 5)},
    ),
    "embedding": (
        "g (int64[1, 5] i) => (float[1, 5, 6] y, float[1, 5, 8] e) { [e] e = Gather(w0, i)\n [m] y = MatMul(e, w1) }",
        {"w0": (11, 8), "w1": (8, 6)},
    ),
}


def proto_of(case: str) -> onnx.ModelProto:
    text, shapes = CASES[case]
    random = np.random.default_rng(1)
    weights = {name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    return onnx_text(text, **weights)


def sample_of(proto: onnx.ModelProto, seed: int = 2) -> dict[str, Array]:
    random, (value,) = np.random.default_rng(seed), proto.graph.input
    shape = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
    floats = value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    made = random.standard_normal(shape).astype(np.float32) if floats else random.integers(0, 11, shape)
    return {value.name: made}


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def by_onnx_runtime(proto: onnx.ModelProto, folder: Path, **options: object) -> onnx.ModelProto:
    quantize_dynamic(proto, folder / "made.onnx", weight_type=QuantType.QInt8, **options)
    return onnx.load(folder / "made.onnx")


def run(proto: onnx.ModelProto, sample: dict[str, Array]) -> list[Array]:
    """By ONNX Runtime; skipped where that has no ConvInteger for signed weights yet."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except NotImplemented as missing:
        pytest.skip(f"this ONNX Runtime does not run what quantize_dynamic writes: {missing}")
    return list(session.run(None, sample))


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_what_runs_is_what_quantize_dynamic_makes(case: str, per_channel: bool, tmp_path: Path) -> None:
    proto, scheme = proto_of(case), PER_CHANNEL if per_channel else INT8_DYNAMIC
    bench = workbench(facts_of(as_model(proto), [scheme]))
    theirs = by_onnx_runtime(proto, tmp_path, per_channel=per_channel)
    for seed in range(4):
        sample = sample_of(proto, seed)
        exact = run(proto, sample)
        for ours, made, plain in zip(
            Session(bench.executable(Experiment(scheme))).run(sample), run(theirs, sample), exact, strict=True
        ):
            np.testing.assert_allclose(ours, made, rtol=1e-4, atol=1e-4)
            assert case == "transpose" or not np.allclose(made, plain, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("excluded", [("q",), ("v",), ("q", "k")])
def test_nodes_that_are_excluded_read_floats(excluded: tuple[str, ...], tmp_path: Path) -> None:
    proto = proto_of("stream")
    bench = workbench(facts_of(as_model(proto), [INT8_DYNAMIC]))
    theirs = by_onnx_runtime(proto, tmp_path, nodes_to_exclude=list(excluded))
    sample = sample_of(proto)
    (ours,) = Session(bench.executable(Experiment(INT8_DYNAMIC, excluded=frozenset(excluded)))).run(sample)
    np.testing.assert_allclose(ours, run(theirs, sample)[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("case", CASES)
def test_scales_stand_where_quantize_dynamic_puts_them(case: str, tmp_path: Path) -> None:
    proto = proto_of(case)
    model = as_model(proto)
    layers = [layer.folded.layer for layer in facts_of(model, [INT8_DYNAMIC]).layers]
    places = dynamic_tensors(model, [layer for layer in layers if INT8_DYNAMIC.covers(layer)])
    graph = by_onnx_runtime(proto, tmp_path).graph
    dynamic = {node.input[0] for node in graph.node if node.op_type == "DynamicQuantizeLinear"}
    assert {place.tensor for place in places if not (place.moved or place.constant)} == dynamic
    tables = {tensor.name for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.UINT8 and tensor.dims}
    assert {f"{place.tensor}_quantized" for place in places if place.constant} == tables


def test_a_tensor_alone_is_the_same_in_a_shared_graph() -> None:
    """Weights, what layers read, and both; the stream is rounded for two layers and not for the sum."""
    proto = proto_of("stream")
    facts = facts_of(as_model(proto), [INT8_DYNAMIC])
    bench = workbench(facts)
    given = ArraySource("s", {"x": RANDOM.standard_normal((3, 5, 8)).astype(np.float32)})
    samples = partial(given.take, facts.model.inputs, 3)
    every = [
        *(Experiment.on_weight(INT8_DYNAMIC, layer) for layer in "abc"),
        *(Experiment.on_activation(INT8_DYNAMIC, tensor) for tensor in "xs"),
        *(Experiment.on_layer(INT8_DYNAMIC, layer, tensor) for layer, tensor in ("ax", "bx", "cs")),
    ]
    assert all(map(bench.can_run, every)) and None not in map(bench.starts_at, every)
    assert fan_out(bench, [one.essence for one in every]).order["y"]
    together = run_experiments(bench, every, samples)
    alone = run_variants(bench, {one: partial(bench.executable, one) for one in every}, samples)
    for one in every:
        assert together[one].sqnr_db == pytest.approx(alone[one].sqnr_db, abs=1e-3)
    # What no weight is read from is another run; a layer that does not read the tensor has no place with it.
    assert bench.starts_at(Experiment.on_layer(INT8_DYNAMIC, "c", "x")) is None


LSTMS = {
    "plain": ("hidden_size = 16", "x, w, r, b", 1),
    "without bias, both ways": ('hidden_size = 16, direction = "bidirectional"', "x, w, r", 2),
    "all inputs": ('hidden_size = 16, direction = "reverse", clip = 2.0', "x, w, r, b, n, h, c, p", 1),
    "its usual layout": ("hidden_size = 16, layout = 0", "x, w, r, b", 1),
    "its last state": ("hidden_size = 16", "x, w, r, b, n", 1),
}


def lstm(case: str) -> onnx.ModelProto:
    """The directions differ in size, so that one scale for both would show."""
    attributes, inputs, directions = LSTMS[case]
    random, size = np.random.default_rng(1), np.array([0.3, 0.03], np.float32)[:directions, None, None]
    shapes = {"w": (64, 8), "r": (64, 16), "b": (128,), "h": (3, 16), "c": (3, 16), "p": (48,)}
    draws = {
        name: size.reshape(-1, *(1,) * len(shape)) * random.standard_normal((directions, *shape))
        for name, shape in shapes.items()
        if name in inputs.split(", ")
    }
    held = {name: value.astype(np.float32) for name, value in draws.items()}
    if "n" in inputs.split(", "):
        held["n"] = np.array([20, 7, 13], np.int32)
    result, shape = ("z, y", "1, 3, 16") if case == "its last state" else ("y", f"20, {directions}, 3, 16")
    return onnx_text(
        f"g (float[20, 3, 8] x) => (float[{shape}] y) {{ [l] {result} = LSTM <{attributes}> ({inputs}) }}", **held
    )


@pytest.mark.parametrize("case", LSTMS)
@pytest.mark.parametrize("per_channel", [False, True])
def test_an_lstm_is_what_quantize_dynamic_makes_of_it(case: str, per_channel: bool, tmp_path: Path) -> None:
    """The state that it feeds back is rounded, too."""
    scheme, proto = PER_CHANNEL if per_channel else INT8_DYNAMIC, lstm(case)
    bench = workbench(facts_of(as_model(proto), [scheme]))
    theirs = by_onnx_runtime(proto, tmp_path, per_channel=per_channel)
    assert [node.op_type for node in theirs.graph.node] == ["DynamicQuantizeLSTM"]
    sample = {"x": RANDOM.standard_normal((20, 3, 8)).astype(np.float32)}
    (exact,), (made,) = run(proto, sample), run(theirs, sample)
    (ours,) = Session(bench.executable(Experiment(scheme))).run(sample)
    assert np.square(ours - made).sum() < 1e-8 * np.square(exact).sum() < np.square(made - exact).sum()


def test_a_part_of_an_lstm_is_rounded_and_its_kernel_stays() -> None:
    bench = workbench(facts_of(as_model(lstm("plain")), [INT8_DYNAMIC]))
    weight, layer = Experiment.on_weight(INT8_DYNAMIC, "y"), Experiment.on_layer(INT8_DYNAMIC, "y", "x")
    # A node with several results and weights has no place in a shared graph.
    for one in (weight, layer):
        assert bench.can_run(one) and bench.starts_at(one) is None
    assert bench.starts_at(Experiment.on_activation(INT8_DYNAMIC, "x")) is None
    kinds = {one: {node.op_type for node in bench.executable(one).proto.graph.node} for one in (weight, layer)}
    assert "LSTM" in kinds[weight] and "DynamicQuantizeLSTM" in kinds[layer]


def test_an_lstm_that_the_kernel_cannot_be_is_rounded_around() -> None:
    text = "g (float[3, 20, 8] x) => (float[3, 20, 1, 16] y) { y = LSTM <hidden_size = 16, layout = 1> (x, w, r) }"
    weights = {"w": (1, 64, 8), "r": (1, 64, 16)}
    drawn = {name: RANDOM.standard_normal(shape).astype(np.float32) for name, shape in weights.items()}
    bench = workbench(facts_of(as_model(onnx_text(text, **drawn)), [INT8_DYNAMIC]))
    kinds = {node.op_type for node in bench.executable(Experiment(INT8_DYNAMIC)).proto.graph.node}
    assert {"LSTM", "DynamicQuantizeLinear"} <= kinds and "DynamicQuantizeLSTM" not in kinds


def test_half_precision_is_rounded_in_single() -> None:
    proto = onnx_text(
        "g (float16[2, 8] x) => (float16[2, 8] y) { y = MatMul(x, w) }",
        w=RANDOM.standard_normal((8, 8)).astype(np.float16),
    )
    bench = workbench(facts_of(as_model(proto), [INT8_DYNAMIC]))
    x = RANDOM.standard_normal((2, 8)).astype(np.float16)
    (found,), (exact,) = (
        Session(one).run({"x": x}) for one in (bench.executable(Experiment(INT8_DYNAMIC)), bench.float_model)
    )
    assert found.dtype == np.float16 and 0 < np.abs(found - exact).max() < 0.2
