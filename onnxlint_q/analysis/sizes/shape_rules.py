"""Shapes of what an operator computes from shapes of what it reads, and what it demands of these.

One rule a kind of operator. What is not known is NaN; an operator without a rule gives what shape inference knows.
Source: the ONNX operator specification.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np

from onnxlint_q.analysis.sizes.lengths import Grid, Lengths, Mask, Numbers, Shape, broadcast, chosen, product, same
from onnxlint_q.graph import Node, Trait


class Step(Protocol):
    """One node on the way."""

    @property
    def node(self) -> Node:
        """The node."""

    @property
    def grid(self) -> Grid:
        """What lengths are arrays over."""

    def shape(self, slot: int) -> Shape:
        """Shape of an input.

        Raises:
            UntoldError: its rank is not known.
        """

    def has(self, slot: int) -> bool:
        """Whether the input is there."""

    def listed(self, slot: int, attribute: str = "") -> Sequence[Lengths]:
        """A list of lengths from an input, in older opsets from an attribute.

        Raises:
            UntoldError: it cannot be told.
        """

    def demand(self, mask: Mask) -> None:
        """The node runs only where this holds."""

    def hint(self, mask: Mask) -> None:
        """The node was made for where this holds, and runs elsewhere, too."""


class UntoldError(Exception):
    """A shape cannot be told."""


Rule = Callable[[Step], Sequence[Shape]]
_SAME = Trait.COPIES | Trait.QUANTIZES | Trait.NORMALISES | Trait.SCORES
_SAME_NAMES = frozenset("BatchNormalization LRN CumSum CumProd Hardmax Trilu LpNormalization".split())
_SCALED = frozenset("BatchNormalization InstanceNormalization".split())


def rule_of(node: Node) -> Rule | None:
    """The rule of a node's operator; None without."""
    operator = node.operator
    if not (operator.known or node.is_standard):  # it may have the name of another one
        return None
    found = _RULES.get(operator.form)
    if found is not None:
        return found
    if operator.has(Trait.ELEMENTWISE):
        return _elementwise
    if operator.has(_SAME) or operator.form in _SAME_NAMES:
        return _same
    return _reduce if operator.form.startswith(("Reduce", "Arg")) else None


def _axis(axis: float, rank: int) -> int:
    if not -rank <= axis < rank:
        raise UntoldError
    return int(axis) % rank


def _whole(values: Sequence[Lengths]) -> tuple[int, ...]:
    """A list that is the same everywhere."""
    found = Numbers(tuple(values)).whole()
    if found is None:
        raise UntoldError
    return found


def _axes(step: Step, slot: int, rank: int) -> list[int]:
    return [_axis(axis, rank) for axis in _whole(step.listed(slot, "axes"))]


# -- value by value --------------------------------------------------------------------------------------------------


def _elementwise(step: Step) -> Sequence[Shape]:
    node = step.node
    keys = node.inputs if node.op_type == "Where" else node.operator.data_of(node.inputs)
    return (_broadcast(step, [step.shape(node.inputs.index(key)) for key in keys]),)


def _broadcast(step: Step, shapes: Sequence[Shape]) -> Shape:
    shape, fits = broadcast(shapes)
    for fit, alike in fits:
        step.demand(fit)
        if not fit.all():  # a network that could not grow is rarely made for an axis of 1
            step.hint(alike)
    return shape


def _same(step: Step) -> Sequence[Shape]:
    shape = step.shape(0)
    if step.node.op_type in _SCALED and len(shape) > 1:
        step.demand(same(shape[1], step.shape(1)[0]))
    elif step.node.op_type == "LayerNormalization" and step.node.int("axis", -1) in {-1, len(shape) - 1}:
        step.demand(same(shape[-1], step.shape(1)[-1]))
    return (shape,)


# -- layers and windows ----------------------------------------------------------------------------------------------


def _conv(step: Step) -> Sequence[Shape]:
    inputs = step.node.operator.layer
    assert inputs is not None
    data, weight = step.shape(inputs.input), step.shape(inputs.weight)
    if len(data) != len(weight) or len(data) < 3:
        raise UntoldError
    step.demand(same(data[1], weight[1] * step.node.int("group", 1)))
    return ((data[0], weight[0], *_windows(step, data[2:], weight[2:])),)


