"""Comparisons of whole files: what is found, what stays quiet, what is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import ties
from onnx import helper
from onnx_cases import detector
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static

from onnxlint_q.analysis.schemes import DEFAULT_SCHEMES
from onnxlint_q.errors import DataError, ModelError, UsageError
from onnxlint_q.execute.data.preprocess import preset
from onnxlint_q.execute.data.sources import ArraySource, open_source
from onnxlint_q.execute.limits import DEFAULT_LIMITS, Limits
from onnxlint_q.execute.progress import Progress, silent
from onnxlint_q.execute.stream.observe import observe
from onnxlint_q.finding import Evidence, Finding, Severity
from onnxlint_q.graph import read_model
from onnxlint_q.judge.config import Config, parse_config
from onnxlint_q.judge.facts import facts_of
from onnxlint_q.judge.registry import load_rules
from onnxlint_q.judge.verdict import Verdict
from onnxlint_q.proof.comparison.compare import compare_files, pair_files
from onnxlint_q.proof.testing import pair_facts
from onnxlint_q.workflow.check import Job
from onnxlint_q.workflow.compare import CompareRequest, check_differ, compare
from onnxlint_q.workflow.comparison import (
    Comparison,
)
from onnxlint_q_rules.comparison.deviating_operator import DeviatingOperator
from onnxlint_q_rules.qdq.pairs import Pairs
from onnxlint_q_rules.qdq.usage import usages

RULES = [entry.rule for entry in load_rules()]
FLOAT = "opset11.onnx"  # BatchNormalization kept; the quantised files below were made of it, folded


@pytest.fixture
def run(models: Path, calibration: Path) -> Callable[..., Comparison]:
    def go(
        quantised: str | Path,
        reference: str | Path = FLOAT,
        labels: Path | None = None,
        table: dict[str, object] | None = None,
        progress: Progress = silent,
        limits: Limits = DEFAULT_LIMITS,
    ) -> Comparison:
        source = open_source(str(calibration), preset("raw"))
        config = parse_config(table or {}, Path("onnxlint-q.toml"))
        job = Job(models / quantised, config, config.build(RULES))
        return compare(models / reference, job, CompareRequest(source, 8, labels), progress, limits)

    return go


def told(found: Comparison) -> list[tuple[str, str]]:
    """Code and part of each finding of the comparison, refuted ones left out."""
    return [
        (finding.code, str(finding.metrics.get("part", "")))
        for finding in found.quantized.findings
        if finding.counts and finding.severity is not Severity.INFO
    ]


def decibels_of(found: Comparison) -> dict[str, float | None]:
    """By the tensor of the float model."""
    return {row.reference: row.sqnr_db for row in found.rows}


def only(found: Comparison, code: str) -> Finding:
    (finding,) = (finding for finding in found.quantized.findings if finding.code == code)
    return finding


def changed(source: Path, target: Path, edit: Callable[[onnx.GraphProto], None]) -> Path:
    model = onnx.load(source)
    edit(model.graph)
    onnx.save(model, target)
    return target


def rename(graph: onnx.GraphProto) -> None:
    """Every node and tensor gets a name that says nothing, and the initializers another order."""
    names: dict[str, str] = {"": ""}
    for node in graph.node:
        for field in (node.input, node.output):
            for slot, name in enumerate(field):
                field[slot] = names.setdefault(name, f"t{len(names) * 7919 % 1000}_{len(names)}")
        node.name = ""
    for group in (graph.input, graph.output, graph.initializer):
        for value in group:
            value.name = names.setdefault(value.name, f"u{len(names)}")
    del graph.value_info[:]
    kept = list(graph.initializer)[::-1]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def test_a_coarse_input_is_the_first_jump_and_says_its_true_range(run: Callable[..., Comparison]) -> None:
    found = run("qdq_coarse_input.onnx")
    (row,) = found.jumps
    assert (row.op_type, row.quantized, row.reads_db) == ("Input", "images", math.inf)
    assert row.qparams is not None and row.qparams.span_ratio == pytest.approx(50, rel=0.02)
    assert row.qparams.used_codes == 7 and row.qparams.zero_point == -1
    (fault,) = found.faults(row)
    assert (fault.code, fault.metrics["part"], fault.location.node) == ("QC001", "input", "images_quantize")
    assert "'images': [{'rmin': np.float32(-1), 'rmax': np.float32(1)}]" in fault.snippet
    assert not found.unpaired_quantized and not found.unpaired_reference


@pytest.mark.parametrize("quantised", ["qdq_good.onnx", "qoperator.onnx"])
def test_a_healthy_file_is_quiet(run: Callable[..., Comparison], quantised: str) -> None:
    found = run(quantised)
    assert (found.result.output_sqnr_db or 0) > 30 and not told(found)
    assert not found.unpaired_quantized and not found.unpaired_reference
    assert all(row.sqnr_db is not None and row.sqnr_db > 20 for row in found.rows)
    assert all(row.weight_sqnr_db is not None and row.weight_sqnr_db > 30 for row in found.rows if row.layer)
    assert sum(row.layer for row in found.rows) == len(found.quantized.layers) == 7


def test_formats_agree_on_what_they_share(run: Callable[..., Comparison]) -> None:
    """The same codes in both, but for the last tensor, which only the QOperator file rounds."""
    first, second = run("qdq_good.onnx"), run("qoperator.onnx")
    assert [row.reference for row in first.rows] == [row.reference for row in second.rows]
    rows, others = decibels_of(first), decibels_of(second)
    exact, rounded = rows.popitem()[1], others.popitem()[1]
    ties.assert_alike(rows, others, ties.NETWORK)
    assert exact is not None and rounded is not None and exact - 3 < rounded < exact


class _Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime ships no types
    def __init__(self, images: np.ndarray) -> None:
        self.left = [{"images": image[None]} for image in images]

    def get_next(self) -> dict[str, np.ndarray] | None:
        return self.left.pop() if self.left else None


@pytest.fixture
def detectors(calibration: Path, tmp_path: Path) -> dict[str, Path]:
    """A detector in float, and what ONNX Runtime's quantisers make of it."""
    paths = {name: tmp_path / f"{name}.onnx" for name in ("float", "static", "dynamic")}
    onnx.save(detector(), paths["float"])
    quantize_static(
        paths["float"],
        paths["static"],
        _Reader(np.load(calibration)["images"][:8]),
        quant_format=QuantFormat.QOperator,
        per_channel=True,
        activation_type=QuantType.QInt8,
    )
    quantize_dynamic(paths["float"], paths["dynamic"], weight_type=QuantType.QUInt8)
    return paths


