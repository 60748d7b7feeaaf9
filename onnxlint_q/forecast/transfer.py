"""How an error in an operator's input arrives at the model's output: the adjoints of linearised operators.

With random signs `s` on the outputs `y` of the model, `Σ s·δy` has the mean square `Σ |δy|²` (Hutchinson). So one
sweep back from such signs gives, for every tensor, rows `r` with

    noise power at the output = mean over images of (Σ_positions r · e)²

for an error `e` in that tensor, shared or not by its places and channels. Rows carry the slopes of every sample, so
errors that meet again add up or cancel with their signs, and are averaged where the network averages.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from onnxlint_q.forecast.population import IMAGES, Samples, image_power, per_image

_STEEP = np.float32(1e6)
ByImage = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class OutputCost:
    """What an error in a tensor costs at the output, as noise power over signal power.

    Images may carry the rows of different outputs (module `ends`), so everything is kept by image.

    Attributes:
        rows: `[samples, *shape]`, as described in the module.
        share: places represented over places that there are; white noise of n places averages over all of them. One
            figure, or one an image.
        apart: power of the rows that white noise meets, over their power: what the taps of one kernel read is as
            alike as the tensor is, but white noise in it is not. One figure, or one an image.
        settled: factor by which the rows are made smaller for errors that are small.
    """

    rows: Samples
    share: ByImage | float = 1.0
    apart: ByImage | float = 1.0
    settled: float = 1.0

    def __add__(self, other: OutputCost) -> OutputCost:
        mine, theirs = image_power(self.rows), image_power(other.rows)
        total = mine + theirs
        part = np.divide(mine, total, out=np.ones_like(total), where=total > 0)
        share = self.share * part + other.share * (1 - part)
        apart = self.apart * part + other.apart * (1 - part)
        return OutputCost(self.rows + other.rows, share, apart)

    @property
    def white(self) -> ByImage:
        """Output noise over signal for an error of unit variance, independent from element to element; by image."""
        return self._power(self.rows)

    def uneven(self, deviation: Samples) -> ByImage:
        """The same for an error whose deviation differs from element to element."""
        with np.errstate(over="ignore", invalid="ignore"):  # rows that ran away make no figure, which is told
            return self._power(self.rows * deviation)

    def whole(self, error: Samples) -> ByImage:
        """The same for an error that is known, `[samples, *shape]`, and large: it does not settle."""
        sums = np.einsum("sc,sc->s", self.rows.reshape(len(error), -1), error.reshape(len(error), -1))
        return np.asarray((per_image(sums).sum(axis=1, dtype=np.float64) / self.settled) ** 2)

    def _power(self, rows: Samples) -> ByImage:
        return image_power(rows) * self.share * self.apart


class Transfer(Protocol):
    """A linearised operator, from one input to one output."""

    def pull(self, cost: OutputCost) -> OutputCost:
        """The cost at the input, given that at the output."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Diagonal:
    """Element-wise: an error is multiplied by a slope.

    Attributes:
        slope: broadcastable against `[samples, *output shape]`.
        shape: of the input, which may have been broadcast, and may have fewer leading axes.
    """

    slope: npt.NDArray[Any]
    shape: tuple[int, ...]

    def pull(self, cost: OutputCost) -> OutputCost:
        """Multiply, then sum over what was broadcast."""
        slope = np.asarray(self.slope, np.float32)
        largest = float(np.abs(slope).max(initial=0.0))
        if not largest <= _STEEP:  # or no number
            slope = np.clip(np.nan_to_num(slope), -_STEEP, _STEEP)
        plain = slope.ndim == 0 and slope == 1
        return OutputCost(unbroadcast(cost.rows if plain else cost.rows * slope, self.shape), cost.share, cost.apart)


