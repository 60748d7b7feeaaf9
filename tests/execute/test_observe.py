"""The streaming pass against brute force: every tensor fetched whole and reduced by numpy."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx_cases import as_model, onnx_text, run, versioned_text

from onnxlint_q.analysis.observed.histogram import Histogram
from onnxlint_q.analysis.observed.observations import merged
from onnxlint_q.analysis.schemes import DEFAULT_SCHEMES
from onnxlint_q.execute.data.preprocess import PRESETS
from onnxlint_q.execute.data.source import Sample
from onnxlint_q.execute.data.sources import ArraySource, open_source
from onnxlint_q.execute.executable import Executable
from onnxlint_q.execute.limits import Limits, StreamLimits
from onnxlint_q.execute.session import NotRunnableError, Session
from onnxlint_q.execute.stream.collector import Collector
from onnxlint_q.execute.stream.observe import observe, observe_groups
from onnxlint_q.execute.stream.reduction import Layout, Watched, reduce_samples, subset_size
from onnxlint_q.execute.stream.watched import rounded_tensors
from onnxlint_q.graph import Value, channel_axis, read_model
from onnxlint_q.judge.facts import Facts, facts_of

SCHEME_LIST = DEFAULT_SCHEMES


def facts_at(path: Path) -> Facts:
    return facts_of(read_model(path), SCHEME_LIST)


@pytest.mark.parametrize("name", ["healthy_resnet", "silu_gate", "depthwise_spread", "opset11", "dynamic_shape"])
def test_float_statistics_equal_brute_force(models: Path, calibration: Path, name: str) -> None:
    path = models / f"{name}.onnx"
    facts = facts_at(path)
    seen = observe(facts, open_source(str(calibration), PRESETS["raw"]), 8)
    tensors = [tensor for tensor in rounded_tensors(facts) if tensor != "images"]
    proto = onnx.load(path)
    proto.graph.output.extend(
        onnx.helper.make_empty_tensor_value_info(t) for t in tensors if t not in facts.model.output_names
    )
    names = [value.name for value in proto.graph.output]
    images = np.load(calibration)["images"][:8]
    whole = [dict(zip(names, run(proto, {"images": image[None]}), strict=True)) for image in images]
    assert set(seen.tensors) == set(rounded_tensors(facts)) and seen.samples == 8 and seen.available == 32
    for tensor in tensors:
        values = np.concatenate([sample[tensor].ravel() for sample in whole]).astype(np.float64)
        got = seen.tensors[tensor]
        scale = np.abs(values).max() + 1e-12
        assert np.isclose(got.low, values.min(), atol=1e-5 * scale) and np.isclose(
            got.high, values.max(), atol=1e-5 * scale
        )
        # A subset of large tensors is counted, and of a value the upper 16 bits.
        assert np.isclose(got.mean, values.mean(), atol=0.05 * values.std() + 0.004 * scale)
        assert np.isclose(got.deviation, values.std(), rtol=0.05, atol=0.004 * scale)
        assert got.size == values.size
        for fraction in (0.01, 0.25, 0.5, 0.75, 0.99):
            around = np.quantile(values, [max(0, fraction - 0.02), min(1, fraction + 0.02)])
            assert around[0] - 0.01 * scale <= got.quantile(fraction) <= around[1] + 0.01 * scale
        assert np.allclose(got.lows, [sample[tensor].min() for sample in whole], atol=1e-5 * scale)
        assert np.allclose(got.highs, [sample[tensor].max() for sample in whole], atol=1e-5 * scale)
        axis = channel_axis(facts.model, tensor)
        assert (got.channels is None) == (axis is None)
        if got.channels is not None and axis is not None:
            rows = np.concatenate([np.moveaxis(sample[tensor], axis, 0) for sample in whole], axis=1)
            rows = rows.reshape(len(rows), -1).astype(np.float64)
            for mine, exact in (
                (got.channels.low, rows.min(axis=1)),
                (got.channels.high, rows.max(axis=1)),
            ):
                assert np.allclose(mine, exact, rtol=1e-4, atol=1e-5 * scale)


@pytest.mark.parametrize("name", ["qdq_good", "qoperator"])
def test_of_a_quantised_model_codes_are_watched_and_what_is_rounded_to_them(
    models: Path, calibration: Path, name: str
) -> None:
    facts = facts_at(models / f"{name}.onnx")
    seen = observe(facts, open_source(str(calibration), PRESETS["raw"]), 4)
    pairs = [q for q in facts.quantized if q.role == "activation"]
    floats = {q.node.input(0) for q in pairs if q.node.op_type == "QuantizeLinear"}
    assert set(seen.tensors) == {q.codes for q in pairs} | floats
    assert (floats == {"images"}) == (name == "qoperator")
    for q in pairs:
        assert all(code == round(code) for code in (seen.tensors[q.codes].low, seen.tensors[q.codes].high))


@pytest.mark.parametrize(
    ("dtype", "codes"),
    [(np.int8, (-128, 127)), (np.uint8, (0, 255)), (np.float32, (-8, 7)), (np.float32, (0, 15))],
    ids=["int8", "uint8", "int4 as float", "uint4 as float"],
)
def test_every_code_is_counted(dtype: type[np.generic], codes: tuple[int, int]) -> None:
    data = np.random.default_rng(5).integers(codes[0], codes[1] + 1, size=(6, 3, 700)).astype(dtype)
    one = Watched("q", 1, codes)
    layout = Layout([one], ((1, 3, 700),), subset_size(6))
    collected = Collector([one])
    for sample in (*reduce_samples(layout, [data[:4]], 0, 4), *reduce_samples(layout, [data[4:]], 4, 2)):
        collected.add(sample)
    got = collected.result()[0]["q"]
    exact = dict(zip(*np.unique(data, return_counts=True), strict=True))
    assert dict(zip(got.histogram.edges[0], got.histogram.counts, strict=True)) == exact
    assert got.ends == ((data == codes[0]).mean(), (data == codes[1]).mean()) and got.counted == got.size == data.size
    assert got.channels is not None and np.array_equal(got.channels.high, data.max(axis=(0, 2)))
    assert np.array_equal(got.lows, data.min(axis=(1, 2))) and np.array_equal(got.highs, data.max(axis=(1, 2)))


def test_what_a_quantiser_clips_is_counted_exactly() -> None:
    text = """g (float[1,1000] x) => (float[1,1000] y) { h = Add(x, x)
      q = QuantizeLinear(h, s, z)
      y = DequantizeLinear(q, s, z) }"""
    facts = facts_of(as_model(onnx_text(text, s=np.float32(0.01), z=np.int8(-20))), SCHEME_LIST)
    x = np.random.default_rng(3).normal(size=(3, 1000)).astype(np.float32)
    seen = observe(facts, ArraySource("data", {"x": x}), 3).tensors
    low, high = 0.01 * (-128 + 20 - 0.5), 0.01 * (127 + 20 + 0.5)
    assert seen["h"].ends == ((2 * x < low).mean(), (2 * x > high).mean())
    assert (seen["h"].low, seen["h"].high) == (2 * x.min(), 2 * x.max()) and seen["q"].low == -128


def test_codes_of_sixteen_bits_keep_a_subset_and_exact_ends() -> None:
    text = """g (float[1,20000] x) => (float[1,20000] y) {
      q = QuantizeLinear(x, s, z)
      y = DequantizeLinear(q, s, z) }"""
    proto = versioned_text(21, "", text, s=np.float32(1e-4), z=np.uint16(2**15))
    facts = facts_of(as_model(proto), SCHEME_LIST)
    x = np.random.default_rng(3).normal(scale=1.5, size=(3, 20000)).astype(np.float32)
    seen = observe(facts, ArraySource("data", {"x": x}), 3).tensors["q"]
    codes = np.clip(np.rint(x / np.float32(1e-4)) + 2**15, 0, 2**16 - 1)
    assert seen.ends == pytest.approx(((codes == 0).mean(), (codes == 2**16 - 1).mean()))
    assert seen.counted < x.size and 0.95 * 2**16 < seen.histogram.used_codes <= 2**16


def test_what_is_kept_does_not_grow_with_the_samples() -> None:
    facts = facts_of(
        as_model(onnx_text("agraph (float[N, 40000] x) => (float[N, 40000] y) { y = Sigmoid(x) }")), SCHEME_LIST
    )
    data = np.random.default_rng(0).standard_normal((64, 40_000)).astype(np.float32)
    seen = observe(facts, ArraySource("s", {"x": data}), 64).tensors["x"]
    assert 64 * 1700 <= seen.counted <= 64 * subset_size(64) == 1 << 17 and seen.histogram.bins.size < 8000
    assert abs(seen.quantile(0.99) - np.quantile(data, 0.99)) < 0.05
    assert abs(seen.quantile(0.001) - np.quantile(data, 0.001)) < 0.15


def test_samples_that_wait_take_bounded_room() -> None:
    """Whether they are counted at once or a few at a time, the statistics are the same."""
    layout = Layout([Watched("x", 1), Watched("bad")], ((1, 4, 25), (10,)), 1024)
    data = np.random.default_rng(0).standard_normal((200, 4, 25)).astype(np.float32)
    bad = np.zeros((200, 10), np.float32)
    bad[150] = np.inf
    for room, most in ((1 << 30, 200), (20 * layout.counted * 2, 20), (0, 1)):
        limits = StreamLimits(waiting_bytes=room, least_waiting_bytes=0)
        collected, alive = Collector([Watched("x", 1), Watched("bad")], limits=limits), list[weakref.ref[Any]]()
        for number in range(200):
            (sample,) = reduce_samples(layout, [data[number : number + 1], bad[number : number + 1]], number, 1)
            alive.append(weakref.ref(sample.codes))
            collected.add(sample)
            del sample
            assert sum(one() is not None for one in alive) <= most
        found, non_finite = collected.result()
        seen = found["x"]
        assert non_finite == ("bad",) and set(found) == {"x"}
        assert (seen.low, seen.high, seen.size, seen.counted) == (data.min(), data.max(), data.size, data.size)
        assert seen.mean == pytest.approx(data.mean(), abs=0.02) and seen.deviation == pytest.approx(
            data.std(), rel=0.02
        )
        exact = Histogram.of(data)
        assert np.array_equal(seen.histogram.bins, exact.bins) and np.array_equal(seen.histogram.counts, exact.counts)
        assert np.array_equal(seen.lows, data.min(axis=(1, 2))) and np.array_equal(seen.highs, data.max(axis=(1, 2)))
        assert seen.channels is not None and np.array_equal(seen.channels.low, data.min(axis=(0, 2)))


def test_the_subset_is_in_step_with_no_axis() -> None:
    """Every row, column and channel has about its share of what is counted, whatever the shape."""
    for shape in ((1, 8, 112, 112), (1, 224, 224, 3), (1, 64, 64, 64), (2, 96, 96, 16)):
        for axis in range(1, 4):
            level = np.arange(shape[axis]).reshape([-1 if a == axis else 1 for a in range(4)])
            values = np.broadcast_to(1 + level % 7, shape).astype(np.float32)
            layout = Layout([Watched("x", 1)], (shape,), 1024)
            samples = [reduce_samples(layout, [values], number, 1)[0] for number in range(8)]
            counts = Histogram.of_codes(sample.codes for sample in samples).counts
            share = np.bincount(level.ravel() % 7) / shape[axis]
            assert np.allclose(counts / counts.sum(), share, atol=0.02)


def test_groups_in_one_pass_are_passes_of_their_own(models: Path, calibration: Path) -> None:
    facts = facts_at(models / "healthy_mobilenet.onnx")
    source = open_source(str(calibration), PRESETS["raw"])
    parts = observe_groups(facts, source, {0: 0, 1: 0, 2: 0, 4: 1, 5: 1, 6: 1, 7: 1})
    assert [part.samples for part in parts] == [3, 4]
    first = observe(facts, source, 3)
    assert first.tensors.keys() == parts[0].tensors.keys()
    for tensor, seen in first.tensors.items():
        got, close = parts[0].tensors[tensor], 1e-4 * max(-seen.low, seen.high)  # other samples share the batch
        assert (got.low, got.high) == pytest.approx((seen.low, seen.high), abs=close)
        assert (got.mean, got.deviation) == pytest.approx((seen.mean, seen.deviation), rel=1e-3, abs=close)
        assert (got.size, got.counted) == (seen.size, seen.counted)
    together = merged(parts)
    assert together.samples == 7
    for tensor, seen in together.tensors.items():
        each = [part.tensors[tensor] for part in parts]
        assert (seen.low, seen.high) == (min(e.low for e in each), max(e.high for e in each))
        assert seen.mean == pytest.approx(sum(e.mean * e.counted for e in each) / seen.counted)
        assert seen.counted == sum(e.counted for e in each) and seen.lows.size == 7


def test_channels_that_differ_between_samples_leave_the_whole() -> None:
    facts = facts_of(as_model(onnx_text("agraph (float[N, C, M] x) => (float[N, C, M] y) { y = Sigmoid(x) }")), ())

    class Samples(ArraySource):
        def samples(self, inputs: Sequence[Value]) -> Iterator[Sample]:
            yield {"x": np.arange(12, dtype=np.float32).reshape(1, 4, 3)}
            yield {"x": -np.arange(5, dtype=np.float32).reshape(1, 5, 1)}

    seen = observe(facts, Samples("s", {"x": np.zeros((1, 1, 1), np.float32)}), 2).tensors["x"]
    assert seen.channels is None and (seen.low, seen.high) == (-4, 11) and seen.mean == pytest.approx(56 / 17, rel=4e-3)


def test_large_models_are_read_in_parts(models: Path, calibration: Path) -> None:
    facts = facts_at(models / "healthy_resnet.onnx")
    source = open_source(str(calibration), PRESETS["raw"])
    whole = observe(facts, source, 3)
    parts = observe(facts, source, 3, limits=Limits(stream=StreamLimits(output_bytes=4096)))
    assert parts.tensors.keys() == whole.tensors.keys() and len(parts.tensors) > 10
    for tensor, seen in parts.tensors.items():
        wanted = whole.tensors[tensor]
        close = 1e-4 * max(-wanted.low, wanted.high)
        assert (seen.low, seen.high) == pytest.approx((wanted.low, wanted.high), abs=close)


def test_inner_tensors_of_open_size_do_not_each_get_a_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each session of a quantised model holds the weights as float, so ten would take ten times their memory."""
    loaded: list[Session] = []

    class Counted(Session):
        def __init__(self, executable: Executable, threads: int = 0) -> None:
            loaded.append(self)
            super().__init__(executable, threads)

    monkeypatch.setattr("onnxlint_q.execute.stream.observe.Session", Counted)
    layers = "\n".join(f"t{n + 1} = Conv (t{n}, w)" for n in range(10))
    text = f"g (float[N, 256, H, W] t0) => (float[N, 256, H, W] t10) {{ {layers} }}"
    facts = facts_of(as_model(onnx_text(text, w=np.full((256, 256, 1, 1), 0.01, np.float32))), SCHEME_LIST)
    seen = observe(facts, ArraySource("s", {"t0": np.ones((2, 256, 4, 4), np.float32)}), 2)
    assert len(seen.tensors) == 11 and len(loaded) == 1


