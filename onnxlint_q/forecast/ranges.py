"""Activations: over which range a static quantiser rounds each of them, and what that costs at the output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf, log, sqrt

import numpy as np

from onnxlint_q.analysis.folding import FoldedLayer
from onnxlint_q.analysis.number_formats import activation_step
from onnxlint_q.analysis.observed.observations import ChannelObservation
from onnxlint_q.analysis.placement import Placement, stored_tensor
from onnxlint_q.analysis.schemes import Scheme
from onnxlint_q.forecast.operators.elementwise import function_of
from onnxlint_q.forecast.population import Samples
from onnxlint_q.forecast.step import Site
from onnxlint_q.forecast.sweep import Propagation
from onnxlint_q.forecast.transfer import OutputCost
from onnxlint_q.graph import Model, channel_axis

# Pixels are bounded: in photographs black and white lie about this many deviations from the mean.
_PIXEL_REACH = 2.4
_SAMPLES = 48
# How many independent values a calibration set of a few dozen samples shows of one channel, where the shape is unknown.
_CALIBRATED = 1e5
# Where a range is looked at through a function: its ends, all that a rising one needs, and so many places in all that
# the dip of a Swish or Gelu, about a unit wide, is met in a range of the usual few units.
_PLACES = 17


@dataclass(frozen=True, slots=True, eq=False)
class ActivationNoise:
    """Noise over signal at the output from rounding activations.

    Attributes:
        total: one figure a rounded tensor.
        by_layer: of the tensor that carries each layer's result, by layer key.
    """

    total: tuple[float, ...] = ()
    by_layer: Mapping[str, float] = field(default_factory=dict)


Ranges = Mapping[str, tuple[float, float]]
ChannelRanges = Mapping[str, ChannelObservation]


def value_ranges(model: Model, placements: Sequence[Placement], propagation: Propagation) -> Ranges:
    """What calibration is expected to see of every activation that is rounded, whatever the scheme.

    One that shares the scale of another is rounded over the other's range.
    """
    own = {place.like: place.bounds for place in placements if place.like in propagation.samples}
    ranges = {like: bounds or value_range(model, like, propagation) for like, bounds in own.items()}
    return {
        place.tensor: ranges[place.like]
        for place in placements
        if place.tensor in propagation.samples and place.like in ranges
    }


def activation_noise(
    model: Model,
    layers: Sequence[FoldedLayer],
    scheme: Scheme,
    propagation: Propagation,
    ranges: Ranges,
    costs: Mapping[str, OutputCost],
) -> ActivationNoise:
    """What rounding every activation to its calibrated range costs."""
    noise = {
        key: rounding_noise(*limits, scheme, propagation.samples[key], costs[key])
        for key, limits in ranges.items()
        if key in costs
    }
    results = {folded.output: stored_tensor(model, folded.output) for folded in layers}
    return ActivationNoise(tuple(noise.values()), {layer: noise[key] for layer, key in results.items() if key in noise})


def rounding_noise(low: float, high: float, scheme: Scheme, samples: Samples, cost: OutputCost) -> float:
    """Noise over signal at the output from rounding one tensor with values in `[low, high]`, widened to contain zero.

    Rounding to steps of a length makes an error of variance step² / 12 (Widrow). The steps of a floating-point code
    with m bits of mantissa are 2^-m of the power of two below the value; its subnormals are taken for exact.
    """
    number = scheme.activations
    if number is None:
        return 0.0
    if number.is_float:
        _, exponent = np.frexp(samples)
        steps = np.where(samples == 0, 0, np.ldexp(np.float32(1), exponent - 1 - number.mantissa_bits))
        return cost.uneven(np.asarray(steps / sqrt(12), np.float32))
    return activation_step(low, high, number) ** 2 / 12 * cost.white


def value_range(model: Model, key: str, propagation: Propagation) -> tuple[float, float]:
    """Smallest and largest value that calibration is expected to see."""
    lows, highs = _ends(model, key, propagation)
    return float(lows.min()), float(highs.max())


def channel_ranges(model: Model, placements: Sequence[Placement], propagation: Propagation) -> ChannelRanges:
    """The same of each channel of every activation that is rounded, where the file tells its channels apart."""
    found: dict[str, ChannelObservation] = {}
    for place in placements:
        axis = channel_axis(model, place.tensor) if place.tensor in propagation.samples else None
        if axis is None:
            continue
        ends = _ends(model, place.tensor, propagation)
        if axis >= ends[0].ndim or ends[0].shape[axis] == 1:
            continue
        rest = tuple(other for other in range(ends[0].ndim) if other != axis)
        low, high = ends[0].min(axis=rest), ends[1].max(axis=rest)
        found[place.tensor] = ChannelObservation(low.astype(np.float64), high.astype(np.float64))
    return found


def _ends(model: Model, key: str, propagation: Propagation) -> tuple[Samples, Samples]:
    """Smallest and largest value that calibration is expected to see of each element.

    Where channels mix, `mean ± sigma sqrt(2 ln n)` for the n values that calibration sees of a channel (the expected
    maximum of n Gaussians); through an activation function the range of its input.
    """
    node = model.producer(key)
    if node is not None and len(set(node.inputs) & propagation.samples.keys()) == 1:
        function = function_of(Site(model, node, propagation.samples))
        if function is not None and node.input(0) in propagation.samples:
            lows, highs = _spread(model, node.input(0), propagation.samples[node.input(0)])
            grid = np.linspace(lows, highs, _PLACES)
            with np.errstate(all="ignore"):
                values = np.nan_to_num(function(grid))
            return np.asarray(values.min(axis=0), np.float32), np.asarray(values.max(axis=0), np.float32)
    lows, highs = _spread(model, key, propagation.samples[key])
    bounds = (node.operator.bounds if node is not None else None) or (-inf, inf)
    return np.clip(lows, *bounds), np.clip(highs, *bounds)


def _spread(model: Model, key: str, samples: Samples) -> tuple[Samples, Samples]:
    shape = model.shape(key) or ()
    if key in {value.name for value in model.inputs} and len(shape) == 4:
        reach = _PIXEL_REACH
    elif None in shape[2:]:
        reach = sqrt(2 * log(_CALIBRATED))
    else:
        places = float(np.prod([length or 1 for length in shape[2:]]))
        reach = sqrt(2 * log(max(places * _SAMPLES, 2.0)))
    mean = samples.mean(axis=0)
    # Each side by its own deviation: many activations are bounded below.
    below, above = (
        np.sqrt(2 * (side**2).mean(axis=0)) for side in (np.minimum(samples - mean, 0), np.maximum(samples - mean, 0))
    )
    return np.asarray(mean - reach * below, np.float32), np.asarray(mean + reach * above, np.float32)
