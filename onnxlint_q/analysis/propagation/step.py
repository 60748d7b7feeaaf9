"""What a transfer rule gets and gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from onnxlint_q.analysis.propagation.signal import Moments
from onnxlint_q.analysis.propagation.transfer import Transfer
from onnxlint_q.graph import Model, Node


@dataclass(frozen=True, slots=True, eq=False)
class Edge:
    """How noise in `source` reaches one output of a node.

    Attributes:
        output: which output, by its position.
        local: only for noise that arises in `source` itself; noise from further up has its own, more exact edge.
    """

    source: str
    transfer: Transfer
    output: int = 0
    local: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """Moments of a node's outputs, and the edges into them."""

    outputs: tuple[Moments, ...]
    edges: tuple[Edge, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Site:
    """A node with what is known of its inputs.

    Attributes:
        known: moments by tensor key, of everything computed so far.
    """

    model: Model
    node: Node
    known: dict[str, Moments] = field(repr=False)

    def moments(self, index: int) -> Moments | None:
        """Of one input; None where it is absent, unknown or constant."""
        return self.known.get(self.node.input(index))

    def constant(self, index: int) -> npt.NDArray[np.float64] | None:
        """Value of a constant numeric input."""
        key = self.node.input(index)
        value = self.model.constant(key) if key else None
        if value is None or (value.dtype.kind not in "fiub" and value.dtype.name != "bfloat16"):
            return None
        return value.astype(np.float64)

    def integers(self, index: int, attribute: str) -> tuple[int, ...] | None:
        """A list of integers that older opsets keep in an attribute and newer ones in an input; None if absent."""
        value = self.constant(index) if self.node.input(index) else None
        if value is not None:
            return tuple(int(v) for v in value.ravel())
        return self.node.ints(attribute) or None

    def shape(self, key: str) -> tuple[int | None, ...] | None:
        """Shape of a tensor as far as inference knows it."""
        return self.model.shape(key)

    def positions(self, key: str, axes: tuple[int, ...], default: int) -> int:
        """How many elements the tensor has along `axes`; `default` for an axis of unknown length."""
        shape = self.shape(key)
        if shape is None:
            return default ** len(axes)
        lengths = (shape[a] if -len(shape) <= a < len(shape) else 1 for a in axes)
        return int(np.prod([length or default for length in lengths]))


Rule = Callable[[Site], Step | None]
"""A rule gives None where it does not know what to do with this node."""
