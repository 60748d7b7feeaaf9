"""The test of each cure: the rewritten float model beside the float model, and the mended weight quantised."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial

from onnxlint_q.analysis.experiment import UNCHANGED, Experiment
from onnxlint_q.analysis.measured import Measured, measure
from onnxlint_q.analysis.schemes import SCHEMES
from onnxlint_q.execute.executable import Executable
from onnxlint_q.execute.variants.output_error import OutputError
from onnxlint_q.execute.variants.workbench import Workbench, workbench
from onnxlint_q.finding import CONFIRM_BELOW_DB, Cure, Finding
from onnxlint_q.judge.verdict import GAIN_DB
from onnxlint_q.proof.budget.spending import OVER_BUDGET
from onnxlint_q.rewrite.candidate import Refusal
from onnxlint_q.rewrite.constants.constant_channels import ConstantChannels, apply, candidate

# A thousandth of the output's amplitude: a twentieth of the noise of an 8-bit output of full range.
EXACT_DB = 60.0

Run = tuple[ConstantChannels, Experiment]


@dataclass(frozen=True, eq=False)
class CureRuns:
    """What has to run to test the cures of some findings.

    Attributes:
        candidates: the rewrite of each cure, or why there is none.
        variants: rewritten models, by rewrite and what is quantised in it.
    """

    candidates: Mapping[Cure, ConstantChannels | Refusal]
    variants: Mapping[Run, Callable[[], Executable]]


def cure_runs(measured: Measured, findings: Sequence[Finding]) -> CureRuns:
    """Two variants a cure: in float, and with the mended weight alone quantised."""
    cures = {finding.cure for finding in findings if finding.cure is not None}
    ordered = sorted(cures, key=lambda cure: (cure.layer, cure.channels, cure.scheme))
    candidates = {cure: candidate(measured, cure.layer, cure.channels) for cure in ordered}

    @lru_cache(maxsize=1)  # the variants of one rewrite follow each other
    def rewritten(wanted: ConstantChannels) -> Workbench:
        return workbench(measure(apply(measured.model, [wanted]), ()))

    def build(wanted: ConstantChannels, experiment: Experiment) -> Executable:
        return rewritten(wanted).executable(experiment)

    variants = {
        (found, experiment): partial(build, found, experiment)
        for cure, found in candidates.items()
        if not isinstance(found, Refusal)
        for experiment in (UNCHANGED, _quantised(cure))
    }
    return CureRuns(candidates, variants)


def cure_tried(finding: Finding, runs: CureRuns, errors: Mapping[Run, OutputError]) -> Finding:
    """The finding with what its cure did, where it was tried and the outputs can be compared."""
    if finding.cure is None:
        return finding
    found = runs.candidates[finding.cure]
    if isinstance(found, Refusal):
        return replace(finding, note=f"{finding.note} The cure was not tried: {found.reason}.".strip())
    exact, quantised = errors.get((found, UNCHANGED)), errors.get((found, _quantised(finding.cure)))
    if exact is None or quantised is None:
        return replace(finding, note=f"{finding.note} The cure was not tried ({OVER_BUDGET}).".strip())
    if not exact.has_signal:
        return finding
    if exact.sqnr_db is None and quantised.sqnr_db is None:
        # Nothing changed however the layer was treated, as where the branch that it is in did not run.
        return finding
    metrics = {**finding.metrics, "cure_float_sqnr_db": exact.sqnr_db, "cured_sqnr_db": quantised.sqnr_db}
    if exact.sqnr_db is not None and exact.sqnr_db < EXACT_DB:
        works = False
        said = (
            f"The cure fails: it changes the float outputs ({exact.sqnr_db:.0f} dB), so on these samples the channels "
            "are not constant."
        )
    else:
        same = "stay identical" if exact.sqnr_db is None else f"stay the same ({exact.sqnr_db:.0f} dB)"
        now = f" instead of {finding.measured_db:.1f} dB" if finding.measured_db is not None else ""
        left = "no noise" if quantised.sqnr_db is None else f"{quantised.sqnr_db:.1f} dB"
        works, word = _worth(finding, quantised.sqnr_db)
        said = f"The cure {word}: the float outputs {same}, and quantising only the cured weight leaves {left}{now}."
    # Where the remedy is another one than the cure it still stands.
    remedy = finding.remedy if works or finding.change is not None else finding.otherwise or finding.remedy
    return replace(finding, metrics=metrics, note=f"{finding.note} {said}".strip(), remedy=remedy)


def cure_helps(finding: Finding) -> bool:
    """Whether no run speaks against the cure of a finding."""
    exact, cured = (finding.metrics.get(name) for name in ("cure_float_sqnr_db", "cured_sqnr_db"))
    if "cured_sqnr_db" not in finding.metrics:
        return True
    same = not isinstance(exact, float) or exact >= EXACT_DB
    return same and _worth(finding, cured if isinstance(cured, float) else None)[0]


def _worth(finding: Finding, cured_db: float | None) -> tuple[bool, str]:
    """Whether the cured weight is better than the one in the file, and what to say of it."""
    enough_db = finding.claim.below_db if finding.claim is not None else CONFIRM_BELOW_DB
    if cured_db is None or cured_db >= enough_db:
        return True, "works"
    if finding.measured_db is None or cured_db >= finding.measured_db + GAIN_DB:
        return True, "helps, but not enough"
    return False, "does not help"


def _quantised(cure: Cure) -> Experiment:
    return Experiment.on_weight(SCHEMES[cure.scheme], cure.layer)
