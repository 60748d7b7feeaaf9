"""Red and blue in the other order than the network was trained with.

A BatchNormalization behind the first layer recorded mean and variance of that layer's outputs in training. On data
with given mean and covariance of colour windows every output channel has a mean and a variance of its own, and its
distance from the record is a Kullback-Leibler divergence (see `analysis.image.encoding`). Photographs have
more red than blue, and filters that compare the two see that, so with the colours swapped the record fits worse: on
five public networks by 0.03 to 0.11 nats a channel on average, where the right order leaves 0.06 to 0.10.

A swap is only told where it is plain: at half the distance and at least 0.05 nats nearer, and only where the
swapped colours fit the record well. Pictures of another world, all under water for example, can look swapped too.

Source: the covariance argument above; measured on public networks with photographs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from onnxlint_q import (
    ENCODINGS,
    Confidence,
    Example,
    Facts,
    Finding,
    Rule,
    Severity,
    encoding_of,
    misfit,
    option,
    reencoded,
)
from onnxlint_q_rules.data.pictures import RECORDING, at_input, pictures, recorded, smooth


def _trained(random: np.random.Generator) -> Mapping[str, npt.NDArray[np.float32]]:
    return recorded(pictures(random))


def _right(random: np.random.Generator) -> Mapping[str, npt.NDArray[np.float32]]:
    return {"x": pictures(random)}


def _swapped(random: np.random.Generator) -> Mapping[str, npt.NDArray[np.float32]]:
    return {"x": pictures(random)[:, ::-1]}


@dataclass(frozen=True)
class ChannelOrderMismatch(Rule):
    """Colours in the wrong order.

    ## What it does
    Compares what the first layer would give on the data, as it is and with red and blue exchanged, with what the
    BatchNormalization behind it recorded in training.

    ## Why it breaks INT8
    Filters for one colour see another, so their ranges are not those in use.

    ## What to do
    Feed the colours in the order of the training.

    ## Sources
    Recorded statistics of the BatchNormalization; measured on public networks.
    """

    code: ClassVar[str] = "QD007"
    name: ClassVar[str] = "channel-order-mismatch"
    severity: ClassVar[Severity] = Severity.INFO
    confidence: ClassVar[Confidence] = Confidence.MEDIUM
    needs_calibration: ClassVar[bool] = True

    min_gain_nats: float = option(
        0.05, doc="how much nearer the record the swapped colours must be", source="measured on public networks"
    )
    fitting_nats: float = option(
        0.15, doc="the swapped colours must fit the record so well", source="measured on public networks"
    )
    min_samples: int = option(8, doc="fewer pictures may have any tint", source="judgement")

    good: ClassVar[tuple[Example, ...]] = (
        Example(RECORDING, weights=_trained, samples=_right, why="the colours of the training"),
    )
    bad: ClassVar[tuple[Example, ...]] = (
        Example(RECORDING, flags=("x",), weights=_trained, samples=_swapped, why="red and blue exchanged"),
    )

    def check(self, facts: Facts) -> Iterator[Finding]:
        """The input that the first layer reads."""
        data, stem = facts.data, facts.stem
        summary = data.inputs.get(stem.input) if data is not None and stem is not None else None
        image = summary.image if summary is not None else None
        if data is None or stem is None or image is None or image.patches is None or not smooth(image):
            return
        actual = encoding_of(image)
        if len(image.low) != 3 or actual is None or data.samples < self.min_samples:
            return
        own = misfit(stem, image.patches)
        if not own.size:
            return
        # Either the pixels are swapped, or the values after normalisation are.
        before = misfit(stem, reencoded(image.patches, actual, actual, swapped=True))
        after = misfit(stem, reencoded(image.patches, ENCODINGS[0], ENCODINGS[0], swapped=True))
        best = min(before, after, key=lambda fit: float(fit.mean()))
        distance, nearer = float(own.mean()), float(best.mean())
        if not nearer <= min(distance / 2, distance - self.min_gain_nats, self.fitting_nats):
            return
        yield self.finding(
            at_input(stem.input),
            f"red and blue of {stem.input!r} look exchanged: the first layer's outputs would be {distance:.2f} nats a "
            f"channel from what its BatchNormalization recorded in training, and {nearer:.2f} with the channels in "
            "the other order",
            metrics={"misfit_nats": distance, "swapped_misfit_nats": nearer},
            remedy="check in which order the network was trained, RGB or BGR, and feed that: as below where the "
            "pictures were read as RGB, the default, else with rgb",
            snippet="--channel-order bgr",
        )
