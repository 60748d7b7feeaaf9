"""Every kind of source, the samples it gives, and what it says when the data does not fit."""

from __future__ import annotations

import io
import tracemalloc
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from PIL import Image

from onnxlint_q.errors import DataError, UsageError
from onnxlint_q.execute.data.preprocess import PRESETS, Preprocessing
from onnxlint_q.execute.data.source import Source
from onnxlint_q.execute.data.sources import ArraySource, open_source
from onnxlint_q.execute.limits import Limits
from onnxlint_q.graph import TensorType, Value

FLOAT, INT64, FLOAT16 = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64, onnx.TensorProto.FLOAT16
RAW = PRESETS["raw"]


def value(name: str, *shape: int | None, elem_type: int = FLOAT) -> Value:
    return Value(name, TensorType(elem_type, shape))


def first(source: Source, *inputs: Value) -> dict[str, np.ndarray]:
    return dict(next(iter(source.samples(inputs))))


def test_a_stack_is_cut_into_batches_of_one() -> None:
    data = np.arange(12, dtype=np.float32).reshape(4, 3)
    samples = list(ArraySource("s", {"x": data}).samples([value("x", None, 3)]))
    assert [sample["x"].tolist() for sample in samples] == [[[0, 1, 2]], [[3, 4, 5]], [[6, 7, 8]], [[9, 10, 11]]]


def test_a_fixed_leading_dimension_takes_the_sample_axis_in_front_of_it() -> None:
    state = np.zeros((5, 2, 7), np.float32)
    assert first(ArraySource("s", {"h": state}), value("h", 2, 7))["h"].shape == (2, 7)


def test_scalars_and_inputs_with_one_sample_repeat() -> None:
    arrays = {"x": np.zeros((3, 4), np.float32), "rate": np.asarray(16000)}
    inputs = [value("x", None, 4), value("rate", elem_type=INT64)]
    samples = list(ArraySource("s", arrays).samples(inputs))
    assert len(samples) == 3
    assert [(int(sample["rate"]), sample["rate"].shape) for sample in samples] == [(16000, ())] * 3


def test_values_take_the_type_of_the_input() -> None:
    data = np.ones((1, 2), np.float64)
    assert first(ArraySource("s", {"x": data}), value("x", None, 2, elem_type=FLOAT16))["x"].dtype == np.float16


def test_a_single_array_needs_no_name(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones((2, 3), np.float32))
    assert first(open_source(str(tmp_path / "a.npy"), RAW), value("anything", None, 3))["anything"].shape == (1, 3)


def test_a_folder_of_npz_is_read_in_the_order_of_names(tmp_path: Path) -> None:
    for name, number in (("b", 2.0), ("a", 1.0)):
        np.savez(tmp_path / f"{name}.npz", x=np.full((1, 2), number, np.float32))
    samples = list(open_source(str(tmp_path), RAW).samples([value("x", None, 2)]))
    assert [float(sample["x"][0, 0]) for sample in samples] == [1.0, 2.0]


def test_random_is_seeded_endless_and_says_so() -> None:
    source = open_source("random", RAW)
    inputs = [value("x", None, 3, None, None), value("i", 4, elem_type=INT64)]
    one, two = (list(source.take(inputs, 2)) for _ in range(2))
    assert source.synthetic and source.available(inputs) is None
    assert one[0]["x"].shape == (1, 3, 224, 224)
    assert np.array_equal(one[1]["x"], two[1]["x"]) and not np.array_equal(one[0]["x"], one[1]["x"])
    assert set(one[0]["i"].tolist()) <= {0, 1}


def test_skipping_gives_other_samples() -> None:
    source = ArraySource("s", {"x": np.arange(6, dtype=np.float32)[:, None]})
    assert [float(s["x"][0, 0]) for s in source.take([value("x", None, 1)], 2, skip=3)] == [3.0, 4.0]


