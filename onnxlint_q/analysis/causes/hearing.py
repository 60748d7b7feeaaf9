"""How much is made of each channel of a layer's result: by gains behind it, and by the weights of what reads it.

    heard_c = max over the readers  |gain_c| * || w[:, c] ||_2

The gain is that of normalisations and constant factors in between. What two branches are added or joined in is not
followed: which of them weighs more is not known.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from onnxlint_q.graph import Layer, Model, Node, Trait
from onnxlint_q.graph.operators import Product
from onnxlint_q.graph.tensors import is_real
from onnxlint_q.graph.trace import REACH

Vector = npt.NDArray[np.float64]
_PASSES = (
    Trait.ACTIVATION
    | Trait.RECTIFIES
    | Trait.HOMOGENEOUS
    | Trait.COPIES
    | Trait.QUANTIZES
    | Trait.RESHAPES
    | Trait.AVERAGES
    | Trait.RESAMPLES
)
_MOVES = frozenset({"MaxPool", "GlobalMaxPool", "Transpose", "Pad"})
_OVER_CHANNELS = frozenset({"LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization"})


@dataclass(frozen=True, slots=True, eq=False)
class Hearing:
    """What is made of each channel.

    Attributes:
        factors: of each channel, of any unit; None where no weight reads them.
        ends: whether something else reads them: an output of the model, or an operator that is not followed.
        adds: whether a sum or a join of branches does.
    """

    factors: Vector | None
    ends: bool
    adds: bool


def hearing(model: Model, layers: Iterable[Layer], layer: Layer) -> Hearing:
    """What is made of the channels of a layer's result.

    Args:
        model: the graph.
        layers: all of its layers.
        layer: one of them.

    Raises:
        ModelError: a weight cannot be read.
    """
    readers = {(part.node, part.input): part for part in layers}
    waiting = deque([(layer.output, np.ones(layer.channels))])
    seen, found = {layer.output}, list[Vector]()
    ends = adds = False
    while waiting and len(seen) < REACH:
        tensor, gain = waiting.popleft()
        ends |= tensor in model.output_names
        for node in model.consumers(tensor):
            reader = readers.get((node, tensor))
            norms = _input_norms(model, reader, layer.channels) if reader is not None else None
            if norms is not None:
                found.append(gain * norms)
            elif (after := _passed(model, node, tensor, gain)) is not None:
                fresh = [key for key in node.operator.results_of(node.outputs) if key not in seen]
                seen.update(fresh)
                waiting.extend((key, after) for key in fresh)
            elif node.operator.has(Trait.ADDS | Trait.JOINS):
                adds = True
            else:
                ends |= not node.operator.has(Trait.MEASURES)
    return Hearing(np.max(found, axis=0) if found else None, ends, adds)


def _passed(model: Model, node: Node, tensor: str, gain: Vector) -> Vector | None:
    """The gain of the channels behind a node; None where it is not followed."""
    operator = node.operator
    if operator.form == "BatchNormalization" or operator.form in _OVER_CHANNELS:
        values = [model.constant(node.input(slot)) for slot in (1, 4)]
        scale, variance = (None if value is None or not is_real(value) else value.ravel() for value in values)
        if scale is None or scale.size != gain.size:
            return None
        factor = np.abs(scale.astype(np.float64))
        if variance is not None and variance.size == gain.size:
            with np.errstate(all="ignore"):  # a variance that is none is for a rule to report
                factor = factor / np.sqrt(np.maximum(variance.astype(np.float64) + node.float("epsilon", 1e-5), 1e-300))
        return gain * factor
    others = [key for key in node.inputs if key and key != tensor]
    if operator.has(Trait.SCALES):
        return gain * _factor(model, others, gain.size)
    if operator.has(Trait.ADDS):
        return gain if all(map(model.is_constant, others)) else None
    return gain if operator.has(_PASSES) or operator.form in _MOVES else None


def _factor(model: Model, others: Iterable[str], channels: int) -> Vector:
    """What a product with other operands makes of each channel, as far as constants tell."""
    factor = np.ones(channels)
    for key in others:
        value = model.constant(key)
        if value is not None and is_real(value) and value.size == channels:
            factor = factor * np.abs(value.ravel().astype(np.float64))
    return factor


def _input_norms(model: Model, layer: Layer, channels: int) -> Vector | None:
    """The norm of a weight for each channel that it reads; None where these are not its inputs."""
    if layer.weight_left or len(layer.weight_shape) < 2:
        return None
    squares = np.square(layer.read_weight(model).astype(np.float64))
    shape = layer.weight_shape
    match layer.inputs.product:
        case Product.CONVOLUTION:
            grouped = squares.reshape(layer.group, shape[0] // layer.group, shape[1], -1)
            power = grouped.sum(axis=(1, 3)).ravel()
        case Product.TRANSPOSED:
            power = squares.reshape(shape[0], -1).sum(axis=1)
        case Product.RECURRENT:
            power = squares.sum(axis=(0, 1))
        case _:
            kept = len(shape) - 2 if layer.channel_axis == len(shape) - 1 else len(shape) - 1
            power = squares.sum(axis=tuple(axis for axis in range(len(shape)) if axis != kept))
    if not power.size or power.size % channels:
        return None
    # Behind a Flatten each channel is read at several places.
    return np.asarray(np.sqrt(power.reshape(channels, -1).sum(axis=1)), np.float64)
