"""What a rewrite is: a name, how far it can be trusted, where it applies, and the model that it makes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import onnx

from onnxlint_q.analysis.measured import Measured
from onnxlint_q.analysis.observed.observations import Observations
from onnxlint_q.graph import Model
from onnxlint_q.rewrite.candidate import Candidate, Refusal


class Safety(StrEnum):
    """What a rewrite leaves as it is."""

    EXACT = "exact"
    """The float outputs, for every input: by algebra, or by what the file says."""
    DATA = "data"
    """The float outputs, for inputs like the samples."""
    UNSAFE = "unsafe"
    """Neither: the interface of the model changes, or its numbers."""


@dataclass(frozen=True, slots=True)
class Rewrite:
    """One way to change a float model so that it quantises better.

    Attributes:
        name: kebab-case, what it does.
        what: the same in words, behind `12 places: `.
        safety: what it leaves as it is.
        find: where it applies, and where it was looked for and does not; takes the model with what a run saw of its
            activations, None where nothing was run.
        apply: a copy of the model, changed at these places.
        restored: of one that changes the interface: puts nodes into the graph of a changed model that make the old
            outputs from the new ones, in their place and order, so that both can be compared; None for any other.
        adds_nodes: of one that may put nodes between others: whether it does in a model, which takes longer to run once
            it is quantised; None for any other.
        moves_values: whether activations or weights hold other values afterwards, so that it quantises otherwise.
        likely: of one whose places take longer to find than linting takes: keys of tensors where it may apply.
    """

    name: str
    what: str
    safety: Safety
    find: Callable[[Measured, Observations | None], Iterable[Candidate | Refusal]]
    apply: Callable[[Model, Sequence[Any]], Model]
    adds_nodes: Callable[[Model], bool] | None = None
    moves_values: bool = True
    restored: Callable[[onnx.GraphProto, Sequence[Any]], None] | None = None
    likely: Callable[[Measured], Collection[str]] | None = None
