"""Cures tried out by running the model."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
import ties
from onnx_cases import Array, as_model, onnx_text, run, sqnr_db

from onnxlint_q.analysis.schemes import DEFAULT_SCHEMES
from onnxlint_q.execute.data.preprocess import PRESETS
from onnxlint_q.execute.data.source import Source
from onnxlint_q.execute.data.sources import ArraySource, open_source
from onnxlint_q.execute.stream.observe import observe
from onnxlint_q.execute.variants.workbench import workbench
from onnxlint_q.finding import Confidence, Cure, Evidence, Finding, Location, Severity
from onnxlint_q.graph import read_model
from onnxlint_q.judge.facts import Facts, facts_of
from onnxlint_q.proof.prove import prove
from onnxlint_q.proof.rewrites import EXACT_DB
from onnxlint_q_rules.batchnorm.near_zero_variance import NearZeroVariance
from onnxlint_q_rules.weights.low_depthwise_average_precision import LowDepthwiseAveragePrecision

SCHEME_LIST = DEFAULT_SCHEMES
CHANNELS, STILL = 8, 3


def cured(layer: str, channels: tuple[int, ...]) -> Finding:
    cure = Cure(layer, channels, "int8-per-tensor")
    return Finding("QB002", "x", Severity.WARNING, Confidence.HIGH, "m", Location(output=layer), cure=cure)


def network(variance: float, mean: float = 0.0, still_gamma: float = 1.0) -> onnx.ModelProto:
    """Depthwise, with one channel of this running variance."""
    rng = np.random.default_rng(2)
    arrays = {
        "w": rng.standard_normal((CHANNELS, 1, 3, 3)),
        "mix": rng.standard_normal((4, CHANNELS, 1, 1)),
        "gamma": np.where(np.arange(CHANNELS) == STILL, still_gamma, 1.0),
        "beta": rng.uniform(0.5, 1, CHANNELS),
        "mean": np.full(CHANNELS, mean),
        "variance": np.where(np.arange(CHANNELS) == STILL, variance, 9.0),
    }
    return onnx_text(
        f"""block (float[N, {CHANNELS}, 8, 8] x) => (float[N, 4, 6, 6] y) {{
          features = Conv <group = {CHANNELS}> (x, w)
          normal = BatchNormalization(features, gamma, beta, mean, variance)
          positive = Relu(normal)
          y = Conv(positive, mix)
        }}""",
        **{name: value.astype(np.float32) for name, value in arrays.items()},
    )


def measured(proto: onnx.ModelProto) -> Facts:
    return facts_of(as_model(proto), SCHEME_LIST)


def samples(still: float) -> Array:
    """Normal values, those of the still channel `still` times as large."""
    values = np.random.default_rng(3).standard_normal((6, CHANNELS, 8, 8)).astype(np.float32)
    values[:, STILL] *= np.float32(still)
    return values


def tried(facts: Facts, source: Source, count: int, *findings: Finding) -> tuple[Finding, ...]:
    bench = workbench(facts).calibrated(observe(facts, source, count))
    return prove(bench, findings, partial(source.take, facts.model.inputs, count)).findings


def test_a_cure_of_a_constant_channel_holds(models: Path, calibration: Path) -> None:
    """The fixture end to end: chain, channel, forecast, float difference, what the cured weight leaves."""
    facts = facts_of(read_model(models / "near_zero_variance.onnx"), SCHEME_LIST)
    source = open_source(str(calibration), PRESETS["raw"])
    seen = observe(facts, source, 8)
    facts = facts.observed(seen)
    found = [*NearZeroVariance().findings(facts), *LowDepthwiseAveragePrecision().findings(facts)]
    assert {finding.code for finding in found} == {"QB002", "QW001"}
    for finding in tried(facts, source, 8, *found):
        assert finding.cure == Cure("depthwise_bn_out", (7,), "int8-per-tensor")
        assert finding.evidence is Evidence.CONFIRMED
        assert finding.measured_db is not None and finding.measured_db < 0
        exact, after = finding.metrics["cure_float_sqnr_db"], finding.metrics["cured_sqnr_db"]
        assert exact is None or (isinstance(exact, float) and exact > 60)
        assert isinstance(after, float) and after > 30
        assert finding.note.startswith("The cure works")
        assert "BatchNorm channel 7" in finding.causes[0]
        assert finding.causes[-1].startswith("Cure: set the weights of channel 7 to zero and the bias to beta")
        now, forecast = finding.metrics["forecast_db"], finding.metrics["cure_forecast_db"]
        assert isinstance(now, float) and isinstance(forecast, float) and forecast > now + 20


def test_the_float_difference_is_that_of_the_network_with_gamma_zero() -> None:
    """A channel that the running variance calls constant, on data where it varies a little or a lot."""
    facts = measured(network(1e-9))
    assert facts.cures["normal"].candidate.channels == (STILL,)
    for still, holds in ((1e-7, True), (1e-2, False)):
        source = ArraySource("s", {"x": samples(still)})
        (finding,) = tried(facts, source, 6, cured("normal", (STILL,)))
        exact = finding.metrics["cure_float_sqnr_db"]
        assert isinstance(exact, float) and (exact >= EXACT_DB) is holds
        assert finding.note.startswith("The cure works" if holds else "The cure fails")
        feeds = {"x": samples(still)}
        expected = sqnr_db(run(network(1e-9), feeds)[0], run(network(1e-9, still_gamma=0.0), feeds)[0])
        assert exact == pytest.approx(expected, abs=ties.decibels(expected))


def test_running_statistics_that_do_not_match_the_data_are_found_out() -> None:
    """The channel is constant, but not at its running mean, so that its value is not beta."""
    facts = measured(network(1e-9, mean=0.25))
    source = ArraySource("s", {"x": samples(0.0)})
    (finding,) = tried(facts, source, 6, cured("normal", (STILL,)))
    assert finding.note.startswith("The cure fails")


def test_a_cure_that_does_not_fit_the_model_is_refused_with_the_reason() -> None:
    facts = measured(network(1.0))
    source = ArraySource("s", {"x": samples(1.0)})
    asked = [
        (cured("nowhere", (0,)), "there is no such layer"),
        (cured("y", (0,)), "no BatchNormalization folds into the layer"),
        (cured("normal", (CHANNELS,)), f"the layer has {CHANNELS} channels, and not all of those that are named"),
    ]
    findings = tried(facts, source, 2, *(finding for finding, _ in asked))
    for finding, (_, reason) in zip(findings, asked, strict=True):
        assert finding.note == f"The cure was not tried: {reason}." and "cured_sqnr_db" not in finding.metrics
