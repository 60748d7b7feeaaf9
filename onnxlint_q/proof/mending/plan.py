"""What is to be tried of a rewrite: which changes, on which tensors they work, and how the model is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from onnxlint_q.analysis.schemes import Scheme
from onnxlint_q.execute.variants.workbench import Workbench
from onnxlint_q.finding import Rewriting
from onnxlint_q.graph import Model


@dataclass(frozen=True, eq=False)
class Plan:
    """One rewrite at all places where it is wanted.

    Attributes:
        rewrite: its name.
        what: what it changes, in words that follow `with`.
        made: by change that a finding asks for, the one that is made.
        refused: why others are not made.
        apply: the rewritten model.
        touched: tensors that hold other values in it.
        schemes: those that it can make a difference to.
    """

    rewrite: str
    what: str
    made: Mapping[Rewriting, Rewriting]
    refused: Mapping[Rewriting, str]
    apply: Callable[[Model], Model]
    touched: frozenset[str]
    schemes: tuple[Scheme, ...]


Planner = Callable[[Workbench], Plan]
"""Makes a plan for a network with what a run saw of it."""
