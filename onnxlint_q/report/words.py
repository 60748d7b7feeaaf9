"""How names, numbers, evidence and verdicts read in every format made for people."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import PureWindowsPath

from onnxlint_q.finding import Evidence, Finding, Location, Severity, Subject
from onnxlint_q.report.layers import Known
from onnxlint_q.workflow.results import (
    Basis,
    CalibrationSummary,
    JointRemedy,
    LayerRow,
    ModelResult,
    OutputResult,
    SchemeResult,
    Top1,
    Verdict,
)

SEVERITY_MARK = {Severity.ERROR: "✖", Severity.WARNING: "▲", Severity.INFO: "●"}
VERDICT_MARK = {Verdict.BREAKS: "✖", Verdict.DEGRADES: "▲", Verdict.SURVIVES: "✔", None: "?"}
BASIS_WORDS = {Basis.MEASURED: "Measured", Basis.PROBE: "Probed", Basis.FORECAST: "Forecast"}
FORECAST = "forecast_db"
"""How the keys of metrics end that are forecasts of the output."""
CURED_FORECAST = f"cure_{FORECAST}"
NOT_MEASURED = "not measured"
CONTRADICTED = "the forecast lies below what the run left at the output with everything quantised, so it is wrong here"
PERFECT = "perfect match"
PERFECT_OUTPUT = f"{PERFECT}: the output equals the float model's"
LONGEST = 600
"""Characters of a message that are shown; the model is untrusted and its names may be megabytes long."""


def visible(text: str) -> str:
    """`text` on one line with every invisible character written as its escape.

    Control characters could drive a terminal, bidirectional marks could reorder a line, lone surrogates
    cannot be written as UTF-8.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or unicodedata.category(char) == "Zs" else _escape(char) for char in text)


