"""Models that are odd, valid or not, get their findings: nothing crashes, nothing but the report is printed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

N = helper.make_node
DRAW = np.random.default_rng(0)
# The shape inference of onnx before 1.23 divides by the square of it in 64 bits, which is 0 from 2**32 on.
LARGE_BLOCK = 2**62 if tuple(map(int, onnx.__version__.split(".")[:2])) >= (1, 23) else 2**31


def info(name: str, shape: Sequence[int] | None = None) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def weight(*shape: int) -> npt.NDArray[np.float32]:
    return np.asarray(DRAW.standard_normal(shape) / 3, np.float32)


def texts(count: int) -> TensorProto:
    return TensorProto(name="t", data_type=TensorProto.STRING, dims=[count], string_data=[b"a"] * count)


def model(
    nodes: Sequence[onnx.NodeProto],
    arrays: Mapping[str, npt.ArrayLike],
    *,
    tensors: Iterable[TensorProto] = (),
    inputs: Sequence[onnx.ValueInfoProto] = (),
    shape: Sequence[int] = (1, 3, 8, 8),
    opset: int = 17,
) -> onnx.ModelProto:
    """One that computes `y` from `x`."""
    stored = [*(numpy_helper.from_array(np.asarray(value), name) for name, value in arrays.items()), *tensors]
    graph = helper.make_graph(nodes, "odd", [info("x", shape), *inputs], [info("y")], stored)
    imports = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=imports, ir_version=11 if opset > 21 else 8)


CONV = N("Conv", ["x", "w"], ["c"])
BIASED = N("Conv", ["x", "w", "b"], ["y"])
W = {"w": weight(4, 3, 3, 3)}


def biases() -> dict[str, onnx.ModelProto]:
    """The first convolution's bias is anything but a constant of the file."""
    sparse = model([BIASED], W)
    values, places = numpy_helper.from_array(weight(2), "b"), numpy_helper.from_array(np.asarray([0, 2]), "i")
    sparse.graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, [4]))
    fill = N("ConstantOfShape", ["s"], ["b"], value=helper.make_tensor("v", TensorProto.FLOAT, [1], [0.1]))
    return {
        "bias_fed": model([BIASED], W, inputs=[info("b", [4])]),
        "bias_computed": model([N("Mul", ["p", "p"], ["b"]), BIASED], {**W, "p": weight(4)}),
        "bias_sparse": sparse,
        "bias_filled": model([fill, BIASED], {**W, "s": [4]}),
        "bias_expanded": model([N("Expand", ["p", "s"], ["b"]), BIASED], {**W, "p": weight(1), "s": [4]}),
    }


def odd_shapes() -> dict[str, onnx.ModelProto]:
    nothing = [N("Slice", ["c", "s", "s", "a"], ["z"]), N("Relu", ["z"], ["r"]), N("Concat", ["c", "r"], ["y"], axis=1)]
    flat = [N("Flatten", ["z"], ["f"]), N("Gemm", ["f", "m"], ["y"])]
    ones = numpy_helper.from_array(np.ones(1, np.float32), "k")
    ones.dims[:] = [1] * 70
    added = [N("Add", ["x", "k"], ["z"]), *flat]
    none: dict[str, npt.ArrayLike] = {**W, "s": [2**62], "a": [0], "p": [-(2**62)]}
    sliced = N("Slice", ["w", "s", "s", "a", "p"], ["v"])
    return {
        "weight_of_nothing": model([sliced, N("Conv", ["x", "v"], ["y"])], none),
        "empty_slice": model([CONV, *nothing], {**W, "s": [2], "a": [1]}),
        "axes_of_an_initializer": model(added, {"m": weight(1, 4)}, tensors=[ones], shape=[1]),
        "axes_of_a_constant": model([N("Constant", [], ["k"], value=ones), *added], {"m": weight(1, 4)}, shape=[1]),
        "axes_of_an_activation": model(
            [N("Reshape", ["x", "s"], ["u"]), N("Relu", ["u"], ["z"]), *flat],
            {"s": [1] * 70, "m": weight(1, 4)},
            shape=[1],
        ),
    }


