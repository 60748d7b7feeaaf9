"""`json`, version 1: consumers depend on it, so keys are added and never changed.

The same run gives the same bytes: no time, no machine, no path but the one the user typed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from numbers import Integral, Real

from onnxlint_q.finding import Claim, Finding, Location, Rescaling, Severity, Tried
from onnxlint_q.report import digest
from onnxlint_q.report.json_values import Json, compact, indented, number, text, tool
from onnxlint_q.report.tables.documents import activation_document, calibration_document, qparams_document
from onnxlint_q.report.words import PERFECT, missing_sqnr, verdict
from onnxlint_q.workflow.results import (
    Chances,
    FixPreview,
    JointRemedy,
    LayerRow,
    LayerSqnr,
    Mended,
    ModelResult,
    OperandRow,
    OutputResult,
    Port,
    Run,
    SchemeResult,
    TensorRow,
    Top1,
    TrialFigure,
    Trials,
    Verdict,
)

VERSION = 1


def render(run: Run) -> str:
    """The report, indented by one space so that it reads and diffs line by line."""
    return indented(document(run))


def render_compact(run: Run) -> str:
    """The same report without white space, to embed."""
    return compact(document(run))


def document(run: Run) -> dict[str, Json]:
    """The report as values the json module can write."""
    return {
        "version": VERSION,
        "tool": tool(),
        "models": [_model(model) for model in run.models],
        "failures": [{"path": text(f.path), "message": text(f.message)} for f in run.failures],
    }


def _model(model: ModelResult) -> Json:
    return {
        "path": text(model.path),
        "sha256": model.sha256,
        "opset": model.opset,
        "format": text(model.format),
        "schemes": {text(result.scheme): scheme_document(result) for result in model.schemes},
        "layers": [_layer(row) for row in model.layers],
        "qparams": [qparams_document(row) for row in model.qparams],
        "activations": [activation_document(row) for row in model.activations],
        "interface": {
            "inputs": [_port(port) for port in model.ports_in],
            "outputs": [_port(port) for port in model.ports_out],
        },
        "findings": [told_document(model, finding) for finding in model.findings],
        "faults": faults_document(model),
        "suppressed": [suppressed_document(model, finding) for finding in model.suppressed],
        "accepted_verdicts": [text(scheme) for scheme in model.accepted],
        "calibration": calibration_document(model.calibration) if model.calibration else None,
        "untested_because": text(model.untested_because),
        "notes": [text(note) for note in model.notes],
        "rule_crashed": model.rule_crashed,
        "trials": _trials(model.trials) if model.trials else None,
        "remedies": [_remedy(remedy) for remedy in model.remedies],
        "inputs": inputs_document(model),
        "fix_preview": _preview(model.preview) if model.preview is not None else None,
    }


def _preview(preview: FixPreview) -> Json:
    return {
        "rewrites": list(preview.rewrites),
        "places": preview.places,
        "float_sqnr_db": number(preview.float_sqnr_db),
        "before": {text(result.scheme): scheme_document(result) for result in preview.before},
        "after": {text(result.scheme): scheme_document(result) for result in preview.after},
    }


def inputs_document(model: ModelResult) -> Json:
    """The shapes that inputs are taken to have where the file leaves them open."""
    return [
        {"name": text(one.name), "declared": list(one.declared), "taken": list(one.taken), "reason": text(one.reason)}
        for one in model.inputs
    ]


def _remedy(remedy: JointRemedy) -> Json:
    return {
        "scheme": text(remedy.scheme),
        "nodes_to_exclude": [text(name) for name in remedy.nodes_to_exclude],
        "snippet": text(remedy.snippet),
        "tried": True,
        "before_db": number(remedy.before_db),
        "after_db": number(remedy.after_db),
        "before_agreement": number(remedy.before_agreement),
        "after_agreement": number(remedy.after_agreement),
        "verdict_before": remedy.verdict_before.value if remedy.verdict_before else None,
        "verdict_after": remedy.verdict_after.value if remedy.verdict_after else None,
        "samples": remedy.samples,
        "held_out": remedy.held_out,
        "reason": PERFECT if remedy.after_db is None else None,
        "coarse_only": remedy.coarse_only,
        "opset": remedy.opset,
    }


def faults_document(model: ModelResult) -> Json:
    """How many faults the findings that count tell, one damage once, by severity."""
    told = digest.faults(model.findings)
    by_severity = dict(digest.tally(told))
    return {"total": len(told), **{severity.value: by_severity.get(severity, 0) for severity in Severity}}


def scheme_document(result: SchemeResult) -> dict[str, Json]:
    """The verdict on one scheme with all its figures."""
    missing = missing_sqnr(result)
    return {
        "verdict": verdict(result.verdict),
        "output_sqnr_db": number(result.output_sqnr_db),
        "reason": None if missing is None else text(missing),
        "basis": result.basis.value,
        "agreement": number(result.agreement),
        "agreement_interval": _ends(result.interval),
        "outputs": [_output(output) for output in result.outputs],
        "note": text(result.note),
        "probability": probability_document(result.chances),
        "interval_db": _ends(result.interval_db),
        "uncertainty_db": number(result.uncertainty_db),
        "rest_share": number(result.rest_share),
        "measured_as": text(result.measured_as) or None,
        "in_float": text(result.in_float) or None,
        "top1": top1_document(result.top1) if result.top1 is not None else None,
        "loads_from_opset": result.loads_from,
        "noise": [_tensor(row) for row in result.noise],
        "noise_basis": None if result.tensors_basis is None else result.tensors_basis.value,
        "mended": _mended(result.mended) if result.mended is not None else None,
    }


def _mended(mended: Mended) -> Json:
    result = mended.result
    return {
        "rewrites": [text(name) for name in mended.rewrites],
        "what": text(mended.what),
        "verdict": verdict(result.verdict),
        "output_sqnr_db": number(result.output_sqnr_db),
        "uncertainty_db": number(result.uncertainty_db),
        "agreement": number(result.agreement),
        "basis": result.basis.value,
        "outputs": [_output(output) for output in result.outputs],
        "float_sqnr_db": number(mended.exact_db),
    }


def probability_document(chances: Chances | None) -> Json:
    """How likely each verdict is; null where nothing is known."""
    if chances is None:
        return None
    return {verdict.value: number(chances.of(verdict)) for verdict in Verdict if verdict.decided}


def _ends(interval: tuple[float, float] | None) -> Json:
    return None if interval is None else [number(end) for end in interval]


def _tensor(row: TensorRow) -> Json:
    return {
        "tensor": text(row.tensor),
        "kind": row.kind.value,
        "share": number(row.share),
        "sqnr_db": number(row.sqnr_db),
        "node": text(row.node),
        "op_type": text(row.op_type),
    }


def _output(output: OutputResult) -> Json:
    return {
        "name": text(output.name),
        "holds": output.holds,
        "sqnr_db": number(output.sqnr_db),
        "agreement": number(output.agreement),
        "agreement_interval": _ends(output.interval),
        "verdict": output.verdict.value if output.verdict else None,
        "probability": probability_document(output.chances),
        "interval_db": _ends(output.interval_db),
        "note": text(output.note),
        "assumed": text(output.assumed),
        "parts": [_output(part) for part in output.parts],
    }


def top1_document(top1: Top1) -> Json:
    """How often the float and the quantised model are right, and what that lost with its 95 % interval."""
    low, high = top1.interval
    return {
        "float": number(top1.float_accuracy),
        "quantised": number(top1.quantised_accuracy),
        "lost": number(top1.loss),
        "interval": [number(low), number(high)],
        "samples": top1.rows,
    }


def _layer(row: LayerRow) -> Json:
    return {
        "node": text(row.node),
        "output": text(row.output),
        "op_type": text(row.op_type),
        "group": row.group,
        "depthwise": row.depthwise,
        "range": number(row.range),
        "average_precision": number(row.average_precision),
        "channel_sqnr_db": number(row.channel_sqnr_db),
        "activation_low": number(row.activation_low),
        "activation_high": number(row.activation_high),
        "forecast": _stage(row.forecast),
        "probe": _stage(row.probe),
        "measured": _stage(row.measured),
        "operands": [_operand(row, operand) for operand in row.operands],
    }


def _operand(row: LayerRow, operand: OperandRow) -> Json:
    """One weight of a layer that has several; its figures are those of a layer with this weight alone."""
    stages = {"forecast": row.forecast, "probe": row.probe, "measured": row.measured}
    return {
        "operand": text(operand.name),
        "weight": text(operand.weight),
        "shape": list(operand.shape),
        "range": number(operand.range),
        "average_precision": number(operand.average_precision),
        "channel_sqnr_db": number(operand.channel_sqnr_db),
        **{name: _stage(_alone(stage, operand.name)) for name, stage in stages.items()},
    }


def _alone(stage: Mapping[str, LayerSqnr] | None, operand: str) -> Mapping[str, LayerSqnr] | None:
    """What a stage says of one weight of a layer; None where that is nothing."""
    said = {
        scheme: LayerSqnr(sqnr.operands[operand], uncertainty_db=sqnr.uncertainty_db)
        for scheme, sqnr in (stage or {}).items()
        if operand in sqnr.operands
    }
    return said or None


def _stage(stage: Mapping[str, LayerSqnr] | None) -> Json:
    if stage is None:
        return None
    return {text(scheme): dict(_sqnr(sqnr)) for scheme, sqnr in stage.items()}


def _sqnr(sqnr: LayerSqnr) -> Iterator[tuple[str, Json]]:
    yield "weight_sqnr_db", number(sqnr.weight_sqnr_db)
    yield "sqnr_db", number(sqnr.sqnr_db)
    if sqnr.activation_sqnr_db is not None:
        yield "activation_sqnr_db", number(sqnr.activation_sqnr_db)
    if sqnr.weight_share is not None:
        yield "weight_share", number(sqnr.weight_share)
        yield "activation_share", number(sqnr.activation_share)
    if sqnr.uncertainty_db is not None:
        yield "uncertainty_db", number(sqnr.uncertainty_db)
    if math.inf in (sqnr.weight_sqnr_db, sqnr.activation_sqnr_db, sqnr.sqnr_db):
        yield "reason", PERFECT


def finding_document(finding: Finding) -> dict[str, Json]:
    """One finding."""
    return {
        "code": text(finding.code),
        "name": text(finding.name),
        "severity": finding.severity.value,
        "confidence": finding.confidence.value,
        "evidence": finding.evidence.value,
        "message": text(finding.message),
        "location": _location(finding.location),
        "metrics": {text(key): _metric(value) for key, value in finding.metrics.items()},
        "remedy": text(finding.advice),
        "fingerprint": finding.fingerprint,
        "structure": finding.structure,
        "snippet": text(finding.snippet),
        "claim": _claim(finding.claim) if finding.claim else None,
        "measured_sqnr_db": number(finding.measured_db),
        "measured_on": finding.samples,
        "note": text(finding.note),
        "causes": [text(cause) for cause in finding.causes],
        "cure": _cure(finding) if finding.cure is not None or finding.fixing is not None else None,
        "rescaling": _rescaling(finding.change) if isinstance(finding.change, Rescaling) else None,
        "remedy_tried": _tried(finding.tried) if finding.tried else None,
        "also": [text(code) for code in finding.also],
        "explains": {text(scheme): number(share) for scheme, share in finding.explains.items()},
        "places": [_location(place) for place in finding.places],
    }


def _port(port: Port) -> Json:
    return {"name": text(port.name), "dtype": port.dtype, "shape": text(port.shape)}


def told_document(model: ModelResult, finding: Finding) -> dict[str, Json]:
    """One finding of a model, and where more is said of its rule: the command that prints it, and its address."""
    page = digest.page_of(model, finding)
    command = f"onnxlint-q rule {text(finding.code)}"
    return {**finding_document(finding), "help": command, "help_url": text(page) if page else None}


def suppressed_document(model: ModelResult, finding: Finding) -> dict[str, Json]:
    """One finding that somebody knows of, and who said so."""
    why = finding.suppression
    said: Json = {"by": why.by.value, "where": text(why.where), "reason": text(why.reason)} if why is not None else None
    return {**told_document(model, finding), "suppression": said}


def _location(where: Location) -> Json:
    return {
        "graph": text(where.graph),
        "node": text(where.node),
        "op_type": text(where.op_type),
        "output": text(where.output),
    }


def _claim(claim: Claim) -> Json:
    return {
        "subject": claim.subject.value,
        "tensor": text(claim.tensor),
        "scheme": text(claim.scheme),
        "below_db": number(claim.below_db),
        "more": [text(tensor) for tensor in claim.more],
    }


def _cure(finding: Finding) -> Json:
    """The channels of a layer that become constant, and what `fix` does about the finding."""
    cure, fixing = finding.cure, finding.fixing
    scheme = cure.scheme if cure is not None else finding.claim.scheme if finding.claim is not None else None
    return {
        "layer": text(cure.layer) if cure is not None else None,
        "channels": list(cure.channels) if cure is not None else [],
        "scheme": text(scheme) if scheme is not None else None,
        "rewrite": text(fixing.rewrites[0]) if fixing is not None else None,
        "rewrites": [text(name) for name in fixing.rewrites] if fixing is not None else [],
        "option": text(fixing.option) if fixing is not None else "",
        "tried": fixing is not None and fixing.tried,
        "before_db": number(fixing.before_db) if fixing is not None else None,
        "after_db": number(fixing.after_db) if fixing is not None else None,
    }


def _rescaling(change: Rescaling) -> Json:
    return [
        {"tensor": text(one.tensor), "channels": list(one.channels), "factors": list(map(number, one.factors))}
        for one in change.divisors
    ]


def _tried(tried: Tried) -> Json:
    return {
        "scheme": text(tried.scheme),
        "before_db": number(tried.before_db),
        "after_db": number(tried.after_db),
        "said": text(tried.said),
    }


def _trials(trials: Trials) -> Json:
    return {
        "count": trials.count,
        "samples": trials.samples,
        "held_out": trials.held_out,
        "observers": [_trial_figure(figure) for figure in trials.observers],
        "curve": [_trial_figure(figure) for figure in trials.curve],
        "sentences": [text(sentence) for sentence in trials.sentences],
    }


def _trial_figure(figure: TrialFigure) -> Json:
    return {
        "scheme": text(figure.scheme),
        "observer": text(figure.observer),
        "samples": figure.samples,
        "output_sqnr_db": number(figure.output_sqnr_db),
        "deviation_db": number(figure.deviation_db),
        "agreement": number(figure.agreement),
        "agreement_deviation": number(figure.agreement_deviation),
    }


def _metric(value: object) -> Json:
    """A metric of a plug-in may be a numpy scalar, whatever its annotation says."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return number(float(value))
    return text(str(value))
