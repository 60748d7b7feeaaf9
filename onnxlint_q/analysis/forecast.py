"""Placeholder interface, replaced by the real forecast."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from onnxlint_q.analysis.schemes import Scheme
from onnxlint_q.analysis.statistics import LayerFacts
from onnxlint_q.graph import Model


@dataclass(frozen=True, slots=True)
class LayerForecast:
    """One layer under one scheme, SQNR at the model's output in dB, None where nothing can be said.

    Attributes:
        weight_sqnr_db: only this layer's weight is quantised.
        sqnr_db: its weight and its output activation are.
    """

    weight_sqnr_db: float | None
    sqnr_db: float | None


@dataclass(frozen=True, slots=True, eq=False)
class Forecast:
    """One scheme, everything quantised.

    Attributes:
        output_sqnr_db: predicted SQNR at the model's output; None where nothing can be said.
        layers: by layer key.
        unknown: operators it had to pass through without knowing them; the forecast is weaker for each.
    """

    output_sqnr_db: float | None
    layers: Mapping[str, LayerForecast] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()


def forecast(model: Model, layers: Sequence[LayerFacts], schemes: Sequence[Scheme]) -> Mapping[str, Forecast]:
    """Forecast every scheme from the file alone."""
    return {}
