"""Ship, hold or unsure: what a release is told of each scheme, in a word, and what that word rests on."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from markupsafe import Markup

from onnxlint_q.finding import Severity
from onnxlint_q.report import digest, tensors, words
from onnxlint_q.report.front import undermines
from onnxlint_q.report.html import charts
from onnxlint_q.report.layers import worst_layers
from onnxlint_q.workflow.results import Basis, CalibrationSummary, ModelResult, SchemeResult, Verdict, VerdictLevels

AS_IT_IS = "the file as it is"
ENOUGH = 0.85
"""Chance from which a verdict that nobody measured is enough to ship: of these 98 % were right (bench.level)."""
RUN_IT = f"Under {100 * ENOUGH:g} % is not enough to ship on: run it on data with --calibrate."
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
class Card:
    """The call on one scheme, or on a file that is quantised already.

    Attributes:
        title: the scheme.
        call: the word.
        style: CSS class: the verdict, or `unsure`.
        verdict: the verdict with its probability, or that it is measured.
        figures: what decides it.
        basis: what it rests on.
        but: why the call is not what the verdict alone would make it, and what makes the verdict less sure.
        mended: what becomes of it once it is mended.
        details: what else is to be known, a sentence each.
    """

    title: str
    call: Call
    style: str
    verdict: str
    figures: str
    basis: str
    gauge: Markup | None = None
    but: str = ""
    mended: str = ""
    details: tuple[str, ...] = ()

    @property
    def mark(self) -> str:
        """A sign beside the word, so that colour is not all there is."""
        if self.style == Verdict.DEGRADES:
            return "▲"
        return {Call.SHIP: "✔", Call.HOLD: "✖", Call.UNSURE: "?"}[self.call]


def cards(model: ModelResult) -> tuple[Card, ...]:
    """One a scheme; of a file that no scheme is judged on, one for the file."""
    if not model.schemes:
        return (_of_file(model),)
    doubt = _doubt(model)
    return tuple(
        card(result, model.calibration, model.levels, doubt, _costs(model, result)) for result in model.schemes
    )


def card(
    result: SchemeResult,
    calibration: CalibrationSummary | None,
    levels: VerdictLevels | None = None,
    doubt: str = "",
    costs: str = "",
) -> Card:
    """The card of one scheme.

    Args:
        result: the verdict.
        calibration: what the run was fed.
        levels: where verdicts change; without them the figure is not drawn.
        doubt: why no good verdict is to be believed; empty where it is.
        costs: the tensor or layer that costs most, as a sentence.
    """
    call, but = _call(result, doubt)
    details = (costs, *words.outputs(result), _sentence(words.deciding(result)))
    right = _sentence(words.accuracy(result.top1)) if result.top1 is not None else ""
    return Card(
        title=words.name(result.scheme, 60).strip() or "(no name)",
        call=call,
        style=_style(result, call),
        verdict=_verdict(result),
        figures=_sentence(words.brief_reason(result)),
        basis=_sentence(words.basis(result, calibration)),
        gauge=gauge(result, levels) if levels is not None else None,
        but=" ".join(filter(None, (but, _sentence(words.note(result))))),
        mended=_sentence(words.mended(result)),
        details=tuple(filter(None, (right, *details))),
    )


def headline(found: Iterable[Card]) -> str:
    """The calls in a sentence: `Ship int8-per-channel. Hold int8-per-tensor.`."""
    named: dict[Call, list[str]] = {}
    for one in found:
        named.setdefault(one.call, []).append(one.title)
    lead = {Call.SHIP: "Ship", Call.HOLD: "Hold", Call.UNSURE: "Unsure about"}
    return " ".join(f"{lead[call]} {_listed(named[call])}." for call in Call if call in named)


def worst(found: Iterable[Card]) -> Call | None:
    """The call that a release has to look at first; None where there is no card."""
    calls = {one.call for one in found}
    return next((call for call in (Call.HOLD, Call.UNSURE, Call.SHIP) if call in calls), None)


def gauge(result: SchemeResult, levels: VerdictLevels) -> Markup | None:
    """The figure that decides the verdict on its scale; None where there is none."""
    end = result.worst
    agreement = result.agreement if end is None else end.agreement
    value = result.output_sqnr_db if end is None else end.sqnr_db
    if agreement is not None:
        known = result.interval if end is None else end.interval
        band = None if known is None else (100 * known[0], 100 * known[1])
        return charts.gauge(100 * agreement, charts.agreement_scale(levels), band)
    if value is None or not math.isfinite(value):
        return None
    return charts.gauge(value, charts.decibel_scale(levels), result.interval_db if end is None else end.interval_db)


def _call(result: SchemeResult, doubt: str) -> tuple[Call, str]:
    """The word, and why it is not the verdict's own."""
    if result.verdict in (Verdict.BREAKS, Verdict.DEGRADES):
        return Call.HOLD, ""
    if result.verdict is not Verdict.SURVIVES:
        return Call.UNSURE, ""
    if result.loads_from is not None:
        return Call.HOLD, f"The quantised file does not load: export the model at opset {result.loads_from}."
    if doubt:
        return Call.UNSURE, doubt
    unseen = result.chances is not None and result.basis is not Basis.MEASURED and result.chances.survives < ENOUGH
    return (Call.UNSURE, RUN_IT) if unseen else (Call.SHIP, "")


def _style(result: SchemeResult, call: Call) -> str:
    if call is Call.UNSURE:
        return "unsure"
    shown = words.shown_as(result)
    return shown.value if shown is not None else "unsure"


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


def _of_file(model: ModelResult) -> Card:
    """A file without schemes: what its findings say, and that this is no figure."""
    told = {finding.severity for finding in digest.counted(model.findings)}
    if Severity.ERROR in told:
        call, figures = Call.HOLD, FAULTY
    else:
        call, figures = Call.UNSURE, SUSPECT if Severity.WARNING in told else NOT_COMPARED
    return Card(
        title=f"{AS_IT_IS} ({words.name(model.format, 40)})",
        call=call,
        style="breaks" if call is Call.HOLD else "unsure",
        verdict="not compared with its float model",
        figures=figures,
        basis="Read from the file; nothing was run." if model.calibration is None else "Read and run on samples.",
    )


def _costs(model: ModelResult, result: SchemeResult) -> str:
    return tensors.most_costly(result) if tensors.explains(result) else _weakest(model, result.scheme)


def _weakest(model: ModelResult, scheme: str) -> str:
    found = worst_layers(model, scheme, 1)
    if not found:
        return ""
    row, told = found[0]
    label = words.name(words.layer_label(row), 70)
    if told.weight_db is None:
        return f"Weakest layer: perhaps {label}, not measured. {words.CONTRADICTED.capitalize()}."
    alone = words.decibel(told.weight_db)
    how = ", ".join(filter(None, (told.basis.value, words.give_or_take([told]))))
    return f"Weakest layer: {label}, {alone} if its weight alone is quantised ({how})."


def _listed(names: list[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def _sentence(text: str) -> str:
    """Half a sentence as a whole one; empty stays empty."""
    return f"{text[:1].upper()}{text[1:].rstrip('.')}." if text else ""
