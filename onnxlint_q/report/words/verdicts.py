"""How the verdict on a scheme reads."""

from __future__ import annotations

import math

from onnxlint_q.report.words.names import name, shown, visible
from onnxlint_q.report.words.numbers import PERFECT, count, decibel, number, percent
from onnxlint_q.workflow.results import (
    Basis,
    CalibrationSummary,
    ModelResult,
    OutputResult,
    SchemeResult,
    Top1,
    Verdict,
)

VERDICT_MARK = {Verdict.BREAKS: "✖", Verdict.DEGRADES: "▲", Verdict.SURVIVES: "✔", Verdict.UNCERTAIN: "?", None: "?"}
_DECIDED = frozenset({Verdict.BREAKS, Verdict.DEGRADES, Verdict.SURVIVES})
_PREPARED = "after quant_pre_process"
_ONCE = ", once "
PERFECT_OUTPUT = f"{PERFECT}: the output equals the float model's"


def verdict(held: Verdict | None) -> str:
    """The word for a verdict, also for that there is none."""
    return held.value if held else "unknown"


def shown_as(result: SchemeResult) -> Verdict | None:
    """The verdict whose mark and colour it gets: what survives in a file that does not load is no success."""
    return Verdict.DEGRADES if result.verdict is Verdict.SURVIVES and result.obstacle is not None else result.verdict


def marked_verdict(result: SchemeResult) -> str:
    """`✖ breaks (93 %)`."""
    return f"{VERDICT_MARK[shown_as(result)]} {verdict(result.verdict)}{chance(result)}"


def chance(result: SchemeResult) -> str:
    """` (93 %)`: how likely the verdict is; empty where it is measured, or there is none."""
    if result.chances is None or result.basis is Basis.MEASURED or result.verdict not in _DECIDED:
        return ""
    return f" ({_likely(result.chances.of(result.verdict))})"


def judged(result: SchemeResult) -> str:
    """`breaks (93 %)`; `uncertain: probably degrades (55 %)`; `unknown`."""
    probably = f": {likeliest(result)}" if likeliest(result) else ""
    return f"{verdict(result.verdict)}{chance(result)}{probably}"


def change(before: SchemeResult, after: SchemeResult) -> str:
    """`-9.1 → 25.8 dB, survives`: a scheme before and after something was done."""
    first, second = (decibel(result.output_sqnr_db) for result in (before, after))
    return f"{first.removesuffix(' dB')} → {second}, {verdict(after.verdict)}"


def likeliest(result: SchemeResult) -> str:
    """`probably degrades (55 %)`, where the verdict is uncertain; else empty."""
    if result.verdict is not Verdict.UNCERTAIN or result.chances is None:
        return ""
    held = result.chances.likeliest
    return f"probably {held.value} ({_likely(result.chances.of(held))})"


def deciding(result: SchemeResult) -> str:
    """What would decide an uncertain verdict; empty for any other."""
    if result.verdict is not Verdict.UNCERTAIN:
        return ""
    data = "a run on your data (--calibrate PATH)"
    return f"to decide: {data}" if result.basis is Basis.PROBE else f"to decide: {data}, or without data --probe"


def _likely(value: float) -> str:
    """A chance in whole percent; nothing that is not measured is sure."""
    return "over 99 %" if value > 0.99 else f"{100 * value:.0f} %"


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
    worst = result.worst
    text = f"{_about(result)}{decibel(result.output_sqnr_db if worst is None else worst.sqnr_db)}"
    if result.agreement is not None:
        text += f", top-1 {_rate(result, result.agreement)}"
    sure = likeliest(result) or chance(result).strip(" ()")
    return ", ".join(filter(None, [sure, text, result.basis.value]))


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
    # A file that is quantised already has its ranges, and so has what takes them from each run.
    same = " that ranges were taken from too, as there are no others" if ran and not result.ranges else ""
    return f"measured on {count(calibration.samples, kind)}{same}{ran}"


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
    return f"{_useless(result)}{_reason(result)}"


