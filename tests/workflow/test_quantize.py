"""`quantize`: a file that does what is told of it, its recipe and its lines make it again, or nothing is written."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx_cases import Array, onnx_text, run, sqnr_db
from printed import command

import onnxlint_q
from onnxlint_q.cli.app import main
from onnxlint_q.errors import ModelError

MADE = "made.onnx"
JUDGED = 16


class Made:
    """A model that was quantised, the folder with what was written, and what was told."""

    def __init__(self, folder: Path, given: Path, data: Path, *words: object) -> None:
        self.folder, self.given, self.data = folder, given, data
        told = folder / "told.json"
        arguments = [given, "-o", folder / MADE, "--calibrate", data, "--output-format", f"json={told}", *words]
        with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
            patch.setattr("sys.argv", ["onnxlint-q", "quantize", *map(str, arguments)])
            main()
        self.code = int(ended.value.code or 0)
        self.told: Mapping[str, Any] = json.loads(told.read_text())
        told.unlink()

    @property
    def file(self) -> Path:
        return self.folder / MADE

    @property
    def names(self) -> set[str]:
        return {path.name for path in self.folder.iterdir()}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, models: Path, calibration: Path) -> Made:
    folder = tmp_path_factory.mktemp("made")
    return Made(folder, models / "depthwise_spread.onnx", calibration, "--keep-float")


def outputs(model: Path, images: Array) -> Array:
    return np.concatenate([run(model, {"images": image[None]})[0] for image in images])


def test_the_file_leaves_of_the_float_outputs_what_is_told(made: Made) -> None:
    assert made.code == 0 and made.told["reached"] and made.told["why_not"] is None
    onnx.checker.check_model(str(made.file), full_check=True)
    assert {"QuantizeLinear", "DequantizeLinear"} <= {node.op_type for node in onnx.load(made.file).graph.node}
    images = np.load(made.data)["images"][-JUDGED:]
    exact, rounded = outputs(made.given, images), outputs(made.file, images)
    result = made.told["result"]
    assert result["output_sqnr_db"] == pytest.approx(sqnr_db(exact, rounded), abs=1.0)
    agree = float(np.mean(exact.argmax(-1) == rounded.argmax(-1)))
    assert result["agreement"] == pytest.approx(agree, abs=1 / JUDGED) and agree > 0.9


def test_it_is_better_than_the_plain_file_and_smaller_where_weights_decide(made: Made) -> None:
    plain = made.told["plain"][made.told["scheme"]]
    assert made.told["result"]["output_sqnr_db"] > plain["output_sqnr_db"]
    sizes = {when: made.told[when]["bytes"] for when in ("before", "after")}
    assert sizes == {"before": made.given.stat().st_size, "after": made.file.stat().st_size}
    assert sum(made.told["multiplications"].values()) == pytest.approx(1.0)
    for when in ("before", "after"):
        times = made.told[when]["latency_ms"]
        assert 0 < times["low"] <= times["median"] <= times["high"]


def test_what_is_written_is_said(made: Made) -> None:
    assert made.names == {MADE, "made.recipe.json", "made.float.onnx"}
    assert made.told["out"] == str(made.file) and made.told["recipe_file"] == str(made.folder / "made.recipe.json")
    recipe = json.loads((made.folder / "made.recipe.json").read_text())
    assert recipe["scheme"] == made.told["scheme"] and recipe["observer"] == made.told["observer"]
    assert len(recipe["shifts"]) == made.told["biases_shifted"]
    assert len(recipe["rounded"]) == made.told["weights_rounded"]
    assert recipe["model"]["name"] == made.given.name and recipe["model"]["sha256"] == made.told["sha256"]


def test_one_scale_a_tensor_is_told_and_not_searched(made: Made) -> None:
    assert set(made.told["plain"]) == {"int8-per-tensor", "int8-per-channel"}
    assert {one["scheme"] for one in made.told["attempts"]} <= {"int8-per-channel", "int8-per-channel-layers-only"}


def test_the_recipe_makes_the_file_again(made: Made, tmp_path: Path) -> None:
    recipe = made.folder / "made.recipe.json"
    again = Made(tmp_path, made.given, made.data, "--recipe", recipe, "--samples", 4)
    assert again.file.read_bytes() == made.file.read_bytes()
    assert json.loads((tmp_path / "made.recipe.json").read_text()) == json.loads(recipe.read_text())
    assert again.told["attempts"] == [] and again.names == {MADE, "made.recipe.json"}


def test_the_lines_make_the_file_again_from_what_lies_beside_it(made: Made, tmp_path: Path) -> None:
    for name in ("made.recipe.json", "made.float.onnx"):
        shutil.copy(made.folder / name, tmp_path)
    (tmp_path / "again.py").write_text(made.told["snippet"])
    done = subprocess.run([sys.executable, "again.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / MADE).read_bytes() == made.file.read_bytes()
    images = np.load(made.data)["images"][:4]
    assert sqnr_db(outputs(made.given, images), outputs(tmp_path / "made.float.onnx", images)) > 20


def test_a_goal_out_of_reach_fails_with_the_best_file(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # One layer leaves little to try.
    weight = np.random.default_rng(0).normal(size=(4, 3, 3, 3)).astype(np.float32)
    text = "g (float[N,3,32,32] images) => (float[N,4,1,1] y) { h = Conv(images, w) y = GlobalAveragePool(h) }"
    onnx.save(onnx_text(text, w=weight), tmp_path / "small.onnx")
    words = ["quantize", tmp_path / "small.onnx", "-o", tmp_path / MADE, "--calibrate", made.data, "--samples", 4]
    goal = ["--min-sqnr", "90", "--min-agreement", "0.5"]
    code, out, err = command([*map(str, words), *goal], monkeypatch, capsys)
    told = " ".join(out.split())
    assert code == 1 and not err
    said = "at least 90 dB at the worst output and the same top class for at least 50 % of the samples"
    assert f"Not reached: {said}. " in told
    assert (
        "The file is the best that was found with at most 25 % of the multiplications out of 8 bits; " in told
        and "Tried, on the samples" in told
    )
    run(tmp_path / MADE, {"images": np.load(made.data)["images"][:1]})
    assert {path.name for path in tmp_path.iterdir()} == {"small.onnx", MADE, "made.recipe.json"}


def test_one_scale_a_tensor_is_all_that_such_hardware_gets(made: Made, tmp_path: Path) -> None:
    coarse = Made(tmp_path, made.given, made.data, "--scheme", "int8-per-tensor", "--min-sqnr", 14)
    assert coarse.code == 0 and set(coarse.told["plain"]) == {"int8-per-tensor"}
    assert coarse.told["result"]["output_sqnr_db"] > coarse.told["plain"]["int8-per-tensor"]["output_sqnr_db"] + 10
    file = onnx.load(coarse.file)
    scales = {name for node in file.graph.node for name in node.input[1:2] if node.op_type.endswith("QuantizeLinear")}
    stored = {one.name: onnx.numpy_helper.to_array(one) for one in file.graph.initializer}
    assert scales and all(stored[name].size == 1 for name in scales)


@pytest.fixture(scope="module")
def matrices(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Products applied position by position, on samples of which every second one is much larger."""
    folder = tmp_path_factory.mktemp("matrices")
    random = np.random.default_rng(0)
    weights = {key: random.normal(size=size).astype(np.float32) for key, size in (("v", (16, 32)), ("w", (32, 8)))}
    text = "g (float[N,4,16] x) => (float[N,4,8] y) { h = MatMul(x, v) r = Relu(h) y = MatMul(r, w) }"
    onnx.save(onnx_text(text, **weights), folder / "given.onnx")
    samples = random.normal(size=(24, 4, 16)).astype(np.float32)
    samples[1::2] *= 300
    np.savez(folder / "data.npz", x=samples)
    return Made(folder, folder / "given.onnx", folder / "data.npz", "--keep-float")


