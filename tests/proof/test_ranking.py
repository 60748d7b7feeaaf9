"""Whether the layers that are said to cost most do: forecast and probe against a measurement of every layer alone."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, partial

import numpy as np
import pytest
from conftest import FIXTURES

from onnxlint_q.analysis.experiment import Experiment
from onnxlint_q.analysis.schemes import DEFAULT_SCHEMES
from onnxlint_q.execute.data.preprocess import PRESETS
from onnxlint_q.execute.data.sources import open_source
from onnxlint_q.execute.variants.experiment_runs import Errors
from onnxlint_q.execute.variants.workbench import workbench
from onnxlint_q.graph import read_model
from onnxlint_q.judge.facts import Facts, facts_of
from onnxlint_q.proof.probing.probe import probe
from onnxlint_q.proof.sensitivity import measure_sensitivity

NETWORKS = "healthy_resnet healthy_mobilenet depthwise_spread near_zero_variance silu_gate opset11".split()
Decibels = Mapping[tuple[str, str], float]


@cache
def network(name: str) -> Facts:
    return facts_of(read_model(FIXTURES / "models" / f"{name}.onnx"), DEFAULT_SCHEMES)


@cache
def measured(name: str) -> Decibels:
    """Output SQNR by scheme and layer, on all images."""
    facts = network(name)
    source = open_source(str(FIXTURES / "data" / "calibration.npz"), PRESETS["raw"])
    return of_weights(facts, measure_sensitivity(workbench(facts), partial(source.take, facts.model.inputs, 32)))


def of_weights(facts: Facts, errors: Errors) -> Decibels:
    """What each weight alone costs, by scheme and layer."""
    places = ((scheme, layer.output) for scheme in facts.schemes for layer in facts.layers)
    found = {(scheme.name, layer): errors.get(Experiment.on_weight(scheme, layer)) for scheme, layer in places}
    return {key: error.sqnr_db for key, error in found.items() if error is not None and error.sqnr_db is not None}


def forecast(name: str) -> Decibels:
    facts = network(name)
    made = {(scheme, layer): row for scheme, one in facts.forecasts.items() for layer, row in one.layers.items()}
    return {place: row.weight_sqnr_db for place, row in made.items() if row.weight_sqnr_db is not None}


def probed(name: str) -> Decibels:
    facts = network(name)
    return of_weights(facts, probe(workbench(facts)).errors)


def channels(name: str) -> Decibels:
    """Mean SQNR of the weight's channels: the best of the figures that other tools print."""
    facts = network(name)
    found = {
        (scheme.name, layer.output): layer.weight.mean_channel_sqnr_db(scheme.name)
        for scheme in facts.schemes
        for layer in facts.layers
    }
    return {place: figure for place, figure in found.items() if figure is not None}


def correlation(said: Decibels, truth: Decibels) -> float:
    """Spearman's, the mean of both schemes."""
    assert said.keys() == truth.keys()
    found = []
    for scheme in DEFAULT_SCHEMES:
        places = [place for place in truth if place[0] == scheme.name]
        pairs = np.asarray([(said[place], truth[place]) for place in places])
        ranks = np.argsort(np.argsort(pairs, axis=0), axis=0)
        found.append(float(np.asarray(np.corrcoef(ranks.T))[0, 1]))
    return float(np.mean(found))


def test_layers_rank_as_measured() -> None:
    means = {
        kind: np.mean([correlation(kind(name), measured(name)) for name in NETWORKS])
        for kind in (forecast, probed, channels)
    }
    assert means[forecast] > 0.7 and means[probed] > 0.8
    assert means[forecast] > means[channels] + 0.3


@pytest.mark.parametrize("name", ["depthwise_spread", "near_zero_variance", "silu_gate"])
def test_where_layers_differ_each_network_ranks_well(name: str) -> None:
    assert correlation(forecast(name), measured(name)) > 0.85


def test_the_level_of_the_forecast_is_that_of_the_measurement() -> None:
    apart = [abs(forecast(name)[place] - truth) for name in NETWORKS for place, truth in measured(name).items()]
    assert len(apart) > 80 and np.median(apart) < 2.5 and np.quantile(apart, 0.9) < 6
