"""What a model's inputs hold, as far as the file tells.

Without better knowledge an input is Gaussian with zero mean and unit variance, as images and features usually are
after normalisation; the colours of an image correlate. Two traces in the file say more about images:

- a BatchNormalization behind the first layer recorded the mean and the variance of that layer's output, and so those
  of the input, by least squares over the channels;
- without one, the biases of the first layer. They cancel the mean of the input where it has one: `b ≈ -m Σ w`; a fit
  that explains a good part of them gives a positive mean m, and the values of photographs deviate from it by about
  half of it. And if a unit input would hardly move the layer against its bias, the input must be pixels from 0 to 255.

Which axis of an input holds features, each with values of its own, is that over which the first convolution or the
first product with a weight sums, or along which the first normalisation has its gains: so colours are found behind
the pixels, too. Links of a graph are 0 or 1. What a recurrent operator is given as its state is one of its own results:
within -1 and 1, and no two elements of it alike.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod, sqrt

import numpy as np
import numpy.typing as npt

from onnxlint_q.analysis.folding import FoldedLayer
from onnxlint_q.analysis.image.inputs import reads_image, signal_of
from onnxlint_q.analysis.inputs.links import holds_links
from onnxlint_q.forecast.population import (
    IMAGE_CORRELATION,
    IMAGES,
    POSITIONS,
    Samples,
    field,
    signal,
    standardised,
)
from onnxlint_q.graph import Model, Node, Trait, Value, followed_by, trace_forward
from onnxlint_q.graph.operators import Channels, LayerInputs, Product
from onnxlint_q.graph.trace import REACH

Vector = npt.NDArray[np.float64]

# Correlation between the colour channels of photographs.
_COLOUR_CORRELATION = 0.9
# Mean and deviation of the pixels of photographs, in codes.
_PIXELS = (115.0, 58.0)
# Values of an input that are told apart.
_MOST_APART, _FEW = 4096, 1024
_HARDLY_MOVES = 0.1
# Of a node of a graph: an atom of a molecule has two or three bonds, a corner of a mesh some more.
_NEIGHBOURS = 3.0
_EXPLAINED = 0.3
# What an input may go through before it meets who tells its features.
_ON_THE_WAY = Trait.MOVES | Trait.COPIES | Trait.ELEMENTWISE


@dataclass(frozen=True, slots=True)
class InputScale:
    """Mean and standard deviation of the model's image input, all channels alike."""

    mean: float = 0.0
    deviation: float = 1.0


def signals(model: Model, layers: Sequence[FoldedLayer]) -> frozenset[str]:
    """Inputs that hold a signal over time."""
    return frozenset(name for folded in layers for name in signal_of(model, folded.layer))


def input_samples(
    model: Model,
    value: Value,
    scale: InputScale,
    seed: int,
    *,
    is_signal: bool = False,
    positions: int = POSITIONS,
) -> Samples:
    """A population for one input, of so many samples an image."""
    shape = value.type.shape if value.type.shape is not None else (None,) * 4
    rank = len(shape)
    draw = np.random.default_rng(seed)
    if is_signal:
        return signal(draw, rank, positions)
    if holds_links(model, value) and prod(length or 1 for length in shape) <= _MOST_APART:
        return _links(draw, tuple(length or 1 for length in shape), positions)
    use = _use(model, value.name, shape)
    samples = field(draw, _told_apart(model, value.name, shape, use), positions)
    if use.state:
        return np.tanh(samples)
    if rank == 4 and use.axis is not None and samples.shape[use.axis + 1] in {3, 4}:
        grey = field(draw, (1, 1, 1, 1), positions)
        samples = standardised(
            np.float32(sqrt(_COLOUR_CORRELATION)) * grey + np.float32(sqrt(1 - _COLOUR_CORRELATION)) * samples
        )
    if rank < 4:
        return samples
    return samples * np.float32(scale.deviation) + np.float32(scale.mean)


def _links(draw: np.random.Generator, shape: tuple[int, ...], positions: int) -> Samples:
    """Links of graphs at random, each node with a few neighbours."""
    return np.asarray(draw.random((IMAGES * positions, *shape)) < _NEIGHBOURS / shape[-1], np.float32)


@dataclass(frozen=True, slots=True)
class _Use:
    """What an input is read as.

    Attributes:
        axis: that holds its features, None if there is none.
        state: it is the state of a recurrent operator.
    """

    axis: int | None
    state: bool = False


