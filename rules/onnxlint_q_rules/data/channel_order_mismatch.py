"""Red and blue swapped, compared with the training.

A BatchNormalization behind the first layer recorded mean and variance of that layer's outputs in training. On data
with given mean and covariance of colour windows every output channel has a mean and a variance of its own. Its
distance from the record is a Kullback-Leibler divergence (see `analysis.image.encoding`). Photographs have more red
than blue, and filters that compare the two notice. So with the colours swapped the record fits worse: on five public
networks by 0.03 to 0.11 nats a channel on average, where the right order leaves 0.06 to 0.10.

A swap is reported only where it is clear: at half the distance and at least 0.05 nats nearer, and only where the
swapped colours fit the record well. Unusual pictures, all under water for example, can look swapped too.

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
    Silence,
    encoding_of,
    misfit,
    option,
    reencoded,
    whole_model,
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
    """Red and blue are swapped.

    ## What it does
    Computes the first layer's outputs on the data, as it is and with red and blue swapped. Compares both with what the
    BatchNormalization behind the layer recorded in training.

    ## Why it breaks INT8
    Filters for one colour see another, so the ranges are not those in use.

    ## What to do
    Feed the colours in the order that the network was trained with: `--channel-order`.

    ## Sources
    Recorded statistics of the BatchNormalization; measured on public networks.
    """

    code: ClassVar[str] = "QD007"
    name: ClassVar[str] = "channel-order-mismatch"
    severity: ClassVar[Severity] = Severity.INFO
    confidence: ClassVar[Confidence] = Confidence.MEDIUM
    needs_calibration: ClassVar[bool] = True

    min_gain_nats: float = option(
        0.05, doc="the swapped colours must fit the record better by so many nats", source="measured on public networks"
    )
    fitting_nats: float = option(
        0.15, doc="the swapped colours must fit the record within so many nats", source="measured on public networks"
    )
    min_samples: int = option(
        8, doc="with fewer pictures nothing is said, as they may have any tint", source="judgement"
    )

    good: ClassVar[tuple[Example, ...]] = (
        Example(RECORDING, weights=_trained, samples=_right, why="The colours are those of the training."),
    )
    bad: ClassVar[tuple[Example, ...]] = (
        Example(RECORDING, flags=("x",), weights=_trained, samples=_swapped, why="Red and blue are swapped."),
    )

    def check(self, facts: Facts) -> Iterator[Finding | Silence]:
        """The input that the first layer reads."""
        data, stem = facts.data, facts.stem
        summary = data.inputs.get(stem.input) if data is not None and stem is not None else None
        image = summary.image if summary is not None else None
        if data is None:
            return
        if stem is None or image is None or image.patches is None or not smooth(image):
            yield Silence(whole_model(facts), "there are no pictures for a first convolution")
            return
        actual = encoding_of(image)
        place = at_input(stem.input)
        if len(image.low) != 3 or actual is None or data.samples < self.min_samples:
            seen = f"{len(image.low)} channels and {data.samples} samples"
            yield Silence(place, f"it takes 3 channels of pixels in {self.min_samples} samples to tell, not {seen}")
            return
        own = misfit(stem, image.patches)
        if not own.size:
            yield Silence(place, "no BatchNormalization behind the first layer recorded its outputs")
            return
        # Either the pixels are swapped, or the values after normalisation are.
        before = misfit(stem, reencoded(image.patches, actual, actual, swapped=True))
        after = misfit(stem, reencoded(image.patches, ENCODINGS[0], ENCODINGS[0], swapped=True))
        best = min(before, after, key=lambda fit: float(fit.mean()))
        distance, nearer = float(own.mean()), float(best.mean())
        needed = min(distance / 2, distance - self.min_gain_nats, self.fitting_nats)
        if not nearer <= needed:
            yield Silence(place, f"swapped colours are {nearer:.2f} nats from the record, not under {needed:.2f}")
            return
        yield self.finding(
            place,
            f"Red and blue of {stem.input!r} look swapped: the other order fits the first layer better",
            metrics={"misfit_nats": distance, "swapped_misfit_nats": nearer},
            remedy="Check whether the network was trained on RGB or BGR, and feed that. Use the option below if the "
            "pictures were read as RGB, the default; else use rgb.",
            snippet="--channel-order bgr",
        )
