"""A node with the numbers of what it reads, and what an operator does with factors.

A tensor has one number for each channel with a factor of its own: an array of its rank, of length 1 along an axis on
which nothing is told apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from onnxlint_q.graph import Model, Node
from onnxlint_q.graph.settled import is_known
from onnxlint_q.graph.tensors import Array

Numbers = npt.NDArray[np.int64]

# A list of axes, pads or sizes is shorter than this; so many channels of one tensor are told apart.
MANY, _MOST = 4096, 1 << 17


class KeptError(Exception):
    """The factors of what a node reads have to stay 1; the message says why, half a sentence about the node."""


@dataclass(slots=True)
class Passed:
    """What an operator does with factors.

    Attributes:
        results: numbers of each result that has any, by key.
        alike: pairs of arrays of numbers that have to have one factor, element by element.
        kept: inputs whose factors have to stay 1.
    """

    results: Mapping[str, Numbers]
    alike: list[tuple[Numbers, Numbers]] = field(default_factory=list)
    kept: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Site:
    """A node with the numbers of what it reads.

    Attributes:
        known: by tensor key; a constant has none.
        settled: values of computed tensors that do not depend on the inputs.
        new: so many numbers that nothing has yet.
    """

    model: Model
    node: Node
    known: Mapping[str, Numbers]
    settled: Mapping[str, Array]
    new: Callable[[int], Numbers]

    @property
    def first(self) -> Numbers:
        """Numbers of the first input."""
        return self.of(self.node.input(0))

    def of(self, key: str) -> Numbers:
        """Numbers of a tensor.

        Raises:
            KeptError: it has none.
        """
        if key not in self.known:
            raise KeptError("reads a constant there")
        return self.known[key]

    def integers(self, slot: int, attribute: str) -> tuple[int, ...] | None:
        """Integers of an input, or of an attribute as in older opsets; None where there are none or they are open."""
        key = self.node.input(slot)
        if not key:
            return self.node.ints(attribute) or None
        value = self.settled.get(key)
        value = self.model.constant(key) if value is None else value
        if value is None or value.dtype.kind not in "iu" or value.size > MANY or not is_known(value):
            return None
        return tuple(int(one) for one in value.ravel())

    def one_result(self, numbers: Numbers, kept: tuple[str, ...] = ()) -> Passed:
        """The first result with these numbers."""
        return Passed({self.node.output: numbers}, kept=kept)


def others(site: Site) -> tuple[str, ...]:
    """Inputs beside the first one that are computed: a slope, a size."""
    return tuple(key for key in site.node.inputs[1:] if key in site.known)


def of_rank(numbers: Numbers, rank: int) -> Numbers:
    """The same with more axes in front."""
    return numbers.reshape((1,) * (rank - numbers.ndim) + numbers.shape)


def check_count(count: int) -> None:
    """That not too many channels are told apart.

    Raises:
        KeptError: there are more.
    """
    if count > _MOST:
        raise KeptError("has more channels than are told apart")