def test_scales_of_each_run_are_taken_where_one_range_does_not_fit_all(matrices: Made, tmp_path: Path) -> None:
    assert matrices.code == 0 and matrices.told["scheme"] == "int8-dynamic" and matrices.told["observer"] is None
    assert "DynamicQuantizeLinear" in {node.op_type for node in onnx.load(matrices.file).graph.node}
    plain = {name: result["agreement"] for name, result in matrices.told["plain"].items()}
    assert plain["int8-per-channel"] < 0.9 < matrices.told["result"]["agreement"]
    for name in ("made.recipe.json", "made.float.onnx"):
        shutil.copy(matrices.folder / name, tmp_path)
    exec_lines(matrices.told["snippet"], tmp_path)
    assert onnx.load(tmp_path / MADE).graph == onnx.load(matrices.file).graph


def exec_lines(lines: str, folder: Path) -> None:
    done = subprocess.run([sys.executable, "-c", lines], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_labels_are_counted(made: Made, tmp_path: Path) -> None:
    images = np.load(made.data)["images"]
    right = outputs(made.given, images).argmax(-1)
    right[-1] += 1
    np.save(tmp_path / "labels.npy", right)
    recipe = made.folder / "made.recipe.json"
    counted = Made(tmp_path, made.given, made.data, "--recipe", recipe, "--labels", tmp_path / "labels.npy")
    top1 = counted.told["top1"]
    assert top1["samples"] == JUDGED and top1["float"] == pytest.approx(1 - 1 / JUDGED)
    assert abs(top1["quantised"] - counted.told["result"]["agreement"]) <= 1 / JUDGED


def test_weights_in_a_second_file_stay_in_one(models: Path, tmp_path: Path) -> None:
    given = models / "external_data.onnx"
    words = ("--samples", 4, "--scheme", "int8-per-tensor", "--keep-float")
    found = Made(tmp_path, given, Path("random"), *words)
    names = {MADE, "made.onnx.data", "made.recipe.json", "made.float.onnx", "made.float.onnx.data"}
    assert found.code == 0 and found.names == names
    assert found.told["before"]["bytes"] == sum(
        (models / name).stat().st_size for name in ("external_data.onnx", "external_data.onnx.data")
    )
    modes = {path.stat().st_mode for path in tmp_path.iterdir()}
    assert len(modes) == 1, "who can read the model can read its weights"
    (tmp_path / "again").mkdir()
    for name in ("made.recipe.json", "made.float.onnx", "made.float.onnx.data"):
        shutil.copy(tmp_path / name, tmp_path / "again")
    exec_lines(found.told["snippet"], tmp_path / "again")
    for name in (MADE, "made.onnx.data"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / name).read_bytes()


def refused(
    words: list[object], folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> str:
    """The one line that is said; no file of the folder is changed, and none is new."""
    before = {path: path.read_bytes() for path in folder.iterdir()}
    code, out, err = command(["quantize", *map(str, words)], monkeypatch, capsys)
    assert code == 2 and not out and err.count("\n") == 1, err
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    return err


@pytest.fixture
def desk(tmp_path: Path, models: Path, calibration: Path) -> Path:
    """A folder with a model, its data, and a recipe of another model."""
    shutil.copy(models / "depthwise_spread.onnx", tmp_path / "m.onnx")
    shutil.copy(calibration, tmp_path / "data.npz")
    other = {"version": 1, "scheme": "int8-per-tensor", "ranges": {"elsewhere": [0, 1]}}
    (tmp_path / "other.json").write_text(json.dumps(other))
    (tmp_path / "text.json").write_text("scheme: int8")
    np.save(tmp_path / "few.npy", np.arange(5))
    return tmp_path


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("m.onnx -o q.onnx --calibrate nowhere.npz", "nowhere.npz"),
        ("m.onnx -o q.onnx --calibrate data.npz --min-agreement 98", "give a fraction from 0 to 1"),
        ("m.onnx -o q.onnx --calibrate data.npz --max-float 2", "max-float 2: give a fraction"),
        ("m.onnx -o q.onnx --calibrate data.npz --min-sqnr nan", "give a number of decibels"),
        ("m.onnx -o q.onnx --calibrate data.npz --scheme int7", "int7"),
        ("m.onnx -o q.onnx --calibrate data.npz --scheme fp8", "no quantiser of ONNX Runtime writes"),
        ("m.onnx -o q.onnx --calibrate data.npz --select equalise", "rewrite 'equalise': choose from"),
        ("m.onnx -o q.onnx --calibrate data.npz --recipe nowhere.json", "cannot be read"),
        ("m.onnx -o q.onnx --calibrate data.npz --recipe text.json", "cannot be read"),
        ("m.onnx -o q.onnx --calibrate data.npz --recipe other.json", "the recipe is of another model"),
        ("m.onnx -o q.onnx --calibrate data.npz --labels few.npy", "--labels: holds 5 classes"),
        ("m.onnx -o q.onnx --calibrate data.npz --output-format sarif", "sarif"),
        ("m.onnx -o q.onnx --calibrate data.npz --html q.onnx", "the report q.onnx would replace a file of this run"),
        ("m.onnx -o q.onnx --calibrate data.npz --html q.recipe.json", "q.recipe.json would replace a file"),
        ("m.onnx -o q.onnx --calibrate data.npz --html q.onnx.data", "q.onnx.data would replace a file of this run"),
        ("m.onnx -o m.onnx --calibrate data.npz", "m.onnx would replace a file of this run"),
        ("m.onnx -o data.npz --calibrate data.npz", "data.npz would replace a file of this run"),
        ("m.onnx -o few.npy --calibrate data.npz --labels few.npy", "few.npy would replace a file of this run"),
        ("m.onnx -o other.onnx --calibrate data.npz --recipe other.recipe.json", "would replace a file of this run"),
        ("m.onnx -o gone/q.onnx --calibrate data.npz", "gone"),
    ],
)
def test_what_cannot_be_is_said_in_a_line_and_nothing_is_written(
    words: str, said: str, desk: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(desk)
    if "other.recipe.json" in words:
        shutil.copy(desk / "other.json", desk / "other.recipe.json")
    assert said in refused([*words.split()], desk, monkeypatch, capsys)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("models/qdq_good.onnx", "the model is quantised already"),
        ("models/dynamic.onnx", "the model is quantised already"),
        ("models/unknown_domain.onnx", "ONNX Runtime cannot run the model"),
        ("broken/truncated.onnx", "the protobuf is corrupt or truncated"),
    ],
)
def test_what_is_no_float_model_that_runs_is_refused(
    name: str,
    said: str,
    models: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = [models.parent / name, "-o", tmp_path / MADE, "--calibrate", "random"]
    assert said in refused([*words], tmp_path, monkeypatch, capsys)


def test_sparse_weights_are_refused_before_anything_runs(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    proto = onnx.load(models / "depthwise_spread.onnx")
    bias = next(tensor for tensor in proto.graph.initializer if len(tensor.dims) == 1)
    values = onnx.numpy_helper.to_array(bias)
    proto.graph.sparse_initializer.append(
        onnx.helper.make_sparse_tensor(
            onnx.numpy_helper.from_array(values, bias.name),
            onnx.numpy_helper.from_array(np.arange(values.size)),
            values.shape,
        )
    )
    proto.graph.initializer.remove(bias)
    onnx.save(proto, tmp_path / "sparse.onnx")
    words = [tmp_path / "sparse.onnx", "-o", tmp_path / MADE, "--calibrate", "random"]
    assert f"store {bias.name!r} as a dense one" in refused([*words], tmp_path, monkeypatch, capsys)


def test_a_file_to_write_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = command(["quantize", "m.onnx", "--calibrate", "random"], monkeypatch, capsys)
    assert code == 2 and not out and "Missing option '--output'" in err and not list(tmp_path.iterdir())


def test_what_lies_there_is_replaced_whole(made: Made, tmp_path: Path) -> None:
    (tmp_path / MADE).write_text("of another run")
    recipe = made.folder / "made.recipe.json"
    again = Made(tmp_path, made.given, made.data, "--recipe", recipe, "--samples", 4)
    assert again.file.read_bytes() == made.file.read_bytes()


def test_programs_quantise_what_is_no_file(matrices: Made, tmp_path: Path) -> None:
    samples = np.load(matrices.data)["x"][:8]
    model = onnx.load(matrices.given)
    found = onnxlint_q.quantize(model, tmp_path / MADE, samples, schemes="int8-dynamic", samples=4)
    assert found.path == "<model>" and found.result.scheme == "int8-dynamic" and (tmp_path / MADE).is_file()
    for form in ("full", "json", "html"):
        assert "int8-dynamic" in onnxlint_q.render(found, form)


def test_channels_that_reach_far_are_divided_in_front_of_layers_where_only_these_are_quantised(tmp_path: Path) -> None:
    """Residual sums keep the factors of a normalisation where they are; a multiplication in front takes them up."""
    rng = np.random.default_rng(0)
    channels, wide, arrays, steps = 64, [3, 11], dict[str, Array](), list[str]()
    for block in range(3):
        gain, weight = np.ones(channels), rng.normal(scale=0.1, size=(channels, channels))
        gain[wide], weight[wide] = 200.0, weight[wide] / 200
        arrays |= {f"gain{block}": gain.astype(np.float32), f"w{block}": weight.astype(np.float32)}
        last = f"h{block - 1}" if block else "x"
        steps.append(f"t{block} = LayerNormalization <axis = -1> ({last}, gain{block})")
        steps.append(f"d{block} = MatMul(t{block}, w{block})\n h{block} = Add(t{block}, d{block})")
    steps.append("y = LayerNormalization <axis = -1> (h2, one)")
    text = f"g (float[1, 8, {channels}] x) => (float[1, 8, {channels}] y) {{ {chr(10).join(steps)} }}"
    given, data = tmp_path / "float.onnx", tmp_path / "data.npz"
    onnx.save(onnx_text(text, one=np.ones(channels, np.float32), **arrays), given)
    np.savez(data, x=rng.normal(size=(32, 8, channels)).astype(np.float32))
    made = onnxlint_q.quantize(
        given, tmp_path / MADE, data, schemes=["int8-per-channel", "int8-per-channel-layers-only"], min_sqnr=42.0
    )
    names = [row.name for row in made.fixed.rewrites if row.places] if made.fixed else []
    assert made.reached and made.result.scheme == "int8-per-channel-layers-only" and "reader-factors" in names
    assert sum(node.op_type == "Mul" for node in onnx.load(tmp_path / MADE).graph.node) == 3


def test_a_scheme_that_the_quantiser_cannot_write_gives_way_to_the_next_best(tmp_path: Path) -> None:
    """Of a transposed convolution in groups the quantiser takes as many scales as a group has channels."""
    rng = np.random.default_rng(0)
    weight, bias = rng.normal(size=(4, 3, 3, 3)).astype(np.float32), rng.normal(size=6).astype(np.float32)
    given, data = tmp_path / "float.onnx", tmp_path / "data.npz"
    text = "g (float[1, 4, 8, 8] x) => (float[1, 6, 10, 10] y) { y = ConvTranspose <group = 2> (x, w, b) }"
    onnx.save(onnx_text(text, w=weight, b=bias), given)
    np.savez(data, x=rng.normal(size=(16, 4, 8, 8)).astype(np.float32))
    made = onnxlint_q.quantize(given, tmp_path / MADE, data)
    assert made.reached and made.result.scheme.startswith("int8-per-tensor") and (tmp_path / MADE).exists()
    assert any(note.startswith("ONNX Runtime's quantiser cannot write int8-per-channel") for note in made.notes)
    with pytest.raises(ModelError, match="cannot be quantised: "):
        onnxlint_q.quantize(given, tmp_path / "none.onnx", data, schemes="int8-per-channel")
    assert not (tmp_path / "none.onnx").exists()


def test_rounded_weights_come_back_from_the_recipe(tmp_path: Path) -> None:
    random = np.random.default_rng(9)
    first, second = (random.standard_normal(shape).astype(np.float32) for shape in ((16, 16), (16, 8)))
    text = "g (float[N,16] x) => (float[N,8] y) { h = MatMul(x, first) r = Relu(h) y = MatMul(r, second) }"
    onnx.save(onnx_text(text, first=first, second=second), tmp_path / "float.onnx")
    alike = (random.standard_normal((96, 1, 3)) @ random.standard_normal((3, 16))).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=alike)
    folders = [tmp_path / name for name in ("made", "again", "nearest")]
    for folder in folders:
        folder.mkdir()
    words = ("--scheme", "int8-dynamic", "--min-sqnr", 90)
    made = Made(folders[0], tmp_path / "float.onnx", tmp_path / "data.npz", *words)
    recipe = folders[0] / "made.recipe.json"
    held = json.loads(recipe.read_text())
    assert held["rounded"] and made.told["weights_rounded"] == len(held["rounded"])
    again = Made(folders[1], made.given, made.data, "--recipe", recipe, "--samples", 4)
    assert again.file.read_bytes() == made.file.read_bytes()
    (tmp_path / "nearest.json").write_text(json.dumps({**held, "rounded": {}}))
    nearest = Made(folders[2], made.given, made.data, "--recipe", tmp_path / "nearest.json")
    figures = (one.told["result"]["output_sqnr_db"] for one in (made, nearest))
    assert next(figures) > next(figures) + 1
