"""Shapes of inputs that the user gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from onnxlint_q.errors import UsageError, did_you_mean
from onnxlint_q.graph import Model


def with_given(model: Model, shapes: Mapping[str, tuple[int, ...]]) -> Model:
    """The model whose inputs take these shapes and no others; what the file declares must agree.

    Raises:
        UsageError: the model has no such input, or another shape contradicts it.
    """
    inputs = {value.name: value for value in model.inputs}
    for name, shape in shapes.items():
        value = inputs.get(name)
        if value is None:
            known = ", ".join(map(repr, inputs)) or "none"
            raise UsageError(
                f"--input-shape {name}: {model.name} has no such input{did_you_mean(name, inputs)}; it has {known}"
            )
        stated = value.type.shape
        if stated is None:
            continue
        if len(stated) != len(shape):
            raise UsageError(
                f"--input-shape {name}: {list(shape)} has {len(shape)} axes, the input has {len(stated)}: "
                f"{value.shape_text}"
            )
        if any(length not in {None, wanted} for length, wanted in zip(stated, shape, strict=True)):
            raise UsageError(
                f"--input-shape {name}: {list(shape)} contradicts the model, which declares {value.shape_text}"
            )
    taken = tuple(
        replace(value, type=replace(value.type, shape=shapes[value.name]), taken=shapes[value.name])
        if value.name in shapes
        else value
        for value in model.inputs
    )
    return replace(model, inputs=taken)
