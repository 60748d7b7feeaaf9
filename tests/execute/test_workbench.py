"""The workbench: what it can run, what it computes once, and a block-wise scheme by hand."""

from __future__ import annotations

from functools import partial

import numpy as np
import onnx
import pytest
from onnx_cases import Array, as_model, onnx_text, sqnr_db

from onnxlint_q.analysis.experiment import UNCHANGED, Experiment
from onnxlint_q.analysis.schemes import INT8_DYNAMIC, INT8_PER_CHANNEL, INT8_PER_TENSOR, SCHEMES, Scheme
from onnxlint_q.execute.data.sources import ArraySource
from onnxlint_q.execute.data.split import Split
from onnxlint_q.execute.executable import as_stored
from onnxlint_q.execute.quantiser import quantised
from onnxlint_q.execute.session import Session
from onnxlint_q.execute.stream.observe import observe
from onnxlint_q.execute.variants.experiment_runs import run_experiments
from onnxlint_q.execute.variants.workbench import Workbench, workbench
from onnxlint_q.judge.facts import Facts, facts_of
from onnxlint_q.proof.sensitivity import layer_experiments, layer_sqnr
from onnxlint_q.proof.whole import measure_schemes

BLOCKS = SCHEMES["int4-blocks"]
SCHEME_LIST = (INT8_PER_TENSOR, INT8_PER_CHANNEL, BLOCKS)
NETWORK = """
agraph (float[N, 70] x) => (float[N, 5] y) {
    h = MatMul(x, v)
    r = Relu(h)
    g = Gemm(r, w, c)
    y = Add(g, b)
}
"""
RANDOM = np.random.default_rng(0)
V = (RANDOM.standard_normal((70, 40)) * np.geomspace(0.1, 1, 70)[:, None]).astype(np.float32)
W = RANDOM.standard_normal((40, 5)).astype(np.float32)
X = RANDOM.standard_normal((6, 70)).astype(np.float32)


def known(opset: int = 17) -> Facts:
    proto = onnx_text(NETWORK, v=V, w=W, b=np.ones(5, np.float32), c=np.zeros(5, np.float32))
    proto.opset_import[0].version = opset
    return facts_of(as_model(proto), SCHEME_LIST)


def source() -> ArraySource:
    return ArraySource("s", {"x": X})


def calibrated(facts: Facts) -> Workbench:
    return workbench(facts).calibrated(observe(facts, source(), 6))


def test_what_a_bench_can_run() -> None:
    facts = known()
    bare, full = workbench(facts), calibrated(facts)
    weight, activation = Experiment.on_weight(INT8_PER_TENSOR, "h"), Experiment.on_activation(INT8_PER_TENSOR, "r")
    both = Experiment.on_layer(INT8_PER_TENSOR, "h", "r")
    assert bare.can_run(weight) and not bare.can_run(activation) and not bare.can_run(both)
    assert not bare.can_run(Experiment(INT8_PER_TENSOR)) and bare.can_run(Experiment(BLOCKS))
    assert all(full.can_run(one) for one in (weight, activation, both, Experiment(INT8_PER_TENSOR), Experiment(BLOCKS)))
    # There is no such layer, and no scale between a layer and the Relu behind it.
    assert not full.can_run(Experiment.on_weight(INT8_PER_TENSOR, "nowhere"))
    assert not full.can_run(Experiment.on_activation(INT8_PER_TENSOR, "h"))
    assert not full.can_run(Experiment.on_activation(BLOCKS, "r")) and not full.can_run(UNCHANGED)


def test_float8_and_dynamic_activations_need_operators_of_opset_11() -> None:
    for opset, possible in ((10, False), (11, True)):
        bench = calibrated(known(opset))
        for scheme in (SCHEMES["fp8"], INT8_DYNAMIC):
            assert bool(bench.roundings(scheme)) is possible and bench.can_run(Experiment(scheme)) is possible
        assert bench.roundings(INT8_PER_TENSOR)


