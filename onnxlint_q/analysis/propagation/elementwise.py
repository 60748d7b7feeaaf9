"""Element-wise operators: followed exactly along the curve of their Gaussian base, by quadrature."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from math import erf, sqrt

import numpy as np
import numpy.typing as npt

from onnxlint_q.analysis.propagation.signal import (
    Array,
    Curve,
    Moments,
    constant,
    expected,
    from_curve,
    gaussian,
)
from onnxlint_q.analysis.propagation.step import Edge, Rule, Site, Step
from onnxlint_q.analysis.propagation.transfer import Diagonal
from onnxlint_q.graph import Node

Function = Callable[[Array], Array]
_erf = np.vectorize(erf, otypes=[np.float64])


def sigmoid(x: Array) -> Array:
    """`1 / (1 + exp(-x))` without overflow."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * x)), np.float64)


def _gelu(node: Node) -> Function:
    if node.text("approximate", "none") == "tanh":
        return lambda x: 0.5 * x * (1 + np.tanh(sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    return lambda x: 0.5 * x * (1 + _erf(x / sqrt(2)))


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
    return np.asarray(np.logaddexp(0.0, x), np.float64)


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
    "Erf": lambda node: _erf,
    "Exp": lambda node: lambda x: np.exp(np.minimum(x, 60)),
    "Log": lambda node: lambda x: np.log(np.maximum(np.abs(x), 1e-12)),
    "Sqrt": lambda node: lambda x: np.sqrt(np.maximum(x, 0)),
    "Abs": lambda node: np.abs,
    "Neg": lambda node: np.negative,
    "Reciprocal": lambda node: lambda x: _inverse(x),
    "Sin": lambda node: np.sin,
    "Cos": lambda node: np.cos,
    "Identity": lambda node: np.asarray,
    "Dropout": lambda node: np.asarray,
    "Cast": lambda node: np.asarray,
    "QuantizeLinear": lambda node: np.asarray,
    "DequantizeLinear": lambda node: np.asarray,
}

BINARY: Mapping[str, Callable[[Array, Array], Array]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": lambda a, b: a * _inverse(b),
    "Max": np.maximum,
    "Min": np.minimum,
    "Pow": lambda a, b: _power(a, b),
    "PRelu": lambda a, b: np.where(a > 0, a, a * b),
}


def _inverse(x: Array) -> Array:
    return np.asarray(np.sign(x + (x == 0)) / np.maximum(np.abs(x), 1e-12), np.float64)


def _power(base: Array, exponent: Array) -> Array:
    whole = exponent == np.rint(exponent)
    return np.power(np.where(whole, base, np.maximum(base, 1e-12)), exponent)


def unary(site: Site, function: Function) -> Step | None:
    """One input, one function of it."""
    moments = site.moments(0)
    if moments is None:
        return None
    return follow(site.node.input(0), moments, function)


def follow(key: str, moments: Moments, function: Function) -> Step:
    """Apply `function` to the tensor `key` along its curve; slopes by central difference."""
    curve = moments.as_curve(key)
    values, slopes = curve.values, curve.slopes
    step = 1e-4 * np.maximum(np.abs(values), 1e-3)
    local = (function(values + step) - function(values - step)) / (2 * step)
    result = Curve(curve.base, curve.shape, function(values), slopes * local)
    return _step(result, {key: (local, moments.shape)})


def _step(curve: Curve, partials: Mapping[str, tuple[Array, tuple[int, ...]]]) -> Step:
    """The result on its base, with one exact edge to the base and a local one to each direct input."""
    edges = [Edge(curve.base, _diagonal(curve.slopes, curve.shape))]
    edges += [
        Edge(key, _diagonal(slopes, own_shape), local=True)
        for key, (slopes, own_shape) in partials.items()
        if key != curve.base
    ]
    return Step((from_curve(curve),), tuple(edges))


def _diagonal(slopes: Array, shape: tuple[int, ...]) -> Diagonal:
    slopes = np.clip(np.nan_to_num(slopes), -1e6, 1e6)
    return Diagonal(expected(slopes), expected(slopes**2), shape)


def binary(site: Site, operation: Callable[[Array, Array], Array]) -> Step | None:
    """Two inputs: one constant, both functions of one Gaussian, or independent of each other."""
    if len(site.node.inputs) == 1:
        return unary(site, np.asarray)
    left, right = site.moments(0), site.moments(1)
    keys = site.node.input(0), site.node.input(1)
    if left is not None and right is not None:
        rank = max(left.mean.ndim, right.mean.ndim)
        if left.mean.ndim != right.mean.ndim:
            return None
        if left.as_curve(keys[0]).base == right.as_curve(keys[1]).base:
            return _same_base(keys, (left, right), operation)
        return _independent(site.node.op_type, keys, (left, right))
    moments, position = (left, 0) if left is not None else (right, 1)
    other = site.constant(1 - position)
    if moments is None or other is None:
        return None
    rank = moments.mean.ndim
    if other.ndim > rank:
        return None
    other = constant(other, rank).mean
    function = (lambda x: operation(x, other)) if position == 0 else (lambda x: operation(other, x))
    return follow(keys[position], moments, function)


def _same_base(
    keys: tuple[str, str], sides: tuple[Moments, Moments], operation: Callable[[Array, Array], Array]
) -> Step:
    a, b = (moments.as_curve(key) for key, moments in zip(keys, sides, strict=True))
    values = operation(a.values, b.values)
    step_a, step_b = (1e-4 * np.maximum(np.abs(c.values), 1e-3) for c in (a, b))
    by_a = (operation(a.values + step_a, b.values) - operation(a.values - step_a, b.values)) / (2 * step_a)
    by_b = (operation(a.values, b.values + step_b) - operation(a.values, b.values - step_b)) / (2 * step_b)
    curve = Curve(a.base, a.shape, values, by_a * a.slopes + by_b * b.slopes)
    partials: dict[str, tuple[Array, tuple[int, ...]]] = {
        key: (slopes, moments.shape) for key, slopes, moments in zip(keys, (by_a, by_b), sides, strict=True)
    }
    return _step(curve, partials)


def _independent(op_type: str, keys: tuple[str, str], sides: tuple[Moments, Moments]) -> Step | None:
    """Two tensors taken as independent; a quotient and a maximum to first order."""
    a, b = sides
    if op_type in {"Add", "Sub"}:
        sign = 1.0 if op_type == "Add" else -1.0
        one = np.ones((1,) * a.mean.ndim)
        result = gaussian(a.mean + sign * b.mean, a.var + b.var)
        parts = [(one, one), (sign * one, one)]
    elif op_type == "Mul":
        result = gaussian(a.mean * b.mean, a.var * b.power + a.mean**2 * b.var)
        parts = [(b.mean, b.power), (a.mean, a.power)]
    elif op_type == "Div":
        inverse = _inverse(b.mean)
        by_b = a.mean * inverse**2
        result = gaussian(a.mean * inverse, a.var * inverse**2 + by_b**2 * b.var)
        parts = [(inverse, inverse**2), (-by_b, a.power * inverse**4)]
    elif op_type in {"Max", "Min"}:
        first = 0.5 * np.ones((1,) * a.mean.ndim)
        result = gaussian((np.maximum if op_type == "Max" else np.minimum)(a.mean, b.mean), (a.var + b.var) / 2)
        parts = [(first, first), (first, first)]
    else:
        return None
    edges = tuple(
        Edge(key, Diagonal(np.broadcast_to(slope, result.shape), np.broadcast_to(square, result.shape), side.shape))
        for key, (slope, square), side in zip(keys, parts, sides, strict=True)
    )
    return Step((result,), edges)


def clip(site: Site) -> Step | None:
    """Clip with its bounds as attributes (opset 6) or inputs."""
    low, high = site.constant(1), site.constant(2)
    lower = site.node.float("min", -np.inf) if low is None else float(low.ravel()[0])
    upper = site.node.float("max", np.inf) if high is None else float(high.ravel()[0])
    return unary(site, lambda x: np.clip(x, lower, upper))


def variadic_sum(site: Site) -> Step | None:
    """Sum of any number of tensors, constants included."""
    node = site.node
    members = [(key, site.known[key]) for key in node.inputs if key in site.known]
    offsets = [value for index in range(len(node.inputs)) if (value := site.constant(index)) is not None]
    if not members or len(members) + len(offsets) < len(node.inputs):
        return None
    rank = max(moments.mean.ndim for _, moments in members)
    if any(moments.mean.ndim != rank for _, moments in members):
        return None
    mean: Array = sum((m.mean for _, m in members), np.zeros((1,) * rank)) + sum(
        (constant(value, rank).mean for value in offsets), np.zeros((1,) * rank)
    )
    result = gaussian(mean, sum((m.var for _, m in members), np.zeros((1,) * rank)))
    one: npt.NDArray[np.float64] = np.ones(result.shape)
    return Step((result,), tuple(Edge(key, Diagonal(one, one, moments.shape)) for key, moments in members))


def _unary_rule(make: Callable[[Node], Function]) -> Rule:
    return lambda site: unary(site, make(site.node))


def _binary_rule(operation: Callable[[Array, Array], Array]) -> Rule:
    return lambda site: binary(site, operation)


RULES: Mapping[str, Rule] = {
    **{name: _unary_rule(make) for name, make in FUNCTIONS.items()},
    **{name: _binary_rule(operation) for name, operation in BINARY.items()},
    "Clip": clip,
    "Sum": variadic_sum,
}
