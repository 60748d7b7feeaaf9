"""Rules about weights that a file holds in codes: what is lost in them, and scales that cannot be meant."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx_cases import Array, versioned_text

from onnxlint_q import Finding, Severity, lint

RNG = np.random.default_rng(8)


def found(proto: onnx.ModelProto, code: str) -> list[Finding]:
    return [finding for finding in lint(proto).findings if finding.code == code]


def codes(outputs: int, inputs: int, lost: int, largest: int = 0) -> Array:
    """Codes of which the first rows have a magnitude of at most `largest`."""
    made = RNG.integers(-127, 128, (outputs, inputs)).astype(np.int8)
    made[:lost] = RNG.integers(-largest, largest + 1, (lost, inputs))
    return made


def reader(inputs: int, lost: int, ratio: float) -> Array:
    made = RNG.normal(size=(inputs, 8)).astype(np.float32)
    made[:lost] *= ratio
    return made


def dense(restored: str, behind: str, **arrays: Any) -> onnx.ModelProto:
    text = f"g (float[N,32] x) => (float[N,M] y) {{ {restored} [first] h = Gemm<transB = 1>(x, w) {behind} }}"
    held = {key: value for key, value in arrays.items() if f"{key}," in text or f"{key})" in text}
    return versioned_text(17, "", text, **held)


RESTORED: dict[str, str] = {
    "dequantised": "w = DequantizeLinear(q, s)",
    "cast": "c = Cast<to = 1>(q)  w = Mul(c, s)",
    "a scale a channel": "c = Cast<to = 1>(q)  w = Mul(c, many)",
}
BEHIND: dict[str, str] = {
    "a weight": "r = Relu(h)  y = MatMul(r, next)",
    "a factor": "f = Mul(h, gain)  y = Relu(f)",
    "a normalisation": "f = LayerNormalization(h, gain)  y = Relu(f)",
    "an output": "y = Add(h, bias)",
    "a sum": "r = Relu(h)  y = Add(r, x)",
}


def network(restored: str, behind: str, lost: int, largest: int = 0, ratio: float = 50.0) -> onnx.ModelProto:
    gain = np.where(np.arange(32) < lost, ratio, 1).astype(np.float32)
    return dense(
        RESTORED[restored],
        BEHIND[behind],
        q=codes(32, 32, lost, largest),
        s=np.float32(0.01),
        many=np.full((32, 1), 0.01, np.float32),
        next=reader(32, lost, ratio),
        gain=gain,
        bias=np.zeros(32, np.float32),
    )


@pytest.mark.parametrize("restored", ["dequantised", "cast"])
@pytest.mark.parametrize(
    ("behind", "lost", "largest", "ratio", "severity"),
    [
        ("a weight", 4, 0, 50.0, Severity.WARNING),
        ("a weight", 4, 1, 50.0, Severity.WARNING),
        ("a weight", 4, 0, 0.1, None),  # dead in the float model, too
        ("a weight", 4, 0, 1.0, None),  # as loud as the others: what half a step makes is small
        ("a weight", 20, 1, 1.0, Severity.ERROR),  # most of it
        ("a weight", 20, 0, 0.01, None),  # pruned
        ("a factor", 4, 0, 50.0, Severity.WARNING),
        ("a normalisation", 4, 0, 50.0, Severity.WARNING),
        ("an output", 5, 0, 1.0, Severity.WARNING),
        ("an output", 2, 0, 1.0, None),
        ("a sum", 8, 0, 1.0, None),
        ("a weight", 4, 3, 50.0, None),  # three steps on either side
    ],
)
def test_lost_channels_count_where_they_are_heard(
    restored: str, behind: str, lost: int, largest: int, ratio: float, severity: Severity | None
) -> None:
    findings = found(network(restored, behind, lost, largest, ratio), "QW007")
    assert [finding.severity for finding in findings] == ([severity] if severity else [])
    if findings:
        assert findings[0].location.node == "first" and findings[0].metrics["lost_channels"] == lost
        assert f"{lost} of 32 columns of 'q' hold" in findings[0].message


def test_an_empty_channel_with_a_scale_of_its_own_was_empty_before() -> None:
    assert not found(network("a scale a channel", "a weight", 4), "QW007")
    assert found(network("a scale a channel", "a weight", 16, largest=1), "QW007")


def test_rows_of_a_dynamic_lstm() -> None:
    def model(loud: int) -> onnx.ModelProto:
        held: dict[str, Any] = {}
        for name, inputs in (("w", 6), ("r", 4)):
            made = RNG.integers(-1, 2, (1, inputs, 16))
            made[..., :loud] = RNG.integers(-127, 128, (1, inputs, loud))
            held |= {
                name: made.astype(np.int8),
                f"{name}s": np.full(1, 0.01, np.float32),
                f"{name}z": np.zeros(1, np.int8),
            }
        text = """g (float[3,1,6] x) => (float[3,1,1,4] y) {
          [cell] y = com.microsoft.DynamicQuantizeLSTM <hidden_size = 4> (x, w, r, , , , , , ws, wz, rs, rz) }"""
        return versioned_text(17, "com.microsoft", text, **held)

    findings = found(model(3), "QW007")
    assert [finding.severity for finding in findings] == [Severity.ERROR] * 2
    assert "13 of 16 rows of 'w' (W) hold only -1, 0 and 1" in findings[0].message
    assert not found(model(14), "QW007")
    codes_of = {finding.code for finding in lint(model(14)).findings}
    assert not codes_of & {"QG003", "QG005"}, "its weights are looked at"


# -- scales ------------------------------------------------------------------------------------------------------------


def n_bits(change: Callable[[Array, Array], None], dtype: type = np.float32) -> onnx.ModelProto:
    weight: Array = RNG.integers(0, 256, (8, 2, 8)).astype(np.uint8)
    scale: Array = np.full((8, 2), 0.01, dtype)
    weight[weight == 0x88] = 0x80
    change(weight, scale)
    kind = "float16" if dtype is np.float16 else "float"
    text = f"""g ({kind}[N,32] x) => ({kind}[N,8] y) {{
      [dense] y = com.microsoft.MatMulNBits <K = 32, N = 8, bits = 4, block_size = 16> (x, w, s) }}"""
    return versioned_text(17, "com.microsoft", text, w=weight, s=scale)


def put(value: float, empty: bool = False) -> Callable[[Array, Array], None]:
    def change(weight: Array, scale: Array) -> None:
        scale[3, 1] = value
        if empty:
            weight[3, 1] = 0x88

    return change


@pytest.mark.parametrize(
    ("model", "what"),
    [
        (n_bits(put(0.0)), "zero"),
        (n_bits(put(0.0, empty=True)), ""),  # a block of zeros has no magnitude
        (n_bits(put(-0.01)), ""),  # the largest magnitude lies on the lowest code
        (n_bits(put(1e-41)), "subnormal"),
        (n_bits(put(float("nan"))), "NaN"),
        (n_bits(put(float("inf"))), "infinite"),
        (n_bits(put(3e-5), np.float16), ""),  # nothing is divided by it
    ],
)
def test_scales_of_blocks(model: onnx.ModelProto, what: str) -> None:
    findings = found(model, "QP002")
    assert [what in finding.message for finding in findings] == ([True] if what else [])


def test_what_training_tools_round_with_is_told_once() -> None:
    text = """g (float[N,4] x) => (float[N,4] y) {
      [a] w = qonnx.custom_op.general.Quant <signed = 1> (f, s, z, b)
      y = MatMul(x, w) }"""
    held: dict[str, Any] = {"f": np.eye(4, dtype=np.float32), "s": np.float32(0.1), "z": np.float32(0)}
    result = lint(versioned_text(17, "qonnx.custom_op.general", text, b=np.float32(3), **held))
    (finding,) = result.findings
    assert finding.code == "QG010" and "export to QDQ" in finding.message and finding.metrics["types"] == "int3"


# -- sums of products that an int32 does not hold --------------------------------------------------------------------


def summed(inputs: int, zero: int, codes: Array) -> onnx.ModelProto:
    text = f"""g (float[1, {inputs}] x) => (float[1, 2] y) <float s = {{0.01}}, float sw = {{0.01}}, int8 zw = {{0}}> {{
      q = QuantizeLinear(x, s, z)
      d = DequantizeLinear(q, s, z)
      dw = DequantizeLinear(w, sw, zw)
      [total] y = MatMul(d, dw)
    }}"""
    return versioned_text(17, "", text, w=codes, z=np.uint8(zero))


@pytest.mark.parametrize(
    ("inputs", "zero", "severity"),
    [(66_000, 0, None), (67_000, 0, Severity.WARNING), (67_000, 128, None), (135_000, 128, Severity.WARNING)],
)
def test_a_warning_of_overflow_is_a_sum_with_the_wrong_sign(inputs: int, zero: int, severity: Severity | None) -> None:
    weight = np.full((inputs, 2), 127, np.int8)
    # The end of the range that is further from the zero point; numpy adds in as many bits as integer kernels do.
    end = np.full((1, inputs), 255 - zero if zero < 128 else -zero)
    wrapped, exact = (end.astype(kind) @ weight.astype(kind) for kind in (np.int32, np.int64))
    assert [finding.severity for finding in found(summed(inputs, zero, weight), "QW008")] == [severity] * bool(severity)
    assert (np.sign(wrapped) == np.sign(exact)).all() == (severity is None)


def test_weights_of_both_signs_overflow_on_the_worst_input_only() -> None:
    codes = np.full((140_000, 2), 127, np.int8)
    codes[::2] = -127
    (finding,) = found(summed(140_000, 0, codes), "QW008")
    assert finding.severity is Severity.INFO and finding.metrics["end_of_range_sum"] == 0
    assert not found(summed(120_000, 0, codes[:120_000]), "QW008")


@pytest.mark.parametrize(("matrices", "inputs"), [(8, 20_000), (2, 70_000)])
def test_matrices_of_a_stack_are_no_one_sum(matrices: int, inputs: int) -> None:
    text = f"g (float[{matrices}, 1, {inputs}] x) => (float[{matrices}, 1, 3] y) {{ y = MatMul(x, w) }}"
    assert not found(versioned_text(17, "", text, w=np.ones((matrices, inputs, 3), np.float32)), "QW008")


def test_a_weight_that_has_no_scale_has_no_sum() -> None:
    text = "g (float[1, 70000] x) => (float[1, 2] y) { y = MatMul(x, w) }"
    weight = np.ones((70_000, 2), np.float32)
    assert found(versioned_text(17, "", text, w=weight), "QW008")
    weight[7, 1] = np.nan
    assert not found(versioned_text(17, "", text, w=weight), "QW008")
