"""Which shapes inputs are taken to have: as given, as the data has them, as the graph demands, as usual."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from onnxlint_q.analysis.sizes.given import with_given
from onnxlint_q.analysis.sizes.solve import Taken, take_shapes
from onnxlint_q.errors import OnnxlintError
from onnxlint_q.execute.data.source import Source
from onnxlint_q.execute.first_run import first_that_runs
from onnxlint_q.execute.limits import Asked
from onnxlint_q.graph import Model
from onnxlint_q.workflow.results import TakenShape

GIVEN = "--input-shape gives it"
SEEN = "the first sample has this shape"
USUAL = "the file leaves it open, and this is usual"
Shapes = Mapping[str, tuple[int, ...]]


def settled(
    model: Model, given: Shapes, source: Source | None, asked: Asked | None = None
) -> tuple[Model, tuple[TakenShape, ...]]:
    """The model with a shape for each input that leaves open more than a batch, and what was taken and why.

    Args:
        model: as read.
        given: shapes that the user gives, by input.
        source: data that the model is run on, if any.
        asked: what a run may take; None where the model may not be run.

    Raises:
        UsageError: what is given does not fit the model.
        TooLongError: it runs, and takes longer than it may.
    """
    told = dict.fromkeys(given, GIVEN)
    shapes = dict(given)
    sized = with_given(model, given)
    taken = take_shapes(sized)
    # What is given may be all that was open.
    alone = take_shapes(model) if given else taken
    if alone is not None and alone.fixed:
        sized = replace(sized, inputs=tuple(replace(value, fixed=True) for value in sized.inputs))
    if taken is not None:
        inputs = tuple(replace(value, batched=value.name not in taken.samples) for value in sized.inputs)
        sized = replace(sized, inputs=inputs)
        found, reason = _found(sized, taken, source, asked)
        sized = replace(
            sized, inputs=tuple(replace(value, taken=found.get(value.name, value.taken)) for value in inputs)
        )
        told = {**dict.fromkeys(found, reason), **told}
        shapes = {**found, **shapes}
    return sized, tuple(
        TakenShape(value.name, value.type.shape or (), shapes[value.name], told[value.name])
        for value in model.inputs
        if value.name in shapes and (None in (value.type.shape or ()) or value.name in given)
    )


def _found(model: Model, taken: Taken, source: Source | None, asked: Asked | None) -> tuple[Shapes, str]:
    """Shapes without an open axis, with the reason; nothing may be run where nothing is asked."""
    if source is not None:
        # What is wrong with the data is told where it is read as a whole.
        with contextlib.suppress(OnnxlintError):
            if shapes := source.shapes(model.inputs):
                return shapes, SEEN
    reason = f"{taken.fixed} is made for it" if taken.fixed else USUAL
    if asked is None:
        return taken.shapes, reason
    choices = (taken.shapes, *taken.others)
    number = first_that_runs(model, choices, asked)
    if number is None:
        return taken.shapes, f"{reason}, but ONNX Runtime runs none of the {len(choices)} shapes that were tried"
    if number:
        reason = f"of {len(choices)} shapes that were tried it is the first that ONNX Runtime runs"
    return choices[number], reason


def notes_on(inputs: Sequence[TakenShape]) -> Iterator[str]:
    """What was taken and why, inputs of one shape together."""
    groups: dict[tuple[tuple[int, ...], str], list[str]] = {}
    for one in inputs:
        groups.setdefault((one.taken, one.reason), []).append(repr(one.name))
    for (taken, reason), names in groups.items():
        change = "" if reason in {GIVEN, SEEN} else "; --input-shape changes it"
        yield f"input{'s' * (len(names) > 1)} {', '.join(names)} taken as {list(taken)}: {reason}{change}"
