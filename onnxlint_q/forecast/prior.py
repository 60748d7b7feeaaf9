"""What a model's inputs hold, as far as the file tells.

Without better knowledge an input is Gaussian with zero mean and unit variance, as images and features usually are
after normalisation; the colours of an image correlate. Two traces in the file say more about images:

- a BatchNormalization behind the first layer recorded the mean and the variance of that layer's output, and so those
  of the input, by least squares over the channels;
- without one, the biases of the first layer. They cancel the mean of the input where it has one: `b ≈ -m Σ w`; a fit
  that explains a good part of them gives a positive mean m, and the values of photographs deviate from it by about
  half of it. And if a unit input would hardly move the layer against its bias, the input must be pixels from 0 to 255.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod, sqrt

import numpy as np
import numpy.typing as npt

from onnxlint_q.analysis.folding import FoldedLayer
from onnxlint_q.analysis.image.inputs import reads_image
from onnxlint_q.forecast.population import IMAGE_CORRELATION, Samples, field, standardised
from onnxlint_q.graph import Model, Trait, Value, trace_forward
from onnxlint_q.graph.operators import Channels

Vector = npt.NDArray[np.float64]

# Correlation between the colour channels of photographs.
_COLOUR_CORRELATION = 0.9
# Mean and deviation of the pixels of photographs, in codes.
_PIXELS = (115.0, 58.0)
# Values of an input that are told apart.
_MOST_APART, _FEW = 4096, 1024
# Through these an axis stays where it is, unless one that is picked from goes.
_SAME_AXES = Trait.COPIES | Trait.ELEMENTWISE | Trait.SELECTS
_HARDLY_MOVES = 0.1
_EXPLAINED = 0.3


@dataclass(frozen=True, slots=True)
class InputScale:
    """Mean and standard deviation of the model's image input, all channels alike."""

    mean: float = 0.0
    deviation: float = 1.0


def input_samples(model: Model, value: Value, scale: InputScale, seed: int) -> Samples:
    """A population for one input."""
    shape = value.type.shape if value.type.shape is not None else (None,) * 4
    rank = len(shape)
    draw = np.random.default_rng(seed)
    samples = field(draw, told_apart(model, value))
    if rank == 4 and samples.shape[2] in {3, 4}:
        grey = field(draw, (1, 1, 1, 1))
        samples = standardised(
            np.float32(sqrt(_COLOUR_CORRELATION)) * grey + np.float32(sqrt(1 - _COLOUR_CORRELATION)) * samples
        )
    if rank < 4:
        return samples
    return samples * np.float32(scale.deviation) + np.float32(scale.mean)


def told_apart(model: Model, value: Value) -> tuple[int, ...]:
    """The shape of an input's samples: 1 where its values are alike.

    Of an image and of a signal the axis behind the batch is told apart, which holds the channels. Where a layer or a
    normalisation reads the last axis, that is told apart instead, with all that the file fixes, if it is little.
    """
    shape = value.type.shape if value.type.shape is not None else (None,) * 4
    rank = len(shape)
    if rank < 2:
        return (1,) * rank
    channels = tuple(length or 1 if axis == 1 else 1 for axis, length in enumerate(shape))
    if rank == 3 and _reads_last_axis(model, value.name):
        stated = next(one for one in model.proto.graph.input if one.name == value.name).type.tensor_type.shape.dim
        fixed = [dim.dim_value if axis and dim.HasField("dim_value") else 1 for axis, dim in enumerate(stated)]
        fixed[-1] = shape[-1] or 1
        channels = tuple(fixed) if prod(fixed) <= _FEW else (1, 1, fixed[-1])
    return channels if prod(channels) <= _MOST_APART else (1,) * rank


def _reads_last_axis(model: Model, name: str) -> bool:
    """Whether the first that looks at channels has them along the last axis."""
    for key in trace_forward(model, name, _SAME_AXES).tensors:
        for node in model.consumers(key):
            weighted = node.operator.layer is None or model.is_constant(node.input(node.operator.layer.weight))
            if weighted and node.operator.channels is not Channels.AS_INPUT:
                return node.operator.channels is Channels.LAST
    return False


def input_scale(model: Model, layers: Sequence[FoldedLayer]) -> InputScale:
    """The scale of the image input, from the first convolution that reads it."""
    first = next((layer for layer in layers if reads_image(model, layer.layer)), None)
    if first is None or not first.layer.is_float or first.before is not None:
        return InputScale()
    layer = first.layer
    weight = layer.by_channel(layer.read_weight(model)).astype(np.float64)
    weight = weight.reshape(layer.channels, layer.weight_shape[1], -1)
    if not np.isfinite(weight).all():
        return InputScale()
    total = weight.sum(axis=(1, 2))
    bias = layer.read_bias(model)
    if bias is None:
        return InputScale()
    if first.after is not None:
        seen = IMAGE_CORRELATION * total**2 + (1 - IMAGE_CORRELATION) * (weight.sum(axis=1) ** 2).sum(axis=1)
        mean = _fit(total, first.after.mean - bias)
        variance = float(np.median(first.after.variance / np.maximum(seen, 1e-30)))
        return InputScale(mean, sqrt(variance)) if 0 < variance < 1e8 else InputScale()
    norm = np.sqrt((weight**2).sum(axis=(1, 2)))
    if float(np.median(norm)) < _HARDLY_MOVES * float(np.median(np.abs(bias))):
        return InputScale(*_PIXELS)
    mean = _fit(total, -bias)
    left = float(((bias + mean * total) ** 2).sum())
    if mean > 0 and left < (1 - _EXPLAINED) * float((bias**2).sum()):
        return InputScale(mean, mean / 2)
    return InputScale()


def _fit(slope: Vector, target: Vector) -> float:
    """The m that makes `m slope` closest to `target`."""
    return float(slope @ target / max(float(slope @ slope), 1e-30))
