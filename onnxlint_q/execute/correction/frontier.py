"""A network that is run piece by piece on all samples, each piece from what the ones before it have left.

Between two pieces there is a frontier: the tensors that later pieces read. It is kept for every sample, so that a value
on it can be changed before the rest of the network sees it, and all pieces together cost one run of the network and a
session each.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from onnxlint_q.execute.correction.pieces import pieces
from onnxlint_q.execute.executable import Array, Executable
from onnxlint_q.execute.limits import DEFAULT_LIMITS, Limits
from onnxlint_q.execute.session import NotRunnableError, Session

Values = Mapping[str, Array]


def that_fit(samples: Iterable[Values], limits: Limits = DEFAULT_LIMITS) -> Sequence[Values]:
    """The first samples that a frontier has room for, at least one where there is any."""
    taken, held = list[Values](), 0
    for sample in samples:
        held += _size(sample)
        if taken and held > limits.frontier_bytes:
            break
        taken.append(sample)
    return taken


class Frontier:
    """One network with several samples on their way through it."""

    def __init__(
        self,
        executable: Executable,
        goals: Sequence[str],
        samples: Sequence[Values],
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        """Nothing has been computed yet.

        Args:
            executable: the network.
            goals: tensors of its main graph, in an order in which they can be computed.
            samples: values of the inputs.
            limits: of the runs, and of what is on the frontier.
        """
        self._executable, self._limits = executable, limits
        self._pieces = iter(pieces(executable.proto.graph, goals))
        self._live = [dict(sample) for sample in samples]

    @property
    def samples(self) -> int:
        """How many are on their way: the first of those that were given."""
        return len(self._live)

    def keep(self, samples: int) -> None:
        """Let go of all but the first samples."""
        del self._live[samples:]

    def advance(self) -> None:
        """Compute the next goal, for as many samples as there is room for, at least one.

        Raises:
            NotRunnableError: ONNX Runtime cannot run the piece, or what is on the frontier is no tensor.
        """
        piece = next(self._pieces)
        if not piece.nodes:
            return
        inputs = {name: self._live[0][name] for name in piece.inputs}
        session = Session(piece.executable(self._executable, inputs), limits=self._limits)
        held = sum(map(_size, self._live))
        for number in range(len(self._live)):
            if number >= len(self._live):
                break
            values = self._live[number]
            found = session.run({name: values[name] for name in piece.inputs}, piece.outputs)
            if any(array.dtype == object for array in found):
                raise NotRunnableError("a list of tensors passes from layer to layer")
            everything = {**values, **dict(zip(piece.outputs, found, strict=True))}
            self._live[number] = {name: array for name, array in everything.items() if name in piece.kept}
            held += _size(self._live[number]) - _size(values)
            while held > self._limits.frontier_bytes and len(self._live) > 1:
                held -= _size(self._live.pop())

    def values(self, goal: str) -> Iterator[Array]:
        """The values of a goal that was just computed, sample by sample."""
        return (values[goal] for values in self._live)

    def replace(self, name: str, value: Array) -> None:
        """Give pieces that were not run yet another value of an initializer."""
        self._executable = self._executable.with_weights({name: value})

    def shift(self, goal: str, by: npt.NDArray[np.float64], axis: int) -> None:
        """Add a value a channel to a goal that was just computed, before anything reads it."""
        for values in self._live:
            held = values[goal]
            channels = [-1 if place == axis % held.ndim else 1 for place in range(held.ndim)]
            held += by.reshape(channels).astype(held.dtype)


def _size(values: Values) -> int:
    return sum(array.nbytes for array in values.values())
