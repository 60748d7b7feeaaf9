"""Factors nearby at which the rounding errors of weights cancel in the mean.

A rounded weight `w' = w + e` shifts a channel of its layer by the same amount in every sample,

    E[y'_j - y_j] = sum_c e_jc E[x_c],

and what does not average out grows from layer to layer. Correcting biases takes it away for one scheme, and is no
rewrite of the float model. But which way each weight is rounded hangs on the factors of its channels: a few per cent
more or less round it to another side. With one scale for the tensor the error of a row is one of many values that the
factor of its own channel leads to, and the one nearest to zero is taken. With one scale a channel that factor changes
nothing, but those of the channels that are read do: they are taken one after the other so that the errors of the
columns cancel, as far as they can, in all rows at once.

Channels are settled in data order. The widest row of each weight stays as it is and no other may become wider, so that
the step is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from onnxlint_q.rewrite.equalisation.noise import Vector
from onnxlint_q.rewrite.equalisation.site import Numbers
from onnxlint_q.rewrite.equalisation.ties import FIXED

_LARGEST_CODE = 127.0
# The logarithm of a factor changes by this at most: a step of a tensor that grows by it costs a third of a decibel.
_NEAR = 0.04
# How many factors are tried for each channel, and fewer where all of them together take more roundings than this.
_TRIED, _FEWEST, _ROUNDINGS = 32, 8, 1 << 27
# How often a row is rounded anew on average, as its step changes, before its layer is left out; elements at once.
_TURNS, _ROOM = 8, 1 << 22


@dataclass(frozen=True, slots=True, eq=False)
class Rounded:
    """A layer with a weight that is rounded.

    Attributes:
        reads: numbers of the input channels, `[groups, inputs of a group]`.
        writes: numbers of the output channels, `[groups, outputs of a group]`.
        weight: `[groups, outputs, inputs, taps]`.
        mean: of each input channel, `[groups, inputs]`.
        cost: of an error of one in each output channel that is the same at all positions, `[groups, outputs]`.
    """

    reads: Numbers
    writes: Numbers
    weight: Vector
    mean: Vector
    cost: Vector


def balanced(layers: Sequence[Rounded], logs: Vector, free: npt.NDArray[np.bool_]) -> Vector:
    """Logarithms of factors near those that are given.

    Args:
        layers: in data order.
        logs: of the factors, by number.
        free: by number, whether the factor may change.
    """
    size = sum(layer.weight.size for layer in layers)
    tried = min(_TRIED, _ROUNDINGS // max(size, 1))
    if tried < _FEWEST:
        return logs
    return _Balance(layers, logs, free, np.linspace(-_NEAR, _NEAR, tried + 1 - tried % 2)).logs


class _Balance:
    def __init__(self, layers: Sequence[Rounded], logs: Vector, free: npt.NDArray[np.bool_], moves: Vector) -> None:
        self.held = np.append(logs, 0.0)
        self.open = np.append(free, False)
        self.moves = moves[np.argsort(np.abs(moves), kind="stable")]
        self.readers: dict[int, list[tuple[_Columns, Numbers]]] = {}
        for layer in layers:
            if layer.weight.shape[0] == 1 and layer.weight.shape[2] > 1:
                columns, (reads,) = _Columns(layer, self.held), layer.reads
                for number in np.unique(reads[reads != FIXED]).tolist():
                    self.readers.setdefault(number, []).append((columns, np.flatnonzero(reads == number)))
        for layer in layers:
            self._settle(layer)

    @property
    def logs(self) -> Vector:
        """Those that were found."""
        return self.held[:-1]

    def _settle(self, layer: Rounded) -> None:
        """The factors of the channels that a layer writes."""
        read = layer.weight * np.exp(self.held[layer.reads])[:, None, :, None]
        met = layer.mean * np.exp(-self.held[layer.reads])
        rows = read * np.exp(-self.held[layer.writes])[:, :, None, None]
        widths = np.abs(rows).max(axis=(2, 3))
        widest = float(widths.max(initial=0.0))
        step = np.asarray(widest / _LARGEST_CODE)
        for group, output in np.argwhere(self.open[layer.writes] & (widths < widest) & (widths > 0)):
            number = int(layer.writes[group, output])
            if not self.open[number]:
                continue
            moves = self.moves[widths[group, output] * np.exp(-self.moves) < widest]
            errors = _off(rows[group, output] * np.exp(-moves)[:, None, None], step) @ met[group]
            costs = layer.cost[group, output] * np.square(errors * np.exp(self.held[number] + moves))
            for columns, places in self.readers.get(number, ()):
                costs = costs + columns.costs(places, moves)
            best = float(moves[np.argmin(costs)])
            for columns, places in self.readers.get(number, ()):
                columns.move(places, best)
            self.held[number] += best
            self.open[number] = False


class _Columns:
    """A weight that is rounded with one scale a row, whose columns are multiplied one after the other."""

    def __init__(self, layer: Rounded, held: Vector) -> None:
        self.cost = layer.cost[0]
        self.weight = layer.weight[0] * np.exp(held[layer.reads[0]])[:, None]
        self.mean = layer.mean[0] * np.exp(-held[layer.reads[0]])
        self.widths = np.maximum(np.abs(self.weight).max(axis=(1, 2)), np.finfo(float).tiny)
        self.errors = _off(self.weight, _steps(self.widths)) @ self.mean
        self.turns = _TURNS * len(self.weight)

    def costs(self, places: Numbers, moves: Vector) -> Vector | float:
        """Of the mean errors, for each logarithm that the columns may be moved by."""
        wide = self._wide(places, moves)
        self.turns -= wide.size
        return np.square(self._after(places, moves, wide)[1]) @ self.cost if self.turns >= 0 else 0.0

    def move(self, places: Numbers, by: float) -> None:
        """Keep a move."""
        if self.turns >= 0:
            moves = np.asarray([by])
            (self.widths,), (self.errors,) = self._after(places, moves, self._wide(places, moves))
            self.weight[:, places] *= np.exp(by)
            self.mean[places] *= np.exp(-by)

    def _wide(self, places: Numbers, moves: Vector) -> Numbers:
        """Rows that are as wide as they are by these columns, or may become so: all of them is rounded otherwise."""
        most = np.exp(max(float(moves.max()), 0.0))
        return np.flatnonzero(np.abs(self.weight[:, places]).max(axis=(1, 2)) * most >= self.widths)

    def _after(self, places: Numbers, moves: Vector, wide: Numbers) -> tuple[Vector, Vector]:
        """Widths and mean errors of all rows, `[moves, rows]`."""
        old, factors = self.weight[:, places], np.exp(moves)[:, None]
        new, met = old * factors[..., None, None], self.mean[places]
        step = _steps(self.widths)
        errors = self.errors - _off(old, step) @ met + (_off(new, step) @ met) / factors
        widths = np.tile(self.widths, (moves.size, 1))
        rest = np.ones(self.mean.size, bool)
        rest[places] = False
        for part in np.array_split(wide, -(-wide.size * moves.size * self.weight[0].size // _ROOM) or 1):
            others, inside = self.weight[part][:, rest], np.abs(old[part]).max(axis=(1, 2))
            widths[:, part] = np.maximum(np.abs(others).max(axis=(1, 2), initial=0.0), inside * factors)
            step = _steps(widths[:, part])
            errors[:, part] = _off(others, step) @ self.mean[rest] + (_off(new[:, part], step) @ met) / factors
        return widths, errors


def _steps(widths: Vector) -> Vector:
    return np.asarray(widths / _LARGEST_CODE)[..., None, None]


def _off(rows: Vector, step: Vector) -> Vector:
    """What rounding with a step adds to values `[..., inputs, taps]`, over all taps."""
    return np.asarray((np.rint(rows / step) * step - rows).sum(axis=-1))
