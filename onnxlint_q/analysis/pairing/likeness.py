"""How much two layers' weights look alike, whatever quantisation and folding did to them.

The likeness of two weights `[channels, taps]` is a cosine, the larger of two:

- mean over the channels of the cosine between their taps: blind to a factor on a channel, which is all that folding a
  BatchNormalization, equalising neighbours or a scale per channel changes;
- the cosine of the whole weights: blind to channels that one scale for the tensor rounded to zero.

1 is the same weight, 0 is what unrelated weights have on average.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from onnxlint_q.analysis.folding import FoldedLayer
from onnxlint_q.graph import Model

Matrix = npt.NDArray[np.float64]
# What is looked at of a weight; a larger one is sampled evenly, at the same places in both files.
_CHANNELS, _TAPS = 64, 256
# Cosines of so few numbers say next to nothing about a channel.
_FEWEST_TAPS = 4


def likeness(
    reference: Model, layers: Sequence[FoldedLayer], other: Model, others: Sequence[FoldedLayer]
) -> npt.NDArray[np.float64]:
    """Likeness of each of `layers` to each of `others`, `[layers, others]`; all weights have one matrix shape."""
    ours, theirs = _fingerprints(reference, layers), _fingerprints(other, others)
    whole = _unit(ours.reshape(len(ours), -1)) @ _unit(theirs.reshape(len(theirs), -1)).T
    if ours.shape[-1] < _FEWEST_TAPS:
        return whole
    # A unit vector a channel, and then one for all of them that are not zero: the product is a mean of cosines.
    by_channel = _unit(_unit(ours).reshape(len(ours), -1)) @ _unit(_unit(theirs).reshape(len(theirs), -1)).T
    return np.asarray(np.maximum(whole, by_channel), np.float64)


def _fingerprints(model: Model, layers: Sequence[FoldedLayer]) -> Matrix:
    """Weights thinned out, `[layers, channels, taps]`."""
    return np.stack([_thin(layer.matrix(model)) for layer in layers])


def _thin(matrix: npt.NDArray[np.float32]) -> Matrix:
    rows, columns = (
        np.unique(np.linspace(0, size - 1, min(size, most)).astype(np.int64))
        for size, most in zip(matrix.shape, (_CHANNELS, _TAPS), strict=True)
    )
    return np.nan_to_num(matrix[np.ix_(rows, columns)].astype(np.float64), posinf=0.0, neginf=0.0)


def _unit(vectors: Matrix) -> Matrix:
    norm = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.where(norm > 0, norm, 1.0), np.float64)
