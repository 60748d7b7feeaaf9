"""Output channels that held one value on all samples: their weights to zero, that value to the bias.

Behind the Relu or Clip that a quantiser takes away, let channel `c` of a layer range from `low_c` to `high_c`. It is
taken for constant where

    high_c - low_c  <=  median_k (high_k - low_k) / 1000,        over the channels k that vary at all,

and `w_c = 0`, `b_c = (low_c + high_c) / 2` then give what was seen: a Relu or Clip leaves a value that came out of it
as it is. It is done to the channels that are wider than all that vary, and where the weight becomes half as wide,

    max |w_k|  <=  max |w_c| / 2.

They set the scale of the tensor and use none of it: training left them without a variance, mostly depthwise ones that
read a channel without any. A channel that is no wider than others may just be waiting for an input that was not among
the samples. On seven networks, 4 of the channels that were still on 48 photos and 75 of those that were still on 48
made-up pictures moved on 300 photos, such as tell rare classes; the most that a weight would have narrowed by one of
these was to 0.63 of its width. Those that stay still let it narrow to 0.34 or less, and made-up pictures show all of
them. It is done as well to channels whose value lies beyond the range of the others: `move_constants` takes it on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxlint_q.analysis.measured import Measured
from onnxlint_q.analysis.observed.observations import ChannelObservation, Observations
from onnxlint_q.analysis.statistics import LayerFacts
from onnxlint_q.graph import Layer, Model, find_layers
from onnxlint_q.rewrite.candidate import Candidate, Refusal
from onnxlint_q.rewrite.constants.constant_channels import NARROWED
from onnxlint_q.rewrite.editing import Edit
from onnxlint_q.rewrite.rewriting import Rewrite, Safety

Mask = npt.NDArray[np.bool_]
"""Which channels, one value for each."""

# Of what the median channel ranges over.
_STILL = 1e-3
# What the range of an activation may keep of its width where a channel is moved for it.
_RANGE_NARROWED = 0.9
# Samples that constancy rests on, at least.
FEWEST = 16


@dataclass(frozen=True, slots=True)
class ObservedConstants(Candidate):
    """A layer with wide channels that were constant.

    Attributes:
        channels: output channels.
        values: what each of them held.
        narrowed: the widest weight that is left over the widest of all.
        samples: how many there were.
        synthetic: whether they were made up.
    """

    channels: tuple[int, ...]
    values: tuple[float, ...]
    narrowed: float
    samples: int
    synthetic: bool

    @property
    def change(self) -> str:
        """In words."""
        several = len(self.channels) > 1
        channels = f"{len(self.channels)} channels that were" if several else "1 channel that was"
        samples = f"{self.samples} made-up samples" if self.synthetic else f"{self.samples} samples"
        return f"{channels} constant on {samples} become{'' if several else 's'} part of the bias"


def find(measured: Measured, observations: Observations | None) -> Iterator[ObservedConstants | Refusal]:
    """Layers whose weight narrows without the channels that were constant; others that have any are refused."""
    if observations is None:
        return
    for layer in measured.layers:
        seen = _channels(measured, layer, observations)
        if seen is None:
            continue
        still = _still(seen)
        if layer.weight.non_finite:
            if still.any():
                yield Refusal(layer.output, f"{layer.weight.non_finite} of the layer's weights are not finite")
        elif (still & (layer.weight.absmax > 0)).any():
            yield _candidate(measured, layer, seen, still, observations)


def _channels(measured: Measured, layer: LayerFacts, observations: Observations) -> ChannelObservation | None:
    """What was seen of a layer's output channels; None where that is not known."""
    part = layer.folded.layer
    observed = observations.tensors.get(measured.stored_tensor(layer))
    if observed is None or observed.channels is None or not part.is_product or not part.is_float or part.weight_left:
        return None
    return observed.channels if observed.channels.low.size == part.channels and observed.is_finite else None