def _pool(step: Step) -> Sequence[Shape]:
    data = step.shape(0)
    kernel = [step.grid.known(length) for length in step.node.ints("kernel_shape")]
    if len(kernel) != len(data) - 2:
        raise UntoldError
    sides = data[2:]
    if step.node.op_type == "AveragePool" and not any(step.node.ints("pads")):
        # A mean over part of what is there leaves a rest that nobody wanted to leave.
        for side, size, stride in zip(sides, kernel, step.node.ints("strides") or (1,) * len(sides), strict=False):
            step.hint(same((side - size) % stride, step.grid.known(0)))
    shape = (*data[:2], *_windows(step, sides, kernel))
    return (shape,) * len(step.node.outputs)


def _windows(step: Step, sides: Sequence[Lengths], kernel: Sequence[Lengths]) -> list[Lengths]:
    """How many places windows have along each side; there has to be one."""
    node, count = step.node, len(sides)
    strides = node.ints("strides") or (1,) * count
    dilations = node.ints("dilations") or (1,) * count
    pads = node.ints("pads") or (0,) * (2 * count)
    auto, upwards = node.text("auto_pad", "NOTSET"), bool(node.int("ceil_mode", 0))
    if not len(strides) == len(dilations) == count or len(pads) != 2 * count or min(strides) < 1:
        raise UntoldError
    places: list[Lengths] = []
    for axis, (side, size) in enumerate(zip(sides, kernel, strict=True)):
        stride, before, after = strides[axis], pads[axis], pads[axis + count]
        if auto.startswith("SAME"):
            places.append(np.ceil(side / stride))
            continue
        if auto == "VALID":
            before = after = 0
        room = side + before + after - dilations[axis] * (size - 1) - 1
        found = (np.ceil if upwards else np.floor)(room / stride) + 1
        if upwards:  # the last window starts within the side
            found = chosen(np.asarray((found - 1) * stride >= side + before), found - 1, found)
        step.demand(np.asarray(~(room < 0)))
        places.append(found)
    return places


def _conv_transpose(step: Step) -> Sequence[Shape]:
    node, data, weight = step.node, step.shape(0), step.shape(1)
    count = len(data) - 2
    if node.ints("output_shape") or node.text("auto_pad", "NOTSET") != "NOTSET" or len(weight) != len(data):
        raise UntoldError
    step.demand(same(data[1], weight[0]))
    strides, pads = node.ints("strides") or (1,) * count, node.ints("pads") or (0,) * (2 * count)
    dilations, extra = node.ints("dilations") or (1,) * count, node.ints("output_padding") or (0,) * count
    sides = [
        strides[a] * (data[2 + a] - 1) + extra[a] + dilations[a] * (weight[2 + a] - 1) + 1 - pads[a] - pads[a + count]
        for a in range(count)
    ]
    return ((data[0], weight[1] * node.int("group", 1), *sides),)


def _global_pool(step: Step) -> Sequence[Shape]:
    data = step.shape(0)
    return ((*data[:2], *(step.grid.known(1) for _ in data[2:])),)


def _gemm(step: Step) -> Sequence[Shape]:
    inputs = step.node.operator.layer
    assert inputs is not None
    left, right = step.shape(inputs.input), step.shape(inputs.weight)
    if len(left) != 2 or len(right) != 2:
        raise UntoldError
    left = left[::-1] if step.node.int("transA", 0) else left
    right = right[::-1] if step.node.int("transB", 0) else right
    step.demand(same(left[1], right[0]))
    return ((left[0], right[1]),)


def _matmul(step: Step) -> Sequence[Shape]:
    inputs = step.node.operator.layer
    assert inputs is not None
    left, right = step.shape(inputs.input), step.shape(inputs.weight)
    if len(left) < 2 or len(right) < 2:
        raise UntoldError
    step.demand(same(left[-1], right[-2]))
    front = _broadcast(step, [left[:-2], right[:-2]])
    return ((*front, left[-2], right[-1]),)


def _recurrent(step: Step) -> Sequence[Shape]:
    data, weight, inner = step.shape(0), step.shape(1), step.shape(2)
    if len(data) != 3 or step.node.int("layout", 0):
        raise UntoldError
    length, batch, width = data
    step.demand(same(width, weight[-1]))
    if step.has(5):
        step.demand(same(batch, step.shape(5)[1]))
    state = (weight[0], batch, inner[-1])
    return ((length, weight[0], batch, inner[-1]), state, state)


# -- another shape ---------------------------------------------------------------------------------------------------


