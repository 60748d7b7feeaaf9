"""The study of bench/study: one small network through the whole chain, and the parts that need no training."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import onnx
import pytest

ROOT = Path(__file__).parents[2]
NETWORK = "dws_gamma_he"
needs_training = pytest.mark.skipif(
    find_spec("torch") is None or find_spec("sklearn") is None,
    reason="training needs the optional extra `study` (torch, scikit-learn)",
)


@pytest.fixture(autouse=True)
def root_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))


def _study(*arguments: str | Path) -> None:
    paths = (str(ROOT), str(ROOT / "rules"), os.environ.get("PYTHONPATH"))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    subprocess.run([sys.executable, "-m", "bench.study", *arguments], cwd=ROOT, env=environment, check=True)


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@needs_training
def test_one_network_from_training_to_tables(tmp_path: Path) -> None:
    out, results = tmp_path / "out", tmp_path / "results"
    _study("train", out, "--only", NETWORK, "--epochs", "1")
    _study("measure", out, results, "--only", NETWORK, "--trials", "2", "--calibration", "8")

    model = onnx.load(out / "models" / f"{NETWORK}.onnx")
    assert sum(node.op_type == "BatchNormalization" for node in model.graph.node) == 11
    trained = _rows(out / "training.csv")
    assert [row["epoch"] for row in trained] == ["0", "1"]
    accuracy = _rows(results / "accuracy.csv")
    assert {(row["scheme"], row["trial"]) for row in accuracy} >= {("int8-per-tensor", "0"), ("int8-per-channel", "1")}
    # The file computes what the trainer's network does, BatchNormalization folded or not.
    accuracies = [float(row["float_accuracy"]) for row in accuracy]
    assert accuracies == pytest.approx([float(trained[-1]["float_accuracy"])] * len(accuracies), abs=2e-3)
    ranges = _rows(results / "ranges.csv")
    assert {row["epoch"] for row in ranges} == {"0", "1"}
    untrained = next(row for row in ranges if row["epoch"] == "0" and row["kind"] == "depthwise")
    # Before training gamma and variance are 1, so that folding changes nothing but by epsilon.
    assert float(untrained["folded"]) == pytest.approx(float(untrained["weight"]), rel=2e-3)
    layers = _rows(results / "layers.csv")
    assert [row["kind"] for row in layers[:3]] == ["regular", "depthwise", "pointwise"]
    assert all(float(row["qmse"]) > 0 for row in layers)
    truth = json.loads((out / "truth" / f"{NETWORK}.json").read_text(encoding="utf-8"))
    assert len(truth["layers"]) == 13
    for figure in results.glob("*.svg"):
        ElementTree.parse(figure)


def test_calibration_subsets_share_no_image() -> None:
    digits = import_module("bench.study.digits")
    images = np.arange(40, dtype=np.float32).reshape(40, 1, 1, 1)
    data = digits.Digits(images, np.zeros(40, np.int64), images[:1], np.zeros(1, np.int64))
    subsets = [set(data.calibration(trial, 8).ravel()) for trial in range(5)]
    assert len(set.union(*subsets)) == 40
    with pytest.raises(ValueError, match="trial 5 needs 8"):
        data.calibration(5, 8)


def test_upsampling_keeps_flat_images_flat_and_ramps_straight() -> None:
    upsample = import_module("bench.study.digits").upsample
    assert np.allclose(upsample(np.full((1, 8, 8), 0.5, np.float32)), 0.5)
    ramp = upsample(np.broadcast_to(np.arange(8, dtype=np.float32), (1, 8, 8)))
    assert np.allclose(np.diff(ramp[0, 0, 1:-1]), 0.5)


def test_figures_leave_out_what_has_no_logarithm() -> None:
    figures = import_module("bench.study.figures")
    lines = [figures.Line("a < b", [1, 2, 3], [1.0, 0.0, 100.0], [0.5, 0.5, 200.0])]
    svg = figures.draw([figures.Panel("t & u", "x", lines, log=True), figures.Panel("flat", "x", lines)], 1)
    root = ElementTree.fromstring(svg)
    assert len(list(root)) == 3  # the ground and two panels
    assert "nan" not in svg
    assert "inf" not in svg
    assert "a &lt; b" in svg
