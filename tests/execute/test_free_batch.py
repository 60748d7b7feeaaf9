"""Samples that run together against the same samples one by one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import ties
from conftest import public_network
from onnx_cases import as_model, detector, onnx_text, versioned_text

from onnxlint_q.analysis.observed.observations import Observations
from onnxlint_q.analysis.schemes import DEFAULT_SCHEMES
from onnxlint_q.execute.batch import batch_rules
from onnxlint_q.execute.batch.batch_tensors import MixesBatchError
from onnxlint_q.execute.batch.free_batch import Batch, batches, free_batch
from onnxlint_q.execute.data.preprocess import PRESETS
from onnxlint_q.execute.data.source import Sample, Source
from onnxlint_q.execute.data.sources import ArraySource, RandomSource, open_source
from onnxlint_q.execute.executable import PREFIX, Executable, as_stored
from onnxlint_q.execute.session import Session
from onnxlint_q.execute.stream import observe as passes
from onnxlint_q.execute.stream.observe import observe
from onnxlint_q.graph import Model, Value, read_model
from onnxlint_q.graph.operators import BatchAxis
from onnxlint_q.judge.facts import Facts, facts_of


def assert_same_alone(
    facts: Facts, source: Source, count: int, patch: pytest.MonkeyPatch, tensors: Sequence[str] | None = None
) -> Observations:
    together = observe(facts, source, count, tensors=tensors)
    with patch.context() as context:
        context.setattr(passes, "_BATCH", 1)
        alone = observe(facts, source, count, tensors=tensors)
    assert list(together.tensors) == list(alone.tensors) and together.non_finite == alone.non_finite
    assert alone.tensors or alone.non_finite
    codes = {pair.codes for pair in facts.quantized}
    for tensor, one in alone.tensors.items():
        got = together.tensors[tensor]
        # Kernels sum up in another order for a batch; a code next to a tie becomes its neighbour.
        if tensor in codes:
            flipped = ties.flips(one.counted) / one.counted
            close, mean, deviation = 1.0, flipped, np.sqrt(flipped)
        else:
            close = 1e-4 * max(abs(one.low), abs(one.high)) + 1e-7
            mean = deviation = 10 * close
        assert got.size == one.size and got.counted == one.counted
        assert np.allclose(got.lows, one.lows, rtol=0, atol=close), tensor
        assert np.allclose(got.highs, one.highs, rtol=0, atol=close)
        assert got.mean == pytest.approx(one.mean, abs=mean)
        assert got.deviation == pytest.approx(one.deviation, rel=1e-3, abs=deviation)
        assert (got.channels is None) == (one.channels is None)
        if got.channels is not None and one.channels is not None:
            assert np.allclose(got.channels.low, one.channels.low, rtol=0, atol=close)
            assert np.allclose(got.channels.high, one.channels.high, rtol=0, atol=close)
        for fraction in (0.05, 0.5, 0.95):
            # A value at the edge of a bin may fall on either side.
            assert got.quantile(fraction) == pytest.approx(one.quantile(fraction), rel=0.02, abs=2 * close)
    return together


@pytest.fixture
def any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes, "_BATCH_BYTES", 1 << 40)


@pytest.fixture(autouse=True)
def two_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a core for each sample, none would run together."""
    monkeypatch.setattr(passes, "cores", lambda: 2)


def sizes_of_batches(
    facts: Facts, source: Source, count: int, patch: pytest.MonkeyPatch, tensors: Sequence[str] | None = None
) -> list[int]:
    """How many samples ran together, at the end: a batch that fails is given up."""
    sizes: list[int] = []

    def counted(samples: Iterable[Sample], most: int, values: int) -> Iterator[Batch]:
        sizes.clear()
        for batch in batches(samples, most, values):
            sizes.append(len(batch.samples))
            yield batch

    with patch.context() as context:
        context.setattr(passes, "batches", counted)
        observe(facts, source, count, tensors=tensors)
    return sizes


