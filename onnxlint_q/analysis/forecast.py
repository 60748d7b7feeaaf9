"""What quantisation will cost at the model's output, from the file alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from onnxlint_q.analysis.propagation.noise import weight_noise
from onnxlint_q.analysis.propagation.sweep import Propagation, gains, propagate
from onnxlint_q.analysis.propagation.transfer import Gain
from onnxlint_q.analysis.quantize import weight_round_trip
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
    found = propagate(model, {facts.folded.layer.node: facts.folded.layer for facts in layers})
    gain = gains(model, found)
    noise: dict[str, dict[str, float | None]] = {scheme.name: {} for scheme in schemes}
    for facts in layers:
        for name, value in _weight_noise(model, facts, schemes, found, gain).items():
            noise[name][facts.output] = value
    return {
        scheme.name: Forecast(
            _decibel(sum(v for v in noise[scheme.name].values() if v is not None)),
            {key: LayerForecast(_decibel(v), None) for key, v in noise[scheme.name].items()},
            found.unknown,
        )
        for scheme in schemes
    }


def _weight_noise(
    model: Model, facts: LayerFacts, schemes: Sequence[Scheme], found: Propagation, gain: Mapping[str, Gain]
) -> Mapping[str, float | None]:
    folded = facts.folded
    source = folded.before.node.input(0) if folded.before is not None else folded.layer.input
    if source not in found.moments or folded.output not in gain or facts.weight.non_finite:
        return {scheme.name: None for scheme in schemes}
    matrix = folded.matrix(model)
    result: dict[str, float | None] = {}
    for scheme in schemes:
        error = weight_round_trip(matrix, scheme)
        error -= matrix
        result[scheme.name] = weight_noise(folded, error, found.moments[source], gain[folded.output])
    return result


def _decibel(noise: float | None) -> float | None:
    if noise is None or not noise > 0 or not np.isfinite(noise):
        return None
    return float(-10 * np.log10(noise))
