"""The fixtures are what their script makes, they load where they should, and they show what they say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from conftest import FIXTURES, ROOT
from onnx import helper, numpy_helper
from onnx_cases import Array, run, sqnr_db

from onnxlint_q.analysis.folding import FoldedLayer, fold_batch_norms
from onnxlint_q.analysis.number_formats import UINT8, activation_qparams, weight_round_trip
from onnxlint_q.analysis.schemes import INT8_PER_CHANNEL, INT8_PER_TENSOR, Scheme
from onnxlint_q.graph import Model, find_layers, read_model

CANNOT_RUN = {"newer_opset", "unknown_domain", "odd_dtypes", "qdq_wrong_scale_shape"}
TENSOR, CHANNEL = INT8_PER_TENSOR, INT8_PER_CHANNEL


@pytest.fixture(scope="module")
def images(calibration: Path) -> Array:
    with np.load(calibration) as archive:
        assert archive.files == ["images"]
        return np.asarray(archive["images"])


def test_tree_is_what_the_script_makes() -> None:
    made = subprocess.run(
        [sys.executable, "fixtures/build.py", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (made.returncode, made.stdout) == (0, ""), made.stderr


def test_files_are_small() -> None:
    sizes = [path.stat().st_size for folder in ("models", "broken", "data") for path in (FIXTURES / folder).iterdir()]
    assert max(sizes) < 300_000
    assert sum(sizes) < 3_000_000


@pytest.mark.parametrize("path", sorted((FIXTURES / "models").glob("*.onnx")), ids=lambda path: path.stem)
def test_runs_in_onnx_runtime_or_is_meant_not_to(path: Path, images: Array) -> None:
    proto = onnx.load(path, load_external_data=False)
    rng = np.random.default_rng(0)
    feeds = {}
    for value in proto.graph.input:
        if value.name in {tensor.name for tensor in proto.graph.initializer}:
            continue
        dims = [d.dim_value or (1 if d.dim_param == "N" else 32) for d in value.type.tensor_type.shape.dim]
        dtype = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        feeds[value.name] = (images[:1] if dims == [1, 3, 32, 32] else rng.standard_normal(dims)).astype(dtype)
    if path.stem in CANNOT_RUN:
        with pytest.raises(Exception, match="ONNXRuntimeError"):
            run(path, feeds)
        return
    assert run(path, feeds)[0].shape[0] == 1


def test_calibration_data(images: Array, models: Path) -> None:
    assert images.shape == (32, 3, 32, 32)
    assert images.dtype == np.float32
    assert -1 <= images.min() < -0.8
    assert 0.8 < images.max() <= 1
    neighbours = np.corrcoef(images[..., :-1].ravel(), images[..., 1:].ravel())[0, 1]
    assert neighbours > 0.75, "smooth, as photographs are"
    assert read_model(models / "depthwise_spread.onnx").inputs[0].name == "images"


# -- the damage ----------------------------------------------------------------------------------------------------


def with_quantised_weights(model: Model, scheme: Scheme, only: str = "") -> onnx.ModelProto:
    """The model with folded weights rounded under `scheme`; the normalisations stay and are divided out."""
    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    tensors = {tensor.name: tensor for tensor in proto.graph.initializer}
    for folded in fold_batch_norms(model, list(find_layers(model))).layers:
        if not only or folded.output == only:
            weight = _rounded(model, folded, scheme)
            tensors[folded.layer.weight].CopyFrom(numpy_helper.from_array(weight, folded.layer.weight))
    return proto


def _rounded(model: Model, folded: FoldedLayer, scheme: Scheme) -> Array:
    weight = folded.layer.as_stored(weight_round_trip(folded.matrix(model), scheme.weights, scheme.sharing))
    gain = folded.after.gain if folded.after is not None else np.ones(folded.layer.channels)
    return np.asarray(weight / gain.reshape(folded.layer.channel_shape()), np.float32)


def damage(path: Path, images: Array, scheme: Scheme, only: str = "") -> float:
    """SQNR (dB) at the output when the weights, or only one layer's, are rounded."""
    (expected,) = run(path, {"images": images})
    (actual,) = run(with_quantised_weights(read_model(path), scheme, only), {"images": images})
    return sqnr_db(expected, actual)


