"""Words of the command line: options without effect are told, and no report replaces what is read."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from onnxlint_q.analysis.observed.observers import DEFAULT_OBSERVER
from onnxlint_q.cli.words.data import parse_data
from onnxlint_q.cli.words.files import keep_apart, parse_inspected
from onnxlint_q.cli.words.images import ImageWords, parse_preprocessing
from onnxlint_q.cli.words.requests import parse_shapes, parse_values
from onnxlint_q.errors import UsageError
from onnxlint_q.execute.data.images import ImageFolder
from onnxlint_q.execute.data.preprocess import PRESETS, Preprocessing
from onnxlint_q.report import ReportFormat

NO_WORDS = ImageWords()
EVERY_WORD = ImageWords("tf", "1", "2", 0.5, "bgr", "9", "8", "nchw")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(folder / "a.png")
    return folder


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"samples": 32}, "--samples has no effect without data; give it with --calibrate"),
        ({"observer": DEFAULT_OBSERVER}, "--observer has no effect without data; give it with --calibrate"),
        ({"trials": 3}, "--trials has no effect without data; give it with --calibrate"),
        ({"samples": 1, "trials": 3}, "--samples and --trials have no effect without data; give it with --calibrate"),
        ({"labels": Path("l.npy")}, "--labels has no effect without data; give it with --calibrate"),
        (
            {"measure": ["layers"]},
            "--measure has no effect without data; give it with --calibrate, or give --probe",
        ),
    ],
)
def test_an_option_that_needs_data_says_so(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_data(None, NO_WORDS, **given)
    assert str(caught.value) == message


def test_noise_has_no_classes() -> None:
    with pytest.raises(UsageError, match=r"^labels have no effect on random data: "):
        parse_data("random", NO_WORDS, labels=Path("l.npy"))


def test_every_word_about_images_needs_images(calibration: Path, pictures: Path) -> None:
    every = "--preprocess, --mean, --std, --scale, --channel-order, --resize, --crop and --layout have no effect"
    with pytest.raises(UsageError, match=f"^{every} without data; give it with --calibrate$"):
        parse_data(None, EVERY_WORD)
    for where in (str(calibration), "random"):
        with pytest.raises(UsageError, match=f"^{every} on --calibrate {where}, which is no folder of images; "):
            parse_data(where, EVERY_WORD)
        assert parse_data(where, NO_WORDS) is not None
    data = parse_data(str(pictures), EVERY_WORD)
    assert data is not None and isinstance(data.source, ImageFolder)
    wanted = Preprocessing("tf with changes", (1.0,), (2.0,), 0.5, "bgr", (9,), (8, 8), "nchw")
    assert data.source.how == wanted


def test_without_words_there_is_no_data_and_with_a_path_the_defaults(calibration: Path, pictures: Path) -> None:
    assert parse_data(None, NO_WORDS) is None
    data = parse_data(str(calibration), NO_WORDS)
    assert data is not None
    assert (data.samples, data.observer, data.layers, data.trials) == (32, DEFAULT_OBSERVER, False, 0)
    photos = parse_data(str(pictures), NO_WORDS)
    assert photos is not None and isinstance(photos.source, ImageFolder) and photos.source.how == PRESETS["imagenet"]


def refusal(destination: Path, *read: Path) -> str:
    with pytest.raises(UsageError) as caught:
        keep_apart([(ReportFormat.HTML, str(destination))], [None, *read])
    return str(caught.value).removeprefix(f"the report {destination} would replace a file of this run, ")


def test_a_report_replaces_neither_a_model_nor_its_weights_nor_data_nor_the_configuration(
    models: Path, calibration: Path, pictures: Path, tmp_path: Path
) -> None:
    for name in ("external_data.onnx", "external_data.onnx.data"):
        shutil.copy(models / name, tmp_path)
    model, config = tmp_path / "external_data.onnx", tmp_path / "onnxlint-q.toml"
    config.touch()
    assert refusal(model, model) == f"{model}; name another file"
    assert refusal(config, model, config) == f"{config}; name another file"
    assert refusal(tmp_path / "external_data.onnx.data", model) == f"weights of {model}; name another file"
    assert refusal(pictures / "a.png", model, pictures) == f"data in {pictures}; name another file"
    assert refusal(calibration, model, calibration) == f"{calibration}; name another file"
    (tmp_path / "link.html").symlink_to("external_data.onnx.data")
    assert refusal(tmp_path / "link.html", model) == f"weights of {model}; name another file"


def test_weights_behind_a_link_are_weights(models: Path, tmp_path: Path) -> None:
    shutil.copy(models / "external_data.onnx", tmp_path)
    (tmp_path / "blob").write_bytes((models / "external_data.onnx.data").read_bytes())
    (tmp_path / "external_data.onnx.data").symlink_to("blob")
    assert refusal(tmp_path / "blob", tmp_path / "external_data.onnx").startswith("weights of ")


def test_another_file_is_left_to_the_report(models: Path, pictures: Path, tmp_path: Path) -> None:
    older = tmp_path / "report.html"
    older.touch()
    reports = [
        (ReportFormat.HTML, str(older)),
        (ReportFormat.JSON, str(pictures / "new.json")),
        (ReportFormat.FULL, None),
    ]
    keep_apart(reports, [models / "external_data.onnx", pictures, "random", None])
    keep_apart([(ReportFormat.HTML, "/dev/null"), (ReportFormat.JSON, "/dev/null")], [])
    with pytest.raises(UsageError, match=f"^two reports go to the file {older}; name another file for one of them$"):
        keep_apart([(ReportFormat.HTML, str(older)), (ReportFormat.JSON, str(older))], [])


@pytest.mark.parametrize("word", ["", " ", "seven", "nan", "7,inf"])
def test_a_value_is_a_finite_number(word: str) -> None:
    with pytest.raises(UsageError, match=r"^--values '.*': give numbers"):
        parse_values([word])


def test_a_model_has_a_name() -> None:
    with pytest.raises(UsageError, match="a model name is empty"):
        parse_inspected([""])


def test_shapes_of_inputs_are_read_by_name() -> None:
    assert parse_shapes(["x=1,3,32, 32", "a=b:0=7"]) == {"x": (1, 3, 32, 32), "a=b:0": (7,)}


@pytest.mark.parametrize("word", ["x", "=1,3", "x=", "x=1,,3", "x=1,0", "x=-1,3", "x=1x3", "x=1,3.0", "x=9999999999"])
def test_a_shape_that_is_none_is_told(word: str) -> None:
    with pytest.raises(UsageError, match=r"give NAME=1,3,320,320"):
        parse_shapes([word])


def test_two_shapes_of_one_input_are_one_too_many() -> None:
    with pytest.raises(UsageError, match="--input-shape x: given twice"):
        parse_shapes(["x=1,3", "x=1,4"])


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--preprocess", "tf"),
        ("--preprocess", "raw", "--mean", "103.53,116.28,123.675", "--channel-order", "bgr", "--resize", "240x320"),
        ("--scale", "0.5", "--crop", "96x96", "--layout", "nhwc"),
    ],
)
def test_a_preprocessing_knows_what_asks_for_it(options: tuple[str, ...]) -> None:
    def parsed(words: tuple[str, ...]) -> Preprocessing:
        said = {word[2:].replace("-", "_"): value for word, value in zip(words[::2], words[1::2], strict=True)}
        scale = float(said["scale"]) if "scale" in said else None
        names = ("mean", "std", "channel_order", "resize", "crop", "layout")
        return parse_preprocessing(said.get("preprocess"), scale=scale, **{name: said.get(name) for name in names})

    how = parsed(options)
    assert parsed(how.options) == how and len(how.options) == len(options)
