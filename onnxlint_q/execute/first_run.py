"""Whether a model runs where its inputs have a shape, tried on synthetic inputs."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from onnxlint_q.analysis.inputs.contents import find_contents
from onnxlint_q.errors import DataError
from onnxlint_q.execute.data.synthetic import Contents, SyntheticSource
from onnxlint_q.execute.executable import as_stored
from onnxlint_q.execute.limits import DEFAULT_LIMITS, Limits
from onnxlint_q.execute.session import NotRunnableError, Session
from onnxlint_q.graph import Model

_SECONDS = 20.0


def first_that_runs(
    model: Model, choices: Sequence[Mapping[str, tuple[int, ...]]], limits: Limits = DEFAULT_LIMITS
) -> int | None:
    """Number of the first choice of shapes, by input, that ONNX Runtime runs; None where none does, or none in time."""
    end = time.monotonic() + _SECONDS
    try:
        session = Session(as_stored(model), limits=limits)
    except NotRunnableError:
        return None
    for number, shapes in enumerate(choices):
        if time.monotonic() > end:
            break
        inputs = tuple(replace(value, taken=shapes.get(value.name)) for value in model.inputs)
        contents = Contents(find_contents(replace(model, inputs=inputs)))
        try:
            for sample in SyntheticSource(contents).take(inputs, 1):
                session.run(sample)
        except (NotRunnableError, DataError):
            continue
        return number
    return None
