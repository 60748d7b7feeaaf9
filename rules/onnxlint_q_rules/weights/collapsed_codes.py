"""Channels of a quantised weight that keep hardly any codes.

    steps_c = max |code - zero_point| over the weights of channel c

A channel with 0 steps holds nothing but the zero point and returns its bias for every input; one with a single step
holds -1, 0 and 1. Where channels share a scale, the widest of them did that to the others. Trained networks have such
channels too: dead in the float model already, and read by weights that are nearly zero. So it is asked how much is
made of each channel behind the layer, by the gains of normalisations and the weights of its readers:

    heard_c = max over the readers |gain_c| * || w[:, c] ||_2,    amplified: heard_c > 4 * median of the others

Measured: in three public int8 files with 279 such channels the largest is 0.64 times the median. Rebuilt failures have
15 to 500 times.

Sources: ONNX operator specification, QuantizeLinear; Nagel et al., arXiv 1906.04721, section 3.1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from onnxlint_q import (
    PER_CHANNEL_OPSET,
    CodesKept,
    Confidence,
    Example,
    Facts,
    Finding,
    Format,
    Hearing,
    Layer,
    Remedy,
    Requantisation,
    Rule,
    Severity,
    Silence,
    channels,
    hearing,
    option,
    whole_model,
)

Found = npt.NDArray[np.intp]
# Two bits have no more than -1, 0 and 1 to begin with.
_FEWEST_CODES = 15
_NETWORK = """
<ir_version: 8, opset_import: ["" : 13]>
two (float[1, 4, 8, 8] x) => (float[1, 4, 8, 8] y)
<float s = {0.01}> {
  first = DequantizeLinear(w, s, z)
  [first] features = Conv(x, first)
  positive = Relu(features)
  [second] y = Conv(positive, mix)
}
"""


def _weights(ratio: float) -> Any:
    """Four of sixteen filters of the first layer hold the zero point only; the second makes `ratio` times as much."""

    def make(random: np.random.Generator) -> Mapping[str, npt.NDArray[Any]]:
        codes = random.integers(-100, 100, (16, 4, 1, 1))
        codes[:4] = 0
        mix = random.normal(size=(4, 16, 1, 1))
        mix[:, :4] *= ratio
        return {"w": codes.astype(np.int8), "z": np.zeros((), np.int8), "mix": mix.astype(np.float32)}

    return make


@dataclass(frozen=True)
class CollapsedCodes(Rule):
    """Channels of a quantised weight keep hardly any codes.

    ## What it does
    Counts the output channels of each quantised weight that hold nothing but the zero point, or only -1, 0 and 1.
    Reports them where the layers behind amplify these channels, where they are half of all, or where nothing behind
    the layer tells what they are worth.

    ## Why it breaks INT8
    What the channel computed is gone. If the next layer or a normalisation multiplies it, the loss is the network's.
    Channels that nothing reads were dead in the float model, and are not counted.

    ## What to do
    Give every output channel its own scale. Where the operator cannot have that, leave the layer in float.

    ## Sources
    ONNX operator specification, QuantizeLinear; Nagel et al., Data-Free Quantization, arXiv 1906.04721.
    """

    code: ClassVar[str] = "QW007"
    name: ClassVar[str] = "collapsed-codes"
    severity: ClassVar[Severity] = Severity.WARNING
    confidence: ClassVar[Confidence] = Confidence.MEDIUM
    supersedes: ClassVar[tuple[str, ...]] = ("QP005",)

    amplified: float = option(
        4.0,
        doc="a lost channel counts as amplified if so many times as much is made of it as of the others",
        source="dead channels of public files have at most 0.64, channels whose loss broke a network 15 and more",
    )
    amplified_share: float = option(
        0.02, doc="fraction of the channels that may be lost and amplified", source="one filter of fifty"
    )
    unread_share: float = option(
        0.1,
        doc="fraction of the channels that may be empty where nothing tells what they are worth",
        source="arithmetic: without a tenth of equally strong channels the layer's own output has 10 dB",
    )
    small_share: float = option(
        0.25,
        doc="fraction of the channels that may hold only -1, 0 and 1 there",
        source="the largest of public dynamic LSTMs has 8 %",
    )
    most_share: float = option(
        0.5, doc="fraction of the channels from which it is an error", source="half of the layer's output is noise"
    )
    heard: float = option(
        0.25,
        doc="a channel counts as dead if less than this fraction is made of it, beside the others",
        source="dead channels of public files have 0.2 and less, but for one",
    )

    good: ClassVar[tuple[Example, ...]] = (
        Example(_NETWORK, weights=_weights(0.01), why="Hardly anything is made of the four: they were dead before."),
    )
    bad: ClassVar[tuple[Example, ...]] = (
        Example(_NETWORK, weights=_weights(100.0), flags=("first",), why="The second layer multiplies what is lost."),
    )

    def check(self, facts: Facts) -> Iterator[Finding | Silence]:
        """Every weight that is stored in integers."""
        layers: list[Layer] = [part.folded.layer for part in facts.weights]
        seen = False
        for kept in facts.kept_codes():
            seen = True
            ends = kept.pair.code_range
            place = facts.model.locate(kept.layer.node)
            lost = _lost(kept)
            if ends is None or ends[1] - ends[0] < _FEWEST_CODES or not lost.size:
                yield Silence(place, "each of its channels has more than one code on a side")
                continue
            counted = self._counted(kept, lost, hearing(facts.model, layers, kept.layer))
            if not counted.size:
                yield Silence(place, f"{lost.size} of {kept.largest.size} channels are lost, and dead or too few")
                continue
            yield self._report(facts, kept, counted)
        if not seen:
            yield Silence(whole_model(facts), "no weight is stored in integers")

    def _counted(self, kept: CodesKept, lost: Found, behind: Hearing) -> Found:
        """Those of the lost channels that the network misses."""
        total = kept.largest.size
        if behind.factors is None:
            if not behind.ends:
                return lost if lost.size >= self.most_share * total else lost[:0]
            empty = np.count_nonzero(kept.largest[lost] == 0)
            many = empty > self.unread_share * total or lost.size >= self.small_share * total
            return lost if many else lost[:0]
        left = np.setdiff1d(np.arange(total), lost)
        usual = float(np.median(behind.factors[left])) if left.size else 0.0
        loud = lost[behind.factors[lost] > self.amplified * usual]
        if loud.size > self.amplified_share * total:
            return loud
        alive = lost[behind.factors[lost] > self.heard * usual]
        return alive if alive.size >= self.most_share * total else lost[:0]

    def _report(self, facts: Facts, kept: CodesKept, counted: Found) -> Finding:
        total, empty = kept.largest.size, int(np.count_nonzero(kept.largest[counted] == 0))
        kind = "rows" if kept.layer.operand else "filters" if kept.layer.inputs.convolves else "columns"
        operand = f" ({kept.layer.operand})" if kept.layer.operand else ""
        whose = f"of {total} {kind} of {kept.pair.codes!r}{operand}"
        return self.finding(
            facts.model.locate(kept.layer.node),
            f"{_held(empty, counted.size - empty, whose)} ({channels(counted)}).",
            severity=Severity.ERROR if counted.size >= self.most_share * total else None,
            remedy=_remedy(facts, kept),
            metrics={
                "tensor": kept.pair.codes,
                "lost_channels": int(counted.size),
                "empty_channels": empty,
                "channels": total,
                "small_codes": kept.small,
            },
        )


def _lost(kept: CodesKept) -> Found:
    """Channels with at most one step; an empty one with a scale of its own was empty in the float model."""
    lost = kept.largest <= 1
    return np.flatnonzero(lost if kept.one_scale else lost & (kept.largest > 0))


def _held(empty: int, small: int, whose: str) -> str:
    """How many channels keep how little: `3 of 16 filters of 'w' hold nothing but the zero point`."""
    parts = [(empty, "nothing but the zero point"), (small, "only -1, 0 and 1")]
    (count, what), *rest = [(count, what) for count, what in parts if count]
    more = "".join(f", {other} {kind}" for other, kind in rest)
    return f"{count} {whose} {'holds' if count == 1 else 'hold'} {what}{more}"


def _remedy(facts: Facts, kept: CodesKept) -> Remedy:
    node = kept.layer.node
    if not kept.one_scale:
        return Remedy("Quantise the weight again: its scales are far larger than the values need.")
    if kept.layer.inputs.is_integer_product and kept.layer.inputs.convolves:
        return Remedy(
            "Leave the layer in float. Or quantise statically with one scale a channel: ONNX Runtime runs no "
            "ConvInteger with a zero point a channel.",
            nodes_to_exclude=(node.name.removesuffix("_quant"),) if node.name else (),
        )
    text = "Give every output channel its own scale. Or keep the layer in float."
    if facts.format is Format.DYNAMIC:
        return Remedy(text, snippet="quantize_dynamic(..., per_channel=True)")
    known = facts.format in {Format.QDQ, Format.QOPERATOR} and facts.model.opset >= PER_CHANNEL_OPSET
    return Remedy(text, change=Requantisation(per_channel=True) if known else None)
