"""Operators that only move elements: one function on an array says what becomes of mean, variance and noise."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxlint_q.analysis.propagation.signal import Moments
from onnxlint_q.analysis.propagation.step import Edge, Rule, Site, Step
from onnxlint_q.analysis.propagation.transfer import Diagonal, Move

Index = npt.NDArray[np.intp]
# More elements than this are not told apart: a tensor that differs from token to token keeps its channels only.
MAX_ELEMENTS = 1 << 18


def move(site: Site, function: Callable[[Index], Index | Sequence[Index]]) -> Step | None:
    """Apply an index function to the first input; several arrays for several outputs."""
    moments = site.moments(0)
    if moments is None:
        return None
    places = np.arange(moments.mean.size, dtype=np.intp).reshape(moments.shape)
    moved = function(places)
    targets = [moved] if isinstance(moved, np.ndarray) else list(moved)
    key = site.node.input(0)
    outputs = tuple(Moments(moments.mean.ravel()[t], moments.var.ravel()[t]) for t in targets)
    return Step(outputs, tuple(Edge(key, Move(t, moments.shape), position) for position, t in enumerate(targets)))


def same(site: Site) -> Step | None:
    """Nothing changes as far as moments go."""
    moments = site.moments(0)
    if moments is None:
        return None
    one = np.ones(moments.shape)
    return Step((moments,), (Edge(site.node.input(0), Diagonal(one, one, moments.shape)),))


def transpose(site: Site) -> Step | None:
    """Axes change place."""
    perm = site.node.ints("perm")
    return move(site, lambda a: np.transpose(a, perm or None))


def concat(site: Site) -> Step | None:
    """Tensors side by side along one axis; constants have no variance."""
    node = site.node
    parts = [site.known.get(key) for key in node.inputs]
    ranks = {p.mean.ndim for p in parts if p is not None}
    if len(ranks) != 1:
        return None
    rank = ranks.pop()
    axis = node.int("axis", 1) % rank
    means, variances, owners = [], [], []
    for position, (key, part) in enumerate(zip(node.inputs, parts, strict=True)):
        if part is None:
            value = site.constant(position)
            if value is None or value.ndim != rank:
                return None
            part = Moments(value, np.zeros_like(value))
        length = _length(site, key, axis, part)
        means.append(_repeat(part.mean, axis, length))
        variances.append(_repeat(part.var, axis, length))
        places = np.arange(part.mean.size, dtype=np.intp).reshape(part.shape)
        owners.append(_repeat(places, axis, length))
    together = _common(means, axis)
    # Noise all along an axis on which the moments do not vary needs no place of its own.
    mean = np.concatenate([np.broadcast_to(m, s) for m, s in zip(means, together, strict=True)], axis=axis)
    var = np.concatenate([np.broadcast_to(v, s) for v, s in zip(variances, together, strict=True)], axis=axis)
    edges = []
    for position, (key, part) in enumerate(zip(node.inputs, parts, strict=True)):
        if part is None:
            continue
        index = np.concatenate(
            [
                np.broadcast_to(o, s) if other == position else np.full(s, -1, np.intp)
                for other, (o, s) in enumerate(zip(owners, together, strict=True))
            ],
            axis=axis,
        )
        edges.append(Edge(key, Move(index, part.shape)))
    return Step((Moments(mean, var),), tuple(edges))


def _length(site: Site, key: str, axis: int, part: Moments) -> int:
    """Places a member takes along the axis: its length, or 1 where nothing differs and its length is unknown."""
    shape = site.shape(key)
    known = shape[axis] if shape is not None and axis < len(shape) else None
    length = known or part.shape[axis]
    return length if part.mean.size // part.shape[axis] * length <= MAX_ELEMENTS // 8 else part.shape[axis]


def _repeat(array: npt.NDArray[Any], axis: int, length: int) -> npt.NDArray[Any]:
    if array.shape[axis] == length:
        return array
    return np.repeat(array[tuple(slice(0, 1) if a == axis else slice(None) for a in range(array.ndim))], length, axis)


def _common(arrays: Sequence[npt.NDArray[Any]], axis: int) -> list[tuple[int, ...]]:
    """Shapes that agree but for `axis`."""
    rank = arrays[0].ndim
    most = [max(a.shape[d] for a in arrays) for d in range(rank)]
    return [tuple(a.shape[d] if d == axis else most[d] for d in range(rank)) for a in arrays]


def split(site: Site) -> Step | None:
    """Pieces along one axis."""
    axis, outputs = site.node.int("axis", 0), len(site.node.outputs)
    sizes = site.integers(1, "split")

    def pieces(places: Index) -> list[Index]:
        length = places.shape[axis]
        if length == 1:
            return [places] * outputs
        if sizes and sum(sizes) == length:
            return np.split(places, np.cumsum(sizes)[:-1], axis=axis)
        return np.array_split(places, outputs, axis=axis)

    return move(site, pieces)


def slice_(site: Site) -> Step | None:
    """A range along some axes; axes on which nothing differs stay."""
    starts, ends = site.integers(1, "starts"), site.integers(2, "ends")
    if starts is None or ends is None:
        return same(site)
    axes = site.integers(3, "axes") or tuple(range(len(starts)))
    steps = site.integers(4, "steps") or (1,) * len(starts)

    def cut(places: Index) -> Index:
        window = [slice(None)] * places.ndim
        for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
            if places.shape[axis] > 1:
                last = end if not (step < 0 and end < -places.shape[axis]) else None
                window[axis] = slice(start, last, step)
        return places[tuple(window)]

    return move(site, cut)


def gather(site: Site) -> Step | None:
    """Elements picked along one axis."""
    axis = site.node.int("axis", 0)
    index = site.constant(1)
    if site.moments(0) is None:
        return _embedding(site, axis)

    def pick(places: Index) -> Index:
        chosen = np.zeros((), np.intp) if index is None else index.astype(np.intp)
        if places.shape[axis] == 1:
            chosen = np.zeros((1,) * chosen.ndim, np.intp)
        return np.take(places, chosen, axis=axis)

    if index is None:
        shape = site.shape(site.node.output)
        moments = site.moments(0)
        if moments is None or shape is None or len(shape) != moments.mean.ndim:
            return None
        return same(site)
    return move(site, pick)


def _embedding(site: Site, axis: int) -> Step | None:
    """A row of a constant table, picked by the data: mean and variance over the rows."""
    table = site.constant(0)
    shape = site.shape(site.node.input(1))
    if table is None or shape is None or axis != 0 or table.ndim < 2:
        return None
    lead = (1,) * len(shape)
    mean, var = table.mean(axis=0), table.var(axis=0)
    return Step((Moments(mean.reshape(lead + mean.shape), var.reshape(lead + var.shape)),), ())


def reshape(site: Site) -> Step | None:
    """Reshape and Flatten: blocks of axes whose products agree are regrouped, the rest keeps its length of 1."""
    moments = site.moments(0)
    before, after = site.shape(site.node.input(0)), target_shape(site)
    if moments is None or after is None:
        return None
    if before is None or len(before) != moments.mean.ndim:
        before = moments.shape
    blocks = pair_blocks(before, after)
    return move(site, lambda places: regroup(places, before, after, blocks))


def target_shape(site: Site) -> tuple[int | None, ...] | None:
    """What inference knows of the result, else what the node itself says."""
    known = site.shape(site.node.output)
    if known is not None:
        return known
    wanted = site.integers(1, "shape")
    if wanted is None:
        return None
    before = site.shape(site.node.input(0)) or ()
    return tuple(
        (before[i] if i < len(before) else None) if d == 0 else (None if d < 0 else d) for i, d in enumerate(wanted)
    )


def pair_blocks(before: Sequence[int | None], after: Sequence[int | None]) -> list[tuple[list[int], list[int]]]:
    """Runs of axes, before and after, with the same number of elements.

    An unknown dimension pairs with an unknown one, or takes what is left into one last block.
    """
    blocks: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(before) and j < len(after):
        left, right = [i], [j]
        a, b = before[i], after[j]
        i, j = i + 1, j + 1
        while a != b:
            if a is None or b is None or (a < b and i == len(before)) or (b < a and j == len(after)):
                left += range(i, len(before))
                right += range(j, len(after))
                i, j = len(before), len(after)
                break
            if a < b:
                left.append(i)
                step = before[i]
                a, i = (None if step is None else a * step), i + 1
            else:
                right.append(j)
                step = after[j]
                b, j = (None if step is None else b * step), j + 1
        blocks.append((left, right))
    if i < len(before) or j < len(after):
        blocks.append((list(range(i, len(before))), list(range(j, len(after)))))
    return blocks


def regroup(
    places: Index,
    before: Sequence[int | None],
    after: Sequence[int | None],
    blocks: Sequence[tuple[list[int], list[int]]],
) -> Index:
    """Reshape block by block; a block along which nothing differs gets length 1 on all its new axes."""
    merged_shape: list[int] = []
    full: list[int] = []
    target: list[int] = []
    for left, right in blocks:
        have = [places.shape[a] for a in left]
        size = int(np.prod(have))
        lengths = [before[a] or 1 for a in left]
        wanted = [after[b] or 1 for b in right]
        if (
            size > 1
            and int(np.prod(lengths)) == int(np.prod(wanted))
            and places.size // size * int(np.prod(lengths)) <= MAX_ELEMENTS
        ):
            full += lengths
            target += wanted
        elif size > 1 and size in wanted:  # the block's length is unknown, but its channels find a place
            full += have
            at = wanted.index(size)
            target += [size if p == at else 1 for p in range(len(right))]
        else:
            full += [1] * len(left)
            target += [1] * len(right)
        merged_shape += have
    window = tuple(slice(0, 1) if f == 1 else slice(None) for f in full)
    return np.broadcast_to(places[window], full).reshape(target)


def unsqueeze(site: Site) -> Step | None:
    """New axes of length 1."""
    axes = site.integers(1, "axes")
    return None if axes is None else move(site, lambda a: np.expand_dims(a, axes))


def squeeze(site: Site) -> Step | None:
    """Axes of length 1 go."""
    axes = site.integers(1, "axes")
    if axes is None:
        shape = site.shape(site.node.input(0))
        if shape is None:
            return None
        axes = tuple(a for a, length in enumerate(shape) if length == 1)
    return move(site, lambda a: np.squeeze(a, axes))


def expand(site: Site) -> Step | None:
    """Expand and Tile: copies are equal, so only the rank matters, unless channels are repeated."""
    shape = site.shape(site.node.output)
    if shape is None:
        return same(site)
    return move(site, lambda a: a.reshape((1,) * (len(shape) - a.ndim) + a.shape))


def shuffle_depth(site: Site) -> Step | None:
    """DepthToSpace and SpaceToDepth: positions and channels trade places."""
    size = site.node.int("blocksize", 1) ** 2
    if site.node.op_type == "SpaceToDepth":
        return move(site, lambda a: np.tile(a, (1, size, 1, 1)))
    crd = site.node.text("mode", "DCR") == "CRD"

    def gathered(places: Index) -> Index:
        channels = places.shape[1] // size
        return places[:, ::size] if crd else places[:, :channels]

    return move(site, gathered)


RULES: Mapping[str, Rule] = {
    "Transpose": transpose,
    "Concat": concat,
    "Split": split,
    "Slice": slice_,
    "Gather": gather,
    "Reshape": reshape,
    "Flatten": reshape,
    "Unsqueeze": unsqueeze,
    "Squeeze": squeeze,
    "Expand": expand,
    "Tile": expand,
    "Resize": same,
    "Upsample": same,
    "Pad": same,
    "DepthToSpace": shuffle_depth,
    "SpaceToDepth": shuffle_depth,
}
