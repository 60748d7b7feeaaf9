"""The probe: synthetic inputs, all layers in one graph, and what it says where it cannot."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import ties
from onnx_cases import as_model, onnx_text

from onnxlint_q.analysis.experiment import UNCHANGED, Experiment
from onnxlint_q.analysis.schemes import DEFAULT_SCHEMES, INT8_PER_CHANNEL, INT8_PER_TENSOR, Scheme
from onnxlint_q.execute.batch.batch_tensors import MixesBatchError
from onnxlint_q.execute.data.made_up.pictures import BUSY, SIMPLE, dead_leaves, exposed, pink_noise, two_scenes
from onnxlint_q.execute.data.sources import ArraySource
from onnxlint_q.execute.data.synthetic import Contents, SyntheticSource
from onnxlint_q.execute.limits import Allowance, Limits
from onnxlint_q.execute.session import Session
from onnxlint_q.execute.variants.experiment_runs import Errors, run_experiments
from onnxlint_q.execute.variants.fanout import blocks, fan_out
from onnxlint_q.execute.variants.layer_graphs import run_together
from onnxlint_q.execute.variants.variant_runs import Samples, run_variants
from onnxlint_q.execute.variants.workbench import workbench
from onnxlint_q.forecast.inputs.prior import InputScale
from onnxlint_q.graph import TensorType, Value, read_model
from onnxlint_q.judge.facts import Facts, facts_of
from onnxlint_q.proof.probing.plan import multiplications, plan
from onnxlint_q.proof.probing.probe import probe

SCHEME_LIST = DEFAULT_SCHEMES


def facts_at(path: Path) -> Facts:
    return facts_of(read_model(path), SCHEME_LIST)


def weights_of(facts: Facts, scheme: Scheme = INT8_PER_TENSOR) -> list[Experiment]:
    return [Experiment.on_weight(scheme, layer.output).essence for layer in facts.layers]


def decibels_of(errors: Errors) -> dict[Experiment, float | None]:
    return {experiment: error.sqnr_db for experiment, error in errors.items()}


def fan(facts: Facts) -> tuple[Session, dict[str, list[str]]]:
    """All layers in one graph, and for each output the layers whose variants it holds behind the unchanged one."""
    made = fan_out(workbench(facts), weights_of(facts))
    assert all(experiments[0] == UNCHANGED for experiments in made.order.values() if experiments)
    order = {name: [key for e in experiments[1:] for key in e.weights] for name, experiments in made.order.items()}
    return Session(made.executable), order


def same_as_alone(facts: Facts, scheme: Scheme, samples: Samples) -> None:
    """That all layers in one graph give what each gives in a model of its own."""
    bench, experiments = workbench(facts), weights_of(facts, scheme)
    together = run_together(bench, experiments, samples, Allowance().share(1), lambda _: None)
    alone = {experiment: partial(bench.executable, experiment) for experiment in experiments}
    apart = run_variants(bench, alone, samples)
    ties.assert_alike(decibels_of(apart), {key: together[key].sqnr_db for key in apart})
    assert None not in decibels_of(apart).values()
    assert [error.agreement for error in apart.values()] == [together[key].agreement for key in apart]


@pytest.mark.parametrize(
    "name", "healthy_resnet healthy_mobilenet depthwise_spread silu_gate collapsed_channels external_data".split()
)
@pytest.mark.parametrize("scheme", [INT8_PER_TENSOR, INT8_PER_CHANNEL], ids=lambda scheme: scheme.name)
def test_all_layers_in_one_graph_give_what_each_gives_alone(
    models: Path, calibration: Path, name: str, scheme: Scheme
) -> None:
    facts = facts_at(models / f"{name}.onnx")
    source = ArraySource("s", {"images": np.load(calibration)["images"][:2]})
    same_as_alone(facts, scheme, partial(source.take, facts.model.inputs, 2))


def test_a_variant_that_an_output_does_not_depend_on_is_not_computed_for_it() -> None:
    proto = onnx_text(
        "agraph (float[1, 4] x) => (float[1, 4] a, float[1, 4] b) "
        "{ h = MatMul(x, v)\n a = Relu(h)\n b = MatMul(h, w) }",
        v=np.eye(4, dtype=np.float32) + 0.01,
        w=np.eye(4, dtype=np.float32) - 0.01,
    )
    facts = facts_of(as_model(proto), SCHEME_LIST)
    session, order = fan(facts)
    assert order == {"a": ["h"], "b": ["h", "b"]}
    a, b = session.run({"x": np.ones((1, 4), np.float32)}, ["a", "b"])
    # The float result, the one that changes nothing, and the variants.
    assert a.shape == (3, 4) and b.shape == (4, 4)
    exact, variants = blocks(b, [UNCHANGED, *weights_of(facts)])
    assert exact.shape == (1, 4) and np.array_equal(exact, variants[UNCHANGED])
    assert all(not np.array_equal(exact, variants[experiment]) for experiment in weights_of(facts))


@pytest.mark.parametrize(
    "body",
    [
        "h = Conv(x, v)\n y = ReduceMean <keepdims = 0> (h)",
        "h = Conv(x, v)\n y = Transpose <perm = [1, 0, 2, 3]> (h)",
        "h = Conv(x, v)\n y = Softmax <axis = 0> (h)",
        "h = Conv(x, v)\n y = Concat <axis = 0> (h, x)",
        "h = Conv(x, v)\n s = Size(h)\n y = Cast <to = 1> (s)",
        "h = Conv(x, v)\n y = LSTMish(h)",
    ],
)
def test_graphs_that_mix_the_batch_are_refused_and_measured_one_by_one(body: str) -> None:
    proto = onnx_text(f"agraph (float[1, 3, 4, 4] x) => (y) {{ {body} }}", v=np.ones((3, 3, 1, 1), np.float32) * 0.3)
    facts = facts_of(as_model(proto), SCHEME_LIST)
    with pytest.raises(MixesBatchError):
        fan(facts)
    if "LSTMish" not in body:
        samples = partial(SyntheticSource(Contents()).take, facts.model.inputs, 2)
        assert len(run_experiments(workbench(facts), weights_of(facts), samples)) == 1


def test_a_reshape_with_a_batch_of_one_written_into_it() -> None:
    proto = onnx_text(
        "agraph (float[1, 4, 2, 2] x) => (float[1, 2] y) { h = Conv(x, v)\n f = Reshape(h, s)\n y = MatMul(f, w) }",
        v=np.random.default_rng(0).standard_normal((4, 4, 1, 1)).astype(np.float32),
        w=np.random.default_rng(1).standard_normal((16, 2)).astype(np.float32),
        s=np.asarray([1, -1], np.int64),
    )
    facts = facts_of(as_model(proto), SCHEME_LIST)
    session, order = fan(facts)
    (y,) = session.run({"x": np.ones((1, 4, 2, 2), np.float32)}, ["y"])
    assert y.shape == (2 + len(order["y"]), 2) == (4, 2)


_SHUFFLE = (
    "agraph (float[1, 4, 4, 4] x) => (float[1, 2, 4, 4] y) { h = Conv(x, v)\n "
    "a = Reshape(h, s)\n b = Transpose <perm = [1, 0, 2]> (a)\n"
    "c = Reshape(b, t)\n d = Gather <axis = 0> (c, zero)\n e = Gather <axis = 0> (c, one)\n"
    "f = Concat <axis = 1> (e, d)\n y = Conv(f, w) }"
)
_COMPUTED = (
    "agraph (float[1, 4, 4, 4] x) => (float[1, 2] y) { h = Conv(x, v)\n p = Concat <axis = 0> (pads, ends)\n"
    "q = Pad(h, p)\n n = Shape(h)\n k = Gather <axis = 0> (n, zero)\n u = Unsqueeze(k, axes)\n"
    "l = Concat <axis = 0> (u, rest)\n f = Reshape(q, l)\n g = Relu(f)\n y = MatMul(g, m) }"
)


@pytest.mark.parametrize("body", [_SHUFFLE, _COMPUTED])
def test_channel_shuffles_and_computed_shapes_keep_the_batch_apart(body: str) -> None:
    random = np.random.default_rng(0)
    constants: dict[str, npt.NDArray[Any]] = {
        "v": random.standard_normal((4, 4, 1, 1)).astype(np.float32),
        "w": random.standard_normal((2, 4, 1, 1)).astype(np.float32),
        "m": random.standard_normal((144, 2)).astype(np.float32),
        "s": np.asarray([2, 2, 16], np.int64),
        "t": np.asarray([2, -1, 2, 4, 4], np.int64),
        "zero": np.asarray(0, np.int64),
        "one": np.asarray(1, np.int64),
        "pads": np.asarray([0, 0, 1, 1], np.int64),
        "ends": np.asarray([0, 0, 1, 1], np.int64),
        "axes": np.asarray([0], np.int64),
        "rest": np.asarray([-1], np.int64),
    }
    used = {key: value for key, value in constants.items() if re.search(rf"\b{key}\b", body.split("{")[1])}
    facts = facts_of(as_model(onnx_text(body, **used)), SCHEME_LIST)
    same_as_alone(facts, INT8_PER_TENSOR, partial(SyntheticSource(Contents()).take, facts.model.inputs, 2))


def test_pictures_have_the_statistics_they_promise() -> None:
    pink = pink_noise(3, 64, 96, np.random.default_rng(0))
    assert pink.shape == (3, 64, 96)
    assert abs(pink.mean()) < 1e-6 and pink.std() == pytest.approx(1, abs=0.15)
    power = np.abs(np.fft.rfft2(pink_noise(1, 256, 256, np.random.default_rng(1))[0])) ** 2
    frequency = np.hypot(np.fft.fftfreq(256)[:, None], np.fft.rfftfreq(256)[None])
    bands = [power[(frequency > low) & (frequency < 2 * low)].mean() for low in (0.04, 0.08, 0.16)]
    assert np.allclose(np.log2(np.divide(bands[:-1], bands[1:])), 2, atol=0.25)  # power 1/f^2 falls fourfold an octave
    leaves = exposed(dead_leaves(3, 64, 64, np.random.default_rng(0)), np.random.default_rng(1))
    assert leaves.shape == (3, 64, 64) and np.abs(leaves).max() <= 2.4
    assert np.corrcoef(leaves[0].ravel(), leaves[1].ravel())[0, 1] > 0.6
    busy, simple = (
        np.abs(np.diff(dead_leaves(1, 96, 96, np.random.default_rng(0), scene))).mean() for scene in (BUSY, SIMPLE)
    )
    assert busy > 2 * simple
    both = two_scenes(3, 96, 191, np.random.default_rng(0))
    assert both.shape == (3, 96, 191) and np.abs(both).max() <= 2.4
    left, right = (np.median(np.abs(np.diff(half))) for half in (both[..., :96], both[..., 96:]))
    assert left > 1.5 * right
    assert two_scenes(1, 4, 1, np.random.default_rng(0)).shape == (1, 4, 1)


def test_synthetic_inputs_fit_the_model_and_repeat() -> None:
    inputs = [
        Value("nchw", TensorType(onnx.TensorProto.FLOAT, (None, 3, 32, None))),
        Value("nhwc", TensorType(onnx.TensorProto.FLOAT, (1, 16, 24, 1))),
        Value("tokens", TensorType(onnx.TensorProto.INT64, (1, 8))),
    ]
    source = SyntheticSource(Contents(scale=InputScale(115, 58)))
    one, two = (list(source.take(inputs, 3)) for _ in range(2))
    assert [one[0][value.name].shape for value in inputs] == [(1, 3, 32, 224), (1, 16, 24, 1), (1, 8)]
    assert all(np.array_equal(a[key], b[key]) for a, b in zip(one, two, strict=True) for key in a)
    assert 60 < one[0]["nchw"].mean() < 170 and not np.array_equal(one[0]["nchw"], one[1]["nchw"])


def test_a_model_without_inputs_has_samples_without_arrays() -> None:
    source = SyntheticSource(Contents())
    assert [list(source.take((), 2)) for _ in range(2)] == [[{}, {}], [{}, {}]]


def test_samples_that_are_too_large_to_keep_repeat_all_the_same() -> None:
    inputs = [Value("x", TensorType(onnx.TensorProto.FLOAT, (1, 3, 16, 16)))]
    kept = [sample["x"] for sample in SyntheticSource(Contents()).take(inputs, 5)]
    source = SyntheticSource(Contents(), limits=Limits(kept_bytes=2 * kept[0].nbytes))
    passes = [[sample["x"] for sample in source.take(inputs, 5)] for _ in range(2)]
    for again in passes:
        assert all(np.array_equal(a, b) for a, b in zip(kept, again, strict=True))
    assert [a is b for a, b in zip(*passes, strict=True)] == [True, True, False, False, False]


def test_the_probe_tells_what_breaks_from_what_survives(models: Path) -> None:
    facts = facts_at(models / "depthwise_spread.onnx")
    found = probe(workbench(facts))
    depthwise = [layer.output for layer in facts.layers if layer.folded.layer.depthwise]
    layers = {
        scheme: [found.errors[Experiment.on_weight(scheme, key)].sqnr_db or 99 for key in depthwise]
        for scheme in SCHEME_LIST
    }
    assert all(sqnr_db < 20 for sqnr_db in layers[INT8_PER_TENSOR])
    assert all(sqnr_db > 20 for sqnr_db in layers[INT8_PER_CHANNEL])
    per_tensor, per_channel = (found.errors[Experiment(scheme)].sqnr_db for scheme in SCHEME_LIST)
    assert per_tensor is not None and per_tensor < 5 and per_channel is not None and per_channel > 14
    assert not found.notes
    assert {error.samples for key, error in found.errors.items() if key.weights != "all"} == {found.samples}


class Ticking:
    """A clock on which each look takes so many seconds."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.now = 0.0

    def __call__(self) -> float:
        self.now += self.seconds
        return self.now


