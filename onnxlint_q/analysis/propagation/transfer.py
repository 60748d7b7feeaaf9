"""How noise in an operator's input arrives at the model's output: transfers and their adjoints.

The gain of a tensor says what noise in it costs at the output, as noise power over signal power. It is kept as a
sketch of the metric `M = JᵀJ` (J: Jacobian from the tensor to the outputs, averaged over the data) and a remainder:

- `rows`, `[K, *shape]`: `J` multiplied from the left by K random sign vectors, so that the mean of `(row · e)²` over
  the rows is the output power of an error `e` whose channels interfere (Hutchinson's estimator);
- `own`: what does not interfere, because slopes differ from element to element (`E[s²] - E[s]²` of a non-linearity);
- `white`: the gain of noise that is independent from element to element, as rounding an activation makes it; the two
  others are for noise that all positions of a channel share.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Gain:
    """What noise in a tensor costs at the output; arrays as described in the module."""

    rows: Floats
    own: Floats
    white: Floats

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the moments it belongs to."""
        return self.own.shape

    @property
    def coherent(self) -> Floats:
        """Output power of a unit error shared by all positions, per channel, interference left out."""
        return np.asarray((self.rows**2).mean(axis=0) + self.own, np.float32)

    def __add__(self, other: Gain) -> Gain:
        return Gain(self.rows + other.rows, self.own + other.own, self.white + other.white)


class Transfer(Protocol):
    """A linearised operator, from one input to the output."""

    def pull(self, gain: Gain) -> Gain:
        """The gain at the input, given that at the output."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Diagonal:
    """Element-wise: noise is multiplied by a slope that varies from element to element.

    Attributes:
        slope, square: its mean and mean square.
        shape: of the input's moments, which may have been broadcast.
    """

    slope: npt.NDArray[Any]
    square: npt.NDArray[Any]
    shape: tuple[int, ...]

    def pull(self, gain: Gain) -> Gain:
        """`M ← s̄ M s̄ + (E s² - s̄²) ∘ diag M`."""
        slope, square = np.asarray(self.slope, np.float32), np.asarray(self.square, np.float32)
        scatter = np.maximum(square - slope**2, 0)
        own = gain.own * square
        if scatter.any():
            own = own + scatter * (gain.rows**2).mean(axis=0)
        return Gain(
            _unbroadcast(gain.rows * slope, (gain.rows.shape[0], *self.shape)),
            _unbroadcast(own, self.shape),
            _unbroadcast(gain.white * square, self.shape),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Move:
    """Elements change place: `output[i] = input[index[i]]`.

    Attributes:
        index: flat positions in the input's moments, of the output's shape; -1 where the element comes from elsewhere.
        shape: of the input's moments.
    """

    index: npt.NDArray[np.intp]
    shape: tuple[int, ...]

    def pull(self, gain: Gain) -> Gain:
        """Sum over the places an element went to."""
        size = int(np.prod(self.shape))
        index = self.index.ravel()
        here = np.flatnonzero(index >= 0)
        target = index[here]

        def back(flat: Floats) -> Floats:
            result = np.zeros((size, flat.shape[0]), np.float32)
            if target.size == np.unique(target).size:
                result[target] = flat[:, here].T
            else:
                np.add.at(result, target, flat[:, here].T)
            return result.T

        rows = gain.rows.reshape(gain.rows.shape[0], -1)
        own, white = back(np.stack([gain.own.ravel(), gain.white.ravel()]))
        return Gain(back(rows).reshape(-1, *self.shape), own.reshape(self.shape), white.reshape(self.shape))


@dataclass(frozen=True, slots=True, eq=False)
class Mixed:
    """An operator nobody knows: every input channel reaches every output channel, relative noise is unchanged.

    Attributes:
        ratio: output power over input power, sums over the channels.
        shape: of the input's moments.
    """

    ratio: float
    shape: tuple[int, ...]

    def pull(self, gain: Gain) -> Gain:
        """Spread the mean gain evenly."""
        own = np.full(self.shape, gain.coherent.mean() * self.ratio, np.float32)
        white = np.full(self.shape, gain.white.mean() * self.ratio, np.float32)
        return Gain(np.zeros((gain.rows.shape[0], *self.shape), np.float32), own, white)


@dataclass(frozen=True, slots=True, eq=False)
class Averaged:
    """A mean over positions: noise that the positions share passes, independent noise averages away.

    Attributes:
        count: positions averaged that have no place of their own in the moments.
        shape: of the input's moments; axes of the moments that were averaged have length 1 at the output.
        scale: factor on the mean, 1 for a mean, the count for a sum.
    """

    count: float
    shape: tuple[int, ...]
    scale: float = 1.0

    def pull(self, gain: Gain) -> Gain:
        """Each of n averaged elements has the slope 1/n."""
        scale = np.float32(self.scale)
        places = np.float32(max(np.prod(self.shape) / max(gain.own.size, 1), 1.0))
        rank = len(self.shape)
        gain = _with_rank(gain, rank)
        rows = np.broadcast_to(gain.rows * (scale / places), (gain.rows.shape[0], *self.shape))
        own = np.broadcast_to(gain.own * (scale / places) ** 2, self.shape)
        white = np.broadcast_to(gain.white * (scale / places) ** 2 / np.float32(self.count), self.shape)
        return Gain(rows, own, white)


def _with_rank(gain: Gain, rank: int) -> Gain:
    """The gain with trailing axes of length 1 up to `rank`; averages that drop axes are given with them kept."""
    if gain.own.ndim == rank:
        return gain
    raise ValueError(f"a gain of rank {gain.own.ndim} does not fit moments of rank {rank}")


def _unbroadcast(array: npt.NDArray[Any], shape: tuple[int, ...]) -> Floats:
    """Sum over the axes along which `shape` was broadcast."""
    if array.ndim > len(shape):  # leading axes were added; those of rows stay in front
        raise ValueError(f"rank {array.ndim} against {len(shape)}")
    axes = tuple(a for a, (have, want) in enumerate(zip(array.shape, shape, strict=True)) if want == 1 != have)
    if axes:
        array = array.sum(axis=axes, keepdims=True)
    return np.asarray(np.broadcast_to(array, shape), np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Reshaped:
    """The same elements under another shape (axes of length 1 come or go)."""

    shape: tuple[int, ...]

    def pull(self, gain: Gain) -> Gain:
        """Nothing but the shape changes."""
        rows = gain.rows.reshape(gain.rows.shape[0], *self.shape)
        return Gain(rows, gain.own.reshape(self.shape), gain.white.reshape(self.shape))


@dataclass(frozen=True, slots=True, eq=False)
class Chain:
    """Two transfers, one after the other in the direction of the data."""

    first: Transfer
    second: Transfer

    def pull(self, gain: Gain) -> Gain:
        """Adjoints compose backwards."""
        return self.first.pull(self.second.pull(gain))
