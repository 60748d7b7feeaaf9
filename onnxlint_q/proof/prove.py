"""The test of each claim, and of each cure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from onnxlint_q.analysis.experiment import Experiment
from onnxlint_q.analysis.schemes import SCHEMES
from onnxlint_q.execute.progress import Progress, silent
from onnxlint_q.execute.variants.experiment_runs import Errors, run_experiments
from onnxlint_q.execute.variants.variant_runs import Samples, run_variants
from onnxlint_q.execute.variants.workbench import Workbench
from onnxlint_q.finding import Claim, Evidence, Finding, Subject
from onnxlint_q.graph.names import ROOT
from onnxlint_q.proof.rewrites import cure_runs, cure_tried

NO_SIGNAL = (
    "no error could be measured on these samples: every float output is zero, not finite or not a float, or changes "
    "its shape when quantised"
)


@dataclass(frozen=True, eq=False)
class Proof:
    """What the runs showed.

    Attributes:
        findings: with their claims tested.
        errors: of the claims, on the samples that ranges were taken from.
    """

    findings: tuple[Finding, ...]
    errors: Errors = field(default_factory=dict)


def experiment_of(claim: Claim) -> Experiment:
    """What a run has to quantise to test the claim."""
    scheme = SCHEMES[claim.scheme]
    if claim.subject is Subject.WEIGHT:
        return Experiment.on_weight(scheme, claim.tensor)
    return Experiment.on_activations(scheme, claim.tensors)


def prove(
    bench: Workbench,
    findings: Sequence[Finding],
    samples: Samples,
    progress: Progress = silent,
    known: Errors | None = None,
) -> Proof:
    """Test every claim and every cure on a float model.

    They run on `samples`, those that ranges were taken from, and not again where `known` has measured them there.

    Raises:
        NotRunnableError: ONNX Runtime cannot load or run the folded model.
        DataError: a sample cannot be read.
    """
    claimed = dict.fromkeys(experiment_of(finding.claim) for finding in findings if finding.claim is not None)
    errors = {experiment: known[experiment] for experiment in claimed if known and experiment in known}
    untested = [experiment for experiment in claimed if experiment not in errors and bench.can_run(experiment)]
    errors |= run_experiments(bench, untested, samples, progress)
    cures = cure_runs(bench.measured, findings)
    tried = run_variants(bench, cures.variants, samples, progress)
    tested = (_tested(finding, errors) for finding in findings)
    return Proof(tuple(cure_tried(finding, cures, tried) for finding in tested), errors)


def _tested(finding: Finding, errors: Errors) -> Finding:
    claim = finding.claim
    if claim is None:
        return finding
    error = errors.get(experiment_of(claim))
    if error is None:
        return finding.tested(Evidence.UNTESTED, None, "not tested: this tensor is not quantised on its own")
    if not error.has_signal:
        return finding.tested(Evidence.UNTESTED, None, NO_SIGNAL)
    left = error.worst_db
    if left is None and finding.location.graph != ROOT:
        return finding.tested(Evidence.UNTESTED, None, "the outputs did not change; its branch may not have run")
    if left is None:
        return finding.tested(Evidence.REFUTED, None, "the outputs did not change at all")
    return finding.tested(Evidence.CONFIRMED if left < claim.below_db else Evidence.REFUTED, left)
