"""The causes of a finding about a layer's weight, one sentence a link, and the cure where there is one."""

from __future__ import annotations

from dataclasses import replace

from onnxlint_q.analysis.causes.chain import Cause, CauseKind, find_causes
from onnxlint_q.analysis.schemes import INT8_PER_TENSOR
from onnxlint_q.analysis.statistics import LayerFacts
from onnxlint_q.finding import Cure, Finding
from onnxlint_q.judge.advice.alike import channels, times
from onnxlint_q.judge.facts import Cured, Facts

_SCHEME = INT8_PER_TENSOR.name
# Below -120 dB a deviation is smaller than what float32 resolves beside the channels around it.
_NOTHING_DB = -120.0


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
        "cure_mean_channel_sqnr_db": cured_db,
        "cure_forecast_db": cured.forecast_db,
    }
    causes.append(_cure(cured, now_db, cured_db))
    cure = Cure(layer.output, cured.candidate.channels, _SCHEME)
    return replace(finding, causes=tuple(causes), metrics=metrics, cure=cure)


def _sentence(cause: Cause) -> str:
    n, who = cause.numbers, channels(cause.channels)
    several = len(cause.channels) > 1
    side = "input " if cause.inputs else ""
    match cause.kind:
        case CauseKind.STILL_CHANNELS:
            others = f", where {n['ordinary_variance']:.2g} is ordinary" if n["ordinary_variance"] > 0 else ""
            return (
                f"BatchNorm {side}{who} {'have' if several else 'has'} a running variance of {n['variance']:.1e} or "
                f"less{others}; gamma keeps {'them' if several else 'it'} alive, so folding multiplies "
                f"{'their' if several else 'its'} weights by up to {times(n['gain_ratio'])} times the ordinary gain."
            )
        case CauseKind.OUTLIER_GAINS:
            return (
                f"BatchNorm {side}{who} {'vary' if several else 'varies'} and {'have' if several else 'has'} a gain, "
                f"gamma over the standard deviation, of up to {times(n['gain_ratio'])} times the ordinary one, which "
                "folding multiplies into the weights."
            )
        case CauseKind.FOLDING:
            return (
                f"Folded, the widest channel grows from {times(n['widest_over_median_before'])} to "
                f"{times(n['widest_over_median_after'])} times the median one; average precision falls from "
                f"{n['average_precision_before']:.3f} to {n['average_precision_after']:.3f} and mean channel SQNR "
                f"under one int8 scale from {n['channel_sqnr_before_db']:.0f} to {n['channel_sqnr_after_db']:.0f} dB."
            )
        case CauseKind.DRIFTING_RANGES:
            return (
                "The ranges of the channels have drifted apart: the widest is "
                f"{times(n['widest_over_median'])} times the median and {times(n['widest_over_narrowest'])} times the "
                f"narrowest, average precision {n['average_precision']:.3f}."
            )
        case CauseKind.RANGE_OWNERS:
            runner_up = f"; the widest of the others is {times(n['runner_up'])} times the median" * (n["runner_up"] > 0)
            return (
                f"{_capital(who)} then {'own' if several else 'owns'} the tensor's range, {'up to ' * several}"
                f"{times(n['widest_over_median'])} times the median channel, which is left with "
                f"{n['median_codes']:.0f} of 255 codes{runner_up}."
            )
        case CauseKind.COLLAPSED_CHANNELS:
            verbs = ("are", "round") if several else ("is", "rounds")
            return (
                f"{len(cause.channels)} of {n['channels']:.0f} channels {verbs[0]} narrower than half a step of "
                f"that one scale and {verbs[1]} to zero: {who}."
            )
        case CauseKind.WIDE_ACTIVATION:
            source = f", as the statistics of {who} lead to expect" if cause.channels else ""
            return (
                f"The activation behind it was seen from {n['low']:.3g} to {n['high']:.3g}{source}: "
                f"{times(n['ratio'])} times the part of it in which the median channel is expected."
            )


def _cure(cured: Cured, now_db: float | None, cured_db: float | None) -> str:
    what = cured.candidate
    swing = "nothing" if what.swing_db is None or what.swing_db < _NOTHING_DB else f"{what.swing_db:.0f} dB"
    gain = ""
    if now_db is not None and cured_db is not None:
        gain = f"; mean channel SQNR rises from {now_db:.0f} to {cured_db:.0f} dB"
    several = len(what.channels) > 1
    return (
        f"Cure: {channels(what.channels, limit=16)} {'return' if several else 'returns'} beta for every input "
        f"(deviation beside an ordinary channel: {swing}), so weights of zero and a bias of beta leave the float model "
        f"as it is{gain}."
    )


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
