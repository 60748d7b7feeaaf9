"""How channels pass through an operator that moves values, joins them or takes some of them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from onnxlint_q.rewrite.equalisation.site import MANY, KeptError, Numbers, Passed, Site, check_count, others

_COUNTED = 1 << 22
"""So many elements are counted out where a shape changes."""
_OWN_VALUES = frozenset({"reflect", "edge", "wrap"})


def resized(site: Site) -> Passed:
    """An image of another size, as many channels."""
    node, numbers = site.node, site.first
    shapes = [site.model.shape(key) for key in (node.input(0), node.output)]
    if shapes[0] is None or shapes[1] is None or node.float("extrapolation_value", 0.0) != 0:
        raise KeptError("resizes it in a way that is not known")
    for axis, length in enumerate(numbers.shape):
        if length > 1 and not shapes[0][axis] == shapes[1][axis] == length:
            raise KeptError("mixes its channels")
    return site.one_result(numbers, kept=others(site))


def padded(site: Site) -> Passed:
    """Zeros beside the channels are channels that may have any factor."""
    node, numbers = site.node, site.first
    pads = site.integers(1, "pads")
    value = site.model.constant(node.input(2)) if node.input(2) else None
    zero = node.float("value", 0.0) == 0 if not node.input(2) else value is not None and not value.any()
    own = node.text("mode", "constant") in _OWN_VALUES
    if not zero and not own:
        raise KeptError("adds values that are not zero")
    axes = axes_of(site.integers(3, ""), numbers.ndim) if node.input(3) else range(numbers.ndim)
    if pads is None or len(pads) != 2 * len(axes):
        raise KeptError("pads it in a way that is not known")
    for axis, before, after in zip(axes, pads, pads[len(axes) :], strict=False):
        if numbers.shape[axis] > 1 and (before or after):
            if own or min(before, after) < 0 or max(before, after) > MANY or numbers.size > numbers.shape[axis]:
                raise KeptError("adds channels that are not zero, or takes some away")
            shape = [-1 if one == axis else 1 for one in range(numbers.ndim)]
            beside = (site.new(before).reshape(shape), numbers, site.new(after).reshape(shape))
            numbers = np.concatenate(beside, axis)
    return site.one_result(numbers)


def axes_of(axes: Sequence[int] | None, rank: int) -> Sequence[int]:
    """Axes counted from the first one.

    Raises:
        KeptError: they are not known.
    """
    if axes is None or not all(-rank <= axis < rank for axis in axes):
        raise KeptError("works along axes that are not known")
    return [axis % rank for axis in axes]


def joined(site: Site) -> Passed:
    """The parts one behind the other."""
    node = site.node
    if any(key not in site.known for key in node.inputs):
        raise KeptError("joins it to a constant")
    axis = node.int("axis", 1)
    parts = [_along(site, key, axis) for key in node.inputs]
    axis %= parts[0].ndim
    common = np.broadcast_shapes(*((*one.shape[:axis], 1, *one.shape[axis + 1 :]) for one in parts))
    wide = [np.broadcast_to(one, (*common[:axis], one.shape[axis], *common[axis + 1 :])) for one in parts]
    check_count(sum(one.size for one in wide))
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


def split(site: Site) -> Passed:
    """The parts that it is divided into."""
    node, numbers = site.node, site.first
    (axis,) = axes_of([node.int("axis", 0)], numbers.ndim)
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
    return Passed(results, kept=others(site))


def sliced(site: Site) -> Passed:
    """A range of it along some axes."""
    numbers = site.first
    starts, ends, axes, steps = (
        site.integers(slot, name) for slot, name in enumerate(("starts", "ends", "axes", "steps"), start=1)
    )
    if max(numbers.shape, default=1) == 1:
        return site.one_result(numbers, kept=others(site))
    if starts is None or ends is None:
        raise KeptError("takes parts of it that are not known")
    along = axes_of(range(len(starts)) if axes is None and not site.node.input(3) else axes, numbers.ndim)
    steps = (1,) * len(starts) if steps is None and not site.node.input(4) else steps
    if steps is None or not len(starts) == len(ends) == len(along) == len(steps) or 0 in steps:
        raise KeptError("takes parts of it that are not known")
    index = [slice(None)] * numbers.ndim
    for axis, start, end, step in zip(along, starts, ends, steps, strict=True):
        if numbers.shape[axis] > 1:
            index[axis] = slice(start, None if step < 0 and end < -numbers.shape[axis] else end, step)
    return site.one_result(numbers[tuple(index)])


def gathered(site: Site) -> Passed:
    """What a constant index picks."""
    numbers, key = site.first, site.node.input(1)
    (axis,) = axes_of([site.node.int("axis", 0)], numbers.ndim)
    index = site.model.constant(key)
    if numbers.shape[axis] == 1:
        shape = site.model.shape(key)
        if shape is None:
            raise KeptError("picks from it in a way that is not known")
        index = np.zeros((1,) * len(shape), np.int64)
    if index is None or index.size > _COUNTED or not np.all(np.abs(index) < numbers.shape[axis] + (index < 0)):
        raise KeptError("picks from it in a way that is not known")
    check_count(numbers.size // numbers.shape[axis] * index.size)
    return site.one_result(np.take(numbers, index, axis))


def transposed(site: Site) -> Passed:
    """The same with its axes in another order."""
    numbers = site.first
    order = site.node.ints("perm") or tuple(reversed(range(numbers.ndim)))
    if sorted(order) != list(range(numbers.ndim)):
        raise KeptError("orders its axes in a way that is not known")
    return site.one_result(numbers.transpose(order))


def reshaped(site: Site) -> Passed:
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
    check_count(made.size)
    return site.one_result(made.reshape((1,) * first + made.shape + (1,) * last), kept=others(site))


def _narrowed(numbers: Numbers) -> Numbers:
    """With length 1 along axes on which nothing is told apart."""
    for axis in range(numbers.ndim):
        head = np.take(numbers, [0], axis)
        if (numbers == head).all():
            numbers = head
    return numbers