@pytest.mark.parametrize("quantised", ["static", "dynamic"])
def test_a_detector_is_paired_whole(run: Callable[..., Comparison], detectors: dict[str, Path], quantised: str) -> None:
    found = run(detectors[quantised], detectors["float"])
    assert found.quantized.format == {"static": "qoperator", "dynamic": "dynamic"}[quantised]
    assert not found.jumps and found.result.verdict is Verdict.SURVIVES and not found.not_compared
    assert not found.unpaired_quantized and not found.unpaired_reference
    assert len({row.reference for row in found.rows}) == len(found.rows) == 16
    assert all(row.sqnr_db is not None and row.sqnr_db > 30 for row in found.rows)


def test_the_layer_whose_channels_vanish_is_the_first_jump(run: Callable[..., Comparison]) -> None:
    found = run("qdq_per_tensor_depthwise.onnx", "depthwise_spread.onnx")
    first = found.jumps[0]
    assert first.node == "block1_depthwise_conv"
    (fault,) = found.faults(first)
    assert (fault.code, fault.evidence) == ("QC002", Evidence.CONFIRMED)
    # Run alone on the float input the weight makes the error that the whole file has there.
    assert fault.measured_db == pytest.approx(first.sqnr_db, abs=2)
    assert first.weight_sqnr_db is not None and first.weight_sqnr_db > 35


