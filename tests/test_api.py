"""What programs call: every form of a model and of data gives one answer, from wherever it is called."""

from __future__ import annotations

import doctest
import itertools
import json
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

import onnxlint_q
from onnxlint_q import (
    Comparison,
    DataError,
    ModelError,
    ModelResult,
    OnnxlintError,
    Preprocessing,
    UsageError,
    Verdict,
    compare,
    inspect,
    lint,
    render,
)
from onnxlint_q.execute import child
from onnxlint_q.execute.limits import Limits

BAD, GOOD, OLD = "depthwise_spread.onnx", "healthy_resnet.onnx", "opset11.onnx"
FLOAT, INT8 = "depthwise_spread.onnx", "qdq_per_tensor_depthwise.onnx"
NAMES = {"path", "sha256", "seconds", "calibration"}
SAMPLES = 4
FORMS: dict[str, Callable[[Path], Any]] = {
    "str": str,
    "bytes": Path.read_bytes,
    "bytearray": lambda path: bytearray(path.read_bytes()),
    "proto": onnx.load,
}


def answer(result: ModelResult) -> dict[str, Any]:
    """What stands in the JSON, without name, times and where the data came from."""
    (told,) = json.loads(render(result, "json"))["models"]
    return {key: value for key, value in told.items() if key not in NAMES}


@pytest.fixture(scope="module")
def known(models: Path) -> ModelResult:
    return lint(models / BAD)


@pytest.fixture(scope="module")
def arrays(calibration: Path) -> dict[str, Any]:
    with np.load(calibration) as stored:
        return {name: array[: 2 * SAMPLES] for name, array in stored.items()}