def _told_apart(model: Model, name: str, shape: Sequence[int | None], use: _Use) -> tuple[int, ...]:
    """The shape of an input's samples: 1 where its values are alike.

    Features are told apart, and all elements of a state. Where the last of three axes holds the features, so is all
    that the file fixes, if it is little.
    """
    rank = len(shape)
    apart = range(rank) if use.state else [] if use.axis is None else [use.axis]
    lengths = tuple(shape[axis] or 1 if axis in apart else 1 for axis in range(rank))
    if rank == 3 and use.axis == rank - 1 and not use.state:
        fixed = _fixed(model, name)
        wide = (1, *(length or 1 for length in fixed[1:-1]), lengths[-1])
        lengths = wide if prod(wide) <= _FEW else lengths
    return lengths if prod(lengths) <= _MOST_APART else (1,) * rank


def _use(model: Model, name: str, shape: Sequence[int | None]) -> _Use:
    """How the first operators that look at features read the input."""
    rank = len(shape)
    fixed = _fixed(model, name)
    # Places are as many as there are, features as many as there are weights for.
    usual = _Use(2 if rank == 3 and fixed[1] is None and fixed[2] is not None else 1 if rank >= 2 else None)
    picture = rank == 4 and not _is_state(model, name)
    # Axes of the input by their places in the tensor; None behind what regroups them.
    waiting: deque[tuple[str, tuple[int, ...] | None]] = deque([(name, tuple(range(rank)))])
    seen = {name}
    while waiting and len(seen) <= REACH:
        key, axes = waiting.popleft()
        for node in model.consumers(key):
            operator, layer = node.operator, node.operator.layer
            if layer is not None and layer.product is Product.RECURRENT:
                return _Use(axes[-1] if axes else None, key in node.inputs[5:7])
            if layer is not None and layer.convolves:
                axis = axes[1] if axes and len(axes) > 1 else 1
                if rank >= 2 and _reads(model, node, layer, shape[axis]):
                    return _Use(axis)
                return usual if picture else _Use(None)
            if picture and (layer is not None or operator.channels is not Channels.AS_INPUT):
                return usual
            if layer is None and operator.channels is not Channels.AS_INPUT:
                place = -1 if operator.channels is Channels.LAST else 1
                return _Use(axes[place]) if axes and len(axes) > 1 else usual
            if layer is not None and any(model.is_constant(read) for read in node.inputs[:2]):
                return _Use(axes[-1]) if axes else usual
            if layer is not None or not operator.has(_ON_THE_WAY) or key not in operator.data_of(node.inputs):
                continue
            for result in operator.results_of(node.outputs):
                if result not in seen:
                    seen.add(result)
                    waiting.append((result, _moved(model, node, result, axes)))
    return usual


def _fixed(model: Model, name: str) -> tuple[int | None, ...]:
    """The shape of an input as the file states it, None for an axis of any length."""
    dims = next(one for one in model.proto.graph.input if one.name == name).type.tensor_type.shape.dim
    return tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in dims)


def _reads(model: Model, node: Node, layer: LayerInputs, channels: int | None) -> bool:
    """Whether a convolution reads so many channels; else what it reads is a signal, whose places are alike."""
    shape = model.shape(node.input(layer.weight)) or ()
    axis = 0 if layer.product is Product.TRANSPOSED else 1
    group = 1 if layer.product is Product.TRANSPOSED else node.int("group", 1)
    inputs = shape[axis] if len(shape) > axis else None
    return channels is None or inputs is None or inputs * group == channels


def _is_state(model: Model, name: str) -> bool:
    """Whether a recurrent operator starts from values of the input, at most moved."""
    readers = followed_by(model, name, Trait.RECURRENT, Trait.MOVES | Trait.COPIES)
    reached = set(trace_forward(model, name, Trait.MOVES | Trait.COPIES).tensors)
    return any(reached.intersection(node.inputs[5:7]) for node in readers)


def _moved(model: Model, node: Node, result: str, axes: tuple[int, ...] | None) -> tuple[int, ...] | None:
    """Where axes are behind a node."""
    if axes is None or node.operator.has(Trait.RESHAPES):
        return None
    if node.op_type == "Transpose":
        perm = node.ints("perm") or tuple(reversed(range(len(axes))))
        return tuple(axes[place] for place in perm) if sorted(perm) == list(range(len(axes))) else None
    shape = model.shape(result)
    if node.operator.has(Trait.SELECTS) and shape is not None and len(shape) != len(axes):
        gone = node.int("axis", 0) % len(axes)
        return axes[:gone] + axes[gone + 1 :] if len(shape) == len(axes) - 1 else None
    return axes


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
