"""Findings: identity, what counts, and what a report may rely on."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import pytest

from onnxlint_q.finding import Claim, Confidence, Evidence, Finding, Location, Severity, Subject

PLACE = Location("main", "conv1", "Conv", "conv1_out")
FINDING = Finding(
    code="QW001",
    name="wide-channels",
    severity=Severity.WARNING,
    confidence=Confidence.HIGH,
    message="channel 3 is 40 times as wide as the others",
    location=PLACE,
    metrics={"spread": 40.0},
    claim=Claim(Subject.WEIGHT, "conv1_out", "int8-per-tensor", 20.0),
    evidence=Evidence.UNTESTED,
)


def test_severities_are_ordered() -> None:
    assert sorted(Severity, key=lambda severity: severity.rank) == [Severity.INFO, Severity.WARNING, Severity.ERROR]


def test_a_place_is_called_by_its_node_or_its_tensor() -> None:
    assert PLACE.label == "conv1"
    assert replace(PLACE, node="").label == "conv1_out"


def test_fingerprint_is_stable_over_releases() -> None:
    """Baselines store it: this value must never change."""
    assert FINDING.fingerprint == "1c2c03c9a9ae4e8e"


@pytest.mark.parametrize(
    "other",
    [
        replace(FINDING, message="other numbers", metrics={"spread": 7.0}),
        replace(FINDING, severity=Severity.ERROR, confidence=Confidence.LOW),
        replace(FINDING, location=replace(PLACE, node="renamed")),
        FINDING.tested(Evidence.CONFIRMED, 3.0),
    ],
    ids=["numbers", "judgement", "node name", "test"],
)
def test_fingerprint_survives(other: Finding) -> None:
    assert other.fingerprint == FINDING.fingerprint


@pytest.mark.parametrize(
    "other",
    [
        replace(FINDING, code="QW002"),
        replace(FINDING, location=replace(PLACE, graph="main/y.then_branch")),
        replace(FINDING, location=replace(PLACE, output="conv2_out")),
        replace(FINDING, location=replace(PLACE, op_type="Gemm")),
    ],
    ids=["rule", "graph", "output", "operator"],
)
def test_fingerprint_tells_apart(other: Finding) -> None:
    assert other.fingerprint != FINDING.fingerprint


def test_fingerprint_of_a_name_no_encoding_can_write() -> None:
    strange = replace(FINDING, location=replace(PLACE, output="\ud800"))
    assert len(strange.fingerprint) == 16


def test_fields_cannot_run_together() -> None:
    left = replace(FINDING, location=Location("main", "", "c", "ab"))
    right = replace(FINDING, location=Location("main", "", "bc", "a"))
    assert left.fingerprint != right.fingerprint


def test_a_test_leaves_everything_else_alone() -> None:
    tested = FINDING.tested(Evidence.REFUTED, 31.5, "on 32 samples")
    assert (tested.evidence, tested.measured_db, tested.note) == (Evidence.REFUTED, 31.5, "on 32 samples")
    assert replace(tested, evidence=Evidence.UNTESTED, measured_db=None, note="") == FINDING


@pytest.mark.parametrize("evidence", Evidence)
def test_only_a_refuted_finding_does_not_count(evidence: Evidence) -> None:
    finding = FINDING.tested(evidence, None)
    assert finding.counts == (evidence is not Evidence.REFUTED)


def test_findings_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        FINDING.code = "QW002"  # type: ignore[misc]
