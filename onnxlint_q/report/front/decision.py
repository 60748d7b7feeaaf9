"""Ship, hold or unsure: what a release is told of each scheme, in a word, and what that word rests on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from onnxlint_q.finding import Severity
from onnxlint_q.report import digest, words
from onnxlint_q.report.front.cause import undermines
from onnxlint_q.workflow.results import Basis, CalibrationSummary, ModelResult, SchemeResult, Verdict

AS_IT_IS = "the file as it is"
ENOUGH = 0.85
"""Chance from which a verdict is enough to ship: of those that nobody measured 98 % were right (bench.level)."""
RUN_IT = f"Under {100 * ENOUGH:g} % is not enough to ship on: run it on data with --calibrate."
MORE = f"Under {100 * ENOUGH:g} % is not enough to ship on: measure on more samples."
UNFOLLOWED = "A forecast that cannot follow every operator is not enough to ship on: run it on data with --calibrate."
MADE_UP = "Made-up samples decide nothing."
NOT_COMPARED = "Nothing was found in its scales. What accuracy it kept is not known from the file alone."
FAULTY = "The file itself has an error."
SUSPECT = "Its scales have faults. What accuracy it kept is not known from the file alone."


class Call(StrEnum):
    """What a release is told."""

    SHIP = "ship"
    HOLD = "hold"
    UNSURE = "unsure"


@dataclass(frozen=True, slots=True)
class Decision:
    """The call on one scheme, or on a file that is quantised already.

    Attributes:
        title: the scheme.
        call: the word.
        held: the verdict whose mark and colour it gets; None where nobody is sure.
        verdict: the verdict with its probability, or that it is measured.
        figures: what decides it.
        basis: what it rests on.
        but: why the call is not what the verdict alone would make it.
    """

    title: str
    call: Call
    held: Verdict | None
    verdict: str
    figures: str
    basis: str
    but: str = ""

    @property
    def mark(self) -> str:
        """A sign beside the word, so that colour is not all there is."""
        if self.held is Verdict.DEGRADES:
            return "▲"
        return {Call.SHIP: "✔", Call.HOLD: "✖", Call.UNSURE: "?"}[self.call]


def decisions(model: ModelResult) -> tuple[Decision, ...]:
    """One a scheme; of a file that no scheme is judged on, one for the file."""
    doubt = _doubt(model)
    return tuple(decide(result, model.calibration, doubt) for result in model.schemes) or (_of_file(model),)


def decide(result: SchemeResult, calibration: CalibrationSummary | None, doubt: str = "") -> Decision:
    """The call on one scheme.

    Args:
        result: the verdict.
        calibration: what the run was fed.
        doubt: why no good verdict is to be believed; empty where it is.
    """
    call, but = _call(result, doubt)
    return Decision(
        title=words.name(result.scheme, 40).strip() or "(no name)",
        call=call,
        held=None if call is Call.UNSURE else words.shown_as(result),
        verdict=_verdict(result),
        figures=words.sentence(words.brief_reason(result)),
        basis=words.sentence(words.basis(result, calibration)),
        but=but,
    )


def headline(found: Iterable[Decision]) -> str:
    """The calls in a sentence: `Ship int8-per-channel. Hold int8-per-tensor.`."""
    named: dict[Call, list[str]] = {}
    for one in found:
        named.setdefault(one.call, []).append(one.title)
    lead = {Call.SHIP: "Ship", Call.HOLD: "Hold", Call.UNSURE: "Unsure about"}
    return " ".join(f"{lead[call]} {_listed(named[call])}." for call in Call if call in named)


def because(model: ModelResult, found: Iterable[Decision]) -> str:
    """What the calls rest on that no verdict tells, each once; of a file without schemes what its findings say."""
    return " ".join(dict.fromkeys(filter(None, (one.but if model.schemes else one.figures for one in found))))


def worst(found: Iterable[Decision]) -> Call | None:
    """The call that a release has to look at first; None where there is no decision."""
    calls = {one.call for one in found}
    return next((call for call in (Call.HOLD, Call.UNSURE, Call.SHIP) if call in calls), None)


def _call(result: SchemeResult, doubt: str) -> tuple[Call, str]:
    """The word, and why it is not the verdict's own."""
    if result.verdict in (Verdict.BREAKS, Verdict.DEGRADES):
        return Call.HOLD, ""
    if result.verdict is not Verdict.SURVIVES:
        return Call.UNSURE, ""
    if result.obstacle is not None:
        return Call.HOLD, f"The {result.scheme} file {result.obstacle.fault}: {result.obstacle.remedy}."
    if doubt:
        return Call.UNSURE, doubt
    if result.chances is not None and result.chances.survives < ENOUGH:
        return Call.UNSURE, MORE if result.basis is Basis.MEASURED else RUN_IT
    if result.unfollowed:
        return Call.UNSURE, UNFOLLOWED
    return Call.SHIP, ""


def _verdict(result: SchemeResult) -> str:
    """`breaks, measured`; `survives, 93 % likely`; `unknown`."""
    if result.verdict is Verdict.UNCERTAIN:
        return words.likeliest(result) or "uncertain"
    told = words.verdict(result.verdict)
    if result.verdict is not None and result.basis is Basis.MEASURED:
        return f"{told}, measured"
    likely = words.chance(result).strip(" ()")
    return f"{told}, {likely} likely" if likely else told


def _doubt(model: ModelResult) -> str:
    """Why no good verdict on a model is to be believed; empty where it is."""
    if model.rule_crashed:
        return "A rule crashed, so this report is incomplete."
    if model.calibration is not None and model.calibration.synthetic:
        return MADE_UP
    wrong = next(filter(undermines, digest.counted(model.findings)), None)
    return f"{words.shown(wrong.code, 20)} says that no figure here can be relied on." if wrong is not None else ""


def _of_file(model: ModelResult) -> Decision:
    """A file without schemes: what its findings say, and that this is no figure."""
    told = {finding.severity for finding in digest.counted(model.findings)}
    if Severity.ERROR in told:
        call, figures = Call.HOLD, FAULTY
    else:
        call, figures = Call.UNSURE, SUSPECT if Severity.WARNING in told else NOT_COMPARED
    return Decision(
        title=f"{AS_IT_IS} ({words.name(model.format, 40)})",
        call=call,
        held=Verdict.BREAKS if call is Call.HOLD else None,
        verdict="not compared with its float model",
        figures=figures,
        basis="Read from the file; nothing was run." if model.calibration is None else "Read and run on samples.",
    )


def _listed(names: list[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last
