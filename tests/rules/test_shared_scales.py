"""One scale or one bias for things that do not belong together, in other clothes than the examples of the rules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from onnxlint_q.analysis.causes.joined import joined_branches
from onnxlint_q.analysis.causes.known_ranges import KnownRanges
from onnxlint_q.finding import Evidence, Finding, Severity
from onnxlint_q.judge.rule import Example, Rule
from onnxlint_q.judge.testing import example_facts
from onnxlint_q_rules.activations.guard_value import GuardValue
from onnxlint_q_rules.activations.loud_sample import LoudSample
from onnxlint_q_rules.activations.outlier_channels import OutlierChannels
from onnxlint_q_rules.batchnorm.quantised_batch_norm import QuantisedBatchNorm
from onnxlint_q_rules.batchnorm.unfolded_batch_norm import UnfoldedBatchNorm
from onnxlint_q_rules.qdq.bias_scale_mismatch import BiasScaleMismatch
from onnxlint_q_rules.qdq.saturation import Saturation
from onnxlint_q_rules.qdq.shared.guarded_scale import GuardedScale
from onnxlint_q_rules.qdq.shared.joined_scale import JoinedScale
from onnxlint_q_rules.qdq.shared.requantised_tensor import RequantisedTensor
from onnxlint_q_rules.qdq.shared.scaled_bias import ScaledBias
from onnxlint_q_rules.qdq.shared.shared_bias import SharedBias

Arrays = Mapping[str, npt.NDArray[Any]]
HEAD = '<ir_version: 8, opset_import: ["" : 17]>\n'
MICROSOFT = '<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>\n'


def findings(rule: Rule, text: str, samples: Arrays | None = None, **weights: Any) -> list[Finding]:
    drawn = None if samples is None else lambda _: samples
    return list(rule.findings(example_facts(Example(text, weights=lambda _: weights, samples=drawn))))


# What bounds a part, and how it is joined to another one whose scale has a step of 2.
BOUNDED = {
    "softmax": "p = Softmax <axis = 1> (c)",
    "hard sigmoid": "p = HardSigmoid (c)",
    "clip": "p = Clip(c, zero, one)",
    "relu and minimum": "r = Relu(c)\n p = Min(r, one)",
    "a scale of its own": "qp = QuantizeLinear(c, fine, z)\n p = DequantizeLinear(qp, fine, z)",
    "a constant factor": "h = Tanh(c)\n p = Mul(h, half)",
}
JOINS = {
    "concat": "t = Concat <axis = 1> (b, p)",
    "where": "t = Where(m, b, p)",
    "scatter elements": "t = ScatterElements <axis = 1> (b, at, p)",
    "padded and added": "pb = Pad(b, front)\n pp = Pad(p, back)\n t = Add(pb, pp)",
    "behind a transpose": "j = Concat <axis = 1> (b, p)\n t = Transpose <perm = [0, 1]> (j)",
}


def _joined(bounded: str, join: str) -> str:
    return f"""{HEAD}
    head (float[2, 4] b, float[2, 4] c, bool[2, 4] m, int64[2, 4] at) => (float[2, 8] y)
    <float zero = {{0}}, float one = {{1}}, float half = {{0.5}}, float fine = {{0.004}}, float s = {{2}},
     uint8 z = {{0}}, int64[4] front = {{0, 4, 0, 0}}, int64[4] back = {{0, 0, 0, 4}}> {{
      {bounded}
      {join}
      q = QuantizeLinear(t, s, z)
      y = DequantizeLinear(q, s, z)
    }}"""


@pytest.mark.parametrize("bounded", BOUNDED)
@pytest.mark.parametrize("join", JOINS)
def test_a_part_that_a_join_leaves_no_codes_is_named(bounded: str, join: str) -> None:
    (finding,) = findings(JoinedScale(), _joined(BOUNDED[bounded], JOINS[join]))
    assert finding.severity is Severity.ERROR and finding.location.graph == "main"
    assert finding.metrics["branch"] in {"p", "c"} and finding.metrics["scale"] == 2
    assert finding.metrics["branch_codes"] in {1, 2}


def test_the_range_of_a_part_that_nothing_bounds_is_not_known() -> None:
    assert not findings(JoinedScale(), _joined("p = Neg(c)", JOINS["concat"]))


def test_a_joined_tensor_that_a_softmax_reads_is_left_to_the_rule_about_masks() -> None:
    text = _joined(BOUNDED["clip"], JOINS["where"]).replace("y = Deq", "d = Deq").replace("(q, s, z)", "(q, s, z)\n")
    scored = text.replace("float[2, 8] y)", "float[2, 4] y)").rstrip()[:-1] + " y = Softmax(d) }"
    assert not findings(JoinedScale(), scored)


def test_a_qoperator_join_names_its_part() -> None:
    text = f"""{MICROSOFT}
    head (uint8[2, 4] b, uint8[2, 4] c) => (uint8[2, 8] y)
    <float sb = {{1.5}}, float sc = {{0.002}}, float s = {{1.5}}, uint8 z = {{0}}> {{
      [join] y = com.microsoft.QLinearConcat <axis: int = 1> (s, z, b, sb, z, c, sc, z)
    }}"""
    (finding,) = findings(JoinedScale(), text)
    assert finding.metrics["branch"] == "c" and finding.location.node == "join" and "becomes 0" in finding.message


def _read_by_layer(part: float) -> str:
    """A joined tensor that a convolution alone reads, whose weights for the quiet part have this size."""
    return f"""{HEAD}
    block (float[1, 2, 4, 4] b, float[1, 1, 4, 4] c) => (float[1, 1, 4, 4] y)
    <float s = {{2}}, float so = {{1}}, uint8 z = {{0}}, float[1, 3, 1, 1] w = {{1, 1, {part}}}> {{
      p = Sigmoid(c)
      t = Concat <axis = 1> (b, p)
      q = QuantizeLinear(t, s, z)
      d = DequantizeLinear(q, s, z)
      r = Conv(d, w)
      qr = QuantizeLinear(r, so, z)
      y = DequantizeLinear(qr, so, z)
    }}"""


def test_a_part_that_its_only_reader_hardly_weighs_does_no_harm() -> None:
    assert not findings(JoinedScale(), _read_by_layer(0.5))
    assert len(findings(JoinedScale(), _read_by_layer(100.0))) == 1


def test_data_confirms_what_a_join_leaves() -> None:
    rng = np.random.default_rng(0)
    data = {"b": rng.uniform(0, 300, (16, 2, 4)), "c": rng.normal(size=(16, 2, 4))}
    text = f"""{HEAD}
    head (float[N, 2, 4] b, float[N, 2, 4] c) => (float[N, 4, 4] y)
    <float s = {{1.25}}, float sp = {{0.004}}, uint8 z = {{0}}> {{
      p = Sigmoid(c)
      qp = QuantizeLinear(p, sp, z)
      dp = DequantizeLinear(qp, sp, z)
      t = Concat <axis = 1> (b, dp)
      q = QuantizeLinear(t, s, z)
      y = DequantizeLinear(q, s, z)
    }}"""
    (finding,) = findings(JoinedScale(), text, {key: value.astype(np.float32) for key, value in data.items()})
    assert finding.evidence is Evidence.CONFIRMED and finding.metrics["observed_branch_high"] < 1  # type: ignore[operator]


MOVES = ("MaxPool <kernel_shape = [2, 2]> (d)", "Transpose <perm = [1, 0, 2, 3]> (d)", "Relu(d)", "Flatten(d)")


@pytest.mark.parametrize("move", MOVES)
def test_a_fine_scale_behind_a_coarse_one_is_named(move: str) -> None:
    text = f"""{HEAD}
    chain (float[1, 2, 4, 4] x) => (y) <float sx = {{3}}, float s = {{0.01}}, uint8 z = {{0}}> {{
      qx = QuantizeLinear(x, sx, z)
      d = DequantizeLinear(qx, sx, z)
      [move] t = {move}
      q = QuantizeLinear(t, s, z)
      y = DequantizeLinear(q, s, z)
    }}""".replace("=> (y)", "=> (float y)")
    (finding,) = findings(RequantisedTensor(), text)
    assert finding.location.node == "move" and finding.severity is Severity.ERROR


def test_a_slice_of_a_joined_tensor_is_one_fault() -> None:
    text = _joined("p = Sigmoid(c)", JOINS["concat"]).replace("y = Deq", "d = Deq").rstrip()[:-1]
    text = text.replace("float s =", "int64[1] four = {4}, int64[1] eight = {8}, int64[1] axis = {1}, float s =")
    text += "cut = Slice(d, four, eight, axis)\n qc = QuantizeLinear(cut, fine, z)\n y = DequantizeLinear(qc, fine, z)}"
    assert len(findings(JoinedScale(), text)) == 1 and not findings(RequantisedTensor(), text)


def _gemms(alpha: float, bias: int) -> str:
    return f"""{MICROSOFT}
    two (uint8[4, 2] x, uint8[4, 2] z) => (uint8[4, 2] y, uint8[4, 2] v)
    <float sx = {{0.02}}, float sz = {{0.001}}, uint8 zx = {{128}}, int8[2, 2] w = {{100, 20, -30, 90}},
     float[2] sw = {{0.01, 0.02}}, int8[2] zw = {{0, 0}}, float sy = {{0.05}}, int32[2] b = {{{bias}, -{bias}}}> {{
      [one] y = com.microsoft.QGemm <alpha: float = {alpha}> (x, sx, zx, w, sw, zw, b, sy, zx)
      [two] v = com.microsoft.QGemm <alpha: float = {alpha}> (z, sz, zx, w, sw, zw, b, sy, zx)
    }}"""


def test_a_bias_that_two_gemms_share_is_named_with_the_factor() -> None:
    (finding,) = findings(SharedBias(), _gemms(1.0, 6000))
    assert finding.location.node == "two" and finding.metrics["worst_factor"] == pytest.approx(20, rel=1e-4)
    assert finding.severity is Severity.ERROR and "20 times too small at 'two'" in finding.message


def test_a_bias_of_less_than_a_step_does_no_harm() -> None:
    assert not findings(SharedBias(), _gemms(1.0, 2)) and not findings(ScaledBias(), _gemms(0.5, 2))


def test_alpha_of_each_gemm_with_a_bias_is_named() -> None:
    assert {one.location.node for one in findings(ScaledBias(), _gemms(0.25, 60_000))} == {"one", "two"}


def test_a_bias_that_fits_one_of_its_readers_in_qdq_is_an_info() -> None:
    text = f"""{HEAD}
    two (float[1, 2, 4, 4] x, float[1, 2, 4, 4] z) => (float[1, 2, 4, 4] y, float[1, 2, 4, 4] v)
    <float sx = {{0.1}}, float sz = {{0.02}}, uint8 zx = {{128}}, int8[2, 2, 1, 1] w = {{100, 20, -30, 90}},
     float sw = {{0.01}}, int8 zw = {{0}}, int32[2] b = {{500, 600}}, float sb = {{0.001}}, int32 zb = {{0}}> {{
      qx = QuantizeLinear(x, sx, zx)
      dx = DequantizeLinear(qx, sx, zx)
      qz = QuantizeLinear(z, sz, zx)
      dz = DequantizeLinear(qz, sz, zx)
      dw = DequantizeLinear(w, sw, zw)
      db = DequantizeLinear(b, sb, zb)
      [one] y = Conv(dx, dw, db)
      [two] v = Conv(dz, dw, db)
    }}"""
    (finding,) = findings(BiasScaleMismatch(), text)
    assert (finding.location.node, finding.severity) == ("two", Severity.INFO)
    alone = text.replace("[one] y = Conv(dx, dw, db)", "[one] y = Conv(dx, dw)")
    (finding,) = findings(BiasScaleMismatch(), alone)
    assert finding.severity is Severity.ERROR


def test_a_bias_scale_without_values_is_left_to_the_rule_about_shapes() -> None:
    text = f"""{HEAD}
    none (float[1, 2, 4, 4] x) => (float[1, 2, 4, 4] y)
    <float sx = {{0.1}}, uint8 zx = {{128}}, int8[2, 2, 1, 1] w = {{100, 20, -30, 90}}, float sw = {{0.01}},
     int8 zw = {{0}}, int32[2] b = {{500, 600}}, float[0] sb = {{}}, int32 zb = {{0}}> {{
      qx = QuantizeLinear(x, sx, zx)
      dx = DequantizeLinear(qx, sx, zx)
      dw = DequantizeLinear(w, sw, zw)
      db = DequantizeLinear(b, sb, zb)
      [one] y = Conv(dx, dw, db)
    }}"""
    assert not findings(BiasScaleMismatch(), text)


def _norm(step: float, epsilon: float = 1e-5) -> str:
    return f"""{HEAD}
    norm (float[N, 4, 4, 4] x) => (float[N, 4, 4, 4] y)
    <uint8[4] qv = {{130, 128, 128, 255}}, float sv = {{{step}}}, uint8 zv = {{128}}, float[4] g = {{1, 2, 0, 1}},
     float[4] zero = {{0, 0, 0, 0}}, float s = {{0.05}}, uint8 z = {{128}}> {{
      v = DequantizeLinear(qv, sv, zv)
      [norm] n = BatchNormalization <epsilon = {epsilon}> (x, g, zero, zero, v)
      q = QuantizeLinear(n, s, z)
      y = DequantizeLinear(q, s, z)
    }}"""


def test_variances_at_the_zero_point_count_where_the_gain_is_not_0() -> None:
    (finding,) = findings(QuantisedBatchNorm(), _norm(0.5))
    assert (finding.metrics["zeros"], finding.severity) == (1, Severity.ERROR)


def test_variances_under_epsilon_may_be_0() -> None:
    assert not [one for one in findings(QuantisedBatchNorm(), _norm(1e-6)) if "zeros" in one.metrics]


def test_what_a_ruined_normalisation_clips_is_not_told_again() -> None:
    data = {"x": np.random.default_rng(0).normal(size=(16, 4, 4, 4)).astype(np.float32)}
    assert not findings(Saturation(), _norm(0.5), data)
    assert findings(Saturation(), _norm(0.5).replace("130, 128, 128, 255", "129, 129, 129, 129"), {"x": 20 * data["x"]})


def test_what_one_scale_would_do_to_the_variances_is_told_beforehand() -> None:
    text = f"""{HEAD}
    block (float[N, 4, 4, 4] x) => (float[N, 4, 4, 4] y)
    <float[4] one = {{1, 1, 1, 1}}, float[4] zero = {{0, 0, 0, 0}}, float[4] var = {{1000, 0.01, 0.02, 500}}> {{
      s = Add(x, x)
      [norm] y = BatchNormalization(s, one, zero, zero, var)
    }}"""
    (finding,) = findings(UnfoldedBatchNorm(), text)
    assert finding.metrics["variances_rounded_to_0"] == 2 and "2 of 4 variances to 0" in finding.message


def _guarded(enters: str, reads: str = "MatMul(t, w)", result: str = "float[N, 8, 4] y") -> str:
    return f"""{HEAD}
    pool (float[N, 8, 4] x, bool[N, 8, 4] m, int64[N, 8, 4] at) => ({result})
    <float far = {{-50000}}, float[4, 4] w = {{1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1}},
     int64[6] pads = {{0, 0, 0, 0, 1, 0}}> {{
      v = Tanh(x)
      [enters] t = {enters}
      y = {reads}
    }}"""


@pytest.mark.parametrize("enters", ["Where(m, far, v)", "Where(m, v, far)", 'Pad <mode = "constant"> (v, pads, far)'])
def test_a_constant_far_from_all_values_is_named(enters: str) -> None:
    (finding,) = findings(GuardValue(), _guarded(enters))
    assert finding.location.node == "enters" and finding.metrics["value"] == -50000
    assert finding.claim is not None and finding.claim.tensor == "t" and finding.evidence is Evidence.UNTESTED


def test_a_mask_of_a_softmax_is_no_guard() -> None:
    assert not findings(GuardValue(), _guarded("Where(m, far, v)", "Softmax <axis = -1> (t)"))


def test_a_maximum_that_starts_from_a_constant_is_no_guard() -> None:
    start = 'ScatterElements <axis = 1, reduction = "max"> (low, at, v)'
    text = _guarded(start).replace("v = Tanh(x)", "s = Shape(x)\n low = Expand(far, s)\n v = Tanh(x)")
    assert not findings(GuardValue(), text.replace('"" : 17', '"" : 18'))


def _guarded_codes(value: float, scale: float, zero_point: int) -> str:
    return f"""{HEAD}
    pool (float[N, 8] x, bool[N, 8] m) => (float[N, 8] y)
    <float far = {{{value}}}, float s = {{{scale}}}, uint8 z = {{{zero_point}}}> {{
      [enters] t = Where(m, far, x)
      q = QuantizeLinear(t, s, z)
      y = DequantizeLinear(q, s, z)
    }}"""


def test_a_range_that_ends_at_a_guard_is_named_on_either_side() -> None:
    for value, zero_point in ((-5000, 255), (5000, 0)):
        (finding,) = findings(GuardedScale(), _guarded_codes(value, 5000 / 255, zero_point))
        assert finding.location.node == "enters"
    assert not findings(GuardedScale(), _guarded_codes(-5000, 10_000 / 255, 128))


@pytest.mark.parametrize(("spread", "evidence"), [(1.0, Evidence.CONFIRMED), (2000.0, Evidence.REFUTED)])
def test_data_tells_whether_a_guard_leaves_codes(spread: float, evidence: Evidence) -> None:
    rng = np.random.default_rng(0)
    data = {"x": -np.abs(rng.normal(scale=spread, size=(32, 8))).astype(np.float32), "m": rng.random((32, 8)) < 0.1}
    (finding,) = findings(GuardedScale(), _guarded_codes(-5000, 5000 / 255, 255), data)
    assert finding.evidence is evidence


def _loud(factor: float) -> Arrays:
    values = np.random.default_rng(0).normal(size=(32, 4)).astype(np.float32)
    values[7] *= factor
    return {"x": values}


@pytest.mark.parametrize(("factor", "severity"), [(1, None), (16, Severity.INFO), (200, Severity.WARNING)])
def test_a_loud_sample_is_told_by_the_bits_that_it_costs(factor: float, severity: Severity | None) -> None:
    found = findings(LoudSample(), LoudSample.bad[0].model, _loud(factor))
    assert [one.severity for one in found] == ([] if severity is None else [severity])
    for one in found:
        ranges = np.maximum(_loud(factor)["x"].max(1), 0) - np.minimum(_loud(factor)["x"].min(1), 0)
        assert one.metrics["sample"] == 7
        assert one.metrics["bits"] == pytest.approx(np.log2(ranges.max() / np.median(ranges)), abs=1e-4)


GAIN = np.ones(32, np.float32)
GAIN[5] = 60
NONE, ONE = np.zeros(32, np.float32), np.ones(32, np.float32)
SOURCES = {
    "batch norm": "r = Relu(x)\n t = BatchNormalization(r, g, none, none, one)",
    "bias of a convolution": "h = Conv(x, rows, bias)\n t = Relu(h)",
    "rows of a convolution": "h = Conv(x, wide)\n t = Relu(h)",
    "instance norm": "t = InstanceNormalization(x, g, none)",
    "constant factor": "t = Mul(x, g4)",
}


@pytest.mark.parametrize("source", SOURCES)
def test_outlier_channels_in_front_of_a_convolution_are_foreseen(source: str) -> None:
    rng = np.random.default_rng(0)
    reader = rng.normal(scale=0.2, size=(16, 32, 1, 1)).astype(np.float32)
    reader[:, 5] /= 200
    rows = rng.normal(scale=0.2, size=(32, 32, 1, 1)).astype(np.float32)
    text = f"{HEAD} g (float[N, 32, 8, 8] x) => (float[N, 16, 8, 8] y) {{ {SOURCES[source]}\n y = Conv(t, w) }}"
    weights = {"g": GAIN, "none": NONE, "one": ONE, "w": reader, "rows": rows, "bias": 3 * (GAIN - 1)}
    weights |= {"wide": rows * GAIN[:, None, None, None], "g4": GAIN.reshape(1, 32, 1, 1)}
    (finding,) = findings(OutlierChannels(), text, None, **weights)
    assert finding.metrics["channels"] == "5" and finding.severity is Severity.WARNING


def test_known_ranges_follow_bounds_constants_and_moves() -> None:
    text = f"""{HEAD}
    g (float[2, 4] x) => (float[2, 8] y) <float k = {{40}}, float[1, 4] cells = {{0, 1, 2, 7}}> {{
      s = Sigmoid(x)
      c = Add(s, cells)
      boxes = Mul(c, k)
      less = Sub(cells, s)
      ratio = Div(less, k)
      open = Mul(x, k)
      y = Concat <axis = 1> (boxes, s)
    }}"""
    model = example_facts(Example(text)).model
    known = KnownRanges(model)
    assert (known.of("boxes"), known.of("less"), known.of("y")) == ((0, 320), (-1, 7), (0, 320))
    assert known.of("ratio") == pytest.approx((-1 / 40, 7 / 40)) and known.of("open") == (-np.inf, np.inf)
    joined = joined_branches(model, "y")
    assert joined is not None and list(joined.branches) == ["boxes", "s"]
    assert joined_branches(model, "boxes") is None