def _escape(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")


def elide(text: str, limit: int) -> str:
    """`text`, or its beginning and end around `…` in `limit` characters; the end tells nodes apart."""
    if len(text) <= limit:
        return text
    head = (limit - 1) // 4
    return f"{text[:head]}…{text[len(text) - (limit - 1 - head) :]}"


def shorten(text: str, limit: int) -> str:
    """`text`, or its beginning in `limit` characters with `…`."""
    return text if len(text) <= limit else f"{text[: limit - 1].rstrip()}…"


def shown(text: str, limit: int = LONGEST) -> str:
    """A sentence made safe to show: visible and bounded."""
    return visible(shorten(text, limit))


def name(text: str, limit: int = 160) -> str:
    """A name made safe to show: visible, and bounded in the middle."""
    return visible(elide(text, limit))


def file_name(path: str) -> str:
    """The last part of a path of any system, as typed; the path itself where it has no name, as `..` or `/`."""
    return PureWindowsPath(path).name or path


def number(value: float, digits: int = 1) -> str:
    """`value` with a fixed number of decimals; never `-0.0`."""
    return f"{round(value, digits) + 0.0:.{digits}f}"


def decibel(value: float | None) -> str:
    """`4.7 dB`; a dash where there is nothing, words where it is not finite."""
    if value is None or math.isnan(value):
        return "-"
    if math.isinf(value):
        return PERFECT if value > 0 else "no signal left"
    return f"{number(value)} dB"


def figure(value: float | None) -> str:
    """A level in dB for a column whose heading says so."""
    if value is None or math.isnan(value):
        return "-"
    return number(value) if math.isfinite(value) else "exact" if value > 0 else "lost"


def give_or_take(entries: Iterable[Known | None]) -> str:
    """`give or take 9 dB`: how far the forecasts among figures of layers are usually off; empty without any."""
    told = (entry for entry in entries if entry is not None and entry.weight_db is not None)
    spread = max((entry.uncertainty_db for entry in told if entry.uncertainty_db is not None), default=None)
    return "" if spread is None else f"give or take {significant(spread, 2)} dB"


def how_known(known: Known) -> str:
    """The stage of a layer's figures, or that there is none to tell."""
    return known.basis.value if known.weight_db is not None else NOT_MEASURED


def significant(value: float | None, digits: int = 3) -> str:
    """`value` with so many significant digits; a dash where there is nothing."""
    return "-" if value is None else f"{value + 0.0:.{digits}g}"


def percent(fraction: float) -> str:
    """`0.948` as `94.8 %`, `0.05` as `5 %`."""
    return f"{number(100 * fraction).removesuffix('.0')} %"


def count(amount: int, noun: str, plural: str = "") -> str:
    """`1 layer`, `2 layers`."""
    return f"{amount} {noun if amount == 1 else plural or noun + 's'}"


def layer_label(row: LayerRow) -> str:
    """The name to show for a layer: the node's, else its output's, as in `Location.label`."""
    return row.node or row.output


def place(location: Location, limit: int = 60) -> str:
    """Where, for people: node, operator, and the output where the node's name does not say it."""
    text = name(location.label, limit) or "the model"
    if location.graph != "main":
        text = f"{text} in {name(location.graph, limit)}"
    if location.op_type:
        text = f"{text} ({name(location.op_type, 40)})"
    if location.node and location.output and location.output != location.node:
        text = f"{text} → {name(location.output, limit)}"
    return text


def brief_place(location: Location, limit: int) -> str:
    """Node and operator in about `limit` characters, for lists."""
    op_type = f" ({name(location.op_type, 20)})" if location.op_type else ""
    return f"{name(location.label, max(limit - len(op_type), 24)) or 'the model'}{op_type}"


def evidence(finding: Finding, known: Known | None = None) -> str:
    """`confirmed 4.7 dB`, `refuted 31.0 dB`, `untested`, `static`; untested with the best that is known instead."""
    if finding.measured_db is not None:
        return f"{finding.evidence.value} {decibel(finding.measured_db)}"
    if finding.evidence is Evidence.UNTESTED and known is not None and known.weight_db is not None:
        return f"{finding.evidence.value}, {known.basis.value} {decibel(known.weight_db)}"
    return finding.evidence.value


def brief_evidence(finding: Finding, known: Known | None) -> str:
    """`evidence` where it goes without saying that what is forecast or probed is untested: `forecast 10.3 dB`."""
    return evidence(finding, known).removeprefix(f"{Evidence.UNTESTED.value}, ")


def claim(finding: Finding, known: Known | None = None) -> str:
    """What the finding says will happen and the best that is known of it, as sentences; empty for a fact of the file.

    `known` is what is known of the layer that the claim is about.
    """
    if finding.claim is None:
        return ""
    said = finding.claim
    tensor = name(said.tensor, 80)
    what = f"the weight of {tensor}" if said.subject is Subject.WEIGHT else f"the activation {tensor}"
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
    """The metrics to show: a forecast only as long as no run has given a figure.

    `known` is what is known of the layer that the finding is about.
    """
    ran = known is not None and known.basis is not Basis.FORECAST
    if finding.measured_db is None and not ran:
        return finding.metrics
    return {key: value for key, value in finding.metrics.items() if not key.endswith(FORECAST)}


def same_damage(others: Iterable[Finding]) -> str:
    """Which other rules tell the same damage, in one line."""
    rules = dict.fromkeys(f"{shown(other.code, 20)} {shown(other.name, 60)}" for other in others)
    return f"The same damage: {', '.join(rules)}"


def verdict(held: Verdict | None) -> str:
    """The word for a verdict, also for that there is none."""
    return held.value if held else "unknown"


def marked_verdict(held: Verdict | None) -> str:
    """`✖ breaks`."""
    return f"{VERDICT_MARK[held]} {verdict(held)}"


def verdicts(model: ModelResult) -> str:
    """`int8-per-tensor breaks (-4.0 dB, top-1 5.2 %, measured), int8-per-channel …` on one line."""
    if not model.schemes:
        return f"no scheme was judged: {visible(model.format)} model"
    return ", ".join(
        f"{name(result.scheme, 40)} {verdict(result.verdict)} ({_figures(result)})" for result in model.schemes
    )


def _figures(result: SchemeResult) -> str:
    missing = missing_sqnr(result)
    if missing:
        return shown(missing).rstrip(".")
    about = "about " if result.uncertainty_db is not None else ""
    worst = result.worst
    text = f"{about}{decibel(result.output_sqnr_db if worst is None else worst.sqnr_db)}"
    if result.agreement is not None:
        text += f", top-1 {about}{percent(round(result.agreement, 2 if about else 3))}"
    return f"{text}, {result.basis.value}"


def basis(result: SchemeResult, calibration: CalibrationSummary | None) -> str:
    """What a verdict rests on, in words."""
    if result.basis is Basis.FORECAST:
        ran = "the run gave no figure" if result.ran or calibration is not None else "nothing was run"
        return f"forecast from the file alone, {ran}" if result.verdict else ran
    ran = f": {visible(result.measured_as)}" if result.measured_as else ""
    if result.basis is Basis.PROBE:
        return f"probed by running the model on synthetic inputs{ran}"
    if calibration is None:
        return f"measured by running the model{ran}"
    kind = "synthetic sample" if calibration.synthetic else "sample"
    if calibration.held_out:
        return f"measured on {count(calibration.held_out, f'held-out {kind}')}{ran}"
    same = f"measured on {count(calibration.samples, kind)} that ranges were taken from too, as there are no others"
    return f"{same}{ran}"


def missing_sqnr(result: SchemeResult) -> str | None:
    """Why a scheme has no finite output SQNR; None where it has one."""
    value = result.output_sqnr_db
    if value is not None and math.isfinite(value):
        return None
    if value is not None and not math.isnan(value):
        return PERFECT_OUTPUT if value > 0 else "no signal left at the output"
    if result.note:
        return result.note
    # `VerdictLevels.verdict` calls a missing SQNR a perfect match, and that survives.
    if result.verdict is Verdict.SURVIVES:
        return PERFECT_OUTPUT
    return "not determined"


def reason(result: SchemeResult) -> str:
    """The figures behind a verdict: `-4.0 dB at the output, top-1 agrees with float on 5 % of samples`."""
    missing = missing_sqnr(result)
    if missing:
        return shown(missing).rstrip(".")
    if result.uncertainty_db is not None:
        text = f"about {decibel(result.output_sqnr_db)} at the output, give or take {number(result.uncertainty_db)}"
        about = "about "
    else:
        text, about = f"{decibel(result.output_sqnr_db)} at the output", ""
    judged = [output for output in result.outputs if output.verdict is not None]
    if len(judged) > 1 and result.worst is not None:
        return f"worst output {name(result.worst.name, 40)!r}: {output_figures(result.worst)}"
    if result.agreement is not None:
        agreed = percent(round(result.agreement, 2 if about else 3))
        text = f"{text}, top-1 agrees with float on {about}{agreed} of samples{_interval(result.interval)}"
    return text


def output_figures(output: OutputResult) -> str:
    """`35.8 dB`, with the agreement where there is one."""
    text = PERFECT if output.sqnr_db is None else decibel(output.sqnr_db)
    if output.agreement is not None:
        text = f"top-1 agrees with float on {percent(round(output.agreement, 3))}{_interval(output.interval)}, {text}"
    return text


def outputs(result: SchemeResult) -> tuple[str, ...]:
    """What is to be said of outputs where several were run: the note of the worst, a line for each other one."""
    worst = result.worst
    if len(result.outputs) < 2 or worst is None:
        return ()
    lines = (
        f"{name(output.name, 40)!r} ({output.holds}) {output.verdict}: {output_figures(output)}"
        + (f"; {shown(output.note)}" if output.note else "")
        if output.verdict is not None
        else f"{name(output.name, 40)!r}: {shown(output.note)}"
        for output in result.outputs
        if output is not worst
    )
    return (*filter(None, [_capital(shown(worst.note))]), *lines)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _interval(interval: tuple[float, float] | None) -> str:
    """` (55 to 84 % …)`; empty without one."""
    return "" if interval is None else f" (95 % interval: {100 * interval[0]:.0f} to {100 * interval[1]:.0f} %)"


def accuracy(top1: Top1) -> str:
    """`top-1 right on 71.9 % of 32 labelled samples, float 75 %: 3.1 % lost (95 % interval: -5 to 11 %)`."""
    low, high = (f"{round(100 * end) + 0:d}" for end in top1.interval)
    changed = f"{percent(round(abs(top1.loss), 3))} {'gained' if top1.loss < 0 else 'lost'}"
    interval = f"{low} to {high} % lost" if top1.loss < 0 else f"{low} to {high} %"
    return (
        f"top-1 right on {percent(round(top1.quantised_accuracy, 3))} of {count(top1.rows, 'labelled sample')}, float "
        f"{percent(round(top1.float_accuracy, 3))}: {changed} (95 % interval: {interval})"
    )


def note(result: SchemeResult) -> str:
    """What weakens the verdict, where `reason` and `outputs` have not said it already."""
    if missing_sqnr(result) == result.note or outputs(result):
        return ""
    return _capital(shown(result.note))


def calibration_words(calibration: CalibrationSummary) -> str:
    """What the run was fed, on one line."""
    divided = f" for ranges, {count(calibration.held_out, 'other')} for the verdict" if calibration.held_out else ""
    preprocessing = f", {shown(calibration.preprocessing)}" if calibration.preprocessing else ""
    ranges = f", ranges by {name(calibration.observer, 40)}" if calibration.observer != "min-max" else ""
    return f"{name(calibration.source)}: {count(calibration.samples, 'sample')}{divided}{preprocessing}{ranges}"


def joint_remedy(remedy: JointRemedy) -> str:
    """For whom, what it did, on how many samples: `It survives: 8.6 → 14.7 dB, tried on 32 held-out samples`."""
    scheme, samples = name(remedy.scheme, 80), f"{'held-out ' if remedy.held_out else ''}sample"
    condition = "Where the hardware has one scale a tensor only, do" if remedy.coarse_only else "Do"
    first = f" Export the model at opset {remedy.opset} or higher first." if remedy.opset else ""
    told = f"{_outcome(remedy)}, tried on {count(remedy.samples, samples)}"
    parts = "all of this" if len(remedy.nodes_to_exclude) > 1 else "this"
    return f"{condition} {parts} for {scheme}. It {told}.{first}"


def _outcome(remedy: JointRemedy) -> str:
    """`survives: 8.6 → 14.7 dB`; `helps, not enough: 8.6 → 11.0 dB, still degrades`."""
    after = figure(remedy.after_db) if remedy.after_db is not None else PERFECT
    change = f"{figure(remedy.before_db)} → {after}" + (" dB" if remedy.after_db is not None else "")
    if remedy.before_agreement is not None and remedy.after_agreement is not None:
        change += f", top-1 agreement {percent(remedy.before_agreement)} → {percent(remedy.after_agreement)}"
    if remedy.verdict_after is Verdict.SURVIVES:
        return f"survives: {change}"
    still = "still " if remedy.verdict_after is remedy.verdict_before else ""
    return f"helps, not enough: {change}, {still}{verdict(remedy.verdict_after)}"


SYNTHETIC = (
    "Synthetic calibration: the model ran on random values, not on data. Every measured figure here may differ on "
    "real inputs; do not release on it."
)
CRASHED = "A rule crashed, so this report is incomplete. Do not take a missing finding for a clean model."


def warnings(model: ModelResult) -> tuple[str, ...]:
    """What the reader must know before any figure."""
    said = []
    if model.rule_crashed:
        said.append(CRASHED)
    if model.calibration is not None and model.calibration.synthetic:
        said.append(SYNTHETIC)
    return tuple(said)


def nothing_found(model: ModelResult, clean: bool) -> str:
    """That no rule found anything that counts, and what this does not mean."""
    refuted = any(not finding.counts for finding in model.findings)
    text = "no findings that count" if refuted else "no findings"
    lost = any(result.verdict in (Verdict.BREAKS, Verdict.DEGRADES) for result in model.schemes)
    return f"{text}: no rule says where the loss comes from" if lost and not clean else text


def headline(model: ModelResult) -> str:
    """`float model, opset 13, 53 layers`."""
    return f"{visible(model.format)} model, opset {model.opset}, {count(len(model.layers), 'layer')}"


def time_spent(seconds: Mapping[str, float]) -> str:
    """`time: read 0.1 s, run 2.0 s`."""
    return "time: " + ", ".join(f"{name(stage, 30)} {number(spent)} s" for stage, spent in seconds.items())


def metric(value: object) -> str:
    """A metric as shown: six significant digits, names bounded."""
    if isinstance(value, float):
        return significant(value, 6)
    return "-" if value is None else name(str(value))
