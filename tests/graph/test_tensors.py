"""Stored values: every element type, inline and in a file beside the model, and nothing outside the folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper
from onnx_cases import as_model, onnx_text, run

from onnxlint_q.errors import ModelError
from onnxlint_q.graph import find_layers, read_model
from onnxlint_q.graph.tensors import TensorStore

DTYPES: dict[str, Any] = {
    "FLOAT": np.float32,
    "DOUBLE": np.float64,
    "FLOAT16": np.float16,
    "BFLOAT16": ml_dtypes.bfloat16,
    "INT8": np.int8,
    "UINT8": np.uint8,
    "INT16": np.int16,
    "UINT16": np.uint16,
    "INT32": np.int32,
    "UINT32": np.uint32,
    "INT64": np.int64,
    "UINT64": np.uint64,
    "BOOL": np.bool_,
    "COMPLEX64": np.complex64,
    "COMPLEX128": np.complex128,
    "FLOAT8E4M3FN": ml_dtypes.float8_e4m3fn,
    "FLOAT8E4M3FNUZ": ml_dtypes.float8_e4m3fnuz,
    "FLOAT8E5M2": ml_dtypes.float8_e5m2,
    "FLOAT8E5M2FNUZ": ml_dtypes.float8_e5m2fnuz,
    "FLOAT4E2M1": ml_dtypes.float4_e2m1fn,
    "INT4": ml_dtypes.int4,
    "UINT4": ml_dtypes.uint4,
}
VALUES = np.array([[0, 1, 2], [3, 4, 6], [1, 0, 2]])  # an odd number, so that half a byte is left over


def external(tensor: TensorProto, location: str, *, offset: int = 0, length: int | None = None) -> bytes:
    """Turn `tensor` into one whose values lie in `location`; returns them."""
    data = bytes(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", offset), ("length", len(data) if length is None else length)):
        tensor.external_data.add(key=key, value=str(value))
    return data


def model_with_file(folder: Path, location: str = "w.bin", **options: Any) -> Path:
    """A model whose one weight lies in `location`, which is written where it can be."""
    proto = onnx_text("g (float[N,3] x) => (float[N,3] y) { y = MatMul(x, w) }", w=np.eye(3, dtype=np.float32))
    data = external(proto.graph.initializer[0], location, **options)
    if not Path(location).is_absolute() and ".." not in location:
        (folder / location).write_bytes(data)
    path = folder / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    return path


@pytest.mark.parametrize("name", DTYPES)
@pytest.mark.parametrize("place", ["raw", "typed", "external"])
def test_every_element_type(name: str, place: str, tmp_path: Path) -> None:
    expected = VALUES.astype(DTYPES[name])
    tensor = numpy_helper.from_array(expected, "t")
    assert TensorProto.DataType.Name(tensor.data_type) == name
    if place == "external":
        (tmp_path / "t.bin").write_bytes(b"pad!" + external(tensor, "t.bin", offset=4))
    elif place == "typed":
        if name in {"INT4", "UINT4", "FLOAT4E2M1"} or name.startswith("FLOAT8"):
            raw, field = np.frombuffer(tensor.raw_data, np.uint8), "int32_data"
            stored = [int(byte) for byte in raw]
        else:
            field = onnx.helper.tensor_dtype_to_field(tensor.data_type)
            flat = expected.ravel()
            if name in {"FLOAT16", "BFLOAT16"}:
                stored = [int(bits) for bits in flat.view(np.uint16)]
            elif name.startswith("COMPLEX"):
                stored = flat.view(flat.real.dtype).tolist()
            else:
                stored = flat.astype(np.int64).tolist() if name == "BOOL" else flat.tolist()
        tensor.ClearField("raw_data")
        getattr(tensor, field).extend(stored)
    store = TensorStore(tmp_path, "m.onnx")
    store.check(tensor)
    value = store.array(tensor)
    assert value.dtype == expected.dtype
    np.testing.assert_array_equal(value, expected)


def test_strings() -> None:
    tensor = TensorProto(name="t", data_type=TensorProto.STRING, dims=[2], string_data=[b"a", b"b"])
    assert TensorStore(Path(), "m.onnx").array(tensor).tolist() == ["a", "b"]


def test_layers_of_odd_types_are_read_as_float(models: Path) -> None:
    model = read_model(models / "odd_dtypes.onnx")
    layers = {layer.node.name: layer for layer in find_layers(model)}
    assert len(layers) == 8
    for layer in layers.values():
        weight = layer.read_weight(model)
        assert weight.dtype == np.float32
        assert np.isfinite(weight).all()
        assert np.abs(weight).max() > 1
    np.testing.assert_array_equal(layers["int4_matmul"].read_weight(model) % 1, 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dims": [-1, 3]}, r"negative dimension in its shape \[-1, 3\]"),
        ({"data_type": 99}, "unknown element type 99; upgrade onnx"),
        ({"dims": [2**40, 2**40]}, "does not hold the values|holds 36 bytes"),
        ({"data_type": TensorProto.DOUBLE}, "holds 36 bytes, its shape .* needs 72"),
    ],
)
def test_stored_tensors_that_lie(change: dict[str, Any], message: str) -> None:
    proto = onnx_text("g (float[N,3] x) => (float[N,3] y) { y = MatMul(x, w) }", w=np.eye(3, dtype=np.float32))
    tensor = proto.graph.initializer[0]
    for key, value in change.items():
        if key == "dims":
            tensor.dims[:] = value
        else:
            setattr(tensor, key, value)
    with pytest.raises(ModelError, match=message) as raised:
        as_model(proto)
    assert str(raised.value).startswith("case.onnx: initializer 'w'")


# -- external data -------------------------------------------------------------------------------------------------


def test_external_weights_are_those_of_the_file(models: Path) -> None:
    model = read_model(models / "external_data.onnx")
    proto = onnx.load(models / "external_data.onnx")
    tensors = {tensor.name: tensor for tensor in proto.graph.initializer}
    layers = list(find_layers(model))
    assert layers
    for layer in layers:
        np.testing.assert_array_equal(layer.read_weight(model), numpy_helper.to_array(tensors[layer.weight]))


def test_external_weights_are_mapped_when_asked_for(models: Path) -> None:
    model = read_model(models / "external_data.onnx")
    assert not model.proto.graph.initializer[0].raw_data
    value = model.constants["block2_1_conv.weight"]
    held: Any = value
    while isinstance(held, np.ndarray) and not isinstance(held, np.memmap):
        held = held.base
    assert isinstance(held, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        value[0] = 0


def test_offset_and_missing_length(tmp_path: Path) -> None:
    path = model_with_file(tmp_path)
    proto = onnx.load(path, load_external_data=False)
    del proto.graph.initializer[0].external_data[1:]
    path.write_bytes(proto.SerializeToString())
    np.testing.assert_array_equal(read_model(path).constants["w"], np.eye(3))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"length": 35}, "stores 35 bytes at offset 0 of 'w.bin', its shape needs 36"),
        ({"offset": 4}, "reaches past the end of 'w.bin'; that data file is truncated, fetch it again"),
        ({"offset": -4}, "stores 36 bytes at offset -4"),
        ({"length": "many"}, "an external offset or length that is not a number"),
    ],
)
def test_external_data_of_the_wrong_size(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        read_model(model_with_file(tmp_path, **options))


@pytest.mark.parametrize("location", ["../w.bin", "sub/../../w.bin", "/etc/hostname", "."])
def test_external_data_outside_the_folder(tmp_path: Path, location: str) -> None:
    home = tmp_path / "home"
    (home / "sub").mkdir(parents=True)
    (tmp_path / "w.bin").write_bytes(np.eye(3, dtype=np.float32).tobytes())
    proto = onnx_text("g (float[N,3] x) => (float[N,3] y) { y = MatMul(x, w) }", w=np.eye(3, dtype=np.float32))
    external(proto.graph.initializer[0], location)
    (home / "model.onnx").write_bytes(proto.SerializeToString())
    with pytest.raises(ModelError, match=r"outside the model's folder|which is not there"):
        read_model(home / "model.onnx")


@pytest.mark.parametrize("absolute", [True, False])
def test_roundabout_ways_to_a_file_inside_are_refused_too(tmp_path: Path, absolute: bool) -> None:
    """As onnx itself does: a location is a plain path below the model's folder."""
    (tmp_path / "sub").mkdir()
    path = model_with_file(tmp_path)
    proto = onnx.load(path, load_external_data=False)
    proto.graph.initializer[0].external_data[0].value = str(tmp_path / "w.bin") if absolute else "sub/../w.bin"
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(ModelError, match="points outside the model's folder"):
        read_model(path)


