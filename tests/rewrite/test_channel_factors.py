"""Where the factors of outlier channels can move, why not elsewhere, and that the float model stays what it is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx_cases import Array, as_model, onnx_text, run
from outlier_cases import network as blocks_of
from outlier_cases import samples as blocks_samples
from rewrite_cases import applied, assert_same
from rewrite_cases import found as all_found

from onnxlint_q.analysis.measured import measure
from onnxlint_q.analysis.number_formats import UINT8, activation_step
from onnxlint_q.analysis.observed.observations import ChannelObservation, Observations, TensorObservation
from onnxlint_q.analysis.schemes import DEFAULT_SCHEMES
from onnxlint_q.rewrite.candidate import Refusal
from onnxlint_q.rewrite.channel_factors import REWRITE, ChannelFactors, apply, movable_factors, scaled

CHANNELS, WIDE = 16, (3, 11)
LAYER_NORM = "t = LayerNormalization <axis = -1> (x, gain, shift)"
SPELT_OUT = """
  centre = ReduceMean <axes = [-1]> (x)
  apart = Sub(x, centre)
  squared = Mul(apart, apart)
  variance = ReduceMean <axes = [-1]> (squared)
  deviation = Sqrt(variance)
  normal = Div(apart, deviation)
  grown = Mul(normal, gain)
  t = Add(grown, shift)