@pytest.mark.parametrize(
    ("arrays", "inputs", "message"),
    [
        (
            {"x": np.zeros((2, 5), np.float32)},
            [value("x", None, 4)],
            "s: input 'x' has shape [?, 4], but sample 0 has [1, 5]; check layout and preprocessing",
        ),
        (
            {"x": np.zeros((2, 5, 5, 5), np.float32)},
            [value("x", None, 5)],
            "s: input 'x' has shape [?, 5], but the data has [2, 5, 5, 5]; stack the samples along the first axis",
        ),
        (
            {"y": np.zeros((2, 4), np.float32)},
            [value("a", None, 4), value("b", None, 4)],
            "s: holds 'y' but no array for input 'a'; name the arrays 'a', 'b'",
        ),
        (
            {"a": np.zeros((2, 4), np.float32), "b": np.zeros((3, 4), np.float32)},
            [value("a", None, 4), value("b", None, 4)],
            "s: input 'a' has 2 samples, others have 3; give as many of each",
        ),
        (
            {"x": np.asarray([[np.nan]], np.float32)},
            [value("x", None, 1)],
            "s: sample 0 of input 'x' holds NaN or infinity in 1 of 1 values; clean the data",
        ),
        (
            {"x": np.asarray([[0.5]])},
            [value("x", None, 1, elem_type=INT64)],
            "s: input 'x' needs int64, but the data is float64; convert it",
        ),
        (
            {"x": np.zeros((1, 1))},
            [value("x", None, 1, elem_type=onnx.TensorProto.STRING)],
            "input 'x' is a tensor of strings; it cannot be calibrated",
        ),
    ],
)
def test_data_that_does_not_fit(arrays: dict[str, np.ndarray], inputs: list[Value], message: str) -> None:
    with pytest.raises(DataError) as caught:
        list(ArraySource("s", arrays).samples(inputs))
    assert str(caught.value) == message


def test_sources_that_are_not_there_or_not_data(tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_bytes(b"no zip at all")
    (tmp_path / "empty").mkdir()
    np.save(tmp_path / "p.npy", np.asarray([{"a": 1}], dtype=object), allow_pickle=True)
    for name, part in (("nowhere", "no such file or folder"), ("empty", "holds no images and no .npz or .npy files")):
        with pytest.raises(UsageError, match=f"^calibration data .*{name}: {part}"):
            open_source(str(tmp_path / name), RAW)
    for name, said in (("x.npz", r"is no \.npz and no \.npy file"), ("p.npy", r"cannot be read as \.npz or \.npy")):
        # What is there is read when it is wanted, and what cannot be read is then told each time.
        source = open_source(str(tmp_path / name), RAW)
        for _ in range(2):
            with pytest.raises(DataError, match=said):
                source.available([value("x", None, 2)])


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    gradient = np.zeros((40, 60, 3), np.uint8)
    gradient[..., 0], gradient[..., 2] = np.arange(60), 200
    for name in ("b.png", "a.png"):
        Image.fromarray(gradient).save(tmp_path / name)
    (tmp_path / "labels.csv").write_text("not an image")
    return tmp_path


def test_images_are_resized_cropped_and_normalised(photos: Path) -> None:
    source = open_source(str(photos), PRESETS["tf"])
    sample = first(source, value("x", None, 3, 20, 20))["x"]
    assert source.available([]) == 2 and sample.shape == (1, 3, 20, 20) and sample.dtype == np.float32
    assert np.allclose(sample[0, 2], 200 / 127.5 - 1, atol=1e-5)
    assert -1 <= sample[0, 0].min() < sample[0, 0].max() < -0.4


def test_bgr_and_channels_last(photos: Path) -> None:
    swapped = Preprocessing("raw", (0.0,), (1.0,), 1.0, channel_order="bgr")
    nchw = first(open_source(str(photos), swapped), value("x", 1, 3, 8, 8))["x"]
    nhwc = first(open_source(str(photos), RAW), value("x", 1, 8, 8, 3))["x"]
    assert np.allclose(nchw[0, 0], 200) and np.allclose(nhwc[0, ..., 2], 200)
    assert np.allclose(nchw[0, ::-1].transpose(1, 2, 0), nhwc[0])


def test_the_usual_resize_of_a_224_input_is_256() -> None:
    image = Image.fromarray(np.zeros((512, 768, 3), np.uint8))
    assert PRESETS["imagenet"].apply(image, 224, 224, 3).shape == (3, 224, 224)
    assert PRESETS["imagenet"]._target((768, 512), 224, 224) == (384, 256)
    assert PRESETS["imagenet"]._target((768, 512), 96, 96) == (144, 96)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 5, 8, 8), "has 5 channels; see --layout"),
        ((1, 10), "does not take one image; give an .npz"),
    ],
)
def test_images_for_an_input_that_takes_none(photos: Path, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
        first(open_source(str(photos), RAW), value("x", *shape))


def test_images_for_two_inputs_and_a_broken_image(photos: Path) -> None:
    source = open_source(str(photos), RAW)
    with pytest.raises(DataError, match="the model has 2 inputs"):
        first(source, value("a", 1, 3, 8, 8), value("b", 1, 3, 8, 8))
    with pytest.raises(DataError, match="smaller than the crop"):
        first(open_source(str(photos), Preprocessing("raw", (0,), (1,), 1, resize=(4,))), value("x", 1, 3, 8, 8))
    (photos / "a.png").write_bytes(b"broken")
    with pytest.raises(DataError, match=r"a\.png: is not one of BMP, JPEG, PNG, PPM, TIFF, WEBP; remove it"):
        first(source, value("x", 1, 3, 8, 8))


def test_samples_may_be_stacked_in_front_of_the_batch_axis() -> None:
    data = np.arange(6, dtype=np.float32).reshape(3, 1, 2)
    source = ArraySource("s", {"x": data})
    assert source.available([value("x", 1, 2)]) == 3
    assert [s["x"].tolist() for s in source.samples([value("x", 1, 2)])] == data.tolist()


def test_values_that_the_input_cannot_hold_are_refused() -> None:
    for data, elem_type in ((np.full((1, 2), 2**40), onnx.TensorProto.INT32), (np.full((1, 2), 1e300), FLOAT)):
        with pytest.raises(DataError, match=r"outside int32|NaN or infinity"):
            first(ArraySource("s", {"x": data}), value("x", None, 2, elem_type=elem_type))


@pytest.mark.parametrize("shape", [None, (10**9, 10**9)])
def test_noise_is_not_made_for_shapes_that_are_unknown_or_huge(shape: tuple[int, ...] | None) -> None:
    with pytest.raises(DataError, match=r"give an \.npz"):
        first(open_source("random", RAW), Value("x", TensorType(FLOAT, shape)))


def test_an_input_of_more_axes_than_an_array_has() -> None:
    with pytest.raises(DataError, match=r"input 'x' has 70 axes, arrays have at most \d+; it cannot be calibrated"):
        first(open_source("random", RAW), value("x", *[1] * 70))


def test_damaged_archives_are_one_error(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez_compressed(path, x=np.random.default_rng(0).standard_normal(5000))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    damaged = {"bits": bytes(data)}
    for name, files in (("none", {}), ("other", {"x.npy": "text"})):
        with zipfile.ZipFile(path, "w") as archive:
            for member, text in files.items():
                archive.writestr(member, text)
        damaged[name] = path.read_bytes()
    for content in damaged.values():
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"numpy\.savez"):
            first(open_source(str(path), RAW), value("x", None, 3))


def test_no_name_is_not_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "a.npy", np.ones((2, 3)))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="no such file or folder"):
        open_source("", RAW)


