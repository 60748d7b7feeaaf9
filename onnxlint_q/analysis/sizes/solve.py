"""How long the axes are that the file leaves open.

A graph often runs at one size only, although its inputs are declared for any: a Reshape to constants, a matrix of a
fixed height, a table of anchors that is added. All lengths that an axis may have are tried at once (module `lengths`).
Of those that every operator takes, the roundest is chosen, as networks halve their sides again and again; among equally
round ones the most usual. What a node was probably made for, and a shape that the file merely notes for a result,
decide only where they contradict nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import onnx

from onnxlint_q.analysis.image.inputs import channels_last, is_image
from onnxlint_q.analysis.sizes.lengths import Grid, Mask, Shape
from onnxlint_q.analysis.sizes.usual import OPEN_LENGTH, OPEN_SIDE, OPEN_TOKENS
from onnxlint_q.analysis.sizes.walk import Demand, Walked, walk
from onnxlint_q.graph import Model, Value

# In the order of preference.
_SIDES = (OPEN_SIDE, 256, 320, 416, 640, 512, 384, 352, 192, 128, 160, 96, 64, 32, 28, 48, 240, 480, 299, 300, 331)
_LENGTHS = (OPEN_LENGTH, 32, 64, 128, 256, 512, 100, 1000, 1024, 16000, 8000, 48000)
_TOKENS = (OPEN_TOKENS, *(length for length in _LENGTHS if length != OPEN_TOKENS))
_COLOURS = (3, 1, 4)
_BATCHES = (1,)
_INTEGERS = frozenset({onnx.TensorProto.INT32, onnx.TensorProto.INT64})
# Every small length; of larger ones, those that networks are made for.
_SIDE_CANDIDATES = np.unique([*_SIDES, *range(256), *range(256, 513, 2), *range(512, 1281, 8), *range(1280, 4097, 32)])[
    1:
]
_LENGTH_CANDIDATES = np.unique([*_LENGTHS, *range(1, 8193), *range(8200, 160_001, 100)])
# Halvings that count: what is divisible by more is no rounder.
_HALVINGS = 5
# How many times longer than the other a side may be, in powers of two, before that is odd.
_STRIP = 2.5
# Combinations of candidates that are tried together.
_MOST = 1 << 19
_MOST_AXES = 8
_LARGEST_GRAPH = 50_000
# What is left of all combinations where an operator may be said to fix them.
_FIXED = 0.002
# Long enough that no window swallows the difference.
_TRIED_BATCHES = np.asarray([640, 960, 1600])
_BATCH = re.compile(r"\bn\b|\bb\b|batch", re.IGNORECASE)
_ALTERNATIVES = 8


@dataclass(frozen=True, slots=True)
class Taken:
    """Shapes that the inputs are taken to have.

    Attributes:
        shapes: by input, without any open axis.
        fixed: what in the graph is made for them, in words; empty where it takes many others as well.
        others: what else may run, best first.
        samples: inputs whose first axis is no batch: one array is one sample.
    """

    shapes: Mapping[str, tuple[int, ...]]
    fixed: str = ""
    others: tuple[Mapping[str, tuple[int, ...]], ...] = ()
    samples: frozenset[str] = frozenset()


@dataclass(frozen=True, eq=False)
class _Axis:
    """An open axis, or several that have one name and so one length.

    Attributes:
        places: input and position of each.
        usual: lengths in the order of preference.
        candidates: what it may be, ascending.
    """

    places: tuple[tuple[str, int], ...]
    usual: tuple[int, ...]
    candidates: npt.NDArray[np.int64]


def take_shapes(model: Model) -> Taken | None:
    """Shapes for the inputs of a model that leaves any axis open but those of a batch; None for any other."""
    if len(model.nodes) > _LARGEST_GRAPH or any(value.type.shape is None for value in model.inputs):
        return None
    axes = list(_open_axes(model))
    batches = [axis for axis in axes if _may_be_batch(model, axis)]
    unbatched = [axis for axis in batches if not _is_batch(model, axis, axes)]
    batched = [axis for axis in batches if axis not in unbatched]
    axes = [replace(axis, candidates=np.asarray([1])) if axis in batched else axis for axis in axes]
    if len(axes) == len(batched):
        return None
    samples = frozenset(name for axis in unbatched for name, place in axis.places if place == 0)
    choices, fixed = _solved(model, axes)
    return Taken(choices[0], fixed, tuple(choices[1:]), samples)


def _open_axes(model: Model) -> Iterator[_Axis]:
    """Open axes of all inputs, those of one name together."""
    by_name: dict[str, list[tuple[Value, int]]] = {}
    protos = {value.name: value.type.tensor_type.shape.dim for value in model.proto.graph.input}
    for value in model.inputs:
        for place, length in enumerate(value.type.shape or ()):
            if length is None:
                name = protos[value.name][place].dim_param
                # A question mark is no name.
                named = name if re.search(r"\w", name) else f"{value.name} {place}"
                by_name.setdefault(named, []).append((value, place))
    for held in by_name.values():
        usual, candidates = _kind(model, *held[0])
        yield _Axis(tuple((value.name, place) for value, place in held), usual, candidates)


def _kind(model: Model, value: Value, place: int) -> tuple[tuple[int, ...], npt.NDArray[np.int64]]:
    """What is usual for an axis, and what it may be."""
    shape = value.type.shape or ()
    if place and len(shape) == 3 and shape[0] is not None:  # the batch of a state, one a layer
        return _BATCHES, np.arange(1, 65)
    if is_image(shape):
        last = channels_last(shape) or _is_turned(model, value)
        if place == (3 if last else 1):
            return _COLOURS, np.asarray(sorted({*range(1, 17), *(2**n for n in range(5, 12))}))
        if place:
            return _SIDES, _SIDE_CANDIDATES
    return _TOKENS if value.type.elem_type in _INTEGERS else _LENGTHS, _LENGTH_CANDIDATES


def _is_turned(model: Model, value: Value) -> bool:
    """Whether the last axis of an image becomes that of the channels, where the shape does not say."""
    turns = (node for node in model.consumers(value.name) if node.op_type == "Transpose")
    return any(node.ints("perm") == (0, 3, 1, 2) for node in turns)


# -- the batch -------------------------------------------------------------------------------------------------------


def _may_be_batch(model: Model, axis: _Axis) -> bool:
    return any(place == 0 for _, place in axis.places)


def _is_batch(model: Model, axis: _Axis, axes: Sequence[_Axis]) -> bool:
    """Whether the length of a first axis comes out again, if anywhere, as the length of first axes alone."""
    name, place = axis.places[0]
    ranks = {value.name: len(value.type.shape or ()) for value in model.inputs}
    proto = next(value for value in model.proto.graph.input if value.name == name)
    if ranks[name] >= 4 or _BATCH.search(proto.type.tensor_type.shape.dim[place].dim_param.replace("_", " ")):
        return True
    tried = replace(axis, candidates=_TRIED_BATCHES)
    walked = _walked(model, [tried], [tried if other is axis else other for other in axes])
    shapes = [walked.shapes[value.name] for value in model.outputs if value.name in walked.shapes]
    return all(bool((length == length.flat[0]).all()) for shape in shapes for length in shape[1:] if length.size > 1)


# -- solving ---------------------------------------------------------------------------------------------------------


def _solved(model: Model, axes: Sequence[_Axis]) -> tuple[list[dict[str, tuple[int, ...]]], str]:
    """The best shapes, and what in the graph leaves hardly any others."""
    axes, reasons = _narrowed(model, axes)
    gridded = [axis for axis in axes if len(axis.candidates) > 1]
    walked = _walked(model, gridded, axes)
    can, used = _conjunction(walked.demands, np.ones([len(axis.candidates) for axis in gridded], np.bool_))
    can, followed = _conjunction(walked.hints, can)
    if can.mean() < _FIXED or any(_is_tight(_left(can, gridded, number)) for number in range(len(gridded))):
        reasons = [*reasons, *used, *followed]
    cost = np.where(can, _costs(gridded, can), np.inf).ravel()
    few = np.argpartition(cost, min(_ALTERNATIVES, cost.size) - 1)[:_ALTERNATIVES]
    best = [index for index in few[np.argsort(cost[few], kind="stable")] if np.isfinite(cost[index])]
    choices = []
    for index in best:
        places = dict(zip(gridded, np.unravel_index(index, can.shape), strict=True))
        choices.append(_shapes(model, {axis: int(axis.candidates[places.get(axis, 0)]) for axis in axes}))
    return choices, min(reasons, key=lambda demand: float(demand.holds.mean())).what if reasons else ""


def _narrowed(model: Model, axes: Sequence[_Axis]) -> tuple[list[_Axis], list[Demand]]:
    """Fewer candidates, so that all combinations can be tried, and the demands that leave an axis alone no choice.

    Each axis keeps what it can be whatever the others are, and then what is most usual.
    """
    reasons: list[Demand] = []
    crowded = [axis for axis in axes if len(axis.candidates) > 1][_MOST_AXES:]
    axes = [_usual(axis, 1) if axis in crowded else axis for axis in axes]
    if _combinations(axes) > _MOST:
        for axis in [axis for axis in axes if len(axis.candidates) > 1]:
            walked = _walked(model, [axis], axes)
            left, used = _conjunction(walked.demands, np.ones(len(axis.candidates), np.bool_))
            left, followed = _conjunction(walked.hints, left)
            axes[axes.index(axis)] = held = replace(axis, candidates=axis.candidates[left])
            reasons += [*used, *followed] if _is_tight(held.candidates) else []
    while _combinations(axes) > _MOST:
        longest = max(axes, key=lambda axis: len(axis.candidates))
        axes[axes.index(longest)] = _usual(longest, (len(longest.candidates) + 1) // 2)
    return axes, reasons


def _usual(axis: _Axis, count: int) -> _Axis:
    """An axis that keeps its most usual candidates."""
    order = np.argsort(_cost(axis), kind="stable")
    return replace(axis, candidates=np.sort(axis.candidates[order[:count]]))


def _combinations(axes: Sequence[_Axis]) -> float:
    return float(np.prod([len(axis.candidates) for axis in axes], dtype=np.float64))


def _is_tight(left: npt.NDArray[np.int64]) -> bool:
    """Whether an axis has no choice but of rounding."""
    return bool(left[-1] < 2 * left[0])


def _walked(model: Model, gridded: Sequence[_Axis], axes: Sequence[_Axis]) -> Walked:
    """A pass with the candidates of some axes; others are what they are if that is sure, else not known."""
    grid = Grid(tuple(axis.candidates for axis in gridded))
    lengths = {
        place: grid.open(gridded.index(axis))
        if axis in gridded
        else grid.known(axis.candidates[0] if len(axis.candidates) == 1 else None)
        for axis in axes
        for place in axis.places
    }
    inputs: dict[str, Shape] = {
        value.name: tuple(
            grid.known(length) if length is not None else lengths[value.name, place]
            for place, length in enumerate(value.type.shape or ())
        )
        for value in model.inputs
    }
    return walk(model, grid, inputs)


def _conjunction(demands: Sequence[Demand], can: Mask) -> tuple[Mask, list[Demand]]:
    """Where all demands hold, and those that do; one that contradicts the others is passed over."""
    used: list[Demand] = []
    for demand in sorted(demands, key=lambda demand: demand.holds.size):
        both = can & demand.holds
        if both.any():
            can = both
            used.append(demand)
    return can, used


# -- preference ------------------------------------------------------------------------------------------------------


def _cost(axis: _Axis) -> npt.NDArray[np.float64]:
    """How odd each candidate is: first by how often it can be halved, then by how usual it is."""
    lengths = axis.candidates
    halvings = np.log2(np.minimum(lengths & -lengths, 2**_HALVINGS))
    rank = {length: place for place, length in enumerate(axis.usual)}
    usual = np.asarray([rank.get(int(length), len(rank)) for length in lengths], np.float64)
    if axis.usual in {_BATCHES, _COLOURS}:  # others are no choice
        return 100 * usual
    if axis.usual is not _SIDES:
        return np.asarray(usual + (_HALVINGS - halvings) / 100)
    return np.asarray(10 * (_HALVINGS - halvings) + usual / 10)


def _costs(axes: Sequence[_Axis], can: Mask) -> npt.NDArray[np.float64]:
    """The same for combinations.

    Two sides of an image are alike where neither has a say of its own: a product that is fixed says nothing of them.
    """
    count = len(axes)
    spread = [[-1 if a == axis else 1 for a in range(count)] for axis in range(count)]
    total = np.zeros((1,) * count)
    for axis, shape in zip(axes, spread, strict=True):
        total = total + _cost(axis).reshape(shape)
    sides = [number for number, axis in enumerate(axes) if axis.usual is _SIDES]
    if len(sides) == 2:
        height, width = (np.log2(axes[number].candidates).reshape(spread[number]) for number in sides)
        apart = np.abs(width - height)
        first, second = (_left(can, axes, number) for number in sides)
        alone = can.sum() == first.size * second.size
        # Among equals, what is wider than high comes first.
        total = total + 0.01 * (height > width)
        if not alone or np.array_equal(first, second):
            total = total + (1 if alone else 3) * np.minimum(apart, 1) + np.maximum(apart - _STRIP, 0)
    return np.asarray(total, np.float64)


def _left(can: Mask, axes: Sequence[_Axis], number: int) -> npt.NDArray[np.int64]:
    """What an axis can be, whatever the others are."""
    others = tuple(other for other in range(len(axes)) if other != number)
    return axes[number].candidates[can.any(axis=others)]


def _shapes(model: Model, lengths: Mapping[_Axis, int]) -> dict[str, tuple[int, ...]]:
    by_place = {place: length for axis, length in lengths.items() for place in axis.places}
    return {
        value.name: tuple(
            by_place[value.name, place] if length is None else length
            for place, length in enumerate(value.type.shape or ())
        )
        for value in model.inputs
    }
