"""How one scale fits the channels of a weight, and what to do where it does not."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from onnxlint_q.analysis.schemes import INT8_PER_CHANNEL, INT8_PER_TENSOR, PER_CHANNEL_OPSET
from onnxlint_q.analysis.statistics import LayerFacts
from onnxlint_q.finding import CONFIRM_BELOW_DB, Metric, Remedy, Requantisation
from onnxlint_q.judge.advice.outlook import linear_db
from onnxlint_q.judge.facts import Facts

_KEEP = "Equalise the layer with its neighbours (cross-layer equalisation), or keep it in float."
_COARSE = "If the hardware has one scale per tensor only, equalise the layer with its neighbours or keep it in float."


def finer_scale(facts: Facts, layer: LayerFacts) -> Remedy:
    """What to do with a layer whose channels need scales of their own."""
    if (left := left_in_float(layer, "give every output channel its own scale")) is not None:
        return left
    if facts.model.opset < PER_CHANNEL_OPSET:
        text = (
            f"Export the float model again from its framework at opset {PER_CHANNEL_OPSET} or higher. "
            f"Then give every output channel its own scale; at opset {facts.model.opset}, equalise the layer with its "
            "neighbours or keep it in float."
        )
        return Remedy(text, _KEEP, Requantisation(per_channel=True, possible=False))
    per_channel = linear_db(facts, layer, INT8_PER_CHANNEL.name)
    # A forecast is no measurement: it may say what to look at, not what to give up.
    doubtful = per_channel is not None and per_channel < CONFIRM_BELOW_DB and facts.observations is None
    check = ", and measure with --calibrate whether that is enough" if doubtful else ""
    return Remedy(f"Give every output channel its own scale{check}. {_COARSE}", _KEEP, Requantisation(per_channel=True))


def left_in_float(layer: LayerFacts, otherwise: str) -> Remedy | None:
    """What to do with a layer that the static quantiser does not touch: `otherwise`, where something else does."""
    if INT8_PER_TENSOR.quantises(layer.folded.layer):
        return None
    return Remedy(f"This operator stays in float under quantize_static. If other tools quantise it, {otherwise}.")


def shared_scale(layer: LayerFacts) -> dict[str, Metric]:
    """How badly one int8 scale fits the channels of a weight that is not all zero."""
    weight, scheme = layer.weight, INT8_PER_TENSOR.name
    absmax = weight.absmax[weight.absmax > 0]
    return {
        "average_precision": weight.average_precision,
        "mean_channel_sqnr_db": weight.mean_channel_sqnr_db(scheme),
        "widest_over_median": float(absmax.max() / np.median(absmax)),
        "widest_over_narrowest": float(absmax.max() / absmax.min()),
        "worst_channel": int(np.argmin(sqnr_by_channel(layer, scheme))),
        "channels": int(weight.absmax.size),
    }


def sqnr_by_channel(layer: LayerFacts, scheme: str) -> npt.NDArray[np.float64]:
    """SQNR (dB) of every output channel under `scheme`, +inf for a dead one."""
    values = np.full(layer.weight.power.size, np.inf)
    values[layer.weight.power > 0] = layer.weight.channel_sqnr_db(scheme)
    return values
