"""What counts as good enough, and how much of a network is done in which format."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from onnx_cases import as_model, onnx_text

from onnxlint_q.analysis.experiment import Experiment
from onnxlint_q.analysis.measured import measure
from onnxlint_q.analysis.schemes import INT4_BLOCKS, INT8_PER_TENSOR
from onnxlint_q.execute.variants.output_error import OutputError
from onnxlint_q.judge.verdict import Verdict
from onnxlint_q.proof.recipe.goal import Goal
from onnxlint_q.proof.recipe.share import finer, shares


def error(decibel: float | None, agreement: float | None = None) -> OutputError:
    return OutputError(decibel, agreement, has_signal=True, samples=8)


def judged(one: OutputError) -> Verdict | None:
    return Verdict.SURVIVES if one.worst_db is None or one.worst_db > 14 else Verdict.BREAKS


def test_without_figures_a_model_has_to_survive() -> None:
    goal = Goal(judged)
    assert goal.reached(error(14.1)) and goal.reached(error(None)) and not goal.reached(error(13.9))


@pytest.mark.parametrize(
    ("least", "agreement", "found", "reached"),
    [
        (20.0, None, error(20.0), True),
        (20.0, None, error(19.9), False),
        (20.0, None, error(None), True),
        (None, 0.9, error(-3.0, 0.9), True),
        (None, 0.9, error(30.0, 0.89), False),
        (None, 0.9, error(30.0), False),
        (20.0, 0.9, error(25.0, 0.8), False),
        (20.0, 0.9, error(15.0, 0.99), False),
        (20.0, 0.9, error(25.0, 0.99), True),
    ],
)
def test_every_figure_that_is_asked_for_has_to_be_reached(
    least: float | None, agreement: float | None, found: OutputError, reached: bool
) -> None:
    assert Goal(judged, least, agreement).reached(found) is reached


def test_what_could_not_be_compared_reaches_nothing() -> None:
    nothing = replace(error(None, 1.0), has_signal=False)
    assert not any(goal.reached(nothing) for goal in (Goal(judged), Goal(judged, -100.0), Goal(judged, None, 0.1)))


TEXT = """
g (float[N,8] x) => (float[N,8] y) {
  a = MatMul(x, first)
  r = Relu(a)
  b = MatMul(r, second)
  y = Add(b, r)
}"""
WORK = {"a": 300.0, "b": 100.0}


def test_multiplications_are_counted_by_the_format_that_they_are_done_in() -> None:
    weight = np.random.default_rng(0).normal(size=(8, 8)).astype(np.float32)
    proto = onnx_text(TEXT, first=weight, second=weight + 1)
    for node in proto.graph.node:
        node.name = f"node_{node.output[0]}"
    measured = measure(as_model(proto), (INT8_PER_TENSOR, INT4_BLOCKS))
    whole = Experiment(INT8_PER_TENSOR)
    assert shares(measured, WORK, whole) == {"int8": 1.0} and finer(measured, WORK, whole) == 0.0
    one = replace(whole, excluded=frozenset({"node_b"}))
    assert shares(measured, WORK, one) == {"int8": 0.75, "float": 0.25} and finer(measured, WORK, one) == 0.25
    # A layer that reads 16 bits, or makes them.
    for tensor, share in (("r", 1.0), ("x", 0.75), ("y", 0.0)):
        wide = replace(whole, wide=frozenset({tensor}))
        assert finer(measured, WORK, wide) == share, tensor
    assert shares(measured, WORK, Experiment(INT4_BLOCKS)) == {"int4": 1.0}


def test_a_network_without_work_has_no_share_to_divide() -> None:
    weight = np.ones((8, 8), np.float32)
    measured = measure(as_model(onnx_text(TEXT, first=weight, second=weight)), (INT8_PER_TENSOR,))
    assert finer(measured, {}, Experiment(INT8_PER_TENSOR)) == 0.0
