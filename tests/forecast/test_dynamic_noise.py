"""What dynamic scales cost by the forecast, beside runs on Gaussian inputs."""

from __future__ import annotations

import numpy as np
import pytest
from onnx_cases import Array, as_model, onnx_text, sqnr_db

from onnxlint_q.analysis.experiment import Experiment
from onnxlint_q.analysis.folding import fold_batch_norms
from onnxlint_q.analysis.schemes import INT8_DYNAMIC, INT8_PER_TENSOR, SCHEMES
from onnxlint_q.execute.session import Session
from onnxlint_q.execute.variants.workbench import workbench
from onnxlint_q.forecast.forward import propagate
from onnxlint_q.forecast.population import IMAGES
from onnxlint_q.forecast.rounding.limits import run_ranges
from onnxlint_q.graph import find_layers
from onnxlint_q.judge.facts import Facts, facts_of

RUNS = 64


def weights(seed: int, **shapes: tuple[int, ...]) -> dict[str, Array]:
    random = np.random.default_rng(seed)
    return {name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def measured_db(facts: Facts, experiment: Experiment, shape: tuple[int, ...]) -> float:
    """Over runs of one sample each: a dynamic scale is that of one run."""
    bench, random = workbench(facts), np.random.default_rng(9)
    exact, rounded = Session(bench.float_model), Session(bench.executable(experiment))
    given = [{"x": random.standard_normal(shape).astype(np.float32)} for _ in range(RUNS)]
    first, second = (np.concatenate([one.run(sample)[0] for sample in given]) for one in (exact, rounded))
    return sqnr_db(first, second)


NETWORKS: dict[str, tuple[str, dict[str, tuple[int, ...]], tuple[int, ...]]] = {
    "perceptron": (
        "g (float[1, 64] x) => (float[1, 10] y) { h = Gemm(x, a)\n r = Relu(h)\n y = Gemm(r, b) }",
        {"a": (64, 128), "b": (128, 10)},
        (1, 64),
    ),
    "stream": (
        "g (float[1, 16, 32] x) => (float[1, 16, 32] y) { h = MatMul(x, a)\n r = Relu(h)\n m = MatMul(r, b)\n "
        "y = Add(m, x) }",
        {"a": (32, 64), "b": (64, 32)},
        (1, 16, 32),
    ),
    "written out": (
        "g (float[1, 16, 32] x) => (float[1, 16, 32] y) { h = MatMul(x, a)\n "
        'n = Einsum <equation = "bti,ij->btj"> (h, e)\n y = MatMul(n, b) }',
        {"a": (32, 64), "e": (64, 64), "b": (64, 32)},
        (1, 16, 32),
    ),
    "convolution": (
        "g (float[1, 8, 12, 12] x) => (float[1, 8, 8, 8] y) { h = Conv(x, a)\n r = Relu(h)\n y = Conv(r, b) }",
        {"a": (16, 8, 3, 3), "b": (8, 16, 3, 3)},
        (1, 8, 12, 12),
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("seed", range(3))
def test_the_figure_agrees_with_runs_of_one_sample(name: str, seed: int) -> None:
    text, shapes, shape = NETWORKS[name]
    facts = facts_of(as_model(onnx_text(text, **weights(seed, **shapes))), [INT8_DYNAMIC])
    foreseen = facts.forecasts[INT8_DYNAMIC.name]
    assert foreseen.output_sqnr_db == pytest.approx(measured_db(facts, Experiment(INT8_DYNAMIC), shape), abs=3)
    assert foreseen.rest_share == pytest.approx(0, abs=1e-6), "every activation that is rounded is a layer's"
    assert all(row.activation_share for row in foreseen.layers.values()), "and every layer reads one"


def test_what_a_layer_reads_is_rounded_for_that_layer_alone() -> None:
    """The stream that goes around a layer keeps its values, so a weak branch costs little however coarse its input."""
    made = weights(0, a=(32, 32))
    made["a"] *= np.float32(0.01)
    proto = onnx_text("g (float[1, 16, 32] x) => (float[1, 16, 32] y) { m = MatMul(x, a)\n y = Add(m, x) }", **made)
    facts = facts_of(as_model(proto), [INT8_PER_TENSOR, INT8_DYNAMIC])
    static, dynamic = (facts.forecasts[name].output_sqnr_db for name in ("int8-per-tensor", "int8-dynamic"))
    assert static is not None and dynamic is not None and dynamic > static + 15
    measured = measured_db(facts, Experiment(INT8_DYNAMIC), (1, 16, 32))
    assert dynamic == pytest.approx(measured, abs=3)


def test_one_run_has_a_narrower_range_than_a_calibration_set() -> None:
    text, shapes, _ = NETWORKS["perceptron"]
    facts = facts_of(as_model(onnx_text(text, **weights(1, **shapes))), [INT8_PER_TENSOR, INT8_DYNAMIC])
    static, dynamic = (facts.forecasts[name].layers["y"] for name in ("int8-per-tensor", "int8-dynamic"))
    assert static.weight_sqnr_db == dynamic.weight_sqnr_db
    rows = {name: facts.forecasts[name] for name in facts.forecasts}
    assert (rows["int8-dynamic"].output_sqnr_db or 0) > (rows["int8-per-tensor"].output_sqnr_db or 0)


def test_a_quiet_run_has_a_range_of_its_own() -> None:
    made = {name: np.abs(values) for name, values in weights(0, a=(8, 1, 16), b=(4, 8, 1)).items()}
    text = "g (float[1, 512] x) => (y) { u = Unsqueeze(x, one)\n h = Conv(u, a)\n r = Relu(h)\n y = Conv(r, b) }"
    model = as_model(onnx_text(text, one=np.asarray([1]), **made))
    found = propagate(model, fold_batch_norms(model, list(find_layers(model))).layers)
    lows, highs = np.array(run_ranges(model, "r", found)).T
    loudest = found.samples["r"].reshape(IMAGES, -1).max(axis=1)
    assert not lows.any() and highs.max() > 20 * highs.min()
    assert (highs >= 0.9 * loudest).all() and np.median(highs / loudest) < 3


def test_an_embedding_is_rounded_over_its_own_table() -> None:
    """One huge row costs all others their codes; what follows is computed in float."""
    table = np.random.default_rng(0).standard_normal((50, 16)).astype(np.float32)
    results = []
    for height in (1, 100):
        table[0] = height
        proto = onnx_text(
            "g (float[1, 4, 16] x, int64[1, 4] i) => (float[1, 4, 16] y) { e = Gather(t, i)\n s = Add(x, e)\n "
            "y = MatMul(s, w) }",
            t=table,
            w=np.eye(16, dtype=np.float32),
        )
        facts = facts_of(as_model(proto), [INT8_DYNAMIC])
        assert [place.tensor for place in facts.placements_under(INT8_DYNAMIC)] == ["t", "s"]
        results.append(facts.forecasts[INT8_DYNAMIC.name])
    assert results[1].rest_share > results[0].rest_share > 0


@pytest.mark.parametrize("name", ["int4-blocks", "int4-blocks-128", "int4-blocks-asymmetric", "int8-weight-only"])
def test_weights_alone_agree_with_a_run(name: str) -> None:
    text, shapes, shape = NETWORKS["stream"]
    facts = facts_of(as_model(onnx_text(text, **weights(2, **shapes))), [SCHEMES[name]])
    foreseen = facts.forecasts[name].output_sqnr_db
    assert foreseen == pytest.approx(measured_db(facts, Experiment(SCHEMES[name]), shape), abs=2)


def test_a_network_without_activations_to_round_is_not_touched() -> None:
    proto = onnx_text("g (float[1, 4] x) => (float[1, 4] y) { y = Relu(x) }")
    facts = facts_of(as_model(proto), [INT8_DYNAMIC])
    assert not facts.placements_under(INT8_DYNAMIC) and not facts.is_quantisable(INT8_DYNAMIC)