@pytest.fixture(scope="module")
def archive(arrays: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "samples.npz"
    np.savez(path, **arrays)
    return path


@pytest.fixture(scope="module")
def measured(models: Path, archive: Path) -> ModelResult:
    return lint(models / BAD, archive, samples=SAMPLES)


# -- models ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_every_form_of_a_model_gives_one_answer(form: Callable[[Path], Any], models: Path, known: ModelResult) -> None:
    result = lint(form(models / BAD))
    assert known.findings and result.findings == known.findings and answer(result) == answer(known)
    assert result.path == ("<model>" if form is not str else str(models / BAD))
    if form is Path.read_bytes:
        assert result.sha256 == known.sha256


def test_the_command_line_says_the_same(models: Path, measured: ModelResult, archive: Path) -> None:
    words = [str(models / BAD), "--no-config", "--calibrate", str(archive), "--samples", str(SAMPLES)]
    words += ["--output-format", "json"]
    done = subprocess.run([sys.executable, "-m", "onnxlint_q", *words], capture_output=True, text=True, check=False)
    (told,), (ours,) = (json.loads(text)["models"] for text in (done.stdout, render(measured, "json")))
    assert {**told, "seconds": 0} == {**ours, "seconds": 0} and told["findings"]


def test_a_model_that_is_given_stays_as_it_is(models: Path) -> None:
    model = onnx.load(models / OLD)
    before = model.SerializeToString(deterministic=True)
    lint(model, "random", samples=1)
    assert model.SerializeToString(deterministic=True) == before


def test_no_place_of_ours_is_told(models: Path) -> None:
    in_memory, stored = (lint(form(models / OLD), probe=True) for form in (Path.read_bytes, str))
    told = json.dumps(answer(in_memory))
    assert "<model>" in told, "a call that is advised names the model"
    assert "onnxlint-q-" not in told and "/tmp" not in told
    codes = [[finding.code for finding in result.findings] for result in (in_memory, stored)]
    assert codes[0] == codes[1]


def test_weights_in_another_file_are_read_from_a_path_only(models: Path, tmp_path: Path) -> None:
    path = models / "external_data.onnx"
    apart = onnx.load(path, load_external_data=False)
    for model in (apart, path.read_bytes()):
        with pytest.raises(
            ModelError, match=r"^<model>: initializer '.*' has its values in another file, .* onnx\.load "
        ):
            lint(model)
    assert answer(lint(onnx.load(path))) == answer(lint(path))


def test_a_model_that_cannot_be_read_raises(models: Path, broken: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"nowhere\.onnx: no such file"):
        lint(tmp_path / "nowhere.onnx")
    with pytest.raises(ModelError, match=r"^<model>: the file is empty"):
        lint(b"")
    with pytest.raises(ModelError, match=r"^<model>: this is a text file"):
        lint(b"hello")
    with pytest.raises(ModelError, match=r"^<model>: parsed, but it holds no graph"):
        lint(onnx.ModelProto(ir_version=8))
    with pytest.raises(ModelError, match=r"^<model>: the protobuf is corrupt or truncated"):
        lint((models / GOOD).read_bytes()[:-9])
    with pytest.raises(UsageError, match=r"^<model>: a GraphProto is no model; give a path, bytes, or an onnx\.Model"):
        lint(onnx.load(models / GOOD).graph)
    for name in ("cyclic.onnx", "lfs_pointer.onnx", "missing_external_data.onnx"):
        with pytest.raises(OnnxlintError) as caught:
            lint(broken / name)
        assert str(broken / name) in str(caught.value)


def test_a_file_that_ends_its_reader_is_an_error(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "_FRESH", "import os; os.kill(os.getpid(), 11)")
    with pytest.raises(ModelError, match=r"^<model>: could not be linted: the process was ended by signal"):
        lint((models / GOOD).read_bytes())
    with pytest.raises(ModelError, match=r"^<float model> and .*int8.*: could not be compared: the process was "):
        compare((models / GOOD).read_bytes(), models / "int8.onnx", "random")


# -- data ------------------------------------------------------------------------------------------------------------


def test_every_form_of_data_gives_one_answer(models: Path, measured: ModelResult, arrays: dict[str, Any]) -> None:
    (images,) = arrays.values()
    forms = {
        "mapping": arrays,
        "array": images,
        "samples one by one": [{"images": image} for image in images],
        "batches": (images[start : start + 3] for start in range(0, len(images), 3)),
        "one sample a batch": iter([image[None] for image in images]),
    }
    for name, data in forms.items():
        result = lint(models / BAD, data, samples=SAMPLES)
        assert result.calibration is not None and result.calibration.source == "<data>", name
        assert answer(result) == answer(measured), name


def test_an_iterable_is_read_once_and_not_to_its_end(models: Path, arrays: dict[str, Any]) -> None:
    (images,) = arrays.values()
    taken = 0

    def endless() -> Iterator[dict[str, Any]]:
        nonlocal taken
        for image in itertools.cycle(images):
            taken += 1
            yield {"images": image}

    result = lint(models / BAD, endless(), samples=4)
    assert taken == 8
    assert result.calibration is not None
    assert (result.calibration.samples, result.calibration.held_out) == (4, 4)
    lint(models / BAD, endless(), samples=2, trials=3)
    assert taken == 8 + 2 * 4


class Tensor:
    """What another library calls an array; iterating it would give its rows."""

    def __init__(self, values: Any) -> None:
        self.values = values

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return np.asarray(self.values, dtype)

    def __iter__(self) -> Iterator[Any]:
        raise NotImplementedError


def test_arrays_of_other_libraries_are_arrays(models: Path, measured: ModelResult, arrays: dict[str, Any]) -> None:
    (images,) = arrays.values()
    for data in (Tensor(images), {"images": Tensor(images)}):
        assert answer(lint(models / BAD, data, samples=SAMPLES)) == answer(measured)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (7, "data: a int holds no samples; give a path, arrays, or what gives them"),
        ([], "data: it gave no item; an iterator that was read before is empty, give a new one"),
        ({}, "data: give an array for each input name, "),
        ({1: np.zeros(3)}, "data: give an array for each input name, "),
        ([{"x": [[1], [2, 3]]}], "data, item 0, input 'x': a list "),
        ({"x": ["a", "b"]}, "data, input 'x': a list is no array of numbers; give a numpy array"),
        ([object()], "data, item 0: a object is no array of numbers; give a numpy array"),
    ],
)
def test_what_is_no_data_is_refused(models: Path, data: Any, message: str) -> None:
    with pytest.raises(DataError) as caught:
        lint(models / GOOD, data)
    assert str(caught.value).startswith(message)


