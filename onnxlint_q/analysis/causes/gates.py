"""How far below zero a value goes that is multiplied with a gate of itself: SiLU, HardSwish and GELU in single nodes.

With `u = k x` the smallest value of each is that of a function of `u`, over `k`:

    x sigmoid(k x) >= -0.2785 / k,     x (1 + erf(k x)) >= -0.2404 / k,
    x clip(a x + b, 0, 1) >= -b² / (4 a).

Sources: the minima, where the derivatives are zero; ONNX operator specification, HardSigmoid and HardSwish.
"""

from __future__ import annotations

import math

from onnxlint_q.graph import Model, Node, Trait, trace_back

_SIGMOID, _ERF = -0.27847, -0.24038
_SAME = Trait.COPIES | Trait.QUANTIZES


def gated_low(model: Model, node: Node) -> float:
    """The smallest value of a product, rounding aside, if one factor is a gate of the other; else minus infinity."""
    if not node.is_standard or node.op_type != "Mul" or len(node.inputs) != 2:
        return -math.inf
    one, other = (_made(model, key) for key in node.inputs)
    return max(_low(model, one, other), _low(model, other, one))


def _low(model: Model, value: str, gate: str) -> float:
    maker = model.producer(gate)
    if maker is None or not maker.is_standard:
        return -math.inf
    if maker.op_type == "HardSigmoid" and _made(model, maker.input(0)) == value:
        slope, offset = maker.float("alpha", 0.2), maker.float("beta", 0.5)
        return -(offset**2) / (4 * slope) if slope > 0 and 0 <= offset <= 1 else -math.inf
    if maker.op_type == "Sigmoid":
        factor = _factor(model, maker.input(0), value)
        return _SIGMOID / factor if factor > 0 else -math.inf
    if maker.op_type == "Add":
        one, other = maker.input(0), maker.input(1)
        factor = max(_erf(model, one, other, value), _erf(model, other, one, value))
        return _ERF / factor if factor > 0 else -math.inf
    return -math.inf


def _erf(model: Model, function: str, one: str, value: str) -> float:
    """The factor in `1 + erf(factor * value)`; 0 where it is no such sum."""
    maker = model.producer(_made(model, function))
    if maker is None or not maker.is_standard or maker.op_type != "Erf" or _number(model, one) != 1:
        return 0.0
    return _factor(model, maker.input(0), value)


def _factor(model: Model, key: str, value: str) -> float:
    """What `value` is multiplied with where `key` is made; 0 where that is not known."""
    made = _made(model, key)
    if made == value:
        return 1.0
    maker = model.producer(made)
    if maker is None or not maker.is_standard or maker.op_type not in {"Mul", "Div"} or len(maker.inputs) != 2:
        return 0.0
    for read, other in (maker.inputs, maker.inputs[::-1]):
        number = _number(model, other)
        if number and _made(model, read) == value and (maker.op_type == "Mul" or other == maker.input(1)):
            return number if maker.op_type == "Mul" else 1 / number
    return 0.0


def _number(model: Model, key: str) -> float | None:
    constant = model.constant(key) if key else None
    is_number = constant is not None and constant.size == 1 and constant.dtype.kind in "fiu"
    return float(constant.reshape(-1)[0]) if constant is not None and is_number else None


def _made(model: Model, key: str) -> str:
    """The tensor that these values are, in front of casts and scales."""
    return trace_back(model, key, _SAME).ends[0]
