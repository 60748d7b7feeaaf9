"""A quantised file as a program would run it: what `check` and `compare` tell, and with which verdict."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from fusing import FUSES
from onnx_cases import Array, onnx_text

from onnxlint_q.api.calls import compare, lint
from onnxlint_q.errors import ModelError, UsageError
from onnxlint_q.finding import Severity
from onnxlint_q.judge.verdict import Verdict

RANDOM = np.random.default_rng(11)
SIZE = 16
# Rows of unlike size: a scale each, and the columns are far from sharing them.
WEIGHT = (RANDOM.normal(size=(SIZE, SIZE)) * 10.0 ** RANDOM.uniform(-2, 1, (SIZE, 1))).astype(np.float32)
SAMPLES = RANDOM.normal(size=(16, SIZE)).astype(np.float32)
FLOAT = f"g (float[N, {SIZE}] x) => (float[N, {SIZE}] y) {{ [product] y = MatMul (x, w) }}"
READ = """
  q = QuantizeLinear <axis = 1> (x, xs, xz)
  v = DequantizeLinear <axis = 1> (q, xs, xz)
"""


def quantised(axis: int, *, read: Array | None = None) -> onnx.ModelProto:
    """The product with a scale for each slice of its weight along `axis`, and the given scales of its input."""
    scales = (np.abs(WEIGHT).max(1 - axis) / 127).astype(np.float32)
    text = f"""
    g (float[N, {SIZE}] x) => (float[N, {SIZE}] y) {{
      {READ}
      d = DequantizeLinear <axis = {axis}> (w, ws, wz)
      [product] y = MatMul (v, d)
    }}
    """
    read = np.array(0.03, np.float32) if read is None else read
    codes = np.rint(WEIGHT / np.expand_dims(scales, 1 - axis)).astype(np.int8)
    zeros = np.full(read.shape, 128, np.uint8)
    return onnx_text(text, xs=read, xz=zeros, w=codes, ws=scales, wz=np.zeros(SIZE, np.int8))


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    onnx.save(onnx_text(FLOAT, w=WEIGHT), tmp_path / "float.onnx")
    return tmp_path / "float.onnx"


def saved(proto: onnx.ModelProto, folder: Path) -> Path:
    onnx.save(proto, folder / "int8.onnx")
    return folder / "int8.onnx"


def test_scales_along_inputs_are_found_without_running_anything(tmp_path: Path) -> None:
    result = lint(saved(quantised(0), tmp_path))
    (finding,) = (finding for finding in result.findings if finding.code == "QR003")
    assert finding.severity is Severity.ERROR and result.fails
    assert "16 inputs (axis 0)" in finding.message and "each output (axis 1)" in finding.message
    assert "1.20.1 to 1.32.0" in finding.message


@FUSES
def test_the_verdict_of_a_comparison_is_that_of_the_worse_run(reference: Path, tmp_path: Path) -> None:
    found = compare(reference, saved(quantised(0), tmp_path), SAMPLES)
    assert found.result.verdict is Verdict.BREAKS and found.fails
    assert found.result.output_sqnr_db is not None and found.result.output_sqnr_db < 5
    assert "default options" in found.result.note and "with graph optimisation off" in found.result.note
    (finding,) = (finding for finding in found.findings if finding.code == "QR003")
    assert "Against the float model" in finding.message and finding.also == ("QR002",)


def test_where_both_runs_agree_nothing_is_said_of_them(reference: Path, tmp_path: Path) -> None:
    found = compare(reference, saved(quantised(1), tmp_path), SAMPLES)
    assert found.result.verdict is Verdict.SURVIVES and "options" not in found.result.note
    assert not [finding for finding in found.findings if finding.code.startswith("QR")]


@FUSES
def test_a_file_that_fails_by_default_is_an_error_with_its_operator_and_reason(reference: Path, tmp_path: Path) -> None:
    read = np.linspace(0.02, 0.04, SIZE).astype(np.float32)
    path = saved(quantised(1, read=read), tmp_path)
    result = lint(path, SAMPLES)
    (finding,) = (finding for finding in result.findings if finding.severity is Severity.ERROR)
    assert (finding.code, finding.location.node) == ("QR001", "product")
    assert "'x' has 16 along axis 1" in finding.message and finding.message.endswith("it runs.")
    with pytest.raises(ModelError, match="cannot run it with default options at 'product'"):
        compare(reference, path, SAMPLES)


def test_what_fails_in_every_way_is_told_once(tmp_path: Path) -> None:
    """Neither the default run nor the measurement succeeds, for one reason."""
    text = """
    g (float[N, 2, 2, 2] x) => (int32[N, 2, 2, 2] y) {
      codes, scale, zero = DynamicQuantizeLinear (x)
      [conv] y = ConvInteger (codes, w, zero, wz)
    }
    """
    proto = onnx_text(text, w=np.array([[90, -60], [70, 120]], np.int8)[..., None, None], wz=np.zeros(2, np.int8))
    result = lint(saved(proto, tmp_path), RANDOM.normal(size=(4, 2, 2, 2)).astype(np.float32))
    errors = [finding.code for finding in result.findings if finding.severity is Severity.ERROR]
    assert errors == ["QR001"] and result.fails


def test_targets_are_held_against_the_file(tmp_path: Path) -> None:
    result = lint(saved(quantised(1), tmp_path), targets=("tensorrt", "ort-cpu"))
    (finding,) = (finding for finding in result.findings if finding.severity is Severity.ERROR)
    assert (finding.code, finding.metrics["target"]) == ("QR010", "tensorrt")
    assert "TensorRT issues 2774" in str(finding.metrics["source"])


def test_a_target_that_is_none_is_named(reference: Path) -> None:
    with pytest.raises(UsageError, match="target 'ort-gpu': choose from ort-cpu"):
        lint(reference, targets="ort-gpu")


def test_a_float_model_is_told_which_schemes_a_target_does_not_take(reference: Path) -> None:
    result = lint(reference, targets="tensorrt", schemes=("int8-per-tensor", "int8-symmetric"))
    (finding,) = (finding for finding in result.findings if finding.code == "QR012")
    assert finding.severity is Severity.INFO
    assert "int8-per-tensor:" in finding.message and "--scheme int8-symmetric" in finding.remedy