def test_more_than_an_archive_may_hold_is_refused(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxlint_q.api.data.DEFAULT_LIMITS", Limits(archive_bytes=4000))
    with pytest.raises(DataError, match=r"^data: holds more than 0 GB; give fewer samples, or the path of an \.npy"):
        lint(models / GOOD, (np.zeros(10) for _ in itertools.count()), samples=1000)


def test_data_that_does_not_fit_costs_the_run_only(models: Path, known: ModelResult) -> None:
    result = lint(models / BAD, {"images": np.zeros((4, 7), np.float32)})
    assert result.fails and "has shape" in result.untested_because
    assert {"QX004"} == {finding.code for finding in result.findings} - {finding.code for finding in known.findings}


def test_labels_are_classes_or_a_file_of_them(models: Path, arrays: dict[str, Any], tmp_path: Path) -> None:
    classes = np.arange(2 * SAMPLES)
    np.save(tmp_path / "labels.npy", classes)
    forms = (classes, classes.tolist(), tmp_path / "labels.npy")
    results = [lint(models / GOOD, arrays, labels=given, samples=SAMPLES) for given in forms]
    first = results[0].scheme("int8-per-channel").top1
    assert first is not None
    assert all(result.scheme("int8-per-channel").top1 == first for result in results)
    with pytest.raises(DataError, match=r"^labels: sample 1 has class -1; count classes from 0$"):
        lint(models / GOOD, arrays, labels=[0, -1])
    with pytest.raises(UsageError, match=r"^labels none\.npy: there is no such file"):
        lint(models / GOOD, arrays, labels="none.npy")


def test_pictures_are_prepared_as_said(models: Path, tmp_path: Path) -> None:
    for number in range(3):
        Image.fromarray(np.full((40, 40, 3), 80 * number, np.uint8)).save(tmp_path / f"{number}.png")
    for how, told in (("tf", "tf"), (Preprocessing("ours", (0.5,), (2.0,)), "ours")):
        result = lint(models / GOOD, tmp_path, preprocess=how)
        assert result.calibration is not None and result.calibration.preprocessing.startswith(f"{told}, RGB")


# -- arguments -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"schemes": "int3"}, "scheme 'int3': choose from int8-per-tensor"),
        ({"select": "QW9"}, "select 'QW9': no rule matches"),
        ({"ignore": ["outlier-gama"]}, "did you mean 'outlier-gamma'?"),
        ({"fail_on": "fatal"}, "fail-on 'fatal' is not one of error, warning, info, none"),
        ({"config": "no.toml"}, "no.toml: no such configuration file"),
        ({"data": "nowhere.npz"}, "calibration data nowhere.npz: no such file or folder"),
        ({"labels": [1]}, "without data, labels would have no effect; give data"),
        ({"trials": 3, "measure_layers": True}, "without data, trials and measure_layers would have no effect"),
        ({"data": "random", "preprocess": "tf"}, "preprocess has no effect on random, which is no folder of images"),
        ({"data": "random", "preprocess": "vgg"}, "preprocessing 'vgg' is not one of imagenet, tf, unit, raw"),
        ({"data": "random", "samples": 0}, "samples 0: ask for 1 to 1000000"),
        ({"data": "random", "observer": "eye"}, "observer 'eye': choose from min-max"),
        ({"data": "random", "trials": 1}, "trials 1: one alone has no spread; ask for at least 2"),
        ({"data": "random", "labels": [1]}, "labels have no effect on random data: noise has no class; give samples"),
    ],
)
def test_arguments_that_cannot_be_used_say_what_would_be_right(
    models: Path, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        lint(models / GOOD, **arguments)
    assert message in str(caught.value) and not str(caught.value).startswith("--")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"std": (0.0,)}, "std 0: a standard deviation cannot be zero or negative"),
        ({"mean": ()}, r"mean \(\): give finite numbers"),
        ({"scale": float("nan")}, "scale nan: give a finite factor"),
        ({"crop": (9,)}, r"crop \(9,\): give pixels from 1 to 8192"),
        ({"channel_order": "bgra"}, "channel order 'bgra': choose rgb or bgr"),
        ({"layout": "chwn"}, "layout 'chwn': choose nchw or nhwc"),
    ],
)
def test_preprocessing_that_cannot_be_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=f"^{message}"):
        Preprocessing(**values)


def test_only_a_configuration_that_is_named_is_read(models: Path, tmp_path: Path) -> None:
    shutil.copy(models / BAD, tmp_path)
    (tmp_path / "onnxlint-q.toml").write_text('scheme = ["int8-per-channel"]')
    there = lint(tmp_path / BAD)
    named = lint(tmp_path / BAD, config=tmp_path / "onnxlint-q.toml")
    assert [scheme.scheme for scheme in there.schemes] == ["int8-per-tensor", "int8-per-channel"]
    assert [scheme.scheme for scheme in named.schemes] == ["int8-per-channel"]


def test_what_is_asked_for_is_what_comes(models: Path, known: ModelResult) -> None:
    assert known.scheme("int8-per-tensor").verdict is Verdict.BREAKS and known.fails
    result = lint(models / BAD, schemes=["int8-per-tensor"], select="QW", ignore=("QW001",), fail_on="none")
    assert {finding.code for finding in result.findings} == {"QW003"} and result.fails
    assert not lint(models / BAD, select="QW003", fail_on="none", fail_on_verdict="none").fails
    with pytest.raises(UsageError, match=r"^scheme 'int8-per-channel' was not judged; judged: int8-per-tensor$"):
        result.scheme("int8-per-channel")
    told: list[str] = []
    lint(models / BAD, probe=True, progress=lambda stage, done, total: told.append(stage))
    assert "probing" in told


