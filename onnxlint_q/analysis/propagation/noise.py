"""What quantising one weight or one activation costs at the model's output, as noise power over signal power."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from onnxlint_q.analysis.folding import FoldedLayer
from onnxlint_q.analysis.propagation.layers import channel_axes, channel_rows, kernel_of
from onnxlint_q.analysis.propagation.population import IMAGES, POSITIONS, Samples, along
from onnxlint_q.analysis.propagation.transfer import Gain
from onnxlint_q.graph import Model

# Neighbouring places are alike: so many of them count as one when a mean is taken. With the correlations of 0.4 to the
# side and 0.1 across corners that rounding errors of weights showed in trained CNNs: 1 + 4 x 0.4 + 4 x 0.1.
CLUSTER = 3.0


_WIDE, _FEWEST = 1 << 19, 8


def weight_noise(
    model: Model, folded: FoldedLayer, error: npt.NDArray[np.float32], source: Samples, gain: Gain
) -> float:
    """Output noise for the weight error `[channels, taps]` of a layer that reads `source`.

    The error has a constant part, which no pooling averages away, and one that varies with the input.
    """
    layer = folded.layer
    axis_in, axis_out = channel_axes(layer)
    kernel = kernel_of(model, layer, error)
    values = along(source, axis_in, kernel.inputs)
    rows = channel_rows(gain.rows, axis_out, layer.channels)
    if kernel.taps == 1:
        # A wide layer has many weights, whose errors average out: a few images will do.
        step = int(np.clip(error.size // _WIDE, 1, IMAGES // _FEWEST))
        values, rows = (_by_image(a)[::step].reshape(-1, a.shape[1]) for a in (values, rows))
    made = kernel.push(values)
    shift = made.mean(axis=0)
    varying = made - shift
    return _power(rows, shift[None]) + _averaged(varying, gain.share) * _power(rows, varying)


def _averaged(error: Samples, share: float) -> float:
    """What pooling leaves of an error that varies, over what the few positions of the population leave of it.

    A mean over n places keeps all of the variance between images and `CLUSTER / n` of that within them.
    """
    means = _by_image(error).mean(axis=1)
    within = float((_by_image(error) - means[:, None]).var() * POSITIONS / (POSITIONS - 1))
    between = max(float(means.var()) - within / POSITIONS, 0.0)
    left = between + within * min(share * CLUSTER, 1.0) / POSITIONS
    return left / max(between + within / POSITIONS, 1e-30)


def _by_image(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return values.reshape(-1, POSITIONS, *values.shape[1:])


def _power(rows: Samples, error: Samples) -> float:
    """Mean over the images of `(Σ r · e)²`."""
    products = _by_image(np.einsum("sc,sc->s", rows, np.broadcast_to(error, rows.shape)).astype(np.float64))
    return float((products.sum(axis=1) ** 2).mean())


def saturated(noise: float, varying: float) -> float:
    """Noise over signal where the linear estimate is large.

    The quantised output stays within the range that the float output has, so at worst it varies without relation to
    it: the difference of two independent values of one variance has twice that variance. `varying` is the share of
    the signal power that is variance; what is constant (priors added behind a head) stays what it is.
    """
    return noise / (1 + noise / (2 * max(varying, 1e-6)))
