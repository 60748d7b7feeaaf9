"""What gets a scale, against ONNX Runtime's static quantiser itself."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from itertools import combinations
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx_cases import Array, as_model, onnx_text, versioned_text
from onnxruntime.quantization import CalibrationDataReader, quantize_static

from onnxlint_q.analysis.measured import Measured, measure
from onnxlint_q.analysis.placement import (
    FLOAT_RESULTS,
    HANDS_ON,
    LAYER_TYPES,
    Placement,
    added_bias,
    quantized_activations,
    scaled_tensors,
)
from onnxlint_q.analysis.schemes import DEFAULT_SCHEMES
from onnxlint_q.execute.executable import folded
from onnxlint_q.execute.writing.gemms import fuse_biases
from onnxlint_q.graph import read_model

FIXTURES = Path(__file__).parents[2] / "fixtures" / "models"
SHARED = Path(__file__).parents[2] / "../shared/models"
# The quantiser gives up on these before it places anything.
REFUSED = {
    "nan_weights": "weights that are not finite",
    "newer_opset": "an opset that the installed ONNX Runtime does not load",
    "odd_dtypes": "element types that the installed ONNX Runtime does not load",
    "unknown_domain": "an operator that ONNX Runtime does not know",
    "deeploy_mlperf_vww_int": "operators that ONNX Runtime does not know",
    "silero_vad": "its branches do not run on values drawn at random",
}

shares_flatten = pytest.mark.skipif(
    tuple(map(int, onnxruntime.__version__.split(".")[:2])) < (1, 28),
    reason="the quantiser of ONNX Runtime before 1.28 gives the output of Flatten a scale of its own",
)


class OneSample(CalibrationDataReader):  # type: ignore[misc]  # the base class has no types
    """Where scales stand does not depend on what they are; one sample is enough."""

    def __init__(self, sample: Mapping[str, Array]) -> None:
        self.left = [dict(sample)]

    def get_next(self) -> dict[str, Array] | None:
        return self.left.pop() if self.left else None


def sample_of(measured: Measured) -> Iterator[tuple[str, Array]]:
    draw = np.random.default_rng(0)
    for value in measured.model.inputs:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(value.type.elem_type)
        shape = [length or (64 if axis else 1) for axis, length in enumerate(value.type.shape or ())]
        made = draw.standard_normal(shape) if dtype.kind == "f" else draw.integers(0, 2, shape)
        yield value.name, made.astype(dtype)


def folded_proto(measured: Measured) -> onnx.ModelProto:
    """The folded model as a file would hold it: weights inside, nothing where a BatchNormalization stood."""
    made = folded(measured)
    proto = onnx.ModelProto()
    proto.CopyFrom(made.proto)
    proto.ir_version = max(proto.ir_version, 4)
    for tensor in proto.graph.initializer:
        if tensor.name in made.weights:
            tensor.CopyFrom(onnx.numpy_helper.from_array(made.weights[tensor.name], tensor.name))
    behind = {layer.folded.after.node.output for layer in measured.layers if layer.folded.after is not None}
    before = {layer.folded.before.node.output for layer in measured.layers if layer.folded.before is not None}
    gone = [node for node in proto.graph.node if node.op_type == "Identity" and node.output[0] in behind | before]
    renamed = {node.input[0]: node.output[0] for node in gone if node.output[0] in behind}
    passed = {node.output[0]: node.input[0] for node in gone if node.output[0] in before}
    kept = []
    for number, node in enumerate(node for node in proto.graph.node if node not in gone):
        node.name = node.name or f"node{number}"
        node.output[:] = [renamed.get(name, name) for name in node.output]
        node.input[:] = [passed.get(name, name) for name in node.input]
        kept.append(onnx.NodeProto.FromString(node.SerializeToString()))
    del proto.graph.node[:]
    proto.graph.node.extend(kept)
    return proto


def with_gemms(measured: Measured, proto: onnx.ModelProto) -> onnx.ModelProto:
    """The products that are quantised as one Gemm with their biases, as ONNX Runtime prepares the file."""
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    fuse_biases(measured.model, made.graph)
    for number, node in enumerate(made.graph.node):
        node.name = node.name or f"made{number}"
    return made


def held_by_gemms(measured: Measured) -> dict[str, str]:
    """What a Gemm between two Reshape reads and makes, with the tensor of the model that has these values."""
    products = ((node, added_bias(measured.model, node)) for node in measured.model.nodes_of("MatMul"))
    around = [(node, bias) for node, bias in products if bias is not None and not bias.whole]
    rows = {f"{node.output}_rows": node.input(0) for node, _ in around}
    return {**rows, **{node.output: bias.add.output for node, bias in around}}


def quantised(
    measured: Measured, folder: Path, excluded: Collection[str] = (), *, layers_only: bool = False
) -> onnx.ModelProto:
    """What the quantiser makes of the folded model."""
    onnx.save(with_gemms(measured, folded_proto(measured)), folder / "float.onnx")
    sample = OneSample(dict(sample_of(measured)))
    files = (str(folder / "float.onnx"), str(folder / "qdq.onnx"))
    options: dict[str, object] = {}
    if layers_only:
        options["op_types_to_quantize"] = sorted(LAYER_TYPES | HANDS_ON)
        options["extra_options"] = {"OpTypesToExcludeOutputQuantization": sorted(FLOAT_RESULTS)}
    quantize_static(*files, sample, nodes_to_exclude=list(excluded), **options)
    return onnx.load(folder / "qdq.onnx")


def scaled_by_quantiser(
    measured: Measured, folder: Path, excluded: Collection[str] = (), *, layers_only: bool = False
) -> dict[str, str]:
    """Tensor to the tensor whose scale it has; layer weights, and biases of 32 bits, left out."""
    weights = {key for layer in measured.layers for key in (layer.folded.layer.weight, layer.folded.layer.bias)}
    scaled, held = dict[str, str](), held_by_gemms(measured)
    for node in quantised(measured, folder, excluded, layers_only=layers_only).graph.node:
        if node.op_type == "QuantizeLinear":
            tensor = node.input[0].removesuffix("_QuantizeLinear_Input")
        elif node.op_type == "DequantizeLinear" and not node.input[1].endswith("_quantized_scale"):
            tensor = node.input[0].removesuffix("_quantized").removesuffix("_QuantizeLinear_Output")
        else:
            continue
        if not tensor.startswith("onnxlint_q__") and tensor not in weights:
            like = node.input[1].removesuffix("_scale").removesuffix("_QuantizeLinear_Input")
            scaled[held.get(tensor, tensor)] = held.get(like, like)
    return scaled


def placed(measured: Measured, excluded: Collection[str] = (), *, layers_only: bool = False) -> dict[str, str]:
    places = scaled_tensors(measured.model, measured.folded, excluded, layers_only=layers_only)
    return {place.tensor: place.like for place in places}


def some_nodes(measured: Measured, every: int) -> set[str]:
    """Names of some of the nodes that can be excluded: from each kind of operator every so many-th."""
    kinds: dict[str, list[str]] = {}
    for node in measured.model.nodes:
        if node.name and node.op_type != "BatchNormalization":
            kinds.setdefault(node.op_type, []).append(node.name)
    return {name for names in kinds.values() for name in names[every // 2 :: every]}


def float_models(folder: Path) -> list[Path]:
    """Files without a scale in them; what kind a file is, is read from it, as the lint does."""
    files = (path for path in folder.glob("*.onnx") if path.stem not in REFUSED)
    return sorted(path for path in files if measure(read_model(path), ()).is_float)


@shares_flatten
@pytest.mark.parametrize("layers_only", [False, True])
@pytest.mark.parametrize("path", float_models(FIXTURES), ids=lambda path: path.stem)
def test_scales_stand_where_the_quantiser_puts_them(path: Path, layers_only: bool, tmp_path: Path) -> None:
    measured = measure(read_model(path), DEFAULT_SCHEMES)
    found = placed(measured, layers_only=layers_only)
    assert found == scaled_by_quantiser(measured, tmp_path, layers_only=layers_only)


@shares_flatten
@pytest.mark.parametrize("every", [1, 2, 3])
@pytest.mark.parametrize("path", float_models(FIXTURES), ids=lambda path: path.stem)
def test_excluded_nodes_of_fixtures_ask_for_no_scale(path: Path, every: int, tmp_path: Path) -> None:
    measured = measure(read_model(path), DEFAULT_SCHEMES)
    excluded = some_nodes(measured, every)
    assert placed(measured, excluded) == scaled_by_quantiser(measured, tmp_path, excluded)


@shares_flatten
@pytest.mark.skipif(not SHARED.is_dir(), reason="the public networks are not beside this checkout")
@pytest.mark.parametrize("path", float_models(SHARED), ids=lambda path: path.stem)
def test_scales_of_public_networks_stand_where_the_quantiser_puts_them(path: Path, tmp_path: Path) -> None:
    measured = measure(read_model(path), DEFAULT_SCHEMES)
    assert placed(measured) == scaled_by_quantiser(measured, tmp_path)
    assert placed(measured, layers_only=True) == scaled_by_quantiser(measured, tmp_path, layers_only=True)
    excluded = some_nodes(measured, 3)
    assert placed(measured, excluded) == scaled_by_quantiser(measured, tmp_path, excluded)


CONV = "Conv <pads = [1, 1, 1, 1]>"
IMAGE, VECTOR = "agraph (float[1, 2, 8, 8] x) => (float[N, C, H, W] y)", "agraph (float[1, 4] x) => (float[N, M] y)"
CASES = {
    "a sum behind a rectifier": (VECTOR, "a = Relu(x)\n b = Add(x, a)\n y = Relu(b)", 13),
    "a rectifier on an input": (VECTOR, "a = Relu(x)\n y = Sigmoid(a)", 13),
    "a rectifier beside another reader": (VECTOR, "a = Add(x, x)\n b = Relu(a)\n c = Sigmoid(a)\n y = Mul(b, c)", 13),
    "two rectifiers in a row": (VECTOR, "a = Add(x, x)\n b = Relu(a)\n y = Clip(b)", 13),
    "a pool of a new opset": (IMAGE, "a = Sigmoid(x)\n y = MaxPool <kernel_shape = [2, 2]> (a)", 13),
    "a pool of an old opset": (IMAGE, "a = Sigmoid(x)\n y = MaxPool <kernel_shape = [2, 2]> (a)", 11),
    "an average": (IMAGE, "a = Sigmoid(x)\n y = AveragePool <kernel_shape = [2, 2]> (a)", 13),
    "a pool of nothing marked": (IMAGE, "a = Neg(x)\n y = MaxPool <kernel_shape = [2, 2]> (a)", 13),
    "zeros around": (IMAGE, "a = Sigmoid(x)\n y = Pad(a, pads)", 13),
    "other values around": (IMAGE, "a = Sigmoid(x)\n y = Pad(a, pads, one)", 13),
    "edges around": (IMAGE, 'a = Sigmoid(x)\n y = Pad <mode = "edge"> (a, pads)', 13),
    "a choice of marked values": (VECTOR, "a = Sigmoid(x)\n c = Less(x, a)\n b = Mul(x, x)\n y = Where(c, a, b)", 13),
    "a choice of a constant": (VECTOR, "a = Sigmoid(x)\n c = Less(x, a)\n y = Where(c, a, one)", 13),
    "a gain": ("agraph (float[1, 4] x) => (float[N, M] y)", "y = LayerNormalization(x, gain, shift)", 17),
    "a table": ("agraph (int64[1, 4] x) => (float[N, M, K] y)", "a = Gather(table, x)\n y = Relu(a)", 13),
    "shape arithmetic": (VECTOR, "s = Shape(x)\n t = Mul(s, twos)\n a = Sigmoid(x)\n y = Expand(a, t)", 13),
    "a layer with a rectifier": (IMAGE, f"a = {CONV}(x, w)\n b = Relu(a)\n y = {CONV}(b, v)", 13),
    "a layer with a bound of each channel": (
        IMAGE,
        f"a = {CONV}(x, w)\n b = Relu(a)\n c = Min(b, each)\n y = {CONV}(c, v)",
        13,
    ),
    "a layer with a bound in front of those": (
        IMAGE,
        f"a = {CONV}(x, w)\n b = Clip(a, , one)\n c = Min(b, each)\n d = Max(c, each)\n y = {CONV}(d, v)",
        13,
    ),
    "a layer with its own gate": (IMAGE, f"a = {CONV}(x, w)\n s = Sigmoid(a)\n b = Mul(a, s)\n y = {CONV}(b, v)", 13),
    "a sum around a layer": (IMAGE, f"a = Relu(x)\n c = {CONV}(a, w)\n s = Add(a, c)\n y = Relu(s)", 13),
    "values side by side": (IMAGE, f"a = {CONV}(x, w)\n c = {CONV}(x, v)\n y = Concat <axis = 1> (a, c)", 13),
    "scores behind a mask": (VECTOR, "a = Add(x, one)\n s = Softmax(a)\n y = Mul(s, x)", 13),
    "a scale that goes on": (
        IMAGE,
        f"a = {CONV}(x, w)\n p = MaxPool <kernel_shape = [2, 2]> (a)\n t = Transpose <perm = [0, 2, 3, 1]> (p)\n"
        " r = Reshape(t, flat)\n y = Softmax(r)",
        13,
    ),
    "attention": (
        "agraph (float[1, 2, 4] x) => (float[N, M, K] y)",
        "q = MatMul(x, square)\n b = Add(q, shift)\n t = Transpose <perm = [0, 2, 1]> (b)\n s = MatMul(b, t)\n "
        "p = Softmax(s)\n o = MatMul(p, b)\n y = Add(x, o)",
        13,
    ),
    "a matrix with a rectifier": (VECTOR, "a = Gemm(x, square, shift)\n b = Relu(a)\n y = Gemm(b, square)", 13),
    "parts of a product": (
        VECTOR,
        "a = MatMul(x, square)\n b, c = Split <axis = 1> (a)\n d = Concat <axis = 1> (c, b)\n y = MatMul(d, square)",
        13,
    ),
    "an index": ("agraph (float[1, 4] x) => (int64[N, M] y)", "y = ArgMax(x)", 13),
}
CONSTANTS: Mapping[str, Array] = {
    "pads": np.asarray([0, 0, 1, 1, 0, 0, 1, 1], np.int64),
    "one": np.ones((), np.float32),
    "each": np.asarray([0.25, 0.5], np.float32).reshape(1, 2, 1, 1),
    "gain": np.asarray([1, 2, 3, 4], np.float32),
    "shift": np.zeros(4, np.float32),
    "square": np.arange(16, dtype=np.float32).reshape(4, 4) - 7,
    "table": np.arange(12, dtype=np.float32).reshape(6, 2),
    "twos": np.asarray([2, 1], np.int64),
    "flat": np.asarray([1, -1], np.int64),
    "w": np.arange(36, dtype=np.float32).reshape(2, 2, 3, 3) - 17,
    "v": 20 - np.arange(36, dtype=np.float32).reshape(2, 2, 3, 3),
}


def case(name: str) -> Measured:
    """One of the cases; nodes are called like their results."""
    head, body, opset = CASES[name]
    read = {key: value for key, value in CONSTANTS.items() if re.search(rf"\b{key}\b", body)}
    proto = onnx.ModelProto()
    proto.CopyFrom(versioned_text(opset, "", f"{head} {{ {body} }}", **read))
    for node in proto.graph.node:
        node.name = node.output[0]
    return measure(as_model(proto), DEFAULT_SCHEMES)


@pytest.mark.parametrize("layers_only", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_each_kind_of_operator_is_placed_as_the_quantiser_places_it(
    name: str, layers_only: bool, tmp_path: Path
) -> None:
    measured = case(name)
    found = placed(measured, layers_only=layers_only)
    assert found == scaled_by_quantiser(measured, tmp_path, layers_only=layers_only)


@pytest.mark.parametrize("name", CASES)
def test_any_one_or_two_nodes_are_excluded_as_the_quantiser_excludes_them(name: str, tmp_path: Path) -> None:
    measured = case(name)
    names = [node.name for node in measured.model.nodes]
    for excluded in (*combinations(names, 1), *combinations(names, 2)):
        assert placed(measured, excluded) == scaled_by_quantiser(measured, tmp_path, excluded), excluded


def test_what_only_moves_values_is_not_rounded_again() -> None:
    body = "a = Sigmoid(x)\n p = MaxPool <kernel_shape = [2, 2]> (a)\n y = AveragePool <kernel_shape = [2, 2]> (p)"
    model = as_model(onnx_text(f"{IMAGE} {{ {body} }}"))
    assert quantized_activations(model, ()) == (
        Placement("x", "x"),
        Placement("a", "a"),
        Placement("y", "a"),
    )