def _useless(result: SchemeResult) -> str:
    """First of all that the quantised file is of no use, where it is not."""
    held = result.obstacle
    return f"the quantised file {held.fault}; once {held.once}: " if held is not None else ""


def _reason(result: SchemeResult) -> str:
    missing = missing_sqnr(result)
    if missing:
        return shown(missing).rstrip(".")
    if len(result.judged) > 1 and result.worst is not None:
        return f"worst {_end(result.worst)}: {output_figures(result.worst)}"
    text = f"{_about(result)}{decibel(result.output_sqnr_db)} at the output{_four_of_five(result.interval_db)}"
    if result.agreement is not None:
        agreed = _rate(result, result.agreement)
        text = f"{text}, top-1 agrees with float on {agreed} of samples{_interval(result.interval)}"
    return text


def brief_reason(result: SchemeResult) -> str:
    """The same in half a line: `-4.0 dB; same top class as float: 5 % (1 to 9 %)`."""
    return f"{_useless(result)}{_brief_reason(result)}"


def _brief_reason(result: SchemeResult) -> str:
    missing = missing_sqnr(result)
    if missing:
        return shown(missing).rstrip(".")
    worst = result.worst
    if len(result.judged) > 1 and worst is not None:
        figures = PERFECT if worst.sqnr_db is None else _in_short(worst.sqnr_db, worst.interval_db)
        figures += f" at the worst {_end(worst, 24)}{_agreed(worst)}"
    else:
        figures = f"{_in_short(result.output_sqnr_db or 0.0, result.interval_db)}{_agreed(result)}"
    return "; ".join(filter(None, [likeliest(result), figures]))


def _in_short(sqnr_db: float, interval: tuple[float, float] | None) -> str:
    """`-4.0 dB`, `about -4 dB (80 %: -8 to 2)`."""
    return decibel(sqnr_db) if interval is None else f"about {number(sqnr_db, 0)} dB{_four_of_five(interval)}"


def _four_of_five(interval: tuple[float, float] | None) -> str:
    """` (80 %: -8 to 2)`: where four of five measurements lie."""
    return "" if interval is None else f" (80 %: {interval[0]:.0f} to {interval[1]:.0f})"


def _about(held: SchemeResult | OutputResult) -> str:
    """Before a figure that is not counted but expected."""
    return "" if held.interval_db is None else "about "


def _agreed(held: SchemeResult | OutputResult) -> str:
    if held.agreement is None:
        return ""
    sure = "" if held.interval is None else f" ({100 * held.interval[0]:.0f} to {100 * held.interval[1]:.0f} %)"
    return f"; same top class as float: {_about(held)}{100 * held.agreement:.0f} %{sure}"


def _rate(held: SchemeResult | OutputResult, agreement: float) -> str:
    """A share of samples."""
    about = _about(held)
    return f"{about}{percent(round(agreement, 2 if about else 3))}"


def mended(result: SchemeResult) -> str:
    """What becomes of the verdict once it is mended: `with the mask at -100: survives, 25.0 dB (tried)`."""
    if result.mended is None:
        return ""
    after = result.mended.result
    worst = after.worst
    left = after.output_sqnr_db if worst is None else worst.sqnr_db
    figures = PERFECT if left is None else _in_short(left, after.interval_db)
    agreed = "" if after.agreement is None else f", top class {_about(after)}{100 * after.agreement:.0f} %"
    other = "" if after.basis is result.basis else f" ({after.basis.value})"
    ground = " (tried)" if after.basis is Basis.MEASURED else other
    return f"with {shown(result.mended.what)}: {judged(after)}, {figures}{agreed}{ground}"


def weakness(result: SchemeResult) -> tuple[str, ...]:
    """What else is to be known of a verdict at once: the loss on labelled samples, and what weakens the figure."""
    right = "" if result.top1 is None else accuracy(result.top1)
    worst = result.worst
    weaker = shown(worst.note) if outputs(result) and worst is not None else note(result)
    return tuple(filter(None, (mended(result), right, weaker, deciding(result))))


