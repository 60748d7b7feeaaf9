"""Which finding a fault is left to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest

from onnxlint_q.finding import Claim, Confidence, Evidence, Finding, Location, Severity, Subject
from onnxlint_q.judge.facts import Facts
from onnxlint_q.judge.rule import Example, Rule
from onnxlint_q.judge.supersede import without_superseded


@dataclass(frozen=True)
class Strong(Rule):
    code: ClassVar[str] = "QZ001"
    name: ClassVar[str] = "strong"
    severity: ClassVar[Severity] = Severity.WARNING
    supersedes: ClassVar[tuple[str, ...]] = ("QZ002",)
    good: ClassVar[tuple[Example, ...]] = ()
    bad: ClassVar[tuple[Example, ...]] = ()

    def check(self, facts: Facts) -> Iterator[Finding]:
        yield from ()


class Weak(Strong):
    code: ClassVar[str] = "QZ002"
    name: ClassVar[str] = "weak"
    supersedes: ClassVar[tuple[str, ...]] = ()


RULES = (Strong(), Weak())
CLAIM = Claim(Subject.WEIGHT, "t", "int8-per-tensor")
ROUNDING = replace(CLAIM, subject=Subject.ACTIVATION)
AT_U = replace(ROUNDING, tensor="u")
FINER = replace(ROUNDING, scheme="int16-activations")
OF_A_RUN = replace(ROUNDING, scheme="int8-dynamic")
STRONG, WEAK = (rule.finding(Location(output="t"), "wrong", remedy="mend it") for rule in RULES)


@pytest.mark.parametrize(
    ("strong", "weak", "left"),
    [
        (STRONG, WEAK, ["QZ001"]),
        (replace(STRONG, location=Location(output="u")), WEAK, ["QZ001", "QZ002"]),
        (replace(STRONG, location=Location(graph="main/if.then_branch", output="t")), WEAK, ["QZ001", "QZ002"]),
        (replace(STRONG, evidence=Evidence.REFUTED), WEAK, ["QZ001", "QZ002"]),
        (STRONG, replace(WEAK, severity=Severity.ERROR), ["QZ001"]),
        (STRONG, replace(WEAK, severity=Severity.ERROR, confidence=Confidence.HIGH), ["QZ001", "QZ002"]),
        (STRONG, replace(WEAK, confidence=Confidence.HIGH), ["QZ001"]),
        (replace(STRONG, claim=CLAIM), replace(WEAK, claim=CLAIM, location=Location(output="u")), ["QZ001"]),
        (replace(STRONG, claim=CLAIM), replace(WEAK, claim=replace(CLAIM, below_db=5.0)), ["QZ001"]),
        (
            replace(STRONG, claim=CLAIM),
            replace(WEAK, claim=replace(CLAIM, scheme="int8-per-channel")),
            ["QZ001", "QZ002"],
        ),
        (
            replace(STRONG, claim=ROUNDING),
            replace(WEAK, claim=replace(ROUNDING, scheme="int8-per-channel")),
            ["QZ001"],
        ),
        (replace(STRONG, claim=replace(ROUNDING, more=("u",))), replace(WEAK, claim=AT_U), ["QZ001"]),
        (replace(STRONG, claim=ROUNDING), replace(WEAK, claim=replace(ROUNDING, more=("u",))), ["QZ001", "QZ002"]),
        (replace(STRONG, claim=ROUNDING), replace(WEAK, claim=FINER), ["QZ001", "QZ002"]),
        (replace(STRONG, claim=replace(ROUNDING, all_formats=True)), replace(WEAK, claim=FINER), ["QZ001"]),
        (replace(STRONG, claim=ROUNDING), replace(WEAK, claim=OF_A_RUN), ["QZ001", "QZ002"]),
        (replace(STRONG, claim=replace(ROUNDING, all_ranges=True)), replace(WEAK, claim=OF_A_RUN), ["QZ001"]),
        (replace(STRONG, claim=replace(ROUNDING, all_ranges=True)), replace(WEAK, claim=FINER), ["QZ001", "QZ002"]),
        (replace(STRONG, claim=CLAIM), WEAK, ["QZ001", "QZ002"]),
    ],
    ids=[
        "same tensor",
        "another",
        "another graph",
        "refuted",
        "severe suspicion",
        "sure and more severe",
        "sure",
        "same claim elsewhere",
        "same claim at another level",
        "another scheme",
        "another scheme that rounds alike",
        "one of several tensors",
        "more than its one tensor",
        "another format",
        "another format of all",
        "ranges of a run",
        "ranges of a run of all",
        "ranges of all in another format",
        "a claim and none",
    ],
)
def test_a_finding_gives_way(strong: Finding, weak: Finding, left: list[str]) -> None:
    assert [finding.code for finding in without_superseded([weak, strong], RULES, ())] == left[::-1]


def test_what_gives_way_leaves_its_figures_and_its_code() -> None:
    strong, weak = replace(STRONG, metrics={"a": 1, "db": 2.0}), replace(WEAK, metrics={"db": 3.0, "channels": 4})
    (kept,) = without_superseded([weak, strong], RULES, ())
    assert kept == replace(strong, metrics={"a": 1, "db": 2.0, "channels": 4}, also=("QZ002",))
    elsewhere = replace(strong, location=Location(output="u"))
    assert list(without_superseded([weak, elsewhere], RULES, ())) == [weak, elsewhere]
