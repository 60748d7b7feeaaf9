"""What quantisation will cost at the model's output, from the file alone: nothing is executed.

A population of samples is propagated through the graph once, and one adjoint sweep says what an error in any tensor
costs at the output (package `propagation`); the errors themselves, `Q(w) - w` of every folded weight, are known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from onnxlint_q.analysis.propagation.noise import saturated, weight_noise
from onnxlint_q.analysis.propagation.ranges import activation_noise
from onnxlint_q.analysis.propagation.sweep import Propagation, gains, propagate
from onnxlint_q.analysis.propagation.transfer import Gain
from onnxlint_q.analysis.quantize import weight_round_trip
from onnxlint_q.analysis.schemes import Scheme
from onnxlint_q.analysis.statistics import LayerFacts
from onnxlint_q.graph import Model


@dataclass(frozen=True, slots=True)
class LayerForecast:
    """One layer under one scheme, SQNR at the model's output in dB, None where nothing can be said or is lost.

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
    """Forecast every scheme; a layer that does not reach an output, or is not reached by an input, gets None."""
    found = propagate(model, [facts.folded for facts in layers])
    gain = gains(model, found)
    weights = {facts.output: _weight_noise(model, facts, schemes, found, gain) for facts in layers}
    return {scheme.name: _forecast(model, layers, scheme, found, gain, weights) for scheme in schemes}


def _forecast(
    model: Model,
    layers: Sequence[LayerFacts],
    scheme: Scheme,
    found: Propagation,
    gain: Mapping[str, Gain],
    weights: Mapping[str, Mapping[str, float]],
) -> Forecast:
    activations = activation_noise(model, [facts.folded for facts in layers], scheme, found, gain)
    rows: dict[str, LayerForecast] = {}
    total = sum(activations.total)
    told = 0
    for facts in layers:
        own = weights[facts.output].get(scheme.name)
        if own is None:
            rows[facts.output] = LayerForecast(None, None)
            continue
        total += own
        told += 1
        both = own + activations.by_layer.get(facts.output, 0.0)
        rows[facts.output] = LayerForecast(_decibel(own), _decibel(both))
    # With most weights out of reach (in subgraphs, behind unknown inputs) the sum says nothing about the model.
    output = _decibel(saturated(total)) if 2 * told > len(layers) else None
    return Forecast(output, rows, found.unknown)


def _weight_noise(
    model: Model, facts: LayerFacts, schemes: Sequence[Scheme], found: Propagation, gain: Mapping[str, Gain]
) -> Mapping[str, float]:
    """Noise over signal by scheme; empty where nothing can be said."""
    folded = facts.folded
    source = folded.before.node.input(0) if folded.before is not None else folded.layer.input
    if source not in found.samples or folded.output not in gain or facts.weight.non_finite:
        return {}
    matrix = folded.matrix(model)
    result: dict[str, float] = {}
    for scheme in schemes:
        error = weight_round_trip(matrix, scheme)
        error -= matrix
        try:
            result[scheme.name] = weight_noise(folded, error, found.samples[source], gain[folded.output])
        except ValueError:  # samples of an odd graph that do not fit the weight
            return {}
    return result


def _decibel(noise: float) -> float | None:
    """SQNR of noise over signal; None for none at all, or more than a number can tell."""
    if not noise > 0 or not np.isfinite(noise):
        return None
    return float(-10 * np.log10(noise))
