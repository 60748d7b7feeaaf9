"""What `inspect` shows: files with their tables, one tensor, values that are rounded, two files side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from onnxlint_q.workflow.reading.values import (
    ActivationRow,
    CalibrationSummary,
    FileFacts,
    NormRow,
    QparamsRow,
    WeightRow,
)


@dataclass(frozen=True, slots=True)
class Rounded:
    """What a value becomes.

    Attributes:
        code: the nearest code, halves to the even one; at an end where the value is beyond.
        back: the value that this code stands for.
        saturated: the value is beyond the range.
    """

    value: float
    code: float
    back: float
    saturated: bool


@dataclass(frozen=True, slots=True)
class RoundedValues:
    """Some values at the scale and zero point of one tensor.

    Attributes:
        origin: where scale and zero point come from: the file, or the quantiser with the ranges of the samples.
    """

    tensor: str
    dtype: str
    scale: float
    zero_point: int
    low: float
    high: float
    origin: str
    values: tuple[Rounded, ...]


@dataclass(frozen=True, slots=True)
class TensorSheet:
    """One tensor, or one operator with its tensors.

    Attributes:
        name: as it was asked for.
        facts: what the graph says, heading and text.
        channels: with data, the channels with the widest range: index, smallest and largest value.
    """

    name: str
    facts: tuple[tuple[str, str], ...]
    qparams: tuple[QparamsRow, ...] = ()
    activations: tuple[ActivationRow, ...] = ()
    weights: tuple[WeightRow, ...] = ()
    norms: tuple[NormRow, ...] = ()
    channels: tuple[tuple[int, float, float], ...] = ()


@dataclass(frozen=True, slots=True)
class InspectedModel:
    """One file.

    Attributes:
        layers: how many it has.
        quantised: the format is none of floats, so that qparams are told and not weights.
        calibration: None where nothing was run.
        notes: what is not told and why.
        sheet: of the tensor that was named; None where none was, or the file has none of this name.
        file: what it is, beside its graph.
        rounded: what the values that were given become; None where none were, or the file has no scale for them.
    """

    path: str
    sha256: str
    opset: int
    format: str
    quantised: bool
    layers: int
    qparams: tuple[QparamsRow, ...] = ()
    activations: tuple[ActivationRow, ...] = ()
    weights: tuple[WeightRow, ...] = ()
    norms: tuple[NormRow, ...] = ()
    calibration: CalibrationSummary | None = None
    notes: tuple[str, ...] = ()
    sheet: TensorSheet | None = None
    rounded: RoundedValues | None = None
    file: FileFacts = field(default_factory=FileFacts)


@dataclass(frozen=True, slots=True)
class Side:
    """One tensor in one of two files."""

    tensor: str
    value: float


@dataclass(frozen=True, slots=True)
class SidePair:
    """A tensor of one file beside one of the other.

    Attributes:
        place: what they have in common: their name, or the part of the network's depth, in words.
        first, second: None where one file has nothing there.
    """

    place: str
    first: Side | None
    second: Side | None

    @property
    def ratio(self) -> float:
        """The second over the first; NaN without both, or for a zero."""
        if self.first is None or self.second is None or not self.first.value:
            return math.nan
        return self.second.value / self.first.value


@dataclass(frozen=True, slots=True)
class SideBySide:
    """Two files.

    Attributes:
        figure: what is compared, in words, and `of` which tensors.
        depth: the worst tensor of each tenth of the depth, from the input on.
        named: tensors that are the same in both, by name or by what they compute; those that differ most first.
        paired_by: how `named` were found, in words.
    """

    figure: str
    of: str
    depth: tuple[SidePair, ...]
    named: tuple[SidePair, ...]
    paired_by: str


@dataclass(frozen=True, slots=True)
class Inspection:
    """What `inspect` read of one file or two.

    Attributes:
        top: rows of a table that a reader wants to see first.
        by: the column that they are sorted by; empty for each table's own.
        side_by_side: None for one file.
        seconds: wall time by stage.
    """

    models: tuple[InspectedModel, ...]
    top: int = 5
    by: str = ""
    side_by_side: SideBySide | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def sheets(self) -> tuple[TensorSheet, ...]:
        """Of the tensor that was named, one a file that has it."""
        return tuple(model.sheet for model in self.models if model.sheet is not None)

    @property
    def rounded(self) -> tuple[RoundedValues, ...]:
        """What values become, one a file that has a scale for them."""
        return tuple(model.rounded for model in self.models if model.rounded is not None)
