"""The sensitivity table: every variant in one graph gives what it gives alone, and where it cannot, runs alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
import ties
from onnx_cases import as_model, onnx_text

from onnxlint_q.analysis.experiment import Experiment
from onnxlint_q.analysis.schemes import DEFAULT_SCHEMES, INT8_PER_TENSOR, SCHEMES
from onnxlint_q.execute.batch import batch_rules
from onnxlint_q.execute.batch.batch_tensors import MixesBatchError
from onnxlint_q.execute.data.source import Source
from onnxlint_q.execute.data.sources import ArraySource
from onnxlint_q.execute.limits import DEFAULT_LIMITS, Allowance, Limits
from onnxlint_q.execute.stream.observe import observe
from onnxlint_q.execute.variants.experiment_runs import Errors, run_experiments
from onnxlint_q.execute.variants.fanout import fan_out
from onnxlint_q.execute.variants.layer_graphs import groups, run_together
from onnxlint_q.execute.variants.rounding import with_activations
from onnxlint_q.execute.variants.variant_runs import Samples, run_variants
from onnxlint_q.execute.variants.workbench import Workbench, workbench
from onnxlint_q.finding import Claim, Confidence, Evidence, Finding, Location, Severity, Subject
from onnxlint_q.graph import read_model
from onnxlint_q.graph.operators import BatchAxis
from onnxlint_q.judge.facts import Facts, facts_of
from onnxlint_q.proof.prove import experiment_of, prove
from onnxlint_q.proof.sensitivity import layer_experiments, measure_sensitivity


def bench_of(facts: Facts, source: Source, count: int = 2, limits: Limits = DEFAULT_LIMITS) -> Workbench:
    return workbench(facts, limits).calibrated(observe(facts, source, count))


def samples_of(facts: Facts, source: Source, count: int = 2) -> Samples:
    return partial(source.take, facts.model.inputs, count)


def alone(facts: Facts, source: Source, count: int = 2) -> Errors:
    """Every layer under every scheme, each as a model of its own."""
    bench = bench_of(facts, source, count)
    variants = {experiment: partial(bench.executable, experiment) for experiment in layer_experiments(bench)}
    return run_variants(bench, variants, samples_of(facts, source, count))


def together(facts: Facts, source: Source, count: int = 2) -> Errors:
    """Every layer under every scheme, in one graph."""
    bench = bench_of(facts, source, count)
    experiments = layer_experiments(bench)
    essences = list(dict.fromkeys(experiment.essence for experiment in experiments))
    share = Allowance().share(1)
    errors = run_together(bench, essences, samples_of(facts, source, count), share, lambda _: None)
    return {experiment: errors[experiment.essence] for experiment in experiments}


def table_of(facts: Facts, source: Source, count: int = 2, limits: Limits = DEFAULT_LIMITS) -> Errors:
    return measure_sensitivity(bench_of(facts, source, count, limits), samples_of(facts, source, count))


def codes_of(facts: Facts, experiment: Experiment, samples: int) -> int:
    """How many values an experiment rounds to codes on the way."""
    shapes = [facts.model.shape(tensor) for tensor in experiment.activations or ()]
    return samples * sum(math.prod(size or 1 for size in shape) for shape in shapes if shape is not None)


def same(facts: Facts, one: Errors, other: Errors, samples: int = 2) -> None:
    codes = {experiment: codes_of(facts, experiment, samples) for experiment in one}
    ties.assert_alike(decibels_of(one), decibels_of(other), codes)
    assert {key: error.agreement for key, error in one.items()} == {key: other[key].agreement for key in one}


def decibels_of(errors: Errors) -> dict[Experiment, float | None]:
    return {experiment: error.sqnr_db for experiment, error in errors.items()}


@pytest.mark.parametrize("name", "depthwise_spread healthy_mobilenet silu_gate external_data".split())
def test_all_variants_in_one_graph_give_what_each_gives_alone(models: Path, calibration: Path, name: str) -> None:
    facts = facts_of(read_model(models / f"{name}.onnx"), DEFAULT_SCHEMES)
    source = ArraySource("s", {"images": np.load(calibration)["images"][:2]})
    found = together(facts, source)
    same(facts, found, alone(facts, source))
    expected = {
        experiment
        for scheme in DEFAULT_SCHEMES
        for layer in facts.layers
        for experiment in (
            Experiment.on_weight(scheme, layer.output),
            Experiment.on_activation(scheme, facts.stored_tensor(layer)),
            Experiment.on_layer(scheme, layer.output, facts.stored_tensor(layer)),
        )
    }
    assert found.keys() == expected and len(expected) == 6 * len(facts.layers)
    same(facts, found, table_of(facts, source))


CASES: Mapping[str, str] = {
    "the result of a layer is rounded before an activation that the quantiser does not absorb": (
        "{ h = Conv(x, v)\n s = Sigmoid(h)\n m = Mul(h, s)\n l = LeakyRelu(m)\n y = Conv(l, w) }"
    ),
    "behind a Clip whose bounds are computed": (
        "{ h = Conv(x, v)\n n = ReduceMin <keepdims = 0> (x)\n k = Clip(h, n)\n y = Conv(k, w) }"
    ),
    "behind a Relu and a Clip": "{ h = Conv(x, v)\n r = Relu(h)\n k = Clip(r)\n y = Conv(k, w) }",
    "where it is read twice, once by a Relu": "{ h = Conv(x, v)\n r = Relu(h)\n g = Conv(r, w)\n y = Add(g, h) }",
    "of two layers that meet before their activations": (
        "{ h = Conv(x, v)\n g = Conv(x, w)\n r = Relu(h)\n s = LeakyRelu(g)\n y = Concat <axis = 1> (r, s) }"
    ),
}


@pytest.mark.parametrize("body", CASES.values(), ids=CASES.keys())
def test_where_results_are_rounded(body: str) -> None:
    random = np.random.default_rng(0)
    weights = {key: random.standard_normal((4, 4, 1, 1)).astype(np.float32) for key in "vw"}
    proto = onnx_text(f"agraph (float[1, 4, 6, 6] x) => (y) {body}", **weights)
    schemes = tuple(scheme for scheme in SCHEMES.values() if not scheme.sharing.block_size)
    facts = facts_of(as_model(proto), schemes)
    source = ArraySource("s", {"x": random.standard_normal((3, 4, 6, 6)).astype(np.float32)})
    found = together(facts, source, 3)
    same(facts, found, alone(facts, source, 3))
    expected = {
        one
        for scheme in schemes
        for layer in facts.layers
        for one in (
            Experiment.on_weight(scheme, layer.output),
            *(
                (
                    Experiment.on_activation(scheme, facts.rounded_at(scheme, layer)),
                    Experiment.on_layer(scheme, layer.output, facts.rounded_at(scheme, layer)),
                )
                if scheme.activations is not None
                else ()
            ),
        )
    }
    assert found.keys() == expected


ANY: Mapping[str, str] = {
    "an input, a gate, a sum and a joint": (
        "{ h = Conv(x, v)\n s = Sigmoid(h)\n m = Mul(h, s)\n a = Add(m, x)\n c = Concat <axis = 1> (a, m)\n"
        " g = Conv(a, w)\n y = Softmax <axis = 1> (g)\n z = Relu(c) }"
    ),
    "shapes that are computed": (
        "{ h = Conv(x, v)\n k = Shape(h)\n f = Flatten(h)\n s = Softmax(f)\n u = Reshape(s, k)\n"
        " y = Mul(u, h)\n z = Conv(y, w) }"
    ),
    "a scale that is shared": (
        "{ h = Conv(x, v)\n p = MaxPool <kernel_shape = [2, 2]> (h)\n a, b = Split <axis = 1> (p)\n"
        " y = Add(a, b)\n z = Sigmoid(p) }"
    ),
}


@pytest.mark.parametrize("body", ANY.values(), ids=ANY.keys())
def test_any_activation_in_one_graph_gives_what_it_gives_alone(body: str) -> None:
    random = np.random.default_rng(0)
    weights = {key: random.standard_normal((4, 4, 1, 1)).astype(np.float32) for key in "vw"}
    facts = facts_of(as_model(onnx_text(f"agraph (float[N, 4, H, 6] x) => (y, z) {body}", **weights)), DEFAULT_SCHEMES)
    source = ArraySource("s", {"x": random.standard_normal((2, 4, 6, 6)).astype(np.float32)})
    bench, samples = bench_of(facts, source), samples_of(facts, source)
    tensors = [place.tensor for place in facts.placements if not place.constant]
    experiments = [Experiment.on_activation(INT8_PER_TENSOR, tensor).essence for tensor in tensors]
    experiments += [Experiment.on_weight(INT8_PER_TENSOR, layer.output).essence for layer in facts.layers]
    assert "x" in tensors and all(bench.starts_at(experiment) is not None for experiment in experiments)
    found = run_together(bench, experiments, samples, Allowance().share(1), lambda _: None, {"x": (1, 4, 6, 6)})
    variants = {experiment: partial(bench.executable, experiment) for experiment in experiments}
    same(facts, found, run_variants(bench, variants, samples))


def test_a_graph_for_one_shape_is_not_run_on_another() -> None:
    """Samples of several sizes run alone where shapes are computed."""
    weights = {key: np.random.default_rng(0).standard_normal((4, 4, 1, 1)).astype(np.float32) for key in "vw"}
    text = f"agraph (float[N, 4, H, 6] x) => (y, z) {ANY['shapes that are computed']}"
    facts = facts_of(as_model(onnx_text(text, **weights)), DEFAULT_SCHEMES)
    sizes = [{"x": np.random.default_rng(n).standard_normal((1, 4, n, 6)).astype(np.float32)} for n in (6, 8)]
    bench = workbench(facts)
    weight = Experiment.on_weight(INT8_PER_TENSOR, "h").essence
    with pytest.raises(MixesBatchError):
        fan_out(bench, [weight])
    found = run_experiments(bench, [weight], lambda: iter(sizes))
    expected = run_variants(bench, {weight: partial(bench.executable, weight)}, lambda: iter(sizes))
    same(facts, found, expected)
    assert found[weight].samples == 2


def test_variants_that_meet_after_all_run_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """An operator that is wrongly known to keep a batch apart: the variant that changes nothing comes out changed."""
    rule_of, free = batch_rules.rule_of, batch_rules.RULES[BatchAxis.FREE]
    monkeypatch.setattr(batch_rules, "rule_of", lambda node: free if node.op_type == "Softmax" else rule_of(node))
    random = np.random.default_rng(0)
    text = "agraph (float[1, 4, 6, 6] x) => (y) { h = Conv(x, v)\n s = Softmax <axis = 0> (h)\n y = Add(s, h) }"
    weight = random.standard_normal((4, 4, 1, 1)).astype(np.float32)
    facts = facts_of(as_model(onnx_text(text, v=weight)), DEFAULT_SCHEMES)
    source = ArraySource("s", {"x": random.standard_normal((2, 4, 6, 6)).astype(np.float32)})
    with pytest.raises(MixesBatchError):
        together(facts, source)
    same(facts, table_of(facts, source), alone(facts, source))


def test_an_activation_alone_is_the_pair_of_operators_at_its_place(models: Path, calibration: Path) -> None:
    facts = facts_of(read_model(models / "healthy_mobilenet.onnx"), DEFAULT_SCHEMES)
    source = ArraySource("s", {"images": np.load(calibration)["images"][:2]})
    bench, layer = bench_of(facts, source), facts.layers[0].output
    relu = facts.model.sole_consumer(layer)
    scales = bench.scales(DEFAULT_SCHEMES[0])
    assert relu is not None and layer not in scales
    pair = partial(with_activations, bench.float_model, [scales[relu.output]])
    by_hand = run_variants(bench, {"it": pair}, samples_of(facts, source))["it"]
    found = table_of(facts, source)
    for scheme in DEFAULT_SCHEMES:
        experiment = Experiment.on_activation(scheme, relu.output)
        ties.assert_alike({"": found[experiment].sqnr_db}, {"": by_hand.sqnr_db}, codes_of(facts, experiment, 2))


def test_what_schemes_have_in_common_is_run_once(models: Path, calibration: Path) -> None:
    schemes = (SCHEMES["int8-per-channel"], SCHEMES["int8-symmetric"])
    facts = facts_of(read_model(models / "healthy_resnet.onnx"), schemes)
    bench = bench_of(facts, ArraySource("s", {"images": np.load(calibration)["images"][:2]}))
    experiments = layer_experiments(bench)
    assert len(experiments) == 6 * len(facts.layers)
    # The weights are the same, the activations and with them the layers as a whole are not.
    assert len({experiment.essence for experiment in experiments}) == 5 * len(facts.layers)


def test_what_runs_side_by_side_is_told_sample_by_sample(models: Path, calibration: Path) -> None:
    facts = facts_of(read_model(models / "depthwise_spread.onnx"), DEFAULT_SCHEMES)
    bench = bench_of(facts, ArraySource("s", {"images": np.load(calibration)["images"][:8]}), 8)
    samples, heard = samples_of(facts, ArraySource("s", {"images": np.load(calibration)["images"][:8]}), 8), []
    together, apart = layer_experiments(bench)[:8], [Experiment(scheme) for scheme in DEFAULT_SCHEMES]
    for experiments in (together, apart):
        run_experiments(bench, experiments, samples, lambda *told: heard.append(told), Allowance(samples=8))
    layers = [done for stage, done, total in heard if stage == "tensor by tensor" and total == len(together)]
    runs = [done for stage, done, total in heard if total == 8 * len(apart)]
    assert layers == sorted(layers) and len(set(layers)) > 4
    assert runs == sorted(runs) and len(set(runs)) > 8


def test_little_memory_makes_more_graphs_and_the_same_figures(models: Path, calibration: Path) -> None:
    facts = facts_of(read_model(models / "healthy_resnet.onnx"), DEFAULT_SCHEMES)
    source = ArraySource("s", {"images": np.load(calibration)["images"][:2]})
    roomy, tight = bench_of(facts, source), bench_of(facts, source, limits=Limits(tensor_bytes=0))
    essences = list(dict.fromkeys(experiment.essence for experiment in layer_experiments(roomy)))
    assert [len(group) for group in groups(roomy, essences)] == [len(essences)]
    # Two weights, one activation and two of both a layer: five do not fit the four, and stay together.
    assert [len(group) for group in groups(tight, essences)] == [5] * len(facts.layers)
    same(facts, table_of(facts, source), table_of(facts, source, limits=Limits(tensor_bytes=0)))


def in_a_branch() -> onnx.ModelProto:
    branch = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMul", ["x", "v"], ["inner"])],
        "branch",
        [],
        [onnx.helper.make_tensor_value_info("inner", onnx.TensorProto.FLOAT, [1, 4])],
    )
    proto = onnx_text(
        "agraph (float[1, 4] x) => (float[1, 4] y) { t = ReduceMax(x)\n c = Cast <to = 9> (t)\n y = Relu(x) }",
        v=np.random.default_rng(0).standard_normal((4, 4)).astype(np.float32),
    )
    proto.graph.node.pop()
    proto.graph.node.append(onnx.helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch))
    return proto


def test_a_layer_in_a_branch_is_measured_alone() -> None:
    facts = facts_of(as_model(in_a_branch()), DEFAULT_SCHEMES)
    source = ArraySource("s", {"x": np.random.default_rng(1).standard_normal((3, 4)).astype(np.float32)})
    table = table_of(facts, source, 3)
    assert len(table) == 2 * len(facts.layers) > 0
    assert not any(experiment.activations for experiment in table)
    assert any(error.sqnr_db is not None for error in table.values())


ALONE: Mapping[str, str] = {
    "{ h = Conv(x, v)\n y = CumSum(h, zero) }": "along the batch",
    "{ h = Conv(x, v)\n p, i = MaxPool <kernel_shape = [2, 2]> (h)\n j = Cast <to = 1> (i)\n y = Add(p, j) }": "places",
    "{ s = Squeeze(x, front)\n h = MatMul(s, k)\n g = MatMul(s, k)\n y = Add(h, g) }": "batch in front",
}


@pytest.mark.parametrize("body", ALONE)
def test_what_mixes_a_batch_keeps_a_network_out_of_one_graph(body: str) -> None:
    """The variant that changes nothing does not notice these: it is the first of its piece."""
    random = np.random.default_rng(0)
    weights = {"v": random.standard_normal((4, 4, 1, 1)), "k": random.standard_normal((6, 6))}
    own = {key: value.astype(np.float32) for key, value in weights.items() if f", {key})" in body}
    places = {"zero": np.asarray(0, np.int64), "front": np.asarray([0], np.int64)}
    facts = facts_of(as_model(onnx_text(f"g (float[N, 4, 6, 6] x) => (y) {body}", **own, **places)), DEFAULT_SCHEMES)
    bench = workbench(facts)
    with pytest.raises(MixesBatchError, match=ALONE[body]):
        fan_out(bench, layer_experiments(bench))


def test_statistics_of_the_batch_keep_a_network_out_of_one_graph(models: Path, calibration: Path) -> None:
    """The fixture has a normalisation in training mode."""
    facts = facts_of(read_model(models / "unfolded_bn.onnx"), DEFAULT_SCHEMES)
    first = Experiment.on_weight(INT8_PER_TENSOR, facts.layers[0].output)
    with pytest.raises(MixesBatchError, match="takes its statistics from the batch"):
        fan_out(workbench(facts), [first])


def test_claims_rest_on_the_table(models: Path, calibration: Path) -> None:
    facts = facts_of(read_model(models / "depthwise_spread.onnx"), DEFAULT_SCHEMES)
    source = ArraySource("s", {"images": np.load(calibration)["images"][:2]})
    bench = bench_of(facts, source)
    # Figures that no run gives, so that a claim that was run again would not have them.
    table = {
        experiment: replace(error, sqnr_db=100.0 + number, outputs=())
        for number, (experiment, error) in enumerate(table_of(facts, source).items())
    }
    findings = [
        Finding(
            "QX999",
            "made-up",
            Severity.WARNING,
            Confidence.HIGH,
            "made up",
            Location(output=layer.output),
            claim=Claim(Subject.WEIGHT, layer.output, scheme.name, 20.0),
        )
        for layer in facts.layers
        for scheme in DEFAULT_SCHEMES
    ]
    proof = prove(bench, findings, samples_of(facts, source), known=table)
    for finding in proof.findings:
        assert finding.claim is not None and finding.evidence is Evidence.REFUTED
        assert finding.measured_db == table[experiment_of(finding.claim)].sqnr_db
