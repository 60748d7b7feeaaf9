"""The use case: one model in, one result out. Read, measure, judge, prove."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from onnxlint_q.analysis.observations import Observations
from onnxlint_q.analysis.schemes import INT8_PER_TENSOR, Scheme
from onnxlint_q.analysis.statistics import LayerFacts
from onnxlint_q.calibration.data import Source
from onnxlint_q.calibration.observe import observe
from onnxlint_q.calibration.progress import Progress, silent
from onnxlint_q.calibration.prove import NO_SIGNAL, Proof, prove
from onnxlint_q.calibration.session import NotRunnableError
from onnxlint_q.config import Config
from onnxlint_q.errors import OnnxlintError
from onnxlint_q.facts import Facts, measure
from onnxlint_q.finding import RULE_CRASHED, Confidence, Evidence, Finding, Location, Severity
from onnxlint_q.graph import Format, read_model
from onnxlint_q.graph.names import local_name
from onnxlint_q.result import Basis, CalibrationSummary, LayerRow, LayerSqnr, ModelResult, SchemeResult
from onnxlint_q.rule import Rule


@dataclass(frozen=True, slots=True)
class Request:
    """What the user asked for.

    Attributes:
        schemes: to judge.
        source: calibration data; None for a static run.
        samples: how many to calibrate on.
    """

    schemes: tuple[Scheme, ...]
    source: Source | None = None
    samples: int = 32


def lint(
    path: Path, rules: Sequence[Rule], config: Config, request: Request, progress: Progress = silent
) -> ModelResult:
    """Lint one model.

    Raises:
        ModelError: the file cannot be read or trusted.
        DataError: the calibration data cannot be read or does not fit this model.
    """
    clock = _Clock()
    with clock.stage("read"):
        model = read_model(path)
    with clock.stage("measure"):
        facts = measure(model, request.schemes)
    observations, reason = None, ""
    if request.source is not None:
        with clock.stage("observe"):
            observations, reason = _observe(facts, request.source, request.samples, progress)
    if observations is not None:
        facts = facts.observed(observations)
    with clock.stage("judge"):
        findings, crashed = judge(facts, rules, config)
    proof = None
    if observations is not None and request.source is not None and facts.is_float:
        with clock.stage("prove"):
            proof, reason = _prove(facts, observations, findings, request, progress)
        if proof is not None:
            findings = _restored(proof.findings, rules, config)
    return _result(
        facts,
        config,
        request,
        findings=findings,
        proof=proof,
        reason=reason,
        seconds=clock.seconds,
        crashed=crashed,
    )


def judge(facts: Facts, rules: Sequence[Rule], config: Config) -> tuple[list[Finding], bool]:
    """All findings of all rules, and whether a rule crashed; a crash is a finding and does not stop the others."""
    findings: list[Finding] = []
    crashed = False
    schemes = {scheme.name for scheme in facts.schemes}
    for rule in rules:
        try:
            found = [_configured(finding, rule, config) for finding in rule.check(facts)]
        except OnnxlintError:
            raise
        except Exception as error:  # a rule may come from anybody
            found = [_crash(rule, error)]
            crashed = True
        findings.extend(f for f in found if f.claim is None or f.claim.scheme in schemes)
    return findings, crashed


def _configured(finding: Finding, rule: Rule, config: Config) -> Finding:
    severity = config.severity_of(rule)
    claim = finding.claim and replace(finding.claim, below_db=config.confirm_below_db)
    return replace(finding, severity=severity or finding.severity, claim=claim)


def _restored(findings: Sequence[Finding], rules: Sequence[Rule], config: Config) -> list[Finding]:
    """Confirmed findings at the severity of their rule, where the rule had lowered it for want of proof."""
    own = {rule.code: config.severity_of(rule) or rule.severity for rule in rules}
    return [
        replace(finding, severity=max(finding.severity, own[finding.code], key=lambda severity: severity.rank))
        if finding.evidence is Evidence.CONFIRMED and finding.code in own
        else finding
        for finding in findings
    ]


def _crash(rule: Rule, error: Exception) -> Finding:
    return Finding(
        code=RULE_CRASHED,
        name="rule-crashed",
        severity=Severity.ERROR,
        confidence=Confidence.HIGH,
        message=f"rule {rule.code} {rule.name} failed: {type(error).__name__}: {error}",
        location=Location(output=rule.code),
        remedy=f"report it with the model, and run with --ignore {rule.code} until it is mended",
    )


def _observe(facts: Facts, source: Source, samples: int, progress: Progress) -> tuple[Observations | None, str]:
    try:
        return observe(facts, source, samples, progress), ""
    except NotRunnableError as error:
        return None, f"ONNX Runtime cannot run the model: {error}"


def _prove(
    facts: Facts,
    observations: Observations,
    findings: Sequence[Finding],
    request: Request,
    progress: Progress,
) -> tuple[Proof | None, str]:
    assert request.source is not None
    try:
        return prove(facts, observations, findings, request.source, request.samples, progress), ""
    except NotRunnableError as error:
        return None, f"ONNX Runtime cannot run the folded model: {error}"


def _result(
    facts: Facts,
    config: Config,
    request: Request,
    *,
    findings: Sequence[Finding],
    proof: Proof | None,
    reason: str,
    seconds: Mapping[str, float],
    crashed: bool,
) -> ModelResult:
    return ModelResult(
        path=facts.model.name,
        sha256=facts.model.sha256,
        opset=facts.model.opset,
        format=facts.format.value,
        schemes=tuple(_scheme_result(facts, config, scheme, proof) for scheme in request.schemes)
        if facts.is_float
        else (),
        layers=tuple(_row(facts, layer, proof) for layer in facts.layers),
        findings=tuple(sorted(findings, key=lambda finding: _importance(facts, finding))),
        calibration=_calibration(facts, request, proof),
        untested_because=reason,
        notes=tuple(_notes(facts)),
        seconds=dict(seconds),
        levels=config.levels,
        rule_crashed=crashed,
    )


def _importance(facts: Facts, finding: Finding) -> tuple[bool, int, float, str, str]:
    """Not refuted first, then severity, then the damage measured or forecast, then a stable order."""
    damage = finding.measured_db
    if damage is None and finding.claim is not None:
        known = facts.forecasts.get(finding.claim.scheme)
        layer = known.layers.get(finding.claim.tensor) if known else None
        damage = layer.weight_sqnr_db if layer else None
    where = finding.location
    return (
        not finding.counts,
        -finding.severity.rank,
        float("inf") if damage is None else damage,
        finding.code,
        f"{where.graph}/{where.output}",
    )


def _scheme_result(facts: Facts, config: Config, scheme: Scheme, proof: Proof | None) -> SchemeResult:
    error = proof.schemes.get(scheme.name) if proof is not None else None
    if error is not None and error.has_signal:
        verdict = config.levels.verdict(error.sqnr_db, error.agreement)
        note = "" if error.sqnr_db is not None else "the outputs are identical"
        return SchemeResult(scheme.name, verdict, error.sqnr_db, Basis.MEASURED, error.agreement, note)
    unmeasured = [NO_SIGNAL] if error is not None else []
    forecast = facts.forecasts.get(scheme.name)
    sqnr_db = forecast.output_sqnr_db if forecast is not None else None
    if forecast is None or sqnr_db is None:
        note = "; ".join([*unmeasured, "no layer of this model could be forecast"])
        return SchemeResult(scheme.name, None, None, Basis.FORECAST, note=note)
    weaker = [f"weaker: it passes through {_counted(forecast.unknown)}"] if forecast.unknown else []
    note = "; ".join([*unmeasured, *weaker])
    return SchemeResult(scheme.name, config.levels.verdict(sqnr_db), sqnr_db, Basis.FORECAST, note=note)


def _row(facts: Facts, layer: LayerFacts, proof: Proof | None) -> LayerRow:
    source, weight = layer.folded.layer, layer.weight
    seen = facts.observations.tensors.get(layer.output) if facts.observations else None
    forecast = {
        name: LayerSqnr(entry.weight_sqnr_db, entry.sqnr_db)
        for name, scheme in facts.forecasts.items()
        if (entry := scheme.layers.get(layer.output)) is not None
    }
    measured = {
        scheme: LayerSqnr(error.sqnr_db)
        for (scheme, output), error in (proof.weights.items() if proof else ())
        if output == layer.output
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
        measured=measured or None,
    )


def _calibration(facts: Facts, request: Request, proof: Proof | None) -> CalibrationSummary | None:
    seen = facts.observations
    if seen is None or request.source is None:
        return None
    held_out = proof.held_out if proof is not None else 0
    return CalibrationSummary(seen.source, request.source.preprocessing, seen.samples, held_out, seen.synthetic)


def _notes(facts: Facts) -> Iterator[str]:
    if facts.format is not Format.FLOAT:
        yield f"the model is quantised already ({facts.format}): its own parameters are checked, schemes are not judged"
    if facts.observations is not None and facts.observations.non_finite:
        bad = facts.observations.non_finite
        names = ", ".join(map(repr, bad[:4])) + (", …" if len(bad) > 4 else "")
        yield f"NaN or infinity while calibrating in {len(bad)} tensor{'s' * (len(bad) > 1)}: {names}"


def _counted(names: Sequence[str]) -> str:
    return ", ".join(f"{name} ({count})" if count > 1 else name for name, count in Counter(names).items())


@dataclass
class _Clock:
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = time.perf_counter() - start
