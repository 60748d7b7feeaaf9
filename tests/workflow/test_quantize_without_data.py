"""`quantize` without data: what synthetic inputs decide holds on data, and nobody takes it for a measurement."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx_cases import Array, onnx_text, run, sqnr_db
from printed import command

import onnxlint_q

LOUD = "Nothing about accuracy on real data was measured"
SCHEME = "int8-per-tensor"
RANDOM = np.random.default_rng(0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, models: Path) -> Path:
    """The network that breaks with one scale a tensor, quantised so without data, with all that is told."""
    made = tmp_path_factory.mktemp("made")
    told = ("--output-format", f"json={made / 'told.json'}", "--output-format", f"full={made / 'told.txt'}")
    words = ["quantize", str(models / "depthwise_spread.onnx"), "-o", str(made / "int8.onnx"), "--keep-float", *told]
    with pytest.MonkeyPatch.context() as patch:
        code = _exit_code([*words, "--scheme", SCHEME], patch)
    (made / "code").write_text(str(code))
    return made


def _exit_code(words: list[str], patch: pytest.MonkeyPatch) -> int:
    from onnxlint_q.cli.app import main

    patch.setattr("sys.argv", ["onnxlint-q", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


@pytest.fixture
def told(folder: Path) -> Mapping[str, Any]:
    found: Mapping[str, Any] = json.loads((folder / "told.json").read_text())
    return found


def outputs(model: Path, images: Array) -> Array:
    return np.concatenate([run(model, {"images": image[None]})[0] for image in images])


def test_the_file_holds_on_data_that_it_never_saw(folder: Path, models: Path, calibration: Path) -> None:
    images = np.load(calibration)["images"]
    exact, rounded = (outputs(path, images) for path in (models / "depthwise_spread.onnx", folder / "int8.onnx"))
    # With ranges of data and no cure it has -9 dB and every fifth class.
    assert sqnr_db(exact, rounded) > 15
    assert np.mean(exact.argmax(-1) == rounded.argmax(-1)) > 0.9


def test_every_report_says_that_no_accuracy_was_measured(folder: Path, told: Mapping[str, Any]) -> None:
    assert (folder / "code").read_text() == "0" and told["reached"]
    assert told["measured_on"]["synthetic"] and told["basis"] == "probe" and told["warning"].startswith(LOUD)
    text = " ".join((folder / "told.txt").read_text().split())
    assert "Reached on synthetic inputs: the model survives." in text
    assert f"{LOUD}: ranges and figures come from synthetic inputs. Give samples with --calibrate." in text
    assert told["result"]["agreement"] is None and told["top1"] is None


def test_nothing_is_chosen_that_made_up_values_cannot_tell(told: Mapping[str, Any]) -> None:
    assert {one["observer"] for one in told["attempts"]} == {"widened min-max"}
    assert {one["agreement"] for one in told["attempts"]} == {None}


def test_the_recipe_and_the_lines_say_where_ranges_come_from(folder: Path, told: Mapping[str, Any]) -> None:
    recipe = json.loads((folder / "int8.recipe.json").read_text())
    assert recipe["basis"] == "synthetic inputs" and recipe["observer"] == "widened min-max"
    assert "# The ranges come from synthetic inputs" in told["snippet"]


def test_the_recipe_is_followed_without_data(folder: Path, models: Path, tmp_path: Path) -> None:
    recipe = folder / "int8.recipe.json"
    again = onnxlint_q.quantize(models / "depthwise_spread.onnx", tmp_path / "int8.onnx", recipe=recipe)
    assert (tmp_path / "int8.onnx").read_bytes() == (folder / "int8.onnx").read_bytes()
    assert (tmp_path / "int8.recipe.json").read_text() == recipe.read_text()
    assert again.verification.synthetic and again.result.basis == "probe"


def test_a_scheme_without_ranges_needs_none(tmp_path: Path) -> None:
    weight = RANDOM.normal(size=(32, 8)).astype(np.float32)
    model = onnx_text("g (float[1, 4, 32] x) => (float[1, 4, 8] y) { [m] y = MatMul (x, w) }", w=weight)
    made = onnxlint_q.quantize(model, tmp_path / "int8.onnx", schemes="int8-dynamic")
    recipe = json.loads((tmp_path / "int8.recipe.json").read_text())
    assert (recipe["scheme"], recipe["basis"], recipe["ranges"]) == ("int8-dynamic", None, {})
    assert made.reached and made.observer == ""


def test_tokens_are_made_up_too(tmp_path: Path) -> None:
    table, weight = RANDOM.normal(size=(50, 16)).astype(np.float32), RANDOM.normal(size=(16, 4)).astype(np.float32)
    text = "g (int64[1, 6] t) => (float[1, 6, 4] y) { e = Gather (table, t) r = Relu (e) [m] y = MatMul (r, w) }"
    model = onnx_text(text, table=table, w=weight)
    made = onnxlint_q.quantize(model, tmp_path / "int8.onnx", schemes=SCHEME)
    tokens = RANDOM.integers(0, 50, (16, 1, 6))
    onnx.save(model, tmp_path / "float.onnx")
    exact, rounded = (
        np.concatenate([run(tmp_path / name, {"t": one})[0] for one in tokens]) for name in ("float.onnx", "int8.onnx")
    )
    assert made.verification.synthetic and sqnr_db(exact, rounded) > 25


def test_what_cannot_be_made_up_is_refused_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    weight = RANDOM.normal(size=(3, 4)).astype(np.float32)
    text = """g (string[1, 3] names, float[1, 3] x) => (float[1, 4] y, string[1, 3] same) {
        same = Identity (names) [m] y = MatMul (x, w) }"""
    onnx.save(onnx_text(text, w=weight), tmp_path / "named.onnx")
    words = ["quantize", str(tmp_path / "named.onnx"), "-o", str(tmp_path / "int8.onnx")]
    code, out, err = command(words, monkeypatch, capsys)
    assert (code, out) == (2, "") and "no synthetic inputs can be made: input 'names' is a tensor of strings" in err
    assert {path.name for path in tmp_path.iterdir()} == {"named.onnx"}


def test_a_goal_of_classes_needs_data(tmp_path: Path, models: Path) -> None:
    for data in (None, "random"):
        with pytest.raises(onnxlint_q.UsageError, match="synthetic inputs have no class to keep; give samples"):
            onnxlint_q.quantize(models / "depthwise_spread.onnx", tmp_path / "q.onnx", data, min_agreement=0.9)
