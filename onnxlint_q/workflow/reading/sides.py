"""Two files beside each other: by depth, and tensor by tensor."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from onnxlint_q.analysis.measured import Measured
from onnxlint_q.analysis.pairing.match import Pairing, pair
from onnxlint_q.analysis.pairing.skeleton import skeleton
from onnxlint_q.errors import ModelError
from onnxlint_q.graph import Role
from onnxlint_q.workflow.reading.columns import Column, column_of
from onnxlint_q.workflow.reading.inspection import (
    InspectedModel,
    Side,
    SideBySide,
    SidePair,
)
from onnxlint_q.workflow.reading.values import (
    WeightRow,
)
from onnxlint_q.workflow.reading.weights import weight_rows

PARTS = 10
"""Parts of the depth that are told."""


@dataclass(frozen=True, slots=True)
class _Named:
    """A row with what it is called, its figure, and how bad that is."""

    name: str
    value: float
    badness: float


def side_by_side(
    files: tuple[Measured, Measured], told: tuple[InspectedModel, InspectedModel], by: str
) -> SideBySide | None:
    """Both files by one figure: of activations if samples ran, else of their scales, else of weights.

    None where neither file has any of these.
    """
    of, rows = _comparable(files, told)
    every = [row for side in rows for row in side]
    if not every:
        return None
    figure, column = column_of(every, by)
    first, second = ([one for row in side if (one := _named(row, column)) is not None] for side in rows)
    partner, paired_by = _partners(files, type(every[0]), first, second)
    named = [SidePair(b.name, Side(a.name, a.value), Side(b.name, b.value)) for a, b in partner]
    return SideBySide(
        figure=figure,
        of=of,
        depth=tuple(_depth(first, second)),
        named=tuple(sorted(named, key=_difference, reverse=True)),
        paired_by=paired_by,
    )


def _comparable(
    files: tuple[Measured, Measured], told: tuple[InspectedModel, InspectedModel]
) -> tuple[str, tuple[Sequence[Any], Sequence[Any]]]:
    """The rows that both files have, and what they are of."""
    if all(model.activations for model in told):
        return "activations", (told[0].activations, told[1].activations)
    scales = [[row for row in model.qparams if row.kind == Role.ACTIVATION and row.scales] for model in told]
    if all(scales):
        return "activations", (scales[0], scales[1])
    return "folded weights", (weight_rows(files[0]), weight_rows(files[1]))


def _named(row: Any, column: Column) -> _Named | None:
    """None of a row without a figure that can be compared."""
    value = column.shown(row)
    if value is None or not math.isfinite(value):
        return None
    return _Named(row.output if isinstance(row, WeightRow) else row.tensor, value, column.badness(row))


def _depth(first: Sequence[_Named], second: Sequence[_Named]) -> Iterator[SidePair]:
    parts = min(PARTS, max(len(first), len(second)))
    for part in range(parts):
        start, end = round(100 * part / parts), round(100 * (part + 1) / parts)
        yield SidePair(f"{start}-{end} %", _worst(first, part, parts), _worst(second, part, parts))


def _worst(rows: Sequence[_Named], part: int, parts: int) -> Side | None:
    """Of the rows in one part of the depth the one with the worst figure."""
    inside = [row for place, row in enumerate(rows) if place * parts // len(rows) == part]
    worst = max(inside, key=lambda row: row.badness, default=None)
    return Side(worst.name, worst.value) if worst is not None else None


def _partners(
    files: tuple[Measured, Measured], kind: type, first: Sequence[_Named], second: Sequence[_Named]
) -> tuple[list[tuple[_Named, _Named]], str]:
    """Rows of both that belong together, and by what."""
    ours = {row.name: row for row in first}
    if files[0].is_float is not files[1].is_float and (same := _by_structure(files, kind)) is not None:
        found = ((ours.get(name), row) for row in second for name in same.get(row.name, ()))
        paired = {id(b): (a, b) for a, b in found if a is not None}
        if paired:
            return list(paired.values()), "what they compute"
    both = [(ours[row.name], row) for row in second if row.name in ours]
    few = 2 * len(both) < min(len(first), len(second))
    if few and len(first) == len(second):
        return list(zip(first, second, strict=True)), "their place, as few names agree and both have as many"
    return both, "their names"


def _by_structure(files: tuple[Measured, Measured], kind: type) -> Mapping[str, tuple[str, ...]] | None:
    """By tensor of the second file those of the first that hold the same value; None for different networks."""
    quantised = 1 if files[0].is_float else 0
    skeletons = [skeleton(file.model, file.folded, file.quantized) for file in files]
    try:
        pairing = pair(skeletons[1 - quantised], skeletons[quantised])
    except ModelError:
        return None
    if kind is WeightRow:
        pairs: list[tuple[tuple[str, ...], tuple[str, ...]]] = [
            ((ours.layer.output,), (theirs.layer.output,))
            for ours, theirs in ((one.reference, one.quantized) for one in pairing.operations)
            if ours.layer is not None and theirs.layer is not None
        ]
    else:
        pairs = list(_values(pairing))
    if quantised == 0:
        pairs = [(theirs, ours) for ours, theirs in pairs]
    return {name: ours for ours, theirs in pairs for name in theirs}


def _values(pairing: Pairing) -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
    for theirs, ours in pairing.values.items():
        yield pairing.reference.values[ours].tensors, pairing.quantized.values[theirs].tensors


def _difference(pair: SidePair) -> float:
    """How far apart the two figures are, as a factor."""
    ratio = abs(pair.ratio)
    if math.isnan(ratio):
        return 0.0
    return max(ratio, 1 / ratio) if ratio > 0 else math.inf