def _reshape(step: Step) -> Sequence[Shape]:
    data, wanted = step.shape(0), list(step.listed(1, "shape"))
    if not step.node.int("allowzero", 0):
        kept = [data[axis] if axis < len(data) else None for axis in range(len(wanted))]
        wanted = [
            chosen(np.asarray(length == 0), own, length) if own is not None else length
            for length, own in zip(wanted, kept, strict=True)
        ]
    one = step.grid.known(1)
    values = product(data, one)
    rest = [axis for axis, length in enumerate(wanted) if (length == -1).any()]
    given = product((length for axis, length in enumerate(wanted) if axis not in rest), one)
    if not rest:
        step.demand(same(values, given))
        return (tuple(wanted),)
    if len(rest) > 1 or not (wanted[rest[0]] == -1).all():
        raise UntoldError
    with np.errstate(all="ignore"):
        left = values / given
    step.demand(np.asarray(np.isnan(left) | ((left == np.floor(left)) & (left >= 1))))
    for own, made in ((data, wanted[: rest[0]]), (data[::-1], wanted[rest[0] + 1 :][::-1])):
        step.hint(_meets_an_end(product(made, one), own, one))
    wanted[rest[0]] = left
    return (tuple(wanted),)


def _meets_an_end(values: Lengths, axes: Sequence[Lengths], one: Lengths) -> Mask:
    """Where so many values are those of the first axes, none of them being cut, and not of all."""
    ends = np.asarray(same(values, one))
    for count in range(1, len(axes)):
        ends = np.asarray(ends | same(values, product(axes[:count], one)))
    return ends


def _flatten(step: Step) -> Sequence[Shape]:
    data, one = step.shape(0), step.grid.known(1)
    axis = step.node.int("axis", 1)
    axis += len(data) if axis < 0 else 0
    return ((product(data[:axis], one), product(data[axis:], one)),)


def _transpose(step: Step) -> Sequence[Shape]:
    data = step.shape(0)
    perm = step.node.ints("perm") or tuple(reversed(range(len(data))))
    if sorted(perm) != list(range(len(data))):
        raise UntoldError
    return (tuple(data[axis] for axis in perm),)


def _squeeze(step: Step) -> Sequence[Shape]:
    data = step.shape(0)
    gone = set(_axes(step, 1, len(data)))
    for axis in gone:
        step.demand(same(data[axis], step.grid.known(1)))
    return (tuple(length for axis, length in enumerate(data) if axis not in gone),)


def _unsqueeze(step: Step) -> Sequence[Shape]:
    data = step.shape(0)
    rank = len(data) + len(step.listed(1, "axes"))
    made, rest = set(_axes(step, 1, rank)), iter(data)
    if len(made) + len(data) != rank:
        raise UntoldError  # one axis twice
    return (tuple(step.grid.known(1) if axis in made else next(rest) for axis in range(rank)),)


def _concat(step: Step) -> Sequence[Shape]:
    operator = step.node.operator
    keys = operator.data_of(step.node.inputs) if operator.codes is None else ()
    parts = [step.shape(step.node.inputs.index(key)) for key in keys]
    if not parts or len({len(part) for part in parts}) != 1:
        raise UntoldError
    first, *others = parts
    axis = _axis(step.node.int("axis", 0), len(first))
    for other in others:
        for place, (one, length) in enumerate(zip(first, other, strict=True)):
            if place != axis and one is not length:
                step.demand(same(one, length))
    total = product((), step.grid.known(0))
    for part in parts:
        total = total + part[axis]
    return ((*first[:axis], total, *first[axis + 1 :]),)


def _slice(step: Step) -> Sequence[Shape]:
    data = list(step.shape(0))
    starts, ends = step.listed(1, "starts"), step.listed(2, "ends")
    named = step.has(3) or "axes" in step.node.attributes
    axes = _axes(step, 3, len(data)) if named else range(len(starts))
    steps = _whole(step.listed(4)) if step.has(4) else [1] * len(starts)
    for axis, start, end, stride in zip(axes, starts, ends, steps, strict=True):
        side = data[axis]
        first, last = (chosen(np.asarray(place < 0), place + side, place) for place in (start, end))
        if stride < 0:  # a reversal as a whole is what there is of it
            data[axis] = np.where((first >= side - 1) & (last < 0), np.ceil(side / -stride), np.nan)
            continue
        first, last = np.clip(first, 0, side), np.clip(last, 0, side)
        data[axis] = np.maximum(np.ceil((last - first) / stride), 0)
    return (tuple(data),)


