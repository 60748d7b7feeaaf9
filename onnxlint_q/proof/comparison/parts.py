"""Each part of a joined value by itself: what one scale for all of them leaves of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxlint_q.analysis.grid import Grid
from onnxlint_q.analysis.number_formats import sqnr_db
from onnxlint_q.analysis.observed.readings import PartReading
from onnxlint_q.analysis.pairing.match import Pairing
from onnxlint_q.analysis.pairing.skeleton import Operation

Array = npt.NDArray[Any]
# A network that joins more at once stacks layers of one kind; nobody asks for each of them.
_MOST = 32


@dataclass(frozen=True, slots=True)
class JoinedPart:
    """Where an operand of a Concat is in the result.

    Attributes:
        tensor: its key in the float file.
        value: index of its value in the float skeleton; None for a constant.
    """

    tensor: str
    value: int | None
    axis: int
    start: int
    stop: int

    def within(self, values: Array) -> Array:
        """The part of what was joined."""
        return values[(slice(None),) * self.axis + (slice(self.start, self.stop),)]


def joined_parts(pairing: Pairing) -> Mapping[int, tuple[JoinedPart, ...]]:
    """The parts of every paired value that the float model joins along an axis of known lengths."""
    makers = pairing.reference.makers()
    found = {}
    for value, reference in pairing.values.items():
        maker = makers.get(reference)
        parts = tuple(_parts(pairing, maker)) if maker is not None else ()
        if len(parts) > 1:
            found[value] = parts
    return found


def _parts(pairing: Pairing, maker: Operation) -> Iterator[JoinedPart]:
    node, skeleton = maker.node, pairing.reference
    if not node.is_standard or node.op_type != "Concat" or not 1 < len(node.inputs) <= _MOST:
        return
    shapes = [skeleton.model.shape(key) for key in node.inputs]
    rank = max(len(shape or ()) for shape in shapes)
    axis = node.int("axis", 1)
    axis += rank * (axis < 0)
    lengths = [shape[axis] if shape is not None and 0 <= axis < len(shape) else None for shape in shapes]
    if None in lengths:
        return
    stops = np.cumsum([length or 0 for length in lengths]).tolist()
    for key, length, stop in zip(node.inputs, lengths, stops, strict=True):
        yield JoinedPart(key, skeleton.value_of.get(key), axis, stop - (length or 0), stop)


class PartsAccumulator:
    """Error, range and rounding of each part of one value over the samples."""

    def __init__(self, parts: tuple[JoinedPart, ...], grid: Grid | None) -> None:
        self.parts, self.grid = parts, grid
        # Of each part: power of the signal, of the error, of the rounding alone.
        self._powers = np.zeros((len(parts), 3))
        self._ranges = [(math.inf, -math.inf)] * len(parts)

    def add(self, exact: Array, other: Array) -> None:
        """One more sample of both; nothing where it has not the length of its parts."""
        axis, stop = self.parts[-1].axis, self.parts[-1].stop
        if exact.ndim <= axis or exact.shape[axis] != stop:
            return
        for place, part in enumerate(self.parts):
            x, y = part.within(exact), part.within(other)
            if not x.size or not np.isfinite(x).all():
                continue
            rounded = x if self.grid is None else self.grid.round_trip(x)
            self._powers[place] += [_power(x), _power(y - x), _power(rounded - x)]
            low, high = self._ranges[place]
            self._ranges[place] = min(low, float(x.min())), max(high, float(x.max()))

    def result(self, known: Mapping[int, tuple[str, float | None]]) -> tuple[PartReading, ...]:
        """What was seen of the parts.

        Args:
            known: key and SQNR of the rows, by value of the float skeleton.
        """
        return tuple(self._reading(place, part, known) for place, part in enumerate(self.parts))

    def _reading(self, place: int, part: JoinedPart, known: Mapping[int, tuple[str, float | None]]) -> PartReading:
        signal, noise, rounding = (float(power) for power in self._powers[place])
        low, high = self._ranges[place]
        reads, reads_db = known.get(part.value, ("", None)) if part.value is not None else ("", math.inf)
        return PartReading(
            tensor=part.tensor,
            reads=reads,
            low=low,
            high=high,
            sqnr_db=sqnr_db(signal, noise) if math.isfinite(noise) else None,
            reads_db=reads_db,
            codes=_codes(self.grid, low, high) if self.grid is not None and low <= high else 0,
            alone_db=sqnr_db(signal, rounding) if self.grid is not None else None,
        )


def _codes(grid: Grid, low: float, high: float) -> int:
    ends = np.asarray(grid.round_trip(np.asarray([low, high], np.float32)), np.float64)
    return round(float(ends[1] - ends[0]) / grid.scale) + 1


def _power(values: Array) -> float:
    with np.errstate(over="ignore", invalid="ignore"):
        return float(np.square(values.astype(np.float64)).sum())
