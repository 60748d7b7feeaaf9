"""From everything that is known about a model to the values that a report reads."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from onnxlint_q.analysis.observed.observers import DEFAULT_OBSERVER
from onnxlint_q.analysis.schemes import INT8_PER_TENSOR, Scheme
from onnxlint_q.analysis.statistics import LayerFacts
from onnxlint_q.execute.variants.output_error import OutputError
from onnxlint_q.finding import Finding
from onnxlint_q.graph import Format
from onnxlint_q.graph.names import local_name
from onnxlint_q.judge.config import Config
from onnxlint_q.judge.facts import Facts
from onnxlint_q.proof.probe import Probe
from onnxlint_q.proof.prove import NO_SIGNAL, Proof
from onnxlint_q.proof.sensitivity import SensitivityTable
from onnxlint_q.workflow.results import (
    Basis,
    CalibrationSummary,
    LayerRow,
    LayerSqnr,
    ModelResult,
    SchemeResult,
    Trials,
)

CODES_ONLY = "the layers compute with integer codes whose scales are not in the file"
NOTHING_TO_QUANTISE = "nothing to quantise: no layer with a constant weight and no activation that gets a scale"


@dataclass(frozen=True, eq=False)
class Outcome:
    """What the stages after measuring gave.

    Attributes:
        findings: of all rules, tested where they could be.
        crashed: a rule failed.
        preprocessing: what was done to each calibration sample, in words.
        proof, probe, table: None where that stage did not run.
        untested_because: why nothing ran although it was asked for; empty otherwise.
        notes: what could not be done, in words.
        seconds: wall time by stage.
        trials: None unless they were asked for.
        observer: how ranges were taken from the calibration samples.
    """

    findings: Sequence[Finding]
    crashed: bool
    preprocessing: str = ""
    proof: Proof | None = None
    probe: Probe | None = None
    table: SensitivityTable | None = None
    untested_because: str = ""
    notes: tuple[str, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    trials: Trials | None = None
    observer: str = DEFAULT_OBSERVER


def assemble(facts: Facts, config: Config, outcome: Outcome) -> ModelResult:
    """The result of one model, findings most important first."""
    schemes = (_scheme_result(facts, config, scheme, outcome) for scheme in facts.schemes)
    return ModelResult(
        path=facts.model.name,
        sha256=facts.model.sha256,
        opset=facts.model.opset,
        format=facts.format.value,
        schemes=tuple(schemes) if facts.is_float or facts.coded else (),
        layers=tuple(_row(facts, layer, outcome) for layer in facts.layers),
        findings=tuple(sorted(outcome.findings, key=lambda finding: _importance(facts, outcome, finding))),
        calibration=_calibration(facts, outcome),
        untested_because=outcome.untested_because,
        notes=(*_notes(facts), *outcome.notes),
        seconds=dict(outcome.seconds),
        levels=config.levels,
        rule_crashed=outcome.crashed,
        trials=outcome.trials,
    )


def _importance(facts: Facts, outcome: Outcome, finding: Finding) -> tuple[bool, int, float, str, str]:
    """Not refuted first, then severity, then the damage measured, probed or forecast, then a stable order."""
    damage = finding.measured_db
    claim = finding.claim
    if damage is None and claim is not None and outcome.probe is not None:
        probed = outcome.probe.weights.get((claim.scheme, claim.tensor))
        damage = probed.sqnr_db if probed is not None else None
    if damage is None and claim is not None:
        known = facts.forecasts.get(claim.scheme)
        layer = known.layers.get(claim.tensor) if known else None
        damage = layer.weight_sqnr_db if layer else None
    where = finding.location
    return (
        not finding.counts,
        -finding.severity.rank,
        float("inf") if damage is None else damage,
        finding.code,
        f"{where.graph}/{where.output}",
    )


def _scheme_result(facts: Facts, config: Config, scheme: Scheme, outcome: Outcome) -> SchemeResult:
    """The strongest basis there is: measured on data, else probed, else forecast."""
    if facts.coded:
        return SchemeResult(scheme.name, None, None, Basis.FORECAST, note=CODES_ONLY)
    if not facts.is_quantisable:
        return SchemeResult(scheme.name, None, None, Basis.FORECAST, note=NOTHING_TO_QUANTISE)
    unmeasured: list[str] = []
    stages = ((Basis.MEASURED, outcome.proof), (Basis.PROBE, outcome.probe))
    for basis, stage in stages:
        error = stage.schemes.get(scheme.name) if stage is not None else None
        if error is not None and error.has_signal:
            note = "" if error.sqnr_db is not None else "the outputs are identical"
            # On made-up inputs the largest class is chance, and so is whether it stays the largest.
            counts = basis is Basis.MEASURED and facts.is_classifier
            agreement = error.agreement if counts else None
            verdict = config.levels.verdict(error.sqnr_db, agreement)
            return SchemeResult(scheme.name, verdict, error.sqnr_db, basis, agreement, note)
        unmeasured += [NO_SIGNAL] if error is not None else []
    forecast = facts.forecasts.get(scheme.name)
    sqnr_db = forecast.output_sqnr_db if forecast is not None else None
    if forecast is None or sqnr_db is None:
        note = "; ".join([*unmeasured, "no layer of this model could be forecast"])
        return SchemeResult(scheme.name, None, None, Basis.FORECAST, note=note)
    weaker = [f"weaker: it passes through {_counted(forecast.unknown)}"] if forecast.unknown else []
    note = "; ".join([*unmeasured, *weaker])
    return SchemeResult(
        scheme.name,
        config.levels.verdict(sqnr_db, forecast.agreement),
        sqnr_db,
        Basis.FORECAST,
        forecast.agreement,
        note,
        forecast.uncertainty_db,
        forecast.rest_share,
    )


def _row(facts: Facts, layer: LayerFacts, outcome: Outcome) -> LayerRow:
    source, weight = layer.folded.layer, layer.weight
    seen = facts.stored(layer)
    forecast = {
        name: LayerSqnr(entry.weight_sqnr_db, entry.sqnr_db, entry.weight_share, entry.activation_share)
        for name, scheme in facts.forecasts.items()
        if (entry := scheme.layers.get(layer.output)) is not None
    }
    return LayerRow(
        node=source.node.name,
        output=local_name(layer.output, source.node.graph),
        op_type=source.op_type,
        group=source.group,
        depthwise=source.depthwise,
        range=weight.range,
        average_precision=weight.average_precision,
        channel_sqnr_db=weight.mean_channel_sqnr_db(INT8_PER_TENSOR.name),
        activation_low=seen.low if seen else None,
        activation_high=seen.high if seen else None,
        forecast=forecast or None,
        probe=_of_layer(facts, layer, outcome.probe.weights if outcome.probe else {}),
        measured=_measured(facts, layer, outcome),
    )


def _measured(facts: Facts, layer: LayerFacts, outcome: Outcome) -> dict[str, LayerSqnr] | None:
    """The row of the sensitivity table, or what the claims about this layer needed."""
    table = outcome.table
    if table is None:
        return _of_layer(facts, layer, outcome.proof.weights if outcome.proof else {})
    return {
        scheme.name: LayerSqnr(
            weight_sqnr_db=_figure(table.weights.get((scheme.name, layer.output))),
            sqnr_db=_figure(table.both.get((scheme.name, layer.output))),
            activation_sqnr_db=_figure(table.activations.get((scheme.name, layer.output))),
        )
        for scheme in facts.schemes
    }


def _figure(error: OutputError | None) -> float | None:
    """SQNR in dB, infinite where the outputs are identical."""
    if error is None or not error.has_signal:
        return None
    return error.sqnr_db if error.sqnr_db is not None else math.inf


def _of_layer(
    facts: Facts, layer: LayerFacts, weights: Mapping[tuple[str, str], OutputError]
) -> dict[str, LayerSqnr] | None:
    """The figures of one layer by scheme, None where there are none."""
    errors = {scheme.name: weights.get((scheme.name, layer.output)) for scheme in facts.schemes}
    return {name: LayerSqnr(_figure(error)) for name, error in errors.items() if error is not None} or None


def _calibration(facts: Facts, outcome: Outcome) -> CalibrationSummary | None:
    seen = facts.observations
    if seen is None:
        return None
    held_out = outcome.proof.held_out if outcome.proof is not None else 0
    return CalibrationSummary(
        seen.source, outcome.preprocessing, seen.samples, held_out, seen.synthetic, outcome.observer
    )


def _notes(facts: Facts) -> Iterator[str]:
    if facts.coded:
        yield (
            f"the model is an integer graph: its {facts.coded} layers compute with codes whose scales are not in the "
            "file, so they are not listed and schemes are not judged; lint the float model that it was made from"
        )
    elif facts.format is not Format.FLOAT:
        yield f"the model is quantised already ({facts.format}): its own parameters are checked, schemes are not judged"
    if facts.observations is not None and facts.observations.non_finite:
        bad = facts.observations.non_finite
        names = ", ".join(map(repr, bad[:4])) + (", …" if len(bad) > 4 else "")
        yield f"NaN or infinity while calibrating in {len(bad)} tensor{'s' * (len(bad) > 1)}: {names}"


def _counted(names: Sequence[str]) -> str:
    return ", ".join(f"{name} ({count})" if count > 1 else name for name, count in Counter(names).items())
