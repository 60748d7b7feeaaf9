"""Output channels that held one value on all samples: their weights to zero, that value to the bias.

Behind the Relu or Clip that a quantiser takes away, let channel `c` of a layer range from `low_c` to `high_c`. It is
taken for constant where

    high_c - low_c  <=  median_k (high_k - low_k) / 1000,        over the channels k that vary at all,

and `w_c = 0`, `b_c = (low_c + high_c) / 2` then give what was seen: a Relu or Clip leaves a value that came out of it
as it is. It is done to the channels that are wider than all that vary, and where the weight becomes half as wide,

    max |w_k|  <=  max |w_c| / 2.

They set the scale of the tensor and use none of it: training left them without a variance, mostly depthwise ones that
read a channel without any. A channel that is no wider than others may just be waiting for an input that was not among
the samples. On seven networks with photos, up to 61 of the channels that were still on 48 samples moved on 300 others,
those that tell rare classes; the most that a weight would have narrowed by one of these was to 0.63 of its width. Those
that were truly still let it narrow to 0.34 or less, and made-up pictures show them as well as photos do.
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
from onnxlint_q.rewrite.constant_channels import NARROWED
from onnxlint_q.rewrite.editing import Edit
from onnxlint_q.rewrite.rewriting import Rewrite, Safety

Vector = npt.NDArray[np.float64]

# Of what the median channel ranges over.
_STILL = 1e-3
# Samples that constancy rests on, at least.
FEWEST = 16


@dataclass(frozen=True, slots=True)
class ObservedConstants(Candidate):
    """A layer with wide channels that were constant.

    Attributes:
        channels: output channels.
        values: what each of them held.
        narrowed: what the widest weight of the others is of the widest of all.
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
        constant = _constant(seen)
        if layer.weight.non_finite:
            if constant.any():
                yield Refusal(layer.output, f"{layer.weight.non_finite} of the layer's weights are not finite")
            continue
        constant &= layer.weight.absmax > 0
        if constant.any():
            yield _candidate(measured, layer, seen, constant, observations)


def _channels(measured: Measured, layer: LayerFacts, observations: Observations) -> ChannelObservation | None:
    """What was seen of a layer's output channels; None where that is not known."""
    part = layer.folded.layer
    observed = observations.tensors.get(measured.stored_tensor(layer))
    if observed is None or observed.channels is None or not part.is_product or not part.is_float or part.weight_left:
        return None
    return observed.channels if observed.channels.low.size == part.channels and observed.is_finite else None


def _constant(seen: ChannelObservation) -> npt.NDArray[np.bool_]:
    """Channels that are still beside the others; none where no channel varies."""
    ranges = seen.high - seen.low
    moving = ranges[ranges > 0]
    return np.asarray(ranges <= _STILL * np.median(moving) if moving.size else np.zeros(ranges.size, np.bool_))


def _candidate(
    measured: Measured, layer: LayerFacts, seen: ChannelObservation, constant: npt.NDArray[np.bool_], run: Observations
) -> ObservedConstants | Refusal:
    absmax = layer.weight.absmax
    widest = float(absmax[~constant].max(initial=0.0))
    if not widest:
        return Refusal(layer.output, "without its constant channels nothing is left of the weight")
    chosen = np.flatnonzero(constant & (absmax > widest))
    narrowed = widest / float(absmax.max())
    if not chosen.size or narrowed > NARROWED:
        return Refusal(layer.output, "its constant channels are hardly wider than the others")
    if run.samples < FEWEST:
        return Refusal(layer.output, f"{run.samples} samples are too few to call a channel constant; give {FEWEST}")
    values = ((seen.low + seen.high) / 2)[chosen]
    if reason := cannot_hold(measured.model, layer):
        return Refusal(layer.output, reason)
    channels, held = tuple(map(int, chosen)), tuple(map(float, values))
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
