"""The model as it is, held against `quantize_static` on the file; the usual way, against `quant_pre_process` first."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import ties
from onnx_cases import onnx_text, run
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from onnxlint_q.analysis.observed.unprepared import Unprepared
from onnxlint_q.analysis.preparation import KEEPS, preparation, removed_for_good
from onnxlint_q.analysis.schemes import DEFAULT_SCHEMES, INT8_PER_CHANNEL, INT8_PER_TENSOR, Scheme
from onnxlint_q.execute.data.sources import ArraySource
from onnxlint_q.execute.data.split import split
from onnxlint_q.execute.stream.observe import observe
from onnxlint_q.execute.variants.unprepared import can_differ, measure_unprepared
from onnxlint_q.execute.variants.workbench import Workbench, workbench
from onnxlint_q.graph import read_model
from onnxlint_q.judge.facts import facts_of
from onnxlint_q.proof.whole import measure_schemes
from onnxlint_q_rules.graph.pre_processing_matters import _prepare

Samples = Sequence[dict[str, np.ndarray]]
RANDOM = np.random.default_rng(5)


class _Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime ships no types
    def __init__(self, samples: Samples) -> None:
        self.samples = iter(samples)

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.samples, None)


def made_by_hand(path: Path, folder: Path, samples: Samples, scheme: Scheme, *, prepared: bool) -> Path:
    """The file that its user gets."""
    given, made = path, folder / f"{scheme.name}{prepared}.onnx"
    if prepared:
        given = folder / "prepared.onnx"
        quant_pre_process(path, given, skip_symbolic_shape=True)
    quantize_static(
        given,
        made,
        _Reader(samples),
        per_channel=scheme.per_channel,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    return made


def error_db(path: Path, made: Path, samples: Samples) -> float:
    """SQNR of the worst output."""
    pairs = [(run(path, sample), run(made, sample)) for sample in samples]
    noise = [
        sum(float(np.square(a[i] - b[i]).sum()) for a, b in pairs) / sum(float(np.square(a[i]).sum()) for a, _ in pairs)
        for i in range(len(pairs[0][0]))
    ]
    return float(-10 * np.log10(max(noise)))


def bench_and_samples(path: Path, arrays: dict[str, np.ndarray]) -> tuple[Workbench, Any, Samples]:
    facts = facts_of(read_model(path), DEFAULT_SCHEMES)
    source = ArraySource("s", arrays)
    parts = split(source, facts.model.inputs, 16)
    bench = workbench(facts).calibrated(observe(facts, source, parts.calibrating))
    return bench, parts, [dict(sample) for sample in source.samples(facts.model.inputs)]


def hold_against_files(
    path: Path, folder: Path, arrays: dict[str, np.ndarray], *, usual_too: bool = True
) -> dict[str, Unprepared]:
    """Both figures of each scheme are those of the files made by hand, within half a dB."""
    bench, parts, samples = bench_and_samples(path, arrays)
    found = {both.scheme: both for both in measure_unprepared(bench, parts, measure_schemes(bench, parts).errors)}
    first, second = samples[: parts.calibrating], samples[parts.calibrating :]
    for scheme in DEFAULT_SCHEMES:
        if scheme.name not in found:
            continue
        both = found[scheme.name]
        for db, prepared in ((both.sqnr_db, False), (both.prepared_db, True))[: 1 + usual_too]:
            expected = error_db(path, made_by_hand(path, folder, first, scheme, prepared=prepared), second)
            assert db == pytest.approx(expected, abs=max(0.5, ties.decibels(expected, ties.NETWORK)))
    return found


@pytest.mark.parametrize("name", ["healthy_mobilenet", "depthwise_spread", "dynamic_shape"])
def test_a_network_with_batch_normalisation(models: Path, calibration: Path, tmp_path: Path, name: str) -> None:
    found = hold_against_files(models / f"{name}.onnx", tmp_path, {"images": np.load(calibration)["images"]})
    assert set(found) == {scheme.name for scheme in DEFAULT_SCHEMES}


def test_normalisations_that_do_not_fold(models: Path, calibration: Path, tmp_path: Path) -> None:
    """The preparation folds some that the linter does not: where a weight is shared it makes copies."""
    hold_against_files(
        models / "unfolded_bn.onnx", tmp_path, {"images": np.load(calibration)["images"]}, usual_too=False
    )


def test_folding_can_be_what_ruins_a_network(models: Path, calibration: Path) -> None:
    bench, parts, _ = bench_and_samples(models / "depthwise_spread.onnx", {"images": np.load(calibration)["images"]})
    tensor, channel = measure_unprepared(bench, parts, measure_schemes(bench, parts).errors)
    assert tensor.lost_db < -20 and tensor.sqnr_db > 14
    assert channel.lost_db > 1


def test_on_fewer_samples_both_ways_get_their_ranges_from_them(models: Path, calibration: Path) -> None:
    """As if there were no more: ranges from the first four, the figures from the four behind them."""
    path, images = models / "depthwise_spread.onnx", np.load(calibration)["images"]
    bench, parts, _ = bench_and_samples(path, {"images": images})
    some = measure_unprepared(bench, parts, measure_schemes(bench, parts).errors, most=4)
    few, own, _ = bench_and_samples(path, {"images": images[:8]})
    alone = measure_unprepared(few, own, measure_schemes(few, own).errors)
    assert (own.calibrating, own.held_out) == (4, 4)
    assert [both.samples for both in (*some, *alone)] == [4, 4, None, None]
    for one, other in zip(some, alone, strict=True):
        assert (one.sqnr_db, one.prepared_db) == pytest.approx((other.sqnr_db, other.prepared_db), abs=0.01)


def test_nothing_folds_into_weights_that_are_inputs(models: Path, calibration: Path, tmp_path: Path) -> None:
    """The lines that the rule prints take them off the list first, and the file is the one that was measured."""
    proto = onnx.load(models / "depthwise_spread.onnx")
    assert not facts_of(read_model(models / "depthwise_spread.onnx"), DEFAULT_SCHEMES).folds_late
    proto.graph.input.extend(
        onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        for tensor in proto.graph.initializer
    )
    onnx.save(proto, tmp_path / "m.onnx")
    quant_pre_process(str(tmp_path / "m.onnx"), str(tmp_path / "ready.onnx"), skip_symbolic_shape=True)
    assert any(node.op_type == "BatchNormalization" for node in onnx.load(tmp_path / "ready.onnx").graph.node)
    bench, parts, _ = bench_and_samples(tmp_path / "m.onnx", {"images": np.load(calibration)["images"]})
    assert bench.measured.folds_late and preparation(bench.measured, INT8_PER_TENSOR)[0].endswith(
        " fold in quant_pre_process, once the weights are no longer inputs of the graph"
    )
    tensor, _ = measure_unprepared(bench, parts, measure_schemes(bench, parts).errors)
    assert tensor.lost_db < -20

    code = _prepare(str(tmp_path / "m.onnx"), weights_are_inputs=True)
    exec(code.replace("'m.onnx'", repr(str(tmp_path / "m.onnx"))).replace("'m-p", f"'{tmp_path}/m-p"), {})
    made = onnx.load(tmp_path / "m-prepared.onnx").graph
    assert [value.name for value in made.input] == ["images"]
    assert not any(node.op_type == "BatchNormalization" for node in made.node)
    proto.ir_version = 3  # all initializers were inputs then, and none could be replaced
    onnx.save(proto, tmp_path / "old.onnx")
    assert not facts_of(read_model(tmp_path / "old.onnx"), DEFAULT_SCHEMES).folds_late


def hidden_weight(folder: Path, mover: str) -> Path:
    """A convolution whose kernel comes through a node; one output channel has large weights on a small input."""
    weight = RANDOM.standard_normal((8, 4, 3, 3))
    weight[0] = 0
    weight[0, 3] = 100
    if mover.startswith("Transpose"):
        weight = weight.transpose(3, 2, 1, 0)
    proto = onnx_text(
        f"""agraph (float[N, 4, 8, 8] x) => (float[N, 8, 6, 6] y) {{
            w = {mover}
            y = Conv(x, w)
        }}""",
        stored=weight.astype(np.float32),
    )
    onnx.save(proto, folder / "m.onnx")
    return folder / "m.onnx"


@pytest.mark.parametrize("mover", ["Identity(stored)", "Transpose<perm = [3, 2, 1, 0]>(stored)"])
def test_a_weight_behind_a_node(tmp_path: Path, mover: str) -> None:
    images = RANDOM.standard_normal((32, 4, 8, 8)).astype(np.float32)
    images[:, 3] *= 1e-3
    arrays = {"x": images}
    found = hold_against_files(hidden_weight(tmp_path, mover), tmp_path, arrays)
    # Per tensor it makes no difference that could matter, so that nothing is run; per channel it loses its scales.
    assert list(found) == [INT8_PER_CHANNEL.name]
    assert found[INT8_PER_CHANNEL.name].lost_db > 10


def gated(folder: Path) -> Path:
    """A GRU behind an If that is always taken, as exporters write a squeeze; it reads what a Relu makes."""
    inner, hidden = 6, 5
    proto = onnx_text(
        """agraph (float[1, 4, 12] x) => (float[N, 1, 1, 5] g, float[1, 1, 5] last) {
            c = Conv(x, w)
            r = Relu(c)
            s = Shape(r)
            n = Gather(s, index)
            one = Constant<value = int64 {1}>()
            is_one = Equal(n, one)
            z = If(is_one) <
                then_branch = yes () => (float[1, 6, 10] a) { a = Identity(r) },
                else_branch = no () => (float[1, 6, 10] b) { b = Neg(r) }
            >
            t = Transpose<perm = [2, 0, 1]>(z)
            g, last = GRU<hidden_size = 5>(t, gates, recurrent)
        }""",
        w=(RANDOM.standard_normal((inner, 4, 3)) / 3).astype(np.float32),
        index=np.asarray(0, np.int64),
        gates=(RANDOM.standard_normal((1, 3 * hidden, inner)) / 2).astype(np.float32),
        recurrent=(RANDOM.standard_normal((1, 3 * hidden, hidden)) / 3).astype(np.float32),
    )
    onnx.save(proto, folder / "m.onnx")
    return folder / "m.onnx"


def test_a_relu_in_front_of_a_subgraph_is_lost(tmp_path: Path) -> None:
    """`quantize_static` takes the Relu away, and the If reads what came before it."""
    path = gated(tmp_path)
    found = hold_against_files(path, tmp_path, {"x": RANDOM.standard_normal((32, 4, 12)).astype(np.float32)})
    assert set(found) == {scheme.name for scheme in DEFAULT_SCHEMES}
    assert all(both.lost_db > 5 for both in found.values())
    assert preparation(facts_of(read_model(path), ()), INT8_PER_TENSOR) == (
        "quantize_static removes 1 Relu that a subgraph reads",
    )


def test_a_relu_in_front_of_a_loop_is_lost_unless_the_quantiser_keeps_it(tmp_path: Path) -> None:
    """No preparation takes the Loop away."""
    proto = onnx_text(
        """agraph (float[1, 6] x) => (float[1, 4] y) {
            c = MatMul(x, w)
            r = Relu(c)
            h = Loop <body = step (int64 i, bool t, float[1, 6] before) => (bool u, float[1, 6] after) {
                after = Add(before, r)
                u = Identity(t)
            }> (trips, , x)
            y = MatMul(h, v)
        }""",
        w=RANDOM.standard_normal((6, 6)).astype(np.float32),
        v=RANDOM.standard_normal((6, 4)).astype(np.float32),
        trips=np.asarray(3),
    )
    onnx.save(proto, tmp_path / "m.onnx")
    measured = facts_of(read_model(tmp_path / "m.onnx"), ())
    assert preparation(measured, INT8_PER_TENSOR) == (
        f"unless {KEEPS} is set, quantize_static removes 1 Relu that a subgraph reads",
    )
    assert [node.op_type for node in removed_for_good(measured)] == ["Relu"]
    assert not removed_for_good(facts_of(read_model(gated(tmp_path)), ()))


def test_most_networks_pay_nothing(models: Path, calibration: Path) -> None:
    bench, _, _ = bench_and_samples(models / "local_function.onnx", {"images": np.load(calibration)["images"]})
    assert not can_differ(bench)


def test_other_ranges_than_those_of_the_quantiser_are_not_compared(models: Path, calibration: Path) -> None:
    bench, _, _ = bench_and_samples(models / "healthy_resnet.onnx", {"images": np.load(calibration)["images"]})
    assert can_differ(bench)
    assert bench.observations is not None and not can_differ(bench.calibrated(bench.observations, "percentile"))


def test_a_file_that_does_not_load_is_no_figure(models: Path, calibration: Path) -> None:
    """Below opset 13 the quantiser writes scales a channel that nothing can read."""
    bench, parts, _ = bench_and_samples(models / "opset11.onnx", {"images": np.load(calibration)["images"]})
    assert [both.scheme for both in measure_unprepared(bench, parts, measure_schemes(bench, parts).errors)] == [
        INT8_PER_TENSOR.name
    ]


def test_the_quantiser_says_nothing_and_leaves_no_trace(
    models: Path, calibration: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    handlers, level = list(logging.getLogger().handlers), logging.root.manager.disable
    bench, parts, _ = bench_and_samples(models / "healthy_resnet.onnx", {"images": np.load(calibration)["images"]})
    before = sorted(models.iterdir())
    measure_unprepared(bench, parts, measure_schemes(bench, parts).errors)
    assert capfd.readouterr() == ("", "")
    assert logging.getLogger().handlers == handlers and logging.root.manager.disable == level
    assert sorted(models.iterdir()) == before
