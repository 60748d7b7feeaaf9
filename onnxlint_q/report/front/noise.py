"""Where the noise of a scheme is made: each tensor's share of it, measured or forecast."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from onnxlint_q.finding import Subject
from onnxlint_q.report import tensors, words
from onnxlint_q.workflow.results import Basis, ModelResult, SchemeResult

Key = tuple[Subject, str]
"""Which tensor: the weight of a layer by its key, or an activation by its name; as in a claim."""


@dataclass(frozen=True, slots=True)
class Part:
    """A tensor that makes noise.

    Attributes:
        said: the tensor, for people.
        share: fraction of all noise.
    """

    key: Key
    said: str
    share: float


def parts(model: ModelResult, result: SchemeResult) -> tuple[Part, ...]:
    """What makes noise under a scheme, most first; empty where nothing is known.

    Where a run gave the verdict, shares are of a run too: a forecast that it contradicts has the wrong shares.
    """
    if result.tensors:
        found = [Part((row.kind, row.tensor), tensors.phrase(row), row.share) for row in result.tensors]
    elif result.basis is Basis.FORECAST:
        found = list(_forecast(model, result.scheme))
    else:
        found = []
    return tuple(sorted((part for part in found if part.share > 0), key=lambda part: -part.share))


def _forecast(model: ModelResult, scheme: str) -> Iterator[Part]:
    for row in model.layers:
        said = (row.forecast or {}).get(scheme)
        if said is not None:
            label = words.name(words.layer_label(row), 70)
            yield Part((Subject.WEIGHT, row.output), f"the weight of {label}", said.weight_share or 0.0)
            yield Part((Subject.ACTIVATION, row.output), f"the result of {label}", said.activation_share or 0.0)
