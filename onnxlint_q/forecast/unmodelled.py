"""What the forecast cannot represent, and the checks that say so."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod

import numpy as np

# No tensor is represented by more elements than this: 128 MB of samples.
MAX_ELEMENTS = 1 << 17


class UnmodelledError(Exception):
    """A rule cannot model a node; the text says why, as the end of a sentence about the node."""


def bounded(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of a tensor that is small enough to be represented.

    Raises:
        UnmodelledError: it is not.
    """
    if prod(shape) > MAX_ELEMENTS:
        raise UnmodelledError(f"its tensors are too large to represent ({prod(shape)} elements)")
    return shape


def broadcast(*shapes: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that tensors of these shapes have together, if it is small enough.

    Raises:
        UnmodelledError: they do not fit, or together are too large.
    """
    try:
        return bounded(np.broadcast_shapes(*shapes))
    except ValueError as error:
        raise UnmodelledError(f"its operands do not fit ({', '.join(map(str, shapes))})") from error


def axis_in(axis: int, rank: int) -> int:
    """An axis of a tensor counted from the front.

    Raises:
        UnmodelledError: the tensor has no such axis.
    """
    if not -rank <= axis < rank:
        raise UnmodelledError(f"a tensor of rank {rank} has no axis {axis}")
    return axis % rank


def axes_in(axes: Iterable[int], rank: int) -> tuple[int, ...]:
    """Several axes counted from the front, sorted, each once.

    Raises:
        UnmodelledError: the tensor has no such axis.
    """
    return tuple(sorted({axis_in(axis, rank) for axis in axes}))