def test_a_probe_without_enough_time_says_what_it_did_not_reach(models: Path) -> None:
    facts = facts_at(models / "healthy_mobilenet.onnx")
    bench = workbench(facts, Limits(tensor_bytes=0))  # a graph a layer
    none = probe(bench, seconds=0.0)
    assert not none.errors
    every = len(facts.layers)
    assert none.notes == (f"{every} of {every} layers were not probed: it was slow, and the limit is 0 s",)


def test_schemes_come_before_layers_and_both_end_in_time(models: Path) -> None:
    facts = facts_at(models / "healthy_mobilenet.onnx")
    bench, clock = workbench(facts, Limits(tensor_bytes=0, fewest_variants=1)), Ticking(0.1)
    found = probe(bench, seconds=20.0, clock=clock)
    assert {Experiment(scheme) for scheme in SCHEME_LIST} <= found.errors.keys()
    # All that comes after the time is over are a run that had begun, and looks that find it over.
    assert clock.now < 20 + 10 * clock.seconds
    assert any("layers" in note and "the limit is 20 s" in note for note in found.notes)


def test_what_a_network_costs_decides_how_many_inputs_it_gets(models: Path) -> None:
    facts = facts_at(models / "healthy_mobilenet.onnx")
    shapes = {"images": (1, 3, 32, 32)}
    small = plan(facts, shapes)
    large = plan(facts, {"images": (1, 3, 640, 640)})
    assert (small.layers, small.whole) == (48, 64) and (large.layers, large.whole) == (1, 4)
    assert not small.alike, "pictures are like photographs"
    assert sum(multiplications(facts, shapes).values()) > sum(
        np.prod(layer.folded.layer.weight_shape) for layer in facts.layers
    )


