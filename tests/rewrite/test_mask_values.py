"""Masks at a value that int8 can hold: the float outputs stay what they were."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from mask_cases import LOWEST, WAYS, network, samples
from onnx_cases import as_model, onnx_text, run
from rewrite_cases import applied, assert_same, found

from onnxlint_q.analysis.measured import Measured, measure
from onnxlint_q.analysis.observed.observations import Observations, TensorObservation
from onnxlint_q.analysis.schemes import DEFAULT_SCHEMES
from onnxlint_q.rewrite.candidate import Refusal
from onnxlint_q.rewrite.mask_values import REWRITE, USUAL, MaskValue, apply, fitted, match

BEFORE = """attention (float[N, 4, 8] q, float[N, 8, 4] k, float[N, 1, 4] keep) => (float[N, 4, 4] p) {
  s = MatMul(q, k)  d = Sub(one, keep)  m = Mul(d, c)  a = Add(s, m)  p = Softmax(a)
}"""
AFTER = BEFORE.replace("Mul(d, c)", "Mul(d, c_mask0)")


def measured(proto: onnx.ModelProto) -> Measured:
    return measure(as_model(proto), DEFAULT_SCHEMES)


def only(known: Measured) -> MaskValue:
    (found,) = match(known)
    assert isinstance(found, MaskValue)
    return found


def test_the_graph_before_and_after() -> None:
    one = np.float32(1)
    before = measured(onnx_text(BEFORE, one=np.asarray(one), c=np.asarray(LOWEST, np.float32)))
    made = apply(before.model, [only(before)]).proto
    expected = onnx_text(AFTER, one=np.asarray(one), c_mask0=np.asarray(-100, np.float32))
    assert [node.SerializeToString() for node in made.graph.node] == [
        node.SerializeToString() for node in expected.graph.node
    ]
    values = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in made.graph.initializer}
    assert values == {"one": 1, "c_mask0": -100}


@pytest.mark.parametrize("way", WAYS)
def test_float_outputs_stay_what_they_were(way: str) -> None:
    steps, constants = WAYS[way]
    proto = network(steps, **constants)
    before = measured(proto)
    untouched = before.model.proto.SerializeToString()
    model = apply(before.model, [only(before)])
    assert before.model.proto.SerializeToString() == untouched
    onnx.checker.check_model(model.proto)
    feeds = samples()
    np.testing.assert_allclose(run(model.proto, feeds)[0], run(proto, feeds)[0], rtol=1e-6, atol=1e-6)
    assert [*match(measure(model, DEFAULT_SCHEMES))] == []


def test_a_second_reader_keeps_the_constant() -> None:
    steps = "d = Sub(one, keep)  m = Mul(d, c)  a = Add(s, m)  r = Softmax(a)  w = Div(r, c)  p = Add(r, w)"
    proto = network(steps, c=-1e9)
    before = measured(proto)
    feeds = samples()
    np.testing.assert_allclose(
        run(apply(before.model, [only(before)]).proto, feeds)[0], run(proto, feeds)[0], rtol=1e-6, atol=1e-6
    )


def test_a_mask_in_a_branch_is_rewritten_there() -> None:
    proto = network(
        """z = ReduceMax <keepdims = 0> (keep)  some = Cast <to = 9> (z)
        p = If (some) <then_branch = g () => (float[N, 8, 8] p1) { a = Add(s, c)  p1 = Softmax(a) },
                    else_branch = h () => (float[N, 8, 8] p2) { p2 = Softmax(s) }>""",
        c=np.triu(np.full((1, 8, 8), -1e9, np.float32), 1),
    )
    before = measured(proto)
    model = apply(before.model, [only(before)])
    feeds = samples(1)
    np.testing.assert_allclose(run(model.proto, feeds)[0], run(proto, feeds)[0], rtol=1e-6, atol=1e-6)
    assert find_lowest(model.proto) == -100


def find_lowest(proto: onnx.ModelProto) -> float:
    """The lowest value of what a branch reads under a new name."""
    values = [onnx.numpy_helper.to_array(one) for one in proto.graph.initializer if "_mask" in one.name]
    return float(min(value.min() for value in values))


@pytest.mark.parametrize(
    ("way", "scores", "value"),
    [
        ("computed", {}, USUAL),  # nothing is known of them
        ("computed", {"s": (-1.0, 1.0)}, 30.0),
        ("computed", {"s": (-20.0, 20.0)}, 100.0),
        ("computed", {"s": (-60.0, 60.0)}, 150.0),
        ("replaced", {"s": (-60.0, 60.0)}, 100.0),  # no row has less than its lowest score
        ("replaced", {"s": (1.0, 60.0)}, 30.0),
        ("scaled", {"s": (-4.0, 4.0)}, 40.0),
    ],
)
def test_the_value_follows_from_the_scores(way: str, scores: dict[str, tuple[float, float]], value: float) -> None:
    steps, constants = WAYS[way]
    found = fitted(only(measured(network(steps, **constants))), scores)
    assert isinstance(found, MaskValue) and found.value == value


@pytest.mark.parametrize("high", [1e6, np.inf])
def test_scores_that_spread_without_end_are_refused(high: float) -> None:
    steps, constants = WAYS["computed"]
    found = fitted(only(measured(network(steps, **constants))), {"s": (0.0, high)})
    assert isinstance(found, Refusal) and found.tensor == "c" and "spread" in found.reason


def test_a_refusal_names_the_constant_and_the_reason() -> None:
    (found,) = match(measured(network("a = Add(s, c)  p = LogSoftmax(a)", c=np.asarray([-1e9] + 7 * [0.0]))))
    assert isinstance(found, Refusal) and found.tensor == "c" and "LogSoftmax" in found.reason


@pytest.mark.parametrize("way", WAYS)
def test_a_run_decides_on_the_value(way: str) -> None:
    steps, constants = WAYS[way]
    proto = network(steps, **constants)
    usual, _ = found(REWRITE, proto)
    assert [one.value for one in usual] == [USUAL]
    for reach in (1.0, 60.0):
        seen = Observations("made up", False, 1, None, {"s": TensorObservation.of([-reach, reach])})
        (fitting,), _ = found(REWRITE, proto, seen)
        assert fitting.value == expected(proto, reach)
        assert f"becomes {-fitting.value:.0f}" in fitting.change and (fitting.value < USUAL) == (reach == 1)
    assert_same(proto, applied(REWRITE, proto, [fitting]), samples())


def expected(proto: onnx.ModelProto, reach: float) -> float:
    """The value for scores of that reach."""
    told = fitted(only(measured(proto)), {"s": (-reach, reach)})
    assert isinstance(told, MaskValue)
    return told.value
