"""The use case: one model in, one result out. Read, measure, judge, prove."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from onnxlint_q.analysis.observed.observations import Observations
from onnxlint_q.analysis.observed.observers import DEFAULT_OBSERVER
from onnxlint_q.analysis.schemes import Scheme
from onnxlint_q.errors import DataError, OnnxlintError
from onnxlint_q.execute.data.inspection import inspect
from onnxlint_q.execute.data.source import Source
from onnxlint_q.execute.executable import folded
from onnxlint_q.execute.progress import Progress, silent
from onnxlint_q.execute.session import NotRunnableError
from onnxlint_q.execute.stream.observe import observe
from onnxlint_q.finding import RULE_CRASHED, Confidence, Evidence, Finding, Location, Severity
from onnxlint_q.graph import read_model
from onnxlint_q.judge.config import Config
from onnxlint_q.judge.facts import Facts, facts_of
from onnxlint_q.judge.rule import Rule
from onnxlint_q.proof.probe import Probe, probe
from onnxlint_q.proof.prove import Proof, prove
from onnxlint_q.proof.sensitivity import SensitivityTable, measure_sensitivity
from onnxlint_q.proof.trials import run_trials
from onnxlint_q.workflow.assemble import Outcome, assemble
from onnxlint_q.workflow.results import ModelResult, Trials


@dataclass(frozen=True, slots=True)
class Request:
    """What the user asked for.

    Attributes:
        schemes: to judge.
        source: calibration data; None for a static run.
        samples: how many to calibrate on.
        probe: run the model on synthetic inputs.
        observer: how ranges are taken from the data, one of analysis.observers.
        trials: on how many disjoint subsets of the data to calibrate again; 0 for none.
        measure_layers: quantise every layer alone on the calibration data, weight, result and both.
    """

    schemes: tuple[Scheme, ...]
    source: Source | None = None
    samples: int = 32
    probe: bool = False
    observer: str = DEFAULT_OBSERVER
    trials: int = 0
    measure_layers: bool = False


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
        facts = facts_of(model, request.schemes)
    observations, reason = None, ""
    probed: Probe | None = None
    notes: tuple[str, ...] = ()
    if request.probe:
        with clock.stage("probe"):
            probed, notes = _probe(facts, progress)
    if request.source is not None:
        with clock.stage("inspect"):
            facts = facts.inspected(inspect(facts, request.source, request.samples, progress))
        with clock.stage("observe"):
            observations, reason = _observe(facts, request.source, request.samples, progress)
    if observations is not None:
        facts = facts.observed(observations)
    with clock.stage("judge"):
        findings, crashed = judge(facts, rules, config)
    proof, table = None, None
    if observations is not None and request.source is not None and facts.is_float:
        if request.measure_layers:
            with clock.stage("layers"):
                table, reason = _measure_layers(facts, observations, request.source, request.observer, progress)
        with clock.stage("prove"):
            proof, reason = _prove(facts, observations, findings, request, progress, table)
        if proof is not None:
            findings = _restored(proof.findings, rules, config)
    trials = None
    if proof is not None and request.trials and request.source is not None:
        with clock.stage("trials"):
            trials, reasons = _trials(facts, request.source, request, progress)
        notes = (*notes, *reasons)
    how = request.source.preprocessing if request.source is not None else ""
    outcome = Outcome(
        findings, crashed, how, proof, probed, table, reason, notes, clock.seconds, trials, request.observer
    )
    return assemble(facts, config, outcome)


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
        if finding.evidence is Evidence.CONFIRMED and finding.claim is not None and finding.code in own
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


def _probe(facts: Facts, progress: Progress) -> tuple[Probe | None, tuple[str, ...]]:
    """The probe, and a note why there is none or what weakens it."""
    if not facts.is_float:
        return None, ("nothing was probed: the model is quantised already",)
    try:
        probed = probe(facts, progress)
        return probed, (f"probe: {probed.note}",) if probed.note else ()
    except (NotRunnableError, DataError) as error:
        return None, (f"the probe gave nothing, verdicts rest on what else there is: {error}",)


def _observe(facts: Facts, source: Source, samples: int, progress: Progress) -> tuple[Observations | None, str]:
    try:
        return observe(facts, source, samples, progress), ""
    except NotRunnableError as error:
        return None, f"ONNX Runtime cannot run the model: {error}"


def _measure_layers(
    facts: Facts, observations: Observations, source: Source, observer: str, progress: Progress
) -> tuple[SensitivityTable | None, str]:
    samples = partial(source.take, facts.model.inputs, observations.samples)
    try:
        return measure_sensitivity(facts, folded(facts), samples, observations, observer, progress), ""
    except NotRunnableError as error:
        return None, f"ONNX Runtime cannot run the folded model: {error}"


def _prove(
    facts: Facts,
    observations: Observations,
    findings: Sequence[Finding],
    request: Request,
    progress: Progress,
    table: SensitivityTable | None,
) -> tuple[Proof | None, str]:
    assert request.source is not None
    try:
        proof = prove(facts, observations, findings, request.source, request.samples, progress, request.observer, table)
        return proof, ""
    except NotRunnableError as error:
        return None, f"ONNX Runtime cannot run the folded model: {error}"


def _trials(
    facts: Facts, source: Source, request: Request, progress: Progress
) -> tuple[Trials | None, tuple[str, ...]]:
    """The trials, and a note why there are none."""
    try:
        return run_trials(facts, source, request.samples, request.trials, request.observer, progress), ()
    except NotRunnableError as error:
        return None, (f"there are no trials: {error}",)


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
