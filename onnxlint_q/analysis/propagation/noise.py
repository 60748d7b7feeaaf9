"""The noise that quantising one layer's weight makes at the model's output."""

from __future__ import annotations

import numpy as np

from onnxlint_q.analysis.folding import FoldedLayer
from onnxlint_q.analysis.propagation.linear import (
    TAP_CORRELATION,
    Floats,
    as_blocks,
    axes_of,
    channel_gain,
    density,
    row_products,
)
from onnxlint_q.analysis.propagation.signal import Array, Moments
from onnxlint_q.analysis.propagation.transfer import Gain

# A mean shift is worth less than its power: what follows partly compensates it, and decisions are differences.
SHIFT_WEIGHT = 0.1


def weight_noise(folded: FoldedLayer, error: Floats, source: Moments, gain: Gain) -> float:
    """Noise over signal at the output for the weight error `[channels, taps]`; `source` is the layer's input."""
    layer = folded.layer
    blocks = as_blocks(layer, error)
    groups, _, inputs, _ = blocks.shape
    axis_in, axis_out = axes_of(layer)
    mean, var = source.along(axis_in, groups * inputs)
    rows, own, _ = channel_gain(gain, axis_out, layer.channels)
    share = density(layer)
    together = blocks.sum(axis=3)
    varying = _through(together, own, rows, var) * TAP_CORRELATION * share**2
    if blocks.shape[3] == 1:
        varying /= TAP_CORRELATION
    else:
        apart = sum(_through(blocks[..., p], own, rows, var) for p in range(blocks.shape[3]))
        varying += (1 - TAP_CORRELATION) * apart * share
    shift = (together @ mean.astype(np.float32).reshape(groups, inputs, 1)).ravel() * share
    shifted = float(((rows @ shift) ** 2).mean() + own @ shift**2)
    return varying + SHIFT_WEIGHT * shifted


def _through(error: Floats, own: Floats, rows: Floats, var: Array) -> float:
    """`Σ_i var_i (mean_k (Σ_c row_kc e_ci)² + Σ_c own_c e_ci²)` for `e` as `[group, outputs, inputs]`."""
    coherent = (row_products(rows, error) ** 2).mean(axis=0)
    apart = row_products(own[None], error**2)[0]
    return float((coherent + apart) @ var)
