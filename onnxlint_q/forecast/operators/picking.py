"""Operators that read or write single elements of a tensor, and those that go through its places in order.

Which elements these are is known where the indices are. Along an axis on which no places are told apart a position of
an image is at one of them (`Site.places`), and is written where that place is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod

import numpy as np
import numpy.typing as npt

from onnxlint_q.analysis.sizes.usual import LAST_SIDE
from onnxlint_q.forecast.operators.structure import move
from onnxlint_q.forecast.population import IMAGES, Samples, neighbour, neighbours, per_image
from onnxlint_q.forecast.step import Edge, Site, Step, TransferRule
from onnxlint_q.forecast.transfer import Adjoint, Diagonal, Taps
from onnxlint_q.forecast.unmodelled import MAX_ELEMENTS, UnmodelledError, axis_in, bounded

Index = npt.NDArray[np.intp]
# Elements of a tensor of which it is followed one by one which are written.
_LARGEST = 1 << 20
_ELSEWHERE = -1
# Mean of `w² + (1 - w)²`, the power that two neighbours leave, over all places between them.
_BETWEEN = 2 / 3


def scatter(site: Site) -> Step:
    """ScatterND and ScatterElements: some elements are those of another tensor."""
    reduction = site.node.text("reduction", "none")
    if reduction != "none":
        raise UnmodelledError(f"it combines values ({reduction})")
    updates = site.varying(2) if site.samples(2) is not None else None
    data = site.samples()
    if data is None and site.constant(0) is None:
        return _written_one_by_one(site)
    shape = site.shape(site.node.input(0))
    indices = site.constant(1)
    if indices is None or shape is None:
        raise UnmodelledError("it is not known which elements are written")
    lengths = tuple(length or 1 for length in shape)
    if prod(lengths) > _LARGEST or indices.size > _LARGEST:
        raise UnmodelledError("its tensors are too large to represent")
    if updates is None:
        stored = site.constant(2)
        if stored is None:
            raise UnmodelledError("nothing is known of what is written")
        bounded(stored.shape)
        updates = np.broadcast_to(stored, (site.size, *stored.shape))
    if data is None:
        stored = site.constant(0)
        assert stored is not None
        data = np.broadcast_to(stored, (site.size, *bounded(stored.shape)))
    try:
        sources = _sources(site, lengths, indices.astype(np.intp))
        return _replaced(site, data, updates, sources)
    except (ValueError, IndexError) as error:  # what numpy raises for an index that is not there
        raise UnmodelledError(f"its indices do not fit what it reads, {list(lengths)}: {error}") from error


def _written_one_by_one(site: Site) -> Step:
    """A tensor that a Loop writes, one place each round: each position of an image holds what is written there."""
    updates, shape = site.varying(2), site.shape(site.node.output) or site.shape(site.node.input(0))
    if shape is None:
        raise UnmodelledError("nothing is known of the tensor in which it writes")
    lead = updates.ndim - 1 - len(shape)
    if any(length > 1 for length in updates.shape[1 : 1 + lead]):
        raise UnmodelledError("it writes several places at once")
    kept = updates.shape[1 + max(lead, 0) :]
    made = updates.reshape(len(updates), *(1,) * (len(shape) - len(kept)), *kept)
    before = updates.shape
    return Step((made,), (Edge(site.node.input(2), Adjoint(lambda rows: rows.reshape(before))),))


def _sources(site: Site, lengths: tuple[int, ...], indices: Index) -> Index:
    """For each element of the data, the flat number of the update that is written there, `_ELSEWHERE` for none."""
    found = np.full(lengths, _ELSEWHERE, np.intp)
    if site.node.op_type == "ScatterND":
        depth = indices.shape[-1]
        shape = (*indices.shape[:-1], *lengths[depth:])
        found[tuple(np.moveaxis(indices, -1, 0))] = np.arange(prod(shape)).reshape(shape)
        return found
    axis = axis_in(site.node.int("axis", 0), len(lengths))
    here = np.indices(indices.shape)
    here[axis] = indices
    found[tuple(here)] = np.arange(indices.size).reshape(indices.shape)
    return found


def _replaced(site: Site, data: Samples, updates: Samples, sources: Index) -> Step:
    """The data, with the updates at the elements that have a source."""
    lengths = sources.shape
    wide = tuple(max(a, b) for a, b in zip(data.shape[1:], _shown(updates, lengths), strict=True))
    wide = tuple(length if have > 1 else 1 for length, have in zip(lengths, wide, strict=True))
    bounded(wide)
    merged = [axis for axis, (length, have) in enumerate(zip(lengths, wide, strict=True)) if have == 1 < length]
    numbers = _represented(updates, _update_shape(site, updates, sources))
    flat = np.where(sources >= 0, numbers.ravel()[np.maximum(sources, 0)], _ELSEWHERE)
    places = prod(lengths[axis] for axis in merged)
    by_place = np.moveaxis(flat, merged, range(len(merged))).reshape(places, -1)
    here = by_place[site.places(places)] if merged else by_place
    written = here >= 0
    rest = updates.reshape(len(updates), -1)
    picked = per_image(rest)[:, np.arange(site.positions)[:, None], np.maximum(here, 0)].reshape(len(data), *wide)
    mask = np.broadcast_to(written, (site.positions, written.shape[1])).reshape(1, site.positions, *wide)
    mask = np.broadcast_to(mask, (IMAGES, *mask.shape[1:])).reshape(len(data), *wide)
    result = np.where(mask, picked, np.broadcast_to(data, (len(data), *wide)))
    edges = []
    if site.samples(0) is not None:
        edges.append(Edge(site.node.input(0), Diagonal((~mask).astype(np.float32), data.shape[1:])))
    if site.samples(2) is not None:
        edges.append(Edge(site.node.input(2), Adjoint(_gathered(updates.shape, here, mask))))
    return Step((result,), tuple(edges))


def _gathered(shape: tuple[int, ...], here: Index, mask: npt.NDArray[np.bool_]) -> Callable[[Samples], Samples]:
    """The adjoint of picking the updates `here`, by position, where they are written."""

    def back(rows: Samples) -> Samples:
        grouped = per_image((rows * mask).reshape(len(rows), -1))
        size, positions = prod(shape[1:]), grouped.shape[1]
        found = np.zeros((positions * size, IMAGES), np.float32)
        at = np.arange(positions)[:, None] * size + np.maximum(here, 0)
        np.add.at(found, at.ravel(), grouped.reshape(IMAGES, -1).T)
        return np.ascontiguousarray(found.T).reshape(shape)

    return back


def _shown(updates: Samples, lengths: tuple[int, ...]) -> tuple[int, ...]:
    """Lengths along which updates are told apart, beside the axes of the data, which their last ones are."""
    own = updates.shape[1:][-len(lengths) :] if lengths else ()
    return (*(1,) * (len(lengths) - len(own)), *own)


def _update_shape(site: Site, updates: Samples, sources: Index) -> tuple[int, ...]:
    """The whole shape of the updates."""
    indices = site.constant(1)
    assert indices is not None
    if site.node.op_type == "ScatterND":
        return (*indices.shape[:-1], *sources.shape[indices.shape[-1] :])
    return indices.shape


def _represented(samples: Samples, shape: tuple[int, ...]) -> Index:
    """For each element of a tensor of this shape, the flat number of the sample's element that stands for it."""
    have = samples.shape[1:]
    if len(have) != len(shape):
        raise UnmodelledError("the shape of what is written is not known")
    numbers = np.arange(prod(have)).reshape(have)
    for axis, (length, own) in enumerate(zip(shape, have, strict=True)):
        if own != length:
            numbers = numbers.take(np.arange(length) * own // max(length, 1), axis=axis)
    return numbers


def gather_elements(site: Site) -> Step:
    """Elements picked along one axis, others at each place; without an index each is what a position holds."""
    samples, indices = site.varying(), site.constant(1)
    axis = axis_in(site.node.int("axis", 0), samples.ndim - 1)
    if samples.shape[axis + 1] == 1:
        return move(site, lambda places: places)
    if indices is None:
        shape = site.shape(site.node.input(1))
        if shape is None or len(shape) != samples.ndim - 1 or shape[axis] is None:
            raise UnmodelledError("it is not known which elements are picked")
        length = shape[axis] or 1
        bounded((*samples.shape[1 : axis + 1], length, *samples.shape[axis + 2 :]))
        drawn = np.random.default_rng(site.node.order).integers(0, samples.shape[axis + 1], length)
        return move(site, lambda places: places.take(drawn, axis=axis))

    def pick(places: Index) -> Index:
        chosen = indices.astype(np.intp)
        for other, have in enumerate(places.shape):
            if other != axis and have == 1 < chosen.shape[other]:
                chosen = chosen.take([0], axis=other)
        return np.take_along_axis(places[tuple(slice(0, n) for n in _beside(places, chosen, axis))], chosen, axis)

    if indices.size > MAX_ELEMENTS:
        raise UnmodelledError("its index is too large to represent")
    return move(site, pick)


def _beside(places: Index, chosen: Index, axis: int) -> tuple[int, ...]:
    return tuple(have if at == axis else chosen.shape[at] for at, have in enumerate(places.shape))


def gather_nd(site: Site) -> Step:
    """Slices picked along the first axes; without an index each is what a position holds."""
    samples, indices = site.varying(), site.constant(1)
    shape = site.shape(site.node.input(1)) if indices is None else indices.shape
    if site.node.int("batch_dims", 0) or not shape or shape[-1] is None or shape[-1] > samples.ndim - 1:
        raise UnmodelledError("it is not known which slices are picked")
    depth, lead = shape[-1], len(shape) - 1
    apart = samples.shape[1 : depth + 1]
    if all(length == 1 for length in apart):
        return move(site, lambda places: places.reshape((*(1,) * lead, *places.shape[depth:])))
    if indices is None:
        raise UnmodelledError("it is not known which slices are picked")
    at = np.moveaxis(indices.astype(np.intp), -1, 0)
    bounded((*shape[:-1], *samples.shape[depth + 1 :]))
    whole = tuple(np.zeros_like(one) if length == 1 else one for one, length in zip(at, apart, strict=True))
    return move(site, lambda places: places[whole])


def top_k(site: Site) -> Step:
    """The largest along an axis, in order; an error comes from the place that was picked.

    Along an axis without places of its own they are among the positions of the image.
    """
    samples, count = site.varying(), site.integers(1, "k")
    axis = axis_in(site.node.int("axis", -1), samples.ndim - 1) + 1
    length = max(samples.shape[axis], site.stands_for(0, axis - 1))
    if not count or not 0 < count[0] <= length:
        raise UnmodelledError("it is not known how many it picks")
    sign = np.float32(1 if site.node.int("largest", 1) else -1)
    if samples.shape[axis] > 1:
        order = (-sign * samples).argsort(axis=axis, kind="stable").take(np.arange(count[0]), axis=axis)

        def back(rows: Samples) -> Samples:
            found = np.zeros(samples.shape, np.float32)
            np.put_along_axis(found, order, rows, axis=axis)
            return found

        return Step((np.take_along_axis(samples, order, axis=axis),), (Edge(site.node.input(0), Adjoint(back)),))
    grouped = per_image(samples)
    ranks = np.arange(site.positions) * count[0] // length
    order = (-sign * grouped).argsort(axis=1, kind="stable")[:, ranks]

    def spread(rows: Samples) -> Samples:
        found, here = np.zeros(grouped.shape, np.float32), np.indices(order.shape)
        np.add.at(found, (here[0], order, *here[2:]), per_image(rows))
        return found.reshape(samples.shape)

    made = np.take_along_axis(grouped, order, axis=1).reshape(samples.shape)
    return Step((made,), (Edge(site.node.input(0), Adjoint(spread)),))


def running_sum(site: Site) -> Step:
    """CumSum: the sum of all places up to this one.

    Along an axis without places of its own the positions of the image are places, each of which stands for several.
    """
    samples, axis = site.varying(), site.integers(1, "axis")
    if not axis:
        raise UnmodelledError("its axis is computed")
    along = axis_in(axis[0], samples.ndim - 1)
    length = site.stands_for(0, along)
    merged = length > 1
    terms = np.float32(max(length / site.positions, 1.0) if merged else 1.0)
    backward, exclusive = bool(site.node.int("reverse", 0)), bool(site.node.int("exclusive", 0))

    def summed(values: Samples, *, backward: bool) -> Samples:
        grouped, place = (per_image(values), 1) if merged else (values, along + 1)
        line = np.flip(grouped, place) if backward else grouped
        total = np.cumsum(line, axis=place) - (line if exclusive else np.float32(0))
        total = np.flip(total, place) if backward else total
        return np.asarray(total.reshape(values.shape) * terms, np.float32)

    edge = Adjoint(lambda rows: summed(rows, backward=not backward), 1 / float(terms))
    return Step((summed(samples, backward=backward),), (Edge(site.node.input(0), edge),))


def triangle(site: Site) -> Step:
    """Trilu: one side of the diagonal is zero."""
    samples, key = site.varying(), site.node.input(0)
    offset = site.integers(1, "") if site.node.input(1) else (0,)
    if offset is None:
        raise UnmodelledError("its diagonal is computed")
    if samples.ndim < 3 or 1 in samples.shape[-2:]:
        raise UnmodelledError("it cuts off places that are not told apart")
    ones = np.ones(samples.shape[-2:], np.float32)
    kept = np.triu(ones, offset[0]) if site.node.int("upper", 1) else np.tril(ones, offset[0])
    return Step((samples * kept,), (Edge(key, Diagonal(kept, samples.shape[1:])),))


def one_hot(site: Site) -> Step:
    """One element of each row is on; which, no small error changes."""
    depth, values, shape = site.constant(1), site.constant(2), site.shape(site.node.input(0))
    drawn = site.samples()
    if depth is None or depth.size != 1 or values is None or values.size != 2 or (shape is None and drawn is None):
        raise UnmodelledError("it is not known how many it tells apart")
    count = max(int(depth.ravel()[0]), 1)
    told = drawn.shape[1:] if drawn is not None else (1,) * len(shape or ())
    bounded((*told, count))
    axis = axis_in(site.node.int("axis", -1), len(told) + 1)
    chance = np.random.default_rng(count).integers(0, count, (site.size, *told))
    chosen = chance if drawn is None else drawn.astype(np.intp) % count
    codes = np.arange(count).reshape(-1, *(1,) * (len(told) - axis))
    on = np.expand_dims(chosen, axis + 1) == codes
    return Step((np.where(on, values.ravel()[1], values.ravel()[0]).astype(np.float32),), ())


def sampled(site: Site) -> Step:
    """GridSample: places of a picture, wherever they lie in it; the weights of their neighbours add up to one.

    The grid goes from -1 to 1 over the picture. Where it is computed, an error in it leads to another place: a pixel
    further on there is what a neighbour holds.
    """
    samples, grid = site.varying(), site.samples(1)
    axes = samples.ndim - 3
    if any(length > 1 for length in samples.shape[3:]):
        raise UnmodelledError("it mixes places that are told apart")
    # Between pixels it takes a mean: of what is white, on average so much is left.
    white = 1.0 if site.node.text("mode", "linear") == "nearest" else _BETWEEN**axes
    key, alone = site.node.input(0), np.full(IMAGES, white)
    looked_up = Edge(key, Taps(lambda rows: (rows, alone)))
    if grid is None:
        return Step((samples,), (looked_up,))
    shape = site.shape(key)
    if grid.shape[-1] != axes or any(length > 1 for length in grid.shape[1:-1]):
        raise UnmodelledError("its grid has places that are told apart")
    sides = [length or LAST_SIDE for length in shape[:1:-1]] if shape is not None else [LAST_SIDE] * axes
    further = [
        (neighbour(samples, order) - samples) * np.float32(side / 2)
        for side, (order, _) in zip(sides, neighbours(axes, site.positions), strict=True)
    ]

    def back(rows: Samples) -> Samples:
        sums = [(rows * one).reshape(len(rows), -1).sum(axis=1) for one in further]
        return np.stack(sums, axis=-1).reshape(grid.shape)

    return Step((samples,), (looked_up, Edge(site.node.input(1), Adjoint(back))))


RULES: Mapping[str, TransferRule] = {
    "ScatterND": scatter,
    "ScatterElements": scatter,
    "GatherElements": gather_elements,
    "GatherND": gather_nd,
    "TopK": top_k,
    "CumSum": running_sum,
    "Trilu": triangle,
    "OneHot": one_hot,
    "GridSample": sampled,
}