def _still(seen: ChannelObservation) -> Mask:
    """Channels that are still beside the others; none where no channel varies."""
    ranges = seen.high - seen.low
    moving = ranges[ranges > 0]
    return np.asarray(ranges <= _STILL * np.median(moving) if moving.size else np.zeros(ranges.size, np.bool_))


def outside(seen: ChannelObservation, constant: Mask) -> tuple[Mask, float]:
    """Constant channels beyond the range of the others, where that is narrower without them.

    Returns:
        Them, and what the range of the tensor keeps of its width; none and 1 where that is nearly all. Zero is in every
        range, and some channel is not constant.
    """
    low, high = min(float(seen.low[~constant].min()), 0.0), max(float(seen.high[~constant].max()), 0.0)
    whole = max(float(seen.high.max()), 0.0) - min(float(seen.low.min()), 0.0)
    if high - low > _RANGE_NARROWED * whole or not whole:
        return np.zeros_like(constant), 1.0
    return constant & ((seen.low < low) | (seen.high > high)), (high - low) / whole


def _candidate(
    measured: Measured, layer: LayerFacts, seen: ChannelObservation, still: Mask, run: Observations
) -> ObservedConstants | Refusal:
    absmax = layer.weight.absmax
    widest = float(absmax[~still].max(initial=0.0))
    if not widest:
        return Refusal(layer.output, "without its constant channels nothing is left of the weight")
    far, _ = outside(seen, still)
    wide = absmax > widest if widest <= NARROWED * absmax.max() else np.zeros_like(still)
    chosen = still & (absmax > 0) & (wide | far)
    if not chosen.any():
        return Refusal(layer.output, "its constant channels are hardly wider than the others")
    if run.samples < FEWEST:
        return Refusal(layer.output, f"{run.samples} samples are too few to call a channel constant; give {FEWEST}")
    if reason := cannot_hold(measured.model, layer):
        return Refusal(layer.output, reason)
    values = ((seen.low + seen.high) / 2)[chosen]
    channels, held = tuple(map(int, np.flatnonzero(chosen))), tuple(map(float, values))
    narrowed = float(absmax[~chosen].max() / absmax.max())
    return ObservedConstants(layer.output, channels, held, narrowed, run.samples, run.synthetic)


def cannot_hold(model: Model, layer: LayerFacts) -> str:
    """Why the bias of a layer cannot hold other values, half a sentence; empty where it can."""
    part = layer.folded.layer
    if layer.folded.after is not None:
        return "the BatchNormalization behind it has to be folded first"
    if part.inputs.bias is None:
        return f"a {part.op_type} has no bias"
    if part.read_bias(model) is None or part.node.float("beta", 1.0) != 1:
        return "its bias does not hold one constant for each channel"
    return ""


def apply(model: Model, wanted: Sequence[ObservedConstants]) -> Model:
    """A copy of the model in which these channels are made by the bias alone."""
    layers = {layer.output: layer for layer in find_layers(model)}
    edit = Edit(model)
    for one in wanted:
        layer = layers[one.tensor]
        weight = _without(layer, model.constants[layer.weight], one.channels)
        edit.replace_constant(layer.output, layer.weight_slot, weight, "still")
        held = layer.read_bias(model)
        assert held is not None and layer.inputs.bias is not None
        bias = held.copy()
        bias[list(one.channels)] = one.values
        edit.replace_constant(layer.output, layer.inputs.bias, bias.astype(weight.dtype), "still")
    return edit.done()


def _without(layer: Layer, weight: npt.NDArray[Any], channels: Sequence[int]) -> npt.NDArray[Any]:
    """The stored weight with zeros for these output channels."""
    matrix = layer.by_channel(weight).copy()
    matrix[list(channels)] = 0
    return layer.as_stored(matrix)


REWRITE = Rewrite(
    name="observed-constants",
    what="channels that were constant made by the bias",
    safety=Safety.DATA,
    find=find,
    apply=apply,
)
