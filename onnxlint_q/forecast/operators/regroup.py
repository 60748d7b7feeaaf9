"""The index arithmetic of a Reshape where only some axes vary: which of the old axes become which of the new ones."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
import numpy.typing as npt

Index = npt.NDArray[np.intp]
# More elements than this are not told apart: a tensor that differs from token to token keeps its channels only.
MAX_DISTINCT = 1 << 15


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
    full: list[int] = []
    target: list[int] = []
    for left, right in blocks:
        have = [places.shape[a] for a in left]
        size = int(np.prod(have))
        lengths = [before[a] or 1 for a in left]
        wanted = [after[b] or 1 for b in right]
        if len(left) == len(right) == 1:
            full += have
            target += have
        elif 1 < size == have[-1] != prod(lengths) and len(right) > 1 and wanted[-1] > 1 and size % wanted[-1] == 0:
            # Places come first, then channels: anchors of a detector move from the channels to the places.
            full += have
            target += [*(1 for _ in right[2:]), size // wanted[-1], wanted[-1]]
        elif size > 1 and prod(lengths) == prod(wanted) and places.size // size * prod(lengths) <= MAX_DISTINCT:
            full += lengths
            target += wanted
        elif size > 1 and size in wanted:  # the block's length is unknown, but its channels find a place
            full += have
            at = wanted.index(size)
            target += [size if p == at else 1 for p in range(len(right))]
        else:
            full += [1] * len(left)
            target += [1] * len(right)
    window = tuple(slice(0, 1) if f == 1 else slice(None) for f in full)
    return np.broadcast_to(places[window], full).reshape(target)
