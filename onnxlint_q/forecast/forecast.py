"""What quantisation will cost at the model's output, from the file alone: nothing is executed.

A population of samples is propagated through the graph once, and one adjoint sweep says what an error in any tensor
costs at the output (module `sweep`); the errors themselves, `Q(w) - w` of every folded weight, are known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from onnxlint_q.analysis.experiment import LayerSqnr
from onnxlint_q.analysis.folding import FoldedLayer
from onnxlint_q.analysis.image.inputs import is_image
from onnxlint_q.analysis.measured import Measured
from onnxlint_q.analysis.number_formats import OVERFLOWN_DB, decibel, weight_round_trip
from onnxlint_q.analysis.outputs.output_kind import holds_scores
from onnxlint_q.analysis.schemes import Scheme
from onnxlint_q.analysis.statistics import LayerFacts
from onnxlint_q.forecast.noise import saturated, weight_noise
from onnxlint_q.forecast.ranges import ChannelRanges, Ranges, activation_noise, channel_ranges, value_ranges
from onnxlint_q.forecast.sweep import Propagation, output_costs, propagate
from onnxlint_q.forecast.transfer import OutputCost
from onnxlint_q.forecast.unmodelled import UnmodelledError
from onnxlint_q.graph import Model
from onnxlint_q.graph.loading.build import declared

# Two thirds of the forecasts of output SQNR of 51 networks under two schemes lie within this; 39 of the networks were
# measured after the method was settled. No constant of the forecast was fitted to output SQNR.
UNCERTAINTY_DB = 5.5
# Two thirds of the forecasts of one layer's weight alone lie within this, each network counting the same: 760 layers of
# 17 networks, per tensor. Learnt on 16 of them it holds for 66 % of the layers of the other: for 38 to 100 % of each of
# the twelve that read images, whose layers together would need 6.3, but for none of two that read text.
LAYER_UNCERTAINTY_DB = 9.0
# A classifier changes its mind on the samples whose two best scores are closer than the noise, so on a share that grows
# as its amplitude does: median of (1 - agreement) x 10^(SQNR / 20), both measured, over six of these networks.
CLOSE_CALLS = 0.3
# Where the noise is not small that law ends: at 0 dB nothing agreed.
_SMALL_NOISE_DB = 5.0
# Beyond any float32 signal; figures that far out say the same.
_FAR_DB = 1000.0


@dataclass(frozen=True, slots=True, eq=False)
class Forecast:
    """One scheme, everything quantised.

    Attributes:
        output_sqnr_db: predicted SQNR at the model's output; None where nothing can be said.
        layers: by layer key, without figures of activations alone. They are linear, so they rank well and may lie far
            below what an output can lose; `told` says what can be told of one.
        unknown: operators it had to pass through without knowing them, with the first reason; it is weaker for each.
        failures: places where a rule of the forecast failed, in words: faults of this program, not of the file.
        rest_share: fraction of the noise power from activations that are no layer's output: the inputs of the model,
            sums, gates. With the shares of the layers it adds up to 1, where there is any noise.
        uncertainty_db: two thirds of the forecasts lie within plus or minus this of the measured SQNR.
        agreement: fraction of samples a classifier would answer as before; None if the model is no classifier, or
            below 5 dB.
        varying: share of the output's signal power that is variance.
        ran_away: some figure was beyond what a run can give, so that none meant anything, and there is none.
    """

    output_sqnr_db: float | None
    layers: Mapping[str, LayerSqnr] = field(default_factory=dict)
    unknown: Mapping[str, str] = field(default_factory=dict)
    failures: tuple[str, ...] = ()
    rest_share: float = 0.0
    uncertainty_db: float = UNCERTAINTY_DB
    agreement: float | None = None
    varying: float = 1.0
    ran_away: bool = False

    def told(self, layer: str) -> LayerSqnr | None:
        """What is told of one layer: its figures bounded, and how far they are usually off; None if nothing is."""
        known = self.layers.get(layer)
        if known is None:
            return None
        return replace(
            known,
            weight_sqnr_db=self.bounded(known.weight_sqnr_db),
            sqnr_db=self.bounded(known.sqnr_db),
            uncertainty_db=LAYER_UNCERTAINTY_DB,
        )

    def bounded(self, sqnr_db: float | None) -> float | None:
        """A linear figure of a layer on the scale of `output_sqnr_db`, which no part of the network lies below."""
        if sqnr_db is None:
            return None
        # Weights may be as large as floats get; a power that overflows would raise.
        noise = float(10 ** (-np.clip(sqnr_db, -_FAR_DB, _FAR_DB) / 10))
        return decibel(1.0, saturated(noise, self.varying))


@dataclass(frozen=True, slots=True, eq=False)
class NoiseModel:
    """What an error anywhere in a network costs at its output, known once whatever the scheme.

    It holds samples of every tensor: drop it after use.

    Attributes:
        model: the network.
        classifies: whether its output holds the scores of classes.
        layers: its folded layers.
        propagation: samples of every tensor.
        costs: what an error in a tensor costs at the output, by tensor key.
        ranges: what calibration is expected to see of each activation that is rounded.
        channels: the same of each of its channels, where the file tells them apart.
        failures: as in `Forecast`.
    """

    model: Model
    classifies: bool
    layers: tuple[FoldedLayer, ...]
    propagation: Propagation
    costs: Mapping[str, OutputCost]
    ranges: Ranges
    channels: ChannelRanges
    failures: tuple[str, ...] = ()

    def weight_sqnr_db(self, layer: LayerFacts, scheme: Scheme) -> float | None:
        """SQNR at the output, dB and bounded, if only the weight of this layer is quantised.

        None where nothing can be said, or nothing is lost.

        The layer may differ from the network's own where the difference leaves the float network what it is.
        """
        noise = _weight_noise(self, layer, (scheme,)).get(scheme.name)
        if noise is None or self.propagation.overflown:
            return None
        return decibel(1.0, saturated(noise, self.propagation.varying))


def noise_model(measured: Measured) -> NoiseModel:
    """Propagate samples forward and costs back through the float network."""
    model, layers = _sized(measured.model), tuple(layer.folded for layer in measured.layers)
    propagation = propagate(model, layers)
    costs, failures = output_costs(model, propagation)
    ranges = value_ranges(model, measured.placements, propagation)
    channels = channel_ranges(model, measured.placements, propagation)
    failures = (*propagation.failures, *failures)
    return NoiseModel(model, measured.is_classifier, layers, propagation, costs, ranges, channels, failures)


def _sized(model: Model) -> Model:
    """The network where the sides of images are as long as they are taken to be, and so is what the graph fixes.

    The length of any other sequence does not enter: its positions are alike.
    """
    entering = {
        value.name: value.taken
        for value in model.inputs
        if value.taken is not None and (value.fixed or is_image(value.type.shape))
    }
    return declared(model, entering) if entering else model


def forecast(network: NoiseModel, layers: Sequence[LayerFacts], schemes: Sequence[Scheme]) -> Mapping[str, Forecast]:
    """Forecast every scheme; a layer that does not reach an output, or is not reached by an input, gets None."""
    weights = {facts.output: _weight_noise(network, facts, schemes) for facts in layers}
    return {scheme.name: _forecast(network, layers, scheme, weights) for scheme in schemes}


def _forecast(
    network: NoiseModel,
    layers: Sequence[LayerFacts],
    scheme: Scheme,
    weights: Mapping[str, Mapping[str, float]],
) -> Forecast:
    model, propagation = network.model, network.propagation
    activations = activation_noise(model, network.layers, scheme, propagation, network.ranges, network.costs)
    own = {facts.output: weights[facts.output].get(scheme.name) for facts in layers}
    known = {key: noise for key, noise in own.items() if noise is not None}
    total = sum(activations.total) + sum(known.values())
    scale = 1 / total if 0 < total < np.inf else 0.0
    rows: dict[str, LayerSqnr] = {}
    for key, noise in own.items():
        if noise is None:
            rows[key] = LayerSqnr(None, None, 0.0, 0.0)
            continue
        rounding = activations.by_layer.get(key, 0.0)
        rows[key] = LayerSqnr(decibel(1.0, noise), decibel(1.0, noise + rounding), noise * scale, rounding * scale)
    figures = [figure for row in rows.values() for figure in (row.weight_sqnr_db, row.sqnr_db) if figure is not None]
    if propagation.overflown or min(figures, default=0.0) < OVERFLOWN_DB:
        return Forecast(None, unknown=propagation.unknown, failures=network.failures, ran_away=True)
    told = sum(row.share for row in rows.values())
    rest = max(1 - told, 0.0) if scale else 0.0
    # With most weights out of reach (in subgraphs, behind unknown inputs) the sum says nothing about the model.
    output = decibel(1.0, saturated(total, propagation.varying)) if 2 * len(known) > len(layers) else None
    return Forecast(
        output_sqnr_db=output,
        layers=rows,
        unknown=propagation.unknown,
        failures=network.failures,
        rest_share=rest,
        agreement=_agreement(network, output),
        varying=propagation.varying,
    )


def _agreement(network: NoiseModel, sqnr_db: float | None) -> float | None:
    if sqnr_db is None or sqnr_db < _SMALL_NOISE_DB or not network.classifies:
        return None
    if not holds_scores(network.model.outputs[0].type.shape or ()):
        return None
    return float(1 - CLOSE_CALLS * 10 ** (-sqnr_db / 20))


def _weight_noise(network: NoiseModel, facts: LayerFacts, schemes: Sequence[Scheme]) -> Mapping[str, float]:
    """Noise over signal by scheme; empty where nothing can be said."""
    folded, model, propagation, costs = facts.folded, network.model, network.propagation, network.costs
    source = folded.before.node.input(0) if folded.before is not None else folded.layer.input
    if source not in propagation.samples or folded.output not in costs or facts.weight.non_finite:
        return {}
    matrix = folded.matrix(model)
    result: dict[str, float] = {}
    for scheme in schemes:
        if not scheme.covers(folded.layer):
            result[scheme.name] = 0.0
            continue
        error = weight_round_trip(matrix, scheme.weights, scheme.sharing, folded.layer.scale_sharing)
        error -= matrix
        try:
            with np.errstate(over="ignore", invalid="ignore"):
                noise = weight_noise(model, folded, error, propagation.samples[source], costs[folded.output])
        except UnmodelledError:
            return {}
        if not np.isfinite(noise):  # weights whose squares overflow
            return {}
        result[scheme.name] = noise
    return result