def test_where_an_experiment_parts_from_the_float_network() -> None:
    bench = calibrated(known())
    places = {
        Experiment.on_activation(INT8_PER_TENSOR, "x"): "x",
        Experiment.on_weight(INT8_PER_TENSOR, "h"): "h",
        Experiment.on_activation(INT8_PER_TENSOR, "r"): "h",  # the quantiser has no scale between them
        Experiment.on_layer(INT8_PER_TENSOR, "h", "r"): "h",
        Experiment.on_activation(INT8_PER_TENSOR, "y"): "y",
    }
    for experiment, tensor in places.items():
        place = bench.starts_at(experiment)
        assert place is not None and bench.computed[place] == (tensor,)
    for experiment in (
        Experiment(INT8_PER_TENSOR),
        UNCHANGED,
        Experiment.on_activation(INT8_PER_TENSOR, "b"),  # a constant
        Experiment.on_activation(INT8_PER_TENSOR, "nowhere"),
        Experiment.on_layer(INT8_PER_TENSOR, "g", "r"),
        Experiment(INT8_PER_TENSOR, frozenset({"h", "g"}), frozenset()),
    ):
        assert bench.starts_at(experiment) is None


def test_scales_are_computed_once_a_format_and_folding_once_a_network() -> None:
    bench = calibrated(known())
    scales, symmetric = bench.roundings(INT8_PER_TENSOR), bench.roundings(SCHEMES["int8-symmetric"])
    for experiment in layer_experiments(bench):
        bench.executable(experiment)
    assert bench.roundings(INT8_PER_CHANNEL) is scales and symmetric is not scales
    assert list(scales) == ["x", "r", "g", "b", "y"] == list(symmetric) == list(bench.scales(INT8_PER_TENSOR))
    assert bench.observations is not None
    assert bench.calibrated(bench.observations, "mse").float_model is bench.float_model


def test_an_unchanged_experiment_is_the_float_model() -> None:
    bench = calibrated(known())
    (exact,), (same,) = (
        Session(executable).run({"x": X}) for executable in (bench.float_model, bench.executable(UNCHANGED))
    )
    np.testing.assert_array_equal(exact, same)


def by_hand(matrix: np.ndarray) -> np.ndarray:
    """Int4 codes from -8 to 7, the extreme on -8, one scale for 32 rows of a column, the last rows fewer."""
    rounded = np.empty_like(matrix)
    for start in range(0, len(matrix), 32):
        block = matrix[start : start + 32]
        step = block[np.abs(block).argmax(axis=0), np.arange(block.shape[1])] / np.float32(-8)
        rounded[start : start + 32] = np.clip(np.rint(block / step), -8, 7) * step
    return rounded


def test_a_block_wise_scheme_is_what_it_is_by_hand() -> None:
    """Weights alone, through the table, the end-to-end figure and the forecast; the Gemm stays in float."""
    facts = known()
    bench = calibrated(facts)
    exact = np.maximum(X @ V, 0) @ W + 1
    outputs = np.maximum(X @ by_hand(V), 0) @ W + 1
    expected = {Experiment.on_weight(BLOCKS, "h"): outputs, Experiment(BLOCKS): outputs}
    assert not bench.can_run(Experiment.on_weight(BLOCKS, "g"))
    samples = partial(source().take, facts.model.inputs, 6)
    found = run_experiments(bench, expected, samples)
    for experiment, outputs in expected.items():
        assert found[experiment].sqnr_db == pytest.approx(sqnr_db(exact, outputs), abs=0.01)
    whole = measure_schemes(bench, Split(source(), facts.model.inputs, 6, 0))
    assert whole.errors[Experiment(BLOCKS)].sqnr_db == pytest.approx(found[Experiment(BLOCKS)].sqnr_db, abs=1e-6)
    table = run_experiments(bench, layer_experiments(bench), samples)
    row = layer_sqnr(facts, BLOCKS, facts.layers[0], table)
    assert (
        row is not None
        and row.activation_sqnr_db is None
        and row.weight_sqnr_db == pytest.approx(found[Experiment.on_weight(BLOCKS, "h")].sqnr_db, abs=0.01)
    )
    forecast = facts.forecasts[BLOCKS.name]
    assert forecast.rest_share == pytest.approx(0, abs=1e-9)
    assert sum(entry.share for entry in forecast.layers.values()) == pytest.approx(1)
    assert forecast.output_sqnr_db == pytest.approx(found[Experiment(BLOCKS)].sqnr_db, abs=6)


