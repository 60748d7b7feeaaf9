"""Over which range a quantiser rounds each activation: what calibration, or one run, is expected to see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf, log, prod, sqrt

import numpy as np

from onnxlint_q.analysis.observed.observations import ChannelObservation
from onnxlint_q.analysis.placement import Placement
from onnxlint_q.forecast.forward import Propagation
from onnxlint_q.forecast.operators.control.bodies import has_rounds, made_of
from onnxlint_q.forecast.operators.elementwise import Function, function_of
from onnxlint_q.forecast.population import IMAGES, POSITIONS, Samples, per_image, positions_of
from onnxlint_q.forecast.step import Site
from onnxlint_q.graph import Model, Trait, channel_axis, trace_back

# Pixels are bounded: in photographs black and white lie about this many deviations from the mean.
_PIXEL_REACH = 2.4
_SAMPLES = 48
# How many independent values a calibration set of a few dozen samples shows of one channel, where the shape is unknown.
_CALIBRATED = 1e5
# Where a range is looked at through a function: its ends, all that a rising one needs, and so many places in all that
# the dip of a Swish or Gelu, about a unit wide, is met in a range of the usual few units.
_PLACES = 17
_MOVED = Trait.MOVES | Trait.COPIES
# Beyond what a Gaussian is expected to reach by this, samples are no Gaussian's.
_FAR = 1.5
Ranges = Mapping[str, tuple[float, float]]
Limits = Mapping[str, tuple[Samples, Samples]]
ChannelRanges = Mapping[str, ChannelObservation]


def expected_limits(model: Model, placements: Sequence[Placement], propagation: Propagation) -> Limits:
    """What calibration is expected to see of each element of every activation that has a scale, masks left out.

    Where channels mix, `mean ± sigma sqrt(2 ln n)` for the n values that calibration sees of a channel (the expected
    maximum of n Gaussians); through an activation function the range of its input.
    """
    keys = dict.fromkeys(key for place in placements for key in (place.tensor, place.like))
    return {key: _expected(model, key, propagation) for key in keys if key in propagation.samples}


def value_ranges(placements: Sequence[Placement], limits: Limits) -> Ranges:
    """What calibration is expected to see of every activation that is rounded, whatever the scheme.

    One that shares the scale of another is rounded over the other's range.
    """
    own = {place.like: place.bounds for place in placements if place.like in limits}
    ranges = {like: bounds or _together(*limits[like]) for like, bounds in own.items()}
    return {place.tensor: ranges[place.like] for place in placements if place.tensor in limits and place.like in ranges}


def value_range(model: Model, key: str, propagation: Propagation) -> tuple[float, float]:
    """Smallest and largest value that calibration is expected to see of one tensor, masks left out."""
    return _together(*_expected(model, key, propagation))


def _together(lows: Samples, highs: Samples) -> tuple[float, float]:
    return float(lows.min()), float(highs.max())


def channel_ranges(model: Model, placements: Sequence[Placement], limits: Limits) -> ChannelRanges:
    """The same of each channel of every activation that is rounded, where the file tells its channels apart."""
    found: dict[str, ChannelObservation] = {}
    for place in placements:
        axis = channel_axis(model, place.tensor) if place.tensor in limits else None
        if axis is None:
            continue
        lows, highs = limits[place.tensor]
        if axis >= lows.ndim or lows.shape[axis] == 1:
            continue
        rest = tuple(other for other in range(lows.ndim) if other != axis)
        low, high = lows.min(axis=rest), highs.max(axis=rest)
        found[place.tensor] = ChannelObservation(low.astype(np.float64), high.astype(np.float64))
    return found


def _expected(model: Model, key: str, propagation: Propagation) -> tuple[Samples, Samples]:
    """The smallest and the largest value that are expected of each element, as of `expected_limits`."""
    read, function = _through(model, key, propagation)
    if function is not None:
        grid = np.linspace(*_spread(model, read, propagation.samples[read]), _PLACES)
        with np.errstate(all="ignore"):
            values = np.nan_to_num(function(grid))
        return np.asarray(values.min(axis=0), np.float32), np.asarray(values.max(axis=0), np.float32)
    lows, highs = _spread(model, key, propagation.unmasked(key))
    bounds = _bounds(model, key)
    lows, highs = np.clip(lows, *bounds), np.clip(highs, *bounds)
    filled = _filling(model, key)
    return np.minimum(lows, filled), np.maximum(highs, filled)


def _filling(model: Model, key: str) -> np.float32:
    """What a Pad puts beside the values of a tensor; 0, which every range holds, where there is none."""
    node = model.producer(key)
    if node is None or not node.is_standard or node.op_type != "Pad" or node.text("mode", "constant") != "constant":
        return np.float32(0)
    value, pads = model.constant(node.input(2)) if node.input(2) else None, model.constant(node.input(1))
    number = float(value.ravel()[0]) if value is not None and value.size == 1 else node.float("value", 0.0)
    return np.float32(number if pads is None or pads.any() else 0.0)


def _through(model: Model, key: str, propagation: Propagation) -> tuple[str, Function | None]:
    """The tensor whose range tells that of `key`, with the function in between; None where there is none."""
    node = model.producer(key)
    alone = node is not None and len(set(node.inputs) & propagation.samples.keys()) == 1
    if node is None or not alone or key in propagation.ruled_out or node.input(0) not in propagation.samples:
        return key, None
    return node.input(0), function_of(Site(model, node, propagation.samples))


def _bounds(model: Model, key: str) -> tuple[float, float]:
    """What the operator that made the values cannot pass, wherever they were moved since."""
    (made,) = trace_back(model, key, _MOVED).ends[:1]
    node = model.producer(made)
    if node is not None and has_rounds(node):
        return _bounds(model, made_of(node, made))
    # Activations that a recurrent operator names may have any range, and what an LSTM keeps in its cell has none.
    if node is None or node.attributes.get("activations") or made in node.outputs[2:]:
        return -inf, inf
    return node.operator.bounds or (-inf, inf)


def run_ranges(model: Model, key: str, propagation: Propagation) -> list[tuple[float, float]]:
    """Smallest and largest value that a run is expected to see, as of `value_range`, of a run on each image.

    A quiet moment of a signal has a range of its own, and so have what is made of it.
    """
    read, function = _through(model, key, propagation)
    if function is not None:
        with np.errstate(all="ignore"):
            values = np.nan_to_num(function(np.linspace(*_ends_of_runs(model, read, propagation), _PLACES)))
        lows, highs = values.min(axis=0), values.max(axis=0)
    else:
        bounds = _bounds(model, key)
        lows, highs = (np.clip(ends, *bounds) for ends in _ends_of_runs(model, key, propagation))
    return [(float(low), float(high)) for low, high in zip(lows, highs, strict=True)]


def _ends_of_runs(model: Model, key: str, propagation: Propagation) -> tuple[Samples, Samples]:
    """The ends of a run on each image: of each channel over its places, and those of the samples that the image has.

    The latter are wider where a channel has few places and there are many channels. All channels of an image are as
    loud as each other, beside how loud they are on average.
    """
    samples, shape = propagation.unmasked(key), model.shape(key) or ()
    if _is_picture(model, key, shape):
        low, high = (
            ends.min() if at == 0 else ends.max()
            for at, ends in enumerate(_ends(samples, samples.mean(axis=0), _PIXEL_REACH))
        )
        return np.full(IMAGES, low, np.float32), np.full(IMAGES, high, np.float32)
    # Along these axes, behind the batch, the samples are alike.
    lengths = [length for length, known in zip(shape[1:], samples.shape[2:], strict=False) if known == 1]
    places = _CALIBRATED / _SAMPLES if None in lengths else float(np.prod([length or 1 for length in lengths]))
    images = per_image(samples.reshape(len(samples), -1))
    centre = images.mean(axis=1)
    within = (images - centre[:, None]).reshape(len(samples), -1)
    lows, highs = _ends(within, within.mean(axis=0), sqrt(2 * log(max(places, 2.0))))
    power = np.square(within).mean(axis=0)
    loud = np.square(per_image(within)).mean(axis=(1, 2)) / max(float(power.mean()), 1e-30)
    loud = np.sqrt(loud)[:, None]
    own = images.min(axis=2).mean(axis=1), images.max(axis=2).mean(axis=1)
    return np.minimum((centre + loud * lows).min(axis=1), own[0]), np.maximum(
        (centre + loud * highs).max(axis=1), own[1]
    )


def _is_picture(model: Model, key: str, shape: Sequence[int | None]) -> bool:
    """Whether a tensor is an input of four axes, at most moved."""
    return len(shape) == 4 and {value.name for value in model.inputs}.issuperset(trace_back(model, key, _MOVED).ends)


def _spread(model: Model, key: str, samples: Samples) -> tuple[Samples, Samples]:
    shape = model.shape(key) or ()
    if _is_picture(model, key, shape):
        reach = _PIXEL_REACH
    elif positions_of(samples) > POSITIONS and (alike := _alike(shape, samples)) is not None:
        # Tokens, each by itself: what the samples reach, Gaussian or not; a little more where there are more tokens.
        mean = samples.mean(axis=0)
        more = np.float32(sqrt(log(max(alike * _SAMPLES, len(samples))) / log(len(samples))))
        return mean + more * (samples.min(axis=0) - mean), mean + more * (samples.max(axis=0) - mean)
    elif None in shape[2:]:
        reach = sqrt(2 * log(_CALIBRATED))
    else:
        places = float(np.prod([length or 1 for length in shape[2:]]))
        reach = sqrt(2 * log(max(places * _SAMPLES, 2.0)))
    mean, least, most = samples.mean(axis=0), samples.min(axis=0), samples.max(axis=0)
    lows, highs = _ends(samples, mean, reach)
    # What is far out already among a few samples, as the loud moments of a signal, is met by calibration too.
    lows = np.where(mean - least > _FAR * (mean - lows), least, lows)
    highs = np.where(most - mean > _FAR * (highs - mean), most, highs)
    return lows, highs


def _alike(shape: Sequence[int | None], samples: Samples) -> int | None:
    """How many places of a tensor are represented by its samples; None where that is not known."""
    if len(shape) != samples.ndim - 1:
        return None
    alike = [length for length, apart in zip(shape[1:], samples.shape[2:], strict=True) if apart == 1]
    return None if None in alike else prod(length or 1 for length in alike)


def _ends(samples: Samples, mean: Samples, reach: float) -> tuple[Samples, Samples]:
    """So many deviations below and above the mean of each channel."""
    deviation = samples - mean
    # Each side by its own deviation: many activations are bounded below.
    sides = np.minimum(deviation, 0), np.maximum(deviation, 0, out=deviation)
    below, above = (np.sqrt(np.add.reduce(np.square(side, out=side)) * np.float32(2 / len(side))) for side in sides)
    return np.asarray(mean - reach * below, np.float32), np.asarray(mean + reach * above, np.float32)
