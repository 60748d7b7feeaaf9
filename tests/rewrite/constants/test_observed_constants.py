"""Which channels are constant on samples and go into the bias, why others do not, and that the float model stays."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx_cases import Array, as_model, onnx_text, run, sqnr_db

from onnxlint_q.analysis.measured import Measured, measure
from onnxlint_q.analysis.observed.observations import Observations
from onnxlint_q.analysis.schemes import DEFAULT_SCHEMES
from onnxlint_q.execute.data.sources import ArraySource
from onnxlint_q.execute.stream.observe import observe
from onnxlint_q.rewrite.candidate import Refusal
from onnxlint_q.rewrite.constants.observed_constants import FEWEST, REWRITE, ObservedConstants, apply, find

CHANNELS, STILL = 8, (2, 5)
DEPTHWISE = "t = Conv <group = 8> (x, w, b)"
LAYERS = {
    "depthwise": (DEPTHWISE, (8, 6, 6), (8, 1, 3, 3)),
    "padded": ("t = Conv <group = 8, pads = [1, 1, 1, 1]> (x, w, b)", (8, 6, 6), (8, 1, 3, 3)),
    "no bias": ("t = Conv <group = 8> (x, w)", (8, 6, 6), (8, 1, 3, 3)),
    "1-D, grouped": ("t = Conv <group = 4> (x, w, b)", (8, 9), (8, 2, 3)),
    "3-D": ("t = Conv <group = 8> (x, w, b)", (8, 3, 3, 3), (8, 1, 2, 2, 2)),
    "transposed": ("t = ConvTranspose <group = 8> (x, w, b)", (8, 5, 5), (8, 1, 2, 2)),
}
BEHIND = {
    "nothing": "y = Tanh(t)",
    "Relu": "y = Relu(t)",
    "bounds": "y = Clip(t, lowest, highest)",
    "LeakyRelu": "y = LeakyRelu(t)",
}


def still_inputs(shape: tuple[int, ...], count: int = 20, seed: int = 0, values: tuple[float, ...] = (0, 0)) -> Array:
    """Samples in which some channels hold one value."""
    x = np.random.default_rng(seed).normal(size=(count, *shape)).astype(np.float32)
    x[:, list(STILL)] = np.reshape(values, (2, *[1] * (len(shape) - 1)))
    return x


def network(
    layer: str, behind: str, shape: tuple[int, ...], weight: tuple[int, ...], wide: float = 50
) -> onnx.ModelProto:
    """A layer whose weights are wide where its input is still."""
    rng = np.random.default_rng(4)
    values: dict[str, Array] = {
        "w": rng.uniform(-1, 1, weight),
        "b": rng.normal(size=CHANNELS),
        "lowest": np.asarray(0.25),
        "highest": np.asarray(2.0),
    }
    values["w"][list(STILL)] *= wide
    nodes = f"{layer}\n {behind}"
    used = {name: np.float32(value) for name, value in values.items() if re.search(rf"\b{name}\b", nodes)}
    dims, rank = ", ".join(map(str, shape)), ", ".join(["N", *"abcd"[: len(shape)]])
    return onnx_text(f"net (float[N, {dims}] x) => (float[{rank}] y) {{ {nodes} }}", **used)


def measured(proto: onnx.ModelProto) -> Measured:
    return measure(as_model(proto), DEFAULT_SCHEMES)


def seen(known: Measured, x: Array) -> Observations:
    return observe(known, ArraySource("samples", {"x": x}), len(x))


@pytest.mark.parametrize("behind", BEHIND)
@pytest.mark.parametrize("layer", LAYERS)
def test_wide_channels_that_were_still_are_made_by_the_bias(layer: str, behind: str) -> None:
    text, shape, weight = LAYERS[layer]
    proto = network(text, BEHIND[behind], shape, weight)
    known, x = measured(proto), still_inputs(shape)
    if "grouped" in layer:
        x[:, 2:6] = 0  # what the channels read together
    (found,) = find(known, seen(known, x))
    assert isinstance(found, ObservedConstants) and set(STILL) <= set(found.channels)
    made = apply(known.model, [found])
    onnx.checker.check_model(made.proto, full_check=True)
    again = measure(made, DEFAULT_SCHEMES)
    assert not again.layers[0].weight.absmax[list(STILL)].any()
    assert again.layers[0].weight.absmax.max() == pytest.approx(known.layers[0].weight.absmax.max() * found.narrowed)
    assert sqnr_db(run(proto, {"x": x})[0], run(made.proto, {"x": x})[0]) > 120
    assert not any(isinstance(one, ObservedConstants) for one in find(again, seen(again, x)))


@given(
    values=st.tuples(st.floats(-3, 3), st.floats(-3, 3)),
    behind=st.sampled_from(list(BEHIND.values())),
    seed=st.integers(0, 50),
)
def test_behind_an_activation_the_value_is_what_was_seen(values: tuple[float, float], behind: str, seed: int) -> None:
    proto = network(DEPTHWISE, behind, (8, 6, 6), (8, 1, 3, 3))
    known, x = measured(proto), still_inputs((8, 6, 6), seed=seed, values=values)
    (found,) = find(known, seen(known, x))
    assert isinstance(found, ObservedConstants) and found.channels == STILL
    made, other = apply(known.model, [found]), still_inputs((8, 6, 6), seed=seed + 1, values=values)
    assert sqnr_db(run(proto, {"x": other})[0], run(made.proto, {"x": other})[0]) > 100


@pytest.mark.parametrize("rows", [0, 1])
def test_a_gemm_keeps_its_layout(rows: int) -> None:
    """What it reads is still in front of a rectifier that lets nothing through."""
    rng = np.random.default_rng(0)
    weight, bias = rng.uniform(-1, 1, (8, 8)), rng.normal(size=8)
    weight[:, STILL[0]], bias[STILL[0]] = -30 * np.abs(weight[:, STILL[0]]), -1.0
    stored = np.ascontiguousarray(weight.T if rows else weight, np.float32)
    proto = onnx_text(
        f"net (float[N, 8] x) => (float[N, 8] y) {{ t = Gemm <transB = {rows}> (x, w, b)\n y = Relu(t) }}",
        w=stored,
        b=bias.astype(np.float32),
    )
    known, x = measured(proto), np.abs(rng.normal(size=(20, 8))).astype(np.float32)
    (found,) = find(known, seen(known, x))
    assert isinstance(found, ObservedConstants) and (found.channels, found.values) == (STILL[:1], (0.0,))
    made = apply(known.model, [found])
    np.testing.assert_allclose(run(made.proto, {"x": x})[0], run(proto, {"x": x})[0], rtol=1e-5)


def test_layers_that_share_weight_and_bias_change_one_by_one() -> None:
    proto = network(
        f"{DEPTHWISE}\n s = Tanh(t)\n r = Conv <group = 8> (s, w, b)", "y = Relu(r)", (8, 6, 6), (8, 1, 3, 3)
    )
    known, x = measured(proto), still_inputs((8, 6, 6))
    found = list(find(known, seen(known, x)))
    assert [one.tensor for one in found] == ["t", "r"]
    for order in ([0], [1], [1, 0]):
        made = apply(known.model, [one for place in order if isinstance(one := found[place], ObservedConstants)])
        assert sqnr_db(run(proto, {"x": x})[0], run(made.proto, {"x": x})[0]) > 110


def test_a_layer_keeps_its_element_type() -> None:
    proto = network(DEPTHWISE, "y = Relu(t)", (8, 6, 6), (8, 1, 3, 3))
    for value in proto.graph.initializer:
        value.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(value).astype(np.float16), value.name))
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    known, x = measured(proto), still_inputs((8, 6, 6)).astype(np.float16)
    (found,) = find(known, seen(known, x))
    assert isinstance(found, ObservedConstants)
    made = apply(known.model, [found])
    assert {value.data_type for value in made.proto.graph.initializer} == {onnx.TensorProto.FLOAT16}
    np.testing.assert_allclose(run(made.proto, {"x": x})[0], run(proto, {"x": x})[0], rtol=1e-5)


def refusal(proto: onnx.ModelProto, x: Array) -> str:
    known = measured(proto)
    (found,) = find(known, seen(known, x))
    assert isinstance(found, Refusal)
    return found.reason


def test_a_refusal_says_why() -> None:
    shape, weight = (8, 6, 6), (8, 1, 3, 3)
    x = still_inputs(shape)
    relu = "y = Relu(t)"
    assert "hardly wider" in refusal(network(DEPTHWISE, relu, shape, weight, wide=1), x)
    assert "hardly wider" in refusal(network(DEPTHWISE, relu, shape, weight, wide=1.7), x)
    assert refusal(network(DEPTHWISE, relu, shape, weight), x[:9]) == (
        f"9 samples are too few to call a channel constant; give {FEWEST}"
    )
    endless = network(DEPTHWISE, relu, shape, weight)
    values = onnx.numpy_helper.to_array(endless.graph.initializer[0]).copy()
    values[STILL[0], 0, 0, 0] = np.inf
    endless.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(values, "w"))
    known = measured(endless)
    calm = seen(measured(network(DEPTHWISE, relu, shape, weight)), x)
    (found,) = find(known, calm)
    assert isinstance(found, Refusal) and found.reason == "1 of the layer's weights are not finite"
    alone = network(DEPTHWISE, relu, shape, weight)
    values = onnx.numpy_helper.to_array(alone.graph.initializer[0]) * np.isin(np.arange(8), STILL).reshape(8, 1, 1, 1)
    alone.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float32), "w"))
    (found,) = find(measured(alone), calm)
    assert isinstance(found, Refusal) and "nothing is left" in found.reason


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        ("t = MatMul(x, w)", "a MatMul has no bias"),
        ("t = Gemm <beta = 2.0> (x, w, b)", "one constant for each channel"),
        ("c = Sin(b)\n t = Gemm(x, w, c)", "one constant for each channel"),
    ],
)
def test_a_layer_without_a_bias_that_can_change_is_refused(layer: str, reason: str) -> None:
    rng = np.random.default_rng(0)
    weight = rng.uniform(-1, 1, (8, 8)).astype(np.float32)
    weight[:, STILL[0]] = -30 * np.abs(weight[:, STILL[0]])
    used = {"b": np.full(8, 0.1, np.float32)} if "b)" in layer else {}
    proto = onnx_text(f"net (float[N, 8] x) => (float[N, 8] y) {{ {layer}\n y = Relu(t) }}", w=weight, **used)
    assert reason in refusal(proto, 1 + np.abs(rng.normal(size=(20, 8))).astype(np.float32))


def test_nothing_is_found_without_samples_or_without_still_channels() -> None:
    known = measured(network(DEPTHWISE, "y = Relu(t)", (8, 6, 6), (8, 1, 3, 3)))
    assert list(find(known, None)) == []
    moving = np.random.default_rng(1).normal(size=(20, 8, 6, 6)).astype(np.float32)
    assert list(find(known, seen(known, moving))) == []
    assert list(find(known, seen(known, np.zeros((20, 8, 6, 6), np.float32)))) == []  # no channel to compare with


def test_a_normalisation_has_to_be_folded_first() -> None:
    layer = "s = Conv <group = 8> (x, w, b)\n t = BatchNormalization(s, one, b, b, one)"
    proto = network(layer, "y = Relu(t)", (8, 6, 6), (8, 1, 3, 3))
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(8, np.float32), "one"))
    assert "folded first" in refusal(proto, still_inputs((8, 6, 6)))


def test_the_change_says_on_how_many_samples() -> None:
    known = measured(network(DEPTHWISE, "y = Relu(t)", (8, 6, 6), (8, 1, 3, 3)))
    observations = seen(known, still_inputs((8, 6, 6)))
    (found,) = find(known, observations)
    assert isinstance(found, ObservedConstants)
    assert found.change == "2 channels that were constant on 20 samples become part of the bias"
    (made_up,) = find(known, replace(observations, synthetic=True))
    assert isinstance(made_up, ObservedConstants)
    assert replace(made_up, channels=(2,)).change == (
        "1 channel that was constant on 20 made-up samples becomes part of the bias"
    )
    assert REWRITE.find is find and REWRITE.apply is apply