def invalid() -> dict[str, onnx.ModelProto]:
    """What ONNX Runtime would refuse."""
    codes = DRAW.integers(-127, 127, (4, 3, 3, 3)).astype(np.int8)
    float8 = np.asarray([0.5, 0.25, 0.125, 1], np.float32).astype(ml_dtypes.float8_e5m2)
    pair = [N("QuantizeLinear", ["x", "t", "z"], ["q"]), N("DequantizeLinear", ["q", "t", "z"], ["d"])]
    return {
        "bias_of_another_size": model([BIASED], {**W, "b": weight(64)}),
        "bias_of_texts": model([N("Conv", ["x", "w", "t"], ["y"])], W, tensors=[texts(4)]),
        "norm_of_texts": model([CONV, N("BatchNormalization", ["c", *"tttt"], ["y"])], W, tensors=[texts(4)]),
        "bounds_of_texts": model(
            [N("Slice", ["x", "t", "t"], ["z"]), N("Conv", ["z", "w"], ["y"])], W, tensors=[texts(4)]
        ),
        "scale_of_texts": model([*pair, N("Conv", ["d", "w"], ["y"])], {**W, "z": np.int8(0)}, tensors=[texts(1)]),
        "scale_of_float8": model(
            [N("DequantizeLinear", ["q", "s"], ["d"], axis=0), N("Conv", ["x", "d"], ["y"])],
            {"q": codes},
            tensors=[numpy_helper.from_array(float8, "s")],
            opset=23,
        ),
        "blocks_beyond_all_channels": model([CONV, N("DepthToSpace", ["c"], ["y"], blocksize=LARGE_BLOCK)], W),
        "product_of_three": model(
            [CONV, N("Mul", ["c", "f", "c"], ["y"])],
            W,
            inputs=[helper.make_tensor_value_info("f", TensorProto.INT64, [1])],
        ),
        "mean_that_is_no_number": model(
            [CONV, N("BatchNormalization", ["c", "g", "g", "m", "g"], ["n"]), N("Conv", ["n", "v"], ["y"])],
            {**W, "g": np.ones(4, np.float32), "m": np.asarray([0, np.nan, 0, 0], np.float32), "v": weight(4, 4, 1, 1)},
        ),
        "attribute_of_another_type": model([N("Conv", ["x", "w"], ["y"], dilations=[1.5, 1.5])], W),
        "product_of_another_domain": model(
            [N("MatMul", ["x", "v"], ["u"], domain="nobody.knows"), N("Conv", ["u", "w"], ["y"])],
            {**W, "v": weight(8, 8)},
            shape=(1, 3, -1, 8),
        ),
        "sum_of_nothing": model([N("Einsum", [], ["z"], equation="i,j->ij"), N("Conv", ["x", "w"], ["y"])], W),
        "norm_of_nothing": model(
            [N("LayerNormalization", ["x", "e"], ["y"])], {"e": np.zeros(0, np.float32)}, shape=[4, 0]
        ),
    }


def amplifying() -> dict[str, onnx.ModelProto]:
    """A few bytes that claim a lot."""
    doubled = [N("Concat", [f"t{i}"] * 2, [f"t{i + 1}"], axis=1) for i in range(14)]
    behind = [N("Relu", [f"t{i}"], [f"t{i + 1}"]) for i in range(14, 44)]
    return {
        "channels": model([N("Relu", ["x"], ["t0"]), *doubled, *behind, N("Relu", ["t44"], ["y"])], {}),
        "block": model(
            [N("DequantizeLinear", ["q", "s"], ["m"], axis=1, block_size=2**30), N("MatMul", ["x", "m"], ["y"])],
            {"q": np.ones((2, 1), np.int8), "s": np.ones((2, 1), np.float32)},
            shape=(1, 2),
            opset=21,
        ),
    }


def lint(folder: Path, models: Mapping[str, onnx.ModelProto], *options: str) -> dict[str, Any]:
    """The report of each model; warnings of numpy would end the run."""
    for name, proto in models.items():
        (folder / f"{name}.onnx").write_bytes(proto.SerializeToString())
    command = [sys.executable, "-W", "error", "-m", "onnxlint_q", str(folder), "--output-format", "json", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert (done.stderr, done.returncode in {0, 1}) == ("", True)
    reports = {Path(entry["path"]).stem: entry for entry in json.loads(done.stdout)["models"]}
    assert reports.keys() == models.keys()
    assert not [f for entry in reports.values() for f in entry["findings"] if f["name"] == "rule-crashed"]
    return reports


def test_odd_models_are_linted(tmp_path: Path) -> None:
    models = {**biases(), **odd_shapes(), **invalid()}
    reports = lint(tmp_path, models)
    without = {name for name, entry in reports.items() if not entry["layers"]}
    assert without == {"norm_of_nothing", "weight_of_nothing", "scale_of_float8"}, "no layer; it is quantised already"


def test_what_a_file_claims_takes_no_memory(tmp_path: Path) -> None:
    reports = lint(tmp_path, amplifying(), "--max-memory", "1")
    assert reports["block"]["qparams"] and reports["channels"]["findings"]


def test_a_bias_that_the_file_does_not_tell_is_no_reason_not_to_measure(tmp_path: Path) -> None:
    reports = lint(tmp_path, biases(), "--calibrate", "random", "--samples", "2")
    for name, entry in reports.items():
        assert {scheme["basis"] for scheme in entry["schemes"].values()} == {"measured"}, name


def test_infinite_weights_are_measured_without_a_word_on_stderr(tmp_path: Path) -> None:
    norm = N("BatchNormalization", ["c", *"gggv"], ["y"])
    arrays = {
        "w": np.full((4, 3, 3, 3), 3e38, np.float32),
        "g": np.asarray([1e38, -1e38, np.inf, 1], np.float32),
        "v": np.asarray([-1, 0, 1e-45, np.nan], np.float32),
    }
    reports = lint(tmp_path, {"infinite": model([CONV, norm], arrays)}, "--calibrate", "random", "--samples", "2")
    assert "QW005" in {found["code"] for found in reports["infinite"]["findings"]}
