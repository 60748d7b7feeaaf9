"""What the examples of the rules QP, QA and QD cannot show: figures against numpy, real files, made-up observations."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from conftest import public_network

from onnxlint_q.analysis.observed.data_summary import DataSummary
from onnxlint_q.analysis.observed.observations import Observations, TensorObservation
from onnxlint_q.finding import Evidence, Finding, Severity, Subject
from onnxlint_q.graph.loading.load import read_model
from onnxlint_q.judge.facts import Facts, facts_of
from onnxlint_q.judge.rule import Example, Rule
from onnxlint_q.judge.testing import example_facts
from onnxlint_q_rules.activations.heavy_tailed_activation import HeavyTailedActivation
from onnxlint_q_rules.activations.range_amplification import RangeAmplification
from onnxlint_q_rules.data.synthetic_calibration import SyntheticCalibration
from onnxlint_q_rules.data.too_few_samples import TooFewSamples
from onnxlint_q_rules.qdq.bias_scale_mismatch import BiasScaleMismatch
from onnxlint_q_rules.qdq.invalid_scale import InvalidScale
from onnxlint_q_rules.qdq.large_scale import LargeScale
from onnxlint_q_rules.qdq.per_tensor_depthwise_qparams import PerTensorDepthwiseQparams
from onnxlint_q_rules.qdq.qdq_params_mismatch import QdqParamsMismatch
from onnxlint_q_rules.qdq.saturation import Saturation
from onnxlint_q_rules.qdq.scale_shape import ScaleShape
from onnxlint_q_rules.qdq.wasted_range import WastedRange

QUANTISED = (LargeScale, InvalidScale, ScaleShape, BiasScaleMismatch, PerTensorDepthwiseQparams, QdqParamsMismatch)


def findings(rule: Rule, facts: Facts) -> list[Finding]:
    return list(rule.check(facts))


def public(name: str) -> Facts:
    return facts_of(read_model(public_network(name)), ())


def observation(values: npt.ArrayLike, codes: tuple[int, int] | None = None) -> TensorObservation:
    return TensorObservation.of(values, codes)


def observed(facts: Facts, tensors: dict[str, TensorObservation], samples: int = 128) -> Facts:
    return facts.observed(Observations("test", False, samples, samples, tensors))


CHAIN = """
<ir_version: 8, opset_import: ["" : 13]>
chain (float[1, 2, 4, 4] x) => (float[1, 2, 4, 4] y)
<float s = {SCALE}, uint8 z = {128}, float[2, 2, 1, 1] w = {3.0, 0, 0, 4.0}, float[2] b = {-2.0, 1.0},
 float so = {0.02}, uint8 zo = {0}> {
  [source] n = Neg(x)
  q = QuantizeLinear(n, s, z)
  d = DequantizeLinear(q, s, z)
  [pool] p = MaxPool <kernel_shape = [1, 1]> (d)
  [layer] c = Conv(p, w, b)
  r = Relu(c)
  qo = QuantizeLinear(r, so, zo)
  y = DequantizeLinear(qo, so, zo)
}
"""


def test_levels_follow_the_formula() -> None:
    """`V_c / (s ||w_c||)` by hand: widths 5.1 + 2 and 5.1, norms 3 and 4, lower quartile of two channels."""
    scale = 0.3
    (finding,) = findings(LargeScale(), example_facts(Example(CHAIN.replace("SCALE", str(scale)))))
    levels = np.quantile([(5.1 + 2.0) / (3 * scale), 5.1 / (4 * scale)], 0.25)
    assert finding.metrics["reader_levels"] == pytest.approx(levels, rel=1e-5)
    assert finding.metrics["reader_sqnr_db"] == pytest.approx(20 * np.log10(levels * np.sqrt(12) / 8), rel=1e-5)
    assert finding.severity is Severity.ERROR
    assert finding.location.node == "source"


@pytest.mark.parametrize(
    ("scale", "severity"), [(0.05, None), (0.07, Severity.WARNING), (0.08, Severity.WARNING), (0.12, Severity.ERROR)]
)
def test_a_scale_in_the_middle_of_a_model_is_found(scale: float, severity: Severity | None) -> None:
    found = findings(LargeScale(), example_facts(Example(CHAIN.replace("SCALE", str(scale)))))
    assert [finding.severity for finding in found] == ([] if severity is None else [severity])


def test_observed_codes_overrule_the_estimate() -> None:
    facts = example_facts(Example(CHAIN.replace("SCALE", "0.3")))
    many = observed(facts, {"q": observation(np.arange(0, 256), (0, 255))})
    assert findings(LargeScale(), many) == []
    values = np.concatenate([np.repeat([127, 128, 129, 130], 2000), np.repeat(np.arange(100, 124), 3)])
    few = observed(facts, {"q": observation(values, (0, 255))})
    (finding,) = findings(LargeScale(), few)
    assert finding.severity is Severity.WARNING
    assert finding.metrics["observed_low"] == pytest.approx(0.3 * (100 - 128))
    assert finding.metrics["observed_high"] == pytest.approx(0.3 * (130 - 128))
    assert finding.metrics["rounding_sqnr_db"] == pytest.approx(20 * np.log10(values.std() * np.sqrt(12)), rel=1e-4)
    assert '"rmin": np.float32(-8.4)' in finding.snippet


def test_a_public_file_calibrated_on_raw_pixels() -> None:
    """Its top-1 is 0.346 where the float original has 0.838; nothing else in it is wrong."""
    facts = public("mobilenetv2_tv_qdq_v7_bad.onnx")
    found = [finding for rule in QUANTISED for finding in findings(rule(), facts)]
    assert [(finding.code, finding.location.node) for finding in found] == [("QP001", "input_QuantizeLinear")]
    assert found[0].severity is Severity.ERROR
    assert found[0].metrics["scale"] == pytest.approx(1.077, abs=1e-3)


def test_a_public_file_that_is_quantised_well() -> None:
    facts = public("nanodet_m_int8.onnx")
    found = {finding.code for rule in QUANTISED for finding in findings(rule(), facts)}
    assert found <= {"QP005"}


def silu(gate: str) -> str:
    return f"""