def limits(model: ModelResult) -> str:
    """Where the verdicts change, for the kinds of outputs that were judged; empty where none was."""
    judged = [result for result in model.schemes if result.verdict is not None]
    levels = model.levels
    values = f"breaks under {levels.breaks_db:g} dB, survives over {levels.survives_db:g} dB"
    low, high = percent(levels.breaks_agreement), percent(levels.survives_agreement)
    said = []
    if any(result.agreement is not None for result in judged):
        said.append(f"breaks if the top class is the same for under {low}, survives over {high}")
    if any(result.agreement is None or len(result.outputs) > 1 for result in judged):
        said.append(f"other outputs: {values}" if said else values)
    return _capital(f"{'; '.join(said)}.") if said else ""


def grounds(model: ModelResult) -> tuple[str, ...]:
    """What the verdicts rest on, each sort once; where that is one sort, how its schemes differ stands in a line."""
    said: dict[str, dict[str, list[str]]] = {}
    for result in model.schemes:
        text = basis(result, model.calibration).removesuffix(f": {visible(result.measured_as)}")
        kinds = said.setdefault(text, {})
        kinds.setdefault(_details(result, model.calibration), []).append(name(result.scheme, 40))
    if len(said) > 1:
        return tuple(
            f"{', '.join(schemes)}: {_joined(text, details)}."
            for text, kinds in said.items()
            for details, schemes in kinds.items()
        )
    lines: list[str] = []
    for text, kinds in said.items():
        if len(kinds) == 1:
            lines.append(f"{_capital(_joined(text, *kinds))}.")
            continue
        lines.append(f"{_capital(text)}.")
        lines.append(" ".join(f"{', '.join(schemes)}: {details}." for details, schemes in kinds.items() if details))
    return tuple(lines)


def _joined(text: str, details: str) -> str:
    separator = ", " if details.startswith(_PREPARED) else "; "
    return f"{text}{separator}{details}" if details else text


def _details(result: SchemeResult, calibration: CalibrationSummary | None) -> str:
    """How a verdict's scheme was run, as far as not all schemes are run alike."""
    if result.basis is not Basis.MEASURED or calibration is None or not calibration.held_out:
        return shown(result.in_float)
    prepared = _PREPARED if _PREPARED in result.measured_as else ""
    _, once, condition = result.measured_as.partition(_ONCE)
    prepared += f"{once}{condition}"
    ranges = result.ranges or f"the ranges come from {count(calibration.samples, 'other')}"
    return "; ".join(filter(None, (prepared, shown(ranges), shown(result.left))))


def output_figures(output: OutputResult) -> str:
    """`35.8 dB`, with the agreement where there is one."""
    text = PERFECT
    if output.sqnr_db is not None:
        text = f"{_about(output)}{decibel(output.sqnr_db)}{_four_of_five(output.interval_db)}"
    if output.agreement is not None:
        agreed = _rate(output, output.agreement)
        text = f"top-1 agrees with float on {agreed}{_interval(output.interval)}, {text}"
    return text


def _end(output: OutputResult, limit: int = 40) -> str:
    """`output 'boxes'`, or `part 'scores' of output 'detections'`."""
    own = repr(name(output.name, limit))
    return f"part {own} of output {name(output.of, limit)!r}" if output.of else f"output {own}"


def outputs(result: SchemeResult) -> tuple[str, ...]:
    """What is to be said of outputs where there are several: the note of the worst, a line for each other one."""
    worst = result.worst
    if len(result.ends) < 2 or worst is None:
        return ()
    lines = (
        f"{name(output.name, 40)!r} ({output.holds}) {output.verdict}: {output_figures(output)}"
        + (f"; {shown(output.note)}" if output.note else "")
        if output.verdict is not None
        else f"{name(output.name, 40)!r}: {shown(output.note)}"
        for output in result.ends
        if output is not worst and (output.verdict is not None or output.note)
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
