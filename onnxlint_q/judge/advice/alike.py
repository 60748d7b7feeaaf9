"""What several rules say alike: which channels, which place, which severity, which options of the quantiser."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from onnxlint_q.analysis.schemes import INT8_PER_CHANNEL, INT8_PER_TENSOR, PER_CHANNEL_OPSET
from onnxlint_q.analysis.statistics import LayerFacts
from onnxlint_q.finding import CONFIRM_BELOW_DB, Location, Metric, Remedy, Requantisation, Severity
from onnxlint_q.judge.facts import Facts

_KEEP = "Equalise the layer with its neighbours (cross-layer equalisation), or keep it in float."


@dataclass(frozen=True, slots=True)
class Outlook:
    """What is expected of the model's output if only this layer's weight is quantised.

    Attributes:
        forecast_db: forecast SQNR at the output, None where nothing could be forecast. It is a metric and no part of a
            message: reports tell the best figure that is known, which is another one once a run was made.
        severity: None where the forecast says that there is nothing to report.
    """

    forecast_db: float | None
    severity: Severity | None


def outlook(
    facts: Facts,
    layer: LayerFacts,
    scheme: str,
    *,
    warn_db: float,
    drop_db: float = float("inf"),
    blind: Severity | None,
) -> Outlook:
    """Judge a suspicion by its forecast SQNR: a warning below `warn_db`, nothing from `drop_db` on, info between.

    `blind` is the severity where there is no forecast.
    """
    known = linear_db(facts, layer, scheme)
    if known is None:
        return Outlook(None, blind)
    bounded_db = facts.forecasts[scheme].bounded(known)
    if known < warn_db:
        return Outlook(bounded_db, Severity.WARNING)
    return Outlook(bounded_db, Severity.INFO if known < drop_db else None)


def drop_reason(known_db: float | None, drop_db: float, seen_db: float, blind_db: float) -> str:
    """Why an outlook leaves nothing to report: the forecast, or without one the figure `seen_db` of the weight."""
    if known_db is None:
        return f"there is no forecast, and mean channel SQNR {seen_db:.1f} dB is not under {blind_db:g}"
    return f"the forecast SQNR at the output, {known_db:.1f} dB, is not under {drop_db:g}"


def linear_db(facts: Facts, layer: LayerFacts, scheme: str) -> float | None:
    """Linear forecast of the SQNR at the output if only this layer's weight is quantised: to judge by, not to tell."""
    forecast = facts.forecasts.get(scheme)
    known = forecast.layers.get(layer.output) if forecast is not None else None
    return known.weight_sqnr_db if known is not None else None


def locate(facts: Facts, layer: LayerFacts) -> Location:
    """The layer's operator, with the tensor that is the layer's key."""
    node = layer.node
    return facts.model.locate(node, layer.output)


def whole_model(facts: Facts) -> Location:
    """Where a finding about the file stands: at its first input."""
    return Location(output=facts.model.inputs[0].name if facts.model.inputs else "")


def sqnr_by_channel(layer: LayerFacts, scheme: str) -> npt.NDArray[np.float64]:
    """SQNR (dB) of every output channel under `scheme`, +inf for a dead one."""
    values = np.full(layer.weight.power.size, np.inf)
    values[layer.weight.power > 0] = layer.weight.channel_sqnr_db(scheme)
    return values


def worst(values: npt.NDArray[np.float64], limit: int = 4) -> str:
    """Indices of the smallest values, smallest first: `channels 3, 7`."""
    return channels(np.argsort(values, kind="stable")[:limit], limit)


def channels(indices: Iterable[int], limit: int = 4) -> str:
    """`channel 3`, or `channels 3, 7, 9, 12 and 5 more`."""
    listed = [int(index) for index in indices]
    head = ", ".join(map(str, listed[:limit]))
    more = f" and {len(listed) - limit} more" if len(listed) > limit else ""
    return f"channel{'s' if len(listed) > 1 else ''} {head}{more}"


def times(ratio: float) -> str:
    """A ratio for people: `3.2`, `140`, `6.1e+05`, `more than a million`."""
    if not np.isfinite(ratio) or ratio > 1e6:
        return "more than a million"
    return f"{ratio:.2g}" if ratio < 10 else f"{ratio:.0f}"


def finer_scale(facts: Facts, layer: LayerFacts) -> Remedy:
    """What to do with a layer whose channels need scales of their own."""
    if facts.model.opset < PER_CHANNEL_OPSET:
        text = (
            f"Give every output channel its own scale; at opset {facts.model.opset} the file format cannot, so export "
            f"the model at opset {PER_CHANNEL_OPSET} or higher first. Else keep the layer in float, or equalise it "
            "with its neighbours (cross-layer equalisation)."
        )
        return Remedy(text, _KEEP, Requantisation(per_channel=True, possible=False))
    text = (
        "Give every output channel its own scale. Where the hardware allows one scale for the tensor only, equalise "
        "the layer with its neighbours (cross-layer equalisation) or keep it in float."
    )
    per_channel = linear_db(facts, layer, INT8_PER_CHANNEL.name)
    if per_channel is not None and per_channel < CONFIRM_BELOW_DB and facts.observations is None:
        # A forecast is no measurement: it may say what to look at, not what to give up.
        text += (
            " Even that may not be enough here: measure int8-per-channel with --calibrate, and keep the layer in float "
            "if it costs too much."
        )
    return Remedy(text, _KEEP, Requantisation(per_channel=True))


def shared_scale(layer: LayerFacts) -> tuple[str, dict[str, Metric]]:
    """How badly one int8 scale fits the channels of a weight that is not all zero: a clause and its numbers."""
    weight, scheme = layer.weight, INT8_PER_TENSOR.name
    absmax = weight.absmax[weight.absmax > 0]
    median = float(absmax.max() / np.median(absmax))
    mean_db = weight.mean_channel_sqnr_db(scheme)
    clause = (
        f"the widest {times(median)} times the median and {times(float(absmax.max() / absmax.min()))} times the "
        f"narrowest: average precision {weight.average_precision:.3f}, mean channel SQNR {mean_db:.0f} dB, worst in "
        f"{worst(sqnr_by_channel(layer, scheme))}"
    )
    return clause, {
        "average_precision": weight.average_precision,
        "mean_channel_sqnr_db": mean_db,
        "widest_over_median": median,
        "channels": int(weight.absmax.size),
    }
