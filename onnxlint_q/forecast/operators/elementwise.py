"""Element-wise operators: one function of the samples, slopes by central difference.

Every sample keeps its own slope, so `x * sigmoid(x)`, HardSwish or a GELU written in six nodes need no rule of their
own: the slopes of their branches meet again at `x` and add up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from math import pi, sqrt
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from onnxlint_q.forecast.population import SIZE, Samples, finite
from onnxlint_q.forecast.step import Edge, Site, Step, TransferRule
from onnxlint_q.forecast.transfer import Diagonal
from onnxlint_q.forecast.unmodelled import UnmodelledError, broadcast
from onnxlint_q.graph import Node

Array = npt.NDArray[Any]
# A constant that differs from place to place is told apart in so many elements.
_LARGEST = 1 << 10
# A slope by differences evaluates a sum of n operands 2 n times.
_MAX_OPERANDS = 64
_CODES = 256
Function = Callable[[Array], Array]


def erf(x: Array) -> Array:
    """Error function to 1.5e-7 (Abramowitz and Stegun 7.1.26)."""
    t = 1 / (1 + 0.3275911 * np.abs(x))
    series = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    return np.asarray(np.sign(x) * (1 - series * np.exp(-(x**2))))


def sigmoid(x: Array) -> Array:
    """`1 / (1 + exp(-x))` without overflow."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * x)))


def _gelu(node: Node) -> Function:
    if node.text("approximate", "none") == "tanh":
        return lambda x: 0.5 * x * (1 + np.tanh(sqrt(2 / pi) * (x + 0.044715 * x**3)))
    return lambda x: 0.5 * x * (1 + erf(x / sqrt(2)))


def _elu(node: Node) -> Function:
    alpha = node.float("alpha", 1.0)
    return lambda x: np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def _selu(node: Node) -> Function:
    alpha, gamma = node.float("alpha", 1.6732632423543772), node.float("gamma", 1.0507009873554805)
    return lambda x: gamma * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def _celu(node: Node) -> Function:
    alpha = node.float("alpha", 1.0)
    return lambda x: np.maximum(x, 0) + np.minimum(alpha * np.expm1(np.minimum(x, 0) / alpha), 0)


def _leaky(node: Node) -> Function:
    alpha = node.float("alpha", 0.01)
    return lambda x: np.where(x > 0, x, alpha * x)


def _hard_sigmoid(node: Node) -> Function:
    alpha, beta = node.float("alpha", 0.2), node.float("beta", 0.5)
    return lambda x: np.clip(alpha * x + beta, 0, 1)


def _thresholded(node: Node) -> Function:
    alpha = node.float("alpha", 1.0)
    return lambda x: np.where(x > alpha, x, 0.0)


def _swish(node: Node) -> Function:
    alpha = node.float("alpha", 1.0)
    return lambda x: x * sigmoid(alpha * x)


def softplus(x: Array) -> Array:
    """`log(1 + exp(x))`."""
    return np.asarray(np.logaddexp(0.0, x))


def _inverse(x: Array) -> Array:
    return np.asarray(np.sign(x + (x == 0)) / np.maximum(np.abs(x), 1e-12))


def _power(base: Array, exponent: Array) -> Array:
    whole = exponent == np.rint(exponent)
    return np.power(np.where(whole, base, np.maximum(base, 1e-12)), exponent)