# -- compare and render ----------------------------------------------------------------------------------------------


def compared(found: Comparison) -> dict[str, Any]:
    """The same of a comparison."""
    told = json.loads(render(found, "json"), object_hook=lambda part: {k: v for k, v in part.items() if k not in NAMES})
    assert isinstance(told, dict)
    return told


def test_models_and_data_of_every_form_compare_alike(models: Path, archive: Path, arrays: dict[str, Any]) -> None:
    stored = compare(models / FLOAT, models / INT8, archive)
    held = compare(onnx.load(models / FLOAT), (models / INT8).read_bytes(), arrays)
    assert stored.rows and stored.findings and held.findings == stored.findings
    assert held.result == stored.result and held.fails == stored.fails
    assert compared(held) == compared(stored)
    assert (held.reference.path, held.quantized.path) == ("<float model>", "<quantised model>")
    for form in ("concise", "html", "full"):
        assert "quantised model" in render(held, form)
    assert pickle.loads(pickle.dumps(held)).findings == held.findings


def test_models_and_data_of_every_form_are_inspected_alike(models: Path, archive: Path, arrays: dict[str, Any]) -> None:
    stored = inspect(models / FLOAT, models / INT8, archive, samples=SAMPLES)
    held = inspect(onnx.load(models / FLOAT), (models / INT8).read_bytes(), arrays, samples=SAMPLES)
    assert [model.path for model in held.models] == ["<model>", "<other model>"]
    assert [model.qparams for model in held.models] == [model.qparams for model in stored.models]
    assert held.models[0].activations == stored.models[0].activations != ()
    assert held.side_by_side is not None and len(pickle.dumps(held)) > 0
    for form in ("full", "json", "html"):
        assert "other model" in render(held, form)
    with pytest.raises(UsageError, match=r"^report format 'sarif': choose from full, json, html"):
        render(held, "sarif")


def test_one_tensor_is_told_and_values_become_codes(models: Path) -> None:
    known = inspect(models / INT8)
    worst = next(pair for pair in known.models[0].qparams if pair.kind == "activation")
    (sheet,) = inspect(models / INT8, tensor=worst.tensor).sheets
    assert sheet.name == worst.tensor
    (rounded,) = inspect(models / INT8, tensor=worst.tensor, values=(0.0, 1e9)).rounded
    zero, largest = rounded.values
    assert zero.back == 0.0 and largest.saturated and largest.code == 127
    assert worst.high is not None and largest.back == pytest.approx(worst.high)
    for values in ("7", ["a"], [None], [10**400], [float("nan")], [float("-inf")], 7):
        with pytest.raises(UsageError, match=r"^values: "):
            inspect(models / INT8, values=values)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="nowhere"):
        inspect(models / INT8, tensor="nowhere")
    with pytest.raises(ModelError, match="no such file"):
        inspect("nowhere.onnx")


def test_counts_are_whole_numbers(models: Path, arrays: dict[str, Any]) -> None:
    for counts in ({"samples": 2.5}, {"samples": "2"}, {"trials": 2.5}):
        with pytest.raises(UsageError, match=r": give a whole number$"):
            lint(models / GOOD, arrays, **counts)