def test_a_bias_with_a_wrong_scale_is_named(run: Callable[..., Comparison]) -> None:
    found = run("qdq_bad_bias_scale.onnx")
    first = found.jumps[0]
    assert first.node == "block1_1_conv"
    (fault,) = found.faults(first)
    assert (fault.code, fault.metrics["tensor"]) == ("QC003", "block1_1_conv.bias_real")
    assert fault.measured_db == pytest.approx(first.sqnr_db, abs=3)


def test_a_scale_that_is_no_scale_is_named(run: Callable[..., Comparison]) -> None:
    found = run("qdq_invalid_scale.onnx")
    first = found.jumps[0]
    assert first.node == "stem_conv" and "a scale that is not a positive number" in found.faults(first)[0].message


@pytest.mark.parametrize("quantised", ["qdq_coarse_input.onnx", "qoperator.onnx"])
def test_names_say_nothing(run: Callable[..., Comparison], models: Path, tmp_path: Path, quantised: str) -> None:
    plain = run(quantised)
    renamed = run(changed(models / quantised, tmp_path / "renamed.onnx", rename))
    assert [row.reference for row in renamed.rows] == [row.reference for row in plain.rows]
    ties.assert_alike(decibels_of(plain), decibels_of(renamed), ties.NETWORK)
    assert "the input names differ, so inputs were paired by position" in renamed.quantized.notes


def test_a_quantised_file_twice_is_a_perfect_match(run: Callable[..., Comparison]) -> None:
    found = run("qdq_good.onnx", "qdq_good.onnx")
    assert (found.result.verdict, found.result.note) == (Verdict.SURVIVES, "the outputs are identical")
    assert {row.sqnr_db for row in found.rows} == {math.inf} and {row.drop_db for row in found.rows} == {None}
    assert any("the first file is quantised too" in note for note in found.quantized.notes)


def test_channels_last_and_codes_at_the_input(run: Callable[..., Comparison], models: Path, tmp_path: Path) -> None:
    def channels_last(graph: onnx.GraphProto) -> None:
        graph.node.insert(0, helper.make_node("Transpose", ["pixels"], ["images"], perm=[0, 3, 1, 2]))
        graph.input[0].CopyFrom(helper.make_tensor_value_info("pixels", onnx.TensorProto.FLOAT, ["N", 32, 32, 3]))

    def codes(graph: onnx.GraphProto) -> None:
        quantise = next(node for node in graph.node if node.op_type == "QuantizeLinear" and "images" in node.input)
        value = helper.make_tensor_value_info(quantise.output[0], onnx.TensorProto.INT8, ["N", 3, 32, 32])
        graph.input[0].CopyFrom(value)
        graph.node.remove(quantise)

    plain = run("qdq_good.onnx")
    last = run(changed(models / "qdq_good.onnx", tmp_path / "last.onnx", channels_last))
    before, behind = decibels_of(plain), decibels_of(last)
    assert not told(last) and before.pop("images") is not None
    assert behind.pop("images") == math.inf, "it is the transposed input that is rounded"
    ties.assert_alike(before, behind, ties.NETWORK)
    coded = run(changed(models / "qdq_good.onnx", tmp_path / "codes.onnx", codes))
    ties.assert_alike(decibels_of(plain), decibels_of(coded), ties.NETWORK)


def test_a_layer_of_another_network_is_said(run: Callable[..., Comparison], models: Path, tmp_path: Path) -> None:
    def replace(graph: onnx.GraphProto) -> None:
        weight = next(t for t in graph.initializer if t.name == "block1_1_conv.weight_quantized")
        values = np.random.default_rng(3).integers(-127, 127, tuple(weight.dims)).astype(np.int8)
        weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))

    found = run(changed(models / "qdq_good.onnx", tmp_path / "other.onnx", replace))
    first = found.jumps[0]
    assert "block1_1_conv" in first.node
    (fault,) = found.faults(first)
    assert fault.code == "QC005" and "not that of the float model" in fault.message


