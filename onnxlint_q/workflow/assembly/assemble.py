"""From everything that is known about a model to the values that a report reads."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from onnxlint_q.analysis.experiment import Experiment
from onnxlint_q.analysis.schemes import INT8_PER_TENSOR, Scheme
from onnxlint_q.analysis.statistics import LayerFacts
from onnxlint_q.execute.limits import TIMES_PLAIN
from onnxlint_q.finding import Finding
from onnxlint_q.graph import Format, Value
from onnxlint_q.graph.element_types import type_name
from onnxlint_q.graph.names import local_name
from onnxlint_q.judge.facts import Facts
from onnxlint_q.judge.own_findings import DATA_UNUSABLE, PROBE_FAILED, RULE_CRASHED, RUN_FAILED, OwnFinding
from onnxlint_q.proof.budget.spending import REST
from onnxlint_q.workflow.assembly.fixing import with_fixing
from onnxlint_q.workflow.assembly.half import half_results
from onnxlint_q.workflow.assembly.joint_remedies import notes, remedies, with_advice
from onnxlint_q.workflow.assembly.known import sorted_out, with_known
from onnxlint_q.workflow.assembly.mended import with_mended
from onnxlint_q.workflow.assembly.outputs import is_figure
from onnxlint_q.workflow.assembly.preview import preview
from onnxlint_q.workflow.assembly.tensors import foreseen_rows, measured_rows, unexplained, with_shares
from onnxlint_q.workflow.assembly.verdicts import finite, judge_of, scheme_result
from onnxlint_q.workflow.judging import documented
from onnxlint_q.workflow.pictures.take import take
from onnxlint_q.workflow.reading.activations import DEFAULT_SCHEME, Scales, activation_rows
from onnxlint_q.workflow.reading.file import file_facts
from onnxlint_q.workflow.reading.qparams import qparams_rows
from onnxlint_q.workflow.record import QUANTISED_ALREADY, NotRun, Record
from onnxlint_q.workflow.results import (
    Basis,
    CalibrationSummary,
    FileFacts,
    LayerRow,
    LayerSqnr,
    ModelResult,
    OperandRow,
    Port,
    SchemeResult,
)
from onnxlint_q.workflow.sizes import notes_on

if TYPE_CHECKING:
    from onnxlint_q.execute.variants.experiment_runs import Errors

_REMEDIES: Mapping[OwnFinding, str] = {
    RUN_FAILED: "Run the model in ONNX Runtime on the same inputs to see the whole message. Then fix what it names.",
    PROBE_FAILED: "Give real inputs with --calibrate, or leave out --probe.",
    DATA_UNUSABLE: "Fix what the message names, or leave out {option}.",
}
_RANDOM_FAILED = (
    "If ONNX Runtime runs the model on inputs of your own, give those with --calibrate. If it does not, fix what the "
    "message names."
)


def assemble(record: Record) -> ModelResult:
    """The result of one model, findings most important first."""
    facts, config = record.facts, record.config
    told = {str(finding.metrics["reason"]) for finding in record.findings if "reason" in finding.metrics}
    # One fault is one finding: a run that failed for a reason that a rule tells is not told again.
    missing = [one for one in record.not_run if not any(reason in one.reason for reason in told)]
    findings = (*with_advice(record.findings, record.joint), *(_not_run(record, one) for one in missing))
    measured = _measured(record)
    schemes = (
        tuple(
            with_mended(record, scheme, _with_causes(record, scheme_result(record, scheme), measured))
            for scheme in facts.schemes
        )
        if facts.is_float or facts.coded
        else ()
    ) + half_results(record)
    findings = tuple(with_fixing(record, tuple(with_shares(findings, schemes))))
    sorted_apart = sorted_out(record, sorted(findings, key=lambda finding: _importance(record, finding)))
    result = ModelResult(
        path=facts.model.name,
        sha256=facts.model.sha256,
        opset=facts.model.opset,
        format=facts.format.value,
        schemes=schemes,
        layers=tuple(_row(record, layer, measured) for layer in facts.layers),
        findings=(),
        calibration=_calibration(record),
        untested_because=next((m.reason for m in record.not_run if m.kind is not PROBE_FAILED), ""),
        notes=tuple(_notes(record)),
        seconds=dict(record.seconds),
        levels=config.levels,
        rule_crashed=any(finding.code == RULE_CRASHED.code for finding in findings),
        fail_on=config.fail_on,
        fail_on_verdict=config.fail_on_verdict,
        trials=record.trials,
        remedies=tuple(remedies(record, judge_of(record))),
        debug=record.debug,
        rules=tuple(documented((*sorted_apart.kept, *sorted_apart.suppressed), record.rules, config)),
        qparams=qparams_rows(facts, facts.observations),
        activations=activation_rows(facts, facts.observations, _scales(record)),
        inputs=record.inputs,
        rule_pages=config.rule_pages,
        ports_in=tuple(map(_port, facts.model.inputs)),
        ports_out=tuple(map(_port, facts.model.outputs)),
        preview=preview(record.mended, config.levels) if record.mended is not None else None,
        pictures=take(facts, sorted_apart.kept) if record.request.page else {},
        file=file_facts(facts.model, config.source) if record.request.page else FileFacts(),
    )
    return with_known(result, sorted_apart, config, calibrated=facts.observations is not None)


def _port(value: Value) -> Port:
    return Port(value.name, type_name(value.type.elem_type), value.shape_text)


def _scales(record: Record) -> Scales:
    """What the quantiser would give the activations of a float model."""
    return record.bench.scales(DEFAULT_SCHEME) if record.bench is not None else {}


def _not_run(record: Record, missing: NotRun) -> Finding:
    data = record.request.data
    remedy = _REMEDIES[missing.kind].format(option=missing.option)
    if missing.reason == QUANTISED_ALREADY:
        remedy = f"Leave out {missing.option}. `onnxlint-q compare` measures a quantised model beside its float one."
    elif missing.kind is RUN_FAILED and data is not None and data.source.synthetic:
        remedy = _RANDOM_FAILED
    return missing.kind.finding(missing.option, f"{missing.what}: {missing.reason.rstrip('.')}.", remedy)


def _importance(record: Record, finding: Finding) -> tuple[bool, int, float, str, str]:
    """Not refuted first, then severity, then the damage measured, probed or forecast, then a stable order."""
    damage = finding.measured_db
    claim = finding.claim
    if damage is None and claim is not None and record.probe is not None:
        from onnxlint_q.proof.prove import experiment_of

        probed = record.probe.errors.get(experiment_of(claim))
        damage = probed.sqnr_db if probed is not None else None
    if damage is None and claim is not None:
        known = record.facts.forecasts.get(claim.scheme)
        layer = known.layers.get(claim.tensor) if known else None
        damage = layer.weight_sqnr_db if layer else None
    where = finding.location
    return (
        not finding.counts,
        -finding.severity.rank,
        math.inf if damage is None or math.isnan(damage) else damage,
        finding.code,
        f"{where.graph}/{where.output}",
    )


def _measured(record: Record) -> Errors:
    """What was measured of tensors alone: of each the run on the most samples."""
    return {**record.alone, **(record.proof.errors if record.proof is not None else {})}


def _with_causes(record: Record, result: SchemeResult, measured: Errors) -> SchemeResult:
    """The verdict with what each tensor alone costs: measured, else as the forecast has it."""
    facts = record.facts
    costs, forecast = facts.costs.get(result.scheme), facts.forecasts.get(result.scheme)
    if costs is not None and costs.tensors:
        from onnxlint_q.proof.costs import refined

        costs = refined(costs, measured)
        note = "; ".join(filter(None, [result.note, *unexplained(costs)]))
        return replace(result, note=note, tensors=measured_rows(facts, costs), tensors_basis=Basis.MEASURED)
    if forecast is None or not forecast.tensors or result.verdict is None:
        return result
    return replace(result, tensors=foreseen_rows(facts, forecast.tensors), tensors_basis=Basis.FORECAST)


def _decibel(value: float | None) -> float | None:
    """The SQNR of a layer as a figure: infinite where nothing is lost, None where it cannot be one."""
    return value if value is not None and (value == math.inf or is_figure(value)) else None


def _row(record: Record, layer: LayerFacts, measured: Errors) -> LayerRow:
    facts = record.facts
    source, operands = layer.folded.layer, tuple(map(_operand, layer.operands))
    channels_db = [one.channel_sqnr_db for one in operands if one.channel_sqnr_db is not None]
    observation = facts.stored(layer)
    forecast = {
        name: _figures(told)
        for name, scheme in facts.forecasts.items()
        if (told := scheme.told(layer.output)) is not None
    }
    return LayerRow(
        node=source.node.name,
        output=local_name(layer.output, source.node.graph),
        op_type=source.op_type,
        group=source.group,
        depthwise=source.depthwise,
        range=max(one.range for one in operands),
        average_precision=min(one.average_precision for one in operands),
        channel_sqnr_db=min(channels_db, default=None),
        activation_low=observation.low if observation else None,
        activation_high=observation.high if observation else None,
        forecast=forecast or None,
        probe=_rows(facts.schemes, facts, layer, record.probe.errors if record.probe else {}),
        measured=_rows(_weighed(facts, layer, measured), facts, layer, measured),
        operands=operands if layer.others else (),
        structure=facts.structure.of(facts.model.locate(source.node)),
        stored_range=max(one.stored_range for one in layer.operands) if layer.folded.is_folded else None,
    )


def _operand(layer: LayerFacts) -> OperandRow:
    source, weight = layer.folded.layer, layer.weight
    return OperandRow(
        name=source.operand,
        weight=local_name(source.weight, source.node.graph),
        shape=source.weight_shape,
        range=weight.range,
        average_precision=weight.average_precision,
        channel_sqnr_db=weight.mean_channel_sqnr_db(INT8_PER_TENSOR.name),
    )


def _weighed(facts: Facts, layer: LayerFacts, errors: Errors) -> Sequence[Scheme]:
    """The schemes under which the weight of a layer alone was measured."""
    return [scheme for scheme in facts.schemes if Experiment.on_weight(scheme, layer.output) in errors]


def _rows(schemes: Sequence[Scheme], facts: Facts, layer: LayerFacts, errors: Errors) -> dict[str, LayerSqnr] | None:
    """The figures of one layer by scheme, None where there are none."""
    if not (schemes and errors):
        return None
    from onnxlint_q.proof.sensitivity import layer_sqnr

    rows = {scheme.name: layer_sqnr(facts, scheme, layer, errors) for scheme in schemes}
    return {name: _figures(row) for name, row in rows.items() if row is not None} or None


def _figures(row: LayerSqnr) -> LayerSqnr:
    """The row with None for what cannot be a figure."""
    return LayerSqnr(
        weight_sqnr_db=_decibel(row.weight_sqnr_db),
        sqnr_db=_decibel(row.sqnr_db),
        weight_share=finite(row.weight_share),
        activation_share=finite(row.activation_share),
        activation_sqnr_db=_decibel(row.activation_sqnr_db),
        uncertainty_db=row.uncertainty_db,
        operands={name: _decibel(value) for name, value in row.operands.items()},
    )


def _calibration(record: Record) -> CalibrationSummary | None:
    seen, data = record.facts.observations, record.request.data
    if seen is None or data is None:
        return None
    return CalibrationSummary(
        source=seen.source,
        preprocessing=data.source.prepared(record.facts.model.inputs),
        samples=seen.samples,
        held_out=record.whole.held_out if record.whole is not None else 0,
        synthetic=seen.synthetic,
        observer=data.observer,
        options=data.source.options,
    )


def _notes(record: Record) -> Iterator[str]:
    facts = record.facts
    yield from notes_on(record.inputs)
    if facts.coded:
        yield (
            f"this is an integer graph: its {facts.coded} layers compute with codes whose scales are not in the file, "
            "so nothing is judged; lint the float model that it was made from"
        )
    elif facts.format is not Format.FLOAT:
        yield f"the model is quantised already ({facts.format}): its own scales are checked, schemes are not judged"
    if facts.observations is not None and facts.observations.non_finite:
        bad = facts.observations.non_finite
        names = ", ".join(map(repr, bad[:4])) + (", …" if len(bad) > 4 else "")
        yield f"on the data {len(bad)} tensor{'s hold' if len(bad) > 1 else ' holds'} NaN or infinity: {names}"
    if record.bench is not None:
        for output, front in facts.fronts.items():
            step = f"the {front.node.op_type} {front.node.label!r}"
            yield f"output {output!r} is as long as {step} decides: what that reads is compared in its place"
    if record.costs is not None:
        yield from record.costs.notes
    if record.left_out:
        left_out = "; ".join(record.left_out)
        yield f"proving stopped at its budget, {TIMES_PLAIN} times plain inference: {left_out}; {REST}"
    yield from notes(record)
    if record.probe is not None:
        yield from (f"probe: {note}" for note in record.probe.notes)
