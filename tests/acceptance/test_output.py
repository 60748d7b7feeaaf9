"""Whole printed output of whole runs.

The expected texts lie beside this file. Numbers may differ in their last digits between processors, so they are
compared as numbers, everything else to the letter. `ONNXLINT_Q_RECORD=1 pytest tests/acceptance` writes the texts
anew; read the difference before keeping it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from conftest import HOME

from onnxlint_q.cli import main

HERE = Path(__file__).parent
DATA = "fixtures/data/calibration.npz"
RUNS = {
    "depthwise_spread_static": ["fixtures/models/depthwise_spread.onnx"],
    "depthwise_spread_calibrated": ["fixtures/models/depthwise_spread.onnx", "--calibrate", DATA],
    "near_zero_variance": ["fixtures/models/near_zero_variance.onnx", "--calibrate", DATA],
    "healthy_resnet": ["fixtures/models/healthy_resnet.onnx", "--calibrate", DATA, "--samples", "8"],
    "unfolded_bn": ["fixtures/models/unfolded_bn.onnx"],
    "qdq_coarse_input": ["fixtures/models/qdq_coarse_input.onnx"],
    "qdq_invalid_scale": ["fixtures/models/qdq_invalid_scale.onnx", "--calibrate", DATA],
    "unknown_domain": ["fixtures/models/unknown_domain.onnx", "--calibrate", "random"],
    "newer_opset": ["fixtures/models/newer_opset.onnx"],
    "nan_weights": ["fixtures/models/nan_weights.onnx"],
    "several": [
        "fixtures/models/opset11.onnx",
        "fixtures/broken/lfs_pointer.onnx",
        "fixtures/models/qdq_bad_bias_scale.onnx",
        "--output-format",
        "concise",
    ],
    "rules": ["rule", "--all"],
    "one_rule": ["rule", "low-depthwise-average-precision"],
    "config": ["config", "--show", "fixtures"],
    "compare_depthwise": [
        "compare",
        "fixtures/models/depthwise_spread.onnx",
        "fixtures/models/qdq_per_tensor_depthwise.onnx",
        "--calibrate",
        DATA,
    ],
    "compare_coarse_input": [
        "compare",
        "fixtures/models/opset11.onnx",
        "fixtures/models/qdq_coarse_input.onnx",
        "--calibrate",
        DATA,
        "--output-format",
        "concise",
    ],
    "compare_swapped": [
        "compare",
        "fixtures/models/qdq_good.onnx",
        "fixtures/models/opset11.onnx",
        "--calibrate",
        DATA,
    ],
    "help": ["check", "--help"],
    "help_compare": ["compare", "--help"],
    "wrong_option": ["fixtures/models/healthy_resnet.onnx", "--select", "QW9"],
}
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?")


@pytest.mark.parametrize("name", RUNS)
def test_output(name: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(HOME)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr("sys.argv", ["onnxlint-q", *RUNS[name]])
    with pytest.raises(SystemExit) as left:
        main()
    out, err = capfd.readouterr()
    text = f"$ onnxlint-q {' '.join(RUNS[name])}\n{_timeless(out)}{err}exit {left.value.code or 0}\n"
    expected = HERE / f"{name}.txt"
    if os.environ.get("ONNXLINT_Q_RECORD"):
        expected.write_text(text, "utf-8")
    told = expected.read_text("utf-8")
    assert _NUMBER.sub("#", text) == _NUMBER.sub("#", told)
    for number, wanted in zip(_NUMBER.findall(text), _NUMBER.findall(told), strict=True):
        assert float(number) == pytest.approx(float(wanted), rel=0.05, abs=0.3)


def _timeless(text: str) -> str:
    """The output without its timings."""
    return re.sub(r"(?m)^time: .*\n", "", text)
