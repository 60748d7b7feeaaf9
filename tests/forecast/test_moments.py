"""The forward pass: the samples of every tensor have the moments that the tensor has when the model runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import erf, sqrt

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_cases import Array, as_model, onnx_text, run

from onnxlint_q.analysis.folding import fold_batch_norms
from onnxlint_q.analysis.outputs.output_kind import Output, find_outputs
from onnxlint_q.forecast import population
from onnxlint_q.forecast.backward import output_costs
from onnxlint_q.forecast.ends import find_ends
from onnxlint_q.forecast.forward import Propagation, propagate
from onnxlint_q.forecast.operators.layers import Kernel
from onnxlint_q.forecast.operators.regroup import pair_blocks
from onnxlint_q.forecast.population import (
    IMAGES,
    POSITIONS,
    SIZE,
    field,
    image_mean,
    image_power,
    read_taps,
    write_taps,
)
from onnxlint_q.forecast.transfer import Diagonal, OutputCost
from onnxlint_q.graph import Model, find_layers
from onnxlint_q.graph.settled import UNKNOWN, Settled

few = settings(max_examples=15, deadline=None, derandomize=True, database=None)
seeds = st.integers(0, 2**32 - 1)


def settled_values(model: Model) -> Mapping[str, Array]:
    """Values of computed tensors that do not depend on the inputs."""
    settled = Settled(model, model.shape)
    for node in model.nodes:
        settled.add(node)
    return settled.values


def costs(model: Model, found: Propagation) -> Mapping[str, OutputCost]:
    """What an error in each tensor costs; no rule may fail on the way."""
    found_costs, failures = output_costs(model, found, find_ends(find_outputs(model), found.samples))
    assert not failures and not found.failures
    return found_costs


def forward(model: Model) -> Propagation:
    return propagate(model, fold_batch_norms(model, list(find_layers(model))).layers)


def pushed(body: str, channels: int = 64, /, **arrays: npt.ArrayLike) -> Propagation:
    return forward(as_model(onnx_text(f"g (float[1,{channels},8,8] x) => (float[a,b,c,d] y) {{ {body} }}", **arrays)))


@pytest.mark.parametrize(
    ("body", "function"),
    [
        ("s = Sigmoid(x)  y = Mul(x, s)", lambda x: x / (1 + np.exp(-x))),
        ("s = HardSigmoid <alpha=0.16666667> (x)  y = Mul(x, s)", lambda x: x * np.clip(x / 6 + 0.5, 0, 1)),
        ("s = Softplus(x)  t = Tanh(s)  y = Mul(x, t)", lambda x: x * np.tanh(np.log1p(np.exp(x)))),
        ("d = Div(x, r)  e = Erf(d)  f = Add(e, one)  h = Mul(x, f)  y = Mul(h, half)", None),
    ],
)
def test_activations_written_in_several_nodes_are_followed_exactly(body: str, function: object) -> None:
    found = pushed(body, r=np.float32(sqrt(2)), one=np.float32(1), half=np.float32(0.5))
    x = found.samples["x"].astype(np.float64)
    want = function(x) if callable(function) else x * 0.5 * (1 + np.vectorize(erf)(x / sqrt(2)))
    np.testing.assert_allclose(found.samples["y"], want, atol=1e-5)
    assert not found.unknown


@given(seed=seeds, groups=st.sampled_from([1, 2, 4]), taps=st.sampled_from([1, 4, 9]))
@few
def test_pull_is_the_adjoint_of_push(seed: int, groups: int, taps: int) -> None:
    rng = np.random.default_rng(seed)
    kernel = Kernel(rng.standard_normal((groups, 3, 5, taps)).astype(np.float32))
    x = rng.standard_normal((SIZE, 5 * groups)).astype(np.float32)
    rows = rng.standard_normal((SIZE, 3 * groups)).astype(np.float32)
    left, right = float(np.vdot(kernel.push(x), rows)), float(np.vdot(x, kernel.pull(rows)[0]))
    assert left == pytest.approx(right, abs=1e-3 * float(np.linalg.norm(kernel.push(x)) * np.linalg.norm(rows)))


def test_neighbours_correlate_as_stated() -> None:
    x = field(np.random.default_rng(0), (200,))
    within = x - image_mean(x)
    other = read_taps(x, 2, lambda tap, v: v if tap == 0 else 0 * v, x) - image_mean(x)
    correlation = np.vdot(within, other) / (np.linalg.norm(within) * np.linalg.norm(other))
    assert correlation == pytest.approx(sqrt(population.NEIGHBOUR_CORRELATION), abs=0.15)
    np.testing.assert_allclose(write_taps(x, 1, lambda tap, v: v, x)[0], x)


def test_white_noise_is_averaged_by_a_kernel_more_than_what_neighbours_share() -> None:
    rows = field(np.random.default_rng(0), (50,))
    smooth = np.float32(1 / 9)
    pulled, apart = write_taps(rows, 9, lambda tap, v: v * smooth, rows)
    own = 9 * float(smooth) ** 2 * image_power(rows)
    assert apart * image_power(pulled) == pytest.approx(own, rel=1e-3)
    assert apart.max() < 0.7


def test_a_channel_that_was_dead_in_training_passes_no_error_on() -> None:
    body = "y = BatchNormalization(x, one, one, one, v)"
    variance = np.array([1e-30, 0.25, 1, 100], np.float32)
    found = pushed(body, 4, one=np.ones(4, np.float32), v=variance)
    transfer = found.steps[-1][1].edges[0].transfer
    assert isinstance(transfer, Diagonal)
    slope = np.asarray(transfer.slope)[0, 0, :, 0, 0] * np.sqrt(variance + 1e-5)
    # The population has unit variance: what varied less in training shrinks errors by two thirds of that, in
    # decibels; what varied more leaves them.
    np.testing.assert_allclose(slope, [0, 0.5 ** (2 / 3), 1, 1], atol=1e-2)


def test_an_old_softmax_over_two_classes_adds_up_to_one_where_no_shape_is_known() -> None:
    text = (
        "g (float[1,4,6,6] x) => (float[a,b,c] y)"
        "{ t = Transpose <perm=[0,2,3,1]> (x)  r = Reshape(t, s)  y = Softmax <axis=2> (r) }"
    )
    found = forward(as_model(onnx_text(text, s=np.array([1, -1, 2]))))
    np.testing.assert_allclose(found.samples["y"].sum(axis=-1), 1, atol=1e-5)


def test_a_constant_output_has_no_variance() -> None:
    def varying(body: str, **arrays: npt.ArrayLike) -> float:
        (end,) = find_ends([Output("y")], pushed(body, **arrays).samples)
        return end.varying

    assert varying("z = Mul(x, c)  y = Add(z, d)", c=np.float32(1e-3), d=np.float32(1)) < 1e-5
    assert varying("y = Mul(x, c)", c=np.float32(2)) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize(
    ("before", "after", "blocks"),
    [
        ((1, 48, 44, 44), (24, 2, 1936), [([0, 1], [0, 1]), ([2, 3], [2])]),
        ((None, 1280, 1, 1), (None, 1280), [([0], [0]), ([1], [1]), ([2, 3], [])]),
        ((2, 3, None), (6, None), [([0, 1], [0]), ([2], [1])]),
    ],
)
def test_reshape_pairs_runs_of_axes(
    before: tuple[int | None, ...], after: tuple[int | None, ...], blocks: list[tuple[list[int], list[int]]]
) -> None:
    assert pair_blocks(before, after) == blocks


def test_a_gate_multiplies_and_a_global_pool_averages_within_an_image() -> None:
    found = pushed("p = GlobalAveragePool(x)  s = Sigmoid(p)  y = Mul(x, s)")
    p = found.samples["p"]
    np.testing.assert_allclose(p, image_mean(found.samples["x"]), atol=1e-6)
    np.testing.assert_allclose(found.samples["y"], found.samples["x"] * found.samples["s"], atol=1e-6)


def test_shape_arithmetic_of_exporters_is_evaluated() -> None:
    model = as_model(
        onnx_text(
            "g (float[1,12,4,5] x) => (float[a,b,c] y)"
            "{ s = Shape(x)  n = Gather(s, at)  t = Concat <axis=0> (n, rest)  y = Reshape(x, t) }",
            at=np.array([0]),
            rest=np.array([-1, 2]),
        )
    )
    assert settled_values(model)["t"].tolist() == [1, -1, 2]


def test_the_grid_of_a_detector_is_computed_as_the_runtime_does() -> None:
    body = """
        shape = Shape(x)  h = Gather(shape, two)  hf = Cast <to = 1> (h)  line = Range(zero, hf, one)
        moved = Add(line, half)  column = Unsqueeze(moved, last)  hs = Unsqueeze(h, at0)
        square = Concat <axis = 0> (hs, hs)
        grid = Expand(column, square)  other = Transpose(grid)  a = Unsqueeze(grid, last2)  b = Unsqueeze(other, last2)
        both = Concat <axis = -1> (a, b)  flat = Reshape(both, pairs)  y = Mul(flat, eight)
    """
    proto = onnx_text(
        f"g (float[1,3,4,4] x) => (float[16,2] y) {{ {body} }}",
        two=np.int64(2),
        zero=np.float32(0),
        one=np.float32(1),
        half=np.float32(0.5),
        eight=np.float32(8),
        at0=np.array([0]),
        last=np.array([1]),
        last2=np.array([2]),
        pairs=np.array([-1, 2]),
    )
    (want,) = run(proto, {"x": np.zeros((1, 3, 4, 4), np.float32)})
    assert np.array_equal(settled_values(as_model(proto))["y"], want)


def test_an_unknown_length_leaves_the_others_known() -> None:
    model = as_model(
        onnx_text(
            "g (float[1,3,H,8] x) => (int64[2] y) { s = Shape(x)  y = Slice(s, from, to)  z = Add(y, one) }",
            **{"from": np.array([2]), "to": np.array([4]), "one": np.array([1])},
        )
    )
    values = settled_values(model)
    assert values["y"].tolist() == [UNKNOWN, 8] and "z" not in values


def test_values_are_bounded() -> None:
    model = as_model(
        onnx_text(
            "g (float[1] x) => (float[a,b] y) { big = Expand(one, size)  y = Add(x, big) }",
            one=np.array([1], np.float32),
            size=np.array([1 << 20, 1 << 20]),
        )
    )
    assert settled_values(model) == {}


@pytest.mark.parametrize(
    "body",
    [
        "y = Gather(row, picks)",
        "y = Where(flag, row, column)",
        "y = Div(row, column)",
        f"y = Concat <axis=1> ({', '.join(['row'] * 2000)})",
        "y = Min(four, four, row)",
        "y = Cast <to=99> (four)",
        "y = Cast <to=0> (four)",
    ],
)
def test_what_is_too_large_or_odd_is_not_computed(body: str) -> None:
    arrays: dict[str, Array] = {
        "row": np.zeros((1, 1 << 16), np.float32),
        "column": np.zeros((1 << 16, 1), np.float32),
        "picks": np.zeros(1 << 16, np.int64),
        "flag": np.array(True),
        "four": np.ones((1, 4), np.float32),
    }
    model = as_model(onnx_text(f"g (float[1] x) => (float y) {{ {body}  z = Add(x, y) }}", **arrays))
    # Folded constants come from the same file; here every operand is one that was computed.
    settled = Settled(model, model.shape)
    settled.values.update(arrays)
    assert not settled.add(next(node for node in model.nodes if node.outputs[0] == "y"))


def test_a_fill_value_is_not_read_from_another_file() -> None:
    proto = onnx_text("g (float[1] x) => (float y) { s = Shape(x)  f = ConstantOfShape(s)  y = Add(x, f) }")
    fill = proto.graph.node[1].attribute.add(name="value", type=onnx.AttributeProto.TENSOR).t
    fill.MergeFrom(onnx.TensorProto(dims=[1], data_type=1, data_location=onnx.TensorProto.EXTERNAL))
    fill.external_data.add(key="location", value="/no/such/file")
    assert set(settled_values(as_model(proto))) == {"s"}


@pytest.mark.parametrize(("op", "pick"), [("ReduceMax", np.max), ("ReduceMin", np.min)])
def test_an_extreme_is_one_of_the_values_and_its_error_comes_from_there(op: str, pick: Callable[..., Array]) -> None:
    model = as_model(onnx_text(f"g (float[1,64,8,8] x) => (float[1,1,8,8] y) {{ y = {op} <axes = [1]> (x) }}"))
    found = propagate(model, [])
    x, y = found.samples["x"], found.samples["y"]
    assert np.array_equal(y, pick(x, axis=2, keepdims=True))
    rows = costs(model, found)["x"].rows
    assert np.array_equal(rows != 0, x == y)


def test_the_largest_of_all_places_is_taken_within_an_image() -> None:
    found = forward(
        as_model(onnx_text("g (float[1,4,8,8] x) => (float[1,4] y) { y = ReduceMax <axes=[2,3], keepdims=0> (x) }"))
    )
    x, y = (found.samples[key].reshape(IMAGES, POSITIONS, 4) for key in ("x", "y"))
    assert np.array_equal(y, np.broadcast_to(x.max(axis=1, keepdims=True), y.shape))


def test_a_pointwise_layer_keeps_the_places_that_are_told_apart() -> None:
    """The anchors of a detector differ; a 1x1 convolution behind them must not average them away."""
    grid = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)
    weight = np.array([[2.0], [-1.0]], np.float32).reshape(2, 1, 1, 1)
    model = as_model(
        onnx_text("g (float[1,1,4,4] x) => (float[1,2,4,4] y) { a = Add(x, g0)  y = Conv(a, w) }", g0=grid, w=weight)
    )
    samples = forward(model).samples
    assert samples["y"] == pytest.approx(samples["a"] * weight[None, None, :, 0], rel=1e-5)


def test_tensors_with_different_runs_of_places_meet_in_a_concat() -> None:
    body = "a = Add(x, fine)  b = Mul(x, coarse)  y = Concat <axis = 1> (a, b)"
    fine, coarse = np.arange(2048, dtype=np.float32).reshape(1, 1, 2048), np.array([[[2.0]]], np.float32)
    model = as_model(onnx_text(f"g (float[1,1,2048] x) => (float[1,2,2048] y) {{ {body} }}", fine=fine, coarse=coarse))
    y = forward(model).samples["y"]
    assert y.shape[2] == 2 and y[:, 0, 0].std() > 100 and y[:, 0, 1].std() < 3


def test_tokens_beside_steps_that_are_told_apart_are_not_all_the_same() -> None:
    """An embedding of ids, one for all steps, is joined to features of each step, as a reader of text does."""
    model = as_model(
        onnx_text(
            "g (float[1,6,3] x, int64[1,6] i) => (float[1,6,7] y) "
            "{ e = Gather(t, i)  m = MatMul(x, w)  y = Concat <axis = -1> (e, m) }",
            t=np.random.default_rng(0).standard_normal((40, 4)).astype(np.float32),
            w=np.eye(3, dtype=np.float32),
        )
    )
    found = forward(model)
    joined, tokens = found.samples["y"][:, 0, :, :4], found.samples["e"]
    assert tokens.shape[2] == 1 and joined.shape[1] == 6
    first, other = (joined[:, step].ravel() for step in (0, 3))
    assert abs(np.corrcoef(first, other)[0, 1]) < 0.5
    there, before = (np.sort(values.reshape(IMAGES, -1)) for values in (joined[:, 3], tokens))
    np.testing.assert_array_equal(there, before)
    # The way back is the adjoint of the way there.
    (step,) = (step for node, step in found.steps if node.op_type == "Concat")
    rows = np.random.default_rng(1).standard_normal(found.samples["y"].shape).astype(np.float32)
    back = sum(
        float((edge.transfer.pull(OutputCost(rows)).rows * found.samples[edge.source]).sum()) for edge in step.edges
    )
    assert back == pytest.approx(float((rows * found.samples["y"]).sum()), rel=1e-3)


@pytest.mark.parametrize(
    "text",
    [
        "g (float x) => (float y) { y = Relu(x) }",
        "g (float[a,b] x) => (float y) { y = Foo(x) }",
        "g (float[N,3,H,W,D] x) => (float y) { s = Shape(x)  y = Reshape(x, s) }",
        "g (float[2] x) => (float y) { y = Softmax(x) }",
        "g (int64[2] x) => (int64 y) { y = Add(x, x) }",
        "g (float[1,4,2,2] x) => (float y) { y = Concat <axis=9> (x, x) }",
        "g (float[1,4,2,2] x) => (float y) { a, b = Split <axis=1> (x)  y = Mul(a, b) }",
        "g (float[0,3] x) => (float y) { y = ReduceMean(x) }",
    ],
)
def test_odd_graphs_do_not_crash(text: str) -> None:
    found = forward(as_model(onnx_text(text)))
    assert all(np.isfinite(samples).all() for samples in found.samples.values())


def test_a_graph_that_doubles_its_tensors_stays_small() -> None:
    body = "  ".join(f"t{i + 1} = Concat <axis=1> (t{i}, t{i})" for i in range(40))
    model = as_model(onnx_text(f"g (float[1,2,1,1] t0) => (float[a,b,c,d] y) {{ {body}  y = Relu(t40) }}"))
    found = forward(model)
    assert next(iter(found.unknown)) == "Concat"  # there is no room for what comes after it
    assert max(samples.nbytes for samples in found.samples.values()) < 1 << 28


def test_a_huge_pad_is_refused() -> None:
    pads = np.array([0, 0, 0, 0, 0, 1 << 40, 0, 0])
    found = forward(as_model(onnx_text("g (float[1,2,1,1] x) => (float[a,b,c,d] y) { y = Pad(x, p) }", p=pads)))
    assert list(found.unknown) == ["Pad"]


@pytest.mark.parametrize(
    ("unknown", "body"),
    [
        ("MatMul", "t = Transpose <perm=[0,1,3,2]> (m)  y = MatMul(t, m)"),
        ("Gather", "y = Gather <axis=1> (x, picks)"),
        ("SpaceToDepth", "y = SpaceToDepth <blocksize=100> (x)"),
        ("Split", f"{', '.join(f's{i}' for i in range(100))} = Split <axis=2> (x)  y = Relu(s0)"),
        ("Concat", f"y = Concat <axis=1> ({', '.join(['x'] * 2000)})"),
        ("Sum", f"y = Sum({', '.join(['x'] * 2000)})"),
        ("LayerNormalization", "y = LayerNormalization(m, wide, wide)"),
        ("BatchNormalization", "c = ReduceMean <axes=[1]> (x)  y = BatchNormalization(c, wide, wide, wide, wide)"),
    ],
)
def test_a_result_too_large_to_represent_is_refused(unknown: str, body: str) -> None:
    text = f"g (float[1,2048,H,W] x) => (float[a,b,c,d] y) {{ m = Transpose <perm=[0,2,3,1]> (x)  {body} }}"
    arrays: dict[str, Array] = {"picks": np.zeros(1 << 18, np.int64), "wide": np.ones(1 << 18, np.float32)}
    found = forward(as_model(onnx_text(text, **arrays)))
    assert list(found.unknown) == [unknown]
    assert max(samples.nbytes for samples in found.samples.values()) < 1 << 28


def test_a_depthwise_kernel_reads_as_any_other_does() -> None:
    """The same weights as one group with zeros elsewhere give the same samples and the same adjoint."""
    draw = np.random.default_rng(5)
    blocks = draw.standard_normal((6, 1, 1, 9)).astype(np.float32)
    full = np.zeros((1, 6, 6, 9), np.float32)
    full[0, np.arange(6), np.arange(6)] = blocks[:, 0, 0]
    x = field(draw, (6,))
    assert Kernel(blocks).push(x) == pytest.approx(Kernel(full).push(x), abs=1e-4)
    (rows, apart), (want, want_apart) = Kernel(blocks).pull(x), Kernel(full).pull(x)
    assert rows == pytest.approx(want, abs=1e-4) and apart == pytest.approx(want_apart, rel=1e-4)
