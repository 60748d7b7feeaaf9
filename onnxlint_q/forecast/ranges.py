"""Activations: over which range a quantiser rounds each of them, and what that costs at the output.

A static one rounds a tensor for all its readers, over what calibration saw. A dynamic one rounds it in front of those
that have integer operators, over what one run holds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from math import inf, isinf, log, prod, sqrt
from operator import add

import numpy as np

from onnxlint_q.analysis.folding import FoldedLayer
from onnxlint_q.analysis.number_formats import NumberFormat, activation_qparams, activation_step
from onnxlint_q.analysis.observed.observations import ChannelObservation
from onnxlint_q.analysis.placement import Placement, dynamic_tensors, stored_tensor
from onnxlint_q.analysis.schemes import Scheme
from onnxlint_q.forecast.operators.control.bodies import has_rounds, made_of
from onnxlint_q.forecast.operators.elementwise import Function, function_of
from onnxlint_q.forecast.population import IMAGES, POSITIONS, Samples, per_image, positions_of
from onnxlint_q.forecast.step import Site, Step
from onnxlint_q.forecast.sweep import RULES, Propagation
from onnxlint_q.forecast.transfer import ByImage, OutputCost
from onnxlint_q.forecast.unmodelled import UnmodelledError
from onnxlint_q.graph import Model, Node, Trait, channel_axis, trace_back, trace_forward

# Pixels are bounded: in photographs black and white lie about this many deviations from the mean.
_PIXEL_REACH = 2.4
_SAMPLES = 48
# Noise over signal where nothing is left: so much that no other tensor counts beside it.
_LOST = 1e3
_CODES = 255
# How many independent values a calibration set of a few dozen samples shows of one channel, where the shape is unknown.
_CALIBRATED = 1e5
# Where a range is looked at through a function: its ends, all that a rising one needs, and so many places in all that
# the dip of a Swish or Gelu, about a unit wide, is met in a range of the usual few units.
_PLACES = 17
_MOVED = Trait.MOVES | Trait.COPIES
# Beyond what a Gaussian is expected to reach by this, samples are no Gaussian's.
_FAR = 1.5


@dataclass(frozen=True, slots=True, eq=False)
class ActivationNoise:
    """Noise over signal at the output from rounding activations, image by image.

    Attributes:
        by_tensor: one figure an image, by key of the rounded tensor.
        by_layer: what of it belongs to each layer, by layer key: that of the tensor that carries its result, or that of
            rounding what it reads.
        ruined: tables of the file with values that are not finite: their scale is no number, nor is what is looked up.
    """

    by_tensor: Mapping[str, ByImage]
    by_layer: Mapping[str, ByImage]
    ruined: tuple[str, ...] = ()


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


def activation_noise(
    model: Model,
    layers: Sequence[FoldedLayer],
    scheme: Scheme,
    propagation: Propagation,
    ranges: Ranges,
    costs: Mapping[str, OutputCost],
    floors: Mapping[str, float],
) -> ActivationNoise:
    """What rounding every activation that a scheme rounds costs.

    Args:
        model: the network.
        layers: its folded layers.
        scheme: which.
        propagation: samples of every tensor.
        ranges: calibrated ones.
        costs: what an error in a tensor costs.
        floors: what masks add to the lower end of some ranges.
    """
    if scheme.is_dynamic:
        return _dynamic_noise(model, layers, scheme, propagation, costs)
    noise: dict[str, ByImage] = {}
    for key, (low, high) in ranges.items():
        if key in costs:
            limits = low + floors.get(key, 0.0), high
            if isinf(limits[0]) and scheme.activations is not None and not scheme.activations.is_float:
                noise[key] = _noise_of_nothing(model, key, propagation, costs)
                continue
            samples = propagation.samples[key]
            gone = _is_gone(limits, scheme, propagation.unmasked(key))
            known = _noise_of_zeros(model, key, propagation, costs) if gone else None
            if _log_of_zero(model, key, limits, scheme, samples):
                known = np.full(IMAGES, _LOST)
            finer = _fineness(model, key, samples)
            noise[key] = rounding_noise(*limits, scheme, samples, costs[key], finer) if known is None else known
    results = {folded.output: stored_tensor(model, folded.output) for folded in layers}
    return ActivationNoise(noise, {layer: noise[key] for layer, key in results.items() if key in noise})


def _dynamic_noise(
    model: Model,
    layers: Sequence[FoldedLayer],
    scheme: Scheme,
    propagation: Propagation,
    costs: Mapping[str, OutputCost],
) -> ActivationNoise:
    """What rounding the input of every layer costs, over the range of one run and for that layer alone.

    Tables of the file are rounded over their own range.
    """
    number, steps = scheme.activations, dict(propagation.steps)
    assert number is not None
    # The layers of `model`, which may be another view of the network than that in which they were found.
    nodes = {folded.output: model.producer(folded.layer.output) for folded in layers if scheme.quantises(folded.layer)}
    keys = {node: key for key, node in nodes.items() if node is not None}
    found = (replace(folded.layer, node=node) for folded in layers if (node := nodes.get(folded.output)) is not None)
    by_tensor: dict[str, ByImage] = {}
    by_layer: dict[str, ByImage] = {}
    ruined: list[str] = []
    for place in dynamic_tensors(model, found):
        if place.moved or not (place.constant or place.tensor in propagation.samples):
            continue
        if place.constant:
            table = model.constants[place.tensor]
            if not np.isfinite(table).all():
                ruined.append(place.tensor)
                continue
            runs = [(float(table.min()), float(table.max())) if table.size else (0.0, 0.0)]
        else:
            runs = run_ranges(model, place.tensor, propagation)
        variance = np.array([activation_step(*limits, number) ** 2 / 12 for limits in runs])
        for node in place.asked:
            # What a lookup gives holds the rounded values of the table.
            cost = (
                costs.get(node.output) if place.constant else _read_cost(model, place, node, steps, propagation, costs)
            )
            if cost is None or not np.isfinite(variance).all():
                continue
            power = variance * cost.white
            by_tensor[place.tensor] = by_tensor.get(place.tensor, 0.0) + power
            if node in keys:
                by_layer[keys[node]] = power
    return ActivationNoise(by_tensor, by_layer, tuple(ruined))


def _read_cost(
    model: Model,
    place: Placement,
    node: Node,
    steps: Mapping[Node, Step],
    propagation: Propagation,
    costs: Mapping[str, OutputCost],
) -> OutputCost | None:
    """What an error in a tensor costs that one of its readers alone meets."""
    if model.sole_consumer(place.tensor) is node:
        return costs.get(place.tensor)
    edges = steps[node].edges if node in steps else ()
    pulled = [
        edge.transfer.pull(costs[node.outputs[edge.output]])
        for edge in edges
        if edge.source == place.tensor and node.outputs[edge.output] in costs
    ]
    return reduce(add, pulled) if pulled else None


def _log_of_zero(model: Model, key: str, limits: tuple[float, float], scheme: Scheme, samples: Samples) -> bool:
    """Whether a Log reads values that are rounded to zero, which it makes minus infinity of."""
    number = scheme.activations
    if number is None or number.is_float or not (samples >= 0).all():
        return False
    passed = trace_forward(model, key, Trait.MOVES | Trait.COPIES).tensors
    logs = any(node.is_standard and node.op_type == "Log" for one in passed for node in model.consumers(one))
    return logs and bool((samples < activation_step(*limits, number) / 2).any())


def _fineness(model: Model, key: str, samples: Samples) -> float:
    """How many times longer steps are beside the weights of a mean over more places than are represented.

    Weights of `n` places stand for those of `l`, which are smaller by `n / l`. Errors of weights that are many steps
    long are independent, so that a mean takes off their amplitude what it takes off by `l` and not by `n`; weights
    under a step become zero together.
    """
    node, shape = model.producer(key), model.shape(key)
    if node is None or not node.operator.has(Trait.SCORES) or shape is None or len(shape) != samples.ndim - 1:
        return 1.0
    axis = node.int("axis", -1)
    length, have = (shape[axis], samples.shape[1:][axis]) if -len(shape) <= axis < len(shape) else (None, 1)
    if length is None or not 1 < have < length:
        return 1.0
    return float((length / have) ** ((1 + min(length / _CODES, 1.0)) / 2))


def rounding_noise(
    low: float, high: float, scheme: Scheme, samples: Samples, cost: OutputCost, finer: float = 1.0
) -> ByImage:
    """Noise over signal at the output from rounding one tensor with values in `[low, high]`, widened to contain zero.

    One figure an image.

    Rounding to steps of a length makes an error of variance step² / 12 (Widrow). The steps of a floating-point code
    with m bits of mantissa are 2^-m of the power of two below the value; its subnormals are taken for exact. With a
    mask, which takes the range down by `floor`, steps may be longer than the values. These become zero then, so that
    none is off by more than itself, unless the mask overflows. `finer` is how many times longer steps are beside the
    values than beside these samples.
    """
    number = scheme.activations
    if number is None:
        return np.zeros(IMAGES)
    if number.is_float:
        _, exponent = np.frexp(samples)
        steps = np.where(samples == 0, 0, np.ldexp(np.float32(1), exponent - 1 - number.mantissa_bits))
        return cost.uneven(np.asarray(steps / sqrt(12), np.float32))
    deviation = finer * activation_step(low, high, number) / sqrt(12)
    if _overflows(low, high, number):
        return deviation**2 * cost.white
    # Zero has a code of its own, so no value is moved by more than itself.
    return cost.uneven(np.minimum(np.abs(samples), np.float32(deviation)))


def _overflows(low: float, high: float, number: NumberFormat) -> bool:
    """Whether the lowest code is minus infinity in float32, whose product with zero leaves nothing of any score.

    The scale of 16 bits that the smallest float32 asks for is a little too large.
    """
    scale, zero_point = activation_qparams(low, high, number)
    with np.errstate(over="ignore"):
        return bool(np.isinf(scale * np.float32(number.lowest - zero_point)))


def _is_gone(limits: tuple[float, float], scheme: Scheme, samples: Samples) -> bool:
    """Whether every value is rounded to zero, and zero stays what it is."""
    number = scheme.activations
    if number is None or number.is_float:
        return False
    longer = activation_step(*limits, number) > 2 * max(float(samples.max()), -float(samples.min()))
    return longer and not _overflows(*limits, number)


def _noise_of_nothing(model: Model, key: str, propagation: Propagation, costs: Mapping[str, OutputCost]) -> ByImage:
    """Noise over signal at the output where a tensor is no number: what reads it is rounded to zero."""
    samples, made = propagation.samples, [node.output for node in model.consumers(key)]
    lost = made if all(one in costs for one in made) else [key]
    return sum((costs[one].whole(samples[one]) for one in lost), np.zeros(IMAGES))


def _noise_of_zeros(
    model: Model, key: str, propagation: Propagation, costs: Mapping[str, OutputCost]
) -> ByImage | None:
    """Noise over signal at the output where a tensor is all zeros but for masks; None where readers read others, too.

    The readers are computed on the zeros, as no slope tells what becomes of a Softmax that was sure.
    """
    samples, noise = propagation.samples, np.zeros(IMAGES)
    for node in model.consumers(key):
        rule, made = RULES.get(node.op_type), node.output
        if rule is None or made not in costs or samples.keys() & set(node.inputs) != {key}:
            return None
        zeros = {key: samples[key] - propagation.unmasked(key)}
        try:
            changed = rule(Site(model, node, zeros, shapes=propagation.shapes)).outputs[0]
        except UnmodelledError:  # it reads something else, too
            return None
        noise += costs[made].whole(changed - samples[made])
    return noise


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
    lows, highs = np.clip(lows, *_bounds(model, key)), np.clip(highs, *_bounds(model, key))
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
        low, high = (ends.min() if at == 0 else ends.max() for at, ends in enumerate(_ends(samples, _PIXEL_REACH)))
        return np.full(IMAGES, low, np.float32), np.full(IMAGES, high, np.float32)
    # Along these axes, behind the batch, the samples are alike.
    lengths = [length for length, known in zip(shape[1:], samples.shape[2:], strict=False) if known == 1]
    places = _CALIBRATED / _SAMPLES if None in lengths else float(np.prod([length or 1 for length in lengths]))
    images = per_image(samples.reshape(len(samples), -1))
    centre = images.mean(axis=1)
    within = (images - centre[:, None]).reshape(len(samples), -1)
    lows, highs = _ends(within, sqrt(2 * log(max(places, 2.0))))
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
    lows, highs = _ends(samples, reach)
    # What is far out already among a few samples, as the loud moments of a signal, is met by calibration too.
    mean, least, most = samples.mean(axis=0), samples.min(axis=0), samples.max(axis=0)
    lows = np.where(mean - least > _FAR * (mean - lows), least, lows)
    highs = np.where(most - mean > _FAR * (highs - mean), most, highs)
    return lows, highs


def _alike(shape: Sequence[int | None], samples: Samples) -> int | None:
    """How many places of a tensor are represented by its samples; None where that is not known."""
    if len(shape) != samples.ndim - 1:
        return None
    alike = [length for length, apart in zip(shape[1:], samples.shape[2:], strict=True) if apart == 1]
    return None if None in alike else prod(length or 1 for length in alike)


def _ends(samples: Samples, reach: float) -> tuple[Samples, Samples]:
    """So many deviations below and above the mean of each channel."""
    mean = samples.mean(axis=0)
    # Each side by its own deviation: many activations are bounded below.
    below, above = (
        np.sqrt(2 * (side**2).mean(axis=0)) for side in (np.minimum(samples - mean, 0), np.maximum(samples - mean, 0))
    )
    return np.asarray(mean - reach * below, np.float32), np.asarray(mean + reach * above, np.float32)
