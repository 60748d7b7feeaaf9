"""What one step of an int32 bias is worth to an operator on codes, which takes it without a scale of its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from onnxlint_q import Facts, LayerFacts, Node, grid
from onnxlint_q_rules.qdq.pairs import Pairs, Vector


@dataclass(frozen=True, slots=True, eq=False)
class BiasReading:
    """How one layer reads its bias.

    Attributes:
        node: the layer.
        bias: key of the constant that holds the codes.
        codes: its values.
        unit: input scale times weight scale, one value or one an output channel.
        step: of the scale that the result is stored with; 0 where that is float.
    """

    node: Node
    bias: str
    codes: Vector
    unit: Vector
    step: float


def bias_readings(facts: Facts) -> Iterator[BiasReading]:
    """Each layer on codes that has a bias in codes and scales that the file tells."""
    pairs = Pairs(facts)
    for layer in facts.layers:
        found = _reading(facts, pairs, layer)
        if found is not None:
            yield found


def _reading(facts: Facts, pairs: Pairs, layer: LayerFacts) -> BiasReading | None:
    part, model = layer.folded.layer, facts.model
    if part.is_float or not part.bias or part.inputs.scale is None:
        return None
    codes = model.constant(part.bias)
    source, weight = model.constant(part.node.input(1)), model.constant(part.scale)
    if codes is None or source is None or weight is None or source.size != 1 or codes.dtype.kind != "i":
        return None
    unit = np.ravel(source).astype(np.float64) * np.ravel(weight).astype(np.float64)
    if not (unit > 0).all() or unit.size not in {1, codes.size}:
        return None
    target = pairs.by_codes.get(part.output)
    stored = grid(model, target) if target is not None else None
    values = np.ravel(codes).astype(np.float64)
    step = stored.scale if stored is not None else 0.0
    return BiasReading(part.node, model.constants.origin(part.bias), values, unit, step)
