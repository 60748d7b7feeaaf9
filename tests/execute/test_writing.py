"""Written files compute what the simulation of their recipe computes; names, refusals, and the lines by themselves."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import pytest
from conftest import FIXTURES
from onnx_cases import Array, as_model, onnx_text, run, versioned_text

from onnxlint_q.analysis.experiment import Experiment
from onnxlint_q.analysis.measured import Measured, measure
from onnxlint_q.analysis.recipe import Recipe
from onnxlint_q.analysis.schemes import (
    INT4_BLOCKS,
    INT8_DYNAMIC,
    INT8_PER_CHANNEL,
    INT8_PER_TENSOR,
    LAYERS_ONLY,
    SCHEMES,
    Scheme,
)
from onnxlint_q.errors import UsageError
from onnxlint_q.execute.data.sources import ArraySource, RandomSource
from onnxlint_q.execute.executable import as_stored
from onnxlint_q.execute.limits import DEFAULT_LIMITS
from onnxlint_q.execute.stream.observe import observe
from onnxlint_q.execute.variants.variant_runs import run_variants
from onnxlint_q.execute.variants.workbench import Workbench, workbench
from onnxlint_q.execute.writing.lines import Files, lines
from onnxlint_q.execute.writing.prepared import prepared
from onnxlint_q.execute.writing.write import NotWritableError, prepared_for, recipe_of, without_range, write_int8
from onnxlint_q.graph import Model, read_model
from onnxlint_q.rewrite.bias_correction import corrected

STATIC = (INT8_PER_TENSOR, INT8_PER_CHANNEL, *LAYERS_ONLY.values())
FLOAT = (
    "depthwise_spread",
    "healthy_mobilenet",
    "outlier_gamma",
    "silu_gate",
    "unnamed_nodes",
    "constant_weights",
    "fp16",
)
SAMPLES = 24
RANDOM = np.random.default_rng(8)


def calibrated(model: Model, schemes: tuple[Scheme, ...] = STATIC) -> Workbench:
    measured = measure(model, schemes)
    return workbench(measured).calibrated(observe(measured, RandomSource(), SAMPLES))


def written(bench: Workbench, recipe: Recipe, folder: Path, measured: Measured | None = None) -> Model:
    target = folder / "int8.onnx"
    write_int8(prepared_for(measured or bench.measured, recipe), recipe, target)
    return read_model(target)


def apart(given: Workbench, bench: Workbench, experiment: Experiment, file: Model) -> float:
    """By how many dB the simulation is better than the file."""
    variants = {"ours": partial(bench.executable, experiment), "file": partial(as_stored, file)}
    samples = partial(RandomSource().take, given.measured.model.inputs, SAMPLES)
    errors = run_variants(given, variants, samples)
    ours, theirs = errors["ours"].worst_db, errors["file"].worst_db
    assert ours is not None and theirs is not None
    return ours - theirs


@pytest.mark.parametrize("scheme", STATIC, ids=lambda scheme: scheme.name)
@pytest.mark.parametrize("name", FLOAT)
def test_a_written_fixture_computes_what_was_simulated(name: str, scheme: Scheme, tmp_path: Path) -> None:
    bench = calibrated(read_model(FIXTURES / "models" / f"{name}.onnx"))
    experiment = Experiment(scheme)
    file = written(bench, recipe_of(bench, experiment), tmp_path)
    # The file rounds scales of biases to half precision as well; with less other noise that weighs more.
    assert abs(apart(bench, bench, experiment, file)) < (1.5 if name == "fp16" else 0.5)


@pytest.mark.parametrize("name", ["healthy_mobilenet", "silu_gate"])
@pytest.mark.parametrize("scheme", [INT8_DYNAMIC, *STATIC], ids=lambda scheme: scheme.name)
def test_with_nodes_in_float(name: str, scheme: Scheme, tmp_path: Path) -> None:
    bench = calibrated(read_model(FIXTURES / "models" / f"{name}.onnx"), (scheme,))
    # All behind the first few: nothing between them has a scale, so ONNX Runtime does not quantise their weights.
    nodes = [node.name for node in bench.measured.model.nodes if node.name]
    experiment = Experiment(scheme, excluded=frozenset(nodes[len(nodes) // 3 :]))
    assert not without_range(bench, experiment)
    file = written(bench, recipe_of(bench, experiment), tmp_path)
    assert abs(apart(bench, bench, experiment, file)) < 0.5


def test_a_node_that_is_left_out_may_leave_tensors_without_a_range(tmp_path: Path) -> None:
    network = onnx_text(
        """agraph (float[N, 4] x) => (float[N, 4] y) {
          [first] a = Gemm(x, w)
          [relu] r = Relu(a)
          [second] y = Gemm(r, w)
        }""",
        w=RANDOM.standard_normal((4, 4)).astype(np.float32),
    )
    bench = calibrated(as_model(network))
    experiment = Experiment(INT8_PER_TENSOR, excluded=frozenset({"relu"}))
    assert without_range(bench, experiment) == ("a",)
    with pytest.raises(NotWritableError, match="'a' has no finite range"):
        recipe_of(bench, experiment)
    bench = bench.with_ranges({"a": (-3.0, 3.0)})
    file = written(bench, recipe_of(bench, experiment), tmp_path)
    assert abs(apart(bench, bench, experiment, file)) < 0.5


def test_names_that_others_would_give_to_nodes_are_left_out_of_a_recipe(tmp_path: Path) -> None:
    network = onnx_text(
        """agraph (float[N, 8] x) => (float[N, 8] y) {
          [first] a = MatMul(x, w)
          [bias] b = Add(a, c)
          [relu] r = Relu(b)
          [second] y = MatMul(r, w)
        }""",
        w=RANDOM.standard_normal((8, 8)).astype(np.float32),
        c=RANDOM.standard_normal(8).astype(np.float32),
    )
    bench = calibrated(as_model(network))
    product = next(bench.measured.model.nodes_of("MatMul"))
    listed = bench.measured.freer.names([product])
    assert "first/MatMulAddFusion" in listed, "for who prepares the model with ONNX Runtime"
    recipe = recipe_of(bench, Experiment(INT8_PER_TENSOR, excluded=frozenset(listed)))
    assert set(recipe.excluded) == {"first", "bias"} & set(listed)
    assert "first" in recipe.excluded and written(bench, recipe, tmp_path).nodes


@pytest.mark.parametrize("name", ["healthy_mobilenet", "silu_gate"])
def test_with_16_bits(name: str, tmp_path: Path) -> None:
    bench = calibrated(read_model(FIXTURES / "models" / f"{name}.onnx"))
    own = [place for place in bench.measured.placements if place.like == place.tensor and not place.constant]
    wide = frozenset(place.tensor for place in own[::2])
    experiment = Experiment(INT8_PER_CHANNEL, wide=wide)
    file = written(bench, recipe_of(bench, experiment), tmp_path)
    assert abs(apart(bench, bench, experiment, file)) < 0.5
    kinds = {tensor.data_type for tensor in file.proto.graph.initializer if tensor.name.endswith("_zero_point")}
    assert onnx.TensorProto.UINT16 in kinds and onnx.TensorProto.UINT8 in kinds
    everything = Experiment(INT8_PER_CHANNEL, wide=frozenset(place.tensor for place in own))
    errors = [
        run_variants(
            bench, {0: partial(bench.executable, one)}, partial(RandomSource().take, bench.measured.model.inputs, 4)
        )[0].worst_db
        for one in (Experiment(INT8_PER_CHANNEL), everything, Experiment(SCHEMES["int16-activations"]))
    ]
    assert errors[0] is not None and errors[1] is not None and errors[2] is not None
    assert errors[0] < errors[1] == pytest.approx(errors[2], abs=0.5)


def test_shifted_biases_are_in_the_file(tmp_path: Path) -> None:
    bench = calibrated(read_model(FIXTURES / "models" / "outlier_gamma.onnx"))
    layer = bench.measured.layers[0]
    shifts = {layer.output: RANDOM.standard_normal(layer.folded.layer.channels) * 0.01}
    experiment = Experiment(INT8_PER_CHANNEL)
    recipe = recipe_of(bench, experiment, shifts)
    changed = workbench(measure(corrected(bench.measured, shifts), STATIC))
    shifted = replace(changed, observations=bench.observations)
    file = written(bench, Recipe.from_json(recipe.as_json(), ""), tmp_path)
    assert abs(apart(bench, shifted, experiment, file)) < 0.5


def test_scales_of_each_run_and_a_gemm_in_float(tmp_path: Path) -> None:
    network = onnx_text(
        """agraph (float[N, 16] x) => (float[N, 16] y) {
          [first] a = Gemm <transB = 1> (x, w, b)
          [second] y = Gemm(a, v, b)
        }""",
        w=RANDOM.standard_normal((16, 16)).astype(np.float32),
        v=RANDOM.standard_normal((16, 16)).astype(np.float32),
        b=RANDOM.standard_normal(16).astype(np.float32),
    )
    bench = calibrated(as_model(network), (INT8_DYNAMIC,))
    experiment = Experiment(INT8_DYNAMIC, excluded=frozenset({"second"}))
    recipe = recipe_of(bench, experiment)
    assert not recipe.ranges and not recipe.observer
    file = written(bench, recipe, tmp_path)
    assert [node.op_type for node in file.nodes].count("MatMulInteger") == 1
    assert abs(apart(bench, bench, experiment, file)) < 0.5


@pytest.mark.skipif(find_spec("onnx_ir") is None, reason="MatMulNBitsQuantizer needs onnx_ir")
def test_blocks(tmp_path: Path) -> None:
    network = onnx_text(
        """agraph (float[N, 64] x) => (float[N, 8] y) {
          [first] a = MatMul(x, w)
          [second] y = MatMul(a, v)
        }""",
        w=RANDOM.standard_normal((64, 64)).astype(np.float32),
        v=RANDOM.standard_normal((64, 8)).astype(np.float32),
    )
    bench = calibrated(as_model(network), (INT4_BLOCKS,))
    experiment = Experiment(INT4_BLOCKS, excluded=frozenset({"second"}))
    file = written(bench, recipe_of(bench, experiment), tmp_path)
    assert [node.op_type for node in file.nodes] == ["MatMulNBits", "MatMul"]
    assert abs(apart(bench, bench, experiment, file)) < 0.5


def test_the_lines_do_the_same_by_themselves(tmp_path: Path) -> None:
    bench = calibrated(read_model(FIXTURES / "models" / "healthy_mobilenet.onnx"))
    recipe = recipe_of(bench, Experiment(INT8_PER_CHANNEL))
    ready = prepared_for(bench.measured, recipe)
    write_int8(ready, recipe, tmp_path / "ours.onnx")
    onnx.save(ready.proto, tmp_path / "float.onnx")
    (tmp_path / "recipe.json").write_text(json.dumps(recipe.as_json()))
    code = lines(recipe, Files("float.onnx", "recipe.json", "int8.onnx"))
    assert all(len(line) <= 120 for line in code.splitlines()) and "onnxlint" not in code
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / "int8.onnx").read_bytes() == (tmp_path / "ours.onnx").read_bytes()


def test_names_with_quotes_are_names(tmp_path: Path) -> None:
    text = "agraph (float[N, 4] x) => (float[N, 4] y) { y = Gemm(x, w) }"
    bench = calibrated(as_model(onnx_text(text, w=np.eye(4, dtype=np.float32))))
    recipe = recipe_of(bench, Experiment(INT8_PER_TENSOR))
    code = lines(recipe, Files("a'; import os; os._exit(3)#.onnx", 'r".json', "b\n.onnx"))
    compile(code, "lines", "exec")
    folder = tmp_path / 'it\'s "here"'
    folder.mkdir()
    assert written(bench, recipe, folder).nodes


def network_with_everything() -> onnx.ModelProto:
    """A shared bias, weights behind nodes, copies, a Constant that a subgraph reads, names that are missing."""
    return onnx_text(
        """agraph (float[N, 4] x, bool c) => (float[N, 4] z, float d) {
          d = Constant <value_float = 2.0> ()
          wt = Transpose(w)
          wc = Identity(w)
          a = Gemm(x, wt, b)
          r = Relu(a)
          e = MatMul(r, wc)
          f = Gemm(e, w, b)
          g = Mul(f, d)
          z = If (c) <then_branch = t () => (float[N, 4] p) { p = Mul(g, d) },
                      else_branch = u () => (float[N, 4] q) { q = Identity(r) }>
        }""",
        w=RANDOM.standard_normal((4, 4)).astype(np.float32),
        b=RANDOM.standard_normal(4).astype(np.float32),
    )


def feeds(branch: bool) -> dict[str, Array]:
    return {"x": RANDOM.standard_normal((3, 4)).astype(np.float32), "c": np.array(branch)}


MIXER = """agraph (float[{batch}, 6, 8] x) => (float[{batch}, 6, 8] y, float[{batch}, 6] p) {{
  [first] a = MatMul(x, w)
  [bias] b = Add(a, c)
  [relu] r = Relu(b)
  [second] d = MatMul(r, v)
  [other] e = Add(c, d)
  [sum] y = Add(x, e)
  [mean] m = ReduceMean <axes = [1], keepdims = 0> (y)
  [head] h = MatMul(m, u)
  [scores] p = Add(h, k)
}}"""


@pytest.mark.parametrize("scheme", STATIC, ids=lambda scheme: scheme.name)
@pytest.mark.parametrize("batch", ["2", "N"])
def test_products_with_a_bias_are_rounded_as_the_gemm_that_they_become(
    batch: str, scheme: Scheme, tmp_path: Path
) -> None:
    """Of rank 3 where the batch is known and all is quantised; two of these share a bias."""
    random, sizes = np.random.default_rng(1), {"w": (8, 8), "v": (8, 8), "u": (8, 6), "c": (8,), "k": (6,)}
    held = {name: random.standard_normal(size).astype(np.float32) for name, size in sizes.items()}
    measured = measure(as_model(versioned_text(13, "", MIXER.format(batch=batch), **held)), (scheme,))
    source = ArraySource("s", {"x": random.standard_normal((24, 6, 8)).astype(np.float32)})
    bench = workbench(measured).calibrated(observe(measured, source, 12))
    file = written(bench, recipe_of(bench, Experiment(scheme)), tmp_path)
    kinds = [node.op_type for node in file.nodes]
    fused = 3 if batch == "2" and not scheme.layers_only else 1
    assert (kinds.count("Gemm"), kinds.count("MatMul")) == (fused, 3 - fused)
    variants = {"ours": partial(bench.executable, Experiment(scheme)), "file": partial(as_stored, file)}
    errors = run_variants(bench, variants, partial(source.take, measured.model.inputs, 12))
    assert errors["ours"].worst_db == pytest.approx(errors["file"].worst_db, abs=0.1)


@pytest.mark.parametrize("branch", [True, False])
def test_the_prepared_model_computes_the_same(branch: bool) -> None:
    model = as_model(network_with_everything())
    ready = prepared(measure(model, STATIC), INT8_PER_TENSOR)
    given = feeds(branch)
    for before, after in zip(run(model.proto, given), run(ready.proto, given), strict=True):
        np.testing.assert_allclose(before, after, rtol=1e-6, atol=1e-6)
    onnx.checker.check_model(ready.proto, full_check=True)
    main = [node for node in ready.nodes if node.graph == "main"]
    assert not {"Constant", "Transpose"} & {node.op_type for node in main}
    assert all(node.name for node in main) and len({node.name for node in main}) == len(main)
    biases = [node.input(2) for node in main if node.op_type == "Gemm"]
    assert len(set(biases)) == 2
    assert next(node for node in main if node.op_type == "MatMul").input(1) == "w"
    assert ready.constant("d") is not None and ready.constant("d").shape == ()  # type: ignore[union-attr]


def test_a_subgraph_still_reads_behind_the_relu(tmp_path: Path) -> None:
    model = as_model(network_with_everything())
    measured = measure(model, STATIC)
    both = [feeds(branch) for branch in (True, False)]
    source = ArraySource("s", {"x": np.concatenate([one["x"] for one in both]), "c": np.array([True, False] * 3)})
    bench = workbench(measured).calibrated(observe(measured, source, 6))
    recipe = recipe_of(bench, Experiment(INT8_PER_TENSOR))
    assert recipe.keeps_activations
    file = written(bench, recipe, tmp_path)
    exact, rounded = (run(one.proto, both[1])[0] for one in (model, file))
    assert rounded.min() >= 0 and np.abs(exact - rounded).max() < 0.1 * np.abs(exact).max() + 0.5


def test_an_input_with_a_default_becomes_a_constant() -> None:
    proto = onnx_text(
        "agraph (float[N, 4] x, float[4, 4] w) => (float[N, 4] y) { y = MatMul(x, w) }", w=np.eye(4, dtype=np.float32)
    )
    ready = prepared(measure(as_model(proto), STATIC), INT8_PER_TENSOR)
    assert [value.name for value in ready.proto.graph.input] == ["x"]


def old(opset: int) -> Workbench:
    text = "agraph (float[N, 4] x) => (float[N, 4] y) { y = Gemm(x, w, b) }"
    arrays = {"w": np.eye(4, dtype=np.float32), "b": np.zeros(4, np.float32)}
    return calibrated(as_model(versioned_text(opset, "", text, **arrays)))


@pytest.mark.parametrize(
    ("scheme", "opset", "why"),
    [
        (INT8_PER_CHANNEL, 12, "needs opset 13"),
        (INT8_PER_TENSOR, 9, "needs opset 10"),
        (SCHEMES["fp8"], 17, "no quantiser"),
        (SCHEMES["int8-weight-only"], 17, "no quantiser"),
        pytest.param(
            INT4_BLOCKS,
            17,
            r"onnxlint-q\[int4\]",
            marks=pytest.mark.skipif(find_spec("onnx_ir") is not None, reason="MatMulNBitsQuantizer has what it needs"),
        ),
    ],
)
def test_what_cannot_be_written(scheme: Scheme, opset: int, why: str) -> None:
    with pytest.raises(NotWritableError, match=why):
        recipe_of(old(opset), Experiment(scheme))


def test_a_recipe_of_another_model() -> None:
    bench = old(17)
    recipe = recipe_of(bench, Experiment(INT8_PER_TENSOR))
    for other in (
        replace(recipe, ranges={"nowhere": (0.0, 1.0)}),
        replace(recipe, excluded=("nowhere",)),
        replace(recipe, wide=("nowhere",)),
        replace(recipe, shifts={"nowhere": (1.0,)}),
    ):
        with pytest.raises(UsageError, match="nowhere"):
            prepared_for(bench.measured, other)


def test_a_quantiser_that_fails_or_takes_too_long_is_told(tmp_path: Path) -> None:
    bench = old(17)
    recipe = recipe_of(bench, Experiment(INT8_PER_TENSOR))
    ready = prepared_for(bench.measured, recipe)
    with pytest.raises(NotWritableError, match="the quantiser took longer than"):
        write_int8(ready, recipe, tmp_path / "a.onnx", replace(DEFAULT_LIMITS, writing_seconds=0.01))
    with pytest.raises(NotWritableError, match="Quantization parameters are not specified"):
        write_int8(ready, replace(recipe, ranges={}), tmp_path / "b.onnx")
    assert not list(tmp_path.iterdir())


def test_weights_of_a_large_model_lie_beside_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxlint_q.graph.loading.save._MOST_INSIDE", 1)
    text = "agraph (float[N, 64] x) => (float[N, 64] y) { y = Gemm(x, w) }"
    bench = calibrated(as_model(onnx_text(text, w=RANDOM.standard_normal((64, 64)).astype(np.float32))))
    experiment = Experiment(INT8_PER_CHANNEL)
    file = written(bench, recipe_of(bench, experiment), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["int8.onnx", "int8.onnx.data"]
    assert abs(apart(bench, bench, experiment, file)) < 0.5
