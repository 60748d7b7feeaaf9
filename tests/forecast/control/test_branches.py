"""The branches of If in the forecast."""

from __future__ import annotations

import numpy as np
import pytest
from onnx_cases import as_model, onnx_text

from onnxlint_q.analysis.measured import measure
from onnxlint_q.analysis.schemes import INT8_PER_TENSOR
from onnxlint_q.forecast.forecast import Forecast, forecast
from onnxlint_q.forecast.network import noise_model

BRANCHES = """
g (float[N, 8] x{inputs}) => (float[N, {width}] y) {{
  h = MatMul(x, first)
  y = If({condition}) <
    then_branch = a () => (float[N, 4] t) {{ t = MatMul(h, wide) }},
    else_branch = b () => (float[N, 4] e) {{ r = Relu(h) e = MatMul(r, narrow) }}
  >
}}
"""
STRAIGHT = "g (float[N, 8] x) => (float[N, 4] y) {{ h = MatMul(x, first) {body} }}"


def weights() -> dict[str, np.ndarray]:
    draw = np.random.default_rng(0)
    return {name: draw.normal(size=(8, n)).astype(np.float32) for name, n in (("first", 8), ("wide", 4), ("narrow", 4))}


def told(text: str, **more: np.ndarray) -> Forecast:
    measured = measure(as_model(onnx_text(text, **weights(), **more)), (INT8_PER_TENSOR,))
    return forecast(noise_model(measured), measured.layers, (INT8_PER_TENSOR,))["int8-per-tensor"]


def figure(made: Forecast, result: str) -> float | None:
    (row,) = (row for key, row in made.layers.items() if key.rpartition("/")[2] == result)
    return row.weight_sqnr_db


THEN, ELSE = "y = MatMul(h, wide)", "r = Relu(h) y = MatMul(r, narrow)"


@pytest.mark.parametrize("taken", [True, False])
def test_a_branch_that_the_file_decides_counts_as_if_it_were_the_graph(taken: bool) -> None:
    made = told(BRANCHES.format(inputs="", condition="c", width=4), c=np.asarray(taken))
    alone = told(STRAIGHT.format(body=THEN if taken else ELSE))
    assert figure(made, "t" if taken else "e") == pytest.approx(figure(alone, "y"), abs=0.5)
    assert figure(made, "h") == pytest.approx(figure(alone, "h"), abs=0.5)
    assert figure(made, "e" if taken else "t") is None
    assert not made.unknown and not made.open_branches


def test_a_branch_that_nothing_decides_is_the_first_and_the_other_has_figures_too() -> None:
    made = told(BRANCHES.format(inputs=", bool c", condition="c", width=4))
    for result, body in (("t", THEN), ("e", ELSE)):
        assert figure(made, result) == pytest.approx(figure(told(STRAIGHT.format(body=body)), "y"), abs=0.5)
    assert figure(made, "h") == pytest.approx(figure(told(STRAIGHT.format(body=THEN)), "h"), abs=0.5)
    assert made.open_branches == ("y",)


def test_branches_without_layers_are_not_worth_a_word() -> None:
    made = told(
        """
        g (float[N, 8] x, bool c) => (float[N, 4] y) {
          h = MatMul(x, first)
          r = If(c) <then_branch = a () => (float[N, 8] t) { t = Relu(h) },
                     else_branch = b () => (float[N, 8] e) { e = Identity(h) }>
          y = MatMul(r, wide)
        }
        """
    )
    assert figure(made, "h") is not None and not made.unknown and not made.open_branches


def test_a_condition_on_a_rank_is_decided_from_the_samples() -> None:
    made = told(
        """
        g (float[N, 8] x) => (float[N, 4] y) {
          h = MatMul(x, first)
          s = Shape(h)
          n = Size(s)
          flat = Equal(n, two)
          deep = Not(flat)
          r = If(deep) <then_branch = a () => (float[N, 8] t) { t = Flatten(h) },
                        else_branch = b () => (float[N, 8] e) { e = MatMul(h, first) }>
          y = MatMul(r, wide)
        }
        """,
        two=np.asarray(2),
    )
    assert figure(made, "e") is not None and not made.open_branches


def test_a_branch_that_returns_more_than_the_node_has_is_named() -> None:
    made = told(
        """
        g (float[N, 8] x, bool c) => (float[N, 4] y) {
          h = MatMul(x, first)
          y = If(c) <then_branch = a () => (float[N, 4] t, float[N, 4] more) { t = MatMul(h, wide) more = Relu(t) },
                     else_branch = b () => (float[N, 4] e, float[N, 4] other) { e = MatMul(h, narrow) other = Relu(e) }>
        }
        """
    )
    assert made.unknown["If"] == "its branch does not fit its outputs"
