"""Places along the network, in data order: layers, and the operators between them whose results are rounded."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from onnxlint_q.finding import Finding, Severity, Subject
from onnxlint_q.report import words
from onnxlint_q.report.layers import TRUST, known
from onnxlint_q.workflow.results import Basis, LayerRow, ModelResult, SchemeResult, TensorRole, TensorRow

MOST = 200
"""Columns of the chart; of a longer network neighbours share one."""


@dataclass(frozen=True, slots=True)
class Flag:
    """A finding at a place: the code of its rule, its anchor, how much it matters, and what the place is called."""

    code: str
    anchor: str
    severity: Severity
    name: str


@dataclass(frozen=True, slots=True)
class Level:
    """The lowest SQNR (dB) at the output of one tensor alone at a place, and what it rests on."""

    sqnr_db: float
    basis: Basis


@dataclass(frozen=True, slots=True)
class Spot:
    """One column: a layer, an operator, or several neighbours.

    Attributes:
        label: of the first, and of the last where there are several.
        numbers: of its layers, as in the layer table, from 1.
        layers: those.
        shares: by scheme, what its weights and its results make of the noise; fractions.
        levels: by scheme.
        scale: the largest of those of its activations, in a quantised file; None without.
    """

    label: str
    numbers: tuple[int, ...] = ()
    layers: tuple[LayerRow, ...] = ()
    shares: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    levels: Mapping[str, Level] = field(default_factory=dict)
    scale: float | None = None

    @property
    def depthwise(self) -> bool:
        """Whether one of its layers is."""
        return any(row.depthwise for row in self.layers)


@dataclass(frozen=True, slots=True)
class Spots:
    """All of them, and which one a tensor or node is at.

    Attributes:
        columns: in data order.
        places: index of the column by name of a tensor or node.
        numbers: number of the layer by the same, where one is there.
        together: operators in one column, at most.
    """

    columns: tuple[Spot, ...]
    places: Mapping[str, int]
    numbers: Mapping[str, int]
    together: int

    def of(self, finding: Finding) -> Mapping[int, str]:
        """The columns where a finding is, with what is there; that of its own place first."""
        first = next((name for name in _names(finding) if name in self.places), None)
        found = {} if first is None else {self.places[first]: finding.location.label}
        tensors = finding.claim.more if finding.claim is not None else ()
        further = ((name, place.label) for place in finding.places for name in (place.output, place.node))
        for name, label in (*further, *((tensor, tensor) for tensor in tensors)):
            if name in self.places:
                found.setdefault(self.places[name], label)
        return found

    def layer(self, finding: Finding) -> int | None:
        """The number of the layer that a finding is about; None where it is about none."""
        return next((self.numbers[name] for name in _names(finding) if name in self.numbers), None)


def _names(finding: Finding) -> tuple[str, ...]:
    """What a finding is about, most telling first."""
    where, claim = finding.location, finding.claim
    return tuple(filter(None, (claim.tensor if claim is not None else "", where.output, where.node)))


@dataclass(slots=True)
class _Place:
    """A layer or an operator, as it is gathered."""

    label: str
    depth: float
    number: int = 0
    layer: LayerRow | None = None
    names: list[str] = field(default_factory=list)
    rows: dict[str, list[TensorRow]] = field(default_factory=dict)
    scales: list[float] = field(default_factory=list)


def find_spots(model: ModelResult) -> Spots:
    """The columns of a model; none where it has no layer and no tensor is known."""
    found = _places(model)
    together = max(1, math.ceil(len(found) / MOST))
    chunks = [found[start : start + together] for start in range(0, len(found), together)]
    places: dict[str, int] = {}
    numbers: dict[str, int] = {}
    for index, chunk in enumerate(chunks):
        for place in chunk:
            for name in place.names:
                places.setdefault(name, index)
                if place.number:
                    numbers.setdefault(name, place.number)
    return Spots(tuple(_spot(model, chunk) for chunk in chunks), places, numbers, together)


def _places(model: ModelResult) -> list[_Place]:
    """Every layer, and every operator or input with a tensor that makes noise of its own, in data order."""
    depths = {row.tensor: row.depth for result in model.schemes for row in result.tensors if row.kind is Subject.WEIGHT}
    layers: list[_Place] = []
    depth = 0.0
    for number, layer in enumerate(model.layers, start=1):
        depth = depths.get(layer.output, depth)
        layers.append(_Place(words.layer_label(layer), depth, number, layer, [layer.output, layer.node]))
    by_output = {place.names[0]: place for place in reversed(layers)}
    others: dict[str, _Place] = {}
    for result in model.schemes:
        for place, row in _homes(result, by_output, others):
            place.rows.setdefault(result.scheme, []).append(row)
            place.names.append(row.tensor)
    if not depths:
        _place_scales(model, layers, by_output, others)
    # A layer comes before what its result goes through.
    return sorted((*layers, *others.values()), key=lambda place: (place.depth, place.layer is None, place.number))


def _place_scales(
    model: ModelResult, layers: Sequence[_Place], by_output: Mapping[str, _Place], others: dict[str, _Place]
) -> None:
    """The scales of activations of a quantised file, each at its layer or behind the one before it."""
    for number, place in enumerate(layers, start=1):
        place.depth = float(number)
    depth = 0.0
    for row in model.qparams:
        if row.kind == Subject.ACTIVATION.value and row.largest_scale is not None:
            home = by_output.get(row.tensor)
            if home is None:
                home = others.setdefault(row.tensor, _Place(row.tensor, depth, names=[row.tensor]))
            depth = home.depth
            home.names += [row.codes, row.node]
            home.scales.append(row.largest_scale)


def _homes(
    result: SchemeResult, layers: Mapping[str, _Place], others: dict[str, _Place]
) -> Iterator[tuple[_Place, TensorRow]]:
    """Each tensor of a scheme with its place: the layer that it is the weight or the result of, else its own."""
    last: _Place | None = None
    for row in result.tensors:
        home = layers.get(row.tensor)
        if home is None and last is not None and row.role is TensorRole.LAYER:
            home = last  # what a Relu or Clip behind the layer leaves
        if home is None:
            key = row.node or row.tensor
            home = others.setdefault(key, _Place(key, row.depth, names=[row.node]))
        last = home if row.kind is Subject.WEIGHT and home.layer is not None else None
        yield home, row


def _spot(model: ModelResult, chunk: Sequence[_Place]) -> Spot:
    label = chunk[0].label if len(chunk) == 1 else f"{chunk[0].label} … {chunk[-1].label}"
    shares, levels = {}, {}
    for result in model.schemes:
        rows = [row for place in chunk for row in place.rows.get(result.scheme, ())]
        if rows:
            shares[result.scheme] = _share(rows, Subject.WEIGHT), _share(rows, Subject.ACTIVATION)
        level = min(_levels(model, result, chunk), key=lambda level: level.sqnr_db, default=None)
        if level is not None:
            levels[result.scheme] = level
    return Spot(
        label,
        tuple(place.number for place in chunk if place.layer is not None),
        tuple(place.layer for place in chunk if place.layer is not None),
        shares,
        levels,
        max((scale for place in chunk for scale in place.scales), default=None),
    )


def _share(rows: Iterable[TensorRow], kind: Subject) -> float:
    return sum(row.share for row in rows if row.kind is kind)


def _levels(model: ModelResult, result: SchemeResult, chunk: Sequence[_Place]) -> Iterator[Level]:
    """What is known of each tensor there: measured of all of them, else the best that is known of layers."""
    basis = result.tensors_basis
    if basis in TRUST and basis is not Basis.FORECAST:
        for place in chunk:
            yield from (Level(row.sqnr_db, basis) for row in place.rows.get(result.scheme, ()) if _drawn(row.sqnr_db))
        return
    for place in chunk:
        told = known(model, place.layer, result.scheme) if place.layer is not None else None
        if told is not None and told.weight_db is not None and _drawn(told.weight_db):
            yield Level(told.weight_db, told.basis)


def _drawn(value: float) -> bool:
    return math.isfinite(value)
