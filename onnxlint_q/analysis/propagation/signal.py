"""What is known of a tensor before anything runs: a mean and a variance per channel, and how it varies.

Arrays have the rank of their tensor and broadcast against it: an axis along which nothing is known to differ (batch,
height, width) has length 1. A value is taken as Gaussian where an operator mixes channels (central limit theorem);
from there on, element-wise operators are followed exactly on a grid of the Gaussian (`Curve`), so that `x *
sigmoid(x)` or a GELU written in six nodes needs no rule of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

# Trapezoidal rule on the standard normal: spectrally exact for smooth functions, error of order step² at a kink.
NODES: Array = np.linspace(-5.0, 5.0, 51)
WEIGHTS: Array = np.exp(-(NODES**2) / 2) / np.exp(-(NODES**2) / 2).sum()
# Powers and exponentials of a Gaussian can overflow; beyond this a moment carries no information.
_HUGE = 1e30


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """A tensor as a function of a Gaussian one.

    Attributes:
        base: key of the Gaussian tensor.
        shape: of its moments.
        values, slopes: value and derivative at `NODES` standard deviations of the base, `[nodes, *shape]`.
    """

    base: str
    shape: tuple[int, ...]
    values: Array
    slopes: Array


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """Mean and variance of a tensor per channel, in the tensor's own units.

    Attributes:
        mean, var: of one shape, broadcastable against the tensor.
        curve: the tensor as a function of a Gaussian one; None where it is the Gaussian itself.
    """

    mean: Array
    var: Array
    curve: Curve | None = field(default=None, repr=False)

    @property
    def power(self) -> Array:
        """Mean square."""
        return np.asarray(self.mean**2 + self.var, np.float64)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the arrays."""
        return self.mean.shape

    def as_curve(self, key: str) -> Curve:
        """The tensor, named `key`, as a function of its base, which may be itself."""
        if self.curve is not None:
            return self.curve
        nodes = NODES.reshape(-1, *(1,) * self.mean.ndim)
        return Curve(key, self.shape, self.mean + nodes * np.sqrt(self.var), np.ones((1,) * (self.mean.ndim + 1)))

    def along(self, axis: int, length: int) -> tuple[Array, Array]:
        """Mean and variance as vectors over one axis, averaged over the others."""
        return vector(self.mean, axis, length), vector(self.var, axis, length)


def gaussian(mean: Any, var: Any) -> Moments:
    """Moments without a curve; figures without information become finite."""
    mean, var = np.broadcast_arrays(_finite(mean), np.maximum(_finite(var), 0.0))
    return Moments(mean, var)


def from_curve(curve: Curve) -> Moments:
    """Moments of a function of a Gaussian, by quadrature."""
    values = _finite(curve.values)
    mean = expected(values)
    return Moments(
        mean, np.maximum(expected((values - mean) ** 2), 0.0), Curve(curve.base, curve.shape, values, curve.slopes)
    )


def constant(value: npt.NDArray[Any], rank: int = 0) -> Moments:
    """A tensor that does not vary."""
    mean = np.asarray(value, np.float64)
    mean = mean.reshape((1,) * max(rank - mean.ndim, 0) + mean.shape)
    return Moments(mean, np.zeros_like(mean))


def expected(values: Array) -> Array:
    """Mean over the nodes of a curve."""
    if values.shape[0] == 1:
        return np.asarray(values[0])
    return np.asarray(np.tensordot(WEIGHTS, values, axes=(0, 0)), np.float64)


def vector(array: Array, axis: int, length: int) -> Array:
    """`array` as a vector over `axis`, averaged over the others.

    Raises:
        ValueError: the axis has another length.
    """
    axis %= array.ndim
    others = tuple(a for a in range(array.ndim) if a != axis)
    return np.broadcast_to(array.mean(axis=others), (length,))


def _finite(values: Any) -> Array:
    return np.clip(np.nan_to_num(np.asarray(values, np.float64), nan=0.0, posinf=_HUGE, neginf=-_HUGE), -_HUGE, _HUGE)