def test_a_network_without_a_matrix_has_nothing_for_blocks() -> None:
    proto = onnx_text(
        "agraph (float[1, 4, 6, 6] x) => (y) { y = Conv(x, v) }", v=np.ones((4, 4, 1, 1), np.float32) * np.float32(0.3)
    )
    facts = facts_of(as_model(proto), SCHEME_LIST)
    assert facts.is_quantisable(INT8_PER_TENSOR) and not facts.is_quantisable(BLOCKS)
    assert not workbench(facts).can_run(Experiment(BLOCKS))
    forecast = facts.forecasts[BLOCKS.name]
    assert forecast.output_sqnr_db is None and forecast.layers["y"].weight_sqnr_db is None


IMAGES = RANDOM.standard_normal((4, 2, 6, 6)).astype(np.float32)
KERNEL = RANDOM.standard_normal((3, 2, 3, 3)).astype(np.float32)
DEAD = KERNEL * np.asarray([1, 0, 1e-9], np.float32).reshape(3, 1, 1, 1)
OFFSETS = np.asarray([0.3, 0.3, 40.0], np.float32)
ONE = "agraph (float[1, 2, 6, 6] x) => (float[1, C, H, W] y)"
BIASED = {
    "an ordinary one": (ONE + "{ y = Conv(x, w, b) }", {"w": KERNEL, "b": OFFSETS}),
    "a dead and a nearly dead channel": (ONE + "{ y = Conv(x, w, b) }", {"w": DEAD, "b": OFFSETS}),
    "nothing but nearly dead channels": (ONE + "{ y = Conv(x, w, b) }", {"w": KERNEL * np.float32(1e-9), "b": OFFSETS}),
    "behind a pool": (
        ONE + "{ p = MaxPool <kernel_shape = [2, 2]> (x)\n y = Conv(p, w, b) }",
        {"w": DEAD, "b": OFFSETS},
    ),
    "with a rectifier": (ONE + "{ c = Conv(x, w, b)\n y = Relu(c) }", {"w": KERNEL, "b": OFFSETS}),
    "transposed": (ONE + "{ y = ConvTranspose(x, w, b) }", {"w": np.swapaxes(DEAD, 0, 1).copy(), "b": OFFSETS}),
    "a row": (
        "agraph (float[1, 2, 6, 6] x) => (float[N, M] y) { f = Flatten(x)\n y = Gemm <transB = 1> (f, w, b) }",
        {"w": RANDOM.standard_normal((3, 72)).astype(np.float32), "b": OFFSETS},
    ),
    "read twice": (
        ONE + "{ c = Conv(x, w, b)\n d = Conv(x, v, b)\n y = Add(c, d) }",
        {"w": KERNEL, "v": DEAD, "b": OFFSETS},
    ),
}


def stored_biases(made: onnx.ModelProto) -> list[Array]:
    """Values of the codes of 32 bits in a quantised file, ordered by size."""
    held = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in made.graph.initializer}
    pairs = [node.input[:2] for node in made.graph.node if node.op_type == "DequantizeLinear"]
    found = [held[codes] * held[scale] for codes, scale in pairs if codes in held and held[codes].dtype == np.int32]
    return sorted(found, key=lambda values: values.tolist())


