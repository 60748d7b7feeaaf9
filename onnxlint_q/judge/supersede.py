"""One fault is one finding: what several rules say of one tensor is left to the rule that knows best."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from onnxlint_q.analysis.schemes import SCHEMES
from onnxlint_q.finding import Confidence, Finding, Subject
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
            for matter in _matters(finding, tensors):
                told.setdefault(matter, []).append(finding)

    def heirs(finding: Finding) -> list[Finding]:
        stronger = superseding.get(finding.code, set())
        # One about several tensors gives way to none but one about all of them.
        sides = [
            [other for wider in dict.fromkeys(_wider(matter)) for other in told.get(wider, ())]
            for matter in _matters(finding, tensors)
        ]
        others = [other for other in sides[0] if all(other in side for side in sides)]
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


@dataclass(frozen=True, slots=True)
class _Matter:
    """What a claim quantises, as far as it decides on others.

    Attributes:
        subject, tensor: of the claim.
        form: of the codes and, of weights, who shares a scale; None for any.
        source: where ranges of activations come from; None for any.
    """

    subject: Subject
    tensor: str
    form: Hashable
    source: Hashable


def _matters(finding: Finding, tensors: Mapping[str, str]) -> tuple[Hashable, ...]:
    """What a finding is about: what its claim quantises, else the tensor where it is."""
    claim = finding.claim
    if claim is None:
        key = tensor_key(finding.location.output, finding.location.graph)
        return (tensors.get(key, key),)
    scheme = SCHEMES[claim.scheme]
    if claim.subject is Subject.WEIGHT:
        return tuple(_Matter(claim.subject, tensor, scheme.treatment(claim.subject), None) for tensor in claim.tensors)
    form = None if claim.all_formats else scheme.activations
    source = None if claim.all_ranges else scheme.quantizer
    return tuple(_Matter(claim.subject, tensor, form, source) for tensor in claim.tensors)


def _wider(matter: Hashable) -> Iterator[Hashable]:
    """It, and those that it is one of."""
    yield matter
    if isinstance(matter, _Matter):
        yield replace(matter, form=None)
        yield replace(matter, source=None)
