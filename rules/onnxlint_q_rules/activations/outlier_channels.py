"""Few channels of an activation take nearly all codes of its one scale.

    ratio = (max_c high_c - min_c low_c) / median_c (high_c - low_c),        codes of the median channel = 256 / ratio

Reported are tensors with `ratio` at 16 or more (four bits lost for the median channel) where a sixteenth of the
channels at most makes three quarters of the range. The ends of each channel are those that a run saw. Without a run
they are those that the forecast expects from the gains, biases and weight rows of the file. In a transformer it is
nearly always the residual stream, or a normalisation with few large gains, and the same channels return in many layers.

One scale an output channel of the weights does not help: the activation still has one. Where the tensor is the result
of a normalisation with a gain, and matrix products alone read it, the factor can move into their weights, and the float
model stays what it is.

Sources: Dettmers et al., LLM.int8(), arXiv 2208.07339, section 4; Xiao et al., SmoothQuant, arXiv 2211.10438, eq. 3;
Kovaleva et al., BERT Busters, arXiv 2105.06990 (outlier LayerNorm gains).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from onnxlint_q import (
    INT8_PER_TENSOR,
    UINT8,
    ChannelObservation,
    Claim,
    Confidence,
    Example,
    Facts,
    Finding,
    Location,
    Outliers,
    Refusal,
    Remedy,
    Rule,
    Severity,
    Silence,
    Subject,
    channels,
    movable_factors,
    option,
    outlier_channels,
)

_NETWORK = """
<ir_version: 8, opset_import: ["" : 17]>
feed_forward (float[N, 6, 32] x) => (float[N, 6, 16] y) {
  [norm] t = LayerNormalization <axis = -1> (x, gain, shift)
  [dense] y = MatMul(t, w)
}
"""


def _normalisation(gain_of_one: float) -> Mapping[str, npt.NDArray[np.float32]]:
    random = np.random.default_rng(0)
    gain, weight = np.ones(32, np.float32), random.normal(scale=0.2, size=(32, 16)).astype(np.float32)
    gain[5] = gain_of_one
    weight[5] /= gain_of_one
    return {"gain": gain, "shift": np.zeros(32, np.float32), "w": weight}


@dataclass(frozen=True)
class OutlierChannels(Rule):
    """A few channels of an activation are far wider than all others.

    ## What it does
    Compares the range of each activation with that of its median channel.

    ## Why it breaks INT8
    All channels of an activation share one scale. The widest channels set it, and the others keep a few codes. One
    scale an output channel of the weights does not change that.

    ## What to do
    If a normalisation makes the tensor and matrix products read it, divide the channels there and multiply the rows of
    the next weights: the float model stays the same. Else keep the tensor in 16 bits, or the nodes around it in float,
    or quantise dynamically.

    ## Sources
    LLM.int8(), arXiv 2208.07339; SmoothQuant, arXiv 2211.10438.
    """

    code: ClassVar[str] = "QA005"
    name: ClassVar[str] = "outlier-channels"
    severity: ClassVar[Severity] = Severity.WARNING
    confidence: ClassVar[Confidence] = Confidence.MEDIUM
    supersedes: ClassVar[tuple[str, ...]] = ("QA001", "QA002", "QA004")

    ratio: float = option(
        16.0, doc="range of the tensor over that of its median channel", source="four bits lost for the median channel"
    )

    good: ClassVar[tuple[Example, ...]] = (
        Example(_NETWORK, weights=lambda _: _normalisation(1.0), why="All channels have one range."),
    )
    bad: ClassVar[tuple[Example, ...]] = (
        Example(
            _NETWORK,
            flags=("norm",),
            weights=lambda _: _normalisation(60.0),
            why="The gain of one channel is 60, and the others keep about four codes each.",
        ),
    )

    def check(self, facts: Facts) -> Iterator[Finding | Silence]:
        """Each activation of a float model whose channels are known."""
        if not facts.is_float:
            return
        for place in facts.placements:
            seen = facts.channels_of(place.tensor)
            if place.constant or place.moved or seen is None:
                continue
            producer = facts.model.producer(place.tensor)
            where = (
                facts.model.locate(producer, place.tensor) if producer is not None else Location(output=place.tensor)
            )
            found = outlier_channels(seen, self.ratio)
            if found is None:
                yield Silence(where, f"no few channels make its range {self.ratio:g} times that of the median channel")
                continue
            yield self._finding(facts, place.tensor, where, seen, found)

    def _finding(
        self, facts: Facts, tensor: str, where: Location, seen: ChannelObservation, found: Outliers
    ) -> Finding:
        count = UINT8.largest - UINT8.lowest + 1
        kept, several = count / found.ratio, len(found.channels) > 1
        return self.finding(
            where,
            f"{channels(found.channels)} of {tensor!r} set{'' if several else 's'} its scale: a typical channel keeps "
            f"{kept:.1f} of {count:.0f} codes.",
            metrics={
                "range_over_median": found.ratio,
                "median_codes": kept,
                "range_over_others": found.relief,
                "channels": ", ".join(map(str, found.channels)),
            },
            remedy=_remedy(facts, tensor, seen, found),
            claim=Claim(Subject.ACTIVATION, tensor, INT8_PER_TENSOR.name),
        )


def _remedy(facts: Facts, tensor: str, seen: ChannelObservation, found: Outliers) -> Remedy:
    """To move the factors where that can be done, else to spare the tensor."""
    spare = "Keep the tensor in 16 bits, or these nodes in float, or quantise dynamically."
    exclude = facts.freer.listed(facts.freer.activation(tensor))
    moved = movable_factors(facts, tensor, found.channels, seen)
    if isinstance(moved, Refusal):
        return Remedy(
            f"{spare} Its factors cannot move into the next weights: {moved.reason}.", nodes_to_exclude=exclude
        )
    gains = " and ".join(dict.fromkeys(repr(_named(facts, output)) for output, _ in moved.gains))
    readers = " and ".join(repr(_named(facts, key)) for key in moved.readers)
    divisors = ", ".join(f"{factor:g}" for factor in moved.factors)
    return Remedy(
        f"Divide {channels(found.channels)} of the gain of {gains} by {divisors}, and multiply the same rows of the "
        f"weight of {readers}: the float model stays the same.",
        spare,
        nodes_to_exclude=exclude,
    )


def _named(facts: Facts, output: str) -> str:
    node = facts.model.producer(output)
    return node.label if node is not None else output
