"""Where findings about activations are."""

from __future__ import annotations

from onnxlint_q import Facts, Location


def place_of(facts: Facts, tensor: str) -> Location:
    """What makes an activation; an input of the model stands for itself."""
    producer = facts.model.producer(tensor)
    return facts.model.locate(producer, tensor) if producer is not None else Location(output=tensor)
