"""The verdict on each scheme: the strongest basis there is, and what each output says."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

from onnxlint_q.analysis.experiment import Experiment
from onnxlint_q.analysis.intervals import samples_to_decide, wilson
from onnxlint_q.analysis.number_formats import OVERFLOWN_DB
from onnxlint_q.analysis.observed.observers import DEFAULT_OBSERVER
from onnxlint_q.analysis.outputs.output_kind import Holds, Output
from onnxlint_q.analysis.schemes import PER_CHANNEL_OPSET, Scheme
from onnxlint_q.execute.variants.output_error import Comparable, OutputError, OutputFigures
from onnxlint_q.forecast.forecast import Forecast, OutputForecast, expected_agreement
from onnxlint_q.graph import Layer
from onnxlint_q.graph.element_types import FLOATS
from onnxlint_q.graph.names import ROOT
from onnxlint_q.judge.facts import Facts
from onnxlint_q.judge.verdict import Judge, Verdict, VerdictLevels, worst
from onnxlint_q.proof.prove import NO_SIGNAL
from onnxlint_q.workflow.record import Record
from onnxlint_q.workflow.results import Basis, OutputResult, SchemeResult

CODES_ONLY = "the layers compute with integer codes whose scales are not in the file"
NOTHING_TO_QUANTISE = "nothing to quantise: the scheme covers no weight, and no activation gets a scale"
_RUN_AWAY = "the forecast overflowed, so it says nothing about this model"


def is_lost(record: Record, scheme: Scheme) -> bool:
    """Whether a run on data showed that the model does not survive a scheme."""
    result = scheme_result(record, scheme)
    return result.basis is Basis.MEASURED and result.verdict not in (None, Verdict.SURVIVES)


def judge_of(record: Record) -> Judge:
    """The verdict on what a run on the data left at the outputs."""
    levels, data = record.config.levels, record.request.data
    by_class = data is not None and not data.source.synthetic

    def judge(error: OutputError) -> Verdict | None:
        return result_of_run("", error, Basis.MEASURED, levels, by_class=by_class).verdict

    return judge


def scheme_result(record: Record, scheme: Scheme) -> SchemeResult:
    """The verdict on a scheme, and whether the file that it is about loads."""
    result = _strongest(record, scheme)
    later = scheme.needs_opset(record.facts.model.opset)
    return replace(result, loads_from=PER_CHANNEL_OPSET) if later and result.verdict is not None else result


def _strongest(record: Record, scheme: Scheme) -> SchemeResult:
    """The strongest basis there is: measured on data, else probed, else forecast.

    A run on data that could judge no output decides that nothing is known: what is made up or foreseen does not stand
    in for it.
    """
    facts, levels = record.facts, record.config.levels
    if facts.coded:
        return SchemeResult(scheme.name, None, None, Basis.FORECAST, note=CODES_ONLY)
    if not facts.is_quantisable(scheme):
        return SchemeResult(scheme.name, None, None, Basis.FORECAST, note=_nothing(facts, scheme))
    ran = facts.observations is not None or record.probe is not None
    data = record.request.data
    by_class = data is not None and not data.source.synthetic
    forecast = facts.forecasts.get(scheme.name)
    sqnr_db = forecast.output_sqnr_db if forecast is not None else None
    unmeasured: list[str] = []
    for basis, stage in ((Basis.MEASURED, record.whole), (Basis.PROBE, record.probe)):
        error = stage.errors.get(Experiment(scheme)) if stage is not None else None
        if error is None:
            continue
        result = result_of_run(scheme.name, error, basis, levels, by_class=by_class)
        if result.verdict is not None:
            top1 = record.whole.top1.get(Experiment(scheme)) if basis is Basis.MEASURED and record.whole else None
            observer = data.observer if data is not None and basis is Basis.MEASURED else DEFAULT_OBSERVER
            said = scheme.as_measured(observer, facts.model.opset, folds_late=facts.folds_late)
            left = _left(facts, scheme)
            return replace(result, top1=top1, measured_as=said, ranges=scheme.ranges, left=left)
        if basis is Basis.MEASURED and by_class:
            foreseen = f"the forecast from the file is about {sqnr_db:.1f} dB" if sqnr_db is not None else ""
            return replace(result, note="; ".join(filter(None, [result.note, foreseen])))
        unmeasured.append(result.note)
    if forecast is None or sqnr_db is None or not is_figure(sqnr_db):
        ran_away = forecast is not None and forecast.ran_away
        note = "; ".join([*unmeasured, _RUN_AWAY if ran_away else _unforeseen(facts)])
        return SchemeResult(scheme.name, None, None, Basis.FORECAST, note=note, ran=ran, outputs=_foreseen(facts))
    weaker = [f"less sure: the forecast cannot follow {_listed(forecast.unknown)}"] if forecast.unknown else []
    open_ifs = _listed(map(repr, forecast.open_branches))
    branches = [f"{open_ifs} may take either branch: the first is taken"] if open_ifs else []
    failed = [f"the forecast failed at {forecast.failures[0]}; please report it"] if forecast.failures else []
    outputs = _foreseen(facts, forecast, levels)
    held = worst(output.verdict for output in outputs if output.verdict is not None)
    held = held or levels.verdict(sqnr_db, forecast.agreement)
    return SchemeResult(
        scheme=scheme.name,
        verdict=held,
        output_sqnr_db=sqnr_db,
        basis=Basis.FORECAST,
        agreement=forecast.agreement,
        note="; ".join([*unmeasured, *weaker, *branches, *failed]),
        uncertainty_db=forecast.uncertainty_db,
        rest_share=finite(forecast.rest_share),
        ran=ran,
        outputs=outputs,
        ranges=scheme.ranges,
        left=_left(facts, scheme),
    )


def _nothing(facts: Facts, scheme: Scheme) -> str:
    """Why a scheme quantises nothing, and what to do where layers would have been."""
    layers, quantizer = [folded.layer for folded in facts.folded], scheme.quantizer.value
    if not layers:
        return NOTHING_TO_QUANTISE
    if scheme.enters_bodies or any(layer.node.graph == ROOT for layer in layers):
        return f"nothing to quantise: {quantizer} leaves {_kinds_of(layers)} in float, and there is no other layer"
    return (
        f"nothing to quantise: {quantizer} does not enter the bodies of If, Loop and Scan, where all {len(layers)} "
        "layers lie; export the branch that you use as a model of its own, and lint that"
    )


def _left(facts: Facts, scheme: Scheme) -> str:
    """How many layers the quantiser leaves in float; empty where it leaves none."""
    left = [folded.layer for folded in facts.folded if not scheme.quantises(folded.layer)]
    if not left:
        return ""
    how_many = f"{len(left)} of {len(facts.folded)} layers stay{'s' * (len(left) == 1)} in float"
    return f"{how_many} under {scheme.quantizer.value} ({_kinds_of(left)})"


def _kinds_of(layers: Iterable[Layer]) -> str:
    """`GRU, LSTM`."""
    return _listed(sorted({layer.op_type for layer in layers}))


def _unforeseen(facts: Facts) -> str:
    """That no layer could be forecast, and why."""
    if facts.layers and all(layer.folded.layer.node.graph != ROOT for layer in facts.layers):
        why = ": they lie in bodies of Loop or Scan, which the forecast does not enter"
    elif not any(value.type.elem_type in FLOATS for value in facts.model.inputs):
        why = ": no input is a float, and the forecast follows floats alone"
    else:
        why = ""
    return f"no layer of this model could be forecast{why}"


def _foreseen(
    facts: Facts, forecast: Forecast | None = None, levels: VerdictLevels | None = None
) -> tuple[OutputResult, ...]:
    """What each output holds, and what is forecast of it."""
    known = forecast.outputs if forecast is not None else {}
    return tuple(_foreseen_output(output, known.get(output.name), levels) for output in facts.outputs)


def _foreseen_output(output: Output, known: OutputForecast | None, levels: VerdictLevels | None) -> OutputResult:
    told = OutputResult(output.name, output.holds.value, assumed=output.because)
    if known is None or levels is None:
        return told
    sqnr_db, agreement = known.sqnr_db, known.agreement
    told = replace(told, sqnr_db=sqnr_db, agreement=agreement, verdict=levels.verdict(sqnr_db, agreement))
    figures = {part.name: part for part in known.parts}
    parts = (
        _foreseen_output(part.held, figures[part.held.name], levels)
        for part in output.parts
        if part.held.name in figures
    )
    return _with_parts(told, tuple(parts))


def _with_parts(output: OutputResult, parts: tuple[OutputResult, ...]) -> OutputResult:
    """An output with the verdict of its worst part; as it is where it is one thing or no part is judged."""
    held = worst(part.verdict for part in parts if part.verdict is not None)
    if held is None:
        return output
    return replace(output, verdict=held, parts=tuple(replace(part, of=output.name) for part in parts))


def result_of_run(
    scheme: str, error: OutputError, basis: Basis, levels: VerdictLevels, *, by_class: bool
) -> SchemeResult:
    """The verdict on what a run left at the outputs; none, with the reason, where that is no figure.

    Args:
        scheme: what was run.
        error: against the float model.
        basis: what was run on.
        levels: where the verdict changes.
        by_class: whether it counts which class is the largest. On made-up inputs that is chance, and so is whether it
            stays the largest; a probe goes by how often it does at this SQNR.
    """
    outputs = tuple(
        judge_output(figures, levels, by_class=by_class and basis is Basis.MEASURED, foreseen=basis is Basis.PROBE)
        for figures in error.outputs
    )
    if not error.has_signal:
        note = "; ".join(dict.fromkeys(output.note for output in outputs if output.note)) or NO_SIGNAL
        return SchemeResult(scheme, None, None, basis, note=note, ran=True, outputs=outputs)
    if error.sqnr_db is not None and not is_figure(error.sqnr_db):
        return SchemeResult(scheme, None, None, basis, note="the run gave no finite figure", ran=True, outputs=outputs)
    identical = ["the outputs are identical"] if error.sqnr_db is None else []
    held = worst(output.verdict for output in outputs if output.verdict is not None)
    agreements = [output.agreement for output in outputs if output.agreement is not None]
    ends = [end for output in outputs for end in (output.parts or (output,))]
    notes = [end.note if len(ends) == 1 else f"{end.name!r}: {end.note}" for end in ends if end.note]
    return SchemeResult(
        scheme,
        held,
        error.sqnr_db,
        basis,
        min(agreements, default=None),
        "; ".join([*identical, *notes]),
        ran=True,
        outputs=outputs,
    )


def judge_output(
    figures: OutputFigures, levels: VerdictLevels, *, by_class: bool, foreseen: bool = False
) -> OutputResult:
    """The verdict on one output; `foreseen` takes the agreement of class scores from their SQNR."""
    parts = tuple(_judged(part, levels, by_class=False) for part in figures.parts)
    return _with_parts(_judged(figures, levels, by_class=by_class, foreseen=foreseen), parts)


def _judged(figures: OutputFigures, levels: VerdictLevels, *, by_class: bool, foreseen: bool = False) -> OutputResult:
    """The verdict on an output as a whole, or on a part."""
    holds = figures.holds.value
    if figures.comparable is not Comparable.YES:
        return OutputResult(figures.name, holds, note=_not_judged(figures), assumed=figures.because)
    agreement = figures.agreement if by_class else None
    scored = foreseen and figures.holds is Holds.CLASS_SCORES and figures.sqnr_db is not None
    expected = expected_agreement(figures.sqnr_db or 0.0) if scored else None
    held = levels.verdict(figures.sqnr_db, agreement if expected is None else expected)
    if agreement is None:
        return OutputResult(figures.name, holds, figures.sqnr_db, expected, verdict=held, assumed=figures.because)
    interval = wilson(agreement * figures.rows, figures.rows)
    # What is identical is so on every sample.
    crossed = levels.crossed(*interval) if figures.sqnr_db is not None else ()
    note = _undecided(agreement, figures.rows, crossed)
    return OutputResult(figures.name, holds, figures.sqnr_db, agreement, interval, held, note, figures.because)


def _undecided(agreement: float, rows: float, levels: Sequence[float]) -> str:
    """That an interval holds a level, and how many samples would tell."""
    if not levels:
        return ""
    crossed = " and ".join(f"{100 * level:g} %" for level in levels)
    needed = [samples_to_decide(agreement * rows, rows, level) for level in levels]
    known = [number for number in needed if number is not None]
    more = f"; about {max(known)} would do" if known and len(known) == len(needed) else ""
    return f"too few samples to be sure of the {crossed} limit{'s' * (len(levels) > 1)}{more}"


def _not_judged(figures: OutputFigures) -> str:
    if figures.comparable is not Comparable.RESTING:
        return f"not judged: {figures.comparable}"
    passed = f" (float values stay under {figures.largest:.1g})" if figures.largest < 1 else ""
    return f"not judged: {figures.comparable}{passed}; give samples that hold what the model looks for"


def _listed(operators: Iterable[str], limit: int = 3) -> str:
    """`Loop, Scan and 2 other operators`."""
    names = list(operators)
    more = len(names) - limit
    return ", ".join(names[:limit]) + f" and {more} other operator{'s' * (more > 1)}" * (more > 0)


def is_figure(sqnr_db: float) -> bool:
    """Whether an SQNR can be one: finite, and not below that of an output that overflows."""
    return math.isfinite(sqnr_db) and sqnr_db >= OVERFLOWN_DB


def finite(value: float | None) -> float | None:
    """The value where it is a number that can be told."""
    return value if value is not None and math.isfinite(value) else None