def test_images_of_more_than_8_bits_are_refused_and_not_clipped(tmp_path: Path) -> None:
    Image.fromarray(np.full((9, 9), 40_000, np.uint16)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match="more than 8 bits"):
        first(open_source(str(tmp_path), RAW), value("x", 1, 1, 8, 8))


def test_a_large_photo_is_read_without_a_warning(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40 * 60 - 1)
    assert first(open_source(str(photos), RAW), value("x", 1, 3, 8, 8))["x"].shape == (1, 3, 8, 8)


def test_a_bad_sample_is_told_by_its_index() -> None:
    data = np.zeros((4, 2), np.float32)
    data[2, 1] = np.inf
    with pytest.raises(DataError, match=r"sample 2 of input 'x' holds NaN or infinity in 1 of 2 values"):
        list(ArraySource("s", {"x": data}).samples([value("x", None, 2)]))


# What EXIF asks a reader to do is undone here.
TURNED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@pytest.mark.parametrize("orientation", TURNED)
def test_a_photo_is_turned_as_the_camera_was_held(tmp_path: Path, orientation: int) -> None:
    upright = np.zeros((8, 8, 3), np.uint8)
    upright[:4, :2] = 200
    stored, turn = Image.fromarray(upright), TURNED[orientation]
    note = Image.Exif()
    note[0x0112] = orientation
    (stored if turn is None else stored.transpose(turn)).save(tmp_path / "a.png", exif=note)
    seen = first(open_source(str(tmp_path), RAW), value("x", 1, 3, 8, 8))["x"]
    assert np.array_equal(seen[0].transpose(1, 2, 0), upright)