def test_a_short_time_is_shared_by_all_layers(models: Path) -> None:
    facts = facts_at(models / "healthy_mobilenet.onnx")
    bench, experiments = workbench(facts, Limits(tensor_bytes=0, fewest_variants=1)), weights_of(facts)
    inputs = {"images": np.zeros((1, 3, 32, 32), np.float32)}

    def slow() -> Iterator[Mapping[str, npt.NDArray[Any]]]:
        for _ in range(1000):
            time.sleep(0.01)
            yield inputs

    start, allowance = time.monotonic(), Allowance(3.0, 1000)
    found = run_experiments(bench, experiments, slow, allowance=allowance)
    assert time.monotonic() - start < 6
    assert found and all(0 < error.samples < 500 for error in found.values())
    # A thousand times ten milliseconds a layer, at least.
    assert allowance.estimate is not None and allowance.estimate > 8 * len(experiments)


def test_tokens_at_random_are_said_to_be_no_text() -> None:
    proto = onnx_text(
        "agraph (int64[1, 8] tokens) => (y) { e = Gather(table, tokens)\n y = MatMul(e, w) }",
        table=np.random.default_rng(0).standard_normal((64, 16)).astype(np.float32),
        w=np.random.default_rng(1).standard_normal((16, 16)).astype(np.float32),
    )
    found = probe(workbench(facts_of(as_model(proto), SCHEME_LIST)))
    assert [note.partition(":")[0] for note in found.notes] == [
        "input 'tokens' taken for tokens",
        "tokens at random make no text",
    ]


