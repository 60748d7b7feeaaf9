"""What is rounded in a network, how far it reaches, and what errors in it cost, channel by channel."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxlint_q.analysis.measured import Measured
from onnxlint_q.analysis.observed.observations import ChannelObservation, Observations
from onnxlint_q.analysis.placement import Placement
from onnxlint_q.forecast.network import NoiseModel
from onnxlint_q.forecast.population import IMAGES, Samples, per_image
from onnxlint_q.forecast.rounding.limits import expected_limits
from onnxlint_q.forecast.transfer import OutputCost
from onnxlint_q.graph import Node, channel_axis
from onnxlint_q.rewrite.equalisation.balance import Rounded
from onnxlint_q.rewrite.equalisation.noise import TensorTerm, Vector, WeightTerm
from onnxlint_q.rewrite.equalisation.passing import limits
from onnxlint_q.rewrite.equalisation.site import Numbers
from onnxlint_q.rewrite.equalisation.ties import Joint, Ties, by_group


@dataclass(frozen=True, eq=False)
class Terms:
    """Of one network.

    Attributes:
        observations: where ranges come from; the forecast where nothing was run.
        network: the forecast.
    """

    measured: Measured
    observations: Observations | None
    network: NoiseModel
    ties: Ties

    def tensors(self) -> Iterator[TensorTerm]:
        """Activations that are rounded over a range of their own."""
        for place in self.measured.placements:
            numbers = self.ties.tensors.get(place.tensor)
            if place.constant or place.like != place.tensor or numbers is None:
                continue
            seen, cost = self._seen(place.tensor, numbers), self._cost(place.tensor, numbers)
            if seen is not None and cost is not None:
                low, high = (np.ravel(np.broadcast_to(end, numbers.shape)).astype(np.float64) for end in seen)
                yield TensorTerm(numbers.ravel(), np.maximum(-low, 0), np.maximum(high, 0), cost)

    def bounded(self) -> Iterator[TensorTerm]:
        """What a Clip would leave for bounds of each channel to cut: it is rounded before them."""
        for node in self.measured.model.nodes_of("Clip"):
            numbers = self.ties.tensors.get(node.output)
            cost = self._cost(node.input(0), numbers) if numbers is not None else None
            if numbers is None or cost is None:
                continue
            ends = self._reach(node, numbers)
            if ends is not None:
                least, most = limits(self.measured.model, node)
                yield TensorTerm(numbers.ravel(), *ends, cost, (max(-least, 0.0), max(most, 0.0)), added=True)

    def _reach(self, node: Node, numbers: Numbers) -> tuple[Vector, Vector] | None:
        """How far the channels that a Clip reads are expected to reach."""
        place = Placement(node.input(0), node.input(0))
        found = expected_limits(self.measured.model, [place], self.network.propagation).get(place.tensor)
        if found is None:
            return None
        low, high = (_reduced(ends, numbers, np.max) for ends in (np.maximum(-found[0], 0), np.maximum(found[1], 0)))
        return (low, high)

    def _cost(self, tensor: str, numbers: Numbers) -> Vector | None:
        """Of an error of unit variance in each channel, independent from place to place."""
        cost = self.network.costs.get(tensor)
        return None if cost is None else _finite(_reduced(_apart(cost), numbers, np.sum))

    def _seen(self, tensor: str, numbers: Numbers) -> tuple[Vector | float, Vector | float] | None:
        """How far each channel reaches."""
        channels: ChannelObservation | None
        if self.observations is not None:
            held = self.observations.tensors.get(tensor)
            if held is None:
                return None
            channels, ends = held.channels, (held.low, held.high)
        else:
            if tensor not in self.network.ranges:
                return None
            channels, ends = self.network.channels.get(tensor), self.network.ranges[tensor]
        axis = channel_axis(self.measured.model, tensor)
        if channels is None or axis is None or not numbers.size == numbers.shape[axis] == channels.low.size:
            return ends
        return channels.low.reshape(numbers.shape), channels.high.reshape(numbers.shape)

    def weight(self, joint: Joint) -> WeightTerm | None:
        """The weight of a layer; None where nothing is known of what it reads, or of what errors there cost."""
        layer, model = joint.layer, self.measured.model
        samples, cost = self.network.propagation.samples.get(layer.input), self.network.costs.get(layer.output)
        if samples is None or cost is None:
            return None
        grouped = np.abs(by_group(layer, layer.read_weight(model).astype(np.float32)))
        groups, outputs, inputs, taps = grouped.shape
        # An error of a weight adds up over positions as far as what it meets stays the same, and averages out as far as
        # that varies. Correcting biases takes the first part off; what is chosen here has to do with and without it.
        axis = 1 if layer.inputs.convolves else -1
        met = np.sqrt(np.square(samples).mean(axis=0, dtype=np.float64) * samples.var(axis=0, dtype=np.float64))
        costs = _along(np.sqrt(_together(cost) * _apart(cost)), axis, groups * outputs, np.sum)
        power = _along(met, axis, groups * inputs, np.mean)
        if _finite(power) is None or _finite(costs) is None:
            return None
        return WeightTerm(
            joint.reads.reshape(groups, inputs),
            joint.writes.reshape(groups, outputs),
            grouped.max(axis=3),
            power.reshape(groups, inputs),
            costs.reshape(groups, outputs) * taps,
        )

    def rounded(self, joint: Joint) -> Rounded | None:
        """A layer with what rounding its weight shifts in the mean; None where nothing is known of that."""
        layer = joint.layer
        samples, cost = self.network.propagation.samples.get(layer.input), self.network.costs.get(layer.output)
        if samples is None or cost is None:
            return None
        weight = by_group(layer, layer.read_weight(self.measured.model).astype(np.float64))
        groups, outputs, inputs, _ = weight.shape
        axis = 1 if layer.inputs.convolves else -1
        mean = _along(samples.mean(axis=0, dtype=np.float64), axis, groups * inputs, np.mean)
        costs = _along(_together(cost), axis, groups * outputs, np.sum)
        if _finite(mean) is None or _finite(costs) is None:
            return None
        return Rounded(
            joint.reads.reshape(groups, inputs),
            joint.writes.reshape(groups, outputs),
            weight,
            mean.reshape(groups, inputs),
            costs.reshape(groups, outputs),
        )


def _apart(cost: OutputCost) -> Vector:
    """What an error costs that is independent from place to place, by place of a sample."""
    share = np.broadcast_to(np.asarray(cost.share * cost.apart, np.float64), IMAGES)
    power = np.square(per_image(cost.rows)).sum(axis=1, dtype=np.float64)
    return np.asarray(np.tensordot(share, power, 1) / IMAGES)


def _together(cost: OutputCost) -> Vector:
    """The same of an error that is one at all positions of an image."""
    return np.asarray(np.square(per_image(cost.rows).sum(axis=1)).mean(axis=0, dtype=np.float64))


def _finite(values: Vector) -> Vector | None:
    return values if np.isfinite(values).all() else None


def _reduced(values: Vector | Samples, numbers: Numbers, reduce: Callable[..., Any]) -> Vector:
    """One value for each place of an array of numbers."""
    axes = tuple(axis for axis, length in enumerate(numbers.shape) if length == 1)
    return np.ravel(np.broadcast_to(reduce(values, axis=axes, keepdims=True), numbers.shape)).astype(np.float64)


def _along(values: Vector, axis: int, count: int, reduce: Callable[..., Any]) -> Vector:
    """One value for each of so many channels along an axis."""
    moved = np.moveaxis(values, axis, 0)
    return np.broadcast_to(reduce(moved.reshape(len(moved), -1), axis=1), count)
