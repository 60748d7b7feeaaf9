"""Ranges of synthetic inputs: wider, but never beyond what bounds a tensor on any input."""

from __future__ import annotations

import numpy as np
import pytest
from onnx_cases import as_model, onnx_text

from onnxlint_q.analysis.causes.known_ranges import KnownRanges
from onnxlint_q.analysis.causes.widening import WIDENING, widened
from onnxlint_q.analysis.observed.observations import TensorObservation

TEXT = """g (float[1, 4] x) => (float[1, 4] out) {
    relu = Relu (x)
    cut = Clip (x, zero, six)
    gate = Sigmoid (x)
    flat = LpNormalization <axis = 1> (x)
    out = Sum (relu, cut, gate, flat)
}"""
KNOWN = KnownRanges(as_model(onnx_text(TEXT, zero=np.float32(0), six=np.float32(6))))


@pytest.mark.parametrize(
    ("tensor", "seen", "expected"),
    [
        ("x", (-1.0, 2.0), (-WIDENING, 2 * WIDENING)),
        ("relu", (0.0, 2.0), (0.0, 2 * WIDENING)),
        ("cut", (0.0, 3.0), (0.0, 3 * WIDENING)),
        ("cut", (0.0, 5.0), (0.0, 6.0)),
        # Made-up values leave a score near zero, data takes it to one; a part of a sum of squares stays small.
        ("gate", (0.01, 0.05), (0.0, 1.0)),
        ("flat", (-0.1, 0.1), (-0.1 * WIDENING, 0.1 * WIDENING)),
    ],
)
def test_ends_move_away_from_zero_as_far_as_nothing_bounds_them(
    tensor: str, seen: tuple[float, float], expected: tuple[float, float]
) -> None:
    assert widened(tensor, TensorObservation.of(seen), KNOWN) == pytest.approx(expected)
