"""Element-wise operators: one function of the samples, slopes by central difference.

Every sample keeps its own slope, so `x * sigmoid(x)`, HardSwish or a GELU written in six nodes need no rule of their
own: the slopes of their branches meet again at `x` and add up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import pi, prod, sqrt
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxlint_q.analysis.sizes.usual import OPEN_LENGTH
from onnxlint_q.forecast.population import IMAGES, Samples, finite
from onnxlint_q.forecast.step import Edge, Site, Step, TransferRule
from onnxlint_q.forecast.transfer import Diagonal
from onnxlint_q.forecast.unmodelled import UnmodelledError, broadcast
from onnxlint_q.graph import Node

Array = npt.NDArray[Any]
# A constant that differs from place to place is told apart in so many elements.
_LARGEST = 1 << 10
_MAX_OPERANDS = 64
_CODES = 256
_AT_ONCE = 1 << 14
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
    "Cast": lambda node: np.asarray,
    "QuantizeLinear": lambda node: np.asarray,
    "DequantizeLinear": lambda node: np.asarray,
}


Combination = Callable[[Array, Array], Array]


@dataclass(frozen=True, slots=True)
class Operation:
    """A function of two values, and its slopes along the first and along the second."""

    apply: Combination
    first: Combination
    second: Combination


_ONE = np.ones((), np.float32)


def _one(a: Array, b: Array) -> Array:
    return _ONE


def _is_larger(a: Array, b: Array) -> Array:
    return np.asarray((a > b) + np.float32(0.5) * (a == b), np.float32)


_ADD = Operation(np.add, _one, _one)
OPERATIONS: Mapping[str, Operation] = {
    "Add": _ADD,
    "Sum": _ADD,
    "Sub": Operation(np.subtract, _one, lambda a, b: -_ONE),
    "Mul": Operation(np.multiply, lambda a, b: b, lambda a, b: a),
    "Div": Operation(
        lambda a, b: a * _inverse(b), lambda a, b: _inverse(b), lambda a, b: np.asarray(-a * _inverse(b) ** 2)
    ),
    "Max": Operation(np.maximum, _is_larger, lambda a, b: _is_larger(b, a)),
    "Min": Operation(np.minimum, lambda a, b: _is_larger(b, a), _is_larger),
    "Pow": Operation(
        _power,
        lambda a, b: np.asarray(b * _power(a, b - 1)),
        lambda a, b: np.asarray(_power(a, b) * np.log(np.maximum(np.abs(a), 1e-12))),
    ),
    "PRelu": Operation(
        lambda a, b: np.where(a > 0, a, a * b),
        lambda a, b: np.where(a > 0, _ONE, b),
        lambda a, b: np.where(a > 0, np.float32(0), a),
    ),
}
COMPARISONS: Mapping[str, Callable[[Array, Array], Array]] = {
    "Equal": np.equal,
    "Greater": np.greater,
    "GreaterOrEqual": np.greater_equal,
    "Less": np.less,
    "LessOrEqual": np.less_equal,
    "And": np.logical_and,
    "Or": np.logical_or,
    "Xor": np.logical_xor,
}


def follow(key: str, samples: Samples, function: Function, least: float = 0.0) -> Step:
    """Apply `function` to the tensor `key`.

    Its slopes are those of an error of a thousandth, or of `least` where that is more.
    """
    result, slope = np.empty(samples.shape, np.float32), np.empty(samples.shape, np.float32)
    # A few samples at a time, whose intermediate values stay in the cache.
    some = max(_AT_ONCE // max(samples[0].size, 1), 1)
    for start in range(0, len(samples), some):
        part = slice(start, start + some)
        here = samples[part]
        step = np.maximum(np.float32(1e-3) * np.maximum(np.abs(here), np.float32(1e-2)), np.float32(least))
        slope[part] = (function(here + step) - function(here - step)) / (2 * step)
        result[part] = finite(function(here))
    return Step((result,), (Edge(key, Diagonal(slope, samples.shape[1:])),))


def unary(site: Site, function: Function) -> Step:
    """One input, one function of it."""
    return follow(site.node.input(0), site.varying(), function)


def square_root(site: Site) -> Step:
    """Its slope has no bound at zero, but no error of codes is smaller than one of them."""
    samples = site.varying()
    least = float(samples.max(initial=0.0)) / _CODES
    return follow(site.node.input(0), samples, FUNCTIONS["Sqrt"](site.node), least)


def variadic(site: Site, operation: Operation) -> Step:
    """Any number of operands, constants among them, combined from left to right."""
    if len(site.node.inputs) > _MAX_OPERANDS:
        raise UnmodelledError(f"it has more than {_MAX_OPERANDS} operands")
    keys, operands = site.node.inputs, _operands(site, range(len(site.node.inputs)))
    rank = max(operand.ndim for operand in operands)
    wide = [_of_rank(operand, rank) for operand in operands]
    broadcast(*(operand.shape[1:] for operand in wide))
    result, slopes = wide[0], {0: _ONE} if keys[0] in site.known else {}
    for index, value in enumerate(wide[1:], start=1):
        if slopes:
            before = operation.first(result, value)
            slopes = {at: before if slope is _ONE else slope * before for at, slope in slopes.items()}
        if keys[index] in site.known:
            slopes[index] = operation.second(result, value)
        result = operation.apply(result, value)
    edges = [Edge(keys[at], Diagonal(slope, operands[at].shape[1:])) for at, slope in slopes.items()]
    return Step((finite(np.broadcast_to(result, (site.size, *result.shape[1:]))),), tuple(edges))


def where(site: Site) -> Step:
    """A choice between two tensors: as a known condition says, else either with an even chance."""
    values = _operands(site, (1, 2))
    if site.samples(0) is None and site.constant(0) is None:
        chosen = np.random.default_rng(site.node.order).integers(0, 2, (site.size, 1))
        mask: Array = chosen.reshape(site.size, *(1,) * (values[0].ndim - 1)) > 0
    else:
        mask = _operands(site, (0, 1, 2))[0] != 0
    rank = max(array.ndim for array in (mask, *values))
    mask, *wide = (_of_rank(array, rank) for array in (mask, *values))
    shape = (site.size, *broadcast(*(array.shape[1:] for array in (mask, *wide))))
    edges = []
    for index, taken in ((1, mask), (2, ~mask)):
        key = site.node.input(index)
        if key in site.known:
            slope = np.broadcast_to(taken, (taken.shape[0], *shape[1:])).astype(np.float32)
            edges.append(Edge(key, Diagonal(slope, site.known[key].shape[1:])))
    return Step((finite(np.broadcast_to(np.where(mask, *wide), shape)),), tuple(edges))


def compare(site: Site, operation: Callable[[Array, Array], Array]) -> Step:
    """True or false, 1 or 0: an error that is small changes neither."""
    left, right = _operands(site, (0, 1))
    rank = max(left.ndim, right.ndim)
    left, right = _of_rank(left, rank), _of_rank(right, rank)
    shape = broadcast(left.shape[1:], right.shape[1:])
    return Step((np.broadcast_to(operation(left, right), (site.size, *shape)).astype(np.float32),), ())


def flip(site: Site) -> Step:
    """What is true becomes false: an error that is small changes nothing."""
    return Step((np.asarray(site.varying() == 0, np.float32),), ())


def _operands(site: Site, indices: Sequence[int]) -> list[Array]:
    """Samples and constants, `[samples or 1, *shape]`.

    Raises:
        UnmodelledError: nothing is known of one of them, or none varies.
    """
    operands: list[Array] = []
    for index in indices:
        value = site.samples(index)
        if value is None:
            constant = site.constant(index)
            if constant is None or not constant.size:
                raise UnmodelledError("nothing is known of an operand")
            value = _fitted(site, constant, [i for i in indices if site.samples(i) is not None])
        operands.append(value)
    if all(site.samples(index) is None for index in indices):
        raise UnmodelledError("nothing is known of what it reads")
    return operands


def _of_rank(samples: Array, rank: int) -> Array:
    return samples.reshape(samples.shape[0], *(1,) * (rank - samples.ndim), *samples.shape[1:])


def _fitted(site: Site, constant: Array, varying: Sequence[int]) -> Array:
    """A constant beside inputs that vary: `[samples or 1, *shape]`.

    - Where the samples have places along an axis, it has as many; each may stand for a run of elements.
    - Where a sample is at one of several places, it is what it is at that place, the later positions of an image being
      at later places.
    - Along any other axis it has as many places as it has elements, or few enough to be told apart.
    """
    at: list[int] = []
    for axis in range(-1, -constant.ndim - 1, -1):
        length = constant.shape[axis]
        have = max((v.shape[axis] for i in varying if (v := site.varying(i)).ndim > -axis), default=1)
        # Where nothing is known of a length, it is that of the constant.
        if length > 1 and have == 1 and any(site.stands_for(i, axis) in {length, OPEN_LENGTH} for i in varying):
            at.append(axis)
            continue
        places = min(length, max(1, _LARGEST * length // constant.size)) if have == 1 else have
        if 1 < length != places:
            spread = np.arange(places) * length // places
            constant = constant.take(site.places(length) if places == site.positions else spread, axis=axis)
    if not at:
        return constant[None]
    lengths = [constant.shape[axis] for axis in at[::-1]]
    places_of = np.unravel_index(site.places(prod(lengths)), lengths)
    picked = np.moveaxis(constant, at[::-1], range(len(at)))[places_of]
    shape = [1 if axis - constant.ndim in at else length for axis, length in enumerate(constant.shape)]
    return np.broadcast_to(picked, (IMAGES, *picked.shape)).reshape(site.size, *shape)


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


def _unary_rule(make: Callable[[Node], Function]) -> TransferRule:
    return lambda site: unary(site, make(site.node))


def _variadic_rule(operation: Operation) -> TransferRule:
    return lambda site: variadic(site, operation)


def _comparing_rule(operation: Callable[[Array, Array], Array]) -> TransferRule:
    return lambda site: compare(site, operation)


RULES: Mapping[str, TransferRule] = {
    "Not": flip,
    **{name: _unary_rule(make) for name, make in FUNCTIONS.items()},
    **{name: _variadic_rule(operation) for name, operation in OPERATIONS.items()},
    **{name: _comparing_rule(operation) for name, operation in COMPARISONS.items()},
    "Sqrt": square_root,
    "Clip": lambda site: unary(site, clip_function(site)),
    "Where": where,
}
