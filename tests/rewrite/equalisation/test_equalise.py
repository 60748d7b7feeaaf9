"""Where channels are equalised and where not, that it helps, and that any part of it leaves the float outputs."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from equalisation_cases import IMAGE, NETWORKS, data, network, written
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_cases import as_model, onnx_text, run, sqnr_db

from onnxlint_q.analysis.experiment import Experiment
from onnxlint_q.analysis.measured import Measured, measure
from onnxlint_q.analysis.observed.observations import Observations
from onnxlint_q.analysis.schemes import DEFAULT_SCHEMES, INT8_PER_TENSOR
from onnxlint_q.execute.data.sources import ArraySource
from onnxlint_q.execute.stream.observe import observe
from onnxlint_q.execute.variants.experiment_runs import run_experiments
from onnxlint_q.execute.variants.workbench import workbench
from onnxlint_q.graph import Model, find_layers, read_model
from onnxlint_q.rewrite.candidate import Refusal
from onnxlint_q.rewrite.equalisation import REWRITE, Equalisation

FIXTURES = Path(__file__).parents[3] / "fixtures" / "models"


def seen(measured: Measured) -> tuple[ArraySource, Observations]:
    source = ArraySource("samples", data(measured.model.proto, 16))
    return source, observe(measured, source, 16)


def places(model: Model, observations: Observations | None = None) -> list[Equalisation]:
    found = REWRITE.find(measure(model, DEFAULT_SCHEMES), observations)
    return [one for one in found if isinstance(one, Equalisation)]


def refusals(proto: onnx.ModelProto) -> dict[str, str]:
    found = REWRITE.find(measure(as_model(proto), DEFAULT_SCHEMES), None)
    return {one.tensor: one.reason for one in found if isinstance(one, Refusal)}


def int8_db(model: Model) -> float:
    measured = measure(model, DEFAULT_SCHEMES)
    source, observations = seen(measured)
    whole = Experiment(INT8_PER_TENSOR)
    bench = workbench(measured).calibrated(observations)
    (error,) = run_experiments(bench, [whole], lambda: source.take(model.inputs, 16)).values()
    assert error.sqnr_db is not None
    return error.sqnr_db


@pytest.mark.parametrize("name", ["a chain", "bounds", "groups", "transposed", "products", "a stream"])
@pytest.mark.parametrize("ran", [True, False])
def test_int8_gains_and_float_stays(name: str, ran: bool) -> None:
    proto = network(name)
    model = as_model(proto)
    observations = seen(measure(model, DEFAULT_SCHEMES))[1] if ran else None
    found = places(model, observations)
    made = REWRITE.apply(model, found)
    onnx.checker.check_model(made.proto)
    assert found and int8_db(made) > int8_db(model)
    assert sqnr_db(run(proto, data(proto))[0], run(made.proto, data(proto))[0]) > 100


@settings(max_examples=40)
@given(st.data())
def test_parts_of_it_in_any_order_leave_the_float_outputs(drawn: st.DataObject) -> None:
    proto = network(drawn.draw(st.sampled_from(sorted(NETWORKS))))
    model = as_model(proto)
    chosen = drawn.draw(st.permutations(places(model)))
    made = model
    for start in range(0, len(chosen), 2):
        made = REWRITE.apply(made, chosen[start : start + drawn.draw(st.integers(0, 2))])
    assert sqnr_db(run(proto, data(proto))[0], run(made.proto, data(proto))[0]) > 100


def test_channels_that_are_alike_stay() -> None:
    body = "a = Conv(x, first)\n r = Relu(a)\n y = Conv(r, second)"
    each, all_ = np.eye(3).reshape(3, 3, 1, 1), np.ones((4, 3, 1, 1))
    proto = onnx_text(f"{IMAGE} {{ {body} }}", first=np.float32(each), second=np.float32(all_))
    assert "about as much" in refusals(proto)["a"] and not places(as_model(proto))


def test_a_place_says_what_changes() -> None:
    first, *_ = places(as_model(network("a chain")))
    assert first.tensor == "a" and {one.tensor for one in first.divisors} == {"a", "r"}
    assert first.change.startswith("channels are divided by ") and "2 layers" in first.change
    assert {one.shape for one in first.divisors} == {(1, 8, 1, 1)}


def test_the_widest_channel_stays_as_wide() -> None:
    model = as_model(network("a chain"))
    _, observations = seen(measure(model, DEFAULT_SCHEMES))
    made = REWRITE.apply(model, places(model, observations))
    _, after = seen(measure(made, DEFAULT_SCHEMES))
    assert after.tensors["r"].high == pytest.approx(observations.tensors["r"].high, rel=1e-4)
    highs = [one.tensors["r"].channels.high for one in (observations, after) if one.tensors["r"].channels]
    alive = highs[0] > 0
    assert highs[1][alive].min() > highs[0][alive].min()


@pytest.mark.parametrize(
    ("body", "tensor", "reason"),
    [
        (
            "a = Conv(x, c8x3k3, b8)\n r = Sigmoid(a)\n y = Conv(r, c4x8k1)",
            "a",
            "Sigmoid 'r' does not hand a factor on",
        ),
        ("a = Conv(x, c8x3k3, b8)\n r = Softmax <axis = 1> (a)\n y = Conv(r, c4x8k1)", "a", "Softmax"),
        (
            "a = Conv(x, c8x3k3, b8)\n s = Sigmoid(a)\n m = Mul(a, s)\n t = Sub(m, s)\n y = Conv(t, c4x8k1)",
            "a",
            "Sigmoid 's' does not hand a factor on",
        ),
        ("a = Conv(x, c8x3k3, b8)\n s = Mul(a, a)\n y = Conv(s, c4x8k1)", "a", "makes a square of it"),
        ("a = Conv(x, c8x3k3, b8)\n s = Div(one, a)\n y = Conv(s, c4x8k1)", "a", "divides by it"),
        ("y = Conv(x, c8x3k3, b8)", "y", "it is an output of the model"),
        ("b = Abs(x)\n a = Conv(b, c8x3k3, b8)\n s = Cast <to = 6> (a)\n y = Cast <to = 1> (s)", "a", "Cast"),
        ("c = Conv(x, c3x3k1)\n s = Add(c, x)\n y = Conv(s, c8x3k3, b8)", "c", "an input of the model"),
        ("a = Conv(x, c8x3k3, b8)\n p = Pad(a, around, one)\n y = Conv(p, c4x12k1)", "a", "values that are not zero"),
        ("a = Conv(x, c8x3k3, b8)\n p = ReduceSum(a, second)\n y = Conv(p, c4x1k1)", "a", "mixes its channels"),
        ("a = Conv(x, c8x3k3, b8)\n n = InstanceNormalization(a, b8, e8)\n y = Conv(n, c4x8k1)", "a", "Instance"),
        ("a = Conv(x, c8x3k3, computed)\n y = Conv(a, c4x8k1)", "a", "a bias that is computed"),
        ("a = Conv(x, nan)\n y = Conv(a, c4x8k1)", "a", "not finite"),
    ],
)
def test_refusals(body: str, tensor: str, reason: str) -> None:
    more = {
        "c3x3k1": np.ones((3, 3, 1, 1), np.float32),
        "c4x1k1": np.ones((4, 1, 1, 1), np.float32),
        "c4x12k1": np.ones((4, 12, 1, 1), np.float32),
        "second": np.asarray([1]),
        "nan": np.full((8, 3, 3, 3), np.nan, np.float32),
    }
    head = IMAGE.replace("x)", "x, float[8] computed)") if "computed" in body else IMAGE
    proto = written(head, body)
    proto.graph.initializer.extend(
        onnx.numpy_helper.from_array(value, name) for name, value in more.items() if name in body
    )
    assert reason in refusals(proto)[tensor]


def test_what_a_subgraph_reads_stays() -> None:
    text = """net (float[N, 3, 8, 8] x, bool c) => (float[N, A, B, C] y) {
      a = Conv(x, w)
      y = If (c) <
        then_branch = one () => (float[N, A, B, C] p) { p = Conv(a, v) },
        else_branch = two () => (float[N, A, B, C] q) { q = Conv(a, v) }
      >
    }"""
    draw = np.random.default_rng(0)
    proto = onnx_text(
        text,
        w=draw.normal(size=(8, 3, 1, 1)).astype(np.float32),
        v=draw.normal(size=(4, 8, 1, 1)).astype(np.float32),
    )
    assert "subgraph" in refusals(proto)["a"]


def test_what_callers_may_replace_stays() -> None:
    proto = network("a chain")
    proto.graph.input.append(onnx.helper.make_tensor_value_info("c4x8k1", onnx.TensorProto.FLOAT, [4, 8, 1, 1]))
    assert "callers may replace" in refusals(proto)["a"]


def test_channels_without_end_are_not_followed() -> None:
    doubled = "\n".join(f"a{step + 1} = Concat <axis = 1> (a{step}, a{step})" for step in range(40))
    proto = written(IMAGE, f"a0 = Conv(x, c8x3k3, b8)\n {doubled}\n y = Relu(a40)")
    assert "more channels than are told apart" in refusals(proto)["a0"]


def test_more_axes_than_arrays_have_are_not_followed() -> None:
    body = "a = Conv(x, c8x3k3, b8)\n m = Reshape(a, many)\n r = Relu(m)\n f = Reshape(r, flat)\n y = Conv(f, c4x8k1)"
    proto = written(IMAGE, body)
    for name, value in (("many", [1, 8, 8, 8, *(1,) * 70]), ("flat", [1, 8, 8, 8])):
        proto.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(value, np.int64), name))
    assert re.search(r"more than (32|64) axes", refusals(proto)["a"])


@pytest.mark.parametrize("path", sorted(FIXTURES.glob("*.onnx")), ids=lambda path: path.stem)
def test_fixtures_are_told_of_or_left(path: Path) -> None:
    model = read_model(path)
    measured = measure(model, DEFAULT_SCHEMES)
    found = list(REWRITE.find(measured, None))
    assert measured.is_float or not found
    assert {one.tensor for one in found} <= {layer.folded.layer.output for layer in measured.layers}
    made = REWRITE.apply(model, [one for one in found if isinstance(one, Equalisation)])
    assert [value.name for value in made.outputs] == [value.name for value in model.outputs]


def test_no_more_weights_are_solved_for_than_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    model = as_model(network("a chain"))
    every = {one.tensor for one in places(model)}
    layers = sorted(math.prod(layer.weight_shape) for layer in find_layers(model))
    monkeypatch.setattr("onnxlint_q.rewrite.equalisation.equalise._MOST_WEIGHTS", sum(layers) - 1)
    assert {one.tensor for one in places(model)} < every
    monkeypatch.setattr("onnxlint_q.rewrite.equalisation.equalise._MOST_WEIGHTS", 0)
    found = list(REWRITE.find(measure(model, DEFAULT_SCHEMES), None))
    assert found and all(isinstance(one, Refusal) for one in found)
    assert any("million weights" in one.reason for one in found if isinstance(one, Refusal))
