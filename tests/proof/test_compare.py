"""Comparisons of whole files: what is found, what stays quiet, what is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import ties
from onnx import helper
from onnx_cases import detector
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static

from onnxlint_q.errors import DataError, ModelError, UsageError
from onnxlint_q.execute.data.preprocess import preset
from onnxlint_q.execute.data.sources import ArraySource, open_source
from onnxlint_q.proof.comparison import compare as running
from onnxlint_q.workflow.compare import CompareRequest, compare
from onnxlint_q.workflow.results import Comparison

FLOAT = "opset11.onnx"  # BatchNormalization kept; the quantised files below were made of it, folded


@pytest.fixture
def run(models: Path, calibration: Path) -> Callable[..., Comparison]:
    def go(quantised: str | Path, reference: str | Path = FLOAT, labels: Path | None = None) -> Comparison:
        source = open_source(str(calibration), preset("raw"))
        return compare(models / reference, models / quantised, CompareRequest(source, 8, labels))

    return go


def decibels_of(found: Comparison) -> dict[str, float | None]:
    """By the tensor of the float model."""
    return {row.reference: row.sqnr_db for row in found.rows}


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
    (fault,) = row.faults
    assert fault.what == "input" and '"images": [{"rmin": np.float32(-1), "rmax": np.float32(1)}]' in fault.snippet
    assert not found.quiet and not found.unpaired_quantized and not found.unpaired_reference


@pytest.mark.parametrize("quantised", ["qdq_good.onnx", "qoperator.onnx"])
def test_a_healthy_file_is_quiet(run: Callable[..., Comparison], quantised: str) -> None:
    found = run(quantised)
    assert found.quiet and not found.unpaired_quantized and not found.unpaired_reference
    assert all(row.sqnr_db is not None and row.sqnr_db > 20 for row in found.rows)
    assert all(row.weight_sqnr_db is not None and row.weight_sqnr_db > 30 for row in found.rows if row.layer)
    assert sum(row.layer for row in found.rows) == found.quantized.layers == 7


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
    assert found.quiet and not found.unpaired_quantized and not found.unpaired_reference and not found.not_compared
    assert len({row.reference for row in found.rows}) == len(found.rows) == 16
    assert all(row.sqnr_db is not None and row.sqnr_db > 30 for row in found.rows)


def test_the_layer_whose_channels_vanish_is_the_first_jump(run: Callable[..., Comparison]) -> None:
    found = run("qdq_per_tensor_depthwise.onnx", "depthwise_spread.onnx")
    first = found.jumps[0]
    assert first.node == "block1_depthwise_conv"
    assert [fault.what for fault in first.faults] == ["weight"]
    # Run alone on the float input the weight makes the error that the whole file has there.
    assert first.faults[0].alone_db == pytest.approx(first.sqnr_db, abs=2)
    assert first.weight_sqnr_db is not None and first.weight_sqnr_db > 35


def test_a_bias_with_a_wrong_scale_is_named(run: Callable[..., Comparison]) -> None:
    first = run("qdq_bad_bias_scale.onnx").jumps[0]
    assert first.node == "block1_1_conv"
    assert [(fault.what, fault.tensor) for fault in first.faults] == [("bias", "block1_1_conv.bias_real")]
    assert first.faults[0].alone_db == pytest.approx(first.sqnr_db, abs=3)


def test_a_scale_that_is_no_scale_is_named(run: Callable[..., Comparison]) -> None:
    first = run("qdq_invalid_scale.onnx").jumps[0]
    assert first.node == "stem_conv" and first.faults[0].message == "its scale is not a positive number"


@pytest.mark.parametrize("quantised", ["qdq_coarse_input.onnx", "qoperator.onnx"])
def test_names_say_nothing(run: Callable[..., Comparison], models: Path, tmp_path: Path, quantised: str) -> None:
    plain = run(quantised)
    renamed = run(changed(models / quantised, tmp_path / "renamed.onnx", rename))
    assert [row.reference for row in renamed.rows] == [row.reference for row in plain.rows]
    ties.assert_alike(decibels_of(plain), decibels_of(renamed), ties.NETWORK)
    assert "the inputs have different names and were paired by their position" in renamed.notes


def test_a_model_twice_is_a_perfect_match(run: Callable[..., Comparison]) -> None:
    found = run(FLOAT)
    assert found.quiet and found.output_sqnr_db == math.inf
    assert {row.sqnr_db for row in found.rows} == {math.inf} and {row.drop_db for row in found.rows} == {None}
    assert "the second file is not quantised" in found.notes


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
    assert last.quiet and before.pop("images") is not None
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
    assert first.faults[0].what == "weight" and "not the float one" in first.faults[0].message


def test_groups_of_values_give_the_same_figures(
    run: Callable[..., Comparison], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run("qdq_good.onnx")
    monkeypatch.setattr(running, "_GROUP_VALUES", 5000)
    parts = run("qdq_good.onnx")
    # What is fetched decides what ONNX Runtime fuses, and so in which order it sums.
    assert [row.quantized for row in parts.rows] == [row.quantized for row in whole.rows]
    ties.assert_alike(decibels_of(whole), decibels_of(parts), ties.NETWORK)
    assert parts.classifier is not None and whole.classifier is not None
    power = 10 ** (ties.decibels(whole.output_sqnr_db or 0.0, ties.NETWORK) / 10)
    assert parts.classifier.qkl == pytest.approx(whole.classifier.qkl, rel=power - 1)


def test_labels_give_accuracies(run: Callable[..., Comparison], tmp_path: Path) -> None:
    np.save(tmp_path / "l.npy", np.zeros(8, np.int64))
    found = run("qdq_good.onnx", labels=tmp_path / "l.npy").classifier
    assert found is not None and found.labelled == 8 and found.float_accuracy is not None
    assert 0 <= found.float_accuracy <= 1
    np.save(tmp_path / "l.npy", np.zeros(3, np.int64))
    with pytest.raises(DataError, match="holds 3 classes, there are more samples"):
        run("qdq_good.onnx", labels=tmp_path / "l.npy")
    np.save(tmp_path / "l.npy", np.full(8, 99))
    with pytest.raises(DataError, match=r"class 99, the model has 10 classes"):
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
    assert found.verdict is not None and found.classifier is None
    assert any("does not look like a classifier's" in note for note in found.notes)


def test_weights_that_are_not_finite_give_no_figure_and_no_warning(run: Callable[..., Comparison]) -> None:
    found = run("nan_weights.onnx", "nan_weights.onnx")
    assert found.verdict is None and found.output_sqnr_db is None
    assert any("no error could be measured at the output" in note for note in found.notes)


def test_what_cannot_be_compared_is_refused(run: Callable[..., Comparison], models: Path) -> None:
    with pytest.raises(UsageError, match="the float model comes first"):
        run(FLOAT, "qdq_good.onnx")
    with pytest.raises(ModelError, match="only 0 of its 7 layers have a weight"):
        run("qdq_good.onnx", "healthy_mobilenet.onnx")
    with pytest.raises(ModelError, match=r"its input 'features' has shape \[\?, 64\]"):
        run("qdq_blocked.onnx")
    with pytest.raises(DataError, match="holds no samples"):
        source = ArraySource("empty.npz", {"images": np.zeros((0, 3, 32, 32), np.float32)})
        compare(models / FLOAT, models / "qdq_good.onnx", CompareRequest(source, 4))
