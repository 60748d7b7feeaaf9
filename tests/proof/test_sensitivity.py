"""The sensitivity table: every variant in one graph gives what it gives alone, and where it cannot, runs alone."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx_cases import as_model, onnx_text

from onnxlint_q.analysis.schemes import DEFAULT_SCHEMES, SCHEMES
from onnxlint_q.execute.batch import batch_rules
from onnxlint_q.execute.batch.batch_tensors import MixesBatchError
from onnxlint_q.execute.data.sources import ArraySource
from onnxlint_q.execute.executable import folded
from onnxlint_q.execute.stream.observe import observe
from onnxlint_q.execute.variants import layer_table
from onnxlint_q.execute.variants.fanout import Variant, fan_out
from onnxlint_q.execute.variants.quantized import ActivationScale, activation_scales, with_activations
from onnxlint_q.execute.variants.variant_runs import measure_variants
from onnxlint_q.finding import Claim, Confidence, Evidence, Finding, Location, Severity, Subject
from onnxlint_q.graph import read_model
from onnxlint_q.graph.operators import BatchAxis
from onnxlint_q.judge.facts import Facts, facts_of
from onnxlint_q.proof.prove import prove
from onnxlint_q.proof.sensitivity import SensitivityTable, measure_sensitivity


def table_of(facts: Facts, source: ArraySource, count: int = 2) -> SensitivityTable:
    samples = partial(source.take, facts.model.inputs, count)
    return measure_sensitivity(facts, folded(facts), samples, observe(facts, source, count))


def same(one: SensitivityTable, other: SensitivityTable) -> None:
    for kind in ("weights", "activations", "both"):
        left, right = getattr(one, kind), getattr(other, kind)
        assert left.keys() == right.keys()
        for place, error in left.items():
            assert right[place].sqnr_db == pytest.approx(error.sqnr_db, abs=0.02), (kind, place)
            assert right[place].agreement == error.agreement


def refused(*_: object) -> object:
    raise MixesBatchError("not in this test")


@pytest.mark.parametrize("name", "depthwise_spread healthy_mobilenet silu_gate external_data".split())
def test_all_variants_in_one_graph_give_what_each_gives_alone(
    models: Path, calibration: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = facts_of(read_model(models / f"{name}.onnx"), DEFAULT_SCHEMES)
    source = ArraySource("s", {"images": np.load(calibration)["images"][:2]})
    with monkeypatch.context() as patched:
        patched.setattr(layer_table, "measure_variants", refused)  # nothing may run alone
        together = table_of(facts, source)
    monkeypatch.setattr(layer_table, "fan_out", refused)
    same(together, table_of(facts, source))
    places = {(scheme.name, layer.output) for scheme in DEFAULT_SCHEMES for layer in facts.layers}
    assert together.weights.keys() == together.activations.keys() == together.both.keys() == places


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
def test_where_results_are_rounded(body: str, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    weights = {key: random.standard_normal((4, 4, 1, 1)).astype(np.float32) for key in "vw"}
    proto = onnx_text(f"agraph (float[1, 4, 6, 6] x) => (y) {body}", **weights)
    facts = facts_of(as_model(proto), tuple(SCHEMES.values()))
    source = ArraySource("s", {"x": random.standard_normal((3, 4, 6, 6)).astype(np.float32)})
    with monkeypatch.context() as patched:
        patched.setattr(layer_table, "measure_variants", refused)
        together = table_of(facts, source, 3)
    monkeypatch.setattr(layer_table, "fan_out", refused)
    same(together, table_of(facts, source, 3))
    assert together.activations.keys() == together.weights.keys()


def test_variants_that_meet_after_all_run_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """An operator that is wrongly known to keep a batch apart: the variant that changes nothing comes out changed."""
    rule_of, free = batch_rules.rule_of, batch_rules.RULES[BatchAxis.FREE]
    monkeypatch.setattr(batch_rules, "rule_of", lambda node: free if node.op_type == "Softmax" else rule_of(node))
    random = np.random.default_rng(0)
    text = "agraph (float[1, 4, 6, 6] x) => (y) { h = Conv(x, v)\n s = Softmax <axis = 0> (h)\n y = Add(s, h) }"
    weight = random.standard_normal((4, 4, 1, 1)).astype(np.float32)
    facts = facts_of(as_model(onnx_text(text, v=weight)), DEFAULT_SCHEMES)
    source = ArraySource("s", {"x": random.standard_normal((2, 4, 6, 6)).astype(np.float32)})
    together = table_of(facts, source)
    monkeypatch.setattr(layer_table, "fan_out", refused)
    same(together, table_of(facts, source))


def test_an_activation_alone_is_the_pair_of_operators_at_its_place(models: Path, calibration: Path) -> None:
    facts = facts_of(read_model(models / "healthy_mobilenet.onnx"), DEFAULT_SCHEMES)
    source = ArraySource("s", {"images": np.load(calibration)["images"][:2]})
    samples, base = partial(source.take, facts.model.inputs, 2), folded(facts)
    scales = {entry.tensor: entry for entry in activation_scales(facts, DEFAULT_SCHEMES[0], observe(facts, source, 2))}
    layer = facts.layers[0].output
    relu = facts.model.sole_consumer(layer)
    assert relu is not None and layer not in scales
    entry: ActivationScale = scales[relu.output]
    alone = measure_variants(base, {"it": partial(with_activations, base, [entry])}, samples)["it"]
    found = table_of(facts, source)
    for scheme in DEFAULT_SCHEMES:
        assert found.activations[scheme.name, layer].sqnr_db == pytest.approx(alone.sqnr_db, abs=0.02)


def test_little_memory_makes_more_graphs_and_the_same_figures(
    models: Path, calibration: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = facts_of(read_model(models / "healthy_resnet.onnx"), DEFAULT_SCHEMES)
    source = ArraySource("s", {"images": np.load(calibration)["images"][:2]})
    graphs: list[int] = []
    real = fan_out

    def counted(model: Any, executable: Any, variants: Mapping[str, Any]) -> Any:
        graphs.append(len(variants))
        return real(model, executable, variants)

    monkeypatch.setattr(layer_table, "fan_out", counted)
    roomy = table_of(facts, source)
    assert len(graphs) == 1
    monkeypatch.setattr(layer_table, "_TENSOR_BYTES", 0)
    same(roomy, table_of(facts, source))
    # Two weights, one activation and two of both a layer: five do not fit the four, and stay together; with them goes
    # the one that changes nothing.
    assert graphs[1:] == [6] * len(facts.layers)


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
    assert len(table.weights) == 2 * len(facts.layers) > 0 and not table.activations
    assert any(error.sqnr_db is not None for error in table.weights.values())


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
    layers = {layer.output: Variant(layer.output, layer.folded.weight(facts.model)) for layer in facts.layers}
    with pytest.raises(MixesBatchError, match=ALONE[body]):
        fan_out(facts.model, folded(facts), layers)


def test_statistics_of_the_batch_keep_a_network_out_of_one_graph(models: Path, calibration: Path) -> None:
    """The fixture has a normalisation in training mode."""
    facts = facts_of(read_model(models / "unfolded_bn.onnx"), DEFAULT_SCHEMES)
    layer = facts.layers[0].output
    with pytest.raises(MixesBatchError, match="takes its statistics from the batch"):
        fan_out(
            facts.model, folded(facts), {"it": Variant(layer, np.ones_like(facts.layers[0].folded.weight(facts.model)))}
        )


def test_claims_rest_on_the_table(models: Path, calibration: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = facts_of(read_model(models / "depthwise_spread.onnx"), DEFAULT_SCHEMES)
    source = ArraySource("s", {"images": np.load(calibration)["images"][:2]})
    observed = observe(facts, source, 2)
    table = measure_sensitivity(facts, folded(facts), partial(source.take, facts.model.inputs, 2), observed)
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
    monkeypatch.setattr("onnxlint_q.proof.prove._variant", refused)
    proof = prove(facts, observed, findings, source, 2, table=table)
    for finding in proof.findings:
        assert finding.claim is not None and finding.evidence in {Evidence.CONFIRMED, Evidence.REFUTED}
        assert finding.measured_db == table.weights[finding.claim.scheme, finding.claim.tensor].sqnr_db
