"""Work on large arrays, in portions that stay in the cache and on all cores.

numpy lets go of the interpreter while it computes on a large array, so threads are enough.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy.typing as npt

Item = TypeVar("Item")
Result = TypeVar("Result")
DEEP = 256
"""Columns of a tile; runs along which codes share a scale have a length that divides it."""
PORTION = 1 << 17
"""Elements worked on at a time: 512 kB of float32, so that a portion and two results of it fit into a second-level
cache."""


def cores() -> int:
    """How many processors this process may use."""
    usable = getattr(os, "sched_getaffinity", None)
    return len(usable(0)) if usable is not None else os.cpu_count() or 1


def portions(length: int, each: int, most: int = PORTION) -> Iterator[slice]:
    """Parts of so many rows, each of `each` elements, which together have at most about `most`."""
    rows = max(most // max(each, 1), 1)
    for start in range(0, length, rows):
        yield slice(start, start + rows)


def tiles(matrix: npt.NDArray[Any], deep: int = DEEP) -> list[tuple[slice, slice]]:
    """Parts `[rows, columns]` of a matrix that lie together in memory, in order: whole rows where rows do.

    Else so many columns of some rows; a run of fewer elements is not read at the speed of memory.
    """
    rows, columns = matrix.shape
    if matrix.strides[1] <= matrix.strides[0]:
        return [(part, slice(None)) for part in portions(rows, columns)]
    return [(part, across) for across in portions(columns, 1, deep) for part in portions(rows, deep)]


def on_all_cores(work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """`work` of each item, in their order; in this thread alone where there are too few to gain by others."""
    threads = min(cores(), len(items) // 4)
    if threads < 2:
        return [work(item) for item in items]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, items))
