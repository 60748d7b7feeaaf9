"""A tensor before anything runs: a population of samples of it.

Of each of `IMAGES` images some samples of the channel vector at one place of the tensor: `POSITIONS` of them, or as
many as there are tokens in a sequence. The samples of one image share what its places have in common, so a mean over
places is a mean over them. What a place's neighbours hold, which a kernel's
taps read, is another sample of the same image, correlated with the first: `mean + sqrt(r) (x - mean) + sqrt(1 - r)
(x' - mean)` with `x'` a permutation within the image. That is a mean-field picture of a convolutional network:
correlations between channels are kept, geometry is not.

Measured on photographs with four trained CNNs: pre-activations side by side correlate by 0.2 to 0.7 in nearly every
layer, most often by about 0.5, across a corner by 0.2, and 0.02 to 0.25 of their variance lies between images, most
often 0.1. Errors that rounded weights make correlate by 0.4 and 0.1.

Arrays are `[samples, *shape]`; `shape` has the rank of the tensor, and an axis along which nothing is known to differ
(batch, height, width, tokens) has length 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from math import sqrt
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxlint_q.cores import portions

Samples = npt.NDArray[np.float32]

# More images give steadier figures and take longer, both in proportion. So many positions stand for the places of an
# image, which are alike; tokens are not (module `inputs.tokens`).
IMAGES, POSITIONS = 48, 8
SIZE = IMAGES * POSITIONS
# Mean over the pairs of taps of a 3 x 3 kernel: of its 36 pairs 12 are neighbours, 8 touch at a corner, the rest are
# further apart. From the figures above: 0.21 for values, 0.15 for errors.
NEIGHBOUR_CORRELATION = 0.17
# The same for pixels of photographs, which correlate by 0.95 side by side.
IMAGE_CORRELATION = 0.9
IMAGE_SHARE = 0.1
# Of speech: the median amplitude and its spread in powers of ten, and how samples side by side correlate at 16 kHz.
LOUDNESS, LOUDNESS_SPREAD, TONE = 0.02, 0.5, np.float32(0.9)
_SEED = 20211
# Powers and exponentials can overflow float32 squares; beyond this a value carries no information.
HUGE = np.float32(1e15)
# Elements that are moved at a time: with what they are added to they stay in the cache.
_AT_ONCE = 1 << 16


def finite(values: npt.NDArray[Any]) -> Samples:
    """Samples in float32 without NaN and infinities; themselves where they have none."""
    if values.size and values.min() >= -HUGE and values.max() <= HUGE:  # neither is true of NaN
        return np.asarray(values, np.float32)
    values = np.clip(values, -HUGE, HUGE)
    if not np.isfinite(values).all():
        values = np.nan_to_num(values, nan=0.0)
    return np.asarray(values, np.float32)


def positions_of(samples: Samples) -> int:
    """How many samples an image has."""
    return len(samples) // IMAGES


def per_image(samples: Samples) -> Samples:
    """The samples as `[images, positions, ...]`."""
    return samples.reshape(IMAGES, positions_of(samples), *samples.shape[1:])


def image_power(samples: Samples) -> npt.NDArray[np.float64]:
    """Sum of squares of each image, `[images]`."""
    rows = samples.reshape(IMAGES, -1)
    return np.asarray(np.einsum("ij,ij->i", rows, rows), np.float64)


def image_mean(samples: Samples) -> Samples:
    """Each sample replaced by the mean of its image; its own adjoint."""
    grouped = per_image(samples)
    mean = grouped.mean(axis=1, keepdims=True)
    return np.broadcast_to(mean, grouped.shape).reshape(samples.shape)


@lru_cache(maxsize=128)
def neighbours(count: int, positions: int) -> tuple[tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]], ...]:
    """`count` permutations of the samples within their images of so many positions, each with its inverse."""
    draw = np.random.default_rng(_SEED + count)
    first = np.arange(IMAGES)[:, None] * positions
    pairs = []
    for _ in range(count):
        order = (first + draw.permuted(np.tile(np.arange(positions), (IMAGES, 1)), axis=1)).ravel()
        pairs.append((order, np.argsort(order)))
    return tuple(pairs)


def _mixture(correlation: float) -> tuple[np.float32, np.float32]:
    return np.float32(sqrt(correlation)), np.float32(sqrt(1 - correlation))


def neighbour(samples: Samples, order: npt.NDArray[np.intp]) -> Samples:
    """What one neighbour holds; with the inverse of the permutation, the adjoint."""
    near, far = _mixture(NEIGHBOUR_CORRELATION)
    centre = image_mean(samples)
    deviation = samples - centre
    return np.asarray(centre + near * deviation + far * deviation[order], np.float32)


def read_taps(
    samples: Samples,
    taps: int,
    read: Callable[[int, Samples], Samples],
    total: Samples,
    correlation: float = NEIGHBOUR_CORRELATION,
) -> Samples:
    """A linear map summed over the taps of a kernel, each tap reading its own neighbour.

    Args:
        samples: at the input.
        taps: how many.
        read: what tap `t` makes of samples.
        total: what all taps together make of `samples`, were they all to read the same.
        correlation: between what two taps read.
    """
    if taps == 1:
        return total
    near, far = _mixture(correlation)
    centre = image_mean(samples)
    deviation = samples - centre
    # `read` is linear, so its image mean is the map of the image mean.
    common = image_mean(total)
    result = common + near * (total - common)
    for tap, (order, _) in enumerate(neighbours(taps, positions_of(samples))):
        result += far * read(tap, deviation[order])
    return result


def write_taps(
    rows: Samples,
    taps: int,
    write: Callable[[int, Samples], Samples],
    total: Samples,
    correlation: float = NEIGHBOUR_CORRELATION,
) -> tuple[Samples, npt.NDArray[np.float64]]:
    """The adjoint of `read_taps`: `write` is the adjoint of `read`, `total` of all taps together applied to `rows`.

    Also gives the power of the taps' own rows, over the power of the result, of each image.
    """
    if taps == 1:
        return total, np.ones(IMAGES)
    near, far = _mixture(correlation)
    common = image_mean(total)
    result = common + near * (total - common)
    apart = np.zeros(IMAGES)
    for tap, (_, inverse) in enumerate(neighbours(taps, positions_of(rows))):
        back = write(tap, rows)[inverse]
        apart += image_power(back)
        result += far * (back - image_mean(back))
    return result, ratio(apart, image_power(result))


def ratio(part: npt.NDArray[np.float64], whole: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """One by the other; 1 where there is nothing."""
    return np.divide(part, whole, out=np.ones_like(whole), where=whole > 0)


def read_apart(samples: Samples, together: Samples, apart: Samples, correlation: float) -> Samples:
    """`read_taps` of a depthwise kernel: every channel by itself, so its taps are numbers.

    Args:
        samples: `[samples, channels]` at the input.
        together: sum of the taps, by channel.
        apart: `[taps, channels]`.
        correlation: between what two taps read.
    """
    near, far = _mixture(correlation)
    centre = image_mean(samples)
    deviation = samples - centre
    result = np.asarray(centre * together + deviation * (near * together), np.float32)
    _add_moved(result, deviation, [order for order, _ in neighbours(len(apart), positions_of(samples))], far * apart)
    return result


def _add_moved(result: Samples, values: Samples, orders: Sequence[npt.NDArray[np.intp]], weights: Samples) -> None:
    """Add to the result what values come to in each of some orders within their images, times weights by channel."""
    positions = positions_of(values)
    for images in portions(IMAGES, values[:positions].size, _AT_ONCE):
        part = slice(images.start * positions, min(images.stop, IMAGES) * positions)
        mine = result[part]
        met = np.empty_like(mine)
        for order, weight in zip(orders, weights, strict=True):
            np.take(values, order[part], axis=0, out=met, mode="clip")  # none is out of bounds; checking takes longer
            met *= weight
            mine += met


def write_apart(
    rows: Samples, together: Samples, apart: Samples, correlation: float
) -> tuple[Samples, npt.NDArray[np.float64]]:
    """The adjoint of `read_apart`, with what `write_taps` gives beside it."""
    near, far = _mixture(correlation)
    common = image_mean(rows)
    result = common * together + (rows - common) * (near * together)
    alone = image_power(rows * np.sqrt((apart**2).sum(axis=0)))
    _add_moved(result, rows - common, [back for _, back in neighbours(len(apart), positions_of(rows))], far * apart)
    return result, ratio(alone, image_power(result))


def signal(draw: np.random.Generator, rank: int, positions: int = POSITIONS) -> Samples:
    """Sound as it is recorded, within -1 and 1: images are moments, which differ in loudness far more than within."""
    within = draw.standard_normal((IMAGES, positions), np.float32)
    within /= np.sqrt(np.square(within).mean(axis=1, keepdims=True))
    loudness = LOUDNESS * 10 ** (LOUDNESS_SPREAD * draw.standard_normal((IMAGES, 1), np.float32))
    return np.asarray((within * loudness).reshape(-1, *(1,) * rank), np.float32)


def signal_taps(samples: Samples, taps: int) -> Samples:
    """What neighbouring taps read of a signal `[samples, 1]`: as loud as it is in their image, low tones the most."""
    loud = np.sqrt(image_mean(np.square(samples)))
    white = np.random.default_rng(_SEED).standard_normal((len(samples), taps), np.float32)
    tones = np.empty_like(white)
    tones[:, 0] = white[:, 0]
    for tap in range(1, taps):
        tones[:, tap] = TONE * tones[:, tap - 1] + np.float32(sqrt(1 - TONE**2)) * white[:, tap]
    return loud * tones


def field(draw: np.random.Generator, shape: tuple[int, ...], positions: int = POSITIONS) -> Samples:
    """Unit Gaussian samples, a share of whose variance lies between images."""
    between = np.repeat(draw.standard_normal((IMAGES, *shape), np.float32), positions, axis=0)
    within = draw.standard_normal((IMAGES * positions, *shape), np.float32)
    return standardised(np.float32(sqrt(IMAGE_SHARE)) * between + np.float32(sqrt(1 - IMAGE_SHARE)) * within)


def standardised(samples: Samples, deviation: Samples | None = None) -> Samples:
    """Zero mean and unit variance over the population, element by element; what does not vary becomes noise.

    `deviation` is the standard deviation where it is known.
    """
    mean = samples.mean(axis=0)
    if deviation is None:
        deviation = samples.std(axis=0)
    still = deviation <= 1e-5 * np.abs(mean) + 1e-20
    result = samples - mean
    result /= np.where(still, np.float32(1), deviation)
    if still.any():
        noise = np.random.default_rng(_SEED).standard_normal(samples.shape, np.float32)
        result = np.where(still, noise, result)
    return np.asarray(result, np.float32)
