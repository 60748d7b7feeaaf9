"""How the evidence of a finding reads, and what is known of a layer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from onnxlint_q.finding import Evidence, Finding, Severity, Subject
from onnxlint_q.report.layers import Known
from onnxlint_q.report.words.names import name, shown, visible
from onnxlint_q.report.words.numbers import count, decibel, figure, significant
from onnxlint_q.workflow.results import Basis

SEVERITY_MARK = {Severity.ERROR: "✖", Severity.WARNING: "▲", Severity.INFO: "●"}
BASIS_WORDS = {Basis.MEASURED: "Measured", Basis.PROBE: "Probed", Basis.FORECAST: "Forecast"}
FORECAST = "forecast_db"
"""How the keys of metrics end that are forecasts of the output."""
CURED_FORECAST = f"cure_{FORECAST}"
_FIRST_LOOK = frozenset({"sqnr_db", "noise_share", "samples", "samples_given"})
"""Metrics of what a tensor alone costs (QA004, QW006), from the samples that there was time for before any claim."""
REFUTED = "Predicted, but not seen when measured (ignored)"
NOT_MEASURED = "not measured"
CONTRADICTED = "the forecast lies below what the run left at the output with everything quantised, so it is wrong here"


def give_or_take(entries: Iterable[Known | None]) -> str:
    """`give or take 9 dB`: how far the forecasts among figures of layers are usually off; empty without any."""
    told = (entry for entry in entries if entry is not None and entry.weight_db is not None)
    spread = max((entry.uncertainty_db for entry in told if entry.uncertainty_db is not None), default=None)
    return "" if spread is None else f"give or take {significant(spread, 2)} dB"


def operands(known: Known | None) -> str:
    """`W 50.7, R 47.4 dB`: each weight of a layer alone; empty where it has one."""
    if known is None or not known.operands:
        return ""
    return f"{', '.join(f'{name(part, 8)} {figure(value)}' for part, value in known.operands.items())} dB"


def how_known(known: Known) -> str:
    """The stage of a layer's figures, or that there is none to tell."""
    return known.basis.value if known.weight_db is not None else NOT_MEASURED


def evidence(finding: Finding, known: Known | None = None) -> str:
    """`confirmed 4.7 dB`, `refuted 31.0 dB`, `untested`, `static`; untested with the best that is known instead."""
    if finding.measured_db is not None:
        return f"{finding.evidence.value} {decibel(finding.measured_db)}"
    if finding.evidence is Evidence.UNTESTED and known is not None and known.weight_db is not None:
        return f"{finding.evidence.value}, {known.basis.value} {decibel(known.weight_db)}"
    return finding.evidence.value


def brief_evidence(finding: Finding, known: Known | None) -> str:
    """`evidence` but for what goes without saying: that a fact is static, and that a forecast is untested."""
    if finding.evidence is Evidence.STATIC:
        return ""
    return evidence(finding, known).removeprefix(f"{Evidence.UNTESTED.value}, ")


def worst_figure(told: Iterable[tuple[Finding, Known | None]]) -> str:
    """The lowest figure among findings, measured ones before others: `measured -1.1 dB at worst`; empty without any."""
    entries = tuple(told)
    measured = [finding.measured_db for finding, _ in entries if finding.measured_db is not None]
    known = [entry for _, entry in entries if entry is not None and entry.weight_db is not None]
    worst = "" if len(entries) == 1 else " at worst"
    if measured:
        return f"measured {decibel(min(measured))}{worst}"
    if known:
        lowest = min(known, key=lambda entry: entry.weight_db or 0.0)
        return f"{lowest.basis.value} {decibel(lowest.weight_db)}{worst}"
    return ""


def claim(finding: Finding, known: Known | None = None) -> str:
    """What the finding says will happen and the best that is known of it, as sentences; empty for a fact of the file.

    `known` is what is known of the layer that the claim is about.
    """
    if finding.claim is None:
        return ""
    said = finding.claim
    tensor = name(said.tensor, 80)
    what = f"the weight of {tensor}" if said.subject is Subject.WEIGHT else f"the activation {tensor}"
    if said.more:
        what = f"{what} and {count(len(said.more), 'more activation')}"
    sentence = (
        f"Claim: with only {what} quantised as {visible(said.scheme)}, the output falls below {decibel(said.below_db)}."
    )
    if finding.measured_db is not None:
        return f"{sentence} Measured: {decibel(finding.measured_db)}."
    if finding.evidence is not Evidence.UNTESTED:
        return f"{sentence} A run {finding.evidence.value} it."
    if known is not None and known.weight_db is not None:
        spread = f", {about}" if (about := give_or_take([known])) else ""
        sentence = f"{sentence} {BASIS_WORDS[known.basis]}: {decibel(known.weight_db)}{spread}."
    cured = finding.metrics.get(CURED_FORECAST) if finding.cure is not None else None
    if isinstance(cured, float):
        sentence = f"{sentence} Forecast of the cured weight: {decibel(cured)}."
    return f"{sentence} Not tested."


def metrics(finding: Finding, known: Known | None = None) -> Mapping[str, object]:
    """The metrics to show: a forecast as long as no run has given a figure, a first look until the claim is tested.

    `known` is what is known of the layer that the finding is about.
    """
    tested = finding.claim is not None and finding.measured_db is not None
    ran = finding.measured_db is not None or (known is not None and known.basis is not Basis.FORECAST)
    return {
        key: value
        for key, value in finding.metrics.items()
        if not (ran and key.endswith(FORECAST)) and not (tested and key in _FIRST_LOOK)
    }


def same_damage(finding: Finding, others: Iterable[Finding]) -> str:
    """Which other rules tell the same damage, in one line; empty where none does."""
    rules = [*finding.also, *(f"{other.code} {other.name}" for other in others)]
    return f"The same damage: {', '.join(shown(rule, 80) for rule in dict.fromkeys(rules))}." if rules else ""
