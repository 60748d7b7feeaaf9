"""How many synthetic inputs a probe takes: by what they cost, never by how fast the machine is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import numpy as np

from onnxlint_q.analysis.image.inputs import is_image
from onnxlint_q.analysis.measured import Measured
from onnxlint_q.execute.batch.batch_tensors import Shapes, typed

FEWEST = 1
"""A picture shows a busy scene and a simple one."""
# A picture holds thousands of places, which all tell of a layer; what is no picture holds far fewer.
_FEWEST_OTHERS = 8
_MOST = 48
# The whole network runs once a scheme, not once a layer, so that it can afford more.
_WHOLE_PER_PICTURE, _WHOLE_PER_OTHER, _MOST_WHOLE = 4, 2, 64
# Places of all pictures together, and multiplications that all layers together may take.
_PLACES, _WORK = 100_000, 2e10


@dataclass(frozen=True, slots=True)
class Plan:
    """How many inputs.

    Attributes:
        layers: that each layer alone is compared on.
        whole: that ranges are taken from, and as many others that whole schemes are compared on.
        alike: whether each of those of a layer counts alike. A made-up picture is like a photograph; a made-up text is
            like none, and the few that the network has no answer to would decide.
    """

    layers: int
    whole: int
    alike: bool


def plan(measured: Measured, shapes: Shapes) -> Plan:
    """The plan for a network whose inputs have these shapes."""
    pictures = [shapes[value.name] for value in measured.model.inputs if is_image(value.type.shape)]
    places = max((prod(shape[1:]) / min(shape[1], shape[3]) for shape in pictures), default=1.0)
    variants = len(measured.layers) * len({(scheme.weights, scheme.sharing) for scheme in measured.schemes})
    # A variant is computed from its layer on, which is half of the network in the mean.
    each = sum(multiplications(measured, shapes).values()) * max(variants, 1) / 2
    fit = round(min(_WORK / max(each, 1.0), _PLACES / places))
    layers = int(np.clip(fit, FEWEST if pictures else _FEWEST_OTHERS, _MOST))
    return Plan(layers, min(layers * (_WHOLE_PER_PICTURE if pictures else _WHOLE_PER_OTHER), _MOST_WHOLE), not pictures)


def multiplications(measured: Measured, shapes: Shapes) -> Mapping[str, float]:
    """Of each layer for one sample, by its key; one whose result has an unknown shape counts as one place."""
    types = typed(measured.model, measured.model.proto, shapes)
    found: dict[str, float] = {}
    for layer in measured.layers:
        known = types.get(layer.node.outputs[0])
        shape = [dim or 1 for dim in (known.shape if known and known.shape else ())]
        places = max(prod(shape) / max(layer.folded.layer.channels, 1), 1.0)
        found[layer.output] = float(prod(layer.folded.layer.weight_shape)) * places
    return found