def test_where_the_scores_are_empty_the_layers_are_compared_before_them() -> None:
    proto = onnx_text(
        "agraph (float[1, 3, 8, 8] x) => (y) { g = Conv(x, u)\n h = Conv(g, v, b)\n y = Sigmoid(h) }",
        u=np.random.default_rng(0).standard_normal((3, 3, 1, 1)).astype(np.float32),
        v=np.full((1, 3, 1, 1), 0.01, np.float32),
        b=np.asarray([-20], np.float32),
    )
    found = probe(workbench(facts_of(as_model(proto), SCHEME_LIST)))
    assert "input of the final Sigmoid" in found.notes[0]
    expected = probe(workbench(facts_of_logits(proto)))
    assert not expected.notes
    whole = {Experiment(scheme) for scheme in SCHEME_LIST}
    assert whole < expected.errors.keys() and found.errors.keys() == expected.errors.keys() - whole
    ties.assert_alike(decibels_of(found.errors), {key: expected.errors[key].sqnr_db for key in found.errors})


def facts_of_logits(proto: onnx.ModelProto) -> Facts:
    """The model without its last node."""
    cut = onnx.ModelProto()
    cut.CopyFrom(proto)
    last = cut.graph.node.pop()
    cut.graph.output[0].name = last.input[0]
    return facts_of(as_model(cut), SCHEME_LIST)


def test_layers_that_run_before_any_of_their_activations() -> None:
    proto = onnx_text(
        "agraph (float[1, 4, 4, 4] x) => (float[1, 4, 4, 4] y) "
        "{ a = Conv(x, v)\n b = Conv(x, w)\n c = Relu(a)\n d = Sigmoid(b)\n y = Mul(c, d) }",
        v=np.random.default_rng(0).standard_normal((4, 4, 1, 1)).astype(np.float32),
        w=np.random.default_rng(1).standard_normal((4, 4, 1, 1)).astype(np.float32),
    )
    session, order = fan(facts_of(as_model(proto), SCHEME_LIST))
    (y,) = session.run({"x": np.ones((1, 4, 4, 4), np.float32)}, ["y"])
    assert order == {"y": ["a", "b"]} and len(y) == 4
