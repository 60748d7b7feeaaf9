"""Operators that only move elements: one function on an array says what becomes of samples and rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import prod

import numpy as np

from onnxlint_q.forecast.operators.joining import concat
from onnxlint_q.forecast.operators.regroup import MAX_DISTINCT, Index, pair_blocks, regroup
from onnxlint_q.forecast.population import (
    IMAGES,
    Samples,
    image_power,
    per_image,
    positions_of,
    ratio,
)
from onnxlint_q.forecast.step import Edge, Site, Step, TransferRule
from onnxlint_q.forecast.transfer import Adjoint, ByImage, Move, Taps, in_order
from onnxlint_q.forecast.unmodelled import UnmodelledError, axis_in, bounded


def move(site: Site, function: Callable[[Index], Index | Sequence[Index]]) -> Step:
    """Apply an index function to the first input; several arrays for several outputs.

    Raises:
        UnmodelledError: the axes or positions that the node names are not those of its input.
    """
    samples = site.varying()
    shape = samples.shape[1:]
    places = np.arange(int(np.prod(shape)), dtype=np.intp).reshape(shape)
    try:
        moved = function(places)
    except (ValueError, IndexError) as error:  # what numpy raises for an axis or an index that is not there
        raise UnmodelledError(f"it does not fit what it reads, {list(shape)}: {error}") from error
    targets = [np.asarray(moved)] if isinstance(moved, (np.ndarray, np.generic)) else list(moved)
    bounded((sum(target.size for target in targets),))
    key, flat = site.node.input(0), samples.reshape(len(samples), -1)
    picked = (flat if in_order(target, places.size) else flat.take(target.ravel(), axis=1) for target in targets)
    outputs = tuple(made.reshape(len(samples), *target.shape) for made, target in zip(picked, targets, strict=True))
    return Step(outputs, tuple(Edge(key, Move(target, shape), at) for at, target in enumerate(targets)))


def same(site: Site) -> Step:
    """Nothing changes as far as samples go."""
    samples = site.varying()
    return Step((samples,), (Edge(site.node.input(0), Adjoint(lambda rows: rows)),))


def transpose(site: Site) -> Step:
    """Axes change place."""
    perm, before = site.node.ints("perm"), site.shape(site.node.input(0))
    order = perm or tuple(range(site.rank()))[::-1]
    known = before is not None and sorted(order) == list(range(len(before)))
    after = tuple(before[axis] for axis in order) if known and before is not None else None
    return replace(move(site, lambda a: np.transpose(a, perm or None)), shape=after)


def split(site: Site) -> Step:
    """Pieces along one axis."""
    axis, outputs = site.node.int("axis", 0), len(site.node.outputs)
    sizes = site.integers(1, "split")

    def pieces(places: Index) -> list[Index]:
        length = places.shape[axis]
        if length == 1:
            bounded((places.size, outputs))
            return [places] * outputs
        if sizes and sum(sizes) == length:
            return np.split(places, np.cumsum(sizes)[:-1], axis=axis)
        return np.array_split(places, outputs, axis=axis)

    return move(site, pieces)


def slice_(site: Site) -> Step:
    """A range along some axes; axes on which nothing differs stay."""
    starts, ends = site.integers(1, "starts"), site.integers(2, "ends")
    if starts is None or ends is None:
        return same(site)
    axes = site.integers(3, "axes") or tuple(range(len(starts)))
    steps = site.integers(4, "steps") or (1,) * len(starts)
    shape = site.shape(site.node.input(0))
    if len(axes) == 1 and len(starts) == 1:
        length = site.stands_for(0, axes[0])
        chosen = range(length)[starts[0] : ends[0] : steps[0]] if steps[0] else ()
        at = site.position(axes[0], chosen[0]) if len(chosen) == 1 else None
        if at is not None:
            return _one_token(site, axes[0], at, 1)

    def cut(places: Index) -> Index:
        window = [slice(None)] * places.ndim
        for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
            have = places.shape[axis]
            length = (shape[axis] if shape is not None and axis < len(shape) else None) or have
            if have == length > 1:
                window[axis] = slice(start, None if step < 0 and end < -length else end, step)
            elif have > 1:  # a place stands for a run of elements
                first, last, _ = slice(start, end, step).indices(length)
                window[axis] = slice(first * have // length, max(last * have // length, first * have // length + 1))
        return places[tuple(window)]

    return move(site, cut)


def gather(site: Site) -> Step:
    """Elements picked along one axis."""
    axis = site.node.int("axis", 0)
    index = site.constant(1)
    if site.samples() is None:
        return _embedding(site, axis)
    if index is not None and index.size == 1:
        at = site.position(axis, int(index.ravel()[0]))
        if at is not None:
            return _one_token(site, axis, at, index.ndim)

    def pick(places: Index) -> Index:
        if index is not None and places.shape[axis] > 1:
            bounded((places.size // places.shape[axis], index.size))
        chosen = np.zeros((), np.intp) if index is None else index.astype(np.intp)
        if places.shape[axis] == 1:
            chosen = np.zeros((1,) * chosen.ndim, np.intp)
        return np.take(places, chosen, axis=axis)

    return same(site) if index is None and site.rank() == _known_rank(site) else move(site, pick)


def _one_token(site: Site, axis: int, at: int, rank: int) -> Step:
    """The one position of each image that a place along `axis` is; the axis is replaced by `rank` others."""
    samples = site.varying()
    axis = axis_in(axis, samples.ndim - 1)
    shape = (*samples.shape[1 : axis + 1], *(1,) * rank, *samples.shape[axis + 2 :])
    picked = np.repeat(per_image(samples)[:, at], positions_of(samples), axis=0).reshape(len(samples), *shape)

    def back(rows: Samples) -> Samples:
        result = np.zeros_like(per_image(samples))
        result[:, at] = per_image(rows.reshape(samples.shape)).sum(axis=1)
        return result.reshape(samples.shape)

    return Step((picked,), (Edge(site.node.input(0), Adjoint(back)),))


def _known_rank(site: Site) -> int:
    shape = site.shape(site.node.output)
    return -1 if shape is None else len(shape)


def _embedding(site: Site, axis: int) -> Step:
    """A row of a constant table, picked by the data."""
    table, shape, picked = site.constant(0), site.shape(site.node.input(1)), site.samples(1)
    if picked is not None:
        shape = picked.shape[1:]
    if table is None or shape is None or axis != 0 or table.ndim < 2 or not len(table):
        raise UnmodelledError("it is no choice of rows of a known table")
    bounded(table.shape[1:])
    if picked is None:
        rows = np.random.default_rng(table.shape[0]).integers(0, table.shape[0], (site.size, *(1,) * len(shape)))
    else:
        rows = np.clip(picked, 0, len(table) - 1).astype(np.intp)
    bounded((*rows.shape[1:], *table.shape[1:]))
    return Step((table[rows],), ())


def reshape(site: Site) -> Step:
    """Reshape and Flatten: blocks of axes whose products agree are regrouped, the rest keeps its length of 1."""
    samples = site.varying()
    before, after = site.shape(site.node.input(0)), target_shape(site)
    if after is None:
        raise UnmodelledError("the shape of its result is not known")
    if before is None or len(before) != samples.ndim - 1:
        before = samples.shape[1:]
    before, after = _of_one(before, after)
    blocks = pair_blocks(before, after)
    numbers = _numbers(samples.shape[1:], before, blocks)
    if numbers.size > 1:
        elements = np.arange(samples[0].size, dtype=np.intp).reshape(samples.shape[1:])
        told, index = (regroup(places, before, after, blocks) for places in np.broadcast_arrays(numbers, elements))
        if numbers.size == told.max() + 1:
            return replace(_flattened(site, index, told * site.positions // numbers.size), shape=after)
    return replace(move(site, lambda places: regroup(places, before, after, blocks)), shape=after)


def _numbers(
    have: Sequence[int], lengths: Sequence[int | None], blocks: Sequence[tuple[list[int], list[int]]]
) -> Index:
    """Numbers of the places that a Reshape tells apart from then on: those merged that it joins to an axis that is not.

    Of the rank of the samples, along the axes of these places; one number where there are none, or too many, or where
    the shape is not that of what the samples tell apart.
    """
    shape = [1] * len(have)
    for left, right in blocks:
        if len(right) == 1 < len(left) and any(have[axis] > 1 for axis in left):
            for axis in left:
                shape[axis] = (lengths[axis] or 1) if have[axis] == 1 else 1
    fit = all(length in {1, known} for length, known in zip(have, lengths, strict=True))
    if not fit or prod(shape) * prod(have) > MAX_DISTINCT:
        shape = [1] * len(have)
    return np.arange(prod(shape), dtype=np.intp).reshape(shape)


def _flattened(site: Site, index: Index, positions: Index) -> Step:
    """Elements of the positions of an image side by side; each position of the result begins at another of them.

    Args:
        site: of the Reshape.
        index: of each element of the result, the element of a sample.
        positions: the position of the image that it is taken from, where the result is at the first.
    """
    samples = site.varying()
    grouped = per_image(samples.reshape(site.size, -1))
    count, size = grouped.shape[1:]
    begun = (positions.ravel() + np.arange(count)[:, None]) % count
    flat = (begun * size + index.ravel()).ravel()
    picked = grouped.reshape(IMAGES, -1)[:, flat].reshape(site.size, *index.shape)

    def back(rows: Samples) -> tuple[Samples, ByImage]:
        result = np.zeros((count * size, IMAGES), np.float32)
        np.add.at(result, flat, rows.reshape(IMAGES, -1).T)
        found = np.ascontiguousarray(result.T).reshape(samples.shape)
        # Noise is another at each place, of which a position may stand for several.
        return found, ratio(image_power(rows), image_power(found))

    return Step((picked,), (Edge(site.node.input(0), Taps(back)),))


def _of_one(
    before: tuple[int | None, ...], after: tuple[int | None, ...]
) -> tuple[tuple[int | None, ...], tuple[int | None, ...]]:
    """Both shapes, where one knows of a batch of one and the other of a batch of any size."""
    if {before[:1], after[:1]} == {(None,), (1,)}:
        return (1, *before[1:]), (1, *after[1:])
    return before, after


def target_shape(site: Site) -> tuple[int | None, ...] | None:
    """What inference knows of the result, else what the node itself says."""
    known = site.shape(site.node.output)
    if known is not None and None not in known[1:]:
        return known
    wanted = site.integers(1, "shape", partly=True)
    if wanted is None or (known is not None and len(known) != len(wanted)):
        return known
    before = site.shape(site.node.input(0)) or ()
    said = [
        (before[i] if i < len(before) else None) if d == 0 else (None if d < 0 else d) for i, d in enumerate(wanted)
    ]
    found = [own if own is not None else dim for own, dim in zip(known or (None,) * len(said), said, strict=True)]
    if found.count(None) == 1 and None not in before[1:]:
        rest, size = prod(length or 1 for length in found), prod(length or 1 for length in before)
        found[found.index(None)] = size // rest if rest and size % rest == 0 else None
    return tuple(found)


def pad(site: Site) -> Step:
    """New places are zero; only those along an axis that varies are kept."""
    samples, pads = site.varying(), site.integers(1, "pads")
    if pads is None:
        return same(site)
    rank = samples.ndim - 1
    axes = site.integers(3, "") or tuple(range(rank))
    if len(pads) != 2 * len(axes) or site.node.text("mode", "constant") != "constant":
        return same(site)
    width = [(0, 0)] * rank
    for named, before, after in zip(axes, pads, pads[len(axes) :], strict=False):
        axis = axis_in(named, rank)
        if samples.shape[axis + 1] > 1:
            width[axis] = max(before, 0), max(after, 0)
    bounded(tuple(n + sum(w) for n, w in zip(samples.shape[1:], width, strict=True)))
    grown = np.pad(samples, [(0, 0), *width])
    window = (slice(None), *(slice(b, b + n) for (b, _), n in zip(width, samples.shape[1:], strict=True)))
    return Step((grown,), (Edge(site.node.input(0), Adjoint(lambda rows: rows[window])),))


def unsqueeze(site: Site) -> Step:
    """New axes of length 1."""
    axes = site.integers(1, "axes")
    if axes is None:
        raise UnmodelledError("its axes are computed")
    return move(site, lambda a: np.expand_dims(a, axes))


def squeeze(site: Site) -> Step:
    """Axes of length 1 go."""
    axes = site.integers(1, "axes")
    if axes is None:
        shape = site.shape(site.node.input(0))
        if shape is None:
            raise UnmodelledError("the shape of what it reads is not known")
        axes = tuple(a for a, length in enumerate(shape) if length == 1)
    return move(site, lambda a: np.squeeze(a, axes))


def reverse_sequence(site: Site) -> Step:
    """What comes last comes first, every sequence being as long as its tensor."""
    axis = site.node.int("time_axis", 0)
    return replace(move(site, lambda a: np.flip(a, axis)), shape=site.shape(site.node.input(0)))


def expand(site: Site) -> Step:
    """Expand and Tile: copies are equal, so only the rank matters, unless channels are repeated."""
    shape = site.shape(site.node.output)
    if shape is None:
        return same(site)
    return move(site, lambda a: a.reshape((1,) * (len(shape) - a.ndim) + a.shape))


def shuffle_depth(site: Site) -> Step:
    """DepthToSpace and SpaceToDepth: positions and channels trade places."""
    size = site.node.int("blocksize", 1) ** 2
    if site.node.op_type == "SpaceToDepth":
        return move(site, lambda a: np.tile(a, (1, bounded((a.size, size))[1], 1, 1)))
    crd = site.node.text("mode", "DCR") == "CRD"

    def gathered(places: Index) -> Index:
        channels = places.shape[1] // size
        return places[:, ::size] if crd else places[:, :channels]

    return move(site, gathered)


RULES: Mapping[str, TransferRule] = {
    "Transpose": transpose,
    "Concat": concat,
    "Split": split,
    "Slice": slice_,
    "Gather": gather,
    "Reshape": reshape,
    "Flatten": reshape,
    "Unsqueeze": unsqueeze,
    "Squeeze": squeeze,
    "ReverseSequence": reverse_sequence,
    "Expand": expand,
    "Tile": expand,
    "Resize": same,
    "Upsample": same,
    "Pad": pad,
    "DepthToSpace": shuffle_depth,
    "SpaceToDepth": shuffle_depth,
}
