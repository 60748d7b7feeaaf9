"""Whole printed output of whole runs.

The expected texts lie beside this file. Words are compared to the letter. Figures are compared as numbers: what follows
from the file alone to its last printed digit, what was measured by running the model to what another order of summation
does (ties.py). Where every figure is printed as it was recorded, so has every space and line to be.

`ONNXLINT_Q_RECORD=1 pytest tests/acceptance` writes the texts anew; read the difference before keeping it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

import onnx
import pytest
import ties
from conftest import HOME

from onnxlint_q.cli.app import main

HERE = Path(__file__).parent
DATA = "fixtures/data/calibration.npz"
MOBILENET = "fixtures/models/near_zero_variance.onnx"
RUNS = {
    "depthwise_spread_static": ["fixtures/models/depthwise_spread.onnx"],
    "depthwise_spread_calibrated": ["fixtures/models/depthwise_spread.onnx", "--calibrate", DATA],
    "near_zero_variance": ["fixtures/models/near_zero_variance.onnx", "--calibrate", DATA],
    "healthy_resnet": ["fixtures/models/healthy_resnet.onnx", "--calibrate", DATA, "--samples", "8"],
    "unfolded_bn": ["fixtures/models/unfolded_bn.onnx"],
    "qdq_coarse_input": ["fixtures/models/qdq_coarse_input.onnx"],
    # Not on data: what the operator makes of a scale that is no number is each kernel's own.
    "qdq_invalid_scale": ["fixtures/models/qdq_invalid_scale.onnx"],
    "unknown_domain": ["fixtures/models/unknown_domain.onnx", "--calibrate", "random"],
    "newer_opset": ["fixtures/models/newer_opset.onnx"],
    "nan_weights": ["fixtures/models/nan_weights.onnx"],
    "folder": ["fixtures/models/opset11.onnx", "fixtures/broken/empty.onnx", "fixtures/models/qdq_bad_bias_scale.onnx"],
    "quiet": ["fixtures/models/opset11.onnx", "fixtures/models/qdq_bad_bias_scale.onnx", "--quiet"],
    "several": [
        "fixtures/models/opset11.onnx",
        "fixtures/broken/lfs_pointer.onnx",
        "fixtures/models/qdq_bad_bias_scale.onnx",
        "--output-format",
        "concise",
    ],
    **{
        report_format: [
            "fixtures/models/depthwise_spread.onnx",
            "fixtures/broken/lfs_pointer.onnx",
            "--ignore",
            "near-zero-variance",
            "--output-format",
            report_format,
        ]
        for report_format in ("github", "sarif")
    },
    "rules": ["rule"],
    "family": ["rule", "qb"],
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
    **{
        f"compare_{report_format}": [
            "compare",
            "fixtures/models/opset11.onnx",
            "fixtures/models/qdq_coarse_input.onnx",
            "--calibrate",
            DATA,
            "--output-format",
            report_format,
        ]
        for report_format in ("github", "sarif")
    },
    "compare_swapped": [
        "compare",
        "fixtures/models/qdq_good.onnx",
        "fixtures/models/opset11.onnx",
        "--calibrate",
        DATA,
    ],
    "diff": ["diff", "fixtures/models/healthy_resnet.onnx", "fixtures/models/depthwise_spread.onnx"],
    "inspect_float": ["inspect", "fixtures/models/depthwise_spread.onnx", "--calibrate", DATA],
    "inspect_qdq": [
        "inspect",
        "fixtures/models/qdq_coarse_input.onnx",
        "--calibrate",
        DATA,
        "--by",
        "scale",
        "--top",
        "3",
    ],
    "inspect_two": [
        "inspect",
        "fixtures/models/depthwise_spread.onnx",
        "fixtures/models/qdq_per_tensor_depthwise.onnx",
        "--top",
        "3",
    ],
    "inspect_gamma": ["inspect", "fixtures/models/depthwise_spread.onnx", "--tensor", "block1_depthwise_bn"],
    "inspect_values": [
        "inspect",
        "fixtures/models/qdq_coarse_input.onnx",
        "--values",
        "0.7",
        "0.75",
        "60",
        "--tensor",
        "images",
    ],
    "inspect_unknown": ["inspect", "fixtures/models/qdq_good.onnx", "--tensor", "imgaes"],
    "fix": ["fix", "fixtures/models/near_zero_variance.onnx", "-o", "fixed.onnx", "--calibrate", DATA],
    "fix_diff": ["fix", "fixtures/models/outlier_gamma.onnx", "--diff", "--calibrate", DATA],
    "quantize": ["quantize", "fixtures/models/depthwise_spread.onnx", "-o", "int8.onnx", "--calibrate", DATA],
    "tutorial_static": [MOBILENET],
    "tutorial_probe": [MOBILENET, "--probe"],
    "tutorial_diff": ["diff", MOBILENET, "fixed.onnx", "--calibrate", DATA],
    "tutorial_quantize": [
        "quantize",
        MOBILENET,
        "-o",
        "int8.onnx",
        "--calibrate",
        DATA,
        "--scheme",
        "int8-per-tensor",
    ],
    "tutorial_compare": ["compare", MOBILENET, "int8.onnx", "--calibrate", DATA],
    "tutorial_int8": ["int8.onnx", "--calibrate", DATA, "--target", "ort-cpu"],
    "help_program": ["--help"],
    **{f"help_{command}": [command, "--help"] for command in ("compare", "diff", "inspect", "fix", "quantize")},
    "help": ["check", "--help"],
    "wrong_option": ["fixtures/models/healthy_resnet.onnx", "--select", "QW9"],
}
# What has to run first, in the same folder.
AFTER = {"tutorial_diff": "fix", "tutorial_compare": "tutorial_quantize", "tutorial_int8": "tutorial_quantize"}
ANEW = "if users are to see this, ONNXLINT_Q_RECORD=1 pytest tests/acceptance records it again; then read git diff"
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?")
# A hash is a word, though it may look like a number with an exponent.
_HASH = re.compile(r"\b[0-9a-f]{64}\b")
# What typer draws around the words of a help page changes with its version: frames, arguments' names, types.
_DRAWN = re.compile(r"\*\s+(?!-)\S+\s+\S+|[╭╮╰╯│─]+|<[^>]*>|\[[^\]]*<=[^\]]*\]|\b[A-Z]{3,}\b|\{\w+\}|\.\.\.")


@pytest.mark.parametrize("name", RUNS)
def test_output(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    before = AFTER.get(name)
    if "-o" in RUNS[before or name]:  # it writes files, and where it does so stands in what it prints
        (tmp_path / "fixtures").symlink_to(HOME / "fixtures")
        monkeypatch.chdir(tmp_path)
    else:
        monkeypatch.chdir(HOME)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("NO_COLOR", "1")
    for asked in filter(None, (before, name)):
        monkeypatch.setattr("sys.argv", ["onnxlint-q", *RUNS[asked]])
        with pytest.raises(SystemExit) as left:
            main()
        out, err = capfd.readouterr()
    text = f"$ onnxlint-q {' '.join(RUNS[name])}\n{_lasting(out)}{err}exit {left.value.code or 0}\n"
    expected = HERE / f"{name}.txt"
    if os.environ.get("ONNXLINT_Q_RECORD"):
        expected.write_text(text, "utf-8")
    told = expected.read_text("utf-8")
    # Of a file whose weights are varied it is another one.
    text, told = (_HASH.sub("HASH", said) for said in (text, told))
    if "--help" in RUNS[name]:
        text, told = _DRAWN.sub(" ", text), _DRAWN.sub(" ", told)
    elif _NUMBER.findall(text) == _NUMBER.findall(told) and "VERSION" not in told:
        assert text == told, ANEW
    assert _NUMBER.sub("#", text).split() == _NUMBER.sub("#", told).split(), ANEW
    assert text.splitlines()[-1] == told.splitlines()[-1], f"the exit code; {ANEW}"
    for figure, recorded in zip(_NUMBER.finditer(text), _NUMBER.finditer(told), strict=True):
        assert abs(float(figure[0]) - float(recorded[0])) <= _slack(recorded, RUNS[name]), f"{figure}; {ANEW}"


# Of factors and shifts that are about as good, other kernels choose others (dB).
_BETWEEN_REWRITES = 2.0


def _slack(figure: re.Match[str], run: Sequence[str]) -> float:
    """By how much a printed figure may differ from the recorded one."""
    mantissa, _, exponent = figure[0].partition("e")
    decimals = len(mantissa.partition(".")[2])
    last_digit = 10.0 ** (int(exponent or 0) - decimals) if decimals or exponent else 0.0
    counted = not last_digit and (
        run[0] not in {"compare", "inspect"} or "concise" in run
    )  # the tables of these round to whole numbers
    if not {DATA, "--probe"} & {*run} or counted:
        # A format for programs prints more digits than one rounding of the weights leaves alone.
        return max(1.01 * last_digit, 1e-3 if decimals > 3 else 0.0)
    if figure.string[figure.end() :].startswith(" %"):
        samples = int(run[run.index("--samples") + 1]) if "--samples" in run else 16
        return 100 / samples  # one of them may be another class
    change = ties.decibels(20.0, ties.NETWORK)
    if run[0] == "fix" or "fixed.onnx" in run:
        change += _BETWEEN_REWRITES
    # Decibels have one decimal; what has more digits is a power or the like.
    return change + last_digit if decimals == 1 else (10 ** (change / 10) - 1) * abs(float(figure[0])) + last_digit


def _lasting(text: str) -> str:
    """The output without timings and hashes, in which no figure is, the version of onnx and how pytest was started.

    Nor does it have the size of what another version of ONNX Runtime writes, which of several observers is best by the
    last digit, and how far below the last digit float outputs differ.
    """
    text = re.sub(r"(?ms)^time: .*?\n(?=\n|\Z)", "", text)
    text = re.sub(r"(?m)^( *(?:size|latency here) +).*$", r"\1…", text)
    text = re.sub(r"(?<=ranges by )\S+(?=,)", "mse", text)
    text = re.sub(r"(float outputs are\s+)(?:identical|the same \(\d+ dB\))", r"\1the same", text)
    text = re.sub(r'"(?:[0-9a-f]{16}|[0-9a-f]{64})(?=[":])', '"HASH', text)
    text = text.replace("python -m pytest.onnxlint-q", "onnxlint-q")
    text = text.replace(f"onnx {onnx.__version__} knows", "onnx VERSION knows")
    return re.sub(rf"\b{onnx.defs.onnx_opset_version()}\b(?= only| or lower)", "NEWEST", text)
