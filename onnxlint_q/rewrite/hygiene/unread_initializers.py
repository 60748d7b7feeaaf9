"""Initializers that no node reads: left out.

They take room, and tools that hand weights over as values in memory trip over them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from onnxlint_q.analysis.measured import Measured
from onnxlint_q.analysis.observed.observations import Observations
from onnxlint_q.graph import Model
from onnxlint_q.rewrite.candidate import Candidate, Refusal
from onnxlint_q.rewrite.editing import Edit
from onnxlint_q.rewrite.rewriting import Rewrite, Safety


@dataclass(frozen=True, slots=True)
class Unread(Candidate):
    """An initializer of the main graph that nothing reads.

    Attributes:
        size: how many values it holds.
    """

    size: int

    @property
    def change(self) -> str:
        """What goes."""
        return f"its {self.size} value{'s' * (self.size != 1)}, which no node reads, are left out"


def find(measured: Measured, _: Observations | None) -> Iterator[Unread | Refusal]:
    """All of them; those that a caller may feed stay."""
    model = measured.model
    for tensor in model.proto.graph.initializer:
        if model.consumers(tensor.name) or tensor.name in model.output_names:
            continue
        if tensor.name in model.replaceable:
            yield Refusal(tensor.name, "it is an input of the model as well, and a caller may feed it")
        else:
            yield Unread(tensor.name, math.prod(tensor.dims))


def apply(model: Model, wanted: Sequence[Unread]) -> Model:
    """A copy of the model without these initializers."""
    edit = Edit(model)
    for one in wanted:
        edit.leave(one.tensor)
    return edit.done()


REWRITE = Rewrite(
    name="unread-initializers",
    what="initializers that nothing reads left out",
    safety=Safety.EXACT,
    find=find,
    apply=apply,
    moves_values=False,
)
