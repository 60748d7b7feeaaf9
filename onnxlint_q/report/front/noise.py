"""Where the noise of a scheme is made: each tensor's share of it, and what those with most of it have in common."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from onnxlint_q.finding import Subject
from onnxlint_q.report import tensors, words
from onnxlint_q.workflow.results import MOST, SchemeResult, TensorRole, TensorRow

Key = tuple[Subject, str]
"""Which tensor: the weight of a layer by its key, or an activation by its name; as in a claim."""
_COMMON = 0.6
"""What is true of so much of the noise is told of all of it."""
_NARROW = 1 / 3
"""A part of the network no longer than this is a place."""
_NUMBERS = ("", "one", "two", "three")


@dataclass(frozen=True, slots=True)
class Part:
    """A tensor that makes noise.

    Attributes:
        said: the tensor, for people.
        share: fraction of all noise.
        row: all that is known of it.
    """

    key: Key
    said: str
    share: float
    row: TensorRow


def parts(result: SchemeResult) -> tuple[Part, ...]:
    """What makes noise under a scheme, most first; empty where nothing is known."""
    found = (Part((row.kind, row.tensor), tensors.phrase(row), row.share, row) for row in result.tensors)
    return tuple(sorted((part for part in found if part.share > 0), key=lambda part: -part.share))


def told(made: Sequence[Part]) -> str:
    """`the weight of stem (58 %) and the result of head (20 %)`."""
    *others, last = (f"{part.said} ({words.percent(round(part.share, 2))})" for part in made)
    return f"{', '.join(others)} and {last}" if others else last


def few(made: Sequence[Part]) -> str:
    """What makes most of the noise, where a few tensors do: `71 % of the noise comes from three activations: …`."""
    if len(made) == 1:
        return f"{words.percent(round(made[0].share, 2))} of the noise comes from {made[0].said}"
    total = words.percent(round(sum(part.share for part in made), 2))
    roles, kinds = {part.row.role for part in made}, {part.row.kind for part in made}
    what = "tensors"
    if len(kinds) == 1:
        what = "weights" if Subject.WEIGHT in kinds else "activations"
    if len(roles) == 1 and not roles & {TensorRole.OTHER, TensorRole.WEIGHT}:
        what = next(iter(roles)).value
    return f"{total} of the noise comes from {_NUMBERS[len(made)]} {what}: {told(made)}"


def spread(made: Sequence[Part]) -> tuple[str, ...]:
    """Where the noise is, where many tensors make it: over how many, the largest, what most of them have in common."""
    count, held = 0, 0.0
    for part in made:
        if held >= MOST:
            break
        count, held = count + 1, held + part.share
    first = f"the noise is spread over {words.count(count, 'tensor')}; the largest part is {told(made[:1])}"
    return (first, *filter(None, (_common_role(made), _common_place(made))))


def _common_role(made: Sequence[Part]) -> str:
    shares = defaultdict[TensorRole, float](float)
    for part in made:
        shares[part.row.role] += part.share
    role, share = max(shares.items(), key=lambda entry: entry[1])
    if share < _COMMON or role is TensorRole.OTHER:
        return ""
    return f"{words.percent(round(share, 2))} of it comes from {role.value}"


def _common_place(made: Sequence[Part]) -> str:
    """The shortest stretch of the network where most of the noise is made; nothing if it is a long one."""
    along = sorted(made, key=lambda part: part.row.depth)
    best, start, held = None, 0, 0.0
    for part in along:
        held += part.share
        while held - along[start].share >= _COMMON:
            held -= along[start].share
            start += 1
        length = part.row.depth - along[start].row.depth
        if held >= _COMMON and (best is None or length < best[0]):
            best = (length, along[start], part, held)
    if best is None or best[0] > _NARROW or best[1] is best[2]:
        return ""
    first, last = (words.name(tensors.label(part.row), 50) for part in best[1:3])
    if first == last:
        return ""
    return f"{words.percent(round(best[3], 2))} of it is made between {first} and {last}"
