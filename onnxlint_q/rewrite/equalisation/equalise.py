"""Where channels are equalised, by which factors, and where not."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from onnxlint_q.analysis.measured import Measured
from onnxlint_q.analysis.observed.observations import Observations
from onnxlint_q.forecast.network import noise_model
from onnxlint_q.graph import Model
from onnxlint_q.rewrite.candidate import Candidate, Refusal
from onnxlint_q.rewrite.equalisation.balance import balanced
from onnxlint_q.rewrite.equalisation.division import Factors, divided
from onnxlint_q.rewrite.equalisation.noise import TensorTerm, Vector, WeightTerm, least_noise
from onnxlint_q.rewrite.equalisation.passing import has_gates
from onnxlint_q.rewrite.equalisation.terms import Terms
from onnxlint_q.rewrite.equalisation.ties import FIXED, Ties, find_ties
from onnxlint_q.rewrite.rewriting import Rewrite, Safety

# What channels that belong together take off the noise of the network, at least: less is not worth other nodes.
_LEAST = 0.003
# What all of it takes off has to be more than the forecast may be wrong by: of six networks the one that lost (1 dB)
# was to gain 1.3 dB or 1.6, those that gained 2.6 or more.
_WORTH = 10 ** (2 / 10)
# Weights that factors are solved for: two numbers of single precision each, gone through a few hundred times.
_MOST_WEIGHTS = 1 << 26


@dataclass(frozen=True, slots=True)
class Divisors:
    """What the values of one tensor are divided by.

    Attributes:
        tensor: its key.
        shape: of the divisors, broadcastable against the tensor.
        values: in order.
    """

    tensor: str
    shape: tuple[int, ...]
    values: tuple[float, ...]

    @property
    def array(self) -> Factors:
        """The divisors in their shape."""
        return np.asarray(self.values, np.float64).reshape(self.shape)


@dataclass(frozen=True, slots=True)
class Equalisation(Candidate):
    """Channels that belong together: those of one tensor, and of all tensors that have the same factors.

    Attributes:
        divisors: of every tensor between the layers that write the channels and those that read them.
        layers: how many layers write or read them.
    """

    divisors: tuple[Divisors, ...]
    layers: int

    @property
    def tensors(self) -> tuple[str, ...]:
        """See the base class."""
        return tuple(dict.fromkeys((self.tensor, *(one.tensor for one in self.divisors))))

    @property
    def change(self) -> str:
        """See the base class."""
        values = [value for one in self.divisors for value in one.values]
        return (
            f"channels are divided by {min(values):.2g} to {max(values):.2g} "
            f"between the {self.layers} layers whose weights take it up"
        )


def find(measured: Measured, observations: Observations | None) -> Iterator[Equalisation | Refusal]:
    """Sets of channels with the factors for which rounding costs the output least, all of them together.

    Args:
        measured: the network; nothing of one that is quantised already.
        observations: ranges come from them; without any from the forecast.
    """
    if not measured.is_float or not measured.layers:
        return
    ties = find_ties(measured.model)
    yield from (Refusal(key, reason) for key, reason in ties.kept.items())
    if ties.count:
        yield from _found(measured, observations, ties)


def likely(measured: Measured) -> Collection[str]:
    """Tensors whose channels may be divided."""
    return find_ties(measured.model).tensors.keys() if measured.is_float and measured.layers else ()


def _found(measured: Measured, observations: Observations | None, ties: Ties) -> Iterator[Equalisation | Refusal]:
    terms = Terms(measured, observations, noise_model(measured), ties)
    free = np.ones(ties.count, bool)
    weights, too_large = [], np.zeros(ties.count, bool)
    left = _MOST_WEIGHTS
    for joint in sorted(ties.joints, key=lambda joint: joint.weights):
        numbers = np.concatenate([joint.reads, joint.writes])
        numbers = numbers[numbers != FIXED]
        left -= joint.weights if numbers.size else 0
        weight = terms.weight(joint) if numbers.size and left >= 0 else None
        if weight is not None:
            weights.append(weight)
        elif numbers.size:
            free[numbers] = False
            too_large[numbers] = left < 0
    choice = _Choice(ties, [*terms.tensors(), *terms.bounded()], weights)
    logs = choice.settle(free)
    equalised = free & np.isin(ties.sets, ties.sets[logs != 0])
    if equalised.any():
        held = np.append(equalised, False)
        beside = (joint for joint in ties.joints if held[joint.reads].any() or held[joint.writes].any())
        layers = [layer for layer in map(terms.rounded, beside) if layer is not None]
        logs = balanced(layers, logs, equalised)
    yield from _told(ties, logs, free, too_large)


class _Choice:
    """Which sets of channels are worth it."""

    def __init__(self, ties: Ties, tensors: Sequence[TensorTerm], weights: Sequence[WeightTerm]) -> None:
        self._tensors, self._weights = tensors, weights
        self._terms: tuple[TensorTerm | WeightTerm, ...] = (*tensors, *weights)
        self._sets = ties.sets
        self._numbers = tuple(ties.tensors.values())
        self._touched: dict[int, list[TensorTerm | WeightTerm]] = {}
        self._read_by: dict[int, list[int]] = {}
        for term in self._terms:
            numbers = term.numbers[term.numbers != FIXED]
            sets = np.unique(self._sets[numbers]).tolist()
            self._read_by[id(term)] = sets
            for one in sets:
                self._touched.setdefault(one, []).append(term)

    def settle(self, free: npt.NDArray[np.bool_]) -> Vector:
        """Logarithms of the factors, those of sets that are not worth it at zero."""
        logs = least_noise(self._tensors, self._weights, free)
        kept = self._without_poor(logs)
        if (kept != logs).any():
            left = free & np.isin(self._sets, self._sets[kept != 0])
            logs = least_noise(self._tensors, self._weights, left, kept)
            kept = self._without_poor(logs)
        if self._noise(np.zeros_like(kept)) < _WORTH * self._noise(kept):
            return np.zeros_like(kept)
        return self._levelled(kept)

    def _noise(self, logs: Vector) -> float:
        held = np.append(logs, 0.0)
        return math.fsum(term.noise(held) for term in self._terms)

    def _levelled(self, logs: Vector) -> Vector:
        """A factor of all channels of a set changes no figure: the one with which its widest tensor stays as wide."""
        held = np.append(logs, 0.0)
        mixed = {int(self._sets[numbers.max()]) for numbers in self._numbers if numbers.min() == FIXED}
        for one, terms in self._touched.items():
            inside = [term for term in terms if isinstance(term, TensorTerm) and not term.added]
            grown = [term.widest(held) / term.widest(0 * held) for term in inside if term.widest(0 * held) > 0]
            here = self._sets == one
            if grown and one not in mixed and (logs[here] != 0).any():
                held[:-1][here] += math.log(max(grown))
        return held[:-1]

    def _without_poor(self, logs: Vector) -> Vector:
        """Leave out one set after the other, that which gains least, until each is worth it."""
        held = np.append(logs, 0.0)
        left = {one for one in self._touched if (held[:-1][self._sets == one] != 0).any()}
        total = self._noise(logs)
        gains = {one: self._gain(one, held) for one in left}
        while left:
            poorest = min(left, key=lambda one: gains[one])
            if gains[poorest] > _LEAST * total:
                break
            total += gains[poorest]
            held[:-1][self._sets == poorest] = 0
            left.remove(poorest)
            beside = self._beside(poorest) & left
            gains |= {one: self._gain(one, held) for one in beside}
        held[:-1][~np.isin(self._sets, list(left))] = 0
        return held[:-1]

    def _beside(self, one: int) -> set[int]:
        """Sets that share a term with this one."""
        return {other for term in self._touched[one] for other in self._read_by[id(term)]}

    def _gain(self, one: int, held: Vector) -> float:
        """What the noise would rise by without the factors of a set."""
        without = held.copy()
        without[:-1][self._sets == one] = 0
        return math.fsum(term.noise(without) - term.noise(held) for term in self._touched[one])


def _told(
    ties: Ties, logs: Vector, free: npt.NDArray[np.bool_], too_large: npt.NDArray[np.bool_]
) -> Iterator[Equalisation | Refusal]:
    """Each set by the first layer that writes it."""
    factors = np.append(np.exp(logs), 1.0)
    sets = np.append(ties.sets, FIXED)
    members: dict[int, list[str]] = {}
    for key, numbers in ties.tensors.items():
        members.setdefault(int(sets[numbers].max()), []).append(key)
    layers: dict[int, set[str]] = {}
    first: dict[int, str] = {}
    for joint in ties.joints:
        written, read = (set(sets[numbers].tolist()) - {FIXED} for numbers in (joint.writes, joint.reads))
        for one in written:
            first.setdefault(one, joint.layer.output)
        for one in written | read:
            layers.setdefault(one, set()).add(joint.layer.output)
    for one, key in first.items():
        here = sets[:-1] == one
        if (logs[here] != 0).any():
            divisors = [
                Divisors(tensor, numbers.shape, tuple(factors[numbers].ravel().tolist()))
                for tensor in members[one]
                if (factors[numbers := ties.tensors[tensor]] != 1).any()
            ]
            yield Equalisation(key, tuple(divisors), len(layers[one]))
        elif too_large[here].any():
            yield Refusal(
                key, f"factors are solved for {_MOST_WEIGHTS >> 20} million weights, the smallest layers first"
            )
        elif not free[here].all():
            yield Refusal(key, "what errors in a layer beside it cost the output is not known")
        else:
            yield Refusal(key, "rounding is foreseen to cost about as much with its channels equalised")


def apply(model: Model, candidates: Sequence[Equalisation]) -> Model:
    """A copy of the model with the channels of these sets equalised."""
    return divided(model, {one.tensor: one.array for candidate in candidates for one in candidate.divisors})


REWRITE = Rewrite(
    name="cross-layer-equalisation",
    what="channels of unlike width equalised between layers",
    safety=Safety.EXACT,
    find=find,
    apply=apply,
    # A bound of each channel is a node of its own, between two that would be one, and so is what a gate reads.
    adds_nodes=lambda model: any(model.nodes_of("Clip")) or has_gates(model),
    likely=likely,
)
