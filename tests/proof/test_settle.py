"""What the rules about each file say, settled with what running both showed: plain values, nothing is run."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import pytest

from onnxlint_q.analysis.observed.compared import Compared, ComparedRow
from onnxlint_q.finding import Claim, Confidence, Evidence, Finding, Location, Severity, Subject
from onnxlint_q.judge.registry import load_rules
from onnxlint_q.judge.rule import Rule
from onnxlint_q.proof.comparison.settle import Deciding, settle

RULES: dict[str, Rule] = {entry.rule.code: entry.rule() for entry in load_rules()}
CONV = Location(node="conv", op_type="Conv", output="c")


def row(key: str, sqnr_db: float, *reads: str, output: bool = False) -> ComparedRow:
    made = ComparedRow(key, "Conv", True, f"float_{key}", key, sqnr_db, 0.0, 0.0, 0.0, 1.0, math.inf, None)
    return replace(made, reads=reads, output=output)


def finding(
    code: str, severity: Severity = Severity.WARNING, confidence: Confidence = Confidence.MEDIUM, at: Location = CONV
) -> Finding:
    return Finding(code, f"name-of-{code}", severity, confidence, f"Said by {code}.", at)


def jump(severity: Severity = Severity.ERROR) -> Finding:
    made = finding("QC002", severity, Confidence.HIGH)
    return replace(made, metrics={"jump_at": "c", "part": "weight"}, evidence=Evidence.CONFIRMED, measured_db=4.0)


def compared(*rows: ComparedRow) -> Compared:
    return Compared(rows, {r.quantized: r.quantized for r in rows}, {r.reference: r.quantized for r in rows})


HEALTHY = compared(row("c", 40.0), row("d", 35.0, "c", output=True))
BROKEN = compared(row("c", 4.0), row("d", 4.0, "c", output=True))


def settled(found: list[Finding], pair: Compared, reference: tuple[Finding, ...] = ()) -> list[Finding]:
    return list(settle(found, reference, RULES.values(), pair, 20.0).quantized)


def test_what_a_jump_explains_gives_way_to_it() -> None:
    (only,) = settled([finding("QP005"), jump()], BROKEN)
    assert only.code == "QC002" and only.note == "QP005 name-of-QP005 reports the same."


def test_what_a_jump_does_not_measure_stays() -> None:
    assert [f.code for f in settled([finding("QP006"), jump()], BROKEN)] == ["QC002", "QP006"]


def test_a_fact_of_the_file_does_not_give_way_to_an_error_that_heals() -> None:
    fact = finding("QP005", Severity.ERROR, Confidence.HIGH)
    assert [f.code for f in settled([fact, jump(Severity.INFO)], BROKEN)] == ["QP005", "QC002"]
    guess = replace(fact, confidence=Confidence.LOW)
    assert [f.code for f in settled([guess, jump(Severity.INFO)], BROKEN)] == ["QC002"]


def test_a_suspicion_is_refuted_where_the_place_and_its_readers_are_fine() -> None:
    (only,) = settled([finding("QP005")], HEALTHY)
    assert (only.evidence, only.measured_db) == (Evidence.REFUTED, 35.0) and not only.counts


@pytest.mark.parametrize(
    ("pair", "suspicion"),
    [
        (compared(row("c", 40.0), row("d", 12.0, "c")), finding("QP005")),
        (compared(row("x", 40.0)), finding("QP005")),
        (HEALTHY, finding("QP005", confidence=Confidence.HIGH)),
        (HEALTHY, finding("QP006")),
    ],
    ids=["a reader suffers", "the place was not compared", "a fact of the file", "no rule measures it"],
)
def test_else_it_stays_as_it_is(pair: Compared, suspicion: Finding) -> None:
    assert settled([suspicion], pair) == [suspicion]


def test_a_reader_is_judged_by_the_rounding_alone_where_that_was_run() -> None:
    reader = replace(row("d", 4.0, "c"), input_db=33.0)
    (only,) = settled([finding("QP005")], compared(row("c", 40.0), reader))
    assert (only.evidence, only.measured_db) == (Evidence.REFUTED, 33.0)


def test_the_float_file_tells_causes_of_a_jump_and_nothing_else() -> None:
    there = finding("QB001", at=replace(CONV, output="float_c"))
    elsewhere = finding("QB002", at=replace(CONV, output="float_d"))
    (only,) = settled([jump()], BROKEN, (there, elsewhere))
    assert only.causes == ("In the float model, QB001 name-of-QB001: Said by QB001.",)
    assert settled([], HEALTHY, (there, elsewhere)) == []


@dataclass(frozen=True)
class Case:
    name: str
    end: float
    heals: bool


@pytest.mark.parametrize("case", [Case("heals", 37.0, True), Case("lasts", 12.0, False)], ids=lambda case: case.name)
def test_an_error_heals_where_all_outputs_behind_it_are_fine(case: Case) -> None:
    pair = compared(row("c", 4.0), row("side", 3.0, output=True), row("d", 25.0, "c"), row("e", case.end, "d"))
    pair = replace(pair, rows=(*pair.rows[:3], replace(pair.rows[3], output=True)))
    assert [row.node for row in pair.heals(pair.rows[0], 20.0)] == (["d"] if case.heals else [])


def falling(*, output: bool = True) -> Compared:
    return compared(replace(row("c", 4.0, output=output), drop_db=math.inf))


def test_a_fact_of_the_file_is_told_before_what_was_found_by_elimination() -> None:
    deviates = replace(jump(), code="QC004", metrics={"jump_at": "c", "part": "operator", "sqnr_db": 4.0})
    (only,) = settled([finding("QP006"), deviates], falling())
    assert (only.code, only.also, only.severity) == ("QP006", ("QC004",), Severity.ERROR)
    assert (only.evidence, only.measured_db) == (Evidence.CONFIRMED, 4.0)
    assert only.causes == ("Measured: Said by QC002.",)


def test_a_fact_about_the_tensor_that_was_measured_is_told_before_it() -> None:
    weight = replace(jump(), metrics={"jump_at": "c", "part": "weight", "tensor": "w", "sqnr_db": 4.0})
    fact = finding("QP006", at=replace(CONV, output="codes"))
    pair = replace(falling(), constants={"codes": ("c",), "w": ("c",)}, dequantised={"codes": "w"})
    assert [(f.code, f.also) for f in settled([fact, weight], pair)] == [("QP006", ("QC002",))]
    other = replace(pair, dequantised={"codes": "v"})
    assert [f.code for f in settled([fact, weight], other)] == ["QC002", "QP006"]


def test_a_fact_explains_a_jump_that_no_rule_about_a_pair_explains() -> None:
    (only,) = settled([finding("QP006")], falling())
    assert only.metrics["jump_at"] == "c" and only.causes == ("Measured: 4.0 dB are left at 'c'.",)
    assert settled([finding("QP006")], HEALTHY) == [finding("QP006")]


def test_what_spoils_the_output_that_decides_comes_first() -> None:
    pair = compared(row("c", 4.0, output=True), row("d", 15.0, output=True))
    error = replace(jump(), metrics={"jump_at": "c", "seen_at": "c", "part": "weight"})
    warning = replace(jump(Severity.WARNING), location=replace(CONV, output="d"))
    warning = replace(warning, metrics={"jump_at": "d", "seen_at": "d", "part": "weight"})

    def order(deciding: str) -> list[object]:
        told = settle([error, warning], (), RULES.values(), pair, 20.0, Deciding(deciding)).quantized
        return [finding.metrics["jump_at"] for finding in told]

    assert (order("c"), order("d")) == (["c", "d"], ["d", "c"])


def test_findings_on_the_float_file_are_those_about_what_the_other_does() -> None:
    place = replace(CONV, output="float_c")
    claim = Claim(Subject.ACTIVATION, "float_c", "int8-per-tensor")
    fact, claimed = finding("QB001", at=place), replace(finding("QA001", at=place), claim=claim)
    told = settle([], [fact, claimed], RULES.values(), HEALTHY, 20.0).reference
    assert told == (fact,)  # nothing rounds the activation, so nothing is claimed of this file
