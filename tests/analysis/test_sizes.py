"""Open axes: what the graph demands of them is found, ONNX Runtime runs what is taken, and what is given is checked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from conftest import FIXTURES, public_network
from hypothesis import assume, given
from hypothesis import strategies as st
from onnx_cases import as_model, detector, onnx_text, run

from onnxlint_q.analysis.sizes.given import with_given
from onnxlint_q.analysis.sizes.lengths import Grid
from onnxlint_q.analysis.sizes.solve import Taken, take_shapes
from onnxlint_q.analysis.sizes.walk import walk
from onnxlint_q.errors import UsageError
from onnxlint_q.graph import Model, read_model
from onnxlint_q.graph.loading.build import declared


def weight(*shape: int) -> npt.NDArray[np.float32]:
    return np.full(shape, 0.01, np.float32)


HALVE = "Conv <strides = [2, 2], pads = [1, 1, 1, 1]>"
RECOGNISER = f"""g (float[N, 3, H, W] x) => (float[N, T, 5] y) {{
  a = {HALVE} (x, first)
  b = Conv <strides = [2, 1], pads = [1, 1, 1, 1]> (a, same)
  c = Conv <strides = [2, 1], pads = [1, 1, 1, 1]> (b, same)
  d = Conv <strides = [2, 1], pads = [1, 1, 1, 1]> (c, same)
  e = Reshape(d, columns)
  f = Transpose <perm = [0, 2, 1]> (e)
  y = MatMul(f, words)
}}"""
ANCHORS = f"""g (float[1, 3, H, W] x) => (float[1, K, 4] y) {{
  a = {HALVE} (x, first)
  b = {HALVE} (a, same)
  at = Transpose <perm = [0, 2, 3, 1]> (a)
  bt = Transpose <perm = [0, 2, 3, 1]> (b)
  s = Shape(at)
  n = Gather <axis = 0> (s, zero)
  n1 = Unsqueeze(n, axes)
  rows = Concat <axis = 0> (n1, rest)
  ar = Reshape(at, rows)
  br = Reshape(bt, rows)
  all = Concat <axis = 1> (ar, br)
  y = Add(all, anchors)
}}"""
CASES: dict[str, tuple[onnx.ModelProto, dict[str, tuple[int, ...]], str]] = {
    "reshape": (
        onnx_text(
            f"g (float[N, 3, H, W] x) => (float[M, 80] y) {{ a = {HALVE} (x, w) y = Reshape <allowzero = 0> (a, to) }}",
            w=weight(4, 3, 3, 3),
            to=np.asarray([1, 4 * 20 * 15]),
        ),
        {"x": (1, 3, 30, 40)},
        "Reshape",
    ),
    "shuffle": (
        onnx_text(
            f"""g (float[1, 3, H, W] x) => (float[1, 8, A, B] y) {{
                a = {HALVE} (x, w) b = {HALVE} (a, v) c = Reshape(b, apart) d = Transpose <perm = [0, 2, 1, 3, 4]> (c)
                y = Reshape(d, back) }}""",
            w=weight(8, 3, 3, 3),
            v=weight(8, 8, 3, 3),
            apart=np.asarray([1, 2, 4, 13, 13]),
            back=np.asarray([1, -1, 13, 13]),
        ),
        {"x": (1, 3, 52, 52)},
        "Reshape",
    ),
    "recogniser": (
        onnx_text(
            RECOGNISER,
            first=weight(8, 3, 3, 3),
            same=weight(8, 8, 3, 3),
            columns=np.asarray([0, 24, -1]),
            words=weight(24, 5),
        ),
        {"x": (1, 3, 48, 224)},
        "Reshape",
    ),
    "channels last": (
        onnx_text(
            f"""g (float[N, H, W, C] x) => (float[N, 10] y) {{
                t = Transpose <perm = [0, 3, 1, 2]> (x) a = {HALVE} (t, w) c = Flatten(a) y = Gemm(c, m) }}""",
            w=weight(4, 3, 3, 3),
            m=weight(4 * 16 * 16, 10),
        ),
        {"x": (1, 32, 32, 3)},
        "Gemm",
    ),
    "gemm": (
        onnx_text(
            f"""g (float[N, C, H, W] x) => (float[N, 10] y) {{
                a = {HALVE} (x, w) b = {HALVE} (a, v) c = Flatten(b) y = Gemm(c, m) }}""",
            w=weight(4, 3, 3, 3),
            v=weight(4, 4, 3, 3),
            m=weight(4 * 8 * 8, 10),
        ),
        {"x": (1, 3, 32, 32)},
        "Gemm",
    ),
    "anchors": (
        onnx_text(
            ANCHORS,
            first=weight(4, 3, 3, 3),
            same=weight(4, 4, 3, 3),
            zero=np.asarray(0),
            axes=np.asarray([0]),
            rest=np.asarray([-1, 4]),
            anchors=weight(1, 60 * 80 + 30 * 40, 4),
        ),
        {"x": (1, 3, 120, 160)},
        "Add",
    ),
    "added": (
        onnx_text("g (float[N, T, 8] x) => (float[N, T, 8] y) { y = Add(x, p) }", p=weight(1, 77, 8)),
        {"x": (1, 77, 8)},
        "Add",
    ),
    "sliced": (
        onnx_text(
            "g (float[N, 1, T] x) => (float[N, 1, U] y) { a = Slice(x, s, e, d) b = Reshape(a, to) y = Mul(b, b) }",
            s=np.asarray([40]),
            e=np.asarray([2**62]),
            d=np.asarray([2]),
            to=np.asarray([1, 1, 400]),
        ),
        {"x": (1, 1, 440)},
        "Reshape",
    ),
    "expanded": (
        onnx_text(
            "g (float[N, T] x) => (float[2, 12] y) { y = Expand(x, to) }",
            to=np.asarray([2, 12]),
        ),
        {"x": (1, 12)},
        "Expand",
    ),
}


def taken(proto: onnx.ModelProto) -> Taken:
    found = take_shapes(as_model(proto))
    assert found is not None
    return found


def noise(shapes: dict[str, tuple[int, ...]]) -> dict[str, npt.NDArray[np.float32]]:
    return {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}


@pytest.mark.parametrize("name", CASES)
def test_what_the_graph_demands_is_taken(name: str) -> None:
    proto, shapes, by = CASES[name]
    found = taken(proto)
    assert found.shapes == shapes
    assert found.fixed.startswith(f"the {by} ")
    run(proto, noise(dict(found.shapes)))


def test_a_free_network_gets_the_usual_size_and_others_to_try() -> None:
    proto = onnx_text(
        f"g (float[N, 3, H, W] x) => (float[N, 4, A, B] y) {{ y = {HALVE} (x, w) }}", w=weight(4, 3, 3, 3)
    )
    found = taken(proto)
    assert (found.shapes, found.fixed) == ({"x": (1, 3, 224, 224)}, "")
    assert found.others[0] == {"x": (1, 3, 256, 256)}


def test_what_comes_back_enlarged_has_to_fit() -> None:
    """A detector that adds up scales takes multiples of its stride alone."""
    proto = onnx_text(
        f"""g (float[N, 3, H, W] x) => (float[N, 4, A, B] y) {{
            a = {HALVE} (x, w) b = {HALVE} (a, v) c = {HALVE} (b, v) d = Resize <mode = "nearest"> (c, , up)
            y = Add(a, d) }}""",
        w=weight(4, 3, 3, 3),
        v=weight(4, 4, 3, 3),
        up=np.asarray([1, 1, 4, 4], np.float32),
    )
    found = taken(proto)
    assert found.shapes == {"x": (1, 3, 224, 224)} and not found.fixed
    for other in found.others:
        run(proto, noise(dict(other)))


def test_axes_of_one_name_are_one() -> None:
    proto = onnx_text(
        "g (float[batch, T, 8] x, float[batch, T, 4] z) => (float[batch, T, 12] y) "
        "{ a = Concat <axis = 2> (x, z) y = Add(a, p) }",
        p=weight(1, 33, 12),
    )
    assert taken(proto).shapes == {"x": (1, 33, 8), "z": (1, 33, 4)}


def test_a_first_axis_that_comes_out_elsewhere_is_no_batch() -> None:
    wave = onnx_text(
        "g (float[T] x) => (float[1, 2, U] y) { a = Unsqueeze(x, front) y = Conv <strides = [8]> (a, w) }",
        front=np.asarray([0, 1]),
        w=weight(2, 1, 16),
    )
    assert taken(wave).samples == {"x"}
    rows = onnx_text("g (float[T, W] x) => (float[T, W] y) { y = Mul(x, x) }")
    assert taken(rows).samples == frozenset()


def test_an_axis_that_is_put_in_twice_tells_nothing() -> None:
    proto = onnx_text(
        "g (float[N, 3, H, W] x) => (float[N, 4, U, V] y) { a = Unsqueeze(x, twice) b = Conv(x, w) y = Add(b, a) }",
        w=weight(4, 3, 3, 3),
        twice=np.array([0, 0]),
    )
    assert set(taken(proto).shapes) == {"x"}


def test_many_open_axes_are_solved_one_by_one() -> None:
    """States of a decoder, each with a length of its own name, and one length that a table fixes."""
    states = [f"float[N, 2, P{number}, 4] s{number}" for number in range(40)]
    body = " ".join(f"r{number} = Relu(s{number})" for number in range(40))
    results = ", ".join(f"float[N, 2, Q{number}, 4] r{number}" for number in range(40))
    proto = onnx_text(
        f"g (float[N, T, 8] x, {', '.join(states)}) => (float[N, T, 8] y, {results}) {{ y = Add(x, p) {body} }}",
        p=weight(1, 77, 8),
    )
    found = taken(proto)
    assert found.shapes["x"] == (1, 77, 8) and found.fixed.startswith("the Add ")
    run(proto, noise(dict(found.shapes)))


def test_nothing_is_taken_where_only_the_batch_is_open() -> None:
    assert take_shapes(as_model(onnx_text("g (float[N, 3] x) => (float[N, 3] y) { y = Mul(x, x) }"))) is None
    assert take_shapes(as_model(detector())) is None


def test_a_stated_shape_decides_only_where_it_contradicts_nothing() -> None:
    text = "g (float[N, 3, H, W] x) => (float[N, 4, 80, 80] y) {{ y = {} (x, w) }}"
    proto = onnx_text(text.format(HALVE), w=weight(4, 3, 3, 3))
    assert taken(proto).shapes == {"x": (1, 3, 160, 160)}
    left_over = onnx_text(
        "g (float[N, T, 8] x) => (float[N, 50, 8] y) { y = Add(x, p) }",
        p=weight(1, 77, 8),
    )
    assert taken(left_over).shapes == {"x": (1, 77, 8)}


def test_a_graph_that_runs_at_no_size_still_gets_one() -> None:
    proto = onnx_text(
        "g (float[N, T, 8] x) => (float[N, T, 8] y) { a = Add(x, p) y = Add(a, q) }",
        p=weight(1, 77, 8),
        q=weight(1, 50, 8),
    )
    assert taken(proto).shapes["x"][1] in {1, 50, 77}


# -- the law: what is taken runs ---------------------------------------------------------------------------------------

SIDES = st.integers(8, 72)
STEPS = st.lists(
    st.sampled_from(["conv3", "conv3s2", "conv5s2", "valid3", "pool2", "pool3s2", "pool3s2up", "same3s2", "twice"]),
    max_size=4,
)
LINES = {
    "conv3": "Conv <pads = [1, 1, 1, 1]> ({}, k3)",
    "conv3s2": "Conv <strides = [2, 2], pads = [1, 1, 1, 1]> ({}, k3)",
    "conv5s2": "Conv <strides = [2, 2], pads = [2, 1, 2, 2]> ({}, k5)",
    "valid3": "Conv <dilations = [1, 2]> ({}, k3)",
    "pool2": "MaxPool <kernel_shape = [2, 2], strides = [2, 2]> ({})",
    "pool3s2": "AveragePool <kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]> ({})",
    "pool3s2up": "MaxPool <kernel_shape = [3, 3], strides = [2, 2], ceil_mode = 1> ({})",
    "same3s2": 'Conv <strides = [2, 2], auto_pad = "SAME_UPPER"> ({}, k3)',
    "twice": 'Resize <mode = "nearest"> ({}, , up)',
}


def network(steps: list[str], end: str, outputs: str) -> onnx.ModelProto:
    names = [f"t{number}" for number in range(len(steps) + 1)]
    body = " ".join(f"{new} = {LINES[s].format(old)}" for s, old, new in zip(steps, names, names[1:], strict=False))
    text = f"g (float[N, 2, H, W] x) => ({outputs} y) {{ t0 = Relu(x) {body.format()} {end.format(names[-1])} }}"
    return onnx_text(text, k3=weight(2, 2, 3, 3), k5=weight(2, 2, 5, 5), up=np.asarray([1, 1, 2, 2], np.float32))


@given(steps=STEPS, height=SIDES, width=SIDES, end=st.sampled_from(["gemm", "reshape", "rows"]))
def test_what_is_taken_runs(steps: list[str], height: int, width: int, end: str) -> None:
    """A network that is made for one size is solved to a size at which ONNX Runtime runs it."""
    image = {"x": np.zeros((1, 2, height, width), np.float32)}
    try:
        (feature,) = run(network(steps, "y = Relu({})", "float[N, 2, A, B]"), image)
    except Exception:  # ONNX Runtime refuses the drawn network at this size: no case
        assume(False)
    _, channels, high, wide = feature.shape
    assume(high > 0 and wide > 0)
    ends = {
        "gemm": ("f = Flatten({}) y = Gemm(f, m)", "float[N, 3]", {"m": weight(channels * high * wide, 3)}),
        "reshape": ("y = Reshape({}, to)", "float[N, 2, A, B]", {"to": np.asarray([1, 2, high, wide])}),
        "rows": (
            "f = Reshape({}, to) y = Add(f, m)",
            "float[N, 2, A]",
            {"to": np.asarray([0, 2, -1]), "m": weight(1, 2, high * wide)},
        ),
    }
    text, outputs, arrays = ends[end]
    proto = network(steps, text, outputs)
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(value, name) for name, value in arrays.items())
    run(proto, noise(dict(taken(proto).shapes)))


# -- shapes as shape inference has them --------------------------------------------------------------------------------


def assert_as_inferred(model: Model, least: float) -> None:
    """The rules give what onnx's inference gives, and for most of what it knows."""
    shapes = {value.name: value.taken or tuple(d or 1 for d in value.type.shape or ()) for value in model.inputs}
    sized = declared(model, shapes)
    grid = Grid((np.asarray([1]),))
    found = walk(model, grid, {name: tuple(map(grid.known, shape)) for name, shape in shapes.items()}).shapes
    known = {key: told.shape for key, told in sized.types.items() if told.shape is not None and None not in told.shape}
    told = {key: tuple(length.item() for length in shape) for key, shape in found.items() if key in known}
    right = {key: shape for key, shape in told.items() if not np.isnan(shape).any()}
    assert right == {key: known[key] for key in right}
    computed = [key for node in model.nodes for key in node.outputs if key in known and not model.is_constant(key)]
    assert len(right.keys() & set(computed)) >= least * len(computed)


