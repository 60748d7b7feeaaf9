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
    """

    code: str
    name: str
    summary: str
    text: str

    @property
    def severity(self) -> Severity:
        """Always an error: the answer lacks what was asked for."""
        return Severity.ERROR

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
            evidence=Evidence.CONFIRMED,
        )


RULE_CRASHED = OwnFinding(
    "QX001",
    "rule-crashed",
    "A rule failed on this model.",
    "The answer is incomplete and the exit code is 2. Run with `--ignore` and the code of that rule to go on\n"
    "without it, and report the failure to whoever made the rule.",
)
RUN_FAILED = OwnFinding(
    "QX002",
    "run-failed",
    "A run on data was asked for and did not happen.",
    "The model could not be run on the data of `--calibrate`, or a part of the run that `--measure` or `--trials`\n"
    "asked for could not be made; the message holds the reason. Findings and verdicts then rest on the file alone,\n"
    "so the exit code is 1. Run the model in ONNX Runtime with the same inputs to see the whole message; a model\n"
    "that checks its inputs needs real ones instead of `--calibrate random`.",
)
PROBE_FAILED = OwnFinding(
    "QX003",
    "probe-failed",
    "A probe was asked for and did not happen.",
    "The model could not be run on synthetic inputs, or there is nothing to probe because it is quantised already;\n"
    "the message holds the reason. The exit code is 1. Give real inputs with `--calibrate`, or leave out `--probe`.",
)
DATA_UNUSABLE = OwnFinding(
    "QX004",
    "data-unusable",
    "The calibration data cannot be read or does not fit the model.",
    "The message names the file or the input and what is wrong with it. What the model's file alone tells was judged\n"
    "all the same; what the message says was not tested on data, and the exit code is 1. Mend the data, or leave out\n"
    "`--calibrate`.",
)

OWN_FINDINGS = (RULE_CRASHED, RUN_FAILED, PROBE_FAILED, DATA_UNUSABLE)
NOT_RUN = frozenset(kind.code for kind in (RUN_FAILED, PROBE_FAILED, DATA_UNUSABLE))
"""Codes that say that a run was asked for and did not happen."""