FUNCTIONS: Mapping[str, Callable[[Node], Function]] = {
    "Relu": lambda node: partial(np.maximum, 0.0),
    "LeakyRelu": _leaky,
    "Sigmoid": lambda node: sigmoid,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": lambda node: lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
    "Swish": _swish,
    "Tanh": lambda node: np.tanh,
    "Gelu": _gelu,
    "Elu": _elu,
    "Selu": _selu,
    "Celu": _celu,
    "Mish": lambda node: lambda x: x * np.tanh(softplus(x)),
    "Softplus": lambda node: softplus,
    "Softsign": lambda node: lambda x: x / (1 + np.abs(x)),
    "ThresholdedRelu": _thresholded,
    "Erf": lambda node: erf,
    "Exp": lambda node: lambda x: np.exp(np.minimum(x, 60)),
    "Log": lambda node: lambda x: np.log(np.maximum(np.abs(x), 1e-12)),
    "Sqrt": lambda node: lambda x: np.sqrt(np.maximum(x, 0)),
    "Abs": lambda node: np.abs,
    "Neg": lambda node: np.negative,
    "Reciprocal": lambda node: _inverse,
    "Sin": lambda node: np.sin,
    "Cos": lambda node: np.cos,
    "Identity": lambda node: np.asarray,
    "Dropout": lambda node: np.asarray,
    "QuantizeLinear": lambda node: np.asarray,
    "DequantizeLinear": lambda node: np.asarray,
}

OPERATIONS: Mapping[str, Callable[[Array, Array], Array]] = {
    "Add": np.add,
    "Sum": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": lambda a, b: a * _inverse(b),
    "Max": np.maximum,
    "Min": np.minimum,
    "Pow": _power,
    "PRelu": lambda a, b: np.where(a > 0, a, a * b),
}


def follow(key: str, samples: Samples, function: Function, least: float = 0.0) -> Step:
    """Apply `function` to the tensor `key`.

    Its slopes are those of an error of a thousandth, or of `least` where that is more.
    """
    step = np.maximum(np.float32(1e-3) * np.maximum(np.abs(samples), np.float32(1e-2)), np.float32(least))
    slope = (function(samples + step) - function(samples - step)) / (2 * step)
    return Step((finite(function(samples)),), (Edge(key, Diagonal(slope, samples.shape[1:])),))


def unary(site: Site, function: Function) -> Step:
    """One input, one function of it."""
    return follow(site.node.input(0), site.varying(), function)


def square_root(site: Site) -> Step:
    """Its slope has no bound at zero, but no error of codes is smaller than one of them."""
    samples = site.varying()
    least = float(samples.max(initial=0.0)) / _CODES
    return follow(site.node.input(0), samples, FUNCTIONS["Sqrt"](site.node), least)


def variadic(site: Site, operation: Callable[[Array, Array], Array]) -> Step:
    """Any number of operands, constants among them, combined from left to right."""
    operands: list[Array] = []
    if len(site.node.inputs) > _MAX_OPERANDS:
        raise UnmodelledError(f"it has more than {_MAX_OPERANDS} operands")
    for index, key in enumerate(site.node.inputs):
        value = site.known.get(key)
        if value is None:
            constant = site.constant(index)
            if constant is None or not constant.size:
                raise UnmodelledError("nothing is known of an operand")
            value = constant[None]
        operands.append(value)
    if not any(key in site.known for key in site.node.inputs):
        raise UnmodelledError("nothing is known of what it reads")
    varying = [operands[i] for i, key in enumerate(site.node.inputs) if key in site.known]
    operands = [o if site.node.inputs[i] in site.known else _fitted(o, varying) for i, o in enumerate(operands)]
    rank = max(operand.ndim for operand in operands)
    wide = [o.reshape(o.shape[0], *(1,) * (rank - o.ndim), *o.shape[1:]) for o in operands]
    broadcast(*(o.shape[1:] for o in wide))

    def combined(values: list[Array]) -> Array:
        result = values[0]
        for value in values[1:]:
            result = operation(result, value)
        return result

    result = combined(wide)
    edges = []
    for index, key in enumerate(site.node.inputs):
        if key not in site.known:
            continue
        step = np.float32(1e-3) * np.maximum(np.abs(wide[index]), np.float32(1e-2))
        up, down = ([*wide[:index], wide[index] + s, *wide[index + 1 :]] for s in (step, -step))
        slope = (combined(up) - combined(down)) / (2 * step)
        edges.append(Edge(key, Diagonal(slope, operands[index].shape[1:])))
    return Step((finite(result),), tuple(edges))


