"""What a comparison names as the cause, on small pairs of files: kinds of faults in several clothes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx_cases import onnx_text, versioned_text

from onnxlint_q.execute.data.sources import ArraySource
from onnxlint_q.finding import Finding, Severity
from onnxlint_q.judge.config import Config
from onnxlint_q.judge.registry import load_rules
from onnxlint_q.judge.verdict import Verdict
from onnxlint_q.report.compare import phrases
from onnxlint_q.workflow.check import Job
from onnxlint_q.workflow.compare import CompareRequest, compare
from onnxlint_q.workflow.comparison import (
    Comparison,
)

Single = npt.NDArray[np.float32]
RNG = np.random.default_rng(3)
START = RNG.bit_generator.state
RULES = Config().build([entry.rule for entry in load_rules()])


@pytest.fixture(autouse=True)
def values_do_not_depend_on_other_tests() -> None:
    RNG.bit_generator.state = START


def normal(*shape: int) -> Single:
    return RNG.normal(size=shape).astype(np.float32)


def found(folder: Path, reference: onnx.ModelProto, quantised: onnx.ModelProto, **data: Single) -> Comparison:
    onnx.save(reference, folder / "float.onnx")
    onnx.save(quantised, folder / "int8.onnx")
    job = Job(folder / "int8.onnx", Config(), RULES)
    return compare(folder / "float.onnx", job, CompareRequest(ArraySource("data", data)))


def leading(comparison: Comparison) -> Finding:
    assert comparison.leading is not None
    return comparison.leading


def codes(weight: Single, scale: float) -> npt.NDArray[np.int8]:
    held: npt.NDArray[np.int8] = np.rint(weight / scale).clip(-127, 127).astype(np.int8)
    return held


def test_one_bias_of_several_layers_is_one_finding_about_the_worst_output(tmp_path: Path) -> None:
    """The second branch has an input scale that is a tenth of the first one's, and the bias fits the first."""
    weight, bias = normal(4, 4, 1, 1), np.array([1.0, -2.0, 1.5, 0.5], np.float32)
    head = "gates (float[1, 4, 6, 6] x) => (float[1, 4, 6, 6] a, float[1, 4, 6, 6] b)"
    plain = onnx_text(
        f"{head} {{ q = Mul(x, tenth)  a = Conv(x, w, k)  b = Conv(q, w, k) }}", w=weight, k=bias, tenth=np.float32(0.1)
    )
    shared = onnx_text(
        f"""{head} {{ q = Mul(x, tenth)  xq = QuantizeLinear(x, s1, z)  qq = QuantizeLinear(q, s2, z)
        [one] aq = QLinearConv(xq, s1, z, w, sw, zw, so, z, k)  a = DequantizeLinear(aq, so, z)
        [two] bq = QLinearConv(qq, s2, z, w, sw, zw, so, z, k)  b = DequantizeLinear(bq, so, z) }}""",
        w=codes(weight, 0.02),
        sw=np.float32(0.02),
        zw=np.int8(0),
        s1=np.float32(0.03),
        s2=np.float32(0.003),
        so=np.float32(0.08),
        z=np.uint8(128),
        k=np.rint(bias / (0.03 * 0.02)).astype(np.int32),
        tenth=np.float32(0.1),
    )
    pair = found(tmp_path, plain, shared, x=normal(16, 4, 6, 6))
    told = leading(pair)
    assert (told.code, told.location.node) == ("QP013", "two")
    assert "QC003" in told.also
    assert "10 times too small" in told.message
    assert not [f for f in pair.findings if f.code == "QC003"]


@pytest.mark.parametrize("alpha", [0.25, 4.0])
def test_a_bias_that_forgot_alpha_says_so(tmp_path: Path, alpha: float) -> None:
    weight, bias = normal(8, 6), 2 * normal(6)
    head = "agraph (float[1, 8] x) => (float[1, 6] y)"
    plain = onnx_text(f"{head} {{ y = Gemm <alpha = {alpha}> (x, w, k) }}", w=weight, k=bias)
    quantised = versioned_text(
        17,
        "com.microsoft",
        f"""{head} {{ xq = QuantizeLinear(x, s, z)
        [gemm] yq = com.microsoft.QGemm <alpha = {alpha}> (xq, s, z, w, sw, zw, k, so, z)
        y = DequantizeLinear(yq, so, z) }}""",
        w=codes(weight, 0.03),
        sw=np.float32(0.03),
        zw=np.int8(0),
        s=np.float32(0.03),
        so=np.float32(0.4),
        z=np.uint8(128),
        k=np.rint(bias / (0.03 * 0.03)).astype(np.int32),
    )
    told = leading(found(tmp_path, plain, quantised, x=normal(16, 8)))
    assert (told.code, told.location.node) == ("QP014", "gemm")
    assert "QC003" in told.also
    assert f"alpha = {alpha:g}" in told.message