def test_groups_of_values_give_the_same_figures(run: Callable[..., Comparison]) -> None:
    whole = run("qdq_good.onnx")
    samples: list[int] = []

    def sampled(stage: str, done: int, _: int) -> None:
        if stage == "comparing":
            samples.append(done)

    parts = run("qdq_good.onnx", progress=sampled, limits=Limits(compared_values=5000))
    assert len(samples) > 8 and samples == [*range(1, 9)] * (len(samples) // 8), "every group sees all samples"
    # What is fetched decides what ONNX Runtime fuses, and so in which order it sums.
    assert [row.quantized for row in parts.rows] == [row.quantized for row in whole.rows]
    ties.assert_alike(decibels_of(whole), decibels_of(parts), ties.NETWORK)
    assert parts.classifier is not None and whole.classifier is not None
    power = 10 ** (ties.decibels(whole.result.output_sqnr_db or 0.0, ties.NETWORK) / 10)
    assert parts.classifier.qkl == pytest.approx(whole.classifier.qkl, rel=power - 1)


def test_labels_give_accuracies(run: Callable[..., Comparison], tmp_path: Path) -> None:
    np.save(tmp_path / "l.npy", np.zeros(8, np.int64))
    found = run("qdq_good.onnx", labels=tmp_path / "l.npy").classifier
    assert found is not None and found.top1 is not None and found.top1.rows == 8
    assert 0 <= found.top1.float_accuracy <= 1
    np.save(tmp_path / "l.npy", np.zeros(3, np.int64))
    with pytest.raises(DataError, match="holds 3 classes, but there are more samples"):
        run("qdq_good.onnx", labels=tmp_path / "l.npy")
    np.save(tmp_path / "l.npy", np.full(8, 99))
    with pytest.raises(DataError, match=r"class 99, but the model has classes 0 to 9"):
        run("qdq_good.onnx", labels=tmp_path / "l.npy")


def test_only_class_scores_are_compared_by_the_largest_one(
    run: Callable[..., Comparison], models: Path, tmp_path: Path
) -> None:
    def bound(graph: onnx.GraphProto) -> None:
        output = graph.output[0].name
        for node in graph.node:
            node.output[:] = ["logits" if name == output else name for name in node.output]
        graph.node.append(helper.make_node("Tanh", ["logits"], [output], "bound"))

    ours, theirs = (changed(models / name, tmp_path / name, bound) for name in (FLOAT, "qdq_good.onnx"))
    np.save(tmp_path / "l.npy", np.zeros(8, np.int64))
    found = run(theirs, ours, tmp_path / "l.npy")
    assert found.result.verdict is not None and found.classifier is None
    assert any("exactly one output with class scores" in note for note in found.quantized.notes)


def test_weights_that_are_not_finite_give_no_figure_and_no_warning(
    run: Callable[..., Comparison], models: Path, tmp_path: Path
) -> None:
    def not_finite(graph: onnx.GraphProto) -> None:
        scale = [t for t in graph.initializer if t.name.endswith("weight_scale")][-1]
        nan = np.full(tuple(scale.dims), np.nan, np.float32)
        scale.CopyFrom(onnx.numpy_helper.from_array(nan, scale.name))

    path = changed(models / "qdq_good.onnx", tmp_path / "nan.onnx", not_finite)
    found = run(path, path)
    assert found.result.verdict is None and found.result.output_sqnr_db is None
    assert any("no error could be measured at the output" in note for note in found.quantized.notes)


def test_what_a_rule_with_other_options_asks_about_was_tried(run: Callable[..., Comparison]) -> None:
    options = {"jump-db": 1.0, "bad-db": 100.0, "broken-db": 100.0, "takes-part-db": 0.0, "inherited-db": 0.0}
    found, plain = run("qdq_good.onnx", table={"rules": {"QC004": options}}), run("qdq_good.onnx")
    assert all(row.inherited_db is None for row in plain.rows), "nothing falls at the defaults"
    tried = [row for row in found.rows if row.inherited_db is not None]
    assert tried and all(row.falls(1.0, 100.0) for row in tried)
    accused = {finding.metrics["jump_at"] for finding in found.quantized.findings if finding.code == "QC004"}
    assert accused <= {row.quantized for row in tried}


def test_an_operator_that_was_not_tried_is_not_accused() -> None:
    example = DeviatingOperator.bad[0]
    facts = pair_facts(example)
    assert facts.comparison is not None and len(list(DeviatingOperator().findings(facts))) == 1
    untried = tuple(replace(row, inherited_db=None) for row in facts.comparison.rows)
    assert not list(DeviatingOperator().findings(facts.compared(replace(facts.comparison, rows=untried))))


def test_what_cannot_be_compared_is_refused(run: Callable[..., Comparison], models: Path) -> None:
    with pytest.raises(UsageError, match=r"opset11.onnx is not quantised"):
        run(FLOAT)
    with pytest.raises(UsageError, match="name the float model first"):
        run(FLOAT, "qdq_good.onnx")
    with pytest.raises(ModelError, match="none of its 7 layers have a weight"):
        run("qdq_good.onnx", "healthy_mobilenet.onnx")
    with pytest.raises(ModelError, match=r"its input 'features' has shape \[\?, 64\]"):
        run("qdq_blocked.onnx")
    with pytest.raises(DataError, match="holds no samples"):
        source = ArraySource("empty.npz", {"images": np.zeros((0, 3, 32, 32), np.float32)})
        compare(models / FLOAT, Job(models / "qdq_good.onnx", Config(), ()), CompareRequest(source, 4))


def test_one_file_is_known_as_one(models: Path, tmp_path: Path) -> None:
    (tmp_path / "link.onnx").symlink_to(models / "qdq_good.onnx")
    with pytest.raises(UsageError, match="are the same file; name the float model"):
        check_differ(models / "qdq_good.onnx", tmp_path / "link.onnx")
    check_differ(models / "healthy_resnet.onnx", models / "qdq_good.onnx")
    check_differ(models / "nowhere.onnx", models / "qdq_good.onnx")


def test_the_configuration_decides_as_in_check(run: Callable[..., Comparison]) -> None:
    plain = run("qdq_good.onnx")
    assert plain.result.verdict is Verdict.DEGRADES and not plain.quantized.fails
    levels = {"breaks-agreement": 0.95, "survives-agreement": 0.99}
    strict = run("qdq_good.onnx", table={"verdict": levels})
    assert strict.result.verdict is Verdict.BREAKS and strict.quantized.fails
    assert not run("qdq_good.onnx", table={"verdict": levels, "fail-on-verdict": "none"}).quantized.fails


def test_a_fault_is_one_finding_and_each_of_its_rules_can_be_ignored(run: Callable[..., Comparison]) -> None:
    def codes(*ignored: str) -> set[str]:
        table = {"ignore": ["QR004", *ignored]}  # which is about speed
        return {finding.code for finding in run("qdq_coarse_input.onnx", table=table).quantized.findings}

    assert codes() == {"QC001"}
    assert codes("QP001") == {"QC001"}
    assert codes("QC001") == {"QP001"}
    assert codes("QC", "large-scale") == set()
    assert only(run("qdq_coarse_input.onnx"), "QC001").note.endswith("QP001 large-scale reports the same.")


def test_severity_and_options_of_a_rule_about_a_pair(run: Callable[..., Comparison]) -> None:
    info = run("qdq_coarse_input.onnx", table={"severity": {"QC001": "info"}})
    assert only(info, "QC001").severity is Severity.INFO and not info.quantized.fails and not info.jumps
    loud = run("qdq_coarse_input.onnx", table={"rules": {"lossy-activation-qparams": {"broken-db": 12.0}}})
    assert only(loud, "QC001").severity is Severity.ERROR
    deaf = run("qdq_coarse_input.onnx", table={"rules": {"QC001": {"bad-db": 8.0}}, "ignore": ["QP001", "QR004"]})
    assert not deaf.quantized.findings and deaf.levels["bad_db"] == 8.0


def test_the_float_file_tells_why_a_weight_is_lossy(run: Callable[..., Comparison]) -> None:
    found = run("qdq_per_tensor_depthwise.onnx", "depthwise_spread.onnx")
    cause, empty = only(found, "QC002").causes
    assert cause.startswith("In the float model, QB002 near-zero-variance: 4 of 36 channels")
    assert "hold only the zero point" in empty


def test_a_file_that_does_not_load_is_said_to_whatever_it_holds(
    run: Callable[..., Comparison], models: Path, tmp_path: Path
) -> None:
    def unknown(graph: onnx.GraphProto) -> None:
        output = graph.output[0].name
        for node in graph.node:
            node.output[:] = ["logits" if name == output else name for name in node.output]
        graph.node.append(helper.make_node("Nowhere", ["logits"], [output], "strange", domain="nobody.knows"))

    for name in ("qdq_good.onnx", FLOAT):
        path = tmp_path / name
        changed(models / name, path, unknown)
        model = onnx.load(path)
        model.opset_import.append(helper.make_opsetid("nobody.knows", 1))
        onnx.save(model, path)
        with pytest.raises(ModelError, match=r"ONNX Runtime cannot load it: .*nobody\.knows"):
            run(path)


TABLE = """
<ir_version: 8, opset_import: ["" : 13]>
lookup (int64[N, 3] ids) => (float[N, 3, 4] y)
<float[5, 4] table = {%s}, float[4, 4] w = {%s}> { e = Gather(table, ids) [mm] y = MatMul(e, w) }
"""
CODES = """
<ir_version: 8, opset_import: ["" : 13]>
lookup (int64[N, 3] ids) => (float[N, 3, 4] y)
<uint8[5, 4] table = {%s}, int8[4, 4] w = {%s}, uint8 z = {128}, int8 zw = {0}, float s = {0.0001}> {
  e = Gather(table, ids)
  [mm] sum = MatMulInteger(e, w, z, zw)
  f = Cast <to = 1> (sum)
  y = Mul(f, s)
}
"""


def test_codes_whose_scale_comes_later_are_no_values(tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    codes, weight = random.integers(0, 256, (5, 4)), random.integers(-127, 128, (4, 4))
    real = np.concatenate([((codes - 128) * 0.01).ravel(), (weight * 0.01).ravel()])
    for name, text, numbers in (
        ("float", TABLE, (real[:20], real[20:])),
        ("codes", CODES, (codes.ravel(), weight.ravel())),
    ):
        values = tuple(", ".join(map(str, part.tolist())) for part in numbers)
        onnx.save(onnx.parser.parse_model(text % values), tmp_path / f"{name}.onnx")
    source = ArraySource("ids", {"ids": random.integers(0, 5, (8, 3))})
    job = Job(tmp_path / "codes.onnx", Config(), Config().build(RULES))
    found = compare(tmp_path / "float.onnx", job, CompareRequest(source, 8))
    assert found.not_compared == ("e",) and not told(found)
    assert {row.node for row in found.rows} == {"ids", "mm"}


def test_check_and_compare_count_the_same_codes(models: Path, calibration: Path) -> None:
    """The input holds the same values in both, so the codes that it uses are as many in either report."""
    source = open_source(str(calibration), preset("raw"))
    facts = facts_of(read_model(models / "qdq_coarse_input.onnx"), DEFAULT_SCHEMES)
    seen = usages(facts.observed(observe(facts, source, 32)), Pairs(facts))
    original = facts_of(read_model(models / FLOAT), DEFAULT_SCHEMES)
    compared = compare_files(pair_files(original, facts), original, facts, source, 32).compared
    (row,) = (row for row in compared.rows if row.quantized == "images")
    (usage,) = (usage for usage in seen.values() if usage.pair.tensor == "images")
    assert row.qparams is not None and row.qparams.used_codes == usage.used_codes == 7
