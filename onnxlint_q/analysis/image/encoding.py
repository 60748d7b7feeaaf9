"""How pixels were turned into numbers, and which way of doing so the first layer was trained on.

There are five usual encodings of a pixel from 0 to 255. Which one data has is seen from the range of its values. Which
one a network wants is seen from a BatchNormalization behind its stem: it recorded mean and variance of the stem's
output in training. On data with window mean m and window covariance C, an output channel with kernel w and bias b has
mean `w·m + b` and variance `w C w`. How far that is from the record is the Kullback-Leibler divergence of two normal
distributions in nats,

    D = (v / v_rec + (mean - mean_rec)² / v_rec - 1 - ln(v / v_rec)) / 2,

about 0.1 for data like that of training, 0.4 and more where values are off by a factor of two, thousands where pixels
from 0 to 255 meet a network for normalised ones. The same pixels in another encoding, or with their colours swapped,
only scale, shift and permute m and C, so every hypothesis is judged without another look at the data.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from onnxlint_q.analysis.image.stem import Stem
from onnxlint_q.analysis.observed.data_summary import ImageSummary, Patches

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Encoding:
    """A number for each pixel value: `(pixel - mean) / std`, mean and std by colour channel in codes 0-255.

    Attributes:
        name: for people.
        options: what says so on the command line.
    """

    name: str
    options: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def by_channel(self, channels: int) -> tuple[Vector, Vector]:
        """Mean and std of as many channels: for a grey image the averages."""
        mean, std = np.asarray(self.mean), np.asarray(self.std)
        return (mean, std) if channels == 3 else (np.full(channels, mean.mean()), np.full(channels, std.mean()))


_IMAGENET_MEAN, _IMAGENET_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
ENCODINGS = (
    Encoding("pixels 0–255", "--preprocess raw", (0.0,) * 3, (1.0,) * 3),
    Encoding("pixels 0–1", "--preprocess unit", (0.0,) * 3, (255.0,) * 3),
    Encoding("pixels from -1 to 1", "--preprocess tf", (127.5,) * 3, (127.5,) * 3),
    Encoding("ImageNet-normalised pixels", "--preprocess imagenet", _IMAGENET_MEAN, _IMAGENET_STD),
    Encoding(
        "pixels normalised by ImageNet means in BGR order",
        "--mean 0.406,0.456,0.485 --std 0.225,0.224,0.229",
        _IMAGENET_MEAN[::-1],
        _IMAGENET_STD[::-1],
    ),
    Encoding(
        "pixels minus the ImageNet mean",
        "--preprocess raw --mean 123.675,116.28,103.53",
        _IMAGENET_MEAN,
        (1.0,) * 3,
    ),
    Encoding(
        "pixels minus the ImageNet mean in BGR order",
        "--preprocess raw --mean 103.53,116.28,123.675",
        _IMAGENET_MEAN[::-1],
        (1.0,) * 3,
    ),
)
"""The ways in which pixels are known to be prepared."""
# Values may leave the range of their encoding by so much of it: rounding, and resizing that overshoots.
_SLACK = 0.02
# And must fill at least so much of it to be taken for that encoding.
_FILLED = 0.5
# A form fits as well as another if it is no further off than so many times, and so many nats more.
_AS_GOOD, _ANYWAY = 2.0, 0.02
# Channels whose recorded variance is far below that of the others are dead, and any deviation is then large.
_DEAD = 1e-3


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """The data's pixels in another form, and how badly the stem's record then fits.

    Attributes:
        encoding: the form.
        swapped: red and blue exchanged.
        misfit: median over the output channels of the stem, in nats.
    """

    encoding: Encoding
    swapped: bool
    misfit: float


def encoding_of(image: ImageSummary) -> Encoding | None:
    """The usual encoding whose range the values fill best; None if they fit none or fill it too little."""
    best, most = None, _FILLED
    for encoding in ENCODINGS:
        mean, std = encoding.by_channel(image.low.size)
        low, high = (image.low * std + mean) / 255, (image.high * std + mean) / 255
        filled = float(np.min(high - low))
        # A strict comparison with a margin: the plainer of two encodings that fit alike is taken.
        if low.min() >= -_SLACK and high.max() <= 1 + _SLACK and filled > most * 1.01:
            best, most = encoding, filled
    return best


def misfit(stem: Stem, patches: Patches) -> Vector:
    """KL divergence (nats) of what the stem would give from what its BatchNormalization recorded, by live channel.

    Empty where there is no record, or the windows are not those of the stem.
    """
    norm = stem.recorded
    if norm is None or patches.mean.shape != stem.kernel.shape[1:]:
        return np.empty(0)
    mean, variance = response(stem, patches)
    recorded = norm.variance
    live = np.isfinite(recorded) & np.isfinite(norm.mean) & (recorded > 0)
    if not live.any():
        return np.empty(0)
    live &= recorded > _DEAD * np.median(recorded[live])
    live &= np.abs(stem.kernel).max(axis=(1, 2, 3)) > 0
    ratio = np.maximum(variance[live] / recorded[live], 1e-30)
    shift = (mean[live] - norm.mean[live]) ** 2 / recorded[live]
    return np.asarray((ratio + shift - 1 - np.log(ratio)) / 2, np.float64)


def response(stem: Stem, patches: Patches) -> tuple[Vector, Vector]:
    """Mean and variance of each output channel of the stem on such windows."""
    kernel = stem.kernel.reshape(len(stem.kernel), -1)
    bias = 0.0 if stem.bias is None else stem.bias
    mean = kernel @ patches.mean.ravel() + bias
    variance = np.einsum("ij,ij->i", kernel @ patches.covariance, kernel)
    return np.asarray(mean, np.float64), np.maximum(variance, 0.0)


def plainest(stem: Stem, patches: Patches, actual: Encoding) -> Hypothesis:
    """The plainest of the forms that fit the stem's record about as well as the best one."""
    fits = list(hypotheses(stem, patches, actual))
    best = min(fit.misfit for fit in fits)
    return next(fit for fit in fits if fit.misfit <= _AS_GOOD * best + _ANYWAY)


def hypotheses(stem: Stem, patches: Patches, actual: Encoding) -> Iterator[Hypothesis]:
    """The same pixels in every encoding and both orders of colour, the actual one included, plain forms first."""
    for encoding in ENCODINGS:
        for swapped in (False, True) if len(patches.mean) == 3 else (False,):
            fit = misfit(stem, reencoded(patches, actual, encoding, swapped=swapped))
            yield Hypothesis(encoding, swapped, float(np.median(fit)))


def reencoded(patches: Patches, actual: Encoding, wanted: Encoding, *, swapped: bool = False) -> Patches:
    """Moments of the same windows had their pixels been encoded otherwise, or red and blue exchanged."""
    channels, height, width = patches.mean.shape
    area = height * width
    mean_from, std_from = actual.by_channel(channels)
    mean_to, std_to = wanted.by_channel(channels)
    order = np.arange(channels)[::-1] if swapped else np.arange(channels)
    factor = std_from[order] / std_to
    mean = patches.mean[order] * factor[:, None, None] + ((mean_from[order] - mean_to) / std_to)[:, None, None]
    blocks = patches.covariance.reshape(channels, area, channels, area)[order][:, :, order]
    scaled = blocks * factor[:, None, None, None] * factor[None, None, :, None]
    return Patches(mean, scaled.reshape(channels * area, channels * area))
