"""A network in pieces computes what it computes as a whole; the mean error of each layer goes away, one by one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx_cases import Array, as_model, onnx_text, run

from onnxlint_q.analysis.experiment import Experiment
from onnxlint_q.analysis.measured import measure
from onnxlint_q.analysis.schemes import INT8_DYNAMIC, INT8_PER_CHANNEL, INT8_PER_TENSOR, Scheme
from onnxlint_q.execute.correction.bias_shift import beyond_chance, measure_shifts
from onnxlint_q.execute.correction.frontier import Frontier, that_fit
from onnxlint_q.execute.correction.pieces import pieces
from onnxlint_q.execute.data.sources import ArraySource
from onnxlint_q.execute.executable import as_stored
from onnxlint_q.execute.limits import DEFAULT_LIMITS
from onnxlint_q.execute.session import NotRunnableError, Session
from onnxlint_q.execute.stream.observe import observe
from onnxlint_q.execute.variants.workbench import Workbench, workbench
from onnxlint_q.rewrite.bias_correction import corrected

RANDOM = np.random.default_rng(11)
RESIDUAL = """
agraph (float[N, 3, 8, 8] x) => (float[N, 4] y) {
  half = Constant <value_float = 0.5> ()
  scale = Exp(half)
  a = Conv <pads = [1, 1, 1, 1]> (x, first, bias)
  r = Relu(a)
  b = Conv <pads = [1, 1, 1, 1], group = 4> (r, depthwise)
  m = Mul(b, scale)
  c = Add(m, r)
  d = Conv(c, last)
  s = Mul(d, scale)
  p = GlobalAveragePool(s)
  f = Flatten(p)
  y = Gemm(f, head, bias)
}
"""
WEIGHTS = {
    "first": RANDOM.standard_normal((4, 3, 3, 3)).astype(np.float32),
    "depthwise": (RANDOM.standard_normal((4, 1, 3, 3)) * np.array([4, 1, 0.1, 0.02])[:, None, None, None]).astype(
        np.float32
    ),
    "last": RANDOM.standard_normal((4, 4, 1, 1)).astype(np.float32),
    "head": RANDOM.standard_normal((4, 4)).astype(np.float32),
    "bias": RANDOM.standard_normal(4).astype(np.float32),
}
X = (RANDOM.standard_normal((16, 3, 8, 8)) + 0.5).astype(np.float32)
SAMPLES: list[Mapping[str, Array]] = [{"x": X[number : number + 1]} for number in range(len(X))]


def known(scheme: Scheme) -> Workbench:
    measured = measure(as_model(onnx_text(RESIDUAL, **WEIGHTS)), [scheme])
    return workbench(measured).calibrated(observe(measured, ArraySource("s", {"x": X}), len(X)))


def whole(proto: onnx.ModelProto, tensors: list[str], sample: Mapping[str, Array]) -> list[Array]:
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    del copy.graph.output[:]
    copy.graph.output.extend(map(onnx.helper.make_empty_tensor_value_info, tensors))
    return run(copy, dict(sample))


def test_pieces_compute_what_the_whole_computes() -> None:
    proto = onnx_text(RESIDUAL, **WEIGHTS)
    goals = ["a", "b", "d", "y"]
    frontier = Frontier(as_stored(as_model(proto)), goals, SAMPLES)
    wanted = [whole(proto, goals, sample) for sample in SAMPLES]
    for place, goal in enumerate(goals):
        frontier.advance()
        for found, values in zip(frontier.values(goal), wanted, strict=True):
            np.testing.assert_allclose(found, values[place], atol=1e-4)


def test_what_a_piece_reads_and_leaves() -> None:
    first, second, third = pieces(onnx_text(RESIDUAL, **WEIGHTS).graph, ["a", "b", "d"])
    assert first.inputs == ("x",) and first.outputs == ("a",) and first.kept == {"a"}
    # The Relu is read by the sum behind the next layer too.
    assert second.inputs == ("a",) and second.outputs == ("b", "r") and second.kept == {"b", "r"}
    # What does not depend on the inputs is computed where it is read, and nothing is left for later.
    assert third.inputs == ("b", "r") and third.kept == {"d"}
    assert [node.op_type for node in third.nodes] == ["Constant", "Exp", "Mul", "Add", "Conv"]


def test_a_shift_reaches_all_that_comes_later() -> None:
    proto = onnx_text(RESIDUAL, **WEIGHTS)
    frontier = Frontier(as_stored(as_model(proto)), ["a", "y"], SAMPLES[:2])
    frontier.advance()
    by = np.arange(4.0)
    frontier.shift("a", by, 1)
    frontier.advance()
    bias = onnx.helper.make_node("Conv", ["x", "first", "moved"], ["a"], pads=[1, 1, 1, 1])
    place = next(number for number, node in enumerate(proto.graph.node) if node.output[0] == "a")
    proto.graph.node[place].CopyFrom(bias)
    moved = (WEIGHTS["bias"] + by).astype(np.float32)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(moved, "moved"))
    for found, sample in zip(frontier.values("y"), SAMPLES, strict=False):
        np.testing.assert_allclose(found, whole(proto, ["y"], sample)[0], atol=1e-4)


def test_subgraphs_read_the_frontier() -> None:
    text = """
    agraph (float[N, 3] x, bool c) => (float[N, 3] y) {
      a = Gemm(x, w)
      b = Gemm(a, w)
      y = If (c) <then_branch = g () => (float[N, 3] p) { p = Gemm(a, w) },
                  else_branch = e () => (float[N, 3] q) { q = Add(a, b) }>
    }"""
    proto = onnx_text(text, w=RANDOM.standard_normal((3, 3)).astype(np.float32))
    sample = {"x": RANDOM.standard_normal((2, 3)).astype(np.float32), "c": np.array(True)}
    frontier = Frontier(as_stored(as_model(proto)), ["b", "y"], [sample])
    frontier.advance()
    frontier.advance()
    (found,) = frontier.values("y")
    np.testing.assert_allclose(found, whole(proto, ["y"], sample)[0], atol=1e-5)


def test_a_list_of_tensors_between_layers_is_told() -> None:
    text = """
    agraph (float[4, 3] x) => (float[4, 3] y) {
      parts = SplitToSequence(x)
      a = Gemm(x, w)
      first = SequenceAt(parts, zero)
      b = Gemm(first, w)
      y = Add(a, b)
    }"""
    proto = onnx_text(text, w=np.eye(3, dtype=np.float32), zero=np.array(0))
    sample = {"x": np.ones((4, 3), np.float32)}
    goals = ["first", "b"]
    Frontier(as_stored(as_model(proto)), goals, [sample]).advance()
    frontier = Frontier(as_stored(as_model(proto)), ["parts", "b"], [sample])
    with pytest.raises(NotRunnableError, match="list of tensors"):
        frontier.advance()


def test_samples_without_room_are_left_out() -> None:
    small = replace(DEFAULT_LIMITS, frontier_bytes=5 * X[0].nbytes)
    assert len(that_fit(SAMPLES, small)) == 5
    frontier = Frontier(as_stored(as_model(onnx_text(RESIDUAL, **WEIGHTS))), ["a", "y"], SAMPLES, small)
    frontier.advance()
    # A result has four channels where the input has three.
    assert frontier.samples == 3
    one = Frontier(
        as_stored(as_model(onnx_text(RESIDUAL, **WEIGHTS))), ["y"], SAMPLES[:1], replace(small, frontier_bytes=1)
    )
    one.advance()
    assert one.samples == 1 == len(that_fit(SAMPLES, replace(small, frontier_bytes=1)))


@pytest.mark.parametrize("scheme", [INT8_PER_TENSOR, INT8_PER_CHANNEL, INT8_DYNAMIC])
def test_the_mean_error_of_each_layer_goes_away(scheme: Scheme) -> None:
    bench, experiment = known(scheme), Experiment(scheme)
    shifts = measure_shifts(bench, experiment, lambda: iter(SAMPLES))
    assert shifts
    changed = replace(workbench(measure(corrected(bench.measured, shifts), [scheme])), observations=bench.observations)
    errors = [mean_errors(bench, own, experiment) for own in (bench, changed)]
    for layer in shifts:
        before, after = (np.abs(found[layer]).sum() for found in errors)
        assert after < 0.6 * before, layer


def mean_errors(bench: Workbench, own: Workbench, experiment: Experiment) -> dict[str, Array]:
    layers = [layer.output for layer in bench.measured.layers]
    exact, rounded = (
        Session(replace(made, proto=with_outputs(made.proto, layers)))
        for made in (bench.float_model, own.executable(experiment))
    )
    sums = [
        [values.mean(axis=tuple(axis for axis in range(values.ndim) if axis != 1)) for values in session.run(sample)]
        for session in (exact, rounded)
        for sample in SAMPLES
    ]
    half = len(SAMPLES)
    found = {}
    for place, layer in enumerate(layers):
        floats, codes = ([row[place] for row in rows] for rows in (sums[:half], sums[half:]))
        found[layer] = np.mean(floats, axis=0) - np.mean(codes, axis=0)
    return found


def with_outputs(proto: onnx.ModelProto, tensors: list[str]) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    del copy.graph.output[:]
    copy.graph.output.extend(map(onnx.helper.make_empty_tensor_value_info, tensors))
    return copy


def test_layers_that_stay_in_float_are_not_shifted() -> None:
    proto = onnx_text(RESIDUAL, **WEIGHTS)
    for node in proto.graph.node:
        node.name = f"n_{node.output[0]}"
    measured = measure(as_model(proto), [INT8_PER_TENSOR])
    bench = workbench(measured).calibrated(observe(measured, ArraySource("s", {"x": X}), len(X)))
    experiment = Experiment(INT8_PER_TENSOR, excluded=frozenset({"n_y", "n_p", "n_f"}))
    assert "y" not in measure_shifts(bench, experiment, lambda: iter(SAMPLES))


def test_it_runs_with_room_for_few_samples() -> None:
    bench = replace(known(INT8_PER_TENSOR), limits=replace(DEFAULT_LIMITS, frontier_bytes=6 * X[0].nbytes))
    assert measure_shifts(bench, Experiment(INT8_PER_TENSOR), partial(iter, SAMPLES))


@given(st.integers(2, 40), st.integers(0, 2**31), st.floats(0.01, 100))
def test_no_more_than_the_mean_is_taken_and_nothing_of_chance(count: int, seed: int, spread: float) -> None:
    random = np.random.default_rng(seed)
    errors = random.standard_normal((count, 3)) * spread
    found, mean = beyond_chance(errors), errors.mean(axis=0)
    assert (np.abs(found) <= np.abs(mean)).all() and (found * mean >= 0).all()
    chance = errors.std(axis=0, ddof=1) / np.sqrt(count)
    assert not found[np.abs(mean) <= chance].any()
    np.testing.assert_allclose(beyond_chance(np.broadcast_to(mean, (count, 3))), mean, rtol=1e-6)


def test_nothing_is_taken_of_one_sample_or_of_what_is_not_finite() -> None:
    assert not beyond_chance(np.ones((1, 3))).any()
    errors = np.ones((4, 2))
    errors[1, 0] = np.nan
    assert beyond_chance(errors).tolist() == [0, 1]
