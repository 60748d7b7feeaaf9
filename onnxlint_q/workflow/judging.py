"""All rules on one model: what they find, at the configured severities, one finding a fault."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from onnxlint_q.errors import OnnxlintError
from onnxlint_q.finding import Confidence, Evidence, Finding
from onnxlint_q.judge.config import Config
from onnxlint_q.judge.facts import Facts
from onnxlint_q.judge.own_findings import OWN_FINDINGS, RULE_CRASHED
from onnxlint_q.judge.rule import Rule
from onnxlint_q.judge.supersede import without_superseded
from onnxlint_q.workflow.overheard import Overhear, given_way, silences_of, trace_of, unheard
from onnxlint_q.workflow.results import RuleText

# What ONNX Runtime's quantiser writes as producer, and files that do not say.
_OF_ONNXRUNTIME = frozenset({"onnx.quantize", ""})
_QUANTISER = "quantize_static("
_LONGEST = 40


def judge(facts: Facts, rules: Sequence[Rule], config: Config, overhear: Overhear = unheard) -> list[Finding]:
    """The findings of all rules, one a fault; a rule that crashes is one of them and does not stop the others.

    What a rule about a pair supersedes is not settled here, but with the comparison.

    Args:
        facts: of one file.
        rules: to ask.
        config: of severities and claims.
        overhear: told, for who debugs a rule, why it did not fire where it looked.
    """
    findings: list[Finding] = []
    schemes = {scheme.name for scheme in facts.schemes}
    for rule in rules:
        try:
            told = tuple(rule.told(facts))
        except OnnxlintError:
            raise
        except Exception as error:  # a rule may come from anybody
            overhear(trace_of(f"{rule.code} {rule.name}", error))
            findings.append(_crash(rule, error))
            continue
        found = [_configured(finding, rule, config, facts) for finding in told if isinstance(finding, Finding)]
        kept = [f for f in found if f.claim is None or f.claim.scheme in schemes]
        findings.extend(kept)
        overhear(silences_of(rule, facts, told, kept))
    about_files = [rule for rule in rules if not rule.needs_comparison]
    alone = list(without_superseded(findings, about_files, facts.quantized))
    overhear(given_way(findings, alone))
    return [_for_its_tool(finding, facts) for finding in alone]


def _for_its_tool(finding: Finding, facts: Facts) -> Finding:
    """With the word that a call of ONNX Runtime's quantiser is none of the tool that made a quantised file."""
    maker = facts.model.proto.producer_name[:_LONGEST]
    if facts.is_float or maker in _OF_ONNXRUNTIME or _QUANTISER not in finding.snippet:
        return finding
    said = f"The call is that of ONNX Runtime's quantiser; {maker!r} made the file."
    return replace(finding, note=f"{finding.note} {said}".strip())


def _configured(finding: Finding, rule: Rule, config: Config, facts: Facts) -> Finding:
    """With the configured severity, and with the level that decides on its claim.

    Under a scheme that does not survive that is where the tensor makes a tenth of the loss, if that is higher: class
    scores may change while much more than the configured level is left.
    """
    severity = config.severity_of(rule)
    costs = facts.costs.get(finding.claim.scheme) if finding.claim is not None else None
    level = max(config.confirm_below_db, costs.matters_db if costs is not None else -math.inf)
    claim = finding.claim and replace(finding.claim, below_db=level)
    return replace(finding, severity=severity or finding.severity, claim=claim)


def restored(findings: Sequence[Finding], rules: Sequence[Rule], config: Config) -> list[Finding]:
    """Confirmed findings at the severity of their rule, where the rule had lowered it for want of proof."""
    own = {rule.code: config.severity_of(rule) or rule.severity for rule in rules}
    return [
        replace(finding, severity=max(finding.severity, own[finding.code], key=lambda severity: severity.rank))
        if finding.evidence is Evidence.CONFIRMED and finding.claim is not None and finding.code in own
        else finding
        for finding in findings
    ]


def documented(findings: Iterable[Finding], rules: Sequence[Rule], config: Config) -> Iterator[RuleText]:
    """What is documented of the rules, and of the linter's own kinds, that these findings come from."""
    codes = {finding.code for finding in findings}
    for rule in rules:
        if rule.code in codes:
            severity = config.severity_of(rule) or rule.severity
            yield RuleText(rule.code, rule.name, severity, rule.confidence, inspect.getdoc(rule) or rule.name)
    for kind in OWN_FINDINGS:
        if kind.code in codes:
            text = f"{kind.summary}\n\n{kind.text}"
            yield RuleText(kind.code, kind.name, kind.severity, Confidence.HIGH, text, about_run=True)


def _crash(rule: Rule, error: Exception) -> Finding:
    return RULE_CRASHED.finding(
        rule.code,
        f"Rule {rule.code} {rule.name} failed: {type(error).__name__}: {error}",
        f"Run with --ignore {rule.code} to go on without this rule. Report the failure with the model.",
    )
