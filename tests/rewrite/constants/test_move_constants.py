"""Which constant channels move into the next layer, why others stay, and that the float model stays what it is."""

from __future__ import annotations

import re
from collections.abc import Sequence

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
from onnxlint_q.rewrite.constants import observed_constants
from onnxlint_q.rewrite.constants.move_constants import REWRITE, MovableConstants, apply, find

CHANNELS, STILL = 6, (1, 4)
CONV, GEMM = "t = Conv(x, w, b)", "t = Gemm(x, w, b)"
READERS = {
    "conv": "y = Conv(r, v)",
    "with a bias": "y = Conv(r, v, b)",
    "strides": "y = Conv <strides = [2, 2]> (r, v, b)",
    "grouped": "y = Conv <group = 2> (r, half, b)",
    "depthwise": "y = Conv <group = 6> (r, single, b)",
    "two": "p = Conv(r, v)\n q = Conv <group = 6> (r, single, b)\n y = Add(p, q)",
}
BEHIND = {"Relu": "r = Relu(t)", "bounds": "r = Clip(t, lowest, highest)", "positive": "r = Clip(t, small, highest)"}


def network(
    layer: str, behind: str, reader: str, values: Sequence[float] = (90, 200), seed: int = 0
) -> onnx.ModelProto:
    """A layer in which two channels are `values`, and what reads it."""
    rng = np.random.default_rng(seed)
    matrix = "Gemm" in layer
    arrays = {
        "w": rng.normal(size=(CHANNELS, CHANNELS) if matrix else (CHANNELS, CHANNELS, 1, 1)),
        "b": rng.normal(size=CHANNELS),
        "c": rng.normal(size=CHANNELS),
        "v": rng.normal(size=(CHANNELS, CHANNELS) if matrix else (CHANNELS, CHANNELS, 3, 3)),
        "half": rng.normal(size=(CHANNELS, CHANNELS // 2, 3, 3)),
        "single": rng.normal(size=(CHANNELS, 1, 3, 3)),
        "lowest": np.asarray(-50.0),
        "highest": np.asarray(150.0),
        "small": np.asarray(0.5),
    }
    arrays["w"][(slice(None), list(STILL)) if matrix else list(STILL)] = 0
    arrays["b"][list(STILL)] = values
    nodes = "\n".join((layer, behind, reader))
    used = {name: np.float32(value) for name, value in arrays.items() if re.search(rf"\b{name}\b", nodes)}
    given, made = ("N, 6", "N, k") if matrix else ("N, 6, 7, 7", "N, k, l, m")
    return onnx_text(f"net (float[{given}] x) => (float[{made}] y) {{ {nodes} }}", **used)


def inputs(proto: onnx.ModelProto, seed: int = 0) -> Array:
    rank = len(proto.graph.input[0].type.tensor_type.shape.dim)
    return np.random.default_rng(seed).normal(size=(8, 6, 7, 7)[:rank]).astype(np.float32)


def measured(proto: onnx.ModelProto) -> Measured:
    return measure(as_model(proto), DEFAULT_SCHEMES)


def seen(known: Measured, proto: onnx.ModelProto) -> Observations:
    return observe(known, ArraySource("samples", {"x": inputs(proto)}), 8)


def check(proto: onnx.ModelProto) -> MovableConstants:
    """The float outputs are what they were, and the range is what was foretold."""
    known = measured(proto)
    before = seen(known, proto)
    (found,) = find(known, before)
    assert isinstance(found, MovableConstants) and set(found.channels) <= set(STILL)
    made = apply(known.model, [found])
    onnx.checker.check_model(made.proto, full_check=True)
    x = inputs(proto, seed=3)
    assert sqnr_db(run(proto, {"x": x})[0], run(made.proto, {"x": x})[0]) > 85
    again = measure(made, DEFAULT_SCHEMES)
    after = seen(again, made.proto)
    tensor = known.stored_tensor(known.layers[0])
    low, high = (max(0.0, one.tensors[tensor].high) - min(0.0, one.tensors[tensor].low) for one in (after, before))
    assert low / high == pytest.approx(found.narrowed, rel=1e-5)
    assert list(find(again, after)) == []
    return found


@pytest.mark.parametrize("behind", BEHIND)
@pytest.mark.parametrize("reader", READERS)
def test_what_sets_the_range_moves_into_the_next_bias(reader: str, behind: str) -> None:
    found = check(network(CONV, BEHIND[behind], READERS[reader]))
    assert found.channels == STILL
    assert found.values == ((0.5, 0.5) if behind == "positive" else (0.0, 0.0))


def test_a_channel_that_samples_show_to_be_constant_moves_too() -> None:
    """It has weights like any other; only what it reads is zero on the samples."""
    proto = network("t = Conv <group = 6> (x, own, b)", "r = Relu(t)", "y = Conv(r, v)")
    own = np.random.default_rng(0).normal(size=(6, 1, 1, 1)).astype(np.float32)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(own, "own"))
    known, x = measured(proto), np.random.default_rng(1).normal(size=(20, 6, 7, 7)).astype(np.float32)
    x[:, list(STILL)] = 0
    observations = observe(known, ArraySource("samples", {"x": x}), 20)
    (still,) = observed_constants.find(known, observations)
    assert isinstance(still, observed_constants.ObservedConstants) and still.channels == STILL
    without = measure(observed_constants.apply(known.model, [still]), DEFAULT_SCHEMES)
    assert list(find(known, observations)) == []
    (found,) = find(without, observations)
    assert isinstance(found, MovableConstants) and found.channels == STILL
    made = apply(without.model, [found])
    assert sqnr_db(run(proto, {"x": x})[0], run(made.proto, {"x": x})[0]) > 85


@pytest.mark.parametrize("reader", ["y = Gemm(r, v)", "y = Gemm <alpha = 0.5, transB = 1> (r, v, c)"])
def test_into_the_bias_of_a_gemm(reader: str) -> None:
    check(network(GEMM, "r = Relu(t)", reader))


@given(
    values=st.tuples(st.floats(-90, 90), st.floats(-90, 90)),
    behind=st.sampled_from(["r = Identity(t)", *BEHIND.values()]),
    reader=st.sampled_from(list(READERS.values())),
    seed=st.integers(0, 50),
)
def test_whatever_the_values_are_the_outputs_stay(
    values: tuple[float, float], behind: str, reader: str, seed: int
) -> None:
    proto = network(CONV, behind, reader.replace("(r", "(t") if "Identity" in behind else reader, values, seed)
    known = measured(proto)
    found = [one for one in find(known, seen(known, proto)) if isinstance(one, MovableConstants)]
    made, x = apply(known.model, found), inputs(proto, seed + 1)
    assert sqnr_db(run(proto, {"x": x})[0], run(made.proto, {"x": x})[0]) > 85


@pytest.mark.parametrize("chosen", [[0], [1], [0, 1], [1, 0], []])
def test_one_layer_may_take_up_and_pass_on(chosen: list[int]) -> None:
    proto = network(CONV, "r = Relu(t)", "u = Conv(r, v, b)\n s = Relu(u)\n y = Conv <group = 2> (s, half)")
    (stored,) = (value for value in proto.graph.initializer if value.name == "v")
    weight = onnx.numpy_helper.to_array(stored).copy()
    weight[list(STILL)] = 0
    stored.CopyFrom(onnx.numpy_helper.from_array(weight, "v"))
    known = measured(proto)
    # The first layer's values make those of the second wide: both are where the other channels have none of them.
    observations = seen(known, proto)
    found = list(find(known, observations))
    assert [one.tensor for one in found] == ["t"]
    second = MovableConstants("u", STILL, (0.0, 0.0), (90.0, 200.0), ("y",), 0.5)
    both = [one for one in (*found, second) if isinstance(one, MovableConstants)]
    made, x = apply(known.model, [both[place] for place in chosen]), inputs(proto, 5)
    assert sqnr_db(run(proto, {"x": x})[0], run(made.proto, {"x": x})[0]) > 85


@pytest.mark.parametrize(
    ("layer", "reader", "reason"),
    [
        (CONV, "y = Conv <pads = [1, 1, 1, 1]> (r, v)", "it puts zeros around them"),
        (CONV, 'y = Conv <auto_pad = "SAME_UPPER"> (r, v)', "it puts zeros around them"),
        (CONV, "y = ConvTranspose(r, v)", "the same weights everywhere"),
        (CONV, "y = Sin(r)", "it has no weight to take them up"),
        (CONV, "z = Conv(r, v)\n s = ReduceMean(r)\n y = Add(z, s)", "ReduceMean 's' reads its constant channels"),
        (CONV, "d = Abs(b)\n y = Conv(r, v, d)", "its bias does not hold one constant"),
        (GEMM, "y = MatMul(r, v)", "a MatMul has no bias"),
        (GEMM, "y = Gemm <beta = 2.0> (r, v, c)", "its bias does not hold one constant"),
        ("d = Abs(b)\n t = Conv(x, w, d)", "y = Conv(r, v)", "set the range, but its bias does not hold"),
    ],
)
def test_a_refusal_names_the_layer_and_the_reason(layer: str, reader: str, reason: str) -> None:
    proto = network(layer, "r = Clip(t, lowest, highest)", reader)
    known = measured(proto)
    found = [one for one in find(known, seen(known, proto)) if one.tensor == "t"]
    assert len(found) == 1 and isinstance(found[0], Refusal) and reason in found[0].reason


def test_an_output_of_the_model_stays_as_it_is() -> None:
    proto = network(CONV, "r = Relu(t)", "y = Conv(r, v)")
    proto.graph.output.append(onnx.helper.make_tensor_value_info("r", onnx.TensorProto.FLOAT, [None] * 4))
    known = measured(proto)
    (found,) = find(known, seen(known, proto))
    assert isinstance(found, Refusal) and "an output of the model holds" in found.reason


def test_a_normalisation_has_to_be_folded_first() -> None:
    proto = network("s = Conv(x, w)\n t = BatchNormalization(s, one, b, zero, one)", "r = Relu(t)", "y = Conv(r, v)")
    for name, value in (("one", 1), ("zero", 0)):
        proto.graph.initializer.append(onnx.numpy_helper.from_array(np.full(6, value, np.float32), name))
    known = measured(proto)
    (found,) = find(known, seen(known, proto))
    assert isinstance(found, Refusal) and "folded first" in found.reason


def test_constants_within_the_range_stay() -> None:
    proto = network(CONV, "r = Relu(t)", "y = Conv(r, v)", values=(0.5, 0.1))
    known = measured(proto)
    assert list(find(known, seen(known, proto))) == []
    assert list(find(known, None)) == []


def test_a_subgraph_that_reads_the_tensor_keeps_it() -> None:
    proto = network(CONV, "r = Relu(t)", "y = Conv(r, v)")
    branches = []
    for name in ("then", "else"):
        inner = onnx.helper.make_node("Tanh", ["r"], [f"{name}_out"])
        value = onnx.helper.make_empty_tensor_value_info(f"{name}_out")
        branches.append(onnx.helper.make_graph([inner], name, [], [value]))
    proto.graph.node.append(onnx.helper.make_node("If", ["q"], ["z"], then_branch=branches[0], else_branch=branches[1]))
    proto.graph.input.append(onnx.helper.make_tensor_value_info("q", onnx.TensorProto.BOOL, []))
    proto.graph.output.append(onnx.helper.make_tensor_value_info("z", onnx.TensorProto.FLOAT, [None] * 4))
    known = measured(proto)
    source = ArraySource("samples", {"x": inputs(proto), "q": np.ones(8, np.bool_)})
    (found,) = find(known, observe(known, source, 8))
    assert isinstance(found, Refusal) and "it has no weight to take them up" in found.reason


def test_the_change_says_how_much_narrower() -> None:
    found = MovableConstants("t", (1,), (0.0,), (9.0,), ("y",), 0.254)
    assert (
        found.change == "1 constant channel moves into the bias of the next layer, and the range keeps 25% of its width"
    )
    assert REWRITE.find is find and REWRITE.apply is apply