def test_a_tensor_that_is_not_finite_is_named_and_left_out() -> None:
    model = onnx_text("agraph (float[N, 4] x) => (float[N, 4] y) { h = Log(x)\n y = Sigmoid(h) }")
    facts = facts_of(as_model(model), SCHEME_LIST)
    seen = observe(facts, ArraySource("s", {"x": np.zeros((2, 4), np.float32)}), 2)
    assert seen.non_finite == ("h",) and "y" in seen.tensors


def test_values_whose_squares_overflow_are_told_without_a_warning() -> None:
    text = "g (float[1,4,2,2] x) => (float[a,b,c,d] y) { y = Conv(x, w) }"
    facts = facts_of(as_model(onnx_text(text, w=np.ones((4, 4, 1, 1), np.float32))), SCHEME_LIST)
    x = np.full((2, 1, 4, 2, 2), 3e38, np.float32)
    x[:, :, 1] = -3e38  # one channel adds up to infinity, another to minus infinity
    seen = observe(facts, ArraySource("data", {"x": x}), 2)
    assert "x" not in seen.non_finite and (seen.tensors["x"].low, seen.tensors["x"].high) == (-x.max(), x.max())


def test_sums_that_overflow_to_both_sides_are_told_without_a_warning() -> None:
    """A tensor is added up in parts; one of them gives infinity, another minus infinity."""
    facts = facts_of(as_model(onnx_text("g (float[1,20000] x) => (float[1,20000] y) { y = Sigmoid(x) }")), SCHEME_LIST)
    x = np.repeat(np.asarray([3e38, -3e38], np.float32), 10_000)[None]
    seen = observe(facts, ArraySource("data", {"x": x}), 1)
    assert not seen.non_finite and (seen.tensors["x"].low, seen.tensors["x"].high) == (-x.max(), x.max())


