"""Constant channels of a BatchNormalization: their weights to zero, their value to the bias.

Where a running variance is so small that `|gain_c| sqrt(var_c)` is nothing beside what the other channels vary by,
channel `c` is `beta_c` for every input. With `gamma_c = 0` folding gives it the weight 0 and the bias `beta_c`: the
float model stays the same up to that deviation, and the channel no longer sets the scale of the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxlint_q.analysis.causes.chain import lifted_channels
from onnxlint_q.analysis.causes.gains import compare_gains
from onnxlint_q.analysis.measured import Measured
from onnxlint_q.analysis.observed.observations import Observations
from onnxlint_q.analysis.schemes import INT8_PER_TENSOR
from onnxlint_q.analysis.statistics import LayerFacts, measure_layers
from onnxlint_q.graph import Model
from onnxlint_q.rewrite.candidate import Candidate, Refusal
from onnxlint_q.rewrite.editing import Edit
from onnxlint_q.rewrite.rewriting import Rewrite, Safety

Gamma = npt.NDArray[Any]
# It is worth it where it gives every other channel a bit more.
NARROWED = 0.5
_GAMMA = 1


@dataclass(frozen=True, slots=True)
class ConstantChannels(Candidate):
    """A layer with channels that are constant behind its BatchNormalization.

    Attributes:
        channels: output channels.
        swing_db: the largest deviation of one of them over that of an ordinary channel, 20 log10, what the float
            model may change by at this layer; None if the running variance says that nothing changes, or where
            nobody asked.
    """

    channels: tuple[int, ...]
    swing_db: float | None = None

    @property
    def change(self) -> str:
        """In words."""
        several = len(self.channels) > 1
        channels = f"{len(self.channels)} channels" if several else "1 channel"
        return f"{channels} without variance become{'' if several else 's'} part of the shift"


def match(measured: Measured) -> Iterator[ConstantChannels | Refusal]:
    """Layers whose weight narrows to half once their constant channels are zero; others that have any are refused."""
    for layer in measured.layers:
        norm = layer.folded.after
        if norm is None:
            continue
        gains = compare_gains(norm)
        lifted = lifted_channels(gains)
        constant = np.sort(lifted[gains.constant[lifted]])
        if not constant.size:
            continue
        if layer.weight.non_finite:
            yield Refusal(layer.output, f"{layer.weight.non_finite} of the layer's weights are not finite")
            continue
        absmax = layer.weight.absmax
        constant = constant[absmax[constant] > 0]
        others = np.delete(absmax, constant)
        if not constant.size:
            yield Refusal(layer.output, "the weights of its constant channels are zero already")
        elif not others.any():
            yield Refusal(layer.output, "without its constant channels nothing is left of the weight")
        elif others.max() > NARROWED * absmax.max():
            yield Refusal(layer.output, "other channels are nearly as wide as the constant ones")
        else:
            swing = float(gains.swing[constant].max())
            swing_db = 20 * float(np.log10(swing)) if swing > 0 else None
            yield ConstantChannels(layer.output, tuple(int(channel) for channel in constant), swing_db)


def find(measured: Measured, _: Observations | None) -> Iterator[ConstantChannels | Refusal]:
    """The same: what the file says needs no samples."""
    return match(measured)


def candidate(measured: Measured, layer: str, channels: Sequence[int]) -> ConstantChannels | Refusal:
    """The rewrite of channels that somebody else names, where it can be applied."""
    layer_facts = measured.layer_by_output.get(layer)
    if layer_facts is None:
        return Refusal(layer, "there is no such layer")
    norm = layer_facts.folded.after
    if norm is None:
        return Refusal(layer, "no BatchNormalization folds into the layer")
    if any(not 0 <= channel < norm.gamma.size for channel in channels):
        return Refusal(layer, f"the layer has {norm.gamma.size} channels, and not all of those that are named")
    return ConstantChannels(layer, tuple(channels))


def mended_layer(measured: Measured, wanted: ConstantChannels) -> LayerFacts:
    """The layer as measuring the rewritten model would give it, under one int8 scale for the tensor."""
    folded = measured.layer_by_output[wanted.tensor].folded
    assert folded.after is not None
    mended = replace(folded, after=replace(folded.after, gamma=_zeroed(folded.after.gamma, wanted)))
    (layer,) = measure_layers(measured.model, [mended], [INT8_PER_TENSOR])
    return layer


def apply(model: Model, wanted: Sequence[ConstantChannels]) -> Model:
    """A copy of the model with gamma zero in these channels, in initializers of their own: others may read the old."""
    edit = Edit(model)
    for one in wanted:
        norm = model.producer(one.tensor)
        assert norm is not None
        edit.replace_constant(one.tensor, _GAMMA, _zeroed(model.constants[norm.input(_GAMMA)], one), "zeroed")
    return edit.done()


def _zeroed(gamma: Gamma, wanted: ConstantChannels) -> Gamma:
    copy = gamma.copy()
    copy[list(wanted.channels)] = 0
    return copy


REWRITE = Rewrite(
    name="constant-channels",
    what="channels without variance made by the shift of their BatchNormalization",
    safety=Safety.EXACT,
    find=find,
    apply=apply,
)
