"""What rounding activations costs at the output.

A static quantiser rounds a tensor for all its readers, over what calibration saw. A dynamic one rounds it in front of
those that have integer operators, over what one run holds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from math import isinf, isnan, sqrt
from operator import add

import numpy as np

from onnxlint_q.analysis.folding import FoldedLayer
from onnxlint_q.analysis.number_formats import NumberFormat, activation_qparams, activation_step
from onnxlint_q.analysis.placement import Placement, dynamic_tensors, scaled_tensors, stored_tensor
from onnxlint_q.analysis.schemes import Scheme
from onnxlint_q.forecast.forward import RULES, Propagation
from onnxlint_q.forecast.population import IMAGES, Samples
from onnxlint_q.forecast.rounding.limits import Ranges, run_ranges
from onnxlint_q.forecast.step import Site, Step
from onnxlint_q.forecast.transfer import ByImage, OutputCost
from onnxlint_q.forecast.unmodelled import UnmodelledError
from onnxlint_q.graph import Model, Node, Trait, trace_forward

# Noise over signal where nothing is left: so much that no other tensor counts beside it.
_LOST = 1e3
_CODES = 255


@dataclass(frozen=True, slots=True, eq=False)
class ActivationNoise:
    """Noise over signal at the output from rounding activations, image by image.

    Attributes:
        by_tensor: one figure an image, by key of the rounded tensor.
        by_layer: what of it belongs to each layer, by layer key: that of the tensor that carries its result, or that of
            rounding what it reads.
        ruined: tables of the file with values that are not finite: their scale is no number, nor is what is looked up.
        undefined: tensors whose range is no number, because a parameter that decides it is NaN.
    """

    by_tensor: Mapping[str, ByImage]
    by_layer: Mapping[str, ByImage]
    ruined: tuple[str, ...] = ()
    undefined: tuple[str, ...] = ()


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
    undefined: list[str] = []
    places = scaled_tensors(model, layers, layers_only=True) if scheme.layers_only else ()
    rounded = {place.tensor for place in places} if scheme.layers_only else ranges.keys()
    for key, (low, high) in ranges.items():
        if key in costs and key in rounded:
            limits = low + floors.get(key, 0.0), high
            if isnan(low) or isnan(high):
                undefined.append(key)
                continue
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
    by_layer = {layer: noise[key] for layer, key in results.items() if key in noise}
    return ActivationNoise(noise, by_layer, undefined=tuple(undefined))


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
