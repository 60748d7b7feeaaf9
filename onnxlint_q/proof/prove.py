"""The test of each claim, and the end-to-end verdict of each scheme."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from onnxlint_q.analysis.observed.observations import Observations
from onnxlint_q.analysis.observed.observers import DEFAULT_OBSERVER
from onnxlint_q.analysis.schemes import SCHEMES
from onnxlint_q.execute.data.source import Sample, Source
from onnxlint_q.execute.executable import Executable, folded
from onnxlint_q.execute.progress import Progress, silent
from onnxlint_q.execute.variants.output_error import OutputError
from onnxlint_q.execute.variants.quantized import (
    activation_scales,
    can_simulate,
    quantized,
    with_activations,
    with_weight,
)
from onnxlint_q.execute.variants.variant_runs import measure_variants
from onnxlint_q.finding import Claim, Evidence, Finding, Subject
from onnxlint_q.graph.names import ROOT
from onnxlint_q.judge.facts import Facts
from onnxlint_q.proof.cures import cure_tried, cure_variants
from onnxlint_q.proof.sensitivity import SensitivityTable

NO_SIGNAL = (
    "no error could be measured on these samples: every output of the float model is zero, not finite or not a float, "
    "or changes its shape when quantised"
)


@dataclass(frozen=True, eq=False)
class Proof:
    """What the runs showed.

    Attributes:
        findings: with their claims tested.
        schemes: end-to-end error by scheme name.
        weights: error with only one layer's weight quantised, by (scheme name, layer key), for tested layers.
        held_out: samples of the end-to-end figures that ranges were not taken from; 0 if it had to be the same ones.
    """

    findings: tuple[Finding, ...]
    schemes: Mapping[str, OutputError]
    weights: Mapping[tuple[str, str], OutputError]
    held_out: int


def prove(
    facts: Facts,
    observations: Observations,
    findings: Sequence[Finding],
    source: Source,
    count: int,
    progress: Progress = silent,
    observer: str = DEFAULT_OBSERVER,
    table: SensitivityTable | None = None,
) -> Proof:
    """Test every claim, every cure and every scheme on a float model.

    Claims about weights that `table` has measured on the calibration samples are not run again.

    Claims about weights run on the calibration samples; the end-to-end figures on as many others where the source has
    them, because ranges fit the samples that they were taken from. The ranges are those of `observer`, one of
    analysis.observers.

    Raises:
        NotRunnableError: ONNX Runtime cannot load or run the folded model.
        DataError: a sample cannot be read.
    """
    base = folded(facts)
    claims = [finding.claim for finding in findings if finding.claim is not None]
    known = {_key(claim): error for claim in claims if (error := _measured(table, claim)) is not None}
    others = {_key(claim): claim for claim in claims if _key(claim) not in known}
    variants = {key: _variant(base, facts, observations, claim, observer) for key, claim in others.items()}
    runnable = {key: variant for key, variant in variants.items() if variant is not None}
    runnable |= cure_variants(facts, findings)
    samples = partial(_samples, facts, source, observations.samples, 0)
    errors = known | (measure_variants(base, runnable, samples, progress) if runnable else {})
    unseen = partial(_samples, facts, source, count, observations.samples)
    more = next(unseen(), None) is not None
    whole = {
        scheme.name: partial(quantized, base, facts, observations, scheme, observer)
        for scheme in facts.schemes
        if can_simulate(facts.model.opset, scheme)
    }
    schemes = measure_variants(base, whole, unseen if more else samples, progress)
    return Proof(
        findings=tuple(cure_tried(_tested(finding, errors), errors) for finding in findings),
        schemes=schemes,
        weights={
            (claim.scheme, claim.tensor): errors[_key(claim)]
            for claim in claims
            if claim.subject is Subject.WEIGHT and _key(claim) in errors
        },
        held_out=max((error.samples for error in schemes.values()), default=0) if more else 0,
    )


def _samples(facts: Facts, source: Source, count: int, skip: int) -> Iterator[Sample]:
    return source.take(facts.model.inputs, count, skip)


def _measured(table: SensitivityTable | None, claim: Claim) -> OutputError | None:
    if table is None or claim.subject is not Subject.WEIGHT:
        return None
    return table.weights.get((claim.scheme, claim.tensor))


def _key(claim: Claim) -> str:
    return f"{claim.subject}|{claim.scheme}|{claim.tensor}"


def _variant(
    base: Executable, facts: Facts, observations: Observations, claim: Claim, observer: str
) -> Callable[[], Executable] | None:
    scheme = SCHEMES[claim.scheme]
    if claim.subject is Subject.WEIGHT:
        layer = facts.layer_by_output.get(claim.tensor)
        return partial(with_weight, base, facts, [layer], scheme) if layer is not None else None
    scales = activation_scales(facts, scheme, observations, observer)
    scales = tuple(entry for entry in scales if entry.tensor == claim.tensor)
    return partial(with_activations, base, scales) if scales else None


def _tested(finding: Finding, errors: Mapping[str, OutputError]) -> Finding:
    claim = finding.claim
    if claim is None:
        return finding
    error = errors.get(_key(claim))
    if error is None:
        return finding.tested(Evidence.UNTESTED, None, "the tensor is not quantised on its own, so it was not tested")
    if not error.has_signal:
        return finding.tested(Evidence.UNTESTED, None, NO_SIGNAL)
    if error.sqnr_db is None and finding.location.graph != ROOT:
        return finding.tested(Evidence.UNTESTED, None, "the outputs did not change: its branch may not have run")
    if error.sqnr_db is None:
        return finding.tested(Evidence.REFUTED, None, "the outputs did not change at all")
    confirmed = error.sqnr_db < claim.below_db
    return finding.tested(Evidence.CONFIRMED if confirmed else Evidence.REFUTED, error.sqnr_db)
