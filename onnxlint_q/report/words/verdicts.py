"""How the verdict on a scheme reads."""

from __future__ import annotations

import math

from onnxlint_q.report.words.names import name, shown, visible
from onnxlint_q.report.words.numbers import PERFECT, count, decibel, number, percent, significant
from onnxlint_q.workflow.results import (
    Basis,
    CalibrationSummary,
    ModelResult,
    OutputResult,
    SchemeResult,
    Top1,
    Verdict,
)

VERDICT_MARK = {Verdict.BREAKS: "✖", Verdict.DEGRADES: "▲", Verdict.SURVIVES: "✔", None: "?"}
_PREPARED = "after quant_pre_process"
PERFECT_OUTPUT = f"{PERFECT}: the output equals the float model's"


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
        text += f", top-1 {_rate(result.agreement, result.basis)}"
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
    return f"{_unloadable(result)}{_reason(result)}"


def _unloadable(result: SchemeResult) -> str:
    """First of all that the quantised file does not load, where it does not."""
    if result.loads_from is None:
        return ""
    return f"the quantised file does not load; exported at opset {result.loads_from}: "


def _reason(result: SchemeResult) -> str:
    missing = missing_sqnr(result)
    if missing:
        return shown(missing).rstrip(".")
    if result.uncertainty_db is not None:
        text = f"about {decibel(result.output_sqnr_db)} at the output, give or take {number(result.uncertainty_db)}"
    else:
        text = f"{decibel(result.output_sqnr_db)} at the output"
    if len(result.judged) > 1 and result.worst is not None:
        said = output_figures(result.worst, result)
        return f"worst {_end(result.worst)}: {said}"
    if result.agreement is not None:
        agreed = _rate(result.agreement, result.basis)
        text = f"{text}, top-1 agrees with float on {agreed} of samples{_interval(result.interval)}"
    return text


def brief_reason(result: SchemeResult) -> str:
    """The same in half a line: `-4.0 dB; same top class as float: 5 % (1 to 9 %)`."""
    return f"{_unloadable(result)}{_brief_reason(result)}"


def _brief_reason(result: SchemeResult) -> str:
    missing = missing_sqnr(result)
    if missing:
        return shown(missing).rstrip(".")
    worst = result.worst
    if len(result.judged) > 1 and worst is not None:
        figures = PERFECT if worst.sqnr_db is None else decibel(worst.sqnr_db)
        if result.uncertainty_db is not None and worst.sqnr_db is not None:
            figures = f"about {number(worst.sqnr_db, 0)} ± {significant(result.uncertainty_db, 2)} dB"
        where = f"the worst {_end(worst, 24)}"
        return f"{figures} at {where}{_agreed(worst.agreement, worst.interval, result.basis)}"
    if result.uncertainty_db is None:
        return f"{decibel(result.output_sqnr_db)}{_agreed(result.agreement, result.interval, result.basis)}"
    about = f"about {number(result.output_sqnr_db or 0.0, 0)} ± {significant(result.uncertainty_db, 2)} dB"
    return f"{about}{_agreed(result.agreement, result.interval, result.basis)}"


def _agreed(agreement: float | None, interval: tuple[float, float] | None, basis: Basis) -> str:
    if agreement is None:
        return ""
    about = "" if basis is Basis.MEASURED else "about "
    sure = "" if interval is None else f" ({100 * interval[0]:.0f} to {100 * interval[1]:.0f} %)"
    return f"; same top class as float: {about}{100 * agreement:.0f} %{sure}"


def _rate(agreement: float, basis: Basis) -> str:
    """A share of samples: counted where it was measured, else an estimate."""
    return percent(round(agreement, 3)) if basis is Basis.MEASURED else f"about {percent(round(agreement, 2))}"


def mended(result: SchemeResult) -> str:
    """What becomes of the verdict once it is mended: `with the mask at -100: survives, 25.0 dB (tried)`."""
    if result.mended is None:
        return ""
    after = result.mended.result
    worst = after.worst
    left = after.output_sqnr_db if worst is None else worst.sqnr_db
    figures = PERFECT if left is None else f"{number(left)} dB"
    if after.uncertainty_db is not None:
        figures = f"about {number(left or 0.0, 0)} ± {significant(after.uncertainty_db, 2)} dB"
    agreed = "" if after.agreement is None else f", top class {100 * after.agreement:.0f} %"
    other = "" if after.basis is result.basis else f" ({after.basis.value})"
    ground = " (tried)" if after.basis is Basis.MEASURED else other
    return f"with {shown(result.mended.what)}: {verdict(after.verdict)}, {figures}{agreed}{ground}"


def weakness(result: SchemeResult) -> tuple[str, ...]:
    """What else is to be known of a verdict at once: the loss on labelled samples, and what weakens the figure."""
    right = "" if result.top1 is None else accuracy(result.top1)
    worst = result.worst
    weaker = shown(worst.note) if outputs(result) and worst is not None else note(result)
    return tuple(filter(None, (mended(result), right, weaker)))


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
    ranges = result.ranges or f"the ranges come from {calibration.samples} others"
    return "; ".join(filter(None, (prepared, shown(ranges), shown(result.left))))


def output_figures(output: OutputResult, of: SchemeResult) -> str:
    """`35.8 dB`, with the agreement where there is one; told as an estimate where the result that it is of is one."""
    about = "about " if of.uncertainty_db is not None else ""
    text = PERFECT if output.sqnr_db is None else f"{about}{decibel(output.sqnr_db)}"
    if output.agreement is not None:
        agreed = _rate(output.agreement, of.basis)
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
        f"{name(output.name, 40)!r} ({output.holds}) {output.verdict}: {output_figures(output, result)}"
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