@pytest.mark.parametrize("scheme", [INT8_PER_TENSOR, INT8_PER_CHANNEL], ids=lambda scheme: scheme.name)
@pytest.mark.parametrize("case", BIASED)
def test_biases_and_weights_have_the_values_of_the_quantisers_file(case: str, scheme: Scheme) -> None:
    """A scale at which a bias has no code of 32 bits is widened, and the weight has the wider one as well."""
    text, arrays = BIASED[case]
    facts = facts_of(as_model(onnx_text(text, **arrays)), (scheme,))
    given = ArraySource("s", {"x": IMAGES})
    bench = workbench(facts).calibrated(observe(facts, given, 4))
    experiment = Experiment(scheme)
    ours = bench.executable(experiment)
    theirs = quantised(as_stored(facts.model), given.samples(facts.model.inputs), per_channel=scheme.per_channel)
    mine = sorted((ours.weights[name] for name in ours.layer_biases.values()), key=lambda values: values.tolist())
    for value, expected in zip(mine, stored_biases(theirs.proto), strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-6)
    step = max(float(scale.scale) for scale in bench.scales(scheme).values())
    for sample in given.samples(facts.model.inputs):
        apart = np.abs(Session(ours).run(sample)[0] - Session(theirs).run(sample)[0])
        assert apart.max() <= 1.01 * step and np.mean(apart > 1e-5) <= 0.01


def test_a_bias_keeps_its_values_where_its_layer_reads_no_codes() -> None:
    text, arrays = BIASED["a dead and a nearly dead channel"]
    facts = facts_of(as_model(onnx_text(text, **arrays)), SCHEME_LIST)
    bench = workbench(facts).calibrated(observe(facts, ArraySource("s", {"x": IMAGES}), 4))
    for experiment in (Experiment.on_weight(INT8_PER_TENSOR, "y"), Experiment.on_layer(INT8_PER_TENSOR, "y", "y")):
        made = bench.executable(experiment)
        np.testing.assert_array_equal(made.weights[made.layer_biases["y"]], OFFSETS)
    assert not np.array_equal(bench.settings(Experiment(INT8_PER_TENSOR))[made.layer_biases["y"]], OFFSETS)


@pytest.mark.parametrize("domain", ["gain", "constant"])
def test_constants_of_weights_have_signed_codes_as_in_the_quantisers_file(domain: str) -> None:
    """The gain of a normalisation that stays has the format of weights, the operand of a sum that of activations."""
    text = {
        "gain": "agraph (float[1, 8] x) => (float[N, M] y) { h = Relu(x)\n y = LayerNormalization(h, c, s) }",
        "constant": "agraph (float[1, 8] x) => (float[N, M] y) { h = Relu(x)\n y = Add(h, c) }",
    }[domain]
    gain = RANDOM.uniform(0.2, 3, 8).astype(np.float32)
    proto = onnx_text(text, c=gain, **({"s": np.zeros(8, np.float32)} if domain == "gain" else {}))
    facts = facts_of(as_model(proto), SCHEME_LIST)
    given = ArraySource("s", {"x": RANDOM.standard_normal((6, 8)).astype(np.float32)})
    bench = workbench(facts).calibrated(observe(facts, given, 6))
    ours = bench.scales(INT8_PER_TENSOR)["c"]
    theirs = quantised(as_stored(facts.model), given.samples(facts.model.inputs), per_channel=False).proto.graph
    held = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in theirs.initializer}
    assert held["c_zero_point"].dtype == ours.number.dtype and held["c_zero_point"] == ours.zero_point
    assert held["c_scale"] == pytest.approx(ours.scale, rel=1e-6)
    for scheme in (INT8_PER_CHANNEL, SCHEMES["int8-symmetric"], SCHEMES["int4-weights"]):
        Session(bench.executable(Experiment(scheme))).run({"x": np.ones((1, 8), np.float32)})
