"""The corpus of bench/study/corpus: copies compute what they should, and truth is measured once, failures included."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper, parser

ROOT = Path(__file__).parents[2]
RANDOM = np.random.default_rng(5)
CHANNELS = 6
TEXT = """
<ir_version: 8, opset_import: ["" : 13]>
net (float[N, 3, 8, 8] x) => (float[N, 4] y) {
  a = Conv <pads = [1, 1, 1, 1]> (x, w1)
  b = BatchNormalization (a, g1, b1, m1, v1)
  c = Relu (b)
  d = Conv <pads = [1, 1, 1, 1], group = 6> (c, w2)
  e = BatchNormalization (d, g2, b2, m2, v2)
  f = Relu (e)
  h = Conv (f, w3)
  p = GlobalAveragePool (h)
  y = Flatten (p)
}
"""


def part(name: str) -> ModuleType:
    return import_module(f"bench.study.corpus.{name}")


@pytest.fixture(autouse=True)
def root_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{ROOT / 'rules'}")
    monkeypatch.chdir(ROOT)


@pytest.fixture
def network() -> onnx.ModelProto:
    model: onnx.ModelProto = parser.parse_model(TEXT)
    shapes = {"w1": (CHANNELS, 3, 3, 3), "w2": (CHANNELS, 1, 3, 3), "w3": (4, CHANNELS, 1, 1)}
    values = {name: RANDOM.standard_normal(shape) for name, shape in shapes.items()}
    for number in (1, 2):
        for name in ("g", "v"):
            values[f"{name}{number}"] = RANDOM.uniform(0.5, 2, CHANNELS)
        for name in ("b", "m"):
            values[f"{name}{number}"] = RANDOM.standard_normal(CHANNELS)
    stored = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in values.items()]
    model.graph.initializer.extend(stored)
    return model


def images(count: int) -> npt.NDArray[np.float32]:
    return RANDOM.standard_normal((count, 3, 8, 8)).astype(np.float32)


def run(model: onnx.ModelProto, x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    found: npt.NDArray[np.float32] = ort.InferenceSession(model.SerializeToString()).run(None, {"x": x})[0]
    return found


@pytest.mark.parametrize("name", ["folded", "rescaled8"])
def test_copies_compute_the_same(network: onnx.ModelProto, name: str) -> None:
    changed = part("variants").VARIANTS[name].apply(network, np.random.default_rng(0))
    assert changed is not None
    assert changed.SerializeToString() != network.SerializeToString()
    x = images(3)
    np.testing.assert_allclose(run(changed, x), run(network, x), rtol=1e-3, atol=1e-4)


def test_folding_leaves_no_normalisation(network: onnx.ModelProto) -> None:
    changed = part("variants").VARIANTS["folded"].apply(network, RANDOM)
    assert [node.op_type for node in changed.graph.node] == [
        "Conv", "Relu", "Conv", "Relu", "Conv", "GlobalAveragePool", "Flatten"
    ]  # fmt: skip


def test_a_dead_channel_has_the_widest_gain_and_no_signal(network: onnx.ModelProto) -> None:
    changed = part("variants").VARIANTS["deadened"].apply(network, np.random.default_rng(0))
    values = {value.name: numpy_helper.to_array(value) for value in changed.graph.initializer}
    gains = np.abs(values["g2"]) / np.sqrt(values["v2"] + 1e-5)
    dead = int(values["v2"].argmin())
    assert gains[dead] > 10 * np.median(gains)
    inner = part("cuts").cut(changed, "c")
    assert run(inner, images(3))[:, dead].max() == 0


def test_a_cut_gives_the_inner_tensor_alone(network: onnx.ModelProto) -> None:
    made = part("cuts").cut(network, "f")
    assert [output.name for output in made.graph.output] == ["f"]
    assert {value.name for value in made.graph.initializer} == {f"{n}{k}" for n in "wgbmv" for k in (1, 2)}
    assert run(made, images(2)).shape == (2, CHANNELS, 8, 8)


def test_truth_is_measured_once_and_failures_are_kept(
    network: onnx.ModelProto, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, measure = part("store"), part("measure")
    corpus = store.Corpus(tmp_path)
    corpus.add(store.About("whole", "one", "test", "cnn"), network, {"x": images(12)})
    corpus.add(store.About("wrong", "one", "test", "cnn"), network, {"x": images(12)[:, :2]})
    for of_layers in (False, True, False):
        measure.measure_all(corpus, 60.0, of_layers=of_layers, only=None)
    told = [line.rsplit(",", 1)[0] for line in capsys.readouterr().out.splitlines()]
    assert [line.split(":")[0] for line in told] == ["whole", "wrong", "whole"]
    truth = json.loads(corpus.truth("whole").read_text(encoding="utf-8"))
    assert [layer["output"] for layer in truth["layers"]] == ["b", "e", "h"]
    assert truth["end_to_end"]["per_channel"] == truth["end_to_end"]["int8-per-channel"]
    assert truth["end_to_end"]["int8-per-channel"]["sqnr_db"] > truth["end_to_end"]["int4-weights"]["sqnr_db"]
    assert (truth["calibration_samples"], truth["end_to_end_samples"]) == (4, 8)
    assert corpus.failed("wrong").read_text(encoding="utf-8").strip()
    assert [entry["name"] for entry in json.loads((tmp_path / "manifest.json").read_text())] == ["whole"]
