"""One fault is one finding: what several rules say of one tensor is left to the rule that knows best."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from onnxlint_q.analysis.schemes import SCHEMES
from onnxlint_q.finding import Confidence, Finding
from onnxlint_q.graph import QuantizedTensor
from onnxlint_q.graph.names import tensor_key
from onnxlint_q.judge.rule import Rule


def without_superseded(
    findings: Sequence[Finding], rules: Iterable[Rule], quantized: Iterable[QuantizedTensor]
) -> Iterator[Finding]:
    """The findings that do not give way to another one of them about the same tensor.

    One that others give way to has their codes in `also`, and their figures among its own. Findings that make claims
    are about the same only if one experiment decides on both.

    Only findings that are there and count supersede, so a rule that does not run hides nothing.

    Args:
        findings: of one file.
        rules: those that ran.
        quantized: the pairs of the file; a tensor and its codes are one place.
    """
    superseding: dict[str, set[str]] = {}
    for rule in rules:
        for code in rule.supersedes:
            superseding.setdefault(code, set()).add(rule.code)
    tensors = {pair.codes: pair.tensor for pair in quantized}
    told: dict[Hashable, list[Finding]] = {}
    for finding in findings:
        if finding.counts:
            told.setdefault(_matter(finding, tensors), []).append(finding)

    def heirs(finding: Finding) -> list[Finding]:
        stronger = superseding.get(finding.code, set())
        others = told.get(_matter(finding, tensors), ())
        return [other for other in others if other.code in stronger and gives_way(finding, other)]

    left: dict[int, list[Finding]] = {}
    for finding in findings:
        for heir in heirs(finding):
            left.setdefault(id(heir), []).append(finding)
    for finding in findings:
        if not heirs(finding):
            yield _with_facts_of(left.get(id(finding), ()), finding)


def gives_way(finding: Finding, other: Finding) -> bool:
    """Whether a finding leaves its fault to one that supersedes it: a suspicion always, a sure one if as severe."""
    return finding.confidence is not Confidence.HIGH or other.severity.rank >= finding.severity.rank


def _with_facts_of(others: Sequence[Finding], finding: Finding) -> Finding:
    """A finding with the codes and the figures of those that left their fault to it; its own figures stay."""
    theirs = {key: value for other in others for key, value in other.metrics.items()}
    also = tuple(dict.fromkeys(other.code for other in others))
    return replace(finding, metrics={**theirs, **finding.metrics}, also=also) if also else finding


def _matter(finding: Finding, tensors: Mapping[str, str]) -> Hashable:
    """What a finding is about: what its claim quantises, else the tensor where it is."""
    claim = finding.claim
    if claim is not None:
        return claim.subject, claim.tensor, SCHEMES[claim.scheme].treatment(claim.subject)
    key = tensor_key(finding.location.output, finding.location.graph)
    return tensors.get(key, key)
