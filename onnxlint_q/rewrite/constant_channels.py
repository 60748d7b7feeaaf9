"""The cure of a layer whose widest channels are constant: weights to zero, value to the bias.

Where a BatchNormalization's running variance is so small that `|gain_c| sqrt(var_c)` is nothing beside what its other
channels vary by, channel `c` is `beta_c` for every input. With `gamma_c = 0` folding gives it the weight 0 and the bias
`beta_c`: the float model stays the same up to that deviation, and the channel no longer sets the scale of the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from onnxlint_q.analysis.causes import lifted_channels
from onnxlint_q.analysis.folding import FoldedLayer
from onnxlint_q.analysis.gains import compare_gains
from onnxlint_q.analysis.schemes import INT8_PER_TENSOR
from onnxlint_q.analysis.statistics import LayerFacts, measure_layers
from onnxlint_q.forecast.forecast import NoiseModel
from onnxlint_q.graph import Model

# A cure is offered where it gives every other channel a bit more.
NARROWED = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class Cured:
    """A layer without its constant channels.

    Attributes:
        channels: output channels that are constant.
        layer: the layer with these set to zero.
        swing_db: the largest deviation of a constant channel over that of an ordinary one, 20 log10, what the float
            model may change by at this layer; None if the running variance says that nothing changes.
        forecast_db: forecast SQNR at the model's output if only the cured weight is quantised under int8-per-tensor;
            None where nothing can be forecast.
    """

    channels: tuple[int, ...]
    layer: LayerFacts
    swing_db: float | None
    forecast_db: float | None


def zeroed(folded: FoldedLayer, channels: Sequence[int]) -> FoldedLayer:
    """The layer with gamma zero in these channels of the BatchNormalization behind it.

    Raises:
        ValueError: there is no BatchNormalization behind it, or it has no such channel.
    """
    if folded.after is None or any(not 0 <= channel < folded.after.gamma.size for channel in channels):
        raise ValueError(f"no BatchNormalization folds into {folded.output!r} with the channels {list(channels)}")
    gamma = folded.after.gamma.copy()
    gamma[list(channels)] = 0.0
    return replace(folded, after=replace(folded.after, gamma=gamma))


def find_cures(model: Model, layers: Sequence[LayerFacts], network: NoiseModel | None) -> Mapping[str, Cured]:
    """By layer key every layer whose weight narrows to half once its constant channels are zero.

    The float network stays the same, so what its errors cost does too, and one new weight is all there is to forecast;
    without `network` nothing is.
    """
    return {
        key: replace(cure, forecast_db=network.weight_sqnr_db(cure.layer, INT8_PER_TENSOR) if network else None)
        for key, cure in _curable(model, layers)
    }


def _curable(model: Model, layers: Sequence[LayerFacts]) -> Iterator[tuple[str, Cured]]:
    for layer in layers:
        norm, absmax = layer.folded.after, layer.weight.absmax
        if norm is None or layer.weight.non_finite:
            continue
        gains = compare_gains(norm)
        lifted = lifted_channels(gains)
        constant = np.sort(lifted[gains.constant[lifted] & (absmax[lifted] > 0)])
        others = np.delete(absmax, constant)
        if not constant.size or not others.any() or others.max() > NARROWED * absmax.max():
            continue
        channels = tuple(int(channel) for channel in constant)
        (cured,) = measure_layers(model, [zeroed(layer.folded, channels)], [INT8_PER_TENSOR])
        swing = float(gains.swing[constant].max())
        yield layer.output, Cured(channels, cured, 20 * float(np.log10(swing)) if swing > 0 else None, None)
