"""How finely the readers of a quantised tensor look at it; the formulas stand in the rule `large_scale`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from onnxlint_q import Facts, LayerFacts, Node, Product, QuantizedTensor, Trait, followed_by, grid, trace_forward
from onnxlint_q_rules.qdq.pairs import Pairs, Vector

_GATE_WIDTH = {"Sigmoid": 16.0, "Tanh": 8.0, "Softmax": 8.0}


@dataclass(frozen=True, slots=True)
class Reading:
    """How one operator reads a pair.

    Attributes:
        node: the operator.
        levels: how many steps fit into what it can tell apart.
        what: what that is.
        error: standard deviation that one rounding gives its result, in the result's unit; None of a gate.
        result: the pair that stores the result, or the sum behind it; None of a gate.
    """

    node: Node
    levels: float
    what: str
    error: float | None = None
    result: QuantizedTensor | None = None


def tightest_readings(facts: Facts, pairs: Pairs) -> dict[str, Reading]:
    """For each integer tensor the reader into which the fewest steps fit."""
    tightest: dict[str, Reading] = {}
    for codes, reading in (*_layer_readings(facts, pairs), *_other_readings(facts, pairs)):
        if codes not in tightest or reading.levels < tightest[codes].levels:
            tightest[codes] = reading
    return tightest


def _layer_readings(facts: Facts, pairs: Pairs) -> Iterator[tuple[str, Reading]]:
    for layer in facts.layers:
        source = pairs.source(layer.folded.layer.input)
        target = pairs.destination(layer.folded.layer.output)
        code_grid = grid(facts.model, source) if source is not None else None
        stored = grid(facts.model, target) if target is not None else None
        if source is None or code_grid is None or target is None or stored is None:
            continue
        norm, bias = channel_norm(layer), layer.folded.real_bias(facts.model)
        if bias is None or bias.shape != norm.shape:
            bias = np.zeros_like(norm)
        alive = norm > 0
        # Of a weight that lost most of its channels the few that are left do not speak for the layer.
        if np.count_nonzero(alive) <= norm.size / 4:
            continue
        width, what = np.maximum(stored.high - bias, 0) - np.minimum(stored.low - bias, 0), "the whole output range"
        result, range_of_sum = _sum_behind(facts, pairs, target)
        if range_of_sum > stored.range:
            width, what, target = np.maximum(width, range_of_sum), "the range of the sum behind it", result
        levels = float(np.quantile(width[alive] / (code_grid.scale * norm[alive]), 0.25))
        error = code_grid.scale * float(np.sqrt(np.mean(np.square(norm[alive])) / 12))
        yield source.codes, Reading(layer.node, levels, what, error, target)


def _sum_behind(facts: Facts, pairs: Pairs, target: QuantizedTensor) -> tuple[QuantizedTensor | None, float]:
    """The pair of the sum that alone reads `target`, and its range: a branch matters as much as it weighs there.

    A constant weighs nothing: what is added to every value the same tells no two of them apart.
    """
    end = trace_forward(facts.model, target.codes, Trait.QUANTIZES, alone=True).ends[0]
    reader = facts.model.sole_consumer(end)
    if reader is None or not reader.operator.has(Trait.ADDS):
        return None, 0.0
    if any(map(facts.model.is_constant, reader.operator.data_of(reader.inputs))):
        return None, 0.0
    result = pairs.destination(reader.output)
    stored = grid(facts.model, result) if result is not None else None
    return result, stored.range if stored is not None else 0.0


def _other_readings(facts: Facts, pairs: Pairs) -> Iterator[tuple[str, Reading]]:
    for node in facts.model.nodes:
        width = (
            4 / (node.float("alpha", 0.2) or 0.2)
            if node.op_type == "HardSigmoid"
            else _GATE_WIDTH.get(node.operator.form)
        )
        if width is not None:
            source = pairs.source(node.input(0))
            code_grid = grid(facts.model, source) if source is not None else None
            if source is not None and code_grid is not None and not _gates_itself(facts, source):
                yield source.codes, Reading(node, abs(width) / code_grid.scale, "all that matters to the result")
        elif node.operator.has(Trait.ADDS):
            target = pairs.destination(node.output)
            stored = grid(facts.model, target) if target is not None else None
            for key in node.inputs:
                source = pairs.source(key) if stored is not None else None
                code_grid = grid(facts.model, source) if source is not None else None
                if source is not None and code_grid is not None and stored is not None:
                    levels, error = stored.range / code_grid.scale, code_grid.scale / float(np.sqrt(12))
                    yield source.codes, Reading(node, levels, "the whole output range", error, target)


def _gates_itself(facts: Facts, pair: QuantizedTensor) -> bool:
    """Whether the tensor is also a factor of a product, as in SiLU, where large values matter too."""
    return any(followed_by(facts.model, pair.codes, lambda node: node.operator.form == "Mul", Trait.QUANTIZES))


def channel_norm(layer: LayerFacts) -> Vector:
    """`||w_c||_2` of each output channel: of a Gemm times alpha, of a strided ConvTranspose its taps in one value."""
    part = layer.folded.layer
    taps = float(np.prod(part.weight_shape)) / max(part.channels, 1)
    if part.inputs.product is Product.TRANSPOSED:
        taps /= float(np.prod(part.node.ints("strides") or (1,)))
    factor = abs(part.node.float("alpha", 1.0)) if part.inputs.product is Product.GEMM else 1.0
    return np.asarray(factor * np.sqrt(layer.weight.power * taps), np.float64)