def test_the_working_directory_may_be_gone(known: ModelResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    for form in ("sarif", "github"):
        assert known.path in render(known, form)


def test_what_cannot_be_compared_raises(models: Path, arrays: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="are the same file"):
        compare(models / INT8, models / INT8, arrays)
    with pytest.raises(UsageError, match=r"^<quantised model> is not quantised as far as can be seen"):
        compare(models / FLOAT, (models / FLOAT).read_bytes(), arrays)
    with pytest.raises(DataError, match="has shape"):
        compare(models / FLOAT, models / INT8, np.zeros((4, 7), np.float32))
    with pytest.raises(UsageError, match=r"^compare runs both models on data; give an \.npz, "):
        compare(models / FLOAT, models / INT8, None)  # type: ignore[arg-type]


def test_reports_of_one_and_of_several(models: Path, known: ModelResult) -> None:
    good = lint(models / GOOD)
    both = render([known, good], "concise")
    assert both.startswith(render(known, "concise").splitlines()[0])
    assert f"{GOOD}: " in both and f"{GOOD}: " not in render(known, "concise")
    assert "\x1b[" in render(known, colour=True) and "\x1b[" not in render(known)
    assert len(render(known, verbose=True)) > len(render(known))
    with pytest.raises(UsageError, match="a str among results of lint"):
        render(["a.onnx"])  # type: ignore[list-item]
    with pytest.raises(UsageError, match=r"^report format 'pdf': choose from full, concise, json, json-lines, html"):
        render(known, "pdf")


def test_results_are_plain_values(known: ModelResult, measured: ModelResult) -> None:
    for result in (known, measured):
        again = pickle.loads(pickle.dumps(result))
        assert again == result and answer(again) == answer(result)


# -- wherever it is called from --------------------------------------------------------------------------------------

SCRIPT = """
import onnxlint_q
for data in (None, "random"):
    result = onnxlint_q.lint({path!r}, data, samples=1)
    print(result.scheme("int8-per-tensor").verdict)
"""
POOL = """
import multiprocessing
import onnxlint_q
if __name__ == "__main__":
    for method in multiprocessing.get_all_start_methods():
        with multiprocessing.get_context(method).Pool(1) as pool:  # its workers may have no children of multiprocessing
            print(pool.apply(onnxlint_q.lint, ({path!r},)).scheme("int8-per-tensor").verdict)
"""
NOTEBOOK = """
import asyncio, onnxlint_q, onnxruntime
async def cell():
    print(onnxlint_q.lint({path!r}).scheme("int8-per-tensor").verdict)
asyncio.run(cell())
print(asyncio.run(asyncio.to_thread(onnxlint_q.lint, {path!r})).scheme("int8-per-tensor").verdict)
"""


@pytest.mark.parametrize(
    ("program", "way"),
    [(SCRIPT, "file"), (SCRIPT, "typed"), (NOTEBOOK, "file"), (NOTEBOOK, "words"), (POOL, "file")],  # a pool needs one
    ids=["script", "typed script", "notebook as a file", "notebook", "pool"],
)
def test_it_can_be_called_from_anywhere(models: Path, tmp_path: Path, program: str, way: str) -> None:
    text = program.format(path=str(models / BAD))
    if way == "file":  # without a guard: nothing but the program itself may run it
        (tmp_path / "program.py").write_text(text)
        words, typed = ["program.py"], None
    else:
        words, typed = (["-c", text], None) if way == "words" else (["-"], text)
    done = subprocess.run(
        [sys.executable, *words], cwd=tmp_path, input=typed, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and not done.stderr, done.stderr
    assert done.stdout.split() and set(done.stdout.split()) == {"breaks"}


def test_several_threads_may_call(models: Path) -> None:
    names = (BAD, GOOD, BAD, GOOD)
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lint, (models / name for name in names)))
    assert [Path(result.path).name for result in results] == list(names)
    assert results[0].findings == results[2].findings != results[1].findings


def test_what_the_docstrings_show(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, stored in (("model.onnx", BAD), ("float.onnx", FLOAT), ("int8.onnx", INT8)):
        shutil.copy(models / stored, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    import onnxlint_q.api.calls as module

    tried = doctest.testmod(module)
    assert tried.attempted > 6 and not tried.failed
    assert all(getattr(onnxlint_q, name).__doc__ for name in ("lint", "compare", "inspect", "render"))


def test_open_axes_are_given_by_name() -> None:
    proto = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> g (float[N, 2, H, W] x) => (float[N, 2, H, W] y) { y = Relu(x) }'
    )
    for length in (0, -1, 2.5):
        with pytest.raises(UsageError, match="no whole number above zero"):
            onnxlint_q.lint(proto, input_shapes={"x": (1, 2, 8, length)})  # type: ignore[dict-item]
    (taken,) = onnxlint_q.lint(proto, input_shapes={"x": [1, 2, 40, 48]}).inputs
    assert taken.taken == (1, 2, 40, 48)


def test_what_is_written_replaces_nothing_that_is_read(models: Path, tmp_path: Path) -> None:
    given = Path(shutil.copy(models / "healthy_resnet.onnx", tmp_path / "m.onnx"))
    data = tmp_path / "d.npz"
    np.savez(data, x=np.zeros((4, 3, 32, 32), np.float32))
    (tmp_path / "again.onnx").symlink_to(given)
    recipe = tmp_path / "small.recipe.json"
    recipe.write_text("{}")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for out in ("m.onnx", "again.onnx", "d.npz", "small.onnx"):
        with pytest.raises(UsageError, match="would replace a file of this run"):
            onnxlint_q.quantize(given, tmp_path / out, data, recipe=recipe)
    for out in ("m.onnx", "again.onnx", "d.npz"):
        with pytest.raises(UsageError, match="would replace a file of this run"):
            onnxlint_q.fix(given, tmp_path / out, data)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
