"""What a transfer rule gets and gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from onnxlint_q.analysis.sizes.usual import OPEN_LENGTH
from onnxlint_q.forecast.population import IMAGES, POSITIONS, Samples, positions_of
from onnxlint_q.forecast.transfer import ByImage, OutputCost, Transfer
from onnxlint_q.forecast.unmodelled import UnmodelledError
from onnxlint_q.graph import Model, Node
from onnxlint_q.graph.settled import is_known

# A list of axes, pads or sizes is shorter than this.
_MANY = 4096


@dataclass(frozen=True, slots=True, eq=False)
class Edge:
    """How an error in `source` reaches one output of a node, given by its position."""

    source: str
    transfer: Transfer
    output: int = 0


class Reading(Protocol):
    """How the weights of a node reach its outputs, where that is more than one product."""

    def weight_noise(
        self, errors: Mapping[str, npt.NDArray[np.float32]], costs: Sequence[OutputCost | None]
    ) -> Mapping[str, ByImage]:
        """Noise at the model's output, over its signal, for an error of each weight, image by image.

        Args:
            errors: `[channels, values]` by the name of the weight.
            costs: what an error in each output of the node costs; None where it reaches no output of the model.
        """
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Rounds:
    """What a node does round after round: the last of them, and how an error passes from one to the next.

    The edges beside `steps` stand with the tensor of the body that they lead to.

    Attributes:
        count: how many rounds an error is followed back through, at most.
        steps: nodes of the body with their edges, in data order.
        results: tensors of the body that the node gives.
        entered: edges from outside, in every round.
        begun: edges from outside in the first round, which is the last on the way back.
        fed_back: edges from the end of the round before.
    """

    count: int
    steps: tuple[tuple[Node, Step], ...]
    results: tuple[str, ...]
    entered: tuple[tuple[str, Edge], ...] = ()
    begun: tuple[tuple[str, Edge], ...] = ()
    fed_back: tuple[tuple[str, Edge], ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """Samples of a node's outputs, and the edges into them.

    Attributes:
        shape: of the first output, where inference may not know it.
        reading: of a recurrent operator, how errors of its weights reach the outputs.
        rounds: of a node that goes through a body again and again, what happens there.
    """

    outputs: tuple[Samples, ...]
    edges: tuple[Edge, ...]
    shape: tuple[int | None, ...] | None = None
    reading: Reading | None = None
    rounds: Rounds | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Site:
    """A node with what is known of its inputs.

    Attributes:
        known: samples by tensor key, of everything computed so far.
        settled: values of computed tensors that do not depend on the inputs.
        shapes: of tensors of which more is known than inference tells.
    """

    model: Model
    node: Node
    known: Mapping[str, Samples] = field(repr=False)
    settled: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict, repr=False)
    shapes: Mapping[str, tuple[int | None, ...]] = field(default_factory=dict, repr=False)

    @property
    def positions(self) -> int:
        """How many samples an image has."""
        held = next(iter(self.known.values()), None)
        return POSITIONS if held is None else positions_of(held)

    @property
    def size(self) -> int:
        """How many samples there are."""
        return IMAGES * self.positions

    def samples(self, index: int = 0) -> Samples | None:
        """Of one input; None where it is absent, unknown or constant."""
        return self.known.get(self.node.input(index))

    def varying(self, index: int = 0) -> Samples:
        """Of one input that has to vary.

        Raises:
            UnmodelledError: it does not, or nothing is known of it.
        """
        samples = self.samples(index)
        if samples is None:
            raise UnmodelledError("nothing is known of what it reads")
        return samples

    def rank(self, index: int = 0) -> int:
        """Of one input whose samples are known; 0 where they are not."""
        samples = self.samples(index)
        return 0 if samples is None else samples.ndim - 1

    def constant(self, index: int) -> npt.NDArray[np.float32] | None:
        """Value of a numeric input that does not depend on the model's inputs."""
        return self.value(self.node.input(index))

    def value(self, key: str) -> npt.NDArray[np.float32] | None:
        """The same of any tensor."""
        value = self._value(key)
        if value is None or not is_known(value) or not (value.dtype.kind in "fiub" or "float" in value.dtype.name):
            return None
        return value.astype(np.float32, copy=False)

    def integers(self, index: int, attribute: str, partly: bool = False) -> tuple[int, ...] | None:
        """Integers that older opsets keep in an attribute and newer ones in an input; None if absent or unknown.

        With `partly`, a list in which some are unknown is given, -1 for these.
        """
        if self.node.input(index):
            value = self._value(self.node.input(index))
            if value is None or value.dtype.kind not in "iub" or value.size > _MANY:
                return None
            if not (partly or is_known(value)):
                return None
            return tuple(max(int(v), -1) if partly else int(v) for v in value.ravel())
        return self.node.ints(attribute) or None

    def _value(self, key: str) -> npt.NDArray[Any] | None:
        value = self.settled.get(key)
        return self.model.constant(key) if value is None and key else value

    def shape(self, key: str) -> tuple[int | None, ...] | None:
        """Shape of a tensor as far as it is known."""
        return self.shapes.get(key) or self.model.shape(key)

    def stands_for(self, index: int, axis: int) -> int:
        """How many places a place of one input stands for along an axis on which none are told apart, else 1.

        The samples are at some of these places, the later positions of an image at later ones.
        """
        samples = self.samples(index)
        if samples is None or not -samples.ndim < axis < samples.ndim - 1:
            return 1
        if samples.shape[axis + 1 if axis >= 0 else axis] != 1:
            return 1
        shape = self.shape(self.node.input(index))
        if shape is None or len(shape) != samples.ndim - 1:
            return OPEN_LENGTH
        first = axis in {0, -len(shape)}  # a batch of one, where nothing else is known
        return shape[axis] or (1 if first else OPEN_LENGTH)

    def merged(self, index: int) -> tuple[int, ...]:
        """Axes of one input along which a sample is at one of several places, none of which is told apart."""
        return tuple(axis for axis in range(self.rank(index)) if self.stands_for(index, axis) > 1)

    def position(self, axis: int, place: int) -> int | None:
        """The position of an image that stands for a place of the first input along `axis`.

        None where places are told apart along it, or a sample is at one of several places of another axis too.
        """
        length, rank = self.stands_for(0, axis), self.rank(0)
        if length == 1 or self.merged(0) != (axis % rank,) or not -length <= place < length:
            return None
        place, last = place % length, self.positions - 1
        if POSITIONS < self.positions < length:
            return min(place, last) if 2 * place < length else max(last - (length - 1 - place), 0)
        return place * self.positions // length

    def places(self, length: int) -> npt.NDArray[np.intp]:
        """At which of so many places the positions of an image are.

        Those of a picture are spread over it. Tokens are the first of a sequence, as neighbours are alike to attention.
        """
        count = self.positions
        return np.arange(count) if POSITIONS < count < length else np.arange(count) * length // count

    def count(self, index: int, axes: tuple[int, ...], default: int) -> int:
        """How many elements an input has along `axes`; `default` for an axis of unknown length."""
        shape = self.shape(self.node.input(index))
        lengths = (shape[a] if shape is not None and -len(shape) <= a < len(shape) else None for a in axes)
        return int(np.prod([length or default for length in lengths]))


TransferRule = Callable[[Site], Step]
"""A rule raises UnmodelledError where it does not know what to do with a node."""
