"""What a run saw of an activation, beside the codes that it gets."""

from __future__ import annotations

import numpy as np

from onnxlint_q.analysis.number_formats import UINT8
from onnxlint_q.analysis.observed.observations import TensorObservation
from onnxlint_q.workflow.pictures.values import OnGrid
from onnxlint_q.workflow.pictures.weights import PARTS


def activation_of(tensor: str, seen: TensorObservation) -> OnGrid | None:
    """The values seen, with a scale for uint8 from the smallest to the largest; None where all are one."""
    low, high = min(seen.low, 0.0), max(seen.high, 0.0)
    step = (high - low) / (UINT8.largest - UINT8.lowest)
    if not step > 0 or not np.isfinite(step):
        return None
    edges = np.linspace(low, high, PARTS + 1)
    below = seen.histogram.below(edges)
    counts = np.diff(below)
    counts[0] += below[0]
    centres, weights = seen.histogram.centres, seen.histogram.counts
    codes = np.unique(np.round(centres[weights > 0] / step)).size
    return OnGrid(f"values of {tensor}", low, high, tuple(round(count) for count in counts), step, 0.0, int(codes))
