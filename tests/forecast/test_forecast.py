"""The forecast against numpy and ONNX Runtime, and the laws it must obey."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import pytest
from conftest import SHARED, public_network
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_cases import Array, as_model, onnx_text, run, sqnr_db

from onnxlint_q.analysis.folding import fold_batch_norms
from onnxlint_q.analysis.measured import measure
from onnxlint_q.analysis.number_formats import INT8, decibel, weight_round_trip
from onnxlint_q.analysis.schemes import INT8_PER_CHANNEL, INT8_PER_TENSOR, PER_TENSOR
from onnxlint_q.analysis.schemes import SCHEMES as SCHEMES_BY_NAME
from onnxlint_q.forecast import noise
from onnxlint_q.forecast.expected.level import Level, level
from onnxlint_q.forecast.expected.level_table import FORECAST
from onnxlint_q.forecast.forecast import Forecast, forecast
from onnxlint_q.forecast.network import noise_model
from onnxlint_q.forecast.noise import saturated, weight_noise
from onnxlint_q.forecast.population import IMAGES, SIZE
from onnxlint_q.forecast.rounding.activations import rounding_noise
from onnxlint_q.forecast.transfer import Move, OutputCost
from onnxlint_q.graph import Model, find_layers, read_model

SCHEMES = (INT8_PER_TENSOR, INT8_PER_CHANNEL)
few = settings(max_examples=6, deadline=None, derandomize=True, database=None)
seeds = st.integers(0, 2**16)


def forecasts(model: Model) -> Mapping[str, Forecast]:
    measured = measure(model, SCHEMES)
    return forecast(noise_model(measured), measured.layers, SCHEMES)


def expected(model: Model) -> Level:
    found = forecasts(model)[INT8_PER_TENSOR.name].level()
    assert found is not None
    return found


def weight_db(made: Forecast, layer: str) -> float:
    value = made.layers[layer].weight_sqnr_db
    assert value is not None
    return value


def perceptron(rng: np.random.Generator, outlier: float = 1.0, scale: float = 1.0) -> onnx.ModelProto:
    first = rng.standard_normal((64, 32)).astype(np.float32)
    first[0] *= outlier
    second = rng.standard_normal((10, 64)).astype(np.float32)
    second[:, 0] /= outlier
    return onnx_text(
        "g (float[N,32] x) => (float[N,10] y) { h = Gemm <transB=1> (x, a)  r = Relu(h)  y = Gemm <transB=1> (r, b) }",
        a=first * np.float32(scale),
        b=second,
    )


def measured_db(proto: onnx.ModelProto, weight: str, x: Array) -> float:
    """Output SQNR with one weight rounded per tensor, by ONNX Runtime."""
    quantised = onnx.ModelProto()
    quantised.CopyFrom(proto)
    tensor = next(t for t in quantised.graph.initializer if t.name == weight)
    rounded = weight_round_trip(onnx.numpy_helper.to_array(tensor), INT8, PER_TENSOR)
    tensor.CopyFrom(onnx.numpy_helper.from_array(rounded, weight))
    return sqnr_db(run(proto, {"x": x})[0], run(quantised, {"x": x})[0])


@given(seed=seeds, outlier=st.sampled_from([1.0, 8.0, 64.0]))
@few
def test_the_figure_agrees_with_a_run_on_gaussian_inputs(seed: int, outlier: float) -> None:
    rng = np.random.default_rng(seed)
    proto = perceptron(rng, outlier)
    x = rng.standard_normal((512, 32)).astype(np.float32)
    made = forecasts(as_model(proto))[INT8_PER_TENSOR.name]
    got = [weight_db(made, "h") - measured_db(proto, "a", x), weight_db(made, "y") - measured_db(proto, "b", x)]
    assert all(abs(difference) < 4 for difference in got)


@given(seed=seeds, exponent=st.integers(-8, 8))
@few
def test_scaling_a_layer_and_undoing_it_in_the_next_changes_nothing(seed: int, exponent: int) -> None:
    rng = np.random.default_rng(seed)
    plain = forecasts(as_model(perceptron(np.random.default_rng(seed))))[INT8_PER_TENSOR.name]
    scaled = forecasts(as_model(perceptron(rng, scale=2.0**exponent)))[INT8_PER_TENSOR.name]
    for layer in ("h", "y"):
        assert weight_db(scaled, layer) == pytest.approx(weight_db(plain, layer), abs=0.2)


@pytest.mark.parametrize("alpha", [1e-3, 0.125, 50.0])
def test_a_factor_on_the_product_changes_no_relative_error(alpha: float) -> None:
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((32, 8)).astype(np.float32)

    def made(alpha: float) -> Forecast:
        text = f"agraph (float[N, 32] x) => (float[N, 8] y) {{ y = Gemm <alpha = {alpha!r}> (x, w) }}"
        return forecasts(as_model(onnx_text(text, w=weight)))[INT8_PER_TENSOR.name]

    assert weight_db(made(alpha), "y") == pytest.approx(weight_db(made(1.0), "y"), abs=1e-3)


def test_an_outlier_channel_breaks_per_tensor_and_not_per_channel() -> None:
    made = forecasts(as_model(perceptron(np.random.default_rng(3), outlier=300.0)))
    per_tensor, per_channel = (made[scheme.name] for scheme in SCHEMES)
    assert weight_db(per_channel, "h") > weight_db(per_tensor, "h") + 15
    assert per_tensor.output_sqnr_db is not None and per_channel.output_sqnr_db is not None
    assert per_tensor.output_sqnr_db < per_channel.output_sqnr_db


def test_end_to_end_is_worse_than_any_layer_alone() -> None:
    for made in forecasts(as_model(perceptron(np.random.default_rng(1)))).values():
        worst = min(row.sqnr_db for row in made.layers.values() if row.sqnr_db is not None)
        assert made.output_sqnr_db is not None and made.output_sqnr_db < worst + 1e-6
        assert all(
            row.sqnr_db is not None and row.weight_sqnr_db is not None and row.sqnr_db <= row.weight_sqnr_db
            for row in made.layers.values()
        )


def test_what_is_told_of_a_layer_is_never_below_the_whole_and_keeps_the_order(models: Path) -> None:
    made = forecasts(read_model(models / "depthwise_spread.onnx"))[INT8_PER_TENSOR.name]
    linear = [weight_db(made, key) for key in made.layers]
    told = [made.bounded(value) for value in linear]
    whole = made.output_sqnr_db
    assert whole is not None and min(linear) < whole  # else there is nothing to bound
    assert all(value is not None and value >= whole for value in told)
    assert sorted(told, key=lambda value: value or 0) == [made.bounded(value) for value in sorted(linear)]
    assert made.bounded(40.0) == pytest.approx(40.0, abs=0.01) and made.bounded(None) is None
    for extreme in (-1e5, 1e5):
        bounded = made.bounded(extreme)
        assert bounded is not None and np.isfinite(bounded)


def test_the_shares_of_the_noise_add_up() -> None:
    for made in forecasts(as_model(perceptron(np.random.default_rng(2), outlier=20.0))).values():
        shares = [row.share for row in made.layers.values()]
        assert sum(shares) + made.rest_share == pytest.approx(1)
        assert made.rest_share > 0 and all(share > 0 for share in shares)
    per_tensor = forecasts(as_model(perceptron(np.random.default_rng(2), outlier=300.0)))[INT8_PER_TENSOR.name]
    worst = per_tensor.layers["h"]
    assert worst.share > 0.9


def test_only_a_classifier_has_an_agreement_and_it_falls_with_the_sqnr() -> None:
    good, worse, lost = (
        expected(as_model(perceptron(np.random.default_rng(2), outlier=outlier))) for outlier in (1.0, 20.0, 1000.0)
    )
    assert good.classes == worse.classes == 10
    assert good.agreement is not None and worse.agreement is not None and lost.agreement is not None
    assert 0.1 < lost.agreement < worse.agreement < good.agreement < 1
    image = as_model(
        onnx_text(
            "g (float[1,3,8,8] x) => (float[1,4,8,8] y) { y = Conv <pads=[1,1,1,1]> (x, w) }",
            w=np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(np.float32),
        )
    )
    assert expected(image).agreement is None


def test_an_output_that_is_lost_is_unrelated_and_its_constant_part_stays() -> None:
    assert saturated(1e-3, 1.0) == pytest.approx(1e-3, rel=1e-3)
    assert saturated(1e9, 1.0) == pytest.approx(2.0)
    assert saturated(1e9, 0.01) == pytest.approx(0.02)


def test_rounding_makes_the_noise_of_its_format() -> None:
    rng = np.random.default_rng(0)
    values = np.exp(rng.uniform(0, 4 * np.log(2), (SIZE, 50))).astype(np.float32)
    cost = OutputCost(np.ones_like(values))
    count = values.size / IMAGES
    steps = {"int8-per-tensor": 16 / 255, "int8-symmetric": 16 / 127, "int16-activations": 16 / 65535}
    for name, step in steps.items():
        made = rounding_noise(1, 16, SCHEMES_BY_NAME[name], values, cost)
        assert made == pytest.approx(step**2 / 12 * count, rel=1e-4)
    exponent = np.floor(np.log2(values))
    coded = np.rint(values * 2 ** (3 - exponent)) * 2 ** (exponent - 3)
    error = float(((coded - values).astype(np.float64) ** 2).sum()) / IMAGES
    assert rounding_noise(1, 16, SCHEMES_BY_NAME["fp8"], values, cost).mean() == pytest.approx(error, rel=0.05)


def test_noise_that_a_later_layer_ignores_costs_nothing() -> None:
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((10, 64)).astype(np.float32)
    model = as_model(
        onnx_text(
            "g (float[N,32] x) => (float[N,10] y) { h = Gemm <transB=1> (x, a)  z = Mul(h, zero)"
            "  k = Gemm <transB=1> (x, c)  s = Add(z, k)  y = Gemm <transB=1> (s, b) }",
            a=rng.standard_normal((64, 32)).astype(np.float32),
            c=rng.standard_normal((64, 32)).astype(np.float32),
            b=weight,
            zero=np.float32(1e-3),
        )
    )
    made = forecasts(model)[INT8_PER_TENSOR.name]
    assert weight_db(made, "h") > weight_db(made, "k") + 40


def test_an_unknown_operator_is_named_and_passed_through() -> None:
    proto = perceptron(np.random.default_rng(0))
    proto.graph.node[1].op_type = "Mystery"
    made = forecasts(as_model(proto))[INT8_PER_TENSOR.name]
    assert list(made.unknown) == ["Mystery"]
    assert made.layers["h"].weight_sqnr_db is not None


def test_a_layer_that_reaches_no_output_gets_none() -> None:
    rng = np.random.default_rng(0)
    model = as_model(
        onnx_text(
            "g (float[N,8] x) => (float[N,8] y) { h = MatMul(x, a)  d = MatMul(x, b)  y = Relu(h) }",
            a=rng.standard_normal((8, 8)).astype(np.float32),
            b=rng.standard_normal((8, 8)).astype(np.float32),
        )
    )
    made = forecasts(model)[INT8_PER_TENSOR.name]
    assert made.layers["d"].weight_sqnr_db is None
    assert made.layers["h"].weight_sqnr_db is not None


def test_a_model_without_layers_and_a_lossless_weight() -> None:
    empty = forecasts(as_model(onnx_text("g (float[1,3] x) => (float[1,3] y) { y = Relu(x) }")))
    assert empty[INT8_PER_TENSOR.name].layers == {}
    codes = np.arange(-127, 129, 2, dtype=np.float32).clip(-127, 127).reshape(8, 16)
    exact = forecasts(as_model(onnx_text("g (float[N,8] x) => (float[N,16] y) { y = MatMul(x, w) }", w=codes)))
    assert exact[INT8_PER_TENSOR.name].layers["y"].weight_sqnr_db is None


def test_the_same_file_gives_the_same_figures() -> None:
    proto = perceptron(np.random.default_rng(5))
    first, second = (forecasts(as_model(proto))[INT8_PER_TENSOR.name] for _ in range(2))
    assert first.layers == second.layers and first.output_sqnr_db == second.output_sqnr_db


@pytest.mark.parametrize(("name", "least"), [("resnet8_cifar10_bn", 0.8), ("vww_mobilenetv1_025_96_bn", 0.7)])
def test_layers_rank_as_measured(name: str, least: float) -> None:
    model = read_model(public_network(f"{name}.onnx"))
    truth = json.loads((SHARED / "truth" / f"{name}.json").read_text())["layers"]
    start = time.process_time()
    made = forecasts(model)[INT8_PER_TENSOR.name]
    assert time.process_time() - start < 30
    pairs = [(weight_db(made, entry["output"]), entry["weight_only_sqnr_db"]) for entry in truth]
    ranks = np.argsort(np.argsort(np.array(pairs), axis=0), axis=0)
    assert float(np.corrcoef(ranks[:, 0], ranks[:, 1])[0][1]) > least


def test_ranks_that_numpy_cannot_hold_are_unknown_and_no_error() -> None:
    most = 64 if np.lib.NumpyVersion(np.__version__) >= "2.0.0" else 32
    deep = "float[" + ", ".join(["1"] * 70) + "]"
    proto = onnx_text(
        f"agraph ({deep} x, float[2, 3] a) => (r, y) {{ r = Relu(x)\n b = MatMul(a, w)\n y = Mul(b, v) }}",
        w=np.eye(3, dtype=np.float32),
        v=np.ones([1] * (most - 2) + [2, 3], np.float32),
    )
    made = forecasts(as_model(proto))
    assert made.keys() == {scheme.name for scheme in SCHEMES}
    assert all("Mul" in one.unknown for one in made.values())


def test_a_kernel_that_reads_a_scalar_is_unknown_and_no_error() -> None:
    model = as_model(onnx_text("agraph (float x) => (y) { y = Conv(x, w) }", w=np.ones((2, 3, 1, 1), np.float32)))
    made = forecasts(model)
    assert all(row.weight_sqnr_db is None for one in made.values() for row in one.layers.values())


def two_heads(outlier: float) -> onnx.ModelProto:
    rng = np.random.default_rng(0)
    wide = rng.standard_normal((16, 64)).astype(np.float32)
    wide[0] *= outlier
    return onnx_text(
        "g (float[N,32] x) => (float[N,16] a, float[N,16] b) { h = Gemm <transB=1> (x, u)  r = Relu(h)"
        "  c = Gemm <transB=1> (r, v)  a = Tanh(c)  d = Gemm <transB=1> (r, w)  b = LeakyRelu(d) }",
        u=rng.standard_normal((64, 32)).astype(np.float32),
        v=rng.standard_normal((16, 64)).astype(np.float32) / 8,
        w=wide,
    )


def test_every_output_has_its_own_forecast_and_a_damage_stays_where_it_is() -> None:
    fine, hurt = (forecasts(as_model(two_heads(outlier)))[INT8_PER_TENSOR.name] for outlier in (1.0, 3000.0))
    own = {name: (fine.outputs[name].sqnr_db or 0.0, hurt.outputs[name].sqnr_db or 0.0) for name in "ab"}
    assert own["a"][1] == pytest.approx(own["a"][0], abs=1e-6)
    pooled = decibel(1.0, float(np.mean([10 ** (-both[1] / 10) for both in own.values()])))
    assert hurt.output_sqnr_db == pytest.approx(pooled)
    worst = min("ab", key=lambda name: own[name][0])
    alone = sum(10 ** (-(one.sqnr_db or np.inf) / 10) for one in fine.tensors)
    assert decibel(1.0, alone) == pytest.approx(own[worst][0], abs=0.3)


def test_every_tensor_with_a_scale_has_its_share() -> None:
    for made in forecasts(as_model(perceptron(np.random.default_rng(2), outlier=20.0))).values():
        assert {(one.kind.value, one.tensor) for one in made.tensors} == {
            ("weight", "h"), ("weight", "y"), ("activation", "x"), ("activation", "r"), ("activation", "y"),
        }  # fmt: skip
        assert sum(one.share for one in made.tensors) == pytest.approx(1)
        assert all(one.share > 0 for one in made.tensors)


def test_scores_that_are_joined_to_boxes_are_lost() -> None:
    text = (
        "g (float[1,8,16] x) => (float[1,16,16] y) { c = Conv(x, w)  e = Sigmoid(c)  b = Mul(e, size)"
        "  y = Concat <axis=1> (b, e) }"
    )
    left = {}
    for size in (1.5, 400.0):
        weight = np.random.default_rng(0).standard_normal((8, 8, 1)).astype(np.float32)
        made = forecasts(as_model(onnx_text(text, size=np.float32(size), w=weight)))[INT8_PER_TENSOR.name]
        boxes, scores = made.outputs["y"].parts
        assert (boxes.name, scores.name) == ("b", "e") and (boxes.sqnr_db or 0) > 25
        left[size] = scores.sqnr_db or 0.0
    assert left[1.5] > 25 and left[400.0] <= 0


def test_the_level_of_an_output_goes_by_its_own_figure_and_its_own_noise() -> None:
    made = forecasts(as_model(two_heads(3000.0)))[INT8_PER_TENSOR.name]
    for name in "ab":
        raw_db = made.outputs[name].sqnr_db
        assert raw_db is not None and made.level(name) == level(raw_db, made.traits[name, ""], FORECAST)
    assert made.traits["a", ""].weights != pytest.approx(made.traits["b", ""].weights, abs=1e-3)
    assert made.level("c") is None and set(made.levels) == {made.level("a"), made.level("b")}


def test_layers_that_share_a_weight_are_forecast_as_if_each_had_its_own() -> None:
    rng = np.random.default_rng(0)
    shared, last = (rng.standard_normal(shape).astype(np.float32) for shape in ((32, 32), (32, 10)))
    text = """g (float[N,32] x) => (float[N,10] y) {{
        a = MatMul (x, w) b = Relu (a) c = MatMul (b, {second}) d = Tanh (c) y = MatMul (d, v) }}"""
    once = as_model(onnx_text(text.format(second="w"), w=shared, v=last))
    twice = as_model(onnx_text(text.format(second="u"), w=shared, u=shared, v=last))
    for scheme, made in forecasts(once).items():
        for layer, figures in forecasts(twice)[scheme].layers.items():
            assert made.layers[layer].weight_sqnr_db == pytest.approx(figures.weight_sqnr_db, abs=1e-6)


@given(seeds)
@few
def test_errors_that_meet_what_they_read_together_cost_what_each_costs_alone(seed: int) -> None:
    rng = np.random.default_rng(seed)
    model = as_model(
        onnx_text("g (float[N,24] x) => (float[N,16] y) { y = MatMul (x, w) }", w=np.ones((24, 16), np.float32))
    )
    (folded,) = fold_batch_norms(model, list(find_layers(model))).layers
    samples, rows = (rng.standard_normal((SIZE, width)).astype(np.float32) for width in (24, 16))
    errors = [rng.standard_normal((16, 24)).astype(np.float32) for _ in range(3)]
    errors[1] = np.asfortranarray(errors[1])
    found = weight_noise(model, folded, errors, samples + 2, OutputCost(rows))
    for error, power in zip(errors, found, strict=True):
        made = (samples + 2) @ error.T
        parts = made.mean(axis=0), made - made.mean(axis=0)
        sums = [(rows * part).reshape(IMAGES, -1).sum(axis=1, dtype=np.float64) for part in parts]
        np.testing.assert_allclose(power, sums[0] ** 2 + sums[1] ** 2, rtol=1e-3, atol=1e-2)


def test_rows_go_back_the_way_their_elements_came() -> None:
    index = np.array([[2, -1], [0, 4]])
    rows = np.arange(SIZE * 4, dtype=np.float32).reshape(SIZE, 2, 2)
    pulled = Move(index, (5,)).pull(OutputCost(rows)).rows
    nothing = np.zeros(SIZE, np.float32)
    np.testing.assert_array_equal(pulled.T, [rows[:, 1, 0], nothing, rows[:, 0, 0], nothing, rows[:, 1, 1]])
    reshaped = Move(np.arange(4).reshape(2, 2), (4,)).pull(OutputCost(rows)).rows
    assert np.shares_memory(reshaped, rows)
    np.testing.assert_array_equal(reshaped, rows.reshape(SIZE, 4))


@pytest.mark.parametrize("order", ["C", "F"])
def test_errors_of_a_matrix_cost_the_same_one_by_one_and_all_at_once(order: Literal["C", "F"]) -> None:
    rng = np.random.default_rng(0)
    rows, values = (rng.normal(size=(6 * 5, width)).astype(np.float32) for width in (40, 70))
    errors = [np.asarray(rng.normal(size=(40, 70)), np.float32, order=order) for _ in range(3)]
    alone = noise._one_by_one(rows, values, errors, 6)
    together = noise._all_at_once(rows, values, errors, 6)
    for error, one, other in zip(errors, alone, together, strict=True):
        exact = np.einsum("ipc,cw,ipw->i", rows.reshape(6, 5, -1), error, values.reshape(6, 5, -1), dtype=np.float64)
        np.testing.assert_allclose(one, exact, rtol=1e-4, atol=1e-3)
        np.testing.assert_allclose(other, exact, rtol=1e-4, atol=1e-3)
