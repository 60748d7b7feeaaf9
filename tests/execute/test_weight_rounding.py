"""Codes for weights that make up for each other: less noise in the result, and in the file that ONNX Runtime writes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx_cases import Array, as_model, onnx_text, run

from onnxlint_q.analysis.experiment import Experiment
from onnxlint_q.analysis.measured import measure
from onnxlint_q.analysis.number_formats import INT8, Sharing
from onnxlint_q.analysis.schemes import INT4_BLOCKS, INT8_DYNAMIC, INT8_PER_CHANNEL, INT8_PER_TENSOR, Scheme
from onnxlint_q.execute.correction import weight_rounding
from onnxlint_q.execute.correction.feedback import steps_with_feedback
from onnxlint_q.execute.correction.moments import second_moments
from onnxlint_q.execute.correction.weight_rounding import measure_steps
from onnxlint_q.execute.data.sources import ArraySource
from onnxlint_q.execute.executable import as_stored
from onnxlint_q.execute.stream.observe import observe
from onnxlint_q.execute.variants.variant_runs import run_variants
from onnxlint_q.execute.variants.workbench import Workbench, workbench
from onnxlint_q.execute.writing.write import prepared_for, recipe_of, write_int8
from onnxlint_q.graph import read_model
from onnxlint_q.rewrite.rounding.grid import weight_grid
from onnxlint_q.rewrite.rounding.steps import rounded

RANDOM = np.random.default_rng(12)
LAYERS = [
    ("Conv <pads = [1, 0, 2, 1], strides = [2, 1]> (x, w)", (2, 4, 7, 6), (6, 4, 3, 2)),
    ("Conv <group = 2, dilations = [2, 1]> (x, w)", (1, 4, 7, 6), (6, 2, 3, 2)),
    ('Conv <group = 4, auto_pad = "SAME_UPPER", strides = [2, 2]> (x, w)', (1, 4, 7, 6), (4, 1, 3, 2)),
    ('Conv <auto_pad = "SAME_LOWER"> (x, w)', (1, 4, 7, 6), (3, 4, 2, 2)),
    ('Conv <auto_pad = "VALID"> (x, w)', (1, 4, 9), (3, 4, 3)),
    ("Gemm <transA = 1, transB = 1> (x, w)", (5, 7), (3, 5)),
    ("Gemm (x, w)", (7, 5), (5, 3)),
    ("MatMul(x, w)", (2, 3, 5), (5, 4)),
]


@pytest.mark.parametrize(("layer", "shape", "weight"), LAYERS, ids=[name for name, *_ in LAYERS])
def test_the_moments_tell_the_power_of_the_result(layer: str, shape: Sequence[int], weight: Sequence[int]) -> None:
    x, w = (RANDOM.standard_normal(dims).astype(np.float32) for dims in (shape, weight))
    text = f"g (float[{','.join(map(str, shape))}] x) => (float[{','.join('ABCD'[: len(shape)])}] y) {{ y = {layer} }}"
    proto = onnx_text(text, w=w)
    measured = measure(as_model(proto), (INT8_PER_CHANNEL,))
    folded = measured.layers[0].folded
    moments = second_moments(folded.layer, [x], 10**6)
    assert moments is not None
    (y,) = run(proto, {"x": x})
    rows = y.size // folded.layer.channels
    matrix = folded.matrix(measured.model).reshape(len(moments), -1, moments.shape[-1])
    # Without the part that is taken off of products of different inputs.
    taps = moments.shape[-1]
    whole = np.where(np.eye(taps, dtype=bool), moments, moments * (rows + taps) / rows)
    power = np.einsum("gct,gtu,gcu->gc", matrix, whole, matrix).ravel()
    axis = 1 if folded.layer.inputs.convolves else y.ndim - 1
    expected = np.square(np.moveaxis(y, axis, 0).reshape(folded.layer.channels, -1)).mean(axis=1)
    np.testing.assert_allclose(power, expected, rtol=1e-4)
    some = second_moments(folded.layer, [x, x], 3)
    assert some is not None and some.shape == moments.shape


def test_what_does_not_fit_or_is_not_finite_has_no_moments() -> None:
    proto = onnx_text("g (float[N,5] x) => (float[N,3] y) { y = Gemm(x, w) }", w=np.ones((5, 3), np.float32))
    layer = measure(as_model(proto), (INT8_PER_CHANNEL,)).layers[0].folded.layer
    assert second_moments(layer, [np.ones((2, 4), np.float32)], 8) is None
    assert second_moments(layer, [np.full((2, 5), np.inf, np.float32)], 8) is None
    assert second_moments(layer, [], 8) is None


def test_feedback_leaves_less_noise_of_alike_inputs_in_every_channel() -> None:
    x = RANDOM.standard_normal((400, 8)) @ RANDOM.standard_normal((8, 96)) + 0.1 * RANDOM.standard_normal((400, 96))
    matrix = RANDOM.standard_normal((10, 96)).astype(np.float32)
    grid = weight_grid(matrix, INT8, Sharing(0))
    steps = steps_with_feedback(matrix, grid, (x.T @ x / len(x))[None])
    near, made = (grid.values(grid.nearest(matrix) + by, matrix) for by in (0, steps))
    noise = [np.square((values - matrix) @ x.T).mean(axis=1) for values in (near, made)]
    assert (noise[1] <= noise[0]).all() and noise[1].mean() < noise[0].mean() / 4
    assert np.array_equal(np.abs(made).max(axis=1), np.abs(matrix).max(axis=1))


def test_groups_are_rounded_by_themselves() -> None:
    x = (
        RANDOM.standard_normal((2, 300, 1)) @ RANDOM.standard_normal((2, 1, 9))
        + RANDOM.standard_normal((2, 300, 9)) / 9
    )
    matrix = RANDOM.standard_normal((6, 9)).astype(np.float32)
    grid = weight_grid(matrix, INT8, Sharing(0))
    moments = x.transpose(0, 2, 1) @ x
    both = steps_with_feedback(matrix, grid, moments)
    for group in range(2):
        rows = slice(3 * group, 3 * group + 3)
        own = weight_grid(matrix[rows], INT8, Sharing(0))
        assert np.array_equal(both[rows], steps_with_feedback(matrix[rows], own, moments[group : group + 1]))


WEIGHTS = {
    "first": RANDOM.standard_normal((16, 3, 3, 3)).astype(np.float32),
    "depthwise": RANDOM.standard_normal((16, 1, 3, 3)).astype(np.float32),
    "last": RANDOM.standard_normal((24, 16, 1, 1)).astype(np.float32),
    "head": RANDOM.standard_normal((24, 5)).astype(np.float32),
    "bias": RANDOM.standard_normal(16).astype(np.float32),
}
NETWORK = """
g (float[N, 3, 8, 8] x) => (float[N, 5] y) {
  a = Conv <pads = [1, 1, 1, 1]> (x, first, bias)
  r = Relu(a)
  b = Conv <pads = [1, 1, 1, 1], group = 16> (r, depthwise)
  m = Relu(b)
  d = Conv(m, last)
  p = GlobalAveragePool(d)
  f = Flatten(p)
  y = MatMul(f, head)
}
"""
SCHEMES = (INT8_PER_CHANNEL, INT8_PER_TENSOR, INT8_DYNAMIC)


def smooth(count: int) -> Array:
    """Samples in which neighbours are alike, as in photos."""
    coarse = RANDOM.standard_normal((count, 3, 2, 2)).astype(np.float32) + 1
    return np.repeat(np.repeat(coarse, 4, axis=2), 4, axis=3) + 0.1 * RANDOM.standard_normal((count, 3, 8, 8)).astype(
        np.float32
    )


FITTED, OTHERS = smooth(32), smooth(32)


def samples(values: Array) -> list[Mapping[str, Array]]:
    return [{"x": values[number : number + 1]} for number in range(len(values))]


def known(scheme: Scheme, proto: onnx.ModelProto | None = None) -> Workbench:
    measured = measure(as_model(onnx_text(NETWORK, **WEIGHTS) if proto is None else proto), (scheme,))
    return workbench(measured).calibrated(observe(measured, ArraySource("x", {"x": FITTED}), len(FITTED)))


def with_steps(bench: Workbench, scheme: Scheme, steps: Mapping[str, Array]) -> Workbench:
    made = workbench(measure(rounded(bench.measured, scheme, steps), (scheme,)))
    return replace(made, observations=bench.observations)


def errors(bench: Workbench, changed: Workbench, experiment: Experiment) -> list[float]:
    variants = {one: (lambda own=own: own.executable(experiment)) for one, own in enumerate((bench, changed))}
    found = run_variants(bench, variants, lambda: iter(samples(OTHERS)))
    return [db if (db := found[one].worst_db) is not None else math.inf for one in range(2)]


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda scheme: scheme.name)
def test_weights_leave_less_noise_on_other_samples(scheme: Scheme) -> None:
    bench = known(scheme)
    steps = measure_steps(bench, Experiment(scheme), lambda: iter(samples(FITTED)))
    assert set(steps) <= {"a", "b", "d", "y"} and len(steps) >= 2
    before, after = errors(bench, with_steps(bench, scheme, steps), Experiment(scheme, activations=frozenset()))
    assert after > before + 1
    again = measure_steps(bench, Experiment(scheme), lambda: iter(samples(FITTED)))
    assert all(np.array_equal(again[layer], steps[layer]) for layer in steps)


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda scheme: scheme.name)
def test_the_written_file_has_the_codes_that_were_meant(scheme: Scheme, tmp_path: Path) -> None:
    bench, experiment = known(scheme), Experiment(scheme)
    steps = measure_steps(bench, experiment, lambda: iter(samples(FITTED)))
    recipe = recipe_of(bench, experiment, steps=steps)
    ready = prepared_for(bench.measured, recipe)
    write_int8(ready, recipe, tmp_path / "int8.onnx")
    file = read_model(tmp_path / "int8.onnx")
    held = {t.name: onnx.numpy_helper.to_array(t) for t in file.proto.graph.initializer}
    codes = [values for values in held.values() if values.dtype == np.int8 and values.ndim > 1]
    for layer in steps:
        folded = bench.measured.layer_by_output[layer].folded
        matrix = folded.matrix(bench.measured.model)
        grid = weight_grid(matrix, INT8, scheme.sharing)
        meant = folded.layer.as_stored(np.rint(grid.values(grid.nearest(matrix) + steps[layer], matrix) / grid.scale))
        assert any(one.shape == meant.shape and np.array_equal(one, meant) for one in codes)
    variants = {
        "ours": lambda: with_steps(bench, scheme, steps).executable(experiment),
        "file": lambda: as_stored(file),
    }
    found = run_variants(bench, variants, lambda: iter(samples(OTHERS)))
    assert found["file"].worst_db == pytest.approx(found["ours"].worst_db, abs=0.5)


@pytest.mark.skipif(find_spec("onnx_ir") is None, reason="ONNX Runtime's 4-bit quantiser needs onnx_ir")
def test_blocks_of_4_bits_are_written_with_less_noise(tmp_path: Path) -> None:
    mixing = RANDOM.standard_normal((6, 64)).astype(np.float32)
    fitted, others = ((RANDOM.standard_normal((32, 6)) @ mixing).astype(np.float32) for _ in range(2))
    text = "g (float[N, 64] x) => (float[N, 24] y) { h = MatMul(x, first) r = Relu(h) y = MatMul(r, second) }"
    first, second = (RANDOM.standard_normal(shape).astype(np.float32) for shape in ((64, 48), (48, 24)))
    measured = measure(as_model(onnx_text(text, first=first, second=second)), (INT4_BLOCKS,))
    bench, experiment = workbench(measured), Experiment(INT4_BLOCKS)
    steps = measure_steps(bench, experiment, lambda: iter([{"x": fitted}]))
    files = {}
    for name, moved in (("near", {}), ("rounded", steps)):
        recipe = recipe_of(bench, experiment, steps=moved)
        write_int8(prepared_for(measured, recipe), recipe, tmp_path / f"{name}.onnx")
        files[name] = as_stored(read_model(tmp_path / f"{name}.onnx"))
    variants = {name: (lambda file=file: file) for name, file in files.items()}
    found = run_variants(bench, variants, lambda: iter([{"x": others}]))
    assert found["rounded"].worst_db > found["near"].worst_db + 3  # type: ignore[operator]


def test_layers_that_cost_too_much_keep_the_nearest_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    bench, experiment = known(INT8_PER_CHANNEL), Experiment(INT8_PER_CHANNEL)
    monkeypatch.setattr(weight_rounding, "WIDEST", 16)
    assert "a" not in measure_steps(bench, experiment, lambda: iter(samples(FITTED)))
    monkeypatch.setattr(weight_rounding, "WORK", 0.0)
    assert not measure_steps(bench, experiment, lambda: iter(samples(FITTED)))


def test_what_stays_in_float_is_not_rounded() -> None:
    proto = onnx_text(NETWORK, **WEIGHTS)
    for node in proto.graph.node:
        node.name = f"node_{node.output[0]}"
    bench = known(INT8_PER_CHANNEL, proto)
    experiment = Experiment(INT8_PER_CHANNEL, excluded=frozenset({"node_b"}))
    found = measure_steps(bench, experiment, lambda: iter(samples(FITTED)))
    assert found and "b" not in found


def test_a_weight_that_layers_share_is_left_alone() -> None:
    text = "g (float[N, 8] x) => (float[N, 8] y) { h = MatMul(x, w) y = MatMul(h, w) }"
    measured = measure(as_model(onnx_text(text, w=RANDOM.standard_normal((8, 8)).astype(np.float32))), (INT8_DYNAMIC,))
    x = RANDOM.standard_normal((64, 2)) @ RANDOM.standard_normal((2, 8))
    data = [{"x": x.astype(np.float32)}]
    assert not measure_steps(workbench(measured), Experiment(INT8_DYNAMIC), lambda: iter(data))
