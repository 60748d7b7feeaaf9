"""What each tensor alone costs under a scheme that the model does not survive, ready to be laid out."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

from onnxlint_q.finding import Subject
from onnxlint_q.report import words
from onnxlint_q.workflow.results import Basis, SchemeResult, TensorRow, Verdict


@dataclass(frozen=True, slots=True)
class Place:
    """One operator, or one input of the model, with the tensors there that were quantised alone.

    Attributes:
        label: its name.
        sqnr_db: of its most costly tensor; None where nothing is lost.
        said: each tensor with its figure.
    """

    label: str
    sqnr_db: float | None
    said: str


def title(result: SchemeResult) -> str:
    """The heading over the tensors of a scheme."""
    return f"Tensors that cost the output most under {words.name(result.scheme, 40)}"


def legend(result: SchemeResult) -> str:
    """What the columns are."""
    output = "worst output" if len(result.ends) > 1 else "output"
    basis = result.tensors_basis or Basis.FORECAST
    return (
        f"dB: SQNR at the model's {output} if this tensor alone is quantised, {basis}. Share: of the noise of all "
        "tensors, each alone"
    )


def explains(result: SchemeResult) -> bool:
    """Whether there is something to explain, and tensors that do."""
    return bool(result.noise) and result.verdict in (Verdict.BREAKS, Verdict.DEGRADES)


def label(row: TensorRow) -> str:
    """The name to show: that of the operator, else of the tensor, as in `Location.label`."""
    return row.node or row.tensor


def part(row: TensorRow) -> str:
    """Which tensor of the operator it is."""
    if row.kind is Subject.WEIGHT:
        return "weight"
    return "result" if row.op_type else "input"


def share(row: TensorRow) -> str:
    """Its share of the noise."""
    return words.percent(round(row.share, 3))


def phrase(row: TensorRow) -> str:
    """The tensor within a sentence: `the weight of stem`."""
    where = words.name(label(row), 70)
    if not row.op_type:
        return f"the input {where}"
    told = row.kind is Subject.WEIGHT or row.op_type.lower() in label(row).lower()
    operator = "" if told else f"{words.name(row.op_type, 30)} "
    return f"the {part(row)} of {operator}{where}"


def most_costly(result: SchemeResult) -> str:
    """The tensor that makes most of the noise, as a sentence; empty where none was measured."""
    if not result.noise:
        return ""
    row = result.noise[0]
    how = " by the forecast" if result.tensors_basis is Basis.FORECAST else ""
    alone = f"{words.decibel(row.sqnr_db)} if it alone is quantised, {share(row)} of the noise"
    return f"Costs most{how}: {phrase(row)}, {alone}."


def more(result: SchemeResult, shown: int) -> str:
    """How many tensors of those that make most of the noise are not among so many; empty where none."""
    hidden = len(result.noise) - shown
    if hidden <= 0:
        return ""
    told = words.percent(round(sum(row.share for row in result.noise), 2))
    return f"and {hidden} more; all of them make {told} of the noise"


def places(result: SchemeResult) -> Iterator[Place]:
    """The operators along the network."""
    for _, group in groupby(result.tensors, key=lambda row: (row.node, row.op_type) if row.node else row.tensor):
        rows = list(group)
        worst = min(row.sqnr_db for row in rows)
        said = ", ".join(f"{part(row)} {words.decibel(row.sqnr_db)}" for row in rows)
        yield Place(label(rows[0]), worst if math.isfinite(worst) else None, said)
