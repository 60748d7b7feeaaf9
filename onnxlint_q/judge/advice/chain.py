"""The causes of a finding about a layer's weight, one sentence a link, and the cure where there is one."""

from __future__ import annotations

from dataclasses import replace

from onnxlint_q.analysis.causes.chain import Cause, CauseKind, find_causes
from onnxlint_q.analysis.schemes import INT8_PER_TENSOR
from onnxlint_q.analysis.statistics import LayerFacts
from onnxlint_q.finding import Cure, Finding
from onnxlint_q.judge.advice.phrases import channels, multiple
from onnxlint_q.judge.facts import Cured, Facts

_SCHEME = INT8_PER_TENSOR.name


def explained(finding: Finding, facts: Facts, layer: LayerFacts) -> Finding:
    """The finding with what made `layer` bad under one int8 scale, and with the layer's cure if it has one."""
    causes = [_sentence(cause) for cause in find_causes(layer, facts.stored(layer))]
    cured = facts.cures.get(layer.output)
    if cured is None:
        return replace(finding, causes=tuple(causes))
    now_db = layer.weight.mean_channel_sqnr_db(_SCHEME)
    cured_db = cured.layer.weight.mean_channel_sqnr_db(_SCHEME)
    metrics = {
        **finding.metrics,
        "cure_channels": len(cured.candidate.channels),
        "cure_swing_db": cured.candidate.swing_db,
        "cure_mean_channel_sqnr_db": cured_db,
        "cure_forecast_db": cured.forecast_db,
    }
    causes.append(_cure(cured, now_db, cured_db))
    cure = Cure(layer.output, cured.candidate.channels, _SCHEME)
    return replace(finding, causes=tuple(causes), metrics=metrics, cure=cure)


def _sentence(cause: Cause) -> str:
    n, who = cause.numbers, channels(cause.channels)
    several = len(cause.channels) > 1
    gain = f"{'up to ' * several}{multiple(n.get('gain_ratio', 0.0))} the usual gain"
    side, is_, their = "input " if cause.inputs else "", *(("are", "their") if several else ("is", "its"))
    match cause.kind:
        case CauseKind.STILL_CHANNELS:
            usual = f", usually {n['ordinary_variance']:.2g}" if n["ordinary_variance"] > 0 else ""
            return (
                f"BatchNorm {side}{who} {is_} almost constant (variance {n['variance']:.1e}{usual}), yet folding "
                f"multiplies {their} weights by {gain}."
            )
        case CauseKind.OUTLIER_GAINS:
            return (
                f"BatchNorm {side}{who} {'vary' if several else 'varies'}, and folding multiplies {their} weights by "
                f"{gain}."
            )
        case CauseKind.FOLDING:
            return (
                f"Folding takes the widest channel from {multiple(n['widest_over_median_before'])} to "
                f"{multiple(n['widest_over_median_after'])} the median one; mean channel SQNR falls from "
                f"{n['channel_sqnr_before_db']:.0f} to {n['channel_sqnr_after_db']:.0f} dB."
            )
        case CauseKind.DRIFTING_RANGES:
            return (
                f"The channels differ in range: the widest has {multiple(n['widest_over_median'])} the median range "
                f"and {multiple(n['widest_over_narrowest'])} the smallest."
            )
        case CauseKind.RANGE_OWNERS:
            return (
                f"{_capital(who)} {'set' if several else 'alone sets'} the int8 scale; a typical channel keeps "
                f"{n['median_codes']:.0f} of 255 codes."
            )
        case CauseKind.COLLAPSED_CHANNELS:
            return (
                f"{len(cause.channels)} of {n['channels']:.0f} channels {'round' if several else 'rounds'} to zero, "
                f"because {their} weights are all under half a step: {who}."
            )
        case CauseKind.WIDE_ACTIVATION:
            source = f", as BatchNorm predicts for {who}" if cause.channels else ""
            return (
                f"The layer's result was seen from {n['low']:.3g} to {n['high']:.3g}{source}: {multiple(n['ratio'])} "
                "the range expected of a typical channel."
            )


def _cure(cured: Cured, now_db: float | None, cured_db: float | None) -> str:
    known = now_db is not None and cured_db is not None
    gain = f"; mean channel SQNR rises from {now_db:.0f} to {cured_db:.0f} dB" if known else ""
    return (
        f"Cure: set the weights of {channels(cured.candidate.channels, limit=16)} to zero and the bias to beta{gain}."
    )


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
