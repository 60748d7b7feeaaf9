"""How much of a network's arithmetic leaves 8 bits with a tensor."""

from __future__ import annotations

import numpy as np
import pytest
from onnx_cases import as_model, versioned_text

from onnxlint_q.analysis.experiment import Experiment
from onnxlint_q.analysis.measured import Measured, measure
from onnxlint_q.analysis.schemes import INT8_PER_CHANNEL
from onnxlint_q.proof.recipe.share import WIDE, finer, shares

POOLED = """
pooled (float[1, 2, 8, 8] x) => (float[1, 2, 4, 4] y) {
  a = Conv <pads = [1, 1, 1, 1]> (x, w)
  b = Sigmoid(a)
  c = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (b)
  d = Conv <pads = [1, 1, 1, 1]> (c, v)
  y = Sigmoid(d)
}"""
EACH = {"a": 300.0, "d": 100.0}


def pooled() -> Measured:
    draw = np.random.default_rng(1)
    weights = {key: draw.normal(size=(2, 2, 3, 3)).astype(np.float32) for key in ("w", "v")}
    return measure(as_model(versioned_text(17, "", POOLED, **weights)), [INT8_PER_CHANNEL])


@pytest.mark.parametrize(("tensor", "share"), [("x", 0.75), ("a", 0.75), ("b", 0.25), ("d", 0.25), ("y", 0.0)])
def test_layers_that_read_or_make_it_leave_8_bits(tensor: str, share: float) -> None:
    one = Experiment(INT8_PER_CHANNEL, wide=frozenset({tensor}))
    assert finer(pooled(), EACH, one) == pytest.approx(share)


def test_a_layer_that_reads_its_values_where_they_are_moved_to_is_one_of_them() -> None:
    one = Experiment(INT8_PER_CHANNEL, wide=frozenset({"b"}))
    assert shares(pooled(), EACH, one) == pytest.approx({"int8": 0.75, WIDE: 0.25})
