"""What `inspect` tells of fixtures against what onnx, numpy and ONNX Runtime say of the same files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx_cases import as_model, onnx_text, run
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from onnxlint_q.analysis.schemes import DEFAULT_SCHEMES
from onnxlint_q.errors import DataError, ModelError, UsageError
from onnxlint_q.execute.data.preprocess import PRESETS
from onnxlint_q.execute.data.sources import ArraySource, open_source
from onnxlint_q.execute.stream.observe import observe
from onnxlint_q.judge.config import Overrides
from onnxlint_q.judge.facts import facts_of
from onnxlint_q.workflow.check import lint, plan
from onnxlint_q.workflow.inspect import InspectRequest, inspect, inspect_apart
from onnxlint_q.workflow.reading.activations import activation_rows
from onnxlint_q.workflow.reading.columns import COLUMNS, worst_first
from onnxlint_q.workflow.reading.inspection import (
    InspectedModel,
    Side,
    SideBySide,
    SidePair,
)
from onnxlint_q.workflow.reading.qparams import _blocks
from onnxlint_q.workflow.reading.values import (
    ActivationRow,
    QparamsRow,
)
from onnxlint_q.workflow.record import CheckRequest, DataRequest

SAMPLES = 6
NAMED = ["opset11", "unfolded_bn", "silu_gate"]


def told(path: Path, calibration: Path | None = None, **asked: Any) -> InspectedModel:
    """One file, on the first samples of the calibration data where it is given."""
    source = open_source(str(calibration), PRESETS["raw"]) if calibration is not None else None
    return inspect([path], InspectRequest(source, SAMPLES, **asked)).models[0]


def computed(path: Path, calibration: Path, tensors: Sequence[str]) -> dict[str, np.ndarray]:
    """All values of some tensors over the same samples, as ONNX Runtime gives them."""
    proto = onnx.load(path)
    have = {value.name for value in proto.graph.output}
    inputs = {value.name for value in proto.graph.input}
    wanted = [tensor for tensor in dict.fromkeys(tensors) if tensor not in inputs]
    proto.graph.output.extend(onnx.helper.make_empty_tensor_value_info(t) for t in wanted if t not in have)
    names = [value.name for value in proto.graph.output]
    images = np.load(calibration)["images"][:SAMPLES]
    runs = [dict(zip(names, run(proto, {"images": image[None]}), strict=True)) for image in images]
    found = {tensor: np.concatenate([one[tensor].ravel() for one in runs]) for tensor in wanted}
    return found | ({"images": images.ravel()} if "images" in tensors else {})


def constants(path: Path) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}


@pytest.mark.parametrize("name", NAMED)
def test_activations_are_what_the_model_computes(models: Path, calibration: Path, name: str) -> None:
    path = models / f"{name}.onnx"
    rows = told(path, calibration).activations
    exact = computed(path, calibration, [row.tensor for row in rows])
    assert len(rows) > 5
    for row in rows:
        values = exact[row.tensor].astype(np.float64)
        close = 1e-5 * np.abs(values).max()
        figures = (row.low, row.high, row.mean, row.std)
        assert np.allclose(figures, (values.min(), values.max(), values.mean(), values.std()), rtol=1e-4, atol=close)
        assert row.zeros == pytest.approx((values == 0).mean(), abs=2 / values.size)
        assert row.outlier_ratio == pytest.approx(np.abs(values).max() / values.std(), rel=1e-3)


def test_a_float_file_gets_the_scales_of_the_quantiser(models: Path, calibration: Path, tmp_path: Path) -> None:

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime ships no types
        def __init__(self) -> None:
            self.left = iter(np.load(calibration)["images"][:SAMPLES])

        def get_next(self) -> dict[str, Any] | None:
            image = next(self.left, None)
            return None if image is None else {"images": image[None]}

    path, made = models / "silu_gate.onnx", tmp_path / "made.onnx"
    prepared = tmp_path / "prepared.onnx"

    quant_pre_process(str(path), str(prepared), skip_symbolic_shape=True)
    quantize_static(prepared, made, Reader(), QuantFormat.QDQ, activation_type=QuantType.QUInt8)
    theirs = {row.tensor: row for row in told(made).qparams if row.kind == "activation"}
    ours = [row for row in told(path, calibration).activations if row.tensor in theirs]
    assert len(ours) > 10
    for row in ours:
        other = theirs[row.tensor]
        assert row.scale == pytest.approx(other.scale[0], rel=1e-4) and row.dtype == other.dtype == "uint8"
        assert row.zero_point is not None and abs(row.zero_point - other.zero_point[0]) <= 1


@pytest.mark.parametrize("name", ["qdq_good", "qdq_coarse_input", "qdq_per_tensor_depthwise", "qoperator"])
def test_scales_and_zero_points_are_those_of_the_file(models: Path, calibration: Path, name: str) -> None:
    path = models / f"{name}.onnx"
    stored, rows = constants(path), told(path, calibration).qparams
    nodes = {node.name: node for node in onnx.load(path).graph.node}
    activations = [row for row in rows if row.kind == "activation"]
    exact = computed(path, calibration, [key for row in activations for key in (row.tensor, row.codes)])
    assert {row.kind for row in rows} == {"activation", "weight", "bias"} or name == "qoperator"
    for row in rows:
        ends = np.iinfo(row.dtype)
        node = nodes[row.node]
        assert any(
            np.array_equal(np.ravel(stored[key]), np.asarray(row.scale, np.float32))
            for key in node.input
            if key in stored
        )
        scale, zero = np.asarray(row.scale, np.float64), np.asarray(row.zero_point, np.float64)
        assert row.low == pytest.approx(np.min(scale * (ends.min - zero)))
        assert row.high == pytest.approx(np.max(scale * (ends.max - zero)))
        assert row.axis is None or row.scales == stored[row.tensor].shape[row.axis]
    for row in activations:
        codes, held = exact[row.codes], row.observed
        assert held is not None
        assert held.codes == pytest.approx(np.unique(codes).size, abs=1)
        ends = np.iinfo(row.dtype)
        assert held.at_lowest == pytest.approx((codes == ends.min).mean(), abs=1e-3)
        assert held.at_highest == pytest.approx((codes == ends.max).mean(), abs=1e-3)
        real = exact[row.tensor].astype(np.float64)
        if row.tensor == row.codes:  # nothing is stored from before the rounding
            real = row.scale[0] * (real - row.zero_point[0])
            assert held.clipped is None
        else:
            half = row.scale[0] / 2
            beyond = (real < (row.low or 0) - half) | (real > (row.high or 0) + half)
            assert held.clipped == pytest.approx(beyond.mean(), abs=1e-3)
        assert (held.low, held.high) == pytest.approx((real.min(), real.max()), rel=1e-4, abs=row.scale[0])


def test_of_a_quantised_file_activations_are_real_values(models: Path, calibration: Path) -> None:
    path = models / "qoperator.onnx"
    model = told(path, calibration)
    pairs = {row.codes: row for row in model.qparams if row.kind == "activation"}
    exact = computed(path, calibration, [row.tensor for row in model.activations])
    assert len(model.activations) == len(pairs)
    for row in model.activations:
        pair = pairs.get(row.tensor)
        values = exact[row.tensor].astype(np.float64)
        if pair is not None:
            values = pair.scale[0] * (values - pair.zero_point[0])
        assert (row.mean, row.std) == pytest.approx((values.mean(), values.std()), rel=1e-3, abs=0.05 * values.std())
        assert row.zeros == pytest.approx((values == 0).mean(), abs=0.01)


@pytest.mark.parametrize("name", ["qdq_good", "qdq_per_tensor_depthwise", "qoperator", "dynamic"])
def test_codes_of_weights_are_counted(models: Path, name: str) -> None:
    path = models / f"{name}.onnx"
    stored = constants(path)
    weights = [row for row in told(path).qparams if row.kind == "weight"]
    assert weights
    for row in weights:
        codes, held = stored[row.tensor].astype(np.float64), row.observed
        assert held is not None and held.codes == np.unique(codes).size
        shape = [1] * codes.ndim
        if row.axis is not None:
            shape[row.axis] = -1
        real = np.reshape(row.scale, shape) * (codes - np.reshape(row.zero_point, shape))
        assert (held.low, held.high) == pytest.approx((real.min(), real.max()))


def test_blocks_have_a_scale_each(models: Path) -> None:
    path = models / "qdq_blocked.onnx"
    proto, stored = onnx.load(path), constants(path)
    for row in told(path).qparams:
        node = next(node for node in proto.graph.node if node.name == row.node)
        scale, codes = stored[node.input[1]], stored[row.tensor].astype(np.float64)
        (block,) = (attribute.i for attribute in node.attribute if attribute.name == "block_size")
        assert (row.block_size, row.scales, row.dtype) == (block, scale.size, "int4") and row.axis is not None
        assert row.scale == tuple(scale.ravel().tolist())
        real = np.repeat(scale, block, row.axis)[tuple(map(slice, codes.shape))] * codes
        assert row.observed is not None
        assert (row.observed.low, row.observed.high) == pytest.approx((real.min(), real.max()))


def test_a_last_block_may_be_short() -> None:

    codes = np.arange(21).reshape(3, 7)
    split = _blocks(codes, 1, 3)
    assert split.shape == (9, 3)
    assert split[2].tolist() == [6, 6, 6] and split[3].tolist() == [7, 8, 9]


def test_blocks_of_a_negative_size_hold_nothing_that_is_told(models: Path, tmp_path: Path) -> None:
    proto = onnx.load(models / "qdq_blocked.onnx")
    for node in proto.graph.node:
        for attribute in node.attribute:
            if attribute.name == "block_size":
                attribute.i = -(2**31)
    onnx.save(proto, tmp_path / "negative.onnx")
    rows = told(tmp_path / "negative.onnx").qparams
    assert rows and all(row.observed is None for row in rows)


def test_scales_that_are_known_at_run_time_only(models: Path) -> None:
    model = told(models / "dynamic.onnx")
    rows = [row for row in model.qparams if row.kind == "activation"]
    assert rows and all(not row.scale and row.low is None and row.observed is None for row in rows)
    assert "3 activations get their scale at run time" in model.notes


def test_parameters_that_do_not_fit_are_told_as_they_are(models: Path) -> None:
    stored = constants(models / "qdq_wrong_scale_shape.onnx")
    rows = told(models / "qdq_wrong_scale_shape.onnx").qparams
    odd = [row for row in rows if row.axis is not None and row.scales != stored[row.codes].shape[row.axis]]
    assert odd and all(row.observed is None for row in odd)
    broken = worst_first(told(models / "qdq_invalid_scale.onnx").qparams, "scale")[0]
    assert np.isnan(broken.scale[0])


@pytest.mark.parametrize("name", NAMED)
def test_weights_before_and_after_folding(models: Path, name: str) -> None:
    path = models / f"{name}.onnx"
    stored, model = constants(path), told(path)
    gains = {row.folds_into: row for row in model.norms}
    for row in model.weights:
        weight = stored[row.tensor].astype(np.float64)
        assert row.before.range == pytest.approx(np.ptp(weight)) and row.before.std == pytest.approx(weight.std())
        if not row.norms:
            assert row.before == row.after
        if row.op_type != "Conv" or len(row.norms) != 1 or row.node not in gains:
            continue
        node = next(n for n in onnx.load(path).graph.node if n.name in row.norms)
        gamma, _, _, variance = (stored[key].astype(np.float64) for key in node.input[1:])
        epsilon = next((a.f for a in node.attribute if a.name == "epsilon"), 1e-5)
        gain = gamma / np.sqrt(variance + epsilon)
        known = gains[row.node]
        assert (known.gamma_low, known.gamma_high) == pytest.approx((gamma.min(), gamma.max()))
        assert (known.gain_low, known.gain_high) == pytest.approx((np.abs(gain).min(), np.abs(gain).max()))
        if gain.size == weight.shape[0]:
            folded = weight * gain.reshape(-1, *[1] * (weight.ndim - 1))
            magnitude = np.abs(folded).reshape(len(folded), -1).max(axis=1)
            assert row.after.range == pytest.approx(np.ptp(folded), rel=1e-5)
            assert row.after.channel_ratio == pytest.approx(magnitude.max() / np.median(magnitude), rel=1e-5)
            assert row.widest == magnitude.argmax()


def test_outlier_gammas_are_named(models: Path) -> None:
    (norm, *_) = worst_first(told(models / "near_zero_variance.onnx").norms, "gain-ratio")
    stored = constants(models / "near_zero_variance.onnx")
    node = next(n for n in onnx.load(models / "near_zero_variance.onnx").graph.node if n.name == norm.node)
    gamma, variance = stored[node.input[1]], stored[node.input[4]]
    assert norm.outliers and norm.outliers[0].ratio == norm.ratio
    for one in norm.outliers:
        assert (one.gamma, one.variance) == (gamma[one.channel], variance[one.channel]) and one.ratio >= 8
        assert one.still


@pytest.mark.parametrize(("name", "tensor"), [("qdq_good", "images"), ("qdq_coarse_input", "images")])
def test_values_become_what_quantizelinear_makes_of_them(models: Path, name: str, tensor: str) -> None:
    path = models / f"{name}.onnx"
    row = next(row for row in told(path).qparams if row.tensor == tensor)
    halves = [float(row.scale[0]) * (code + 0.5) for code in (-3, -2, 0, 1)]
    values = (0.0, 7.0, 7.5, -7.0, 1e6, -1e6, *halves)
    (done,) = inspect([path], InspectRequest(tensor=tensor, values=values)).rounded
    model = onnx_text(
        f"""g (float[{len(values)}] x) => (int8[{len(values)}] q, float[{len(values)}] y) {{
          q = QuantizeLinear(x, s, z)
          y = DequantizeLinear(q, s, z) }}""",
        s=np.float32(row.scale[0]),
        z=np.int8(row.zero_point[0]),
    )
    codes, back = run(model, {"x": np.asarray(values, np.float32)})
    assert [one.code for one in done.values] == codes.tolist()
    assert [one.back for one in done.values] == pytest.approx(back.tolist(), rel=1e-6)
    assert [one.saturated for one in done.values] == [
        abs(value) > 1e5 or abs(value) > (row.high or 0) for value in values
    ]


def test_values_of_a_float_file_take_the_range_of_the_samples(models: Path, calibration: Path) -> None:
    source = open_source(str(calibration), PRESETS["raw"])
    path = models / "opset11.onnx"
    (done,) = inspect([path], InspectRequest(source, SAMPLES, values=(1.0,))).rounded
    worst = worst_first(told(path, calibration).activations, "")[0]
    assert (done.tensor, done.scale, done.zero_point) == (worst.tensor, worst.scale, worst.zero_point)
    with pytest.raises(UsageError, match="has no scale for any activation; give samples"):
        inspect([path], InspectRequest(values=(1.0,)))
    with pytest.raises(UsageError, match=r"(?s)nothing in .* says which scale 'images' has"):
        inspect([path], InspectRequest(values=(1.0,), tensor="images"))


def test_one_tensor_by_any_of_its_names(models: Path, calibration: Path) -> None:
    path = models / "qdq_good.onnx"
    row = next(row for row in told(path).qparams if row.kind == "activation" and row.op_type == "QuantizeLinear")
    source = open_source(str(calibration), PRESETS["raw"])
    for name in (row.tensor, row.codes, row.node):
        (sheet,) = inspect([path], InspectRequest(source, 2, tensor=name)).sheets
        assert row.tensor in [one.tensor for one in sheet.qparams] and sheet.activations, name
        assert sheet.facts
    weight = next(row for row in told(path).qparams if row.kind == "weight")
    (sheet,) = inspect([path], InspectRequest(tensor=weight.tensor)).sheets
    assert [one.tensor for one in sheet.qparams] == [weight.tensor]


def test_a_tensor_that_no_quantiser_rounds_is_seen_when_it_is_asked_for(models: Path, calibration: Path) -> None:
    path = models / "unfolded_bn.onnx"
    usual = {row.tensor for row in told(path, calibration).activations}
    node = next(n for n in onnx.load(path).graph.node if n.op_type == "Conv" and n.output[0] not in usual)
    source = open_source(str(calibration), PRESETS["raw"])
    (sheet,) = inspect([path], InspectRequest(source, SAMPLES, tensor=node.output[0])).sheets
    exact = computed(path, calibration, [node.output[0]])[node.output[0]]
    assert [row.high for row in sheet.activations] == pytest.approx([exact.max()], rel=1e-4)
    assert sheet.channels and sheet.channels[0][2] - sheet.channels[0][1] > 0


def test_unknown_names_are_told_with_those_that_are_near(models: Path) -> None:
    path = models / "opset11.onnx"
    with pytest.raises(UsageError, match=r"no tensor or operator of .*did you mean 'images'"):
        inspect([path], InspectRequest(tensor="imgaes"))
    with pytest.raises(UsageError, match=r"did you mean 'stem_conv"):
        inspect([path], InspectRequest(tensor="STEM_conv"))
    with pytest.raises(UsageError, match=r"--by 'rnge'.*did you mean 'range'"):
        inspect([path], InspectRequest(by="rnge"))
    with pytest.raises(UsageError, match="--by clipped: no table here has this column"):
        inspect([path], InspectRequest(by="clipped"))


def test_a_column_without_a_figure_sorts_nothing(models: Path) -> None:
    """Without samples nobody knows which codes activations use, and those of weights stand in the file."""
    rows = told(models / "qdq_good.onnx").qparams
    activations = [row for row in rows if row.kind == "activation"]
    weights = [row for row in rows if row.kind == "weight"]
    assert worst_first(activations, "codes") == worst_first(activations, "scale") != tuple(activations)
    used = [row.observed.codes for row in worst_first(weights, "codes") if row.observed]
    assert used == sorted(used) and len(used) == len(weights)


@pytest.mark.parametrize("by", COLUMNS)
def test_every_column_sorts_some_table(models: Path, calibration: Path, by: str) -> None:
    source = open_source(str(calibration), PRESETS["raw"])
    paths = [models / "unfolded_bn.onnx", models / "qdq_good.onnx"]
    read = inspect(paths, InspectRequest(source, 2, by=by))
    assert read.by == by and read.side_by_side is not None


def named(side: SideBySide) -> dict[str, tuple[float, float]]:
    def both(pair: SidePair) -> tuple[Side, Side]:
        assert pair.first is not None and pair.second is not None
        return pair.first, pair.second

    return {second.tensor: (first.value, second.value) for first, second in map(both, side.named)}


def test_a_float_file_and_its_quantised_one_are_paired_by_what_they_compute(models: Path, calibration: Path) -> None:
    source = open_source(str(calibration), PRESETS["raw"])
    paths = [models / "depthwise_spread.onnx", models / "qdq_per_tensor_depthwise.onnx"]
    there = inspect(paths, InspectRequest(source, SAMPLES)).side_by_side
    back = inspect(paths[::-1], InspectRequest(source, SAMPLES)).side_by_side
    assert there is not None and back is not None
    assert there.paired_by == back.paired_by == "what they compute" and there.figure == "range"
    ranges = named(there)
    assert len(ranges) > 10 and ranges["images"] == pytest.approx((ranges["images"][0],) * 2)
    assert sorted(b for _, b in ranges.values()) == pytest.approx(sorted(a for a, _ in named(back).values()))
    assert len(there.depth) == 10 and there.depth[0].place == "0-10 %" and there.depth[-1].place == "90-100 %"


def test_two_float_files_are_paired_by_name_or_place(models: Path, tmp_path: Path) -> None:
    proto = onnx.load(models / "opset11.onnx")
    onnx.save(proto, tmp_path / "copy.onnx")
    same = inspect([models / "opset11.onnx", tmp_path / "copy.onnx"], InspectRequest()).side_by_side
    assert same is not None and same.paired_by == "their names" and len(same.named) == 7
    assert all(pair.ratio == pytest.approx(1) for pair in same.named)
    assert inspect([models / "opset11.onnx"], InspectRequest()).side_by_side is None
    text = (models / "opset11.onnx").read_bytes()
    (tmp_path / "renamed.onnx").write_bytes(text.replace(b"_conv_out", b"_CONV_OUT").replace(b"_bn_out", b"_BN_OUT"))
    renamed = inspect([models / "opset11.onnx", tmp_path / "renamed.onnx"], InspectRequest()).side_by_side
    assert renamed is not None and renamed.paired_by.startswith("their place") and len(renamed.named) == 7
    assert all(pair.ratio == pytest.approx(1) for pair in renamed.named)


def test_each_depth_has_its_widest(models: Path) -> None:
    paths = [models / "depthwise_spread.onnx", models / "healthy_mobilenet.onnx"]
    read = inspect(paths, InspectRequest(by="range"))
    assert read.side_by_side is not None
    for number, model in enumerate(read.models):
        sides = [(pair.first, pair.second)[number] for pair in read.side_by_side.depth]
        assert max(side.value for side in sides if side) == max(row.after.range for row in model.weights)


def test_the_worst_of_a_depth_is_the_smallest_where_small_is_worse(models: Path) -> None:
    paths = [models / "depthwise_spread.onnx", models / "healthy_mobilenet.onnx"]
    read = inspect(paths, InspectRequest(by="average-precision"))
    assert read.side_by_side is not None
    for number, model in enumerate(read.models):
        sides = [(pair.first, pair.second)[number] for pair in read.side_by_side.depth]
        assert min(side.value for side in sides if side) == min(row.after.average_precision for row in model.weights)


def test_files_without_any_figure_do_not_stand_beside_each_other(tmp_path: Path) -> None:
    path = tmp_path / "no_layer.onnx"
    onnx.save(onnx_text("g (float[N] x) => (float[N] y) { y = Relu(x) }"), path)
    assert inspect([path, path], InspectRequest()).side_by_side is None


def test_a_normalisation_without_channels_has_no_gamma(tmp_path: Path) -> None:
    none = np.zeros(0, np.float32)
    text = "g (float[N,0,4,4] x) => (float[N,0,4,4] y) { y = BatchNormalization(x, g, b, m, v) }"
    onnx.save(onnx_text(text, g=none, b=none, m=none, v=none), tmp_path / "none.onnx")
    assert told(tmp_path / "none.onnx").norms == ()


def test_of_several_scales_of_one_tensor_one_is_to_be_named(tmp_path: Path) -> None:
    text = """g (float[N,4] x) => (float[N,4] y) {
      a = QuantizeLinear(x, fine, zero)
      b = QuantizeLinear(x, coarse, zero)
      p = DequantizeLinear(a, fine, zero)
      q = DequantizeLinear(b, coarse, zero)
      y = Add(p, q) }"""
    model = onnx_text(text, fine=np.float32(0.1), coarse=np.float32(0.5), zero=np.uint8(0))
    onnx.save(model, tmp_path / "two.onnx")
    with pytest.raises(UsageError, match=r"'x' of .* is quantised with 2 different scales; .*: 'b' or 'a'"):
        inspect([tmp_path / "two.onnx"], InspectRequest(tensor="x", values=(7.0,)))
    for name, scale in (("a", 0.1), ("b", 0.5), ("", 0.5)):
        (done,) = inspect([tmp_path / "two.onnx"], InspectRequest(tensor=name, values=(7.0,))).rounded
        assert done.scale == pytest.approx(scale)


def test_nan_is_told_and_left_out() -> None:

    text = "g (float[N,4] x) => (float[N,4] y) { h = Log(x)\n y = Add(x, h) }"
    facts = facts_of(as_model(onnx_text(text)), DEFAULT_SCHEMES)
    data = np.asarray([[1, 2, 3, 4], [1, -2, 3, 4]], np.float32)
    seen = observe(facts, ArraySource("data", {"x": data}), 2, tensors=("x", "h", "y"))
    assert [row.tensor for row in activation_rows(facts, seen)] == ["x"] and set(seen.non_finite) == {"h", "y"}


def test_what_gives_no_answer(models: Path, calibration: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="Git LFS pointer"):
        inspect_apart([models.parent / "broken" / "lfs_pointer.onnx"], InspectRequest())
    with pytest.raises(ModelError, match=r"cannot run the model.*leave out --calibrate"):
        source = open_source("random", PRESETS["raw"])
        inspect_apart([models / "unknown_domain.onnx"], InspectRequest(source, 1))
    with pytest.raises(DataError):
        data = ArraySource("data", {"other": np.zeros((1, 2), np.float32)})
        inspect([models / "opset11.onnx"], InspectRequest(data, 1))


def test_every_fixture_is_told(models: Path) -> None:
    files = sorted(models.glob("*.onnx"))
    assert len(files) > 20
    for path in files:
        model = told(path)
        assert model.qparams or model.weights, path
        assert not (model.quantised and model.weights)
    assert isinstance(told(models / "qdq_good.onnx").qparams[0], QparamsRow)


def test_check_has_the_same_rows(models: Path, calibration: Path) -> None:

    for name in ("opset11", "qdq_good"):
        path = models / f"{name}.onnx"
        (job,) = plan([path], Overrides())
        source = open_source(str(calibration), PRESETS["raw"])
        result = lint(job.path, job.rules, job.config, CheckRequest(DataRequest(source, 8)))
        alone = inspect([path], InspectRequest(source, 8)).models[0]
        assert result.activations == alone.activations and result.qparams == alone.qparams
        assert all(isinstance(row, ActivationRow) for row in result.activations)
        static = lint(job.path, job.rules, job.config, CheckRequest())
        assert static.activations == () and len(static.qparams) == len(alone.qparams)


def test_operators_whose_constants_no_table_has_are_named(models: Path, tmp_path: Path) -> None:
    proto = onnx_text(
        'product (float[N, 8] x) => (float[N, 4] y) { y = Einsum <equation = "ni,ij->nj"> (x, w) }',
        w=np.ones((8, 4), np.float32),
    )
    onnx.save(proto, tmp_path / "einsum.onnx")
    notes = told(tmp_path / "einsum.onnx").notes
    assert "not in the tables, because inspect does not read their constants: 1 Einsum" in notes
    assert not any("not in the tables" in note for note in told(models / "healthy_resnet.onnx").notes)


def test_both_weights_of_a_recurrent_operator_have_a_row(tmp_path: Path) -> None:
    proto = onnx_text(
        "recurrent (float[5, 1, 8] x) => (float[5, 1, 1, 4] y) { y = LSTM <hidden_size = 4> (x, w, r) }",
        w=np.ones((1, 16, 8), np.float32),
        r=np.full((1, 16, 4), 2, np.float32),
    )
    onnx.save(proto, tmp_path / "lstm.onnx")
    found = told(tmp_path / "lstm.onnx")
    assert [(row.operand, row.tensor, row.after.high) for row in found.weights] == [("W", "w", 1), ("R", "r", 2)]
    assert not found.notes