def where(site: Site) -> Step:
    """A choice between two tensors: as a known condition says, else either with an even chance."""
    condition = site.constant(0)
    if condition is not None and not condition.size:
        raise UnmodelledError("its condition is empty")
    chosen = np.random.default_rng(site.node.order).integers(0, 2, (SIZE, 1)) > 0
    operands = [site.known.get(key) for key in site.node.inputs[1:3]]
    varying = [value for value in operands if value is not None]
    if not varying:
        raise UnmodelledError("nothing is known of what it reads")
    if condition is not None:
        mask = _fitted(condition, varying)[None] != 0
    else:
        mask = chosen.reshape(SIZE, *(1,) * (varying[0].ndim - 1))
    values: list[Array] = []
    for index, operand in enumerate(operands, start=1):
        constant = site.constant(index) if operand is None else None
        if operand is None and (constant is None or not constant.size):
            raise UnmodelledError("nothing is known of an operand")
        values.append(_fitted(constant, varying)[None] if constant is not None else np.asarray(operand))
    rank = max(array.ndim for array in (mask, *values))
    mask, *values = (a.reshape(a.shape[0], *(1,) * (rank - a.ndim), *a.shape[1:]) for a in (mask, *values))
    shape = (SIZE, *broadcast(*(array.shape[1:] for array in (mask, *values))))
    edges = []
    for index, taken in ((1, mask), (2, ~mask)):
        key = site.node.input(index)
        if key in site.known:
            slope = np.broadcast_to(taken, (taken.shape[0], *shape[1:])).astype(np.float32)
            edges.append(Edge(key, Diagonal(slope, site.known[key].shape[1:])))
    return Step((finite(np.broadcast_to(np.where(mask, *values), (SIZE, *shape[1:]))),), tuple(edges))


def _fitted(constant: Array, varying: list[Samples]) -> Array:
    """A constant with as many places along each axis as the samples have, or few enough to be told apart.

    An axis of the samples may have fewer places than its tensor has elements; each then stands for a run of them.
    """
    for axis in range(-1, -constant.ndim, -1):
        have = max((v.shape[axis] for v in varying if v.ndim > -axis), default=1)
        length = constant.shape[axis]
        places = min(have, length) if have > 1 else min(length, max(1, _LARGEST * length // constant.size))
        if places < length:
            constant = constant.take(np.arange(places) * length // places, axis=axis)
    return constant


def clip_function(site: Site) -> Function:
    """Clip with its bounds as attributes (opset 6) or inputs."""
    low, high = site.constant(1), site.constant(2)
    lower = site.node.float("min", -np.inf) if low is None or not low.size else float(low.ravel()[0])
    upper = site.node.float("max", np.inf) if high is None or not high.size else float(high.ravel()[0])
    return lambda x: np.clip(x, lower, upper)


def function_of(site: Site) -> Function | None:
    """The function of a node with one varying input, None if it is none."""
    if site.node.op_type == "Clip":
        return clip_function(site)
    make = FUNCTIONS.get(site.node.op_type)
    return make(site.node) if make is not None else None


def cast(site: Site) -> Step:
    """The same values; of a mask that is an input, which says what counts, that everything does."""
    known = site.model.types.get(site.node.input(0))
    if site.samples() is None and known is not None and known.elem_type == onnx.TensorProto.BOOL:
        return Step((np.ones((SIZE, *(1,) * len(known.shape or ())), np.float32),), ())
    return unary(site, np.asarray)


def _unary_rule(make: Callable[[Node], Function]) -> TransferRule:
    return lambda site: unary(site, make(site.node))


def _variadic_rule(operation: Callable[[Array, Array], Array]) -> TransferRule:
    return lambda site: variadic(site, operation)


RULES: Mapping[str, TransferRule] = {
    **{name: _unary_rule(make) for name, make in FUNCTIONS.items()},
    **{name: _variadic_rule(operation) for name, operation in OPERATIONS.items()},
    "Cast": cast,
    "Sqrt": square_root,
    "Clip": lambda site: unary(site, clip_function(site)),
    "Where": where,
}