@pytest.mark.parametrize("name", ["healthy_resnet", "depthwise_spread"])
def test_rules_agree_with_shape_inference(name: str) -> None:
    assert_as_inferred(read_model(FIXTURES / "models" / f"{name}.onnx"), 1.0)


@pytest.mark.parametrize(
    "name", ["ultraface_rfb_320", "fastestdet", "nanodet_m", "ppocr_v3_det", "deeploy_tinyvit", "rxnfp_bert_cls"]
)
def test_rules_agree_with_shape_inference_on_public_networks(name: str) -> None:
    assert_as_inferred(read_model(public_network(f"{name}.onnx")), 0.9)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("ultraface_rfb_320", (240, 320)),
        ("fastestdet", (352, 352)),
        ("nanodet_m", (416, 416)),
        ("resnet8_cifar10_bn", (32, 32)),
        ("deeploy_tinyvit", (32, 32)),
    ],
)
def test_public_networks_are_solved_to_their_size(name: str, size: tuple[int, int], tmp_path: Path) -> None:
    proto = onnx.load(public_network(f"{name}.onnx"))
    del proto.graph.value_info[:]
    for side, label in zip((2, 3), "HW", strict=True):
        proto.graph.input[0].type.tensor_type.shape.dim[side].dim_param = label
    for value in proto.graph.output:
        value.type.tensor_type.ClearField("shape")
    onnx.save(proto, tmp_path / "open.onnx")
    found = take_shapes(read_model(tmp_path / "open.onnx"))
    assert found is not None and found.fixed
    assert next(iter(found.shapes.values()))[2:] == size


# -- given shapes ------------------------------------------------------------------------------------------------------

GIVEN = as_model(onnx_text("g (float[N, 3, H, W] picture) => (float[N, 3, H, W] y) { y = Relu(picture) }"))


def test_a_given_shape_is_declared_and_taken() -> None:
    (value,) = with_given(GIVEN, {"picture": (2, 3, 64, 96)}).inputs
    assert value.type.shape == value.taken == (2, 3, 64, 96)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({"pictures": (1, 3, 8, 8)}, "case.onnx has no such input (did you mean 'picture'?); it has 'picture'"),
        ({"picture": (1, 3, 8)}, "[1, 3, 8] has 3 axes, the input has 4: [?, 3, ?, ?]"),
        ({"picture": (1, 4, 8, 8)}, "[1, 4, 8, 8] contradicts the model, which declares [?, 3, ?, ?]"),
    ],
)
def test_a_given_shape_that_does_not_fit_is_told(shapes: dict[str, tuple[int, ...]], message: str) -> None:
    with pytest.raises(UsageError) as error:
        with_given(GIVEN, shapes)
    assert message in str(error.value)