@dataclass(frozen=True, slots=True, eq=False)
class Move:
    """Elements change place: `output[i] = input[index[i]]`.

    Attributes:
        index: flat positions in the input, of the output's shape; -1 where the element comes from elsewhere.
        shape: of the input.
    """

    index: npt.NDArray[np.intp]
    shape: tuple[int, ...]

    def pull(self, cost: OutputCost) -> OutputCost:
        """Sum over the places an element went to."""
        rows = cost.rows.reshape(cost.rows.shape[0], -1)
        count = int(np.prod(self.shape))
        made = rows if in_order(self.index, count) else self._pulled(rows, count)
        return OutputCost(made.reshape(-1, *self.shape), cost.share, cost.apart)

    def _pulled(self, rows: Samples, count: int) -> Samples:
        index = self.index.ravel()
        here = np.flatnonzero(index >= 0)
        if np.bincount(index[here], minlength=1).max() > 1:
            result = np.zeros((count, rows.shape[0]), np.float32)
            np.add.at(result, index[here], rows[:, here].T)
            return np.ascontiguousarray(result.T)
        # Where each comes from; a column of zeros behind the others stands for nowhere.
        source = np.full(count, -1, np.intp)
        source[index[here]] = here
        return rows.take(source, axis=1) if len(here) == count else _padded(rows).take(source, axis=1)


@dataclass(frozen=True, slots=True, eq=False)
class Adjoint:
    """Any other linear map, given by its adjoint on rows.

    Attributes:
        apply: rows at the output to rows at the input.
        share: factor on the share of places.
    """

    apply: Callable[[Samples], Samples]
    share: float = 1.0

    def pull(self, cost: OutputCost) -> OutputCost:
        """Apply it."""
        return OutputCost(
            np.asarray(self.apply(cost.rows), np.float32), np.minimum(cost.share * self.share, 1.0), cost.apart
        )


@dataclass(frozen=True, slots=True, eq=False)
class Taps:
    """A kernel, which reads several places.

    Attributes:
        apply: rows at the output to rows at the input, and the power of these were each tap to read its own noise,
            over their power, of each image.
    """

    apply: Callable[[Samples], tuple[Samples, ByImage]]

    def pull(self, cost: OutputCost) -> OutputCost:
        """Apply it."""
        rows, apart = self.apply(cost.rows)
        return OutputCost(np.asarray(rows, np.float32), cost.share, apart)


@dataclass(frozen=True, slots=True, eq=False)
class Mixed:
    """An operator nobody knows: every input element reaches every output element, relative noise is unchanged.

    Attributes:
        ratio: output power over input power, summed over the elements.
        shape: of the input.
    """

    ratio: float
    shape: tuple[int, ...]

    def pull(self, cost: OutputCost) -> OutputCost:
        """Random signs of the mean size of the rows of their image: nothing interferes."""
        power = image_power(cost.rows) * (IMAGES / cost.rows.size)
        signs = random_signs(np.random.default_rng(0), (cost.rows.shape[0], *self.shape))
        size = np.sqrt(power * self.ratio).astype(np.float32).reshape(IMAGES, *(1,) * (signs.ndim))
        return OutputCost((signs.reshape(IMAGES, -1, *self.shape) * size).reshape(signs.shape), cost.share)


def in_order(index: npt.NDArray[np.intp], count: int) -> bool:
    """Whether positions are those of all of so many elements, one after the other: only the shape is another."""
    return index.size == count and bool((index.ravel() == np.arange(count)).all())


def _padded(rows: Samples) -> Samples:
    return np.concatenate([rows, np.zeros((len(rows), 1), np.float32)], axis=1)


def random_signs(draw: np.random.Generator, shape: tuple[int, ...]) -> Samples:
    """±1 with equal chances."""
    return draw.integers(0, 2, shape).astype(np.float32) * 2 - 1


def unbroadcast(rows: Samples, shape: tuple[int, ...]) -> Samples:
    """Sum over the axes along which an input of `shape` was broadcast."""
    extra = rows.ndim - 1 - len(shape)
    if extra > 0:
        rows = rows.sum(axis=tuple(range(1, extra + 1)))
    axes = tuple(a + 1 for a, want in enumerate(shape) if want == 1 != rows.shape[a + 1])
    if axes:
        rows = rows.sum(axis=axes, keepdims=True)
    return np.asarray(np.broadcast_to(rows, (rows.shape[0], *shape)), np.float32)