"""
MATMUL = "y = MatMul(t, w)"
TWO = "a = MatMul(t, w)\n y = MatMul(t, v)"


def network(normal: str, readers: str, **replaced: Array) -> onnx.ModelProto:
    rng = np.random.default_rng(1)
    gain = rng.uniform(0.5, 1.5, CHANNELS)
    gain[list(WIDE)] = 80.0, 50.0
    weight = rng.normal(size=(CHANNELS, 8))
    weight[list(WIDE)] /= 100
    values = {"gain": gain, "shift": rng.normal(size=CHANNELS), "w": weight, "v": rng.normal(size=(CHANNELS, 8)) / 9}
    made = {name: np.asarray(value, np.float32) for name, value in (values | replaced).items()}
    used = {name: value for name, value in made.items() if f"{name})" in normal + readers or f" {name}" in normal}
    return onnx_text(f"block (float[N, 5, {CHANNELS}] x) => (float[N, 5, 8] y) {{ {normal}\n{readers} }}", **used)


def data(seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=(32, 5, CHANNELS)).astype(np.float32)


def seen(proto: onnx.ModelProto, tensor: str = "t") -> ChannelObservation:
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    copy.graph.output.append(onnx.helper.make_empty_tensor_value_info(tensor))
    values = run(copy, {"x": data()})[-1].reshape(-1, CHANNELS).astype(np.float64)
    return ChannelObservation(values.min(axis=0), values.max(axis=0))


def found(proto: onnx.ModelProto, tensor: str = "t") -> ChannelFactors | Refusal:
    return movable_factors(measure(as_model(proto), DEFAULT_SCHEMES), tensor, WIDE, seen(proto, tensor))


@pytest.mark.parametrize("normal", [LAYER_NORM, SPELT_OUT])
@pytest.mark.parametrize(
    "readers",
    [MATMUL, TWO, "rows = Shape(t)\n y = MatMul(t, w)"],
    ids=["one", "two", "shape"],
)
def test_the_float_model_stays_and_the_range_narrows(normal: str, readers: str) -> None:
    proto = network(normal, readers)
    wanted = found(proto)
    assert isinstance(wanted, ChannelFactors) and wanted.channels == WIDE
    made = apply(as_model(proto), [wanted])
    onnx.checker.check_model(made.proto)
    for before, after in zip(run(proto, {"x": data(7)}), run(made.proto, {"x": data(7)}), strict=True):
        assert np.allclose(before, after, rtol=1e-5, atol=1e-5 * np.abs(before).max())
    was, now = seen(proto), seen(made.proto)
    foretold = scaled(was, wanted)
    assert np.allclose(foretold.low, now.low, rtol=1e-5) and np.allclose(foretold.high, now.high, rtol=1e-5)
    steps = [activation_step(one.low.min(), one.high.max(), UINT8) for one in (was, now)]
    assert steps[1] < steps[0] / 8


@pytest.mark.parametrize("transposed", [0, 1])
def test_gemm_keeps_its_layout(transposed: int) -> None:
    text = f"""block (float[N, {CHANNELS}] x) => (float[N, 8] y) {{
      t = LayerNormalization <axis = -1> (x, gain, shift)
      y = Gemm <transB = {transposed}> (t, w)
    }}"""
    rng = np.random.default_rng(2)
    gain, weight = np.ones(CHANNELS, np.float32), rng.normal(size=(CHANNELS, 8)).astype(np.float32)
    gain[list(WIDE)], weight[list(WIDE)] = 60, weight[list(WIDE)] / 100
    stored = np.ascontiguousarray(weight.T) if transposed else weight
    proto = onnx_text(text, gain=gain, shift=np.zeros(CHANNELS, np.float32), w=stored)
    measured, reach = measure(as_model(proto), DEFAULT_SCHEMES), 3 * gain.astype(np.float64)
    wanted = movable_factors(measured, "t", WIDE, ChannelObservation(-reach, reach))
    assert isinstance(wanted, ChannelFactors)
    made, x = apply(measured.model, [wanted]), rng.normal(size=(32, CHANNELS)).astype(np.float32)
    assert np.allclose(run(proto, {"x": x})[0], run(made.proto, {"x": x})[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("normal", "readers", "reason"),
    [
        (LAYER_NORM, "a = MatMul(t, w)\n b = Relu(t)\n c = MatMul(b, v)\n y = Add(a, c)", "Relu"),
        ("t = Tanh(x)", MATMUL, "no constant gain"),
        ("t = LayerNormalization <axis = -1> (x, gain, shift)", "u = Transpose(t)\n y = MatMul(x, w)", "Transpose"),
    ],
)
def test_refusals_say_why(normal: str, readers: str, reason: str) -> None:
    refused = found(network(normal, readers))
    assert isinstance(refused, Refusal) and refused.tensor == "t" and reason in refused.reason


def test_an_output_of_the_model_stays_as_it_is() -> None:
    proto = network(LAYER_NORM, MATMUL)
    proto.graph.output.append(onnx.helper.make_tensor_value_info("t", onnx.TensorProto.FLOAT, None))
    refused = found(proto)
    assert isinstance(refused, Refusal) and "output" in refused.reason


def test_weights_that_need_the_channels_most_are_left_alone() -> None:
    weight = np.random.default_rng(3).normal(size=(CHANNELS, 8))
    weight[list(WIDE)] *= 1000
    refused = found(network(LAYER_NORM, MATMUL, w=weight))
    assert isinstance(refused, Refusal) and "lose as much" in refused.reason


@given(factor=st.floats(8, 1e4), damping=st.floats(1, 1e4), seed=st.integers(0, 99))
def test_whatever_moves_leaves_the_outputs(factor: float, damping: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    gain = np.ones(CHANNELS)
    gain[list(WIDE)] = factor
    weight = rng.normal(size=(CHANNELS, 8))
    weight[list(WIDE)] /= damping
    proto = network(LAYER_NORM, MATMUL, gain=gain, w=weight)
    wanted = found(proto)
    if isinstance(wanted, Refusal):
        assert wanted.reason
        return
    made = apply(as_model(proto), [wanted])
    before, after = run(proto, {"x": data(seed)})[0], run(made.proto, {"x": data(seed)})[0]
    assert np.sum((before - after) ** 2) <= 1e-10 * np.sum(before**2)


def every(proto: onnx.ModelProto, *, run_first: bool) -> tuple[list[ChannelFactors], list[Refusal]]:
    """What is found with what a run saw of all tensors that can be told apart, or without one."""
    return all_found(REWRITE, proto, observations(proto) if run_first else None)


def observations(proto: onnx.ModelProto) -> Observations:
    model = as_model(proto)
    tensors = {}
    for node in model.nodes:
        if model.shape(node.output) and (model.shape(node.output) or ())[-1] == CHANNELS:
            channels = seen(proto, node.output)
            alone = TensorObservation.of(np.concatenate([channels.low, channels.high]))
            tensors[node.output] = replace(alone, channels=channels)
    return Observations("made up", False, 32, None, tensors)


@pytest.mark.parametrize("run_first", [True, False], ids=["data", "file"])
@pytest.mark.parametrize("normal", [LAYER_NORM, SPELT_OUT])
@pytest.mark.parametrize("readers", [MATMUL, TWO], ids=["one", "two"])
def test_every_normalisation_is_found(normal: str, readers: str, run_first: bool) -> None:
    proto = network(normal, readers)
    (wanted,), refused = every(proto, run_first=run_first)
    assert not refused and set(WIDE) <= set(wanted.channels) and wanted.tensor == "t"
    made = applied(REWRITE, proto, [wanted])
    assert_same(proto, made, {"x": data(3)})
    assert np.log2(wanted.factors).tolist() == np.rint(np.log2(wanted.factors)).tolist()
    steps = [activation_step(one.low.min(), one.high.max(), UINT8) for one in (seen(proto), seen(made.proto))]
    assert steps[1] < steps[0] / 8


def test_what_is_even_stays() -> None:
    proto = network(LAYER_NORM, MATMUL, gain=np.ones(CHANNELS), w=np.random.default_rng(0).normal(size=(CHANNELS, 8)))
    wanted, (refused,) = every(proto, run_first=True)
    assert not wanted and "lose as much" in refused.reason


def test_several_blocks_apart_and_together() -> None:
    proto = blocks_of(3, gains=[60.0, 1.0, 40.0])
    wanted, refused = all_found(REWRITE, proto)
    assert [one.tensor for one in wanted] == ["t0", "t2"] and [one.tensor for one in refused] == ["t1"]
    for part in ([], wanted[:1], wanted[1:], wanted, wanted[::-1]):
        assert_same(proto, applied(REWRITE, proto, part), blocks_samples())


def test_a_block_that_is_gone_through_again_goes_on_sharing() -> None:
    text = f"""again (float[N, 5, {CHANNELS}] x) => (float[N, 5, {CHANNELS}] y) {{
      t = LayerNormalization <axis = -1> (x, gain, shift)
      u = MatMul(t, w)
      v = LayerNormalization <axis = -1> (u, gain, shift)
      y = MatMul(v, w)
    }}"""
    rng = np.random.default_rng(4)
    gain, weight = np.ones(CHANNELS), rng.normal(size=(CHANNELS, CHANNELS))
    gain[list(WIDE)], weight[list(WIDE)] = 80, weight[list(WIDE)] / 100
    values = {"gain": gain, "shift": rng.normal(size=CHANNELS), "w": weight}
    proto = onnx_text(text, **{name: value.astype(np.float32) for name, value in values.items()})
    for run_first in (True, False):
        wanted, _ = every(proto, run_first=run_first)
        assert [one.tensor for one in wanted] == ["t", "v"] and wanted[0].factors == wanted[1].factors
        made = applied(REWRITE, proto, wanted)
        assert len(made.proto.graph.initializer) == 3
        assert_same(proto, made, {"x": data(5)}, 100)
        assert len(applied(REWRITE, proto, wanted[1:]).proto.graph.initializer) == 6


def test_a_batch_normalisation_with_several_readers() -> None:
    text = f"""norm (float[N, {CHANNELS}] x) => (float[N, 8] y, float[N, 8] z) {{
      t = BatchNormalization(x, gain, shift, mean, variance)
      y = Gemm <transB = 1> (t, w, bias)
      z = MatMul(t, v)
    }}"""
    rng = np.random.default_rng(6)
    gain = np.ones(CHANNELS)
    gain[list(WIDE)] = 90
    weight, other = rng.normal(size=(2, CHANNELS, 8)) / gain[:, None]
    values = {"gain": gain, "shift": rng.normal(size=CHANNELS), "mean": rng.normal(size=CHANNELS), "bias": np.ones(8)}
    values |= {"variance": rng.uniform(0.5, 2, CHANNELS), "w": weight.T, "v": other}
    proto = onnx_text(text, **{name: value.astype(np.float32) for name, value in values.items()})
    (wanted,), _ = every(proto, run_first=False)
    assert set(WIDE) <= set(wanted.channels) and wanted.readers == ("y", "z")
    assert_same(proto, applied(REWRITE, proto, [wanted]), {"x": data()[:, 0]})


def test_float16_stays_float16() -> None:
    text = f"""half (float16[N, 5, {CHANNELS}] x) => (float16[N, 5, 8] y) {{
      t = LayerNormalization <axis = -1> (x, gain, shift)
      y = MatMul(t, w)
    }}"""
    rng, gain = np.random.default_rng(8), np.ones(CHANNELS)
    gain[list(WIDE)] = 60
    values = {"gain": gain, "shift": np.zeros(CHANNELS), "w": rng.normal(size=(CHANNELS, 8)) / gain[:, None]}
    proto = onnx_text(text, **{name: value.astype(np.float16) for name, value in values.items()})
    (wanted,), _ = every(proto, run_first=False)
    made = applied(REWRITE, proto, [wanted])
    assert_same(proto, made, {"x": data().astype(np.float16)}, 70)
    assert {tensor.data_type for tensor in made.proto.graph.initializer} == {onnx.TensorProto.FLOAT16}


def test_what_is_not_known_is_a_reason() -> None:
    scaled_only = network("t = Mul(x, gain)", MATMUL)
    wanted, (refused,) = every(scaled_only, run_first=False)
    assert not wanted and "without data nobody knows" in refused.reason
    assert len(every(scaled_only, run_first=True)[0]) == 1
    nothing = Observations("made up", False, 32, None, {})
    wanted, (refused,) = all_found(REWRITE, scaled_only, nothing)
    assert not wanted and "not told apart" in refused.reason


@given(
    gain=st.lists(st.floats(0.01, 500), min_size=CHANNELS, max_size=CHANNELS),
    rows=st.lists(st.floats(1e-3, 1e3), min_size=CHANNELS, max_size=CHANNELS),
    seed=st.integers(0, 99),
)
def test_whatever_is_found_leaves_the_outputs(gain: list[float], rows: list[float], seed: int) -> None:
    weight = np.random.default_rng(seed).normal(size=(CHANNELS, 8)) * np.asarray(rows)[:, None]
    proto = network(LAYER_NORM, MATMUL, gain=np.asarray(gain), w=weight)
    wanted, _ = every(proto, run_first=False)
    assert_same(proto, applied(REWRITE, proto, wanted), {"x": data(seed)}, 100)
