"""The evaluator against onnx's reference, and that it refuses with a reason whatever it cannot compute."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator
from onnx_cases import Array, as_model, onnx_text

from onnxlint_q.errors import ModelError
from onnxlint_q.graph import Node
from onnxlint_q.graph.evaluate import _OPERATIONS, EvaluationError, evaluate, is_evaluated
from onnxlint_q.graph.tensors import MOST_AXES

ROOM = 1 << 20
SETTINGS = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
DTYPES = (np.float32, np.int64)


def node(op_type: str, domain: str = "", **attributes: Any) -> Node:
    return Node("main", "", op_type, domain, (), ("y",), attributes=attributes)


def reference(op_type: str, operands: list[Array | None], **attributes: Any) -> Array:
    letters = ["" if value is None else f"x{slot}" for slot, value in enumerate(operands)]
    given_ = {name: value for name, value in zip(letters, operands, strict=True) if value is not None}
    inputs = [
        helper.make_tensor_value_info(k, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape) for k, v in given_.items()
    ]
    made = helper.make_node(op_type, letters, ["y"], **attributes)
    graph = helper.make_graph([made], "g", inputs, [helper.make_empty_tensor_value_info("y")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    with np.errstate(all="ignore"):
        results: Any = ReferenceEvaluator(model).run(None, given_)
    return np.asarray(results[0])


def check(op_type: str, operands: list[Array | None], **attributes: Any) -> None:
    """The evaluator gives what the reference gives, dtype and shape included."""
    expected = reference(op_type, operands, **attributes)
    found = evaluate(node(op_type, **attributes), operands, ROOM)
    assert found.dtype == expected.dtype and found.shape == expected.shape
    assert np.allclose(found, expected, rtol=1e-6, equal_nan=True)


shapes = st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple)


@st.composite
def arrays(draw: st.DrawFn, shape: Any = shapes, dtypes: tuple[Any, ...] = DTYPES) -> Array:
    chosen, dtype, seed = draw(shape), draw(st.sampled_from(dtypes)), draw(st.integers(0, 999))
    return np.asarray(np.random.default_rng(seed).integers(-9, 10, chosen) / (1 if dtype == np.int64 else 4), dtype)


def integers(*values: int) -> Array:
    return np.asarray(values, np.int64)


@SETTINGS
@given(data=arrays(), draw=st.data())
def test_moves(data: Array, draw: st.DataObject) -> None:
    rank = data.ndim
    axis = draw.draw(st.integers(-rank, rank - 1))
    check("Identity", [data])
    check("Transpose", [data], perm=draw.draw(st.permutations(range(rank))))
    check("Transpose", [data])
    check("Flatten", [data], axis=axis)
    check("Concat", [data, data, data], axis=axis)
    check("Tile", [data, integers(*draw.draw(st.lists(st.integers(0, 2), min_size=rank, max_size=rank)))])
    new = draw.draw(st.lists(st.integers(0, rank + 1), min_size=2, max_size=2, unique=True))
    check("Unsqueeze", [data, integers(*new)])
    wide = evaluate(node("Unsqueeze"), [data, integers(*new)], ROOM)
    check("Squeeze", [wide, integers(*new)])
    check("Squeeze", [wide])
    if rank > 1:
        check("Trilu", [data])
        check("Trilu", [data, np.asarray(draw.draw(st.integers(-5, 5)))], upper=draw.draw(st.integers(0, 1)))
    check("Expand", [wide, integers(*(3 if length == 1 else length for length in wide.shape))])
    index = draw.draw(arrays(dtypes=(np.int64,)))
    check("Gather", [data, index % data.shape[axis]], axis=axis)
    check("Gather", [data, -1 - index % data.shape[axis]], axis=axis)


@SETTINGS
@given(data=arrays(), draw=st.data())
def test_reshape(data: Array, draw: st.DataObject) -> None:
    divisors = [length for length in range(1, data.size + 1) if data.size % length == 0]
    first = draw.draw(st.sampled_from(divisors))
    check("Reshape", [data, integers(first, -1)])
    check("Reshape", [data, integers(0, -1)])
    check("Reshape", [data, integers(1, first, data.size // first)])
    check("Reshape", [data[:0], integers(0, 3)], allowzero=1)


@SETTINGS
@given(data=arrays(), draw=st.data())
def test_slice(data: Array, draw: st.DataObject) -> None:
    axes = draw.draw(st.lists(st.integers(0, data.ndim - 1), min_size=1, unique=True))
    bound = st.one_of(st.integers(-6, 6), st.sampled_from([2**31 - 1, -(2**63), 2**63 - 1]))
    starts, ends = (integers(*draw.draw(st.lists(bound, min_size=len(axes), max_size=len(axes)))) for _ in range(2))
    step = st.sampled_from([-2, -1, 1, 2])
    steps = integers(*draw.draw(st.lists(step, min_size=len(axes), max_size=len(axes))))
    # A slice that begins at the least number goes nowhere backwards; the reference does not cut it off.
    assume(all(start > -(2**63) for start, by in zip(starts, steps, strict=True) if by < 0))
    check("Slice", [data, starts, ends, integers(*axes), steps])
    check("Slice", [data, starts, ends, integers(*axes)])


@SETTINGS
@given(left=arrays(), right=arrays(), third=arrays())
def test_arithmetic(left: Array, right: Array, third: Array) -> None:
    try:
        np.broadcast_shapes(left.shape, right.shape)
    except ValueError:
        assume(False)
    right = right.astype(left.dtype)
    for op_type in "Add Sub Mul Min Max Equal Greater Less GreaterOrEqual LessOrEqual".split():
        check(op_type, [left, right])
    for op_type in ("And", "Or"):
        check(op_type, [np.asarray(left > 0), np.asarray(right > 0)])
    check("Pow", [np.clip(left, -3, 3).astype(np.float32), np.asarray(2, np.float32)])
    check("Div", [left, np.where(right == 0, 3, right).astype(left.dtype)])
    check("Where", [left > 0, left, right])
    check("Max", [left, right, left])
    check("Neg", [third])
    check("Not", [np.asarray(left > 0)])
    check("Clip", [third, np.asarray(-2, third.dtype), np.asarray(3, third.dtype)])
    check("Clip", [third, None, np.asarray(1, third.dtype)])
    check("ReduceProd", [np.clip(third, -2, 2)])
    check("ReduceSum", [third])
    check("ReduceSum", [third, integers(-1)], keepdims=0)
    check("ReduceSum", [third], noop_with_empty_axes=1)
    for op_type in ("Floor", "Ceil"):
        check(op_type, [third.astype(np.float32)])
    check("Sqrt", [np.abs(third).astype(np.float32)])
    check("Sin", [third.astype(np.float32)])
    check("Exp", [np.clip(third, -8, 8).astype(np.float32)])
    check("Reciprocal", [(np.abs(third) + 1).astype(np.float32)])
    check("Cos", [third.astype(np.float32)])
    check("Cast", [third], to=int(TensorProto.INT32))
    check("Cast", [third], to=int(TensorProto.DOUBLE))


@pytest.mark.parametrize(
    ("left", "right"),
    [((2, 3), (3, 4)), ((3,), (3, 4)), ((2, 3), (3,)), ((3,), (3,)), ((5, 2, 3), (3, 4)), ((5, 1, 2, 3), (4, 3, 2))],
)
def test_products(left: tuple[int, ...], right: tuple[int, ...]) -> None:
    random = np.random.default_rng(3)
    check("MatMul", [random.integers(-9, 9, shape).astype(np.float32) for shape in (left, right)])


@pytest.mark.parametrize(
    ("left", "right", "why"),
    [
        ((2, 3), (4, 5), "have no product"),
        ((), (3,), "have no product"),
        ((2, 2, 3), (3, 3, 2), "do not fit"),
        ((1 << 12, 1), (1, 1 << 12), "elements"),
        ((1, 1 << 20), (1 << 20, 1 << 11), "products"),
    ],
)
def test_products_that_are_none_or_too_large(left: tuple[int, ...], right: tuple[int, ...], why: str) -> None:
    node = as_model(onnx_text("g (float[A] a, float[B] b) => (y) { y = MatMul(a, b) }")).nodes[0]
    operands = [np.broadcast_to(np.float32(1), shape) for shape in (left, right)]
    with pytest.raises(EvaluationError, match=why):
        evaluate(node, operands, 1 << 17)


@SETTINGS
@given(start=st.integers(-20, 20), limit=st.integers(-20, 20), delta=st.integers(-4, 4), scale=st.sampled_from([1, 4]))
def test_made_of_sizes(start: int, limit: int, delta: int, scale: int) -> None:
    assume(delta != 0)
    dtype = np.int64 if scale == 1 else np.float32
    check("Range", [np.asarray(end / scale if scale > 1 else end, dtype) for end in (start, limit, delta)])
    shape = integers(abs(start) % 5, abs(limit) % 5)
    check("ConstantOfShape", [shape])
    check("ConstantOfShape", [shape], value=helper.make_tensor("v", TensorProto.INT64, [1], [delta]))


def test_an_integer_quotient_drops_its_fraction() -> None:
    left, right = integers(-7, 7, -7, 7, 6), integers(2, -2, -2, 2, 3)
    assert evaluate(node("Div"), [left, right], ROOM).tolist() == [-3, -3, 3, 3, 2]


F = np.zeros((2, 3), np.float32)
REFUSED: dict[str, tuple[Node, list[Array | None]]] = {
    "is not evaluated": (node("Conv"), [F, F]),
    "custom:Add is not evaluated": (node("Add", "custom"), [F, F]),
    "has no input 1": (node("Gather"), [F]),
    "names no shape": (node("Reshape"), [F, None]),
    "cannot become": (node("Reshape"), [F, integers(4, 2)]),
    "cannot become \\[-1, -1\\]": (node("Reshape"), [F, integers(-1, -1)]),
    "does not have": (node("Reshape"), [F, integers(2, 3, 0)]),
    "perm": (node("Transpose", perm=[0, 0]), [F]),
    "axis 2 is outside": (node("Gather", axis=2), [F, integers(0)]),
    "an index is outside": (node("Gather"), [F, integers(2)]),
    "axis 9223372036854775807 is outside": (node("Unsqueeze"), [F, integers(2**63 - 1)]),
    "not distinct": (node("Unsqueeze"), [F, integers(0, 0)]),
    "not all of length 1": (node("Squeeze"), [F, integers(0)]),
    f"have {MOST_AXES + 1} axes": (node("Unsqueeze"), [F, integers(*range(MOST_AXES + 1 - F.ndim))]),
    "in steps of \\(0,\\)": (node("Slice"), [F, integers(0), integers(1), integers(0), integers(0)]),
    "do not fit beside": (node("Concat", axis=0), [F, F.T]),
    "repeats 1 axes": (node("Tile"), [F, integers(2)]),
    "tensor of rank 1": (node("Trilu"), [F[0]]),
    "names 2 diagonals": (node("Trilu"), [F, integers(1, 2)]),
    "1099511627776 elements": (node("Expand"), [F[:1, :1], integers(2**20, 2**20)]),
    "4294967296 elements": (node("ConstantOfShape"), [integers(2**16, 2**16)]),
    "1000000000 elements": (node("Range"), [integers(0), integers(10**9), integers(1)]),
    "no range": (node("Range"), [integers(0), integers(4), integers(0)]),
    "the shape \\[0, 281474976710656, 4\\]": (node("Expand"), [F[:0, :1], integers(0, 2**48, 4)]),
    "the shape \\[-1\\]": (node("ConstantOfShape"), [integers(-1)]),
    "divides by zero": (node("Div"), [integers(1), integers(0)]),
    "do not fit$": (node("Add"), [F, np.zeros(2, np.float32)]),
    "is of type bool": (node("Sub"), [F > 0, F > 0]),
    "is of type object": (node("Add"), [np.asarray(["a"], object)] * 2),
    "has 3 inputs": (node("Add"), [F, F, F]),
    "strings": (node("Cast", to=1), [np.asarray(["a"], object)]),
    "strings are not cast": (node("Cast", to=int(TensorProto.STRING)), [F]),
    "unknown element type 99": (node("Cast", to=99), [F]),
    "are strings": (node("DequantizeLinear"), [F.astype(np.int8), np.asarray(["a"], object)]),
    "a bound of it has 3 values": (node("Clip"), [F, np.ones(3, np.float32)]),
    "channels of axis": (node("DequantizeLinear"), [F.astype(np.int8), np.ones(2, np.float32)]),
    "blocks of": (node("DequantizeLinear", block_size=2), [F.astype(np.int8), np.ones((2, 3), np.float32)]),
}


@pytest.mark.parametrize("why", REFUSED)
def test_what_cannot_be_computed_is_refused_with_its_reason(why: str) -> None:
    refused, operands = REFUSED[why]
    with pytest.raises(EvaluationError, match=why):
        evaluate(refused, operands, ROOM)


def test_a_fill_value_in_another_file_is_not_read() -> None:
    value = TensorProto(data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    value.external_data.add(key="location", value="private.bin")
    with pytest.raises(EvaluationError, match="holds"):
        evaluate(node("ConstantOfShape", value=value), [integers(2)], ROOM)


def test_blocks_of_scales_take_no_room_for_what_they_do_not_cover() -> None:
    codes = np.ones((2, 1), np.int8)
    scale = np.asarray([[0.5], [2.0]], np.float32)
    made = evaluate(node("DequantizeLinear", block_size=1 << 30), [codes, scale], ROOM)
    assert made.tolist() == [[0.5], [2.0]]


anything = st.one_of(
    st.none(),
    arrays(dtypes=(np.float32, np.int64, np.bool_, np.uint8)),
    st.lists(st.integers(-3, 9), max_size=4).map(lambda values: integers(*values)),
    st.sampled_from([np.asarray(["a"], object), np.zeros((), np.float32), np.zeros((0, 2), np.float32), F * np.nan]),
)


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    op_type=st.sampled_from(sorted(_OPERATIONS)),
    operands=st.lists(anything, max_size=5),
    axis=st.sampled_from([-(2**63), -2, 0, 1, 3, "one", 1.5]),
    listed=st.sampled_from([None, [0], [-1, 0], [2**62], "axes", 3, [1.5]]),
)
def test_odd_operands_give_a_result_or_a_refusal(op_type: str, operands: list[Any], axis: Any, listed: Any) -> None:
    """Never another error, whatever a file claims; and never more than there is room for."""
    attributes = {"axis": axis, "to": axis, "block_size": axis}
    attributes |= {name: listed for name in ("axes", "perm", "starts", "shape", "value") if listed is not None}
    try:
        made = evaluate(node(op_type, **attributes), operands, 64)
    except EvaluationError as error:
        assert str(error)
        return
    assert made.size <= max(64, *(value.size for value in operands if value is not None))


# -- constants -------------------------------------------------------------------------------------------------------

BIAS = {
    "an input": "g (float[1, 2, 4, 4] x, float[3] b) => (y) { y = Conv(x, w, b) }",
    "computed": "g (float[1, 2, 4, 4] x) => (y) <float[3] p = {1, 2, 3}> { b = Mul(p, p) y = Conv(x, w, b) }",
    "filled": "g (float[1, 2, 4, 4] x) => (y) <int64[1] n = {3}> { b = ConstantOfShape(n) y = Conv(x, w, b) }",
    "expanded": "g (float[1, 2, 4, 4] x) => (y) <float p = {1}, int64[1] n = {3}> {b = Expand(p, n) y = Conv(x, w, b)}",
}


@pytest.mark.parametrize("text", BIAS.values(), ids=BIAS)
def test_what_is_no_constant_has_no_value(text: str) -> None:
    model = as_model(onnx_text(text, w=np.zeros((3, 2, 1, 1), np.float32)))
    assert not model.is_constant("b") and model.constant("b") is None
    assert "b" not in model.constants and "b" not in set(model.constants)
    with pytest.raises(KeyError):
        model.constants["b"]


def test_a_sparse_tensor_is_no_constant() -> None:
    proto = onnx_text("g (float[3] x, float[3] b) => (y) { y = Add(x, b) }")
    del proto.graph.input[1:]
    values = helper.make_tensor("b", TensorProto.FLOAT, [1], [1.0])
    indices = helper.make_tensor("places", TensorProto.INT64, [1], [2])
    proto.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [3]))
    model = as_model(proto)
    assert not model.is_constant("b") and model.constant("b") is None


def test_every_constant_has_a_value() -> None:
    """`is_constant` and `constant` agree on whatever operators stand behind an initializer."""
    followed = [name for name in _OPERATIONS if is_evaluated(node(name))]
    for name in followed:
        model = as_model(onnx_text(f"g (float[2] x) => (y) <float[2] p = {{1, 2}}> {{ b = {name}(p) y = Add(x, x) }}"))
        if model.is_constant("b"):
            try:
                assert model.constant("b") is not None
            except ModelError as error:
                assert name in str(error)
        else:
            assert model.constant("b") is None


def test_a_chain_of_copies_is_read_through_its_whole_length() -> None:
    steps = " ".join(f"t{n + 1} = Identity(t{n})" for n in range(100))
    model = as_model(onnx_text(f"g (float[2] x) => (y) <float[2] t0 = {{1, 2}}> {{ {steps} y = Add(x, t100) }}"))
    value = model.constant("t100")
    assert value is not None and value.tolist() == [1, 2]


def test_the_reference_of_this_test_knows_all_operators() -> None:
    """What is compared above is all there is, but for DequantizeLinear, which tests/graph/test_constants.py covers."""
    checked = itertools.chain(
        "Identity Transpose Flatten Concat Tile Unsqueeze Squeeze Expand Gather Reshape Slice".split(),
        "Add Sub Mul Min Max Equal Greater Less GreaterOrEqual LessOrEqual And Or Pow MatMul".split(),
        "Div Where Clip ReduceSum ReduceProd Exp Reciprocal".split(),
        "Not Neg Floor Ceil Sqrt Sin Cos Trilu Cast Range ConstantOfShape".split(),
    )
    assert set(checked) | {"DequantizeLinear"} == _OPERATIONS.keys()
    assert {name for name in _OPERATIONS if name not in {s.name for s in onnx.defs.get_all_schemas()}} == set()
