"""The test of each claim, and of each cure."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from onnxlint_q.analysis.experiment import Experiment
from onnxlint_q.analysis.schemes import SCHEMES
from onnxlint_q.execute.progress import Progress, silent
from onnxlint_q.execute.variants.experiment_runs import Errors, run_experiments
from onnxlint_q.execute.variants.output_error import OutputError
from onnxlint_q.execute.variants.variant_runs import Samples, run_variants
from onnxlint_q.execute.variants.workbench import Workbench
from onnxlint_q.finding import Claim, Evidence, Finding, Subject
from onnxlint_q.graph.names import ROOT
from onnxlint_q.proof.budget.clear import FEWEST, is_clear, looks
from onnxlint_q.proof.budget.spending import NO_BUDGET, OVER_BUDGET, Spending, first
from onnxlint_q.proof.rewrites import cure_runs, cure_tried

CLAIMS_SHARE = 0.35
"""Of what is left of the budget, what claims may take."""
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
        open: how many claims the budget left without an answer.
    """

    findings: tuple[Finding, ...]
    errors: Errors = field(default_factory=dict)
    open: int = 0


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
    spending: Spending = NO_BUDGET,
    count: int | None = None,
) -> Proof:
    """Test every claim and every cure on a float model.

    They run on `samples`, those that ranges were taken from, and not again where `known` has measured them there.
    Within a budget, a claim stops once some of the samples tell its answer, see `clear.py`.

    Args:
        bench: the network, with the ranges of its activations.
        findings: of all rules.
        samples: a fresh pass each time it is called.
        progress: told how many runs are done.
        known: what was measured already, on some or all of these samples.
        spending: what may be taken.
        count: how many samples there are; None where all that is known was measured on all of them.

    Raises:
        NotRunnableError: ONNX Runtime cannot load or run the folded model.
        DataError: a sample cannot be read.
    """
    early = count is not None and spending.is_bounded
    allowance = spending.part(CLAIMS_SHARE, fewest=FEWEST, samples=count)
    levels = _levels(findings)
    errors = {experiment: known[experiment] for experiment in levels if known and experiment in known}
    able = [experiment for experiment in levels if experiment in errors or bench.can_run(experiment)]

    def unanswered() -> list[Experiment]:
        return [one for one in able if one not in errors or not _is_answered(errors[one], levels[one], count, early)]

    for look in looks(count) if early and count is not None else (count,):
        wanted = [one for one in unanswered() if one not in errors or look is None or errors[one].samples < look]
        own = allowance.part(allowance.left, look)
        for one, error in run_experiments(bench, wanted, partial(first, samples, look), progress, own).items():
            if one not in errors or error.samples > errors[one].samples:
                errors[one] = error
    unclear = frozenset(unanswered())
    cures = cure_runs(bench.measured, findings)
    few = None if count is None else spending.few(count)
    own = spending.part(CLAIMS_SHARE, samples=few)
    if cures.variants:
        progress("trying cures", 0, 0)
    tried = run_variants(bench, cures.variants, partial(first, samples, few), progress, own)
    tested = (_tested(finding, errors, unclear, count) for finding in findings)
    return Proof(tuple(cure_tried(finding, cures, tried) for finding in tested), errors, len(unclear))


def _levels(findings: Sequence[Finding]) -> Mapping[Experiment, frozenset[float]]:
    """The levels that decide on claims, by what a run has to quantise."""
    found: dict[Experiment, set[float]] = {}
    for claim in (finding.claim for finding in findings if finding.claim is not None):
        found.setdefault(experiment_of(claim), set()).add(claim.below_db)
    return {experiment: frozenset(levels) for experiment, levels in found.items()}


def _is_answered(error: OutputError, levels: Iterable[float], count: int | None, early: bool) -> bool:
    """Whether a claim needs no more samples: it ran on all of them, or some of them are clear."""
    return count is None or error.samples >= count or (early and all(is_clear(error, level) for level in levels))


def _tested(finding: Finding, errors: Errors, unclear: Container[Experiment], count: int | None) -> Finding:
    claim = finding.claim
    if claim is None:
        return finding
    experiment = experiment_of(claim)
    error = errors.get(experiment)
    if experiment in unclear:
        return finding.tested(Evidence.UNTESTED, None, _unanswered(error, count))
    if error is None:
        return finding.tested(Evidence.UNTESTED, None, "not tested: this tensor is not quantised on its own")
    return _answered(finding, claim, error).on_samples(error.samples if count is not None else None, count)


def _unanswered(error: OutputError | None, count: int | None) -> str:
    """Why the budget left a claim open."""
    if error is None or error.worst_db is None:
        return f"untested ({OVER_BUDGET})"
    return f"untested ({OVER_BUDGET}): {error.worst_db:.1f} dB on {error.samples} of {count} samples decides nothing"


def _answered(finding: Finding, claim: Claim, error: OutputError) -> Finding:
    if not error.has_signal:
        return finding.tested(Evidence.UNTESTED, None, NO_SIGNAL)
    left = error.worst_db
    if left is None and finding.location.graph != ROOT:
        return finding.tested(Evidence.UNTESTED, None, "the outputs did not change; its branch may not have run")
    if left is None:
        return finding.tested(Evidence.REFUTED, None, "the outputs did not change at all")
    return finding.tested(Evidence.CONFIRMED if left < claim.below_db else Evidence.REFUTED, left)
