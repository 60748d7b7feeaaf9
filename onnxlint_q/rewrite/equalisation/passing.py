"""How channels pass through an operator that computes no products with a weight: which factors its result has.

A tensor has one number for each channel with a factor of its own: an array of its rank, of length 1 along an axis on
which nothing is told apart. An operator that keeps factors gives numbers of its result made of those that it reads.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from onnxlint_q.graph import Model, Node, Trait
from onnxlint_q.graph.operators import Channels
from onnxlint_q.graph.settled import is_known
from onnxlint_q.graph.tensors import Array

Numbers = npt.NDArray[np.int64]

# A list of axes, pads or sizes is shorter than this; so many elements are counted out where a shape changes, and so
# many channels of one tensor told apart.
_MANY, _COUNTED, _MOST = 4096, 1 << 22, 1 << 17
# From this opset on Add, Min and Max broadcast a value a channel.
_BROADCASTS = 8
_OWN_VALUES = frozenset({"reflect", "edge", "wrap"})
# They give a power of what they are given.
_PLAIN_REDUCTIONS = frozenset({"ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2"})
_GATES = frozenset({"Sigmoid", "HardSigmoid", "Tanh"})
_PLAIN_POOLINGS = frozenset({"LpPool", "GlobalLpPool"})


class KeptError(Exception):
    """The factors of what a node reads have to stay 1; the message says why, half a sentence about the node."""


@dataclass(slots=True)
class Passed:
    """What an operator does with factors.

    Attributes:
        results: numbers of each result that has any, by key.
        alike: pairs of arrays of numbers that have to have one factor, element by element.
        kept: inputs whose factors have to stay 1.
    """

    results: Mapping[str, Numbers]
    alike: list[tuple[Numbers, Numbers]] = field(default_factory=list)
    kept: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Site:
    """A node with the numbers of what it reads.

    Attributes:
        known: by tensor key; a constant has none.
        settled: values of computed tensors that do not depend on the inputs.
        new: so many numbers that nothing has yet.
    """

    model: Model
    node: Node
    known: Mapping[str, Numbers]
    settled: Mapping[str, Array]
    new: Callable[[int], Numbers]

    @property
    def first(self) -> Numbers:
        """Numbers of the first input."""
        return self.of(self.node.input(0))

    def of(self, key: str) -> Numbers:
        """Numbers of a tensor.

        Raises:
            KeptError: it has none.
        """
        if key not in self.known:
            raise KeptError("reads a constant there")
        return self.known[key]

    def integers(self, slot: int, attribute: str) -> tuple[int, ...] | None:
        """Integers of an input, or of an attribute as in older opsets; None where there are none or they are open."""
        key = self.node.input(slot)
        if not key:
            return self.node.ints(attribute) or None
        value = self.settled.get(key)
        value = self.model.constant(key) if value is None else value
        if value is None or value.dtype.kind not in "iu" or value.size > _MANY or not is_known(value):
            return None
        return tuple(int(one) for one in value.ravel())

    def one_result(self, numbers: Numbers, kept: tuple[str, ...] = ()) -> Passed:
        """The first result with these numbers."""
        return Passed({self.node.output: numbers}, kept=kept)


Rule = Callable[[Site], Passed]


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
    return site.one_result(numbers, kept=_others(site))


def _others(site: Site) -> tuple[str, ...]:
    """Inputs beside the first one that are computed: a slope, a size."""
    return tuple(key for key in site.node.inputs[1:] if key in site.known)


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
    together = np.broadcast_arrays(*(_of_rank(one, rank) for one in given))
    _check_count(together[0].size)
    return Passed({site.node.output: together[0]}, [(together[0], one) for one in together[1:]])


def _check_broadcasts(site: Site) -> None:
    if site.model.opset < _BROADCASTS:
        raise KeptError(f"has one constant for all channels before opset {_BROADCASTS}")


def _check_size(site: Site, shape: tuple[int, ...], given: Sequence[Numbers]) -> None:
    """A constant with a value for each place must not become one for each place and channel."""
    made = math.prod(np.broadcast_shapes(shape, *(one.shape for one in given)))
    if made > max(math.prod(shape), *(one.size for one in given)):
        raise KeptError("reads a constant that would grow with the number of channels")


def _check_count(count: int) -> None:
    if count > _MOST:
        raise KeptError("has more channels than are told apart")


def _of_rank(numbers: Numbers, rank: int) -> Numbers:
    return numbers.reshape((1,) * (rank - numbers.ndim) + numbers.shape)


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
    return _of_rank(site.of(key), max(len(shape or ()) for shape in shapes))


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


def _resized(site: Site) -> Passed:
    node, numbers = site.node, site.first
    shapes = [site.model.shape(key) for key in (node.input(0), node.output)]
    if shapes[0] is None or shapes[1] is None or node.float("extrapolation_value", 0.0) != 0:
        raise KeptError("resizes it in a way that is not known")
    for axis, length in enumerate(numbers.shape):
        if length > 1 and not shapes[0][axis] == shapes[1][axis] == length:
            raise KeptError("mixes its channels")
    return site.one_result(numbers, kept=_others(site))


def _padded(site: Site) -> Passed:
    """Zeros beside the channels are channels that may have any factor."""
    node, numbers = site.node, site.first
    pads = site.integers(1, "pads")
    value = site.model.constant(node.input(2)) if node.input(2) else None
    zero = node.float("value", 0.0) == 0 if not node.input(2) else value is not None and not value.any()
    own = node.text("mode", "constant") in _OWN_VALUES
    if not zero and not own:
        raise KeptError("adds values that are not zero")
    axes = _axes(site.integers(3, ""), numbers.ndim) if node.input(3) else range(numbers.ndim)
    if pads is None or len(pads) != 2 * len(axes):
        raise KeptError("pads it in a way that is not known")
    for axis, before, after in zip(axes, pads, pads[len(axes) :], strict=False):
        if numbers.shape[axis] > 1 and (before or after):
            if own or min(before, after) < 0 or max(before, after) > _MANY or numbers.size > numbers.shape[axis]:
                raise KeptError("adds channels that are not zero, or takes some away")
            shape = [-1 if one == axis else 1 for one in range(numbers.ndim)]
            beside = (site.new(before).reshape(shape), numbers, site.new(after).reshape(shape))
            numbers = np.concatenate(beside, axis)
    return site.one_result(numbers)


def _axes(axes: Sequence[int] | None, rank: int) -> Sequence[int]:
    if axes is None or not all(-rank <= axis < rank for axis in axes):
        raise KeptError("works along axes that are not known")
    return [axis % rank for axis in axes]


def _joined(site: Site) -> Passed:
    node = site.node
    if any(key not in site.known for key in node.inputs):
        raise KeptError("joins it to a constant")
    axis = node.int("axis", 1)
    parts = [_along(site, key, axis) for key in node.inputs]
    axis %= parts[0].ndim
    common = np.broadcast_shapes(*((*one.shape[:axis], 1, *one.shape[axis + 1 :]) for one in parts))
    wide = [np.broadcast_to(one, (*common[:axis], one.shape[axis], *common[axis + 1 :])) for one in parts]
    _check_count(sum(one.size for one in wide))
    return site.one_result(np.concatenate(wide, axis))


def _along(site: Site, key: str, axis: int) -> Numbers:
    """Numbers with one for each place along an axis."""
    numbers, shape = site.of(key), site.model.shape(key)
    if shape is None or len(shape) != numbers.ndim or not -len(shape) <= axis < len(shape):
        raise KeptError("has a shape that is not known")
    if numbers.shape[axis] > 1:
        return numbers
    length = shape[axis]
    if length is None:
        raise KeptError("has a shape that is not known")
    axis %= numbers.ndim
    return np.broadcast_to(numbers, (*numbers.shape[:axis], length, *numbers.shape[axis + 1 :]))


def _split(site: Site) -> Passed:
    node, numbers = site.node, site.first
    (axis,) = _axes([node.int("axis", 0)], numbers.ndim)
    results: dict[str, Numbers] = {}
    start = 0
    for key in filter(None, node.outputs):
        if numbers.shape[axis] == 1:
            results[key] = numbers
            continue
        shape = site.model.shape(key)
        length = shape[axis] if shape is not None and len(shape) == numbers.ndim else None
        if length is None:
            raise KeptError("splits it in a way that is not known")
        results[key] = np.take(numbers, range(start, min(start + length, numbers.shape[axis])), axis)
        start += length
    return Passed(results, kept=_others(site))


def _sliced(site: Site) -> Passed:
    numbers = site.first
    starts, ends, axes, steps = (
        site.integers(slot, name) for slot, name in enumerate(("starts", "ends", "axes", "steps"), start=1)
    )
    if max(numbers.shape, default=1) == 1:
        return site.one_result(numbers, kept=_others(site))
    if starts is None or ends is None:
        raise KeptError("takes parts of it that are not known")
    along = _axes(range(len(starts)) if axes is None and not site.node.input(3) else axes, numbers.ndim)
    steps = (1,) * len(starts) if steps is None and not site.node.input(4) else steps
    if steps is None or not len(starts) == len(ends) == len(along) == len(steps) or 0 in steps:
        raise KeptError("takes parts of it that are not known")
    index = [slice(None)] * numbers.ndim
    for axis, start, end, step in zip(along, starts, ends, steps, strict=True):
        if numbers.shape[axis] > 1:
            index[axis] = slice(start, None if step < 0 and end < -numbers.shape[axis] else end, step)
    return site.one_result(numbers[tuple(index)])


def _gathered(site: Site) -> Passed:
    numbers, key = site.first, site.node.input(1)
    (axis,) = _axes([site.node.int("axis", 0)], numbers.ndim)
    index = site.model.constant(key)
    if numbers.shape[axis] == 1:
        shape = site.model.shape(key)
        if shape is None:
            raise KeptError("picks from it in a way that is not known")
        index = np.zeros((1,) * len(shape), np.int64)
    if index is None or index.size > _COUNTED or not np.all(np.abs(index) < numbers.shape[axis] + (index < 0)):
        raise KeptError("picks from it in a way that is not known")
    _check_count(numbers.size // numbers.shape[axis] * index.size)
    return site.one_result(np.take(numbers, index, axis))


def _transposed(site: Site) -> Passed:
    numbers = site.first
    order = site.node.ints("perm") or tuple(reversed(range(numbers.ndim)))
    if sorted(order) != list(range(numbers.ndim)):
        raise KeptError("orders its axes in a way that is not known")
    return site.one_result(numbers.transpose(order))


def _reshaped(site: Site) -> Passed:
    """Count the elements out, but for what both shapes begin and end with."""
    node, numbers = site.node, site.first
    shapes = [list(site.model.shape(key) or ()) for key in (node.input(0), node.output)]
    old, new = shapes
    if len(old) != numbers.ndim or not new:
        raise KeptError("changes its shape to one that is not known")
    first = 0
    while first < min(len(old), len(new)) and numbers.shape[first] == 1 and old[first] == new[first]:
        first += 1
    last = 0
    while last < min(len(old), len(new)) - first and numbers.shape[-1 - last] == 1 and old[-1 - last] == new[-1 - last]:
        last += 1
    open_ends = None in old[:first] and None in old[len(old) - last :]
    was = [length for length in old[first : len(old) - last] if length is not None]
    now = [length for length in new[first : len(new) - last] if length is not None]
    if open_ends or len(was) + first + last < len(old) or len(now) + first + last < len(new):
        raise KeptError("changes its shape to one that is not known")
    if math.prod(was) != math.prod(now) or math.prod(was) > _COUNTED:
        raise KeptError("changes its shape in a way that is not followed")
    inner = numbers.reshape(numbers.shape[first : numbers.ndim - last])
    made = _narrowed(np.broadcast_to(inner, was).reshape(now))
    _check_count(made.size)
    return site.one_result(made.reshape((1,) * first + made.shape + (1,) * last), kept=_others(site))


def _narrowed(numbers: Numbers) -> Numbers:
    """With length 1 along axes on which nothing is told apart."""
    for axis in range(numbers.ndim):
        head = np.take(numbers, [0], axis)
        if (numbers == head).all():
            numbers = head
    return numbers


def _reduced(site: Site) -> Passed:
    node, numbers = site.node, site.first
    axes = site.integers(1, "axes")
    if axes is None and node.input(1):
        raise KeptError("works along axes that are not known")
    along = _axes(range(numbers.ndim) if axes is None else axes, numbers.ndim)
    if any(numbers.shape[axis] > 1 for axis in along):
        raise KeptError("mixes its channels")
    kept = node.int("keepdims", 1)
    return site.one_result(numbers if kept else numbers.squeeze(tuple(along)))


_RULES: Mapping[str, Rule] = {
    "Clip": _clip,
    **dict.fromkeys(_GATES, _restored),
    **dict.fromkeys(("Add", "Sub", "Sum", "Mean", "Max", "Min"), _alike_all),
    **dict.fromkeys(("Mul", "Div"), _product),
    **dict.fromkeys(("Resize", "Upsample"), _resized),
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), _reshaped),
    **dict.fromkeys(_PLAIN_POOLINGS, _pooled),
    **dict.fromkeys(_PLAIN_REDUCTIONS, _reduced),
    "Pad": _padded,
    "Concat": _joined,
    "Split": _split,
    "Slice": _sliced,
    "Gather": _gathered,
    "Transpose": _transposed,
}