def test_symlink_out_of_the_folder(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    path = model_with_file(home)
    (home / "w.bin").rename(tmp_path / "w.bin")
    (home / "w.bin").symlink_to(tmp_path / "w.bin")
    with pytest.raises(ModelError, match=r"points outside the model's folder \('w.bin'\)"):
        read_model(path)


def test_symlinked_folder_is_the_models_own(tmp_path: Path) -> None:
    real = tmp_path / "real"
    real.mkdir()
    model_with_file(real)
    (tmp_path / "link").symlink_to(real, target_is_directory=True)
    np.testing.assert_array_equal(read_model(tmp_path / "link" / "model.onnx").constants["w"], np.eye(3))


def hub_cache(root: Path) -> Path:
    """A repository as the Hugging Face hub caches it: snapshots of symlinks into blobs."""
    blobs, snapshot = root / "models--x--y" / "blobs", root / "models--x--y" / "snapshots" / "0a1b2c"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    model_with_file(blobs)
    for name, digest in (("model.onnx", "5e" * 32), ("w.bin", "7f" * 32)):
        (blobs / name).rename(blobs / digest)
        (snapshot / name).symlink_to(os.path.relpath(blobs / digest, snapshot))
    return snapshot


def test_hugging_face_cache(tmp_path: Path) -> None:
    model = read_model(hub_cache(tmp_path) / "model.onnx")
    np.testing.assert_array_equal(model.constants["w"], np.eye(3))


def test_hugging_face_cache_in_a_subfolder(tmp_path: Path) -> None:
    snapshot = hub_cache(tmp_path)
    folder = snapshot / "onnx"
    folder.mkdir()
    for name in ("model.onnx", "w.bin"):
        (folder / name).symlink_to(os.path.relpath((snapshot / name).resolve(), folder))
    np.testing.assert_array_equal(read_model(folder / "model.onnx").constants["w"], np.eye(3))


def test_hugging_face_cache_is_no_way_into_another_repository(tmp_path: Path) -> None:
    snapshot = hub_cache(tmp_path)
    stranger = tmp_path / "models--other" / "blobs" / ("9c" * 32)
    stranger.parent.mkdir(parents=True)
    stranger.write_bytes(bytes(36))
    (snapshot / "w.bin").unlink()
    (snapshot / "w.bin").symlink_to(stranger)
    with pytest.raises(ModelError, match="points outside the model's folder"):
        read_model(snapshot / "model.onnx")


def test_what_is_read_is_what_runs(models: Path) -> None:
    """The file with external data computes what the same network with inline weights does."""
    sample = np.random.default_rng(0).standard_normal((1, 3, 32, 32)).astype(np.float32)
    inline = onnx.load(models / "external_data.onnx")
    (apart,) = run(models / "external_data.onnx", {"images": sample})
    (together,) = run(inline, {"images": sample})
    np.testing.assert_array_equal(apart, together)
