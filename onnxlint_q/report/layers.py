"""What is known of each layer: one figure of one thing, the best founded, and none that a better one contradicts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from onnxlint_q.finding import Finding, Subject
from onnxlint_q.workflow.results import Basis, LayerRow, LayerSqnr, ModelResult

TRUST = (Basis.MEASURED, Basis.PROBE, Basis.FORECAST)
"""The stages, best founded first."""


@dataclass(frozen=True, slots=True)
class Known:
    """The best that is known of one layer under one scheme: measured, else probed, else forecast.

    All figures are of one stage, so that what is quantised more never seems to cost less. A figure below what a
    better-founded one says of the whole network is impossible and left out.

    Attributes:
        basis: the stage.
        weight_db: SQNR at the output (dB) if its weight alone is quantised; infinite for a perfect match.
        output_db, both_db: if its result alone is, and if both are; None where not determined.
        operands: the figure of each weight alone, by its name, where the layer has several.
        floor_db: the figure of the whole, where it contradicts one of this layer; None where nothing is contradicted.
        uncertainty_db: two thirds of such figures lie within plus or minus this; None for those of a run.
    """

    basis: Basis
    weight_db: float | None
    output_db: float | None
    both_db: float | None
    floor_db: float | None = None
    uncertainty_db: float | None = None
    operands: Mapping[str, float] = field(default_factory=dict)


def known(model: ModelResult, row: LayerRow, scheme: str) -> Known | None:
    """What is known of a layer under a scheme; None where no stage has a figure of its weight."""
    for basis in TRUST:
        said = _stage(row, basis).get(scheme)
        if said is None or _figure(said.weight_sqnr_db) is None:
            continue
        floor = _floor(model, scheme, basis)
        figures = [_figure(value) for value in (said.weight_sqnr_db, said.activation_sqnr_db, said.sqnr_db)]
        weight, output, both = (None if value is not None and value < floor else value for value in figures)
        contradicted = None if [weight, output, both] == figures else floor
        operands = {name: db for name, value in said.operands.items() if (db := _figure(value)) is not None}
        return Known(basis, weight, output, both, contradicted, said.uncertainty_db, operands if weight else {})
    return None


def _stage(row: LayerRow, basis: Basis) -> Mapping[str, LayerSqnr]:
    stages = {Basis.FORECAST: row.forecast, Basis.PROBE: row.probe, Basis.MEASURED: row.measured}
    return stages[basis] or {}


def _figure(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else value


def _floor(model: ModelResult, scheme: str, basis: Basis) -> float:
    """What everything quantised leaves at the output (dB), if that is better founded than `basis`."""
    whole = next((result for result in model.schemes if result.scheme == scheme), None)
    if whole is None or TRUST.index(whole.basis) >= TRUST.index(basis):
        return -math.inf
    value = _figure(whole.output_sqnr_db)
    return -math.inf if value is None else value


def of_claim(model: ModelResult, finding: Finding) -> Known | None:
    """What is known of the layer whose weight a finding makes a claim about; None for any other finding."""
    claim = finding.claim
    if claim is None or claim.subject is not Subject.WEIGHT:
        return None
    row = next((row for row in model.layers if row.output == claim.tensor), None)
    return known(model, row, claim.scheme) if row is not None else None


def of_place(model: ModelResult, finding: Finding) -> Known | None:
    """What is known of the weight of the layer at which a finding stands, under the scheme where most is known."""
    row = next((row for row in model.layers if row.output == finding.location.output), None)
    if row is None:
        return None
    told = [entry for result in model.schemes if (entry := known(model, row, result.scheme)) is not None]
    return min(told, key=lambda entry: TRUST.index(entry.basis), default=None)


def worst_layers(model: ModelResult, scheme: str, limit: int) -> tuple[tuple[LayerRow, Known], ...]:
    """The layers that cost the output most if their weight alone is quantised under a scheme, worst first.

    A layer whose figure the whole contradicts stands where the whole does: it may cost as much, and no more.
    """
    found = [(row, told) for row in model.layers if (told := known(model, row, scheme)) is not None]
    found.sort(key=lambda entry: _order(entry[1]))
    return tuple(found[:limit])


def _order(told: Known) -> float:
    if told.weight_db is not None:
        return told.weight_db
    return math.inf if told.floor_db is None else told.floor_db


def noise_share(row: LayerRow, scheme: str) -> float | None:
    """Fraction of the output's noise power that the forecast puts on the layer's weight and output."""
    said = (row.forecast or {}).get(scheme)
    if said is None or said.weight_share is None:
        return None
    return said.weight_share + (said.activation_share or 0.0)
