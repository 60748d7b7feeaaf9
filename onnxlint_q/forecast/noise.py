"""What quantising one weight or one activation costs at the model's output, as noise power over signal power."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from onnxlint_q.analysis.folding import FoldedLayer
from onnxlint_q.forecast.operators.layers import frame_of, kernel_of, product
from onnxlint_q.forecast.population import IMAGES, Samples
from onnxlint_q.forecast.transfer import ByImage, OutputCost
from onnxlint_q.forecast.unmodelled import UnmodelledError
from onnxlint_q.graph import Model

# Neighbouring places are alike: so many of them count as one when a mean is taken. With the correlations of 0.4 to the
# side and 0.1 across corners that rounding errors of weights showed in trained CNNs: 1 + 4 x 0.4 + 4 x 0.1.
CLUSTER = 3.0
_WIDE, _FEWEST = 1 << 19, 8
# Elements of products of rows and values that are worked on at a time: 4 MB.
_MET = 1 << 20
# Places of an image, times errors beyond the first, up to which each error is multiplied by itself: a sum that all
# share is as large as the weight, and it is written and read for each image.
_FEW = 32
Error = npt.NDArray[np.float32]
LEFT_OUT = -1.0
"""In place of a power, which is never negative."""


def weight_noise(
    model: Model, folded: FoldedLayer, errors: Sequence[Error], source: Samples, cost: OutputCost
) -> list[ByImage]:
    """Output noise by image for each weight error `[channels, taps]` of a layer that reads `source`.

    The error has a constant part, which no pooling averages away, and one that varies with the input. `LEFT_OUT` for
    an image that was not looked at.

    Raises:
        UnmodelledError: the layer was passed through as an operator without a rule.
    """
    layer = folded.layer
    frame = frame_of(layer, source.shape[1:])
    kernels = [kernel_of(model, layer, error) for error in errors]
    kernel = kernels[0]
    values = frame.read(source, kernel.inputs).reshape(-1, kernel.inputs)
    rows = frame.read_rows(cost.rows, layer.channels).reshape(-1, layer.channels)
    # A wide layer has many weights, whose errors average out: a few images will do.
    step = int(np.clip(errors[0].size // _WIDE, 1, IMAGES // _FEWEST)) if kernel.taps == 1 else 1
    if step > 1:
        values, rows = (a.reshape(IMAGES, -1, a.shape[1])[::step].reshape(-1, a.shape[1]) for a in (values, rows))
    share = np.broadcast_to(cost.share, IMAGES)[::step]
    if len(values) != len(rows):
        raise UnmodelledError("its result is not represented")
    if kernel.is_matrix and (share * CLUSTER >= 1).all():
        matrices = [each.blocks[0, ..., 0] for each in kernels]
        return [_spread(powers * layer.factor**2, step) for powers in _unpooled(rows, values, matrices, len(share))]
    found: list[ByImage] = []
    for each in kernels:
        output_error = each.push(values) * np.float32(layer.factor)
        shift = output_error.mean(axis=0)
        output_error -= shift
        alone = _averaged(output_error.reshape(len(share), -1, layer.channels), share)
        varying = np.einsum("sc,sc->s", rows, output_error)
        powers = _powers(rows @ shift, len(share)) + alone * _powers(varying, len(share))
        found.append(_spread(powers, step))
    return found


def _spread(powers: ByImage, step: int) -> ByImage:
    """Those of every so many images among all of them."""
    found = np.full(IMAGES, LEFT_OUT)
    found[::step] = powers
    return found


def _unpooled(rows: Samples, values: Samples, errors: Sequence[Error], images: int) -> list[ByImage]:
    """The same for matrices whose result no pooling averages."""
    centre = values.mean(axis=0)
    sums = rows.reshape(images, -1, rows.shape[1]).sum(axis=1)
    constant = [sums @ (error @ centre) for error in errors]
    made = _one_by_one if (len(errors) - 1) * (len(rows) // images) <= _FEW else _all_at_once
    varying = made(rows, values - centre, errors, images)
    return [np.square(a.astype(np.float64)) + np.square(b) for a, b in zip(constant, varying, strict=True)]


def _one_by_one(rows: Samples, values: Samples, errors: Sequence[Error], images: int) -> list[ByImage]:
    """`Σ r · E x` of each image, for each error."""
    products = (np.einsum("sc,sc->s", rows, product(values, error.T)) for error in errors)
    return [product.reshape(images, -1).sum(axis=1, dtype=np.float64) for product in products]


def _all_at_once(rows: Samples, values: Samples, errors: Sequence[Error], images: int) -> list[ByImage]:
    """The same: the sum of the elements of `E` times those of `Σ r x^T`, which is found once for all of the errors."""
    rows, values = (part.reshape(images, -1, part.shape[1]) for part in (rows, values))
    varying = [np.zeros(images) for _ in errors]
    if not errors[0].flags.c_contiguous:  # parts of the error are to be read as they lie in memory
        rows, values, errors = values, rows, [error.T for error in errors]
    channels, width = errors[0].shape
    part = max(_MET // (images * width), 1)
    for start in range(0, channels, part):
        met = rows[..., start : start + part].swapaxes(1, 2) @ values
        for at, error in enumerate(errors):
            varying[at] += met.reshape(images, -1) @ error[start : start + part].ravel()
    return varying


def _averaged(error: Samples, share: ByImage) -> ByImage:
    """What pooling leaves of an error `[images, places, channels]`, over what the few places of the population leave.

    A mean over n places keeps all of the variance between images and `CLUSTER / n` of that within them.
    """
    places, pooled = error.shape[1], share * CLUSTER
    if (pooled >= 1).all():
        return np.ones_like(share)
    means = error.mean(axis=1)
    # The sum of squares about the means of the images.
    squares = float(np.vdot(error, error)) - places * float(np.vdot(means, means))
    within = max(squares, 0.0) / error.size * places / max(places - 1, 1)
    between = max(float(means.var()) - within / places, 0.0)
    left = between + within * pooled / places
    return np.asarray(np.where(pooled >= 1, 1.0, left / max(between + within / places, 1e-30)))


def _powers(products: Samples, images: int) -> ByImage:
    """`(Σ r · e)²` of each image, from the product of each sample."""
    return np.asarray(np.square(products.reshape(images, -1).sum(axis=1, dtype=np.float64)))


def saturated(noise: float, varying: float) -> float:
    """Noise over signal where the linear estimate is large.

    The quantised output stays within the range that the float output has, so at worst it varies without relation to
    it: the difference of two independent values of one variance has twice that variance. `varying` is the share of
    the signal power that is variance; what is constant (priors added behind a head) stays what it is.
    """
    return noise / (1 + noise / (2 * max(varying, 1e-6)))
