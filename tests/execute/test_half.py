"""Networks as if they were float16: what does not fit, where it matters, and which nodes in float32 help."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx.reference import ReferenceEvaluator
from onnx_cases import as_model, onnx_text
from onnxruntime.transformers.float16 import convert_float_to_float16

from onnxlint_q.analysis.half.halved import Halved
from onnxlint_q.execute.data.sources import ArraySource
from onnxlint_q.execute.half.run import run_halved
from onnxlint_q.judge.facts import facts_of

Array = npt.NDArray[Any]

RMS_NORM = """
norm (float[N, 8] x) => (float[N, 8] y) {
  [square] s = Pow (x, two)
  [mean] m = ReduceMean <axes = [-1], keepdims = 1> (s)
  [guard] g = Add (m, eps)
  [root] r = Sqrt (g)
  [quotient] y = Div (x, r)
}
"""
LAYER_NORM = """
norm (float[N, 8] x) => (float[N, 8] y) {
  [first] m = ReduceMean <axes = [-1], keepdims = 1> (x)
  [centre] c = Sub (x, m)
  [square] s = Mul (c, c)
  [variance] v = ReduceMean <axes = [-1], keepdims = 1> (s)
  [guard] g = Add (v, eps)
  [root] r = Sqrt (g)
  [inverse] i = Reciprocal (r)
  [product] y = Mul (c, i)
}
"""
SUM_OF_SQUARES = """
norm (float[N, 8] x) => (float[N, 8] y) {
  [square] s = ReduceSumSquare <axes = [-1], keepdims = 1> (x)
  [guard] g = Add (s, eps)
  [root] r = Sqrt (g)
  [quotient] y = Div (x, r)
}
"""
SOFTMAX = """
scores (float[N, 8] x) => (float[N, 8] y) {
  [exponential] e = Exp (x)
  [sum] s = ReduceSum <keepdims = 1> (e, axes)
  [quotient] y = Div (e, s)
}
"""
CHOSEN_MASK = """
attention (float[N, 8] x, bool[N, 8] kept) => (float[N, 2] y) {
  [mask] m = Where (kept, x, lowest)
  [softmax] s = Softmax (m)
  [mixed] y = MatMul (s, values)
}
"""
COMPUTED_MASK = """
attention (float[N, 8] x, bool[N, 8] kept) => (float[N, 8] y) {
  k = Cast <to = 1> (kept)
  [inverse] i = Sub (one, k)
  [mask] m = Mul (i, lowest)
  [sum] s = Add (x, m)
  [softmax] y = Softmax (s)
}
"""


def float32(value: float) -> Array:
    return np.array(value, np.float32)


def loud(scale: float) -> Array:
    return np.asarray(np.random.default_rng(1).normal(size=(16, 8)) * scale, np.float32)


def halved(proto: onnx.ModelProto, arrays: Mapping[str, Array], *, whole: bool = True) -> Halved:
    facts = facts_of(as_model(proto))
    source = ArraySource("arrays", dict(arrays))
    return run_halved(facts, partial(source.take, facts.model.inputs, 32), whole=whole).halved


def computed(proto: onnx.ModelProto, x: Array) -> Array:
    (y,) = ReferenceEvaluator(proto).run(None, {"x": x})
    return np.asarray(y, np.float64)


def regions(found: Halved) -> list[list[str]]:
    return [[node.name for node in trial.hazards[0].nodes] for trial in found.trials]


@pytest.mark.parametrize(
    ("graph", "constants", "scale", "kept"),
    [
        (RMS_NORM, {"two": float32(2), "eps": float32(1e-5)}, 300, ["square", "mean", "guard", "root"]),
        (LAYER_NORM, {"eps": float32(1e-5)}, 300, ["square", "variance", "guard", "root"]),
        (SUM_OF_SQUARES, {"eps": float32(1e-5)}, 300, ["square", "guard", "root"]),
        (SOFTMAX, {"axes": np.array([-1])}, 6, ["exponential", "sum", "quotient"]),
    ],
)
def test_what_overflows_is_kept_to_its_root_or_quotient(
    graph: str, constants: Mapping[str, Array], scale: float, kept: list[str]
) -> None:
    found = halved(onnx_text(graph, **constants), {"x": loud(scale)})
    assert regions(found) == [kept]
    (trial,) = found.trials
    assert trial.hazards[0].overflows and trial.hazards[0].value > 65_520
    assert found.output_db is not None and found.output_db < 20
    assert trial.kept_db is not None and trial.kept_db > 50 and trial.share > 0.99


@pytest.mark.parametrize(
    ("graph", "constants"),
    [
        (RMS_NORM, {"two": float32(2), "eps": float32(1e-5)}),
        (LAYER_NORM, {"eps": float32(1e-5)}),
        (SUM_OF_SQUARES, {"eps": float32(1e-5)}),
        (SOFTMAX, {"axes": np.array([-1])}),
    ],
)
def test_healthy_networks_have_no_hazard(graph: str, constants: Mapping[str, Array]) -> None:
    found = halved(onnx_text(graph, **constants), {"x": loud(1)})
    assert found.trials == () and found.output_db is not None and found.output_db > 50


def test_the_simulation_is_what_the_reference_evaluator_computes_in_float16() -> None:
    proto, x = onnx_text(RMS_NORM, two=float32(2), eps=float32(1e-3)), loud(1)
    x[::2] *= 400
    found = halved(proto, {"x": x})
    half = convert_float_to_float16(onnx_text(RMS_NORM, two=float32(2), eps=float32(1e-3)))
    exact = computed(proto, x)
    with np.errstate(over="ignore"):
        true = computed(half, x.astype(np.float16))
    assert found.output_db == pytest.approx(10 * math.log10(np.sum(exact**2) / np.sum((exact - true) ** 2)), abs=0.5)


@pytest.mark.parametrize(("all_masked", "lost"), [(False, False), (True, True)])
def test_a_mask_that_becomes_infinite_harms_only_a_row_without_a_score(all_masked: bool, lost: bool) -> None:
    kept = np.random.default_rng(2).random((16, 8)) < 0.5
    kept[:, 0] = True
    kept[3] &= not all_masked
    found = halved(onnx_text(CHOSEN_MASK, lowest=float32(-1e9), values=loud(1)[:8, :2]), {"x": loud(1), "kept": kept})
    assert regions(found) == [["mask", "softmax"]]
    assert (found.output_db is not None and found.output_db < 0) == lost
    assert found.trials[0].kept_db is not None and found.trials[0].kept_db > 50


def test_infinity_times_zero_is_lost_and_a_clamped_constant_is_not() -> None:
    kept = np.random.default_rng(2).random((16, 8)) < 0.5
    kept[:, 0] = True
    proto = onnx_text(COMPUTED_MASK, one=float32(1), lowest=float32(-3.4e38))
    (trial,) = halved(proto, {"x": loud(1), "kept": kept}).trials
    assert [node.name for node in trial.hazards[0].nodes] == ["mask", "sum", "softmax"]
    assert trial.rounded_db == -150 and trial.kept_db is not None and trial.kept_db > 50
    assert trial.clamped_db is not None and trial.clamped_db > 50


def test_an_epsilon_that_vanishes_matters_where_the_variance_is_nothing() -> None:
    x = loud(1)
    x[5] = 0.25
    found = halved(onnx_text(LAYER_NORM, eps=float32(1e-8)), {"x": x})
    (trial,) = found.trials
    assert not trial.hazards[0].overflows and trial.hazards[0].reader is not None
    assert trial.hazards[0].reader.name == "inverse" and trial.rounded_db == -150
    assert trial.kept_db is not None and trial.kept_db > 50
    assert halved(onnx_text(LAYER_NORM, eps=float32(1e-8)), {"x": loud(1)}).trials == ()


def test_a_constant_divisor_that_vanishes_is_a_hazard() -> None:
    graph = "scaled (float[N, 8] x) => (float[N, 8] y) { s = Mul (x, unit) [quotient] y = Div (s, unit) }"
    (trial,) = halved(onnx_text(graph, unit=float32(1e-8)), {"x": loud(1)}).trials
    (hazard,) = trial.hazards
    assert hazard.reader is not None and hazard.reader.name == "quotient" and hazard.tensor == "unit"


def test_only_what_is_float16_is_rounded_in_a_float_file() -> None:
    graph = """
    mixed (float[N, 8] x) => (float[N, 8] y, float[N, 8] z) {
      [wide] z = Mul (x, x)
      [narrow] h = Cast <to = 10> (x)
      [square] s = Mul (h, h)
      [root] r = Sqrt (s)
      [back] y = Cast <to = 1> (r)
    }
    """
    found = halved(onnx_text(graph), {"x": loud(300)}, whole=False)
    assert regions(found) == [["square", "root"]]


def test_a_float16_file_is_read_in_float32() -> None:
    proto = convert_float_to_float16(onnx_text(RMS_NORM, two=float32(2), eps=float32(1e-5)))
    found = halved(proto, {"x": loud(300).astype(np.float16)}, whole=False)
    assert regions(found) == [["square", "mean", "guard", "root"]]
    assert found.trials[0].hazards[0].value > 500_000


def test_branches_are_rounded_too() -> None:
    body = "{graph} () => (float[N, 8] {name}) {{ {name}s = Mul (x, x) {name} = Sqrt ({name}s) }}"
    graph = f"""
    chosen (float[N, 8] x, bool take) => (float[N, 8] y) {{
      y = If (take) <then_branch = {body.format(graph="a", name="p")}, else_branch = {body.format(graph="b", name="q")}>
    }}
    """
    arrays = {"x": loud(300), "take": np.ones(16, bool)}
    proto = onnx_text(graph)
    found = halved(proto, {**arrays, "x": arrays["x"]})
    assert found.output_db == -150
