"""A quantised file with default options: what fails, what differs and where, in networks of several kinds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from fusing import FUSES
from onnx_cases import as_model, onnx_text

from onnxlint_q.analysis.observed.deployed import ROUNDING_DB, Deployed
from onnxlint_q.execute.deployment.alone import difference, operators_alone
from onnxlint_q.execute.deployment.run import run_as_deployed

Array = npt.NDArray[Any]
RANDOM = np.random.default_rng(3)


def f32(*values: float) -> Array:
    """One value alone, or a vector of several."""
    return np.array(values if len(values) > 1 else values[0], np.float32)


ROWS = f32(0.002, 0.05, 0.01, 0.1)


def pairs(
    operator: str,
    weight: tuple[int, ...],
    inputs: tuple[int, ...],
    *,
    axis: int = 0,
    read: Array | None = None,
    rounded: bool = True,
    rectified: bool = False,
    name: str = "[op]",
) -> onnx.ModelProto:
    """An operator between pairs.

    Args:
        operator: with its attributes.
        weight, inputs: shapes.
        axis: of the scales of the weight, `ROWS`.
        read: scales of the input, along axis 1; one by default.
        rounded: whether the result is quantised again.
        rectified: whether a Relu stands before that; it is absorbed where 0 is the lowest code.
        name: of the operator, in brackets.
    """
    lines = [
        "q = QuantizeLinear <axis = 1> (x, xs, xz)",
        "v = DequantizeLinear <axis = 1> (q, xs, xz)",
        f"d = DequantizeLinear <axis = {axis}> (w, ws, wz)",
        f"{name} made = {operator} (v, d)",
    ]
    last = "made"
    if rectified:
        lines.append("last = Relu (made)")
        last = "last"
    if rounded:
        lines += [f"q2 = QuantizeLinear ({last}, ys, yz)", "y = DequantizeLinear (q2, ys, yz)"]
    else:
        lines.append(f"y = Identity ({last})")
    scales = f32(0.03) if read is None else read
    arrays: dict[str, Array] = {
        "xs": scales,
        "xz": np.full(scales.shape, 128, np.uint8),
        "w": RANDOM.integers(-100, 100, weight).astype(np.int8),
        "ws": ROWS,
        "wz": np.zeros(ROWS.shape, np.int8),
    }
    if rounded:
        arrays |= {"ys": f32(0.2), "yz": np.array(0 if rectified else 128, np.uint8)}
    shape = ", ".join(map(str, inputs))
    return untyped(onnx_text(f"g (float[{shape}] x) => (float[K] y) {{ {chr(10).join(lines)} }}", **arrays))


def untyped(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model with outputs of any shape."""
    names = [value.name for value in proto.graph.output]
    del proto.graph.output[:]
    proto.graph.output.extend(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names)
    return proto


def deployed(proto: onnx.ModelProto) -> Deployed:
    model = as_model(proto)
    return run_as_deployed(model, [sample(model.inputs) for _ in range(2)])


