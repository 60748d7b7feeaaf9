"""The verdict on each scheme: the strongest basis there is, and what each output says."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from onnxlint_q.analysis.experiment import Experiment
from onnxlint_q.analysis.observed.observers import DEFAULT_OBSERVER
from onnxlint_q.analysis.outputs.output_kind import Holds, Output
from onnxlint_q.analysis.schemes import PER_CHANNEL_OPSET, Scheme
from onnxlint_q.forecast.forecast import Forecast
from onnxlint_q.graph import Layer, Model
from onnxlint_q.graph.element_types import FLOATS, QUANTISED_FLOATS, type_name
from onnxlint_q.graph.names import ROOT
from onnxlint_q.judge.facts import Facts
from onnxlint_q.judge.verdict import Chances, Judge, Verdict, VerdictLevels
from onnxlint_q.workflow.assembly.obstacles import obstacle_of
from onnxlint_q.workflow.assembly.outputs import (
    expected_output,
    least_agreement,
    of_worst,
    result_of_probe,
    result_of_run,
    with_parts,
)
from onnxlint_q.workflow.record import Record
from onnxlint_q.workflow.results import Basis, OutputResult, SchemeResult

if TYPE_CHECKING:
    from onnxlint_q.execute.variants.output_error import OutputError

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
    if result.verdict is None:
        return result
    later = scheme.needs_opset(record.facts.model.opset)
    return replace(result, loads_from=PER_CHANNEL_OPSET if later else None, obstacle=obstacle_of(record.facts, scheme))


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
            said = scheme.as_measured(
                observer,
                facts.model.opset,
                folds_late=facts.folds_late,
                folds_alone=facts.folds_alone,
                half=scheme.activations is not None and facts.quantises_half(scheme),
            )
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
    chances = of_worst(outputs) or levels.chances(expected)
    return SchemeResult(
        scheme=scheme.name,
        verdict=chances.verdict,
        output_sqnr_db=expected.sqnr_db,
        basis=Basis.FORECAST,
        agreement=least_agreement(outputs),
        note="; ".join([*unmeasured, *weaker, *branches, *failed]),
        uncertainty_db=expected.uncertainty_db,
        rest_share=finite(forecast.rest_share),
        ran=ran,
        outputs=outputs,
        chances=chances,
        interval_db=expected.interval_db,
        ranges=scheme.ranges,
        left=_left(facts, scheme),
        unfollowed=bool(forecast.unknown),
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
    kinds = ((_kind(layer), holders.get(layer.node.graph, "")) for layer in layers)
    return _listed(sorted({f"{kind} in {holder}" if holder else kind for kind, holder in kinds}), "kind")


def _kind(layer: Layer) -> str:
    """`LSTM`; `MatMul (double)`, where that is why it is left."""
    left = layer.is_float and layer.elem_type not in QUANTISED_FLOATS
    return f"{layer.op_type} ({type_name(layer.elem_type)})" if left else layer.op_type


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
        expected_output(_named(part.held), forecast.level(output.name, part.held.name), levels)
        for part in output.parts
        if part.held.name in figures
    )
    return with_parts(expected_output(told, forecast.level(output.name), levels), tuple(parts))


def _listed(names: Iterable[str], what: str = "operator", limit: int = 3) -> str:
    """`Loop, Scan and 2 other operators`."""
    listed = list(names)
    more = len(listed) - limit
    return ", ".join(listed[:limit]) + f" and {more} other {what}{'s' * (more > 1)}" * (more > 0)


def finite(value: float | None) -> float | None:
    """The value where it is a number that can be told."""
    return value if value is not None and math.isfinite(value) else None
