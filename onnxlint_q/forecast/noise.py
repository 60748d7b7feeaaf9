"""What quantising one weight or one activation costs at the model's output, as noise power over signal power."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from onnxlint_q.analysis.folding import FoldedLayer
from onnxlint_q.forecast.operators.layers import frame_of, kernel_of
from onnxlint_q.forecast.population import IMAGES, Samples
from onnxlint_q.forecast.transfer import ByImage, OutputCost
from onnxlint_q.forecast.unmodelled import UnmodelledError
from onnxlint_q.graph import Model

# Neighbouring places are alike: so many of them count as one when a mean is taken. With the correlations of 0.4 to the
# side and 0.1 across corners that rounding errors of weights showed in trained CNNs: 1 + 4 x 0.4 + 4 x 0.1.
CLUSTER = 3.0
_WIDE, _FEWEST = 1 << 19, 8
LEFT_OUT = -1.0
"""In place of a power, which is never negative."""


def weight_noise(
    model: Model, folded: FoldedLayer, error: npt.NDArray[np.float32], source: Samples, cost: OutputCost
) -> ByImage:
    """Output noise by image for the weight error `[channels, taps]` of a layer that reads `source`.

    The error has a constant part, which no pooling averages away, and one that varies with the input. `LEFT_OUT` for
    an image that was not looked at.

    Raises:
        UnmodelledError: the layer was passed through as an operator without a rule.
    """
    layer = folded.layer
    frame = frame_of(layer, source.shape[1:])
    kernel = kernel_of(model, layer, error)
    values = frame.read(source, kernel.inputs).reshape(-1, kernel.inputs)
    rows = frame.read_rows(cost.rows, layer.channels).reshape(-1, layer.channels)
    # A wide layer has many weights, whose errors average out: a few images will do.
    step = int(np.clip(error.size // _WIDE, 1, IMAGES // _FEWEST)) if kernel.taps == 1 else 1
    if step > 1:
        values, rows = (a.reshape(IMAGES, -1, a.shape[1])[::step].reshape(-1, a.shape[1]) for a in (values, rows))
    share = np.broadcast_to(cost.share, IMAGES)[::step]
    if len(values) != len(rows):
        raise UnmodelledError("its result is not represented")
    output_error = kernel.push(values) * np.float32(layer.factor)
    shift = output_error.mean(axis=0)
    varying = output_error - shift
    alone = _averaged(varying.reshape(len(share), -1, layer.channels), share)
    found = np.full(IMAGES, LEFT_OUT)
    found[::step] = _powers(rows, shift[None], len(share)) + alone * _powers(rows, varying, len(share))
    return found


def _averaged(error: Samples, share: ByImage) -> ByImage:
    """What pooling leaves of an error `[images, places, channels]`, over what the few places of the population leave.

    A mean over n places keeps all of the variance between images and `CLUSTER / n` of that within them.
    """
    places, pooled = error.shape[1], share * CLUSTER
    if (pooled >= 1).all():
        return np.ones_like(share)
    means = error.mean(axis=1)
    within = float((error - means[:, None]).var() * places / max(places - 1, 1))
    between = max(float(means.var()) - within / places, 0.0)
    left = between + within * pooled / places
    return np.asarray(np.where(pooled >= 1, 1.0, left / max(between + within / places, 1e-30)))


def _powers(rows: Samples, error: Samples, images: int) -> ByImage:
    """`(Σ r · e)²` of each image."""
    products = np.einsum("sc,sc->s", rows, np.broadcast_to(error, rows.shape)).reshape(images, -1)
    return np.asarray(np.square(products.sum(axis=1, dtype=np.float64)))


def saturated(noise: float, varying: float) -> float:
    """Noise over signal where the linear estimate is large.

    The quantised output stays within the range that the float output has, so at worst it varies without relation to
    it: the difference of two independent values of one variance has twice that variance. `varying` is the share of
    the signal power that is variance; what is constant (priors added behind a head) stays what it is.
    """
    return noise / (1 + noise / (2 * max(varying, 1e-6)))