def test_filters_without_a_code_are_the_cause_where_the_next_layer_shows_it(tmp_path: Path) -> None:
    """Every other column of the first weight is tiny, and the second one multiplies what it makes."""
    gains = np.where(np.arange(8) % 2, 0.001, 1.0).astype(np.float32)
    first, second = normal(6, 8) * gains, normal(8, 4) / gains[:, None]
    head = "agraph (float[1, 6] x) => (float[1, 4] y)"
    plain = onnx_text(f"{head} {{ a = MatMul(x, w)  b = Relu(a)  y = MatMul(b, v) }}", w=first, v=second)
    dynamic = onnx_text(
        f"""{head} {{ q, s, z = DynamicQuantizeLinear(x)  [up] i = MatMulInteger(q, w, z)  c = Cast <to = 1> (i)
        m = Mul(s, sw)  a = Mul(c, m)  b = Relu(a)  [down] y = MatMul(b, v) }}""",
        w=codes(first, float(np.abs(first).max() / 127)),
        sw=np.float32(np.abs(first).max() / 127),
        v=second,
    )
    told = leading(found(tmp_path, plain, dynamic, x=normal(32, 6)))
    assert (told.code, told.location.node, told.metrics["empty_channels"]) == ("QC002", "up", 4)
    assert "hold only the zero point" in told.message and "quantize_dynamic" in told.snippet


def test_what_heals_is_a_note_without_a_remedy(tmp_path: Path) -> None:
    """A bias that is the same for all classes is none that Softmax sees."""
    weight, shift = normal(6, 5), np.full(5, 40.0, np.float32)
    head = "agraph (float[1, 6] x) => (float[1, 5] y)"
    plain = onnx_text(f"{head} {{ a = MatMul(x, w)  b = Add(a, k)  y = Softmax(b) }}", w=weight, k=shift)
    dynamic = onnx_text(
        f"""{head} {{ q, s, z = DynamicQuantizeLinear(x)  i = MatMulInteger(q, w, z)  c = Cast <to = 1> (i)
        m = Mul(s, sw)  b = Mul(c, m)  y = Softmax(b) }}""",
        w=codes(weight, 0.02),
        sw=np.float32(0.02),
    )
    pair = found(tmp_path, plain, dynamic, x=normal(32, 6))
    assert pair.result.verdict is Verdict.SURVIVES and not pair.fails and pair.leading is None
    (note,) = (finding for finding in pair.findings if finding.code == "QC004")
    assert note.severity is Severity.INFO and "which heals at 'y'" in note.message
    assert not note.remedy and not note.nodes_to_exclude
    assert not any("first" in sentence for sentence in phrases.cause(pair))


def test_a_lost_branch_behind_a_transpose_decides(tmp_path: Path) -> None:
    head = "agraph (float[1, 4, 8] x, float[1, 2, 8] t) => (float[1, 8, 6] y)"
    text = "b = Mul(x, big)  s = Sigmoid(t)  [join] j = Concat <axis = 1> (b, s)"
    plain = onnx_text(f"{head} {{ {text}  y = Transpose <perm = [0, 2, 1]> (j) }}", big=np.float32(100))
    quantised = onnx_text(
        f"{head} {{ {text}  q = QuantizeLinear(j, c, z)  d = DequantizeLinear(q, c, z)"
        "  y = Transpose <perm = [0, 2, 1]> (d) }",
        big=np.float32(100),
        c=np.float32(3),
        z=np.uint8(128),
    )
    pair = found(tmp_path, plain, quantised, x=normal(16, 4, 8), t=normal(16, 2, 8))
    told = leading(pair)
    assert (told.code, told.location.node, told.metrics["branch"]) == ("QP011", "join", "s")
    assert "QC008" in told.also
    assert pair.result.verdict is Verdict.BREAKS


def test_gates_that_one_scale_rounds_away_are_the_cause(tmp_path: Path) -> None:
    """Two rows of every gate are loud, so that the others keep -1, 0 and 1."""
    rows = np.where(np.arange(24) % 4, 1.0, 90.0).astype(np.float32)[None, :, None]
    w, r = normal(1, 24, 5) * rows, normal(1, 24, 8) * rows
    head = "agraph (float[6, 1, 5] x) => (float[6, 1, 1, 8] y)"
    plain = onnx_text(f"{head} {{ y = GRU <hidden_size = 8> (x, w, r) }}", w=w, r=r)
    scales = [float(np.abs(held).max() / 127) for held in (w, r)]
    quantised = onnx_text(
        f"""{head} {{ w = DequantizeLinear(wq, ws)  r = DequantizeLinear(rq, rs)
        [cell] y = GRU <hidden_size = 8> (x, w, r) }}""",
        wq=codes(w, scales[0]),
        ws=np.float32(scales[0]),
        rq=codes(r, scales[1]),
        rs=np.float32(scales[1]),
    )
    told = leading(found(tmp_path, plain, quantised, x=normal(16, 6, 1, 5)))
    assert (told.code, told.location.node, told.metrics["parameter"]) == ("QC006", "cell", "weight")


def test_an_activation_that_codes_cannot_stand_for_is_missed(tmp_path: Path) -> None:
    first, second = normal(6, 6), normal(6, 3)
    head = "agraph (float[1, 6] x) => (float[1, 3] y)"
    plain = onnx_text(f"{head} {{ a = MatMul(x, w)  [bend] b = Elu(a)  y = MatMul(b, v) }}", w=first, v=second)
    quantised = onnx_text(
        f"""{head} {{ w = DequantizeLinear(wq, s)  v = DequantizeLinear(vq, s)  [product] a = MatMul(x, w)
        y = MatMul(a, v) }}""",
        wq=codes(first, 0.03),
        vq=codes(second, 0.03),
        s=np.float32(0.03),
    )
    told = leading(found(tmp_path, plain, quantised, x=3 * normal(16, 6)))
    assert (told.code, told.location.node) == ("QC007", "product") and "Elu 'bend' is gone" in told.message
