"""float16: what `check` and `compare` tell of float files that are to be, and of files that are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx_cases import Array, onnx_text
from onnxruntime.transformers.float16 import convert_float_to_float16

from onnxlint_q.api.calls import compare, lint
from onnxlint_q.api.mending import fix
from onnxlint_q.errors import UsageError
from onnxlint_q.finding import Evidence, Finding, Severity
from onnxlint_q.judge.verdict import Verdict
from onnxlint_q.workflow.results import ModelResult

RANDOM = np.random.default_rng(5)
WEIGHT = RANDOM.normal(size=(8, 4)).astype(np.float32)
QUIET = RANDOM.normal(size=(32, 8)).astype(np.float32)
LOUD = np.concatenate([QUIET[:16], QUIET[16:] * 400])
NETWORK = """
norm (float[N, 8] x) => (float[N, 4] y) {
  [square] s = Mul (x, x)
  [mean] m = ReduceMean <axes = [-1], keepdims = 1> (s)
  [guard] g = Add (m, eps)
  [root] r = Sqrt (g)
  [quotient] d = Div (x, r)
  [product] y = MatMul (d, w)
}
"""
MASK = """
attention (float[N, 8] x, float[N, 8] kept) => (float[N, 8] y) {
  [inverse] i = Sub (one, kept)
  [mask] m = Mul (i, lowest)
  [sum] s = Add (x, m)
  [softmax] y = Softmax (s)
}
"""


def network(epsilon: float = 1e-5) -> onnx.ModelProto:
    return onnx_text(NETWORK, eps=np.float32(epsilon), w=WEIGHT)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """The float file and its conversion."""
    onnx.save(network(), tmp_path / "float.onnx")
    onnx.save(convert_float_to_float16(network(), keep_io_types=True), tmp_path / "half.onnx")
    return tmp_path / "float.onnx", tmp_path / "half.onnx"


def about_half(result: ModelResult) -> list[Finding]:
    return [finding for finding in result.findings if finding.code in {"QA010", "QA011"}]


def check_told(finding: Finding) -> None:
    assert finding.code == "QA010" and finding.severity is Severity.ERROR and finding.evidence is Evidence.CONFIRMED
    assert finding.location.node == "square" and "past the 65,504 of float16" in finding.message
    assert "Keep square to root (4 nodes) in float32" in finding.remedy and "(tried)" in finding.remedy


def test_a_float_file_is_judged_where_it_is_asked_for(files: tuple[Path, Path]) -> None:
    result = lint(files[0], {"x": LOUD}, schemes=["fp16"])
    assert [one.scheme for one in result.schemes] == ["fp16"] and result.fails
    assert result.scheme("fp16").verdict is not Verdict.SURVIVES
    (finding,) = about_half(result)
    check_told(finding)
    assert finding.explains["fp16"] > 0.99
    assert not about_half(lint(files[0], {"x": LOUD}, schemes=["int8-per-tensor"]))


def test_what_is_printed_keeps_float32_between_the_nodes(
    files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    (finding,) = about_half(lint(files[0], {"x": LOUD}, schemes=["fp16"]))
    monkeypatch.chdir(files[0].parent)
    exec(finding.snippet, {"onnx": onnx})
    made = Path("float-fp16.onnx")
    onnxruntime.InferenceSession(made, providers=["CPUExecutionProvider"])
    result = compare(files[0], made, {"x": LOUD})
    assert result.result.verdict is Verdict.SURVIVES and not result.fails and not result.findings


def test_a_float16_file_is_judged_without_being_asked(files: tuple[Path, Path]) -> None:
    result = lint(files[1], {"x": LOUD})
    assert result.fails and result.scheme("fp16").verdict is not Verdict.SURVIVES
    (finding,) = about_half(result)
    check_told(finding)
    assert not finding.snippet


def test_compare_takes_the_worse_of_the_run_and_the_simulation(files: tuple[Path, Path]) -> None:
    comparison = compare(*files, {"x": LOUD})
    assert comparison.fails and comparison.result.scheme == "fp16"
    assert comparison.result.verdict is not Verdict.SURVIVES
    assert comparison.leading is not None
    check_told(comparison.leading)


def test_a_healthy_conversion_has_no_finding(files: tuple[Path, Path]) -> None:
    result = lint(files[1], {"x": QUIET})
    assert not about_half(result) and result.scheme("fp16").verdict is Verdict.SURVIVES
    comparison = compare(*files, {"x": QUIET})
    assert comparison.result.verdict is Verdict.SURVIVES and not comparison.fails


def test_from_the_file_alone_nothing_is_known(files: tuple[Path, Path]) -> None:
    (result,) = lint(files[0], schemes=["fp16"]).schemes
    assert result.verdict is None and "--calibrate" in result.note
    assert [one.scheme for one in lint(files[1]).schemes if one.scheme == "fp16"] == []


def test_made_up_inputs_never_show_that_it_survives(files: tuple[Path, Path]) -> None:
    probed = lint(files[0], probe=True, schemes=["fp16"]).scheme("fp16")
    assert probed.verdict is None and probed.output_sqnr_db is not None and probed.output_sqnr_db > 40
    assert lint(files[0], "random", schemes=["fp16"]).scheme("fp16").verdict is None


@pytest.mark.parametrize(("lowest", "kind", "severity"), [(-3.4e38, "Mul", Severity.WARNING), (-1e4, "Mul", None)])
def test_constants_are_told_from_the_file_alone(
    lowest: float, kind: str, severity: Severity | None, tmp_path: Path
) -> None:
    onnx.save(onnx_text(MASK, one=np.float32(1), lowest=np.float32(lowest)), tmp_path / "mask.onnx")
    told = about_half(lint(tmp_path / "mask.onnx", schemes=["fp16"]))
    assert [(one.location.op_type, one.severity) for one in told] == ([(kind, severity)] if severity else [])


def test_a_mask_is_lost_as_it_is_and_kept_where_the_constant_is_clamped(tmp_path: Path) -> None:
    kept: Array = np.ones((32, 8), np.float32)
    kept[:, 5:] = 0
    onnx.save(onnx_text(MASK, one=np.float32(1), lowest=np.float32(-3.4e38)), tmp_path / "mask.onnx")
    result = lint(tmp_path / "mask.onnx", {"x": QUIET, "kept": kept}, schemes=["fp16"])
    (finding,) = about_half(result)
    assert result.scheme("fp16").verdict is Verdict.BREAKS and "the output is not finite" in finding.message
    assert "Or write 65,504 for larger constants" in finding.remedy


def test_a_converted_mask_is_healthy_and_what_int8_would_do_is_not_told(tmp_path: Path) -> None:
    kept: Array = np.ones((32, 8), np.float32)
    kept[:, 5:] = 0
    proto = onnx_text(MASK, one=np.float32(1), lowest=np.float32(-3.4e38))
    onnx.save(proto, tmp_path / "float.onnx")
    onnx.save(convert_float_to_float16(proto, keep_io_types=True), tmp_path / "half.onnx")
    comparison = compare(tmp_path / "float.onnx", tmp_path / "half.onnx", {"x": QUIET, "kept": kept})
    assert comparison.result.verdict is Verdict.SURVIVES and not comparison.fails
    assert {finding.code for finding in comparison.findings} <= {"QA010"}


def test_a_small_epsilon_matters_where_the_data_shows_it(tmp_path: Path) -> None:
    onnx.save(network(1e-8), tmp_path / "small.onnx")
    silent = QUIET.copy()
    silent[3] = 1e-5
    (finding,) = about_half(lint(tmp_path / "small.onnx", {"x": silent}, schemes=["fp16"]))
    assert finding.code == "QA011" and finding.severity is Severity.ERROR and "quotient" in finding.message
    assert not about_half(lint(tmp_path / "small.onnx", {"x": QUIET}, schemes=["fp16"]))
    (static,) = about_half(lint(tmp_path / "small.onnx", schemes=["fp16"]))
    assert static.code == "QA011" and static.severity is Severity.INFO


def test_fix_does_not_take_a_scheme_that_quantises_nothing(files: tuple[Path, Path]) -> None:
    with pytest.raises(UsageError, match="'fp16' quantises nothing"):
        fix(files[0], files[0].parent / "out.onnx", schemes=["fp16"])


def test_a_divisor_that_vanishes_is_told_from_the_file_alone(tmp_path: Path) -> None:
    graph = "scaled (float[N, 8] x) => (float[N, 8] y) { [quotient] y = Div (x, unit) }"
    onnx.save(onnx_text(graph, unit=np.float32(1e-8)), tmp_path / "scaled.onnx")
    (finding,) = about_half(lint(tmp_path / "scaled.onnx", schemes=["fp16"]))
    assert (finding.code, finding.location.node, finding.severity) == ("QA011", "quotient", Severity.WARNING)


def test_weights_that_are_only_stored_as_float16_are_not_judged_as_float16(tmp_path: Path) -> None:
    text = NETWORK.replace("[product] y = MatMul (d, w)", "wide = Cast <to = 1> (w)\n  y = MatMul (d, wide)")
    onnx.save(onnx_text(text, eps=np.float32(1e-5), w=WEIGHT.astype(np.float16)), tmp_path / "stored.onnx")
    onnx.save(network(), tmp_path / "float.onnx")
    assert "fp16" not in {one.scheme for one in lint(tmp_path / "stored.onnx", {"x": QUIET}).schemes}
    comparison = compare(tmp_path / "float.onnx", tmp_path / "stored.onnx", {"x": QUIET})
    assert comparison.result.verdict is Verdict.SURVIVES
