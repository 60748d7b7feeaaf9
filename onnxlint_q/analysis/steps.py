"""A quantised weight in steps of its scale: how many codes each output channel keeps.

    steps = w / scale = code - zero_point

Weights with one scale, for the tensor or a direction, and those with one a channel are told; of blocks each has a scale
of its own, and none is lost to another.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from onnxlint_q.graph import Layer, Model, QuantizedTensor, Role

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class CodesKept:
    """What the codes of a quantised weight hold.

    Attributes:
        layer: the layer that reads it, seen with this weight.
        pair: its scale and zero point.
        largest: the largest magnitude of each output channel, in steps.
        above, below: what the positive and what the negative steps of each output channel add up to, both positive.
        small: fraction of all codes that are at most one step from zero.
        one_scale: whether channels share a scale.
    """

    layer: Layer
    pair: QuantizedTensor
    largest: Vector
    above: Vector
    below: Vector
    small: float
    one_scale: bool


def kept_codes(
    model: Model, layers: Iterable[Layer], pairs: Iterable[QuantizedTensor], products: int = 0
) -> Iterator[CodesKept]:
    """What the codes of every weight that is stored in integers hold, one weight in memory at a time.

    Args:
        model: the graph.
        layers: each seen with each of its weights.
        pairs: of the file.
        products: fewest products that an output is the sum of; others are left out, and not read.

    Raises:
        ModelError: a weight cannot be read.
    """
    weights = [pair for pair in pairs if pair.role is Role.WEIGHT and pair.code_range is not None]
    by_tensor = {key: pair for pair in reversed(weights) for key in (pair.tensor, pair.codes)}
    for layer in layers:
        pair = _pair_of(model, layer, by_tensor) if layer.products >= products else None
        found = _kept(model, layer, pair) if pair is not None else None
        if found is not None:
            yield found


def _pair_of(model: Model, layer: Layer, by_tensor: Mapping[str, QuantizedTensor]) -> QuantizedTensor | None:
    """The pair whose codes a layer's weight was."""
    if layer.weight in by_tensor:
        return by_tensor[layer.weight]
    keys = (key for step in model.constants.chain(layer.weight) for key in step.inputs)
    return next((by_tensor[key] for key in keys if key in by_tensor), None)


def _kept(model: Model, layer: Layer, pair: QuantizedTensor) -> CodesKept | None:
    step, one_scale = _step(model, layer, pair)
    if step is None:
        return None
    weight = layer.by_channel(layer.read_weight(model))
    with np.errstate(all="ignore"):
        steps = np.rint(weight / step)
    if not steps.size or not np.isfinite(steps).all():
        return None
    difference = steps.sum(axis=1, dtype=np.float64)
    np.abs(steps, out=steps)
    largest, total = np.asarray(steps.max(axis=1), np.float64), steps.sum(axis=1, dtype=np.float64)
    above, below = (total + difference) / 2, (total - difference) / 2
    small = float(np.count_nonzero(steps <= 1) / steps.size)
    return CodesKept(layer, pair, largest, above, below, small, one_scale)


def _step(model: Model, layer: Layer, pair: QuantizedTensor) -> tuple[npt.NDArray[np.float32] | None, bool]:
    """One step of each channel, as a column, and whether channels share it; None where it cannot be told."""
    if layer.inputs.is_integer_product:
        return np.ones((1, 1), np.float32), _shares(pair.read_scale(model), layer)
    stored = pair.read_scale(model)
    if stored is None or pair.block_size:
        return None, False
    scale = np.ravel(stored).astype(np.float32)
    if not (np.isfinite(scale) & (scale > 0)).all() or layer.channels % max(scale.size, 1):
        return None, False
    if scale.size not in {1, layer.channels, layer.weight_shape[0] if layer.operand else 1}:
        return None, False
    return np.repeat(scale, layer.channels // scale.size)[:, None], scale.size < layer.channels


def _shares(scale: npt.NDArray[np.generic] | None, layer: Layer) -> bool:
    """Whether channels of an integer product share a scale; they do where none is found."""
    return scale is None or scale.size < layer.channels
