"""Findings of the linter itself: no rule makes them, and no selector turns them off."""

from __future__ import annotations

from dataclasses import dataclass

from onnxlint_q.finding import Confidence, Evidence, Finding, Location, Severity


@dataclass(frozen=True, slots=True)
class OwnFinding:
    """A kind of finding that says something of the run, not of the model.

    Attributes:
        code, name: as of a rule.
        summary: what it says, one sentence.
        text: what it means and what to do, for its page.
        severity: an error where the answer lacks what was asked for.
        evidence: what stands behind it.
    """

    code: str
    name: str
    summary: str
    text: str
    severity: Severity = Severity.ERROR
    evidence: Evidence = Evidence.CONFIRMED

    def finding(self, about: str, message: str, remedy: str) -> Finding:
        """One finding, of what happened in this run; `about` is the rule or the option that it is about."""
        return Finding(
            code=self.code,
            name=self.name,
            severity=self.severity,
            confidence=Confidence.HIGH,
            message=message,
            location=Location(output=about),
            remedy=remedy,
            evidence=self.evidence,
        )


RULE_CRASHED = OwnFinding(
    "QX001",
    "rule-crashed",
    "A rule failed on this model.",
    "The answer is incomplete, so the exit code is 2. To go on without the rule, run with `--ignore` and its code.\n"
    "Report the failure to the authors of the rule.",
)
RUN_FAILED = OwnFinding(
    "QX002",
    "run-failed",
    "A run on data was requested and failed.",
    "The model could not be run on the data of `--calibrate`, or a part of the run failed that `--measure` or\n"
    "`--trials` asked for. The message holds the reason. Findings and verdicts then use the remaining evidence, and\n"
    "the exit code is 1. Run the model in ONNX Runtime with the same inputs to see the whole message. A model that\n"
    "checks its inputs needs real ones instead of `--calibrate random`.",
)
PROBE_FAILED = OwnFinding(
    "QX003",
    "probe-failed",
    "A probe was requested and failed.",
    "The model could not be run on synthetic inputs, or it is quantised already. The message holds the reason.\n"
    "Verdicts use the remaining evidence, and the exit code is 1. Give real inputs with `--calibrate`, or leave out\n"
    "`--probe`.",
)
DATA_UNUSABLE = OwnFinding(
    "QX004",
    "data-unusable",
    "The calibration data cannot be read or does not fit the model.",
    "The message names the file or the input, and what is wrong with it. Findings and verdicts then rest on the model\n"
    "file alone, and the exit code is 1. Fix the data, or leave out `--calibrate`.",
)

UNUSED_SUPPRESSION = OwnFinding(
    "QX005",
    "unused-suppression",
    "A suppression suppresses nothing.",
    "What it was written for is gone, it names a place that is not there, or it has no reason. It would hide the next\n"
    "fault of the same kind, so take it out. It says nothing of rules that did not run, and of those that need data\n"
    "where there was none. An entry of the configuration counts as used if it is for any model of the run: name the\n"
    "model in it. `--prune-baseline` takes lines out of a baseline.",
    Severity.INFO,
    Evidence.STATIC,
)

OWN_FINDINGS = (RULE_CRASHED, RUN_FAILED, PROBE_FAILED, DATA_UNUSABLE, UNUSED_SUPPRESSION)
NOT_RUN = frozenset(kind.code for kind in (RUN_FAILED, PROBE_FAILED, DATA_UNUSABLE))
"""Codes that say that a run was asked for and did not happen."""