def sample(inputs: Any) -> Mapping[str, Array]:
    shapes = {value.name: [1 if dim is None else dim for dim in value.type.shape] for value in inputs}
    return {name: RANDOM.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


HEALTHY = {
    "matmul": pairs("MatMul", (4, 4), (2, 4), axis=1, rounded=False),
    "gemm": pairs("Gemm", (4, 4), (2, 4), axis=1),
    "gemm transposed": pairs("Gemm <transB = 1>", (4, 4), (2, 4)),
    "conv": pairs("Conv", (4, 4, 3, 3), (1, 4, 6, 6)),
    "conv, relu": pairs("Conv", (4, 4, 1, 1), (1, 4, 6, 6), rectified=True),
    "transposed convolution": pairs("ConvTranspose", (4, 4, 2, 2), (1, 4, 6, 6), axis=1),
    "depthwise": pairs("Conv <group = 4>", (4, 1, 3, 3), (1, 4, 6, 6)),
}
DIFFERING = {
    "matmul": pairs("MatMul", (4, 4), (2, 4), rounded=False),
    "gemm": pairs("Gemm", (4, 4), (2, 4)),
    "gemm transposed": pairs("Gemm <transB = 1>", (4, 4), (2, 4), axis=1),
    "conv": pairs("Conv", (4, 4, 3, 3), (1, 4, 6, 6), axis=1),
    "conv, relu": pairs("Conv", (4, 4, 1, 1), (1, 4, 6, 6), axis=1, rectified=True),
}
FAILING = {
    "conv": pairs("Conv", (4, 4, 1, 1), (1, 4, 6, 6), read=ROWS),
    "conv, relu": pairs("Conv", (4, 4, 1, 1), (1, 4, 6, 6), read=ROWS, rectified=True),
    "depthwise": pairs("Conv <group = 4>", (4, 1, 3, 3), (1, 4, 6, 6), read=ROWS),
    "matmul": pairs("MatMul", (4, 4), (2, 4), axis=1, read=ROWS, rounded=False),
    "matmul, stacked": pairs("MatMul", (1, 4, 4), (1, 2, 4), axis=2, rounded=False),
    "matmul, rows": pairs("MatMul", (4, 3), (2, 4), rounded=False),
    "conv, inputs": pairs("Conv", (3, 4, 1, 1), (1, 4, 6, 6), axis=1),
}


@pytest.mark.parametrize("proto", [pytest.param(proto, id=name) for name, proto in HEALTHY.items()])
def test_a_healthy_file_runs_as_it_says(proto: onnx.ModelProto) -> None:
    found = deployed(proto)
    assert found.refused is None and found.differing == ()
    assert found.sqnr_db is not None and found.sqnr_db > ROUNDING_DB


@FUSES
@pytest.mark.parametrize("proto", [pytest.param(proto, id=name) for name, proto in DIFFERING.items()])
def test_a_kernel_that_reads_parameters_in_its_own_way_is_found(proto: onnx.ModelProto) -> None:
    found = deployed(proto)
    assert found.refused is None
    assert [one.location.node for one in found.differing] == ["op"]
    assert found.differing[0].sqnr_db < ROUNDING_DB


@FUSES
@pytest.mark.parametrize("proto", [pytest.param(proto, id=name) for name, proto in FAILING.items()])
def test_a_kernel_that_does_not_take_what_the_file_has_is_found(proto: onnx.ModelProto) -> None:
    found = deployed(proto)
    assert found.refused is not None and found.refused.loads and found.refused.plainly
    assert found.refused.location.node == "op" and found.refused.reason


@FUSES
def test_an_operator_without_a_name_is_found_by_running_each_alone() -> None:
    found = deployed(pairs("Conv", (4, 4, 1, 1), (1, 4, 6, 6), read=ROWS, name=""))
    assert found.refused is not None
    assert (found.refused.location.op_type, found.refused.location.output) == ("Conv", "made")


def test_of_operators_of_one_type_the_one_that_does_not_load_is_named() -> None:
    """16-bit codes before opset 21: the message names the type, and here the node."""
    text = """
    g (float[2] x) => (float[2] y) {
      [fine] q = QuantizeLinear (x, s, z)
      [fine2] v = DequantizeLinear (q, s, z)
      [wide] q2 = QuantizeLinear (v, s, z2)
      [wide2] y = DequantizeLinear (q2, s, z2)
    }
    """
    found = deployed(onnx_text(text, s=f32(0.1), z=np.array(3, np.uint8), z2=np.array(3, np.uint16)))
    assert found.refused is not None and not found.refused.loads and not found.refused.plainly
    assert found.refused.location.node == "wide"


def test_what_fails_for_its_data_fails_plainly_too() -> None:
    text = """
    g (float[1, 4] x) => (float[K] y) {
      q = QuantizeLinear (x, s, z)
      v = DequantizeLinear (q, s, z)
      whole = Cast <to = 7> (x)
      largest = ReduceMax <keepdims = 0> (whole)
      far = Add (largest, nine)
      [pick] y = Gather (v, far)
    }
    """
    found = deployed(untyped(onnx_text(text, s=f32(0.1), z=np.array(3, np.uint8), nine=np.array([9]))))
    assert found.refused is not None and found.refused.loads and not found.refused.plainly
    assert found.refused.location.node == "pick"


def test_operators_that_only_move_values_are_not_run_alone() -> None:
    text = """
    g (float[1, 4] x) => (float[4, 1] y) {
      q = QuantizeLinear (x, s, z)
      v = DequantizeLinear (q, s, z)
      t = Transpose (v)
      [late] y = Relu (t)
    }
    """
    assert list(operators_alone(as_model(onnx_text(text, s=f32(0.1), z=np.array(3, np.uint8))))) == []


@pytest.mark.parametrize(
    ("default", "sqnr_db"), [([1.0, 2.0], 150.0), ([np.nan, 2.0], -150.0), ([1.0, 1.0], 10 * np.log10(5))]
)
def test_how_far_results_are_apart(default: list[float], sqnr_db: float) -> None:
    apart = difference([f32(*default)], [f32(1, 2)], coded=False)
    assert apart.sqnr_db == pytest.approx(sqnr_db)