<ir_version: 8, opset_import: ["" : 13]>
silu (float[1, 8] x) => (float[1, 8] y)
<float s = {{1.0}}, uint8 z = {{128}}> {{
  q = QuantizeLinear(x, s, z)
  d = DequantizeLinear(q, s, z)
  g = Sigmoid(d)
  y = {gate}
}}
"""


def test_silu_needs_no_fine_step_but_sigmoid_does() -> None:
    assert findings(LargeScale(), example_facts(Example(silu("Mul(d, g)")))) == []
    assert len(findings(LargeScale(), example_facts(Example(silu("Neg(g)"))))) == 1


def test_zero_point_of_another_type() -> None:
    model = """
<ir_version: 8, opset_import: ["" : 13]>
mixed (float[1, 2, 4, 4] x) => (float[1, 2, 4, 4] y)
<int8[2, 2, 1, 1] w = {1, 0, 0, 1}, float s = {0.1}, uint8 z = {0}> {
  [weight] d = DequantizeLinear(w, s, z)
  y = Conv(x, d)
}
"""
    (finding,) = findings(InvalidScale(), example_facts(Example(model)))
    assert "uint8" in finding.message and "int8" in finding.message


QDQ = """
<ir_version: 8, opset_import: ["" : 13]>
pair (float[1, 4] x) => (float[1, 4] y)
<float[4, 4] w = {1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1}, float s = {SCALE}, uint8 z = {ZERO}> {
  [make] n = OP
  q = QuantizeLinear(n, s, z)
  y = DequantizeLinear(q, s, z)
}
"""


def pair(scale: float, zero: int, op: str = "MatMul(x, w)") -> Facts:
    text = QDQ.replace("SCALE", str(scale)).replace("ZERO", str(zero)).replace("OP", op)
    return example_facts(Example(text))


def test_saturation_counts_what_numpy_counts() -> None:
    codes = np.concatenate([np.full(30, 255), np.full(10, 0), np.arange(1, 255), np.full(5706, 128)])
    (finding,) = findings(Saturation(), observed(pair(0.1, 128), {"q": observation(codes, (0, 255))}))
    assert finding.metrics["clipped_fraction"] == pytest.approx(40 / codes.size)
    assert finding.severity is Severity.WARNING


@pytest.mark.parametrize(
    ("scale", "zero", "op", "count"),
    [
        (0.1, 128, "MatMul(x, w)", 1),
        (0.1, 0, "MatMul(x, w)", 1),
        (6 / 255, 0, "MatMul(x, w)", 0),
        (1 / 255, 0, "Sigmoid(x)", 0),
        (1 / 255, 20, "Neg(x)", 0),
    ],
    ids=["clipped", "upper end of a fused Relu", "fused Relu6", "bounded by Sigmoid", "values of the input"],
)
def test_an_activation_that_ends_there_is_not_clipped(scale: float, zero: int, op: str, count: int) -> None:
    codes = np.concatenate([np.full(100, 255), np.full(100, 0), np.full(800, 100)])
    assert len(findings(Saturation(), observed(pair(scale, zero, op), {"q": observation(codes, (0, 255))}))) == count


@pytest.mark.parametrize(
    ("top", "severity"), [(100, None), (60, Severity.WARNING), (14, Severity.ERROR)], ids=["2.6", "4.3", "18"]
)
def test_wasted_range_in_bits(top: int, severity: Severity | None) -> None:
    found = findings(WastedRange(), observed(pair(0.1, 0), {"q": observation([0, top], (0, 255))}))
    assert [finding.severity for finding in found] == ([] if severity is None else [severity])
    for finding in found:
        assert finding.metrics["lost_bits"] == pytest.approx(np.log2(255 / top))


FLOAT = """
<ir_version: 8, opset_import: ["" : 17]>
layers (float[1, 2, 4, 4] x) => (float[1, 2, 4, 4] y)
<float[2, 2, 1, 1] w = {1, 0, 0, 1}> {
  [conv] c = Conv(x, w)
  [relu] r = Relu(c)
  [copy] t = Transpose <perm = [0, 1, 3, 2]> (r)
  [last] y = Conv(t, w)
}
"""


def tail_values(outlier: float) -> npt.NDArray[np.float32]:
    return np.append(np.linspace(0, 1, 40_000), outlier).astype(np.float32)


def test_a_tail_is_reported_once_where_it_is_rounded_first() -> None:
    seen = observation(tail_values(8.0))
    facts = observed(example_facts(Example(FLOAT)), {"r": seen, "t": seen})
    (finding,) = findings(HeavyTailedActivation(), facts)
    assert finding.location.node == "relu"
    assert finding.evidence is Evidence.UNTESTED
    assert finding.claim is not None
    assert (finding.claim.subject, finding.claim.tensor) == (Subject.ACTIVATION, "r")
    low, high = np.quantile(tail_values(8.0), [1e-4, 1 - 1e-4])
    assert finding.metrics["range_ratio"] == pytest.approx(8.0 / (high - low), rel=1e-4)


def test_a_small_draw_says_nothing_about_a_tail() -> None:
    seen = observation(np.append(np.linspace(0, 1, 500), 50.0))
    assert findings(HeavyTailedActivation(), observed(example_facts(Example(FLOAT)), {"y": seen})) == []


@pytest.mark.parametrize(
    ("samples", "severity"),
    [(5, Severity.WARNING), (31, Severity.WARNING), (32, Severity.INFO), (99, Severity.INFO), (100, None)],
)
def test_the_default_number_of_samples_does_not_fail_a_build(samples: int, severity: Severity | None) -> None:
    facts = example_facts(Example(FLOAT)).inspected(DataSummary("test", False, samples, samples))
    found = findings(TooFewSamples(), facts)
    assert [finding.severity for finding in found] == ([] if severity is None else [severity])


def test_more_samples_at_hand_are_offered() -> None:
    facts = example_facts(Example(FLOAT)).inspected(DataSummary("photos", False, 32, 5000))
    (finding,) = findings(TooFewSamples(), facts)
    assert finding.snippet == "--samples 300"


def test_random_data_is_said_and_counted_once() -> None:
    facts = example_facts(Example(FLOAT)).observed(Observations("random values", True, 8, None, {}))
    (finding,) = findings(SyntheticCalibration(), facts)
    assert finding.severity is Severity.INFO and "random values" in finding.message
    assert findings(TooFewSamples(), facts.inspected(DataSummary("random values", True, 8, None))) == []
    real = replace(facts, observations=Observations("photos", False, 200, 200, {}))
    assert findings(SyntheticCalibration(), real) == []


RULES: tuple[type[Rule], ...] = (
    *QUANTISED,
    Saturation,
    WastedRange,
    HeavyTailedActivation,
    RangeAmplification,
    TooFewSamples,
    SyntheticCalibration,
)


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_is_silent_on_a_float_model_without_data(rule: type[Rule]) -> None:
    assert findings(rule(), example_facts(Example(FLOAT))) == []
