"""What is known of the output if only one layer's weight is quantised, and how severe that is."""

from __future__ import annotations

from dataclasses import dataclass

from onnxlint_q.analysis.schemes import SCHEMES
from onnxlint_q.analysis.statistics import LayerFacts
from onnxlint_q.finding import CONFIRM_BELOW_DB, Severity, Subject
from onnxlint_q.judge.facts import Facts


@dataclass(frozen=True, slots=True)
class Outlook:
    """What is expected of the model's output if only this layer's weight is quantised.

    Attributes:
        forecast_db: forecast SQNR at the output, None where nothing could be forecast. It is a metric and no part of a
            message: reports tell the best figure that is known, which is another one once a run was made.
        severity: None where the forecast says that there is nothing to report.
    """

    forecast_db: float | None
    severity: Severity | None


def outlook(
    facts: Facts,
    layer: LayerFacts,
    scheme: str,
    *,
    warn_db: float,
    drop_db: float = float("inf"),
    blind: Severity | None,
) -> Outlook:
    """Judge a suspicion by its forecast SQNR: a warning below `warn_db`, nothing from `drop_db` on, info between.

    What a run measured below the level where layers are excluded is a warning, too. `blind` is the severity where there
    is no forecast. What the quantiser leaves in float is no warning: other tools may quantise it.
    """
    if not SCHEMES[scheme].quantises(layer.folded.layer):
        warn_db, blind = -float("inf"), Severity.INFO if blind is not None else None
    known, measured = linear_db(facts, layer, scheme), measured_db(facts, layer, scheme)
    harmful = measured is not None and measured < CONFIRM_BELOW_DB
    if known is None:
        return Outlook(None, Severity.WARNING if harmful else blind)
    bounded_db = facts.forecasts[scheme].bounded(known)
    if known < warn_db or harmful:
        return Outlook(bounded_db, Severity.WARNING)
    return Outlook(bounded_db, Severity.INFO if known < drop_db else None)


def harmless(facts: Facts, layer: LayerFacts, scheme: str, drop_db: float) -> str:
    """Why an outlook leaves nothing to report where there is a forecast."""
    return f"forecast SQNR at the output {linear_db(facts, layer, scheme):.1f} dB is not under {drop_db:g}"


def linear_db(facts: Facts, layer: LayerFacts, scheme: str) -> float | None:
    """Linear forecast of the SQNR at the output if only this layer's weight is quantised: to judge by, not to tell."""
    forecast = facts.forecasts.get(scheme)
    known = forecast.layers.get(layer.output) if forecast is not None else None
    return known.weight_sqnr_db if known is not None else None


def measured_db(facts: Facts, layer: LayerFacts, scheme: str) -> float | None:
    """SQNR that a run left at the output with only this layer's weight quantised; None where none was made."""
    costs = facts.costs.get(scheme)
    alone = costs.tensors if costs is not None else ()
    return next((cost.sqnr_db for cost in alone if (cost.kind, cost.tensor) == (Subject.WEIGHT, layer.output)), None)
