"""Samples that exercise the outputs are told from those that leave them at rest."""

from __future__ import annotations

from functools import partial

import numpy as np
from onnx_cases import as_model, onnx_text

from onnxlint_q.analysis.measured import measure
from onnxlint_q.execute.data.sources import ArraySource
from onnxlint_q.execute.variants.variant_runs import Samples
from onnxlint_q.execute.variants.workbench import Workbench, workbench
from onnxlint_q.proof.recipe.telling import telling

TEXT = "g (float[N,4] x) => (float[N,4] y) { h = Mul(x, factor) s = Sub(h, shift) y = Sigmoid(s) }"


def looked_at(*loud: int) -> tuple[Workbench, Samples]:
    """A detector that finds something in these of six samples."""
    model = as_model(onnx_text(TEXT, factor=np.full(1, 20, np.float32), shift=np.full(1, 10, np.float32)))
    values = np.zeros((6, 4), np.float32)
    values[list(loud), 0] = 1
    values[:, 1] = np.arange(6) / 100
    bench = workbench(measure(model))
    return bench, partial(ArraySource("x", {"x": values}).take, model.inputs, 6)


def test_samples_at_rest_are_left_out() -> None:
    chosen, count = telling(*looked_at(1, 4))
    assert count == 2
    assert [round(100 * float(sample["x"][0, 1])) for sample in chosen()] == [1, 4]
    assert len(list(chosen())) == 2


def test_all_are_taken_where_none_tells_anything() -> None:
    chosen, count = telling(*looked_at())
    assert count == len(list(chosen())) == 6
