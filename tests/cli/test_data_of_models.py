"""The data of each model: the command line, and what the configuration says of it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from onnxlint_q.cli.words.data import data_by_model
from onnxlint_q.cli.words.images import ImageWords
from onnxlint_q.errors import UsageError
from onnxlint_q.judge.config import Config, Data

MODEL = Path("m.onnx")


@pytest.fixture
def samples(tmp_path: Path) -> str:
    np.save(tmp_path / "a.npy", np.zeros((4, 3), np.float32))
    return str(tmp_path / "a.npy")


def test_the_configuration_is_asked_only_where_the_command_line_says_so(samples: str) -> None:
    config = Config(data=Data(calibrate=samples))
    assert data_by_model(None, ImageWords())(config, MODEL) is None
    request = data_by_model("config", ImageWords(), samples=2)(config, MODEL)
    assert request is not None and (request.source.name, request.samples) == (samples, 2)
    with pytest.raises(UsageError, match=r"m.onnx: --calibrate config: the configuration names no data for it"):
        data_by_model("config", ImageWords())(Config(), MODEL)


def test_all_models_share_a_source_where_no_configuration_says_more(samples: str) -> None:
    data_of = data_by_model(samples, ImageWords())
    assert data_of(Config(), MODEL) is data_of(Config(), Path("other.onnx"))


def test_options_of_the_command_line_go_over_those_of_the_configuration() -> None:
    known = Data(preprocess="tf", mean="0.5", resize="96x96")
    assert ImageWords(mean="0.1").over(known) == ImageWords("tf", "0.1", resize="96x96")
    assert ImageWords("unit").over(known) == ImageWords("unit")


def test_what_is_wrong_with_an_option_is_told_before_any_file_is_read() -> None:
    with pytest.raises(UsageError, match="--samples has no effect without data"):
        data_by_model(None, ImageWords(), samples=3)


def test_no_model_is_written_over_the_data_of_the_configuration(models: Path, tmp_path: Path) -> None:
    shutil.copy(models / "healthy_resnet.onnx", tmp_path / "a.onnx")
    (tmp_path / "data.npz").write_bytes(b"mine")
    (tmp_path / "onnxlint-q.toml").write_text('[data]\ncalibrate = "data.npz"\n')
    for command in ("fix", "quantize"):
        words = [sys.executable, "-m", "onnxlint_q", command, "a.onnx", "-o", "data.npz"]
        done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, check=False, timeout=120)
        assert done.returncode == 2 and "would replace a file of this run" in done.stderr, command
    assert (tmp_path / "data.npz").read_bytes() == b"mine"


def test_each_model_runs_on_its_own_data(models: Path, calibration: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        shutil.copy(models / "healthy_resnet.onnx", tmp_path / f"{name}.onnx")
    with np.load(calibration) as stored:
        (first,) = (stored[name] for name in stored.files)
    np.savez(tmp_path / "few.npz", images=first[:4])
    (tmp_path / "onnxlint-q.toml").write_text(
        '[data]\ncalibrate = "random"\n[models."b.*".data]\ncalibrate = "few.npz"\n'
    )
    command = [sys.executable, "-m", "onnxlint_q", ".", "--calibrate", "config", "--samples", "2"]
    command += ["--select", "QD", "--output-format", "json", "--exit-zero"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    told = {model["path"]: model["calibration"] for model in json.loads(done.stdout)["models"]}
    assert {path: (one["synthetic"], one["samples"]) for path, one in told.items()} == {
        "a.onnx": (True, 2),
        "b.onnx": (False, 2),
    }


def inspected(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "onnxlint_q", "inspect", *words, "--output-format", "json"]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False, timeout=120)


def test_inspect_takes_the_data_of_the_configuration(models: Path, calibration: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        shutil.copy(models / "healthy_resnet.onnx", tmp_path / f"{name}.onnx")
    shutil.copy(calibration, tmp_path / "data.npz")
    (tmp_path / "onnxlint-q.toml").write_text(
        '[data]\ncalibrate = "data.npz"\n[models."b.*".data]\ncalibrate = "random"\n'
    )
    told = json.loads(inspected(tmp_path, "a.onnx", "--calibrate", "config").stdout)["models"][0]
    assert told["calibration"]["source"].endswith("data.npz") and not told["calibration"]["synthetic"]
    alone = json.loads(inspected(tmp_path, "a.onnx").stdout)["models"][0]
    assert alone["calibration"] is None
    two = inspected(tmp_path, "a.onnx", "b.onnx", "--calibrate", "config")
    assert two.returncode == 2 and "names other data for b.onnx than for a.onnx" in two.stderr
    without = inspected(tmp_path, "a.onnx", "--calibrate", "config", "--no-config")
    assert without.returncode == 2 and "the configuration names no data for it" in without.stderr
