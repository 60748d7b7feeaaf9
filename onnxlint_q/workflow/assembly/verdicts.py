"""The verdict on each scheme: the strongest basis there is, and what each output says."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from onnxlint_q.analysis.experiment import Experiment
from onnxlint_q.analysis.intervals import samples_to_decide, wilson
from onnxlint_q.analysis.number_formats import OVERFLOWN_DB
from onnxlint_q.analysis.observed.observers import DEFAULT_OBSERVER
from onnxlint_q.analysis.outputs.output_kind import Holds, Output
from onnxlint_q.analysis.schemes import PER_CHANNEL_OPSET, Scheme
from onnxlint_q.forecast.expected.level import Level, Traits, level
from onnxlint_q.forecast.expected.level_table import PROBE
from onnxlint_q.forecast.expected.traits import TOGETHER, Place
from onnxlint_q.forecast.forecast import Forecast
from onnxlint_q.graph import Layer, Model
from onnxlint_q.graph.element_types import FLOATS
from onnxlint_q.graph.names import ROOT
from onnxlint_q.judge.facts import Facts
from onnxlint_q.judge.verdict import Chances, Judge, Verdict, VerdictLevels, worst, worst_chances
from onnxlint_q.workflow.record import Record
from onnxlint_q.workflow.results import Basis, OutputResult, SchemeResult

if TYPE_CHECKING:
    from onnxlint_q.execute.variants.output_error import OutputError, OutputFigures

CODES_ONLY = "the layers compute with integer codes whose scales are not in the file"
NOTHING_TO_QUANTISE = "nothing to quantise: the scheme covers no weight, and no activation gets a scale"
_RUN_AWAY = "the forecast overflowed, so it says nothing about this model"


def is_lost(record: Record, scheme: Scheme) -> bool:
    """Whether a run on data showed that the model does not survive a scheme."""
    result = scheme_result(record, scheme)
    return result.basis is Basis.MEASURED and result.verdict not in (None, Verdict.SURVIVES)


def judge_of(record: Record) -> Judge:
    """The verdict on what a run on the data left at the outputs."""
    data = record.request.data
    return judge_by(record.config.levels, by_class=data is not None and not data.source.synthetic)


def judge_by(levels: VerdictLevels, *, by_class: bool) -> Judge:
    """The verdict on what a run left at the outputs; class scores count as such with `by_class` only."""

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
    expected = forecast.level() if forecast is not None else None
    unmeasured: list[str] = []
    for basis, stage in ((Basis.MEASURED, record.whole), (Basis.PROBE, record.probe)):
        error = stage.errors.get(Experiment(scheme)) if stage is not None else None
        if error is None:
            continue
        if basis is Basis.PROBE:
            result = result_of_probe(scheme.name, error, levels, forecast.traits if forecast is not None else {})
        else:
            result = result_of_run(scheme.name, error, basis, levels, by_class=by_class)
        if result.verdict is not None:
            top1 = record.whole.top1.get(Experiment(scheme)) if basis is Basis.MEASURED and record.whole else None
            observer = data.observer if data is not None and basis is Basis.MEASURED else DEFAULT_OBSERVER
            said = scheme.as_measured(observer, facts.model.opset, folds_late=facts.folds_late)
            left = _left(facts, scheme)
            return replace(result, top1=top1, measured_as=said, ranges=scheme.ranges, left=left)
        if basis is Basis.MEASURED and by_class:
            foreseen = f"the forecast from the file is about {expected.sqnr_db:.1f} dB" if expected is not None else ""
            return replace(result, note="; ".join(filter(None, [result.note, foreseen])))
        unmeasured.append(result.note)
    if forecast is not None and forecast.ruined:
        return _ruined(facts, scheme, forecast.ruined, ran=ran)
    if forecast is None or expected is None:
        ran_away = forecast is not None and forecast.ran_away
        note = "; ".join([*unmeasured, _RUN_AWAY if ran_away else _unforeseen(facts, forecast)])
        outputs = tuple(map(_named, facts.outputs))
        return SchemeResult(scheme.name, None, None, Basis.FORECAST, note=note, ran=ran, outputs=outputs)
    weaker = [f"less sure: the forecast cannot follow {_listed(forecast.unknown)}"] if forecast.unknown else []
    open_ifs = _listed(map(repr, forecast.open_branches))
    branches = [f"{open_ifs} may take either branch: the first is taken"] if open_ifs else []
    failed = [f"the forecast failed at {forecast.failures[0]}; please report it"] if forecast.failures else []
    outputs = tuple(_foreseen(output, forecast, levels) for output in facts.outputs)
    chances = _of_worst(outputs) or levels.chances(expected)
    return SchemeResult(
        scheme=scheme.name,
        verdict=chances.verdict,
        output_sqnr_db=expected.sqnr_db,
        basis=Basis.FORECAST,
        agreement=_least_agreement(outputs),
        note="; ".join([*unmeasured, *weaker, *branches, *failed]),
        uncertainty_db=expected.uncertainty_db,
        rest_share=finite(forecast.rest_share),
        ran=ran,
        outputs=outputs,
        chances=chances,
        interval_db=expected.interval_db,
        ranges=scheme.ranges,
        left=_left(facts, scheme),
    )


def _ruined(facts: Facts, scheme: Scheme, tables: Sequence[str], *, ran: bool) -> SchemeResult:
    """What the file alone decides: a scale that is no number leaves none at the outputs."""
    note = f"{scheme.quantizer.value} makes a scale of {_listed(map(repr, tables))}, which holds values that are not"
    certain = Chances.certain(Verdict.BREAKS)
    outputs = tuple(replace(_named(output), verdict=Verdict.BREAKS, chances=certain) for output in facts.outputs)
    return SchemeResult(
        scheme.name,
        Verdict.BREAKS,
        None,
        Basis.FORECAST,
        note=f"{note} finite: the outputs are no numbers",
        ran=ran,
        outputs=outputs,
        chances=certain,
    )


def _nothing(facts: Facts, scheme: Scheme) -> str:
    """Why a scheme quantises nothing, and what to do where layers would have been."""
    layers, quantizer = [folded.layer for folded in facts.folded], scheme.quantizer.value
    if not layers:
        return NOTHING_TO_QUANTISE
    if scheme.enters_bodies or any(layer.node.graph == ROOT for layer in layers):
        kinds = _kinds_of(facts, scheme, layers)
        return f"nothing to quantise: {quantizer} leaves {kinds} in float, and there is no other layer"
    holders = set(map(_holders(facts.model).get, (layer.node.graph for layer in layers)))
    part = "the branch that you use" if holders == {"If"} else "one round of the body"
    return (
        f"nothing to quantise: {quantizer} does not enter the bodies of If, Loop and Scan, where all {len(layers)} "
        f"layers lie; export {part} as a model of its own, and lint that"
    )


def _left(facts: Facts, scheme: Scheme) -> str:
    """How many layers the quantiser leaves in float; empty where it leaves none."""
    left = [folded.layer for folded in facts.folded if not scheme.quantises(folded.layer)]
    if not left:
        return ""
    how_many = f"{len(left)} of {len(facts.folded)} layers stay{'s' * (len(left) == 1)} in float"
    return f"{how_many} under {scheme.quantizer.value} ({_kinds_of(facts, scheme, left)})"


def _kinds_of(facts: Facts, scheme: Scheme, layers: Iterable[Layer]) -> str:
    """`GRU, MatMul in Loop`: what the layers are, and what holds those that a quantiser does not get at."""
    holders = {} if scheme.enters_bodies else _holders(facts.model)
    kinds = ((layer.op_type, holders.get(layer.node.graph, "")) for layer in layers)
    return _listed(sorted({f"{kind} in {holder}" if holder else kind for kind, holder in kinds}), "kind")


def _holders(model: Model) -> Mapping[str, str]:
    """The operator that holds each graph."""
    return {graph: node.op_type for node in model.nodes for graph in node.subgraphs.values()}


def _unforeseen(facts: Facts, forecast: Forecast | None) -> str:
    """That no layer could be forecast, and why."""
    if forecast is not None and forecast.undefined:
        tensors = _listed(map(repr, forecast.undefined), "tensor")
        return f"nothing can be foreseen: a parameter that is NaN decides the range of {tensors}"
    if any(part.weight.non_finite for layer in facts.layers for part in layer.operands):
        why = ": a weight is not finite, and so is what follows"
    elif forecast is not None and forecast.unknown:
        why = f": the forecast cannot follow {_listed(forecast.unknown)}"
    elif not any(value.type.elem_type in FLOATS for value in facts.model.inputs):
        why = ": no input is a float, and what these integers stand for is not known"
    else:
        why = ": nothing is known of what they read"
    return f"no layer of this model could be forecast{why}"


def _named(output: Output) -> OutputResult:
    """What an output holds, without any figure."""
    return OutputResult(output.name, output.holds.value, assumed=output.because)


def _foreseen(output: Output, forecast: Forecast, levels: VerdictLevels) -> OutputResult:
    """What an output holds, and what is forecast of it."""
    told, known = _named(output), forecast.outputs.get(output.name)
    if known is None or output.holds is Holds.NO_FLOATS:
        return told
    figures = {part.name for part in known.parts}
    parts = (
        _expected(_named(part.held), forecast.level(output.name, part.held.name), levels)
        for part in output.parts
        if part.held.name in figures
    )
    return _with_parts(_expected(told, forecast.level(output.name), levels), tuple(parts))


def _expected(output: OutputResult, expected: Level | None, levels: VerdictLevels) -> OutputResult:
    """An output, or a part of one, with what a run on data is expected to measure; None if it loses nothing."""
    if expected is None:
        return replace(output, verdict=Verdict.SURVIVES, chances=Chances.certain(Verdict.SURVIVES))
    chances = levels.chances(expected)
    return replace(
        output,
        sqnr_db=expected.sqnr_db,
        agreement=expected.agreement,
        verdict=chances.verdict,
        chances=chances,
        interval_db=expected.interval_db,
    )


def _with_parts(output: OutputResult, parts: tuple[OutputResult, ...]) -> OutputResult:
    """An output with the verdict of its worst part; as it is where it is one thing or no part is judged."""
    chances = _of_worst(parts)
    if chances is None:
        return output
    parts = tuple(replace(part, of=output.name) for part in parts)
    return replace(output, verdict=chances.verdict, chances=chances, parts=parts)


def _of_worst(outputs: Iterable[OutputResult]) -> Chances | None:
    return worst_chances(output.chances for output in outputs if output.chances is not None)


def _least_agreement(outputs: Iterable[OutputResult]) -> float | None:
    return min((output.agreement for output in outputs if output.agreement is not None), default=None)


def result_of_probe(
    scheme: str, error: OutputError, levels: VerdictLevels, traits: Mapping[Place, Traits]
) -> SchemeResult:
    """The verdict on what a run on made-up inputs left at the outputs: what a run on data is expected to measure.

    Which class is the largest on made-up inputs is chance, and so is whether it stays the largest; the agreement is
    the one that goes with the SQNR.

    Args:
        scheme: what was run.
        error: against the float model.
        levels: where the verdict changes.
        traits: of the forecast for this scheme.
    """
    ran = result_of_run(scheme, error, Basis.PROBE, levels, by_class=False)
    if ran.verdict is None or error.sqnr_db is None:
        return ran

    def expected(output: OutputResult, place: Place) -> OutputResult:
        if output.verdict is None or output.sqnr_db is None:
            return output
        return _expected(output, level(output.sqnr_db, traits.get(place, Traits()), PROBE), levels)

    outputs = tuple(
        _with_parts(
            expected(output, (output.name, "")),
            tuple(expected(part, (output.name, part.name)) for part in output.parts),
        )
        for output in ran.outputs
    )
    pooled, chances = level(error.sqnr_db, traits.get(TOGETHER, Traits()), PROBE), _of_worst(outputs)
    return replace(
        ran,
        verdict=None if chances is None else chances.verdict,
        output_sqnr_db=pooled.sqnr_db,
        agreement=_least_agreement(outputs),
        uncertainty_db=pooled.uncertainty_db,
        outputs=outputs,
        chances=chances,
        interval_db=pooled.interval_db,
    )


def result_of_run(
    scheme: str, error: OutputError, basis: Basis, levels: VerdictLevels, *, by_class: bool
) -> SchemeResult:
    """The verdict on what a run left at the outputs; none, with the reason, where that is no figure.

    Args:
        scheme: what was run.
        error: against the float model.
        basis: what was run on.
        levels: where the verdict changes.
        by_class: whether it counts which class is the largest; on made-up inputs that is chance.
    """
    from onnxlint_q.proof.prove import NO_SIGNAL

    outputs = tuple(judge_output(figures, levels, by_class=by_class) for figures in error.outputs)
    if not error.has_signal:
        note = "; ".join(dict.fromkeys(output.note for output in outputs if output.note)) or NO_SIGNAL
        return SchemeResult(scheme, None, None, basis, note=note, ran=True, outputs=outputs)
    if error.sqnr_db is not None and not is_figure(error.sqnr_db):
        return SchemeResult(scheme, None, None, basis, note="the run gave no finite figure", ran=True, outputs=outputs)
    identical = ["the outputs are identical"] if error.sqnr_db is None else []
    held = worst(output.verdict for output in outputs if output.verdict is not None)
    ends = [end for output in outputs for end in (output.parts or (output,))]
    notes = [end.note if len(ends) == 1 else f"{end.name!r}: {end.note}" for end in ends if end.note]
    return SchemeResult(
        scheme,
        held,
        error.sqnr_db,
        basis,
        _least_agreement(outputs),
        "; ".join([*identical, *notes]),
        ran=True,
        outputs=outputs,
        chances=_of_worst(outputs),
    )


def judge_output(figures: OutputFigures, levels: VerdictLevels, *, by_class: bool) -> OutputResult:
    """The verdict on one output."""
    parts = tuple(_judged(part, levels, by_class=False) for part in figures.parts)
    return _with_parts(_judged(figures, levels, by_class=by_class), parts)


def _judged(figures: OutputFigures, levels: VerdictLevels, *, by_class: bool) -> OutputResult:
    """The verdict on an output as a whole, or on a part."""
    from onnxlint_q.execute.variants.output_error import Comparable

    holds = figures.holds.value
    if figures.comparable is not Comparable.YES:
        return OutputResult(figures.name, holds, note=_not_judged(figures), assumed=figures.because)
    agreement = figures.agreement if by_class else None
    held = levels.verdict(figures.sqnr_db, agreement)
    told = OutputResult(
        figures.name, holds, figures.sqnr_db, verdict=held, chances=Chances.certain(held), assumed=figures.because
    )
    if agreement is None:
        return told
    told = replace(told, agreement=agreement, interval=wilson(agreement * figures.rows, figures.rows))
    # What is identical is so on every sample.
    if figures.sqnr_db is None or told.interval is None:
        return told
    return replace(
        told,
        chances=levels.measured_chances(agreement, figures.rows),
        note=_undecided(agreement, figures.rows, levels.crossed(*told.interval)),
    )


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
    from onnxlint_q.execute.variants.output_error import Comparable

    if figures.comparable is not Comparable.RESTING:
        return f"not judged: {figures.comparable}"
    passed = f" (float values stay under {figures.largest:.1g})" if figures.largest < 1 else ""
    return f"not judged: {figures.comparable}{passed}; give samples that hold what the model looks for"


def _listed(names: Iterable[str], what: str = "operator", limit: int = 3) -> str:
    """`Loop, Scan and 2 other operators`."""
    listed = list(names)
    more = len(listed) - limit
    return ", ".join(listed[:limit]) + f" and {more} other {what}{'s' * (more > 1)}" * (more > 0)


def is_figure(sqnr_db: float) -> bool:
    """Whether an SQNR can be one: finite, and not below that of an output that overflows."""
    return math.isfinite(sqnr_db) and sqnr_db >= OVERFLOWN_DB


def finite(value: float | None) -> float | None:
    """The value where it is a number that can be told."""
    return value if value is not None and math.isfinite(value) else None