def test_a_model_that_cannot_run_says_why_in_one_line(models: Path, calibration: Path) -> None:
    facts = facts_at(models / "unknown_domain.onnx")
    with pytest.raises(NotRunnableError) as caught:
        observe(facts, open_source(str(calibration), PRESETS["raw"]), 1)
    assert str(caught.value) == "Fatal error: example.blur:Blur(-1) is not a registered function/op"


def test_an_empty_tensor_has_no_statistics_and_stops_nothing() -> None:
    proto = onnx_text(
        "agraph (float[N, 4] x) => (float[N, 4] y) { h = MatMul(x, w)\n y = MatMul(h, w) }",
        w=np.eye(4, dtype=np.float32),
    )
    facts = facts_of(as_model(proto), SCHEME_LIST)
    x = facts.model.inputs[0].name

    class Samples(ArraySource):
        def samples(self, inputs: Sequence[Value]) -> Iterator[Sample]:
            yield {x: np.empty((0, 4), np.float32)}
            yield {x: np.full((2, 4), 3.0, np.float32)}

    seen = observe(facts, Samples("s", {x: np.ones((2, 4), np.float32)}), 2)
    assert (seen.tensors["h"].low, seen.tensors["h"].high, seen.tensors["h"].mean) == (3, 3, 3) and not seen.non_finite
    assert seen.tensors["h"].histogram.quantile(0.5) == pytest.approx(3, rel=2**-7)
    assert not observe(facts, Samples("s", {x: np.ones((1, 4), np.float32)}), 1).tensors