def test_a_photo_whose_note_is_damaged_is_read_as_it_is(tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 8, 3), 9, np.uint8)).save(tmp_path / "a.jpg", exif=b"Exif\0\0no TIFF at all")
    assert np.all(first(open_source(str(tmp_path), RAW), value("x", 1, 3, 8, 8))["x"] == 9)


def claiming(shape: tuple[int, ...], descr: str = "<f4") -> bytes:
    """An .npy of 64 bytes of data whose header says otherwise."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": descr, "fortran_order": False, "shape": shape})
    return stream.getvalue() + bytes(64)


@pytest.mark.parametrize("content", [claiming((1 << 40, 4)), claiming((16,), "|O"), claiming((1 << 62, 1 << 62))])
@pytest.mark.parametrize("name", ["a.npy", "a.npz", "A.NPY"])
def test_arrays_larger_than_their_file_and_objects_take_no_memory(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    if name.endswith("z"):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x.npy", content)
    else:
        path.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=r"cannot be read as \.npz or \.npy"):
            open_source(str(path), RAW).available([value("x", None, 4)])
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("member", "packed"),
    [("readme.txt", zipfile.ZIP_DEFLATED), ("x.npy", zipfile.ZIP_BZIP2), ("y/", zipfile.ZIP_STORED)],
)
def test_nothing_is_unpacked_but_what_numpy_packs(
    tmp_path: Path, member: str, packed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few bytes of bzip2 hold gigabytes, and unpack as a whole."""
    with zipfile.ZipFile(tmp_path / "a.npz", "w", packed) as archive:
        archive.writestr(member, bytes(1000))
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda *_: pytest.fail("it was unpacked"))
    with pytest.raises(DataError, match="is an archive without arrays, or with other files"):
        first(open_source(str(tmp_path / "a.npz"), RAW), value("x", 1, 4))


def test_types_that_numpy_does_not_know_come_back_from_a_file(tmp_path: Path) -> None:
    stored = np.random.default_rng(0).standard_normal((3, 4)).astype(ml_dtypes.bfloat16)
    np.savez(tmp_path / "a.npz", x=stored)
    with np.load(tmp_path / "a.npz") as loaded:
        assert loaded["x"].dtype == np.dtype("V2"), "numpy has given it up"
    sample = first(open_source(str(tmp_path / "a.npz"), RAW), value("x", 1, 4, elem_type=onnx.TensorProto.BFLOAT16))
    assert sample["x"].dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(sample["x"], stored[:1])
    with pytest.raises(DataError, match=r"needs float16, but the data is \|V2"):
        first(open_source(str(tmp_path / "a.npz"), RAW), value("x", 1, 4, elem_type=onnx.TensorProto.FLOAT16))


def test_no_image_format_starts_another_program(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow hands PostScript to Ghostscript, whatever the file is called."""
    lines = ["%!PS-Adobe-3.0 EPSF-3.0", "%%BoundingBox: 0 0 32 32", "%%EndComments", "showpage", "%%EOF", ""]
    for path in photos.iterdir():
        path.write_text("\n".join(lines))
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "gs").write_text(f"#!/bin/sh\ntouch {tools / 'started'}\n")
    (tools / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", str(tools), prepend=":")
    with pytest.raises(DataError, match="is not one of BMP, JPEG, PNG"):
        first(open_source(str(photos), RAW), value("x", 1, 3, 8, 8))
    assert not (tools / "started").exists()


def test_an_archive_that_unpacks_to_too_much_is_refused(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", x=np.zeros(1 << 20, np.float32))
    limits = Limits(archive_bytes=1 << 20)
    for where in (tmp_path / "a.npz", tmp_path):
        with pytest.raises(DataError, match=r"unpacks to 0\.0 GB, which would all be in memory; write an \.npy"):
            first(open_source(str(where), RAW, limits), value("x", None, 2))


def test_an_empty_stack_holds_no_samples(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((0, 3), np.float32))
    assert open_source(str(tmp_path / "a.npy"), RAW).available([value("x", None, 3)]) == 0


def test_a_thread_of_pixels_is_no_image(tmp_path: Path) -> None:
    """Brought to 256 pixels on its short side it would have 15 million on the long one."""
    Image.new("RGB", (60_000, 1)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"a\.png: 60000x1 pixels would become \d+x256; cut it to its content"):
        first(open_source(str(tmp_path), PRESETS["imagenet"]), value("x", 1, 3, 224, 224))
