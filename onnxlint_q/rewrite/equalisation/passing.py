"""How channels pass through an operator that computes no products with a weight: which factors its result has.

An operator that keeps factors gives numbers of its result made of those that it reads.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from onnxlint_q.graph import Model, Node, Trait
from onnxlint_q.graph.operators import Channels
from onnxlint_q.rewrite.equalisation import moving
from onnxlint_q.rewrite.equalisation.site import KeptError, Numbers, Passed, Site, check_count, of_rank, others

Rule = Callable[[Site], Passed]

# From this opset on Add, Min and Max broadcast a value a channel.
_BROADCASTS = 8
# They give a power of what they are given.
_PLAIN_REDUCTIONS = frozenset({"ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2"})
_GATES = frozenset({"Sigmoid", "HardSigmoid", "Tanh"})
_PLAIN_POOLINGS = frozenset({"LpPool", "GlobalLpPool"})


def passed(site: Site) -> Passed:
    """What a node does with factors.

    Raises:
        KeptError: those of all that it reads have to stay 1.
    """
    node = site.node
    row = node.operator
    rule = _RULES.get(node.op_type) if node.is_standard else None
    if rule is None and node.is_standard:
        if row.has(Trait.HOMOGENEOUS | Trait.COPIES):
            rule = _same
        elif row.channels is Channels.SECOND and row.has(Trait.SELECTS | Trait.AVERAGES):
            rule = _pooled
    if rule is None:
        raise KeptError("does not hand a factor on")
    return rule(site)


def is_restored(model: Model, node: Node) -> bool:
    """Whether a node is the gate of what it reads, as in `x Sigmoid(x)`, so that a product in front of it is worth it.

    The product gives the gate what it read before; the other factor of the gated product then has any factors.
    """
    if node.op_type not in _GATES or not node.is_standard or node.output in model.output_names:
        return False
    readers = model.consumers(node.output)
    return bool(readers) and all(reader.op_type == "Mul" and node.input(0) in reader.inputs for reader in readers)


def has_gates(model: Model) -> bool:
    """Whether any node of a model is one."""
    return any(is_restored(model, node) for kind in sorted(_GATES) for node in model.nodes_of(kind))


def limits(model: Model, node: Node) -> tuple[float, float]:
    """Lower and upper bound of a Clip, infinite where it has none.

    Raises:
        KeptError: a bound is computed.
    """
    found = []
    for slot, name, default in ((1, "min", -math.inf), (2, "max", math.inf)):
        key = node.input(slot)
        value = model.constant(key) if key else None
        if key and value is None:
            raise KeptError("has a bound that is computed")
        found.append(float(value.ravel()[0]) if value is not None and value.size else node.float(name, default))
    return found[0], found[1]


def _same(site: Site) -> Passed:
    numbers = site.first
    return site.one_result(numbers, kept=others(site))


def _restored(site: Site) -> Passed:
    """What it reads has any factors, and its result none."""
    if not is_restored(site.model, site.node):
        raise KeptError("does not hand a factor on")
    return Passed({})


def _clip(site: Site) -> Passed:
    limits(site.model, site.node)
    _check_broadcasts(site)
    return site.one_result(site.first)


def _alike_all(site: Site) -> Passed:
    """All that are added up or compared have one factor; a constant takes it up."""
    _check_broadcasts(site)
    given = [site.known[key] for key in site.node.inputs if key in site.known]
    for key in site.node.inputs:
        if key and key not in site.known:
            value = site.model.constant(key)
            if value is None or value.dtype.kind != "f" or not np.isfinite(value).all():
                raise KeptError("reads a constant that cannot be scaled")
            if key in site.model.replaceable:
                raise KeptError("reads a constant that callers may replace")
            _check_size(site, value.shape, given)
    rank = max(one.ndim for one in given)
    together = np.broadcast_arrays(*(of_rank(one, rank) for one in given))
    check_count(together[0].size)
    return Passed({site.node.output: together[0]}, [(together[0], one) for one in together[1:]])


def _check_broadcasts(site: Site) -> None:
    if site.model.opset < _BROADCASTS:
        raise KeptError(f"has one constant for all channels before opset {_BROADCASTS}")


def _check_size(site: Site, shape: tuple[int, ...], given: Sequence[Numbers]) -> None:
    """A constant with a value for each place must not become one for each place and channel."""
    made = math.prod(np.broadcast_shapes(shape, *(one.shape for one in given)))
    if made > max(math.prod(shape), *(one.size for one in given)):
        raise KeptError("reads a constant that would grow with the number of channels")


def _product(site: Site) -> Passed:
    node = site.node
    given = [key for key in node.inputs if key in site.known]
    if len(given) == 1:
        (scaled,) = given
        if node.op_type == "Div" and node.input(0) != scaled:
            raise KeptError("divides by it")
        return site.one_result(_broadcast(site, scaled))
    if len(set(given)) == 1:
        raise KeptError("makes a square of it")
    gate = _gate(site, *given) if node.op_type == "Mul" else node.input(1)
    scaled = next(key for key in given if key != gate)
    return site.one_result(_broadcast(site, scaled), kept=(gate,))


def _broadcast(site: Site, key: str) -> Numbers:
    """Numbers of one operand in the rank of the result."""
    shapes = [site.model.shape(one) for one in site.node.inputs]
    if any(shape is None for shape in shapes):
        raise KeptError("has a result of unknown rank")
    return of_rank(site.of(key), max(len(shape or ()) for shape in shapes))


def _gate(site: Site, one: str, other: str) -> str:
    """Which of two factors of a product is the gate: it is smaller, or between bounds."""
    mine, others = site.model.shape(one), site.model.shape(other)
    if mine is not None and others is not None and len(mine) == len(others):
        pairs = list(zip(mine, others, strict=True))
        narrow = [any(a == 1 != b for a, b in pairs), any(b == 1 != a for a, b in pairs)]
        if narrow[0] != narrow[1]:
            return one if narrow[0] else other
    makers = [site.model.producer(key) for key in (one, other)]
    bounded = [maker is not None and maker.operator.bounds in {(0, 1), (-1, 1)} for maker in makers]
    return one if bounded[0] else other


def _pooled(site: Site) -> Passed:
    numbers = site.first
    if max(numbers.shape[2:], default=1) > 1:
        raise KeptError("mixes its channels")
    return site.one_result(numbers)


def _reduced(site: Site) -> Passed:
    node, numbers = site.node, site.first
    axes = site.integers(1, "axes")
    if axes is None and node.input(1):
        raise KeptError("works along axes that are not known")
    along = moving.axes_of(range(numbers.ndim) if axes is None else axes, numbers.ndim)
    if any(numbers.shape[axis] > 1 for axis in along):
        raise KeptError("mixes its channels")
    kept = node.int("keepdims", 1)
    return site.one_result(numbers if kept else numbers.squeeze(tuple(along)))


_RULES: Mapping[str, Rule] = {
    "Clip": _clip,
    **dict.fromkeys(_GATES, _restored),
    **dict.fromkeys(("Add", "Sub", "Sum", "Mean", "Max", "Min"), _alike_all),
    **dict.fromkeys(("Mul", "Div"), _product),
    **dict.fromkeys(("Resize", "Upsample"), moving.resized),
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), moving.reshaped),
    **dict.fromkeys(_PLAIN_POOLINGS, _pooled),
    **dict.fromkeys(_PLAIN_REDUCTIONS, _reduced),
    "Pad": moving.padded,
    "Concat": moving.joined,
    "Split": moving.split,
    "Slice": moving.sliced,
    "Gather": moving.gathered,
    "Transpose": moving.transposed,
}