def _split(step: Step) -> Sequence[Shape]:
    data, node = step.shape(0), step.node
    axis, count = _axis(node.int("axis", 0), len(data)), len(node.outputs)
    if step.has(1) or "split" in node.attributes:
        parts = step.listed(1, "split")
        total = product((), step.grid.known(0))
        for part in parts:
            total = total + part
        step.demand(same(total, data[axis]))
    else:
        even = np.ceil(data[axis] / count)
        parts = [even] * (count - 1) + [data[axis] - even * (count - 1)]
    return tuple((*data[:axis], part, *data[axis + 1 :]) for part in parts)


def _gather(step: Step) -> Sequence[Shape]:
    data, index = step.shape(0), step.shape(1)
    axis = _axis(step.node.int("axis", 0), len(data))
    return ((*data[:axis], *index, *data[axis + 1 :]),)


def _expand(step: Step) -> Sequence[Shape]:
    return (_broadcast(step, [step.shape(0), tuple(step.listed(1))]),)


def _tile(step: Step) -> Sequence[Shape]:
    data, repeats = step.shape(0), step.listed(1)
    return (tuple(length * repeat for length, repeat in zip(data, repeats, strict=True)),)


def _pad(step: Step) -> Sequence[Shape]:
    data, pads = step.shape(0), step.listed(1, "pads")
    if step.has(3) or len(pads) != 2 * len(data):
        raise UntoldError
    return (tuple(length + pads[axis] + pads[axis + len(data)] for axis, length in enumerate(data)),)


def _resize(step: Step) -> Sequence[Shape]:
    data = step.shape(0)
    sizes, scales = (3, 2) if step.node.op_type == "Resize" and len(step.node.inputs) > 2 else (None, 1)
    if step.node.text("keep_aspect_ratio_policy", "stretch") != "stretch" or step.node.ints("axes"):
        raise UntoldError
    if sizes is not None and step.has(sizes):
        wanted = step.listed(sizes)
    else:
        # A factor is stored in single precision.
        wanted = [np.floor(a * b + 1e-4) for a, b in zip(data, step.listed(scales, "scales"), strict=False)]
    if len(wanted) != len(data):
        raise UntoldError
    return (tuple(wanted),)


def _filled(step: Step) -> Sequence[Shape]:
    return (tuple(step.listed(0)),)


def _blocks(step: Step) -> Sequence[Shape]:
    data, size = step.shape(0), step.node.int("blocksize", 1)
    if len(data) != 4:
        raise UntoldError
    batch, channels, height, width = data
    if step.node.op_type == "DepthToSpace":
        step.demand(same(channels % size**2, step.grid.known(0)))
        return ((batch, channels / size**2, height * size, width * size),)
    for side in (height, width):
        step.demand(same(side % size, step.grid.known(0)))
    return ((batch, channels * size**2, height / size, width / size),)


def _reduce(step: Step) -> Sequence[Shape]:
    data, node = step.shape(0), step.node
    if node.op_type.startswith("Arg"):
        gone = {_axis(node.int("axis", 0), len(data))}
    elif step.has(1) or "axes" in node.attributes:
        gone = set(_axes(step, 1, len(data)))
    else:
        gone = set(range(len(data)))
    if node.int("keepdims", 1):
        return (tuple(step.grid.known(1) if axis in gone else length for axis, length in enumerate(data)),)
    return (tuple(length for axis, length in enumerate(data) if axis not in gone),)


_RULES: Mapping[str, Rule] = {
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "MaxPool": _pool,
    "AveragePool": _pool,
    "LpPool": _pool,
    "GlobalMaxPool": _global_pool,
    "GlobalAveragePool": _global_pool,
    "GlobalLpPool": _global_pool,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "LSTM": _recurrent,
    "GRU": _recurrent,
    "RNN": _recurrent,
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Transpose": _transpose,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Concat": _concat,
    "Slice": _slice,
    "Split": _split,
    "Gather": _gather,
    "Expand": _expand,
    "Tile": _tile,
    "Pad": _pad,
    "Resize": _resize,
    "Upsample": _resize,
    "ConstantOfShape": _filled,
    "DepthToSpace": _blocks,
    "SpaceToDepth": _blocks,
}