@pytest.mark.parametrize("name", ["healthy_resnet", "healthy_mobilenet", "silu_gate", "unfolded_bn", "opset11"])
def test_healthy_networks_survive_both_schemes(models: Path, images: Array, name: str) -> None:
    assert damage(models / f"{name}.onnx", images, TENSOR) > 20
    assert damage(models / f"{name}.onnx", images, CHANNEL) > 20


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("depthwise_spread", "block2_depthwise_bn_out"),
        ("near_zero_variance", "depthwise_bn_out"),
        ("outlier_gamma", "loud_bn_out"),
        ("collapsed_channels", "uneven_conv_out"),
    ],
)
def test_one_layer_breaks_the_network_per_tensor_only(models: Path, images: Array, name: str, layer: str) -> None:
    path = models / f"{name}.onnx"
    assert damage(path, images, TENSOR, layer) < 5
    assert damage(path, images, CHANNEL, layer) > 35
    assert damage(path, images, CHANNEL) > 14


def test_depthwise_gains_are_spread_over_a_factor_of_1000(models: Path) -> None:
    model = read_model(models / "depthwise_spread.onnx")
    depthwise = [f for f in fold_batch_norms(model, list(find_layers(model))).layers if f.layer.depthwise]
    assert len(depthwise) == 3
    for folded in depthwise:
        assert folded.after is not None
        gain = np.abs(folded.after.gain)
        assert gain.max() / gain.min() > 1000


def test_an_outlier_in_every_channel_breaks_both(models: Path, images: Array) -> None:
    path = models / "in_channel_outlier.onnx"
    assert damage(path, images, TENSOR, "mix_bn_out") < 5
    assert damage(path, images, CHANNEL, "mix_bn_out") < 14


def test_heavy_tail_costs_an_activation_its_resolution(models: Path, images: Array) -> None:
    """Only this tensor in uint8, over its whole range and then over its 99.9th percentile."""
    proto = onnx.load(models / "heavy_tail.onnx")
    proto.graph.output.append(helper.make_tensor_value_info("rare_exp_out", onnx.TensorProto.FLOAT, None))
    expected, values = run(proto, {"images": images})
    assert values.max() > 500 * np.median(values)
    whole, percentile = (
        sqnr_db(expected, with_quantised_activation(proto, "rare_exp_out", float(high), images))
        for high in (values.max(), np.quantile(values, 0.999))
    )
    assert whole < 14
    assert percentile > 30


@pytest.mark.parametrize(
    ("name", "reference", "low", "high"),
    [
        ("qdq_good", "unnamed_nodes", 25, 50),
        ("qoperator", "unnamed_nodes", 25, 50),
        ("qdq_coarse_input", "unnamed_nodes", 0, 20),
        ("qdq_per_tensor_depthwise", "depthwise_spread", -20, 5),
    ],
)
def test_quantised_networks(models: Path, images: Array, name: str, reference: str, low: float, high: float) -> None:
    """The float network of the same seed is among the fixtures too."""
    (expected,) = run(models / f"{reference}.onnx", {_input(models, reference): images})
    (actual,) = run(models / f"{name}.onnx", {"images": images})
    assert low < sqnr_db(expected, actual) < high


def _input(models: Path, name: str) -> str:
    return read_model(models / f"{name}.onnx").inputs[0].name


def with_quantised_activation(proto: onnx.ModelProto, tensor: str, high: float, images: Array) -> Array:
    scale, zero_point = activation_qparams(0.0, high, UINT8)
    changed = onnx.ModelProto()
    changed.CopyFrom(proto)
    for node in changed.graph.node:
        node.input[:] = ["rounded" if name == tensor else name for name in node.input]
    position = [tensor in node.output for node in changed.graph.node].index(True)
    for key, value in (("s", scale), ("z", np.uint8(zero_point))):
        changed.graph.initializer.append(numpy_helper.from_array(np.asarray(value), key))
    changed.graph.node.insert(position + 1, helper.make_node("QuantizeLinear", [tensor, "s", "z"], ["codes"]))
    changed.graph.node.insert(position + 2, helper.make_node("DequantizeLinear", ["codes", "s", "z"], ["rounded"]))
    return run(changed, {"images": images})[0]
