"""What the examples of the rules QP, QA and QD cannot show: figures against numpy, real files, made-up observations."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from conftest import public_network

from onnxlint_q.analysis.observed.costs import SchemeCosts
from onnxlint_q.analysis.observed.data_summary import DataSummary
from onnxlint_q.analysis.observed.observations import Observations, TensorObservation
from onnxlint_q.analysis.schemes import DEFAULT_SCHEMES
from onnxlint_q.calls import quantize_static_call
from onnxlint_q.execute.data.inspection import inspect
from onnxlint_q.execute.data.preprocess import PRESETS
from onnxlint_q.execute.data.sources import ArraySource, open_source
from onnxlint_q.execute.data.split import split
from onnxlint_q.execute.stream.observe import observe
from onnxlint_q.finding import Evidence, Finding, Severity, Subject
from onnxlint_q.forecast.expected.level import Traits
from onnxlint_q.forecast.expected.traits import TOGETHER
from onnxlint_q.forecast.forecast import Forecast
from onnxlint_q.graph import Format
from onnxlint_q.graph.loading.load import read_model
from onnxlint_q.judge.config import Config
from onnxlint_q.judge.facts import Facts, facts_of
from onnxlint_q.judge.rule import Example, Rule
from onnxlint_q.judge.testing import example_facts
from onnxlint_q.workflow.judging import judge
from onnxlint_q_rules.activations.heavy_tailed_activation import HeavyTailedActivation
from onnxlint_q_rules.activations.range_amplification import RangeAmplification
from onnxlint_q_rules.data.input_range_mismatch import InputRangeMismatch
from onnxlint_q_rules.data.synthetic_calibration import SyntheticCalibration
from onnxlint_q_rules.data.too_few_samples import TooFewSamples
from onnxlint_q_rules.graph.opset_blocks_per_channel import OpsetBlocksPerChannel
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
    return list(rule.findings(facts))


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


MANY = observation(np.arange(0, 256), (0, 255))


def test_what_the_file_tells_stays_told_with_data() -> None:
    facts = example_facts(Example(CHAIN.replace("SCALE", "0.3")))
    (alone,), (finding,) = findings(LargeScale(), facts), findings(LargeScale(), observed(facts, {"q": MANY}))
    assert (finding.message, finding.severity, finding.evidence) == (alone.message, alone.severity, Evidence.STATIC)


@pytest.mark.parametrize(("deviation", "evidence"), [(1.0, Evidence.CONFIRMED), (10.0, Evidence.REFUTED)])
def test_the_readers_result_tests_what_the_file_tells(deviation: float, evidence: Evidence) -> None:
    facts = example_facts(Example(CHAIN.replace("SCALE", "0.3")))
    result = observation(deviation * np.tile([-1.0, 1.0], 500))
    tensors = {"q": MANY, "qo": observation(np.arange(256), (0, 255)), "r": result}
    (finding,) = findings(LargeScale(), observed(facts, tensors))
    left = 20 * np.log10(deviation / (0.3 * np.sqrt((3**2 + 4**2) / 2 / 12)))
    assert finding.metrics["observed_reader_sqnr_db"] == pytest.approx(left, abs=0.05)
    assert finding.evidence is evidence and finding.counts == (left < 20)


VALUES = np.concatenate([np.repeat([127, 128, 129, 130], 2000), np.repeat(np.arange(100, 124), 3)])


def test_few_codes_are_told_with_the_range_in_front_of_the_rounding() -> None:
    facts = example_facts(Example(CHAIN.replace("SCALE", "0.3")))
    real = 0.3 * (VALUES - 128) + 0.05
    tensors = {"q": observation(VALUES, (0, 255)), "n": observation(real)}
    (finding,) = findings(LargeScale(), observed(facts, tensors))
    assert (finding.severity, finding.evidence) == (Severity.WARNING, Evidence.CONFIRMED)
    low, high = np.quantile(VALUES, [0.001, 0.999], method="inverted_cdf")
    assert finding.metrics["used_codes"] == np.unique(VALUES[(low <= VALUES) & (high >= VALUES)]).size
    assert (finding.metrics["observed_low"], finding.metrics["observed_high"]) == pytest.approx((-8.35, 0.65))
    assert finding.metrics["rounding_sqnr_db"] == pytest.approx(20 * np.log10(real.std() * np.sqrt(12) / 0.3), rel=0.01)
    assert finding.snippet == (
        "quantize_static(..., activation_type=QuantType.QUInt8, extra_options={'TensorQuantOverrides': "
        "{'n': [{'rmin': np.float32(-8.35), 'rmax': np.float32(0.65)}]}})"
    )


def test_no_range_is_read_from_few_codes() -> None:
    facts = example_facts(Example(CHAIN.replace("SCALE", "0.3")))
    (finding,) = findings(LargeScale(), observed(facts, {"q": observation(VALUES, (0, 255))}))
    assert finding.severity is Severity.WARNING and "observed_low" not in finding.metrics
    assert "no range can be read" in finding.remedy
    assert "rmin" not in finding.snippet and "calibrate_method" in finding.snippet


def test_a_range_that_outliers_need_is_not_given_again() -> None:
    facts = example_facts(Example(CHAIN.replace("SCALE", "0.3")))
    real = np.append(np.tile([-0.4, 0.0, 0.4], 3000), [-38.0, 38.0])
    codes = np.rint(real / 0.3) + 128
    (finding,) = findings(
        LargeScale(), observed(facts, {"q": observation(codes.clip(0, 255), (0, 255)), "n": observation(real)})
    )
    assert finding.metrics["used_codes"] == 3 and "percentile" in finding.remedy and "rmin" not in finding.snippet


def test_a_tensor_that_falls_on_one_code_is_coarse_and_a_constant_is_not() -> None:
    facts = example_facts(Example(CHAIN.replace("SCALE", "0.07")))
    one = observation(np.full(1000, 128), (0, 255))
    tiny = observed(facts, {"q": one, "n": observation(np.linspace(-0.03, 0.03, 1000))})
    assert [finding.metrics["used_codes"] for finding in findings(LargeScale(), tiny)] == [1]
    far = observation(np.full(1000, 228), (0, 255))
    still = observed(facts, {"q": far, "n": observation(np.linspace(6.99, 7.01, 1000))})
    (alone,), (finding,) = findings(LargeScale(), facts), findings(LargeScale(), still)
    assert (finding.message, finding.evidence) == (alone.message, Evidence.STATIC)


def test_no_range_is_read_from_random_values() -> None:
    facts = example_facts(Example(CHAIN.replace("SCALE", "0.3")))
    tensors = {"q": observation(VALUES, (0, 255)), "n": observation(0.3 * (VALUES - 128))}
    (finding,) = findings(LargeScale(), facts.observed(Observations("random", True, 8, None, tensors)))
    assert finding.evidence is Evidence.CONFIRMED and not finding.snippet and "Random values" in finding.remedy
    tail = facts_of(example_facts(Example(FLOAT)).model, ()).observed(
        Observations("random", True, 8, None, {"r": observation(tail_values(8.0))})
    )
    assert [finding.snippet for finding in findings(HeavyTailedActivation(), tail)] == [""]


MASKED = """
<ir_version: 8, opset_import: ["" : 13]>
attention (float[1, 8, 8] scores, float[1, 1, 8] mask) => (float[1, 8, 8] p)
<float s = {1.333e36}, uint8 z = {255}> {
  [masked] m = Add(scores, mask)
  q = QuantizeLinear(m, s, z)
  d = DequantizeLinear(q, s, z)
  [softmax] p = Softmax(d)
}
"""


def test_two_codes_far_apart_are_two_codes() -> None:
    """A right finding does not vanish because the codes in use lie far apart."""
    facts = example_facts(Example(MASKED))
    (alone,) = findings(LargeScale(), facts)
    scores = np.random.default_rng(0).normal(size=1000)
    real = np.where(np.arange(1000) % 3 == 0, -3.4e38, scores)
    codes = np.where(real < -1e38, 0, 255)
    (finding,) = findings(LargeScale(), observed(facts, {"q": observation(codes, (0, 255)), "m": observation(real)}))
    assert alone.severity is finding.severity is Severity.ERROR and alone.evidence is Evidence.STATIC
    assert finding.evidence is Evidence.CONFIRMED and finding.metrics["used_codes"] == 2
    assert finding.snippet == alone.snippet == quantize_static_call("nodes_to_exclude=['masked', 'softmax']")


def test_ranges_behind_a_spoiled_tensor_are_not_believed() -> None:
    facts = example_facts(Example(CHAIN.replace("SCALE", "0.3")))
    few = observation(np.tile([127, 128, 129], 1000), (0, 255))
    result = observation(np.tile([10, 12, 11], 1000), (0, 255))
    values = observation(np.tile([0.2, 0.24, 0.22], 1000))
    before = observation(np.tile([-0.29, 0.01, 0.31], 1000))
    first, second = findings(LargeScale(), observed(facts, {"q": few, "n": before, "qo": result, "r": values}))
    assert "rmin" in first.snippet
    assert second.metrics["used_codes"] == 3 and not second.snippet and "Fix 'n' first" in second.remedy


ABOUT_ONE_RANGE = (LargeScale(), WastedRange(), InputRangeMismatch())


def codes_of(facts: Facts, *without: str) -> list[str]:
    """Codes of what the rules about one range find together, those left out that are switched off."""
    rules = [rule for rule in ABOUT_ONE_RANGE if rule.code not in without]
    return [finding.code for finding in judge(facts, rules, Config()) if finding.counts]


INPUT = """
<ir_version: 8, opset_import: ["" : 13]>
pair (float[N, 64] x) => (float[N, 64] y)
<float s = {SCALE}, uint8 z = {128}> {
  q = QuantizeLinear(x, s, z)
  y = DequantizeLinear(q, s, z)
}
"""


@pytest.mark.parametrize(
    ("scale", "codes"), [("1.0", ["QP001"]), ("0.1", ["QD006"]), ("0.02", [])], ids=["5 codes", "41 codes", "201 codes"]
)
def test_one_fault_of_an_input_is_one_finding(scale: str, codes: list[str]) -> None:
    def samples(random: np.random.Generator) -> dict[str, npt.NDArray[np.float32]]:
        return {"x": random.uniform(-2, 2, size=(64, 64)).astype(np.float32)}

    facts = example_facts(Example(INPUT.replace("SCALE", scale), samples=samples))
    assert codes_of(facts) == codes


def test_a_fault_is_told_by_the_next_rule_where_one_is_off(models: Path, calibration: Path) -> None:
    facts = on_data(facts_of(read_model(models / "qdq_coarse_input.onnx"), DEFAULT_SCHEMES), calibration)
    assert codes_of(facts) == ["QP001"]
    assert codes_of(facts, "QP001") == ["QD006"]
    assert codes_of(facts, "QD006") == ["QP001"]
    assert codes_of(facts, "QP001", "QD006") == ["QP008"]


def test_a_rule_whose_options_let_a_fault_pass_leaves_it_to_the_next(models: Path, calibration: Path) -> None:
    facts = on_data(facts_of(read_model(models / "qdq_coarse_input.onnx"), DEFAULT_SCHEMES), calibration)
    lenient = LargeScale(warning_levels=0.0, warning_codes=0.0, bias_steps=0.0)
    assert [finding.code for finding in judge(facts, (lenient, InputRangeMismatch()), Config())] == ["QD006"]


def on_data(facts: Facts, calibration: Path) -> Facts:
    source = open_source(str(calibration), PRESETS["raw"])
    return facts.inspected(inspect(facts, source, 16)).observed(observe(facts, source, 16))


def test_one_fault_of_a_fixture_is_one_finding(models: Path, calibration: Path) -> None:
    facts = facts_of(read_model(models / "qdq_coarse_input.onnx"), DEFAULT_SCHEMES)
    calibrated = on_data(facts, calibration)
    assert codes_of(facts) == codes_of(calibrated) == ["QP001"]
    (finding,) = findings(LargeScale(), calibrated)
    data = np.load(calibration)["images"][:16]
    assert (finding.metrics["observed_low"], finding.metrics["observed_high"]) == (data.min(), data.max())


GEMM = """
<ir_version: 8, opset_import: ["" : 13]>
scaled (float[1, 4] x) => (float[1, 4] y)
<float s = {0.3}, uint8 z = {128}, float[4, 4] w = {3.0, 0, 0, 0, 0, 3.0, 0, 0, 0, 0, 3.0, 0, 0, 0, 0, 3.0},
 float so = {0.02}, uint8 zo = {128}> {
  q = QuantizeLinear(x, s, z)
  d = DequantizeLinear(q, s, z)
  [layer] c = Gemm <alpha = ALPHA> (d, w)
  qo = QuantizeLinear(c, so, zo)
  y = DequantizeLinear(qo, so, zo)
}
"""


@pytest.mark.parametrize("alpha", [1.0, 0.5, 0.1])
def test_a_factor_of_gemm_is_one_of_its_weight(alpha: float) -> None:
    found = findings(LargeScale(), example_facts(Example(GEMM.replace("ALPHA", str(alpha)))))
    levels = 255 * 0.02 / (0.3 * 3 * alpha)
    assert [finding.metrics["reader_levels"] for finding in found] == pytest.approx([levels] if levels < 24 else [])


def test_a_public_file_calibrated_on_raw_pixels() -> None:
    """Its top-1 is 0.346 where the float original has 0.838; nothing else in it is wrong."""
    facts = public("mobilenetv2_tv_qdq_v7_bad.onnx")
    found = [finding for rule in QUANTISED for finding in findings(rule(), facts)]
    assert [(finding.code, finding.location.node) for finding in found] == [("QP001", "input_QuantizeLinear")]
    assert found[0].severity is Severity.ERROR
    assert found[0].metrics["scale"] == pytest.approx(1.077, abs=1e-3)


def test_a_public_file_that_is_quantised_well() -> None:
    """But for one depthwise layer, which has one scale for all of its channels."""
    facts = public("nanodet_m_int8.onnx")
    found = [(finding.code, finding.location.node) for rule in QUANTISED for finding in findings(rule(), facts)]
    assert found == [("QP005", "Conv_3_quant")]


FILES = {
    "qdq_good": [],
    "qoperator": [],
    "qdq_blocked": [],
    "dynamic": [],
    "qdq_coarse_input": [("QP001", "images_quantize")],
    "qdq_bad_bias_scale": [("QP004", "block1_1_conv")],
    "qdq_per_tensor_depthwise": [("QP005", f"block{number}_depthwise_conv") for number in (1, 2, 3)],
}


@pytest.mark.parametrize("name", FILES)
def test_a_whole_file_is_told_what_is_wrong_with_it_and_nothing_else(models: Path, name: str) -> None:
    facts = facts_of(read_model(models / f"{name}.onnx"), ())
    assert facts.quantized
    found = [(finding.code, finding.location.node) for rule in QUANTISED for finding in findings(rule(), facts)]
    assert found == FILES[name]


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
    assert (finding.severity, finding.evidence) == (Severity.WARNING, Evidence.CONFIRMED)
    assert "rmin" not in finding.snippet


def clipped(real: npt.NDArray[np.float64], scale: float = 0.1) -> list[Finding]:
    """What is said of values in front of a range of -12.8 to 12.7."""
    bounds = -128.5 * scale, 127.5 * scale
    codes = np.clip(np.rint(real / scale) + 128, 0, 255)
    tensors = {"q": observation(codes, (0, 255)), "n": TensorObservation.of(real, bounds=bounds)}
    return findings(Saturation(), observed(pair(scale, 128), tensors))


@pytest.mark.parametrize(
    ("beyond", "severity"), [(14.0, Severity.INFO), (30.0, Severity.WARNING), (120.0, Severity.ERROR)]
)
def test_clipping_is_judged_by_what_it_costs(beyond: float, severity: Severity) -> None:
    real = np.append(np.tile(np.linspace(-10, 10, 990), 10), np.full(100, beyond))
    (finding,) = clipped(real)
    lost = np.square(real - real.clip(-12.8, 12.7)).sum()
    assert finding.metrics["clip_sqnr_db"] == pytest.approx(10 * np.log10(np.square(real).sum() / lost), abs=0.2)
    assert finding.severity is severity and finding.metrics["clipped_fraction"] == pytest.approx(0.01)
    assert f"'rmin': np.float32(-10), 'rmax': np.float32({beyond:g})" in finding.snippet


def test_extremes_that_made_the_range_are_not_clipped() -> None:
    """128 values, of which the smallest and the largest are the ends of the range, and one a rounding beyond."""
    values = np.append(np.linspace(-12.8, 12.7, 126), [12.7, -12.86])
    assert clipped(values) == []
    codes = np.clip(np.rint(values[:126] / 0.1) + 128, 0, 255)
    assert findings(Saturation(), observed(pair(0.1, 128), {"q": observation(codes, (0, 255))})) == []


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


def test_an_output_is_called_what_the_float_model_calls_it() -> None:
    real = np.linspace(0, 5, 1000)
    tensors = {"q": observation(np.rint(real / 0.1), (0, 255)), "n": observation(real)}
    (finding,) = findings(WastedRange(), observed(pair(0.1, 0), tensors))
    assert "{'y': [{'rmin': np.float32(0), 'rmax': np.float32(5)}]}" in finding.snippet


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
    [(5, Severity.WARNING), (9, Severity.WARNING), (10, Severity.INFO), (99, Severity.INFO), (100, None)],
)
def test_the_default_number_of_samples_does_not_fail_a_build(samples: int, severity: Severity | None) -> None:
    facts = example_facts(Example(FLOAT)).inspected(DataSummary("test", False, samples, samples))
    found = findings(TooFewSamples(), facts)
    assert [finding.severity for finding in found] == ([] if severity is None else [severity])


def test_more_samples_at_hand_are_offered() -> None:
    facts = example_facts(Example(FLOAT)).inspected(DataSummary("photos", False, 20, 5000))
    (finding,) = findings(TooFewSamples(), facts)
    assert finding.snippet == "--samples 300" and finding.severity is Severity.INFO
    assert finding.remedy == "Take more of the 5000 samples that are there: --samples 300."


@pytest.mark.parametrize(
    ("taken", "available", "told"), [(32, 200, False), (32, 199, True), (31, 200, True), (99, 5000, False)]
)
def test_the_default_number_is_no_fault_where_the_data_holds_more(taken: int, available: int, told: bool) -> None:
    facts = example_facts(Example(FLOAT)).inspected(DataSummary("photos", False, taken, available))
    assert bool(findings(TooFewSamples(), facts)) is told


@pytest.mark.parametrize(
    ("taken", "available", "samples", "enough"),
    [(16, 300, 150, True), (16, 301, 150, True), (16, 33, None, False), (10, 150, 75, False), (1, 1, None, False)],
)
def test_the_samples_to_give_leave_as_many_for_the_verdict(
    taken: int, available: int, samples: int | None, enough: bool
) -> None:
    facts = example_facts(Example(FLOAT)).inspected(DataSummary("photos", False, taken, available))
    (finding,) = findings(TooFewSamples(), facts)
    assert finding.snippet == (f"--samples {samples}" if samples else "")
    assert ("at least 200 samples" in finding.remedy) is not enough
    if samples is not None:
        after = split(ArraySource("photos", {"x": np.zeros((available, 2, 4, 4))}), facts.model.inputs, samples)
        assert (after.calibrating, after.held_out) == (samples, samples)


def test_of_a_quantised_file_nothing_is_kept_for_a_verdict() -> None:
    facts = replace(example_facts(Example(FLOAT)), format=Format.QDQ)
    (finding,) = findings(TooFewSamples(), facts.inspected(DataSummary("photos", False, 32, 90)))
    assert finding.snippet == "--samples 90" and "at least 100 samples" in finding.remedy
    assert "verdict" not in finding.remedy


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


TWICE = """
<ir_version: 8, opset_import: ["" : 13]>
twice (float[1, 4] x) => (float[1, 4] y, float[1, 4] z)
<float[4, 4] w = {1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1},
 float s1 = {0.1}, float s2 = {0.02}, uint8 zp = {128}> {
  n = MatMul(x, w)
  q1 = QuantizeLinear(n, s1, zp)
  y = DequantizeLinear(q1, s1, zp)
  q2 = QuantizeLinear(n, s2, zp)
  z = DequantizeLinear(q2, s2, zp)
}
"""


def test_a_tensor_with_two_quantisers_is_judged_for_each() -> None:
    def samples(random: np.random.Generator) -> dict[str, npt.NDArray[np.float32]]:
        return {"x": random.uniform(-10, 10, size=(64, 4)).astype(np.float32)}

    (finding,) = findings(Saturation(), example_facts(Example(TWICE, samples=samples)))
    share, left = (finding.metrics[key] for key in ("clipped_fraction", "clip_sqnr_db"))
    assert finding.metrics["quantised_high"] == pytest.approx(2.54) and isinstance(share, float) and share > 0.7
    assert left is not None and "at the ends" in finding.message


OLD = """
<ir_version: 7, opset_import: ["" : 11]>
old (float[1, 2, 4, 4] x) => (float[1, 2, 4, 4] y)
<float[2, 1, 1, 1] w = {1.0, 2.0}> {
  y = Conv <group = 2> (x, w)
}
"""


def old_network(forecast_db: tuple[float, float]) -> Facts:
    """A network of opset 11, and what is foreseen at its output per tensor and per channel."""
    facts = facts_of(example_facts(Example(OLD)).model, DEFAULT_SCHEMES)
    known = zip(DEFAULT_SCHEMES, forecast_db, strict=True)
    return replace(
        facts, forecasts={scheme.name: Forecast(sqnr_db, traits={TOGETHER: Traits()}) for scheme, sqnr_db in known}
    )


@pytest.mark.parametrize(
    ("forecast_db", "severity"),
    [
        ((30.0, 40.0), Severity.INFO),  # one scale a tensor is enough
        ((8.0, 20.0), Severity.WARNING),
        ((8.0, 8.5), Severity.INFO),  # one scale a channel would not help
    ],
)
def test_an_old_opset_is_a_warning_where_one_scale_a_channel_is_needed(
    forecast_db: tuple[float, float], severity: Severity
) -> None:
    (finding,) = findings(OpsetBlocksPerChannel(), old_network(forecast_db))
    assert finding.severity is severity and ("which this network needs" in finding.message) is (severity != "info")


@pytest.mark.parametrize(
    ("lost_db", "severity"),
    [({}, Severity.INFO), ({0: 8.0}, Severity.WARNING), ({0: 8.0, 1: 8.5}, Severity.INFO)],
)
def test_what_was_measured_goes_before_the_forecast(lost_db: dict[int, float], severity: Severity) -> None:
    names = {number: DEFAULT_SCHEMES[number].name for number in lost_db}
    costs = {names[number]: SchemeCosts(names[number], sqnr_db, ()) for number, sqnr_db in lost_db.items()}
    facts = observed(old_network((8.0, 20.0)), {}).costed(costs)
    (finding,) = findings(OpsetBlocksPerChannel(), facts)
    assert finding.severity is severity


def test_an_old_opset_is_a_warning_where_nothing_but_one_scale_a_channel_is_wanted() -> None:
    facts = replace(old_network((30.0, 40.0)), schemes=DEFAULT_SCHEMES[1:])
    assert [finding.severity for finding in findings(OpsetBlocksPerChannel(), facts)] == [Severity.WARNING]