@pytest.mark.usefixtures("any_size")
@pytest.mark.parametrize("name", ["healthy_mobilenet", "healthy_resnet", "silu_gate", "qdq_good", "opset11", "fp16"])
def test_samples_of_a_batch_give_what_each_gives_alone(
    models: Path, calibration: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = read_model(models / f"{name}.onnx")
    facts = facts_of(model, DEFAULT_SCHEMES)
    source = open_source(str(calibration), PRESETS["raw"])
    assert sizes_of_batches(facts, source, 11, monkeypatch) == [5, 5, 1]
    assert_same_alone(facts, source, 11, monkeypatch)


@pytest.mark.usefixtures("any_size")
def test_so_do_those_of_a_detector(calibration: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = facts_of(as_model(detector()), DEFAULT_SCHEMES)
    source = open_source(str(calibration), PRESETS["raw"])
    assert sizes_of_batches(facts, source, 11, monkeypatch) == [5, 5, 1]
    seen = assert_same_alone(facts, source, 11, monkeypatch)
    assert {"both", "anchors", "scores"} & seen.tensors.keys()


@pytest.mark.usefixtures("any_size")
@pytest.mark.parametrize(
    "name",
    ["fastestdet", "mobilenetv1_025_bn", "resnet8_cifar10_bn", "squeezenet_fp16_winml", "ultraface_rfb_320"],
)
def test_so_do_those_of_real_networks(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = read_model(public_network(f"{name}.onnx"))
    facts = facts_of(model, DEFAULT_SCHEMES)
    assert sizes_of_batches(facts, RandomSource(), 6, monkeypatch) == [3, 3]
    assert_same_alone(facts, RandomSource(), 6, monkeypatch)


SHUFFLE = """
shuffle (float[1, 4, 2, 2] x) => (float[1, 2, 2, 2] y)
<int64[4] apart = {2, 2, 2, 2}, int64 second = {1}, int64[2] axes = {2, 3}> {
  c = Conv(x, w)
  r = Reshape(c, apart)
  t = Transpose <perm = [1, 0, 2, 3]> (r)
  back = Reshape(t, five)
  g = Gather <axis = 0> (back, second)
  y = Relu(g)
}
"""


def shuffle() -> onnx.ModelProto:
    weight = np.random.default_rng(0).normal(size=(4, 4, 1, 1)).astype(np.float32)
    return onnx_text(SHUFFLE, w=weight, five=np.asarray([2, -1, 2, 2, 2], np.int64))


@pytest.mark.usefixtures("any_size")
def test_a_reshape_of_the_batch_carries_it_in_front(monkeypatch: pytest.MonkeyPatch) -> None:
    model = as_model(shuffle())
    batch = Session(free_batch(model, as_stored(model), ["c", "y"]))
    single = Session(as_stored(model))
    x = np.random.default_rng(1).normal(size=(5, 4, 2, 2)).astype(np.float32)
    alone = np.concatenate([single.run({"x": image[None]})[0] for image in x])
    assert np.allclose(batch.run({"x": x})[0], alone, atol=1e-6)
    assert sizes_of_batches(facts_of(model, ()), ArraySource("x", {"x": x}), 5, monkeypatch) == [2, 2, 1]
    assert_same_alone(facts_of(model, ()), ArraySource("x", {"x": x}), 5, monkeypatch)


MIXING = {
    "ReduceMax <keepdims = 0> (x)": "along the batch",
    "Softmax <axis = 0> (x)": "along the batch",
    "ArgMax (x)": "along the batch",
    "CumSum (x, zero)": "along the batch",
    "Unsqueeze (x, front)": "along the batch",
    "Flatten <axis = 2> (x)": "flattens the batch",
    "Transpose <perm = [1, 0, 2]> (x)": "moves the batch",
    "Concat <axis = 0> (x, x)": "along the batch",
    "Concat <axis = 1> (x, token)": "without a batch",
    "GatherElements <axis = 1> (x, places)": "without a batch",
    "MatMul (x, one_more)": "among its rows",
    "Gemm <transB = 1> (z, z)": "among its sums",
    "Gemm (z, w, v)": "does not run along the batch",
    "Gemm (z, w, rows)": "does not run along the batch",
    "Conv (x, x)": "that are computed",
    "Clip (x, v)": "that are computed",
    "LayerNormalization (x, z)": "that are computed",
    "Dropout (x, half, yes)": "random",
    'Resize <coordinate_transformation_mode = "tf_crop_and_resize"> (x, window, sides)': "cuts out of every axis",
    "QuantizeLinear <axis = 2, block_size = 2> (x, scales)": "one a block",
    "NonZero (x)": "not known to keep a batch apart",
    "RandomNormalLike (x)": "not known to keep a batch apart",
}
CONSTANTS: Mapping[str, Any] = {
    "zero": np.asarray(0, np.int64),
    "front": np.asarray([-4], np.int64),
    "token": np.zeros((1, 1, 4), np.float32),
    "places": np.zeros((1, 2, 4), np.int64),
    "w": np.ones((4, 5), np.float32),
    "rows": np.ones((2, 5), np.float32),
    "half": np.asarray(0.5, np.float32),
    "window": np.zeros(6, np.float32),
    "sides": np.asarray([1, 1, 2], np.float32),
    "yes": np.asarray(True),
    "scales": np.ones((1, 3, 2), np.float32),
}


@pytest.mark.parametrize("operator", MIXING)
def test_an_operator_that_mixes_samples_is_refused(operator: str) -> None:
    text = f"""
    g (float[N, 3, 4] x, float[N, 4] z, float[N] v, float[N, 1, 4, 2] one_more) => (y) {{
      h = {operator}
      y = Sigmoid(h)
    }}
    """
    model = as_model(versioned_text(21, "", text, **CONSTANTS))
    with pytest.raises(MixesBatchError, match=MIXING[operator]):
        free_batch(model, as_stored(model), ["h"])


def test_a_batch_that_does_not_load_is_run_one_by_one(
    models: Path, calibration: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(model: Model, executable: Executable, watched: Sequence[str]) -> Executable:
        made = free_batch(model, executable, watched)
        made.proto.graph.node[0].op_type = "NoSuchOperator"
        return made

    facts = facts_of(read_model(models / "healthy_mobilenet.onnx"), DEFAULT_SCHEMES)
    source = open_source(str(calibration), PRESETS["raw"])
    monkeypatch.setattr(passes, "free_batch", broken)
    assert sizes_of_batches(facts, source, 6, monkeypatch) == [1] * 6


@pytest.mark.parametrize("operator", ["Softmax <axis = 0> (x)", "ReduceMax (x)", "Concat <axis = 0> (x, x)"])
def test_samples_that_meet_after_all_are_run_one_by_one(operator: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An operator that is wrongly known to keep a batch apart does not change what is seen."""
    kind = operator.split(maxsplit=1)[0]
    rule_of, free = batch_rules.rule_of, batch_rules.RULES[BatchAxis.FREE]
    monkeypatch.setattr(batch_rules, "rule_of", lambda node: free if node.op_type == kind else rule_of(node))
    text = f"g (float[N, 3, 4] x) => (y) {{ h = {operator}\n y = Sigmoid(h) }}"
    facts = facts_of(as_model(onnx_text(text)), DEFAULT_SCHEMES)
    source = ArraySource("x", {"x": np.random.default_rng(0).normal(size=(7, 3, 4)).astype(np.float32)})
    assert sizes_of_batches(facts, source, 7, monkeypatch) == [1] * 7
    assert_same_alone(facts, source, 7, monkeypatch)


def test_infinity_in_a_batch_is_told_as_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    facts = facts_of(as_model(onnx_text("g (float[N, 4] x) => (float[N, 4] y) { h = Log(x)\n y = Sigmoid(h) }")), ())
    source = ArraySource("x", {"x": np.zeros((6, 4), np.float32)})
    assert sizes_of_batches(facts, source, 6, monkeypatch) == [3, 3]
    assert assert_same_alone(facts, source, 6, monkeypatch).non_finite == ("h",)


@pytest.mark.parametrize(
    "operator", ["MaxPool <kernel_shape = [2]> (x)", "BatchNormalization <training_mode = 1> (x, s, s, s, s)"]
)
def test_a_second_result_that_counts_over_the_batch_is_refused(operator: str) -> None:
    model = as_model(onnx_text(f"g (float[N, 3, 4] x) => (h, i) {{ h, i = {operator} }}", s=np.ones(3, np.float32)))
    with pytest.raises(MixesBatchError, match="from the batch"):
        free_batch(model, as_stored(model), ["h"])


def test_an_open_first_axis_is_the_batch_only_where_a_sample_has_one() -> None:
    """A reshape to `[-1, 4]` puts further axes into it, and one to `[-1, 12]` does not."""
    text = "g (float[N, 3, 4] x) => (y) { h = Reshape(x, target)\n y = Sigmoid(h) }"
    merged = as_model(onnx_text(text, target=np.asarray([-1, 4], np.int64)))
    with pytest.raises(MixesBatchError, match="follows a reshape of the batch"):
        free_batch(merged, as_stored(merged), ["h"])
    kept = as_model(onnx_text(text, target=np.asarray([-1, 12], np.int64)))
    (y,) = Session(free_batch(kept, as_stored(kept), ["h"])).run({"x": np.zeros((5, 3, 4), np.float32)})
    assert y.shape == (5, 12)


@pytest.mark.usefixtures("any_size")
def test_a_scalar_that_shapes_decide_stays_a_scalar(monkeypatch: pytest.MonkeyPatch) -> None:
    """Picked by its number, the last token of a sequence has one axis less."""
    text = """
    g (float[N, 4, 3] x) => (float[N, 2] y) {
      s = Shape(x)
      n = Gather(s, one)
      last = Sub(n, one)
      token = Gather <axis = 1> (x, last)
      h = Gemm(token, w)
      y = Relu(h)
    }
    """
    random = np.random.default_rng(0)
    arrays: Mapping[str, Any] = {"one": np.asarray(1, np.int64), "w": random.normal(size=(3, 2)).astype(np.float32)}
    model = as_model(onnx_text(text, **arrays))
    free_batch(model, as_stored(model), ["y"])
    x = random.normal(size=(6, 4, 3)).astype(np.float32)
    assert_same_alone(facts_of(model, ()), ArraySource("x", {"x": x}), 6, monkeypatch)


@pytest.mark.usefixtures("any_size")
def test_a_sample_that_is_a_batch_itself_runs_in_the_model_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    text = """
    g (float[N, 4, 3] x) => (y) <int64[1] first = {0}, int64[1] axis = {1}> {
      s = Shape(x)
      n = Gather(s, first)
      h = Slice(x, first, n, axis)
      y = Sigmoid(h)
    }
    """
    model = as_model(onnx_text(text))
    free_batch(model, as_stored(model), ["h", "y"])
    sizes = [1, 1, 1, 1, 3, 2, 1, 1]

    class Several(ArraySource):
        def samples(self, inputs: Sequence[Value]) -> Iterator[Sample]:
            generator = np.random.default_rng(1)
            for size in sizes:
                yield {"x": generator.normal(size=(size, 4, 3)).astype(np.float32)}

    facts = facts_of(model, ())
    source = Several("several", {"x": np.zeros((8, 4, 3), np.float32)})
    with monkeypatch.context() as context:
        context.setattr(passes, "_BATCH", 1)
        alone = observe(facts, source, 8, tensors=["h"])
    together = observe(facts, source, 8, tensors=["h"])
    assert alone.tensors["h"].size == sum(3 * size * size for size in sizes)
    assert together.tensors["h"].lows.tolist() == alone.tensors["h"].lows.tolist()


def test_names_that_are_added_must_be_free() -> None:
    text = f"g (float[1, 3, 4] x) => (y) {{ {PREFIX}shape0 = Abs(x)\n y = Reshape({PREFIX}shape0, target) }}"
    model = as_model(onnx_text(text, target=np.asarray([-1, 12], np.int64)))
    with pytest.raises(MixesBatchError, match=PREFIX):
        free_batch(model, as_stored(model), ["y"])


def test_a_dynamic_scale_is_that_of_each_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its operator takes the range of the whole batch, so samples have to run one by one."""
    text = """
    g (float[N, 4] x) => (float[N, 4] y) {
      q, s, z = DynamicQuantizeLinear(x)
      d = DequantizeLinear(q, s, z)
      y = Sigmoid(d)
    }
    """
    x = (np.arange(1, 25, dtype=np.float32) ** 3).reshape(6, 4)
    facts, source = facts_of(as_model(onnx_text(text)), ()), ArraySource("x", {"x": x})
    assert sizes_of_batches(facts, source, 6, monkeypatch, ["d"]) == [1] * 6
    assert_same_alone(facts, source, 6, monkeypatch, ["d"])


def test_samples_of_one_shape_run_together_and_large_ones_in_fewer() -> None:
    def sizes(shapes: Sequence[tuple[int, ...]], most: int, values: int) -> list[tuple[int, int]]:
        samples = ({"x": np.zeros(shape, np.float32)} for shape in shapes)
        return [(batch.first, len(batch.samples)) for batch in batches(samples, most, values)]

    assert sizes([(1, 4)] * 7, 3, 4) == [(0, 3), (3, 3), (6, 1)]
    assert sizes([(1, 4)] * 7, 1, 4) == [(k, 1) for k in range(7)]
    assert sizes([(1, 4), (1, 4), (1, 5), (2, 4), (2, 4), (1, 4)], 8, 100) == [(0, 2), (2, 1), (3, 1), (4, 1), (5, 1)]
    assert sizes([(1, 16)] * 5, 4, 8) == [(0, 2), (2, 2), (4, 1)]


def test_shapes_that_change_from_sample_to_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "g (float[N, 2, H, W] x) => (float[N, 3, A, B] y) { c = Conv(x, w)\n y = Relu(c) }"
    weight = np.random.default_rng(0).normal(size=(3, 2, 1, 1)).astype(np.float32)
    sides = [4, 4, 4, 6, 6, 4, 9, 9]

    class Pictures(ArraySource):
        def samples(self, inputs: Sequence[Value]) -> Iterator[Sample]:
            generator = np.random.default_rng(1)
            for side in sides:
                yield {"x": generator.normal(size=(1, 2, side, side)).astype(np.float32)}

    model: Model = as_model(onnx_text(text, w=weight))
    source = Pictures("pictures", {"x": np.zeros((8, 2, 4, 4), np.float32)})
    seen = assert_same_alone(facts_of(model, ()), source, 8, monkeypatch)
    assert seen.samples == 8 and seen.tensors["y"].size == 3 * sum(side**2 for side in sides)
