"""Input values on another scale than the network was trained or quantised for.

Three places in the file say what the input should be, the clearest first:

- a QuantizeLinear on the input. Values outside its range are clipped, and values that fill a small part of it use few
  codes. Where `large-scale` reports the step as too coarse, this is the same fault and is reported there;
- a BatchNormalization behind the first layer, which recorded mean and variance of the layer's outputs in training. What
  the data gives there follows from the mean and covariance of its windows. The distance from the record is a
  Kullback-Leibler divergence (see `analysis.image.encoding`): 0.02 to 0.10 nats on nine public networks with the right
  preprocessing, 0.4 and more with any other, thousands for raw pixels on normalised networks;
- else the biases of the first layer. If they are many times the deviation that the data causes, the data hardly moves
  the layer: its values are too small. If they are far below it and the values are raw pixels, nothing cancels the large
  mean of the pixels: the values are probably too large.

Pixels are usually encoded in one of a few ways; the message names the one that fits. Pictures with half the usual
contrast look like another encoding, so a warning needs a factor of four.

Source: the covariance argument above; measured on public networks with photographs; ppq issue 411.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import inf, log2
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from onnxlint_q import (
    ENCODINGS,
    Confidence,
    Encoding,
    Example,
    Facts,
    Finding,
    ImageSummary,
    InputSummary,
    Patches,
    Role,
    Rule,
    Severity,
    Silence,
    Stem,
    encoding_of,
    grid,
    misfit,
    option,
    plainest,
    reencoded,
    response,
    times,
    whole_model,
)
from onnxlint_q_rules.data.pictures import RECORDING, at_input, pictures, recorded, smooth

_BIASED = """
<ir_version: 8, opset_import: ["" : 17]>
pixels (float[N, 3, 32, 32] x) => (float[N, 2, 32, 32] y)
<float[2, 3, 1, 1] w = {0.01, 0.01, 0.01, -0.02, 0.01, 0.01}, float[2] b = {-3.0, 1.5}> {
  [first] c = Conv(x, w, b)
  y = Relu(c)
}
"""
_QUANTISED = """
<ir_version: 8, opset_import: ["" : 17]>
quantised (float[N, 3, 32, 32] x) => (float[N, 3, 32, 32] y)
<float s = {0.0078125}, uint8 z = {128}> {
  q = QuantizeLinear(x, s, z)
  y = DequantizeLinear(q, s, z)
}
"""


def _trained(random: np.random.Generator) -> Mapping[str, npt.NDArray[np.float32]]:
    return recorded(_centred(random)["x"])


def _raw(random: np.random.Generator) -> Mapping[str, npt.NDArray[np.float32]]:
    return {"x": pictures(random)}


def _centred(random: np.random.Generator) -> Mapping[str, npt.NDArray[np.float32]]:
    return {"x": pictures(random) / np.float32(127.5) - np.float32(1)}


@dataclass(frozen=True)
class InputRangeMismatch(Rule):
    """The input values are on another scale than the network expects.

    ## What it does
    Compares the data with the input's quantisation range. Compares the first layer's outputs on the data with what the
    BatchNormalization behind it recorded in training, or with the layer's biases where there is none.

    ## Why it breaks INT8
    All ranges are then learned from signals that are too large or too small. No figure of the calibration holds in the
    deployment.

    ## What to do
    Preprocess as in training. The remedy gives the options for the encoding that fits.

    ## Sources
    Recorded statistics of the BatchNormalization; measured on public networks; ppq issue 411.
    """

    code: ClassVar[str] = "QD006"
    name: ClassVar[str] = "input-range-mismatch"
    severity: ClassVar[Severity] = Severity.WARNING
    confidence: ClassVar[Confidence] = Confidence.HIGH
    needs_calibration: ClassVar[bool] = True
    supersedes: ClassVar[tuple[str, ...]] = ("QP008",)

    misfit_nats: float = option(
        0.3,
        doc="from this distance to the recorded statistics on (nats) the data is suspicious",
        source="measured on public networks",
    )
    warning_factor: float = option(
        4.0, doc="deviations that are off by this factor are a warning", source="contrasts of pictures differ by less"
    )
    hardly_moves: float = option(
        15.0,
        doc="values are too small if the first layer's outputs have a larger median of mean over deviation",
        source="measured",
    )
    large_deviation: float = option(
        5.0, doc="values are too large if the first layer's outputs have a larger median deviation", source="measured"
    )
    overflow: float = option(
        1.5, doc="the data may be so many times as wide as its quantisation range", source="arithmetic"
    )
    fill: float = option(
        0.25, doc="the data must fill this fraction of its quantisation range", source="two bits of eight are lost"
    )

    good: ClassVar[tuple[Example, ...]] = (
        Example(RECORDING, weights=_trained, samples=_centred, why="The values are as in training."),
        Example(_BIASED, samples=_raw, why="The biases cancel the mean of raw pixels."),
        Example(_QUANTISED, samples=_centred, why="The values fill their range."),
    )
    bad: ClassVar[tuple[Example, ...]] = (
        Example(
            RECORDING,
            flags=("x",),
            weights=_trained,
            samples=_raw,
            why="Raw pixels meet a network for normalised ones.",
        ),
        Example(_BIASED, flags=("x",), samples=_centred, why="Normalised values hardly move the first layer."),
        Example(_QUANTISED, flags=("x",), samples=_raw, why="Nearly everything is clipped."),
    )

    def check(self, facts: Facts) -> Iterator[Finding | Silence]:
        """Quantised inputs, and the input that the first layer reads."""
        data, stem = facts.data, facts.stem
        if data is None:
            return
        for name, seen in data.inputs.items():
            yield from self._against_qparams(facts, name, seen)
        image = data.inputs[stem.input].image if stem is not None and stem.input in data.inputs else None
        if stem is None or image is None or image.patches is None or not smooth(image):
            yield Silence(whole_model(facts), "there are no pictures for a first convolution")
        elif stem.recorded is not None:
            yield self._against_record(stem, image, image.patches)
        elif stem.bias is not None and not stem.scale_free:
            yield self._against_bias(stem, image, image.patches)
        else:
            yield Silence(at_input(stem.input), "the first layer holds nothing that depends on the scale of its input")

    def _against_qparams(self, facts: Facts, name: str, seen: InputSummary) -> Iterator[Finding | Silence]:
        pair = next(
            (q for q in facts.quantized if q.tensor == name and q.role is Role.ACTIVATION and not q.dynamic), None
        )
        code_grid = grid(facts.model, pair) if pair is not None and pair.codes != name else None
        if code_grid is None or not seen.floating or not code_grid.high > code_grid.low or seen.high == seen.low:
            return
        ratio = (seen.high - seen.low) / (code_grid.high - code_grid.low)
        inside = max(min(seen.high, code_grid.high) - max(seen.low, code_grid.low), 0.0) / (
            code_grid.high - code_grid.low
        )
        if ratio <= self.overflow and inside >= self.fill:
            width = f"{ratio:.2g} times its quantisation range, not over {self.overflow:g}"
            yield Silence(at_input(name), f"the data is {width}, and fills {inside:.0%} of it")
            return
        clipped = "the rest is clipped" if ratio > self.overflow else f"only {inside:.0%} of it is used"
        yield self.finding(
            at_input(name),
            f"The data of {name!r} runs from {seen.low:.3g} to {seen.high:.3g}, but its range is {code_grid.low:.3g} "
            f"to {code_grid.high:.3g}: {clipped}",
            metrics={
                "low": seen.low,
                "high": seen.high,
                "quantised_low": code_grid.low,
                "quantised_high": code_grid.high,
                "filled_fraction": inside,
            },
            remedy=(
                "Preprocess the data as when the model was quantised. If the deployment preprocesses like this, "
                "quantise the model again with this data."
            ),
        )

    def _against_record(self, stem: Stem, image: ImageSummary, patches: Patches) -> Finding | Silence:
        own = misfit(stem, patches)
        distance = float(np.median(own)) if own.size else 0.0
        norm, (mean, variance) = stem.recorded, response(stem, patches)
        if norm is None or not distance >= self.misfit_nats:
            return Silence(
                at_input(stem.input),
                f"the first layer's outputs are {distance:.2g} nats from the record, under {self.misfit_nats:g}",
            )
        live = (norm.variance > 0) & (variance > 0)
        if not live.any():
            return Silence(at_input(stem.input), "no channel of the first layer varies")
        factor = float(np.sqrt(np.median(variance[live] / norm.variance[live])))
        shift = float(np.median(np.abs(mean - norm.mean)[live] / np.sqrt(norm.variance[live])))
        actual = encoding_of(image)
        best = plainest(stem, patches, actual) if actual is not None else None
        told = best is not None and best.misfit <= min(distance / 4, self.misfit_nats / 2)
        far = abs(log2(factor)) >= log2(self.warning_factor) or shift >= self.warning_factor
        colours_only = best is not None and best.swapped and best.encoding is actual
        if not (told or far) or (told and colours_only):
            what = "only red and blue are swapped" if told else "no usual encoding fits clearly better"
            return Silence(at_input(stem.input), what)
        if told and best is not None and actual is not None:
            message = _expects(best.encoding.name + " with red and blue swapped" * best.swapped, actual)
        else:
            spread = f"{times(factor)} times as much as" if factor >= 1 else f"{times(1 / factor)} times less than"
            message = f"The values of {stem.input!r} do not fit the first layer: its outputs vary {spread} in training"
        return self.finding(
            at_input(stem.input),
            message,
            severity=None if told and far else Severity.INFO,
            metrics={
                "misfit_nats": distance,
                "best_misfit_nats": best.misfit if best is not None else None,
                "deviation_ratio": factor,
                "low": float(image.low.min()),
                "high": float(image.high.max()),
            },
            remedy=_remedy(best.encoding, swapped=best.swapped) if best is not None and told else _remedy(None),
            snippet=best.encoding.options if best is not None and told else "",
        )

    def _against_bias(self, stem: Stem, image: ImageSummary, patches: Patches) -> Finding | Silence:
        actual = encoding_of(image)
        offset = _offset(stem, patches)
        if offset > self.hardly_moves:
            others = {e: _offset(stem, reencoded(patches, actual, e)) for e in ENCODINGS} if actual is not None else {}
            # Any larger scale moves the layer more; the plainest of the smallest that will do is the likeliest.
            fit = {e: value for e, value in others.items() if value < self.hardly_moves / 3}
            best = next((e for e in fit if fit[e] >= max(fit.values()) / 2), None)
            hardly = f"The values of {stem.input!r} hardly move the first layer: its outputs are nearly constant"
            return self.finding(
                at_input(stem.input),
                _expects(best.name, actual) if best is not None and actual is not None else hardly,
                severity=None if best is not None else Severity.INFO,
                metrics={
                    "mean_over_deviation": offset,
                    "best_mean_over_deviation": others[best] if best is not None else None,
                    "low": float(image.low.min()),
                    "high": float(image.high.max()),
                },
                remedy=_remedy(best),
                snippet=best.options if best is not None else "",
            )
        _, variance = response(stem, patches)
        live = _live(stem, variance)
        if actual is not ENCODINGS[0] or stem.bias is None or not live.any():
            held = f"{offset:.2g} deviations from zero, not over {self.hardly_moves:g}"
            return Silence(at_input(stem.input), f"the first layer's outputs lie {held}, and these are no raw pixels")
        deviation = np.sqrt(variance[live])
        share = float(np.quantile(np.abs(stem.bias[live]) / deviation, 0.75))
        if float(np.median(deviation)) <= self.large_deviation or share >= 0.1:
            fits = f"outputs deviate by {np.median(deviation):.2g}, and their biases by {share:.2g} of that"
            return Silence(at_input(stem.input), f"raw pixels may be right: the first layer's {fits}")
        return self.finding(
            at_input(stem.input),
            f"{stem.input!r} gets raw pixels, but the first layer looks trained on normalised ones",
            severity=Severity.INFO,
            metrics={
                "output_deviation": float(np.median(deviation)),
                "bias_over_deviation": share,
                "low": float(image.low.min()),
                "high": float(image.high.max()),
            },
            remedy="Check how the network was trained, and give --preprocess imagenet, tf or unit, or raw with --mean.",
        )


def _offset(stem: Stem, patches: Patches) -> float:
    """Median over the channels of the mean in deviations."""
    mean, variance = response(stem, patches)
    live = _live(stem, variance)
    return float(np.median(np.abs(mean[live]) / np.sqrt(variance[live]))) if live.any() else -inf


def _live(stem: Stem, variance: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """The channels that the input reaches; others are dead, whatever its scale."""
    largest = np.abs(stem.kernel).max(axis=(1, 2, 3))
    return np.asarray((variance > 0) & (largest > 1e-6 * largest.max()), np.bool_)


def _expects(wanted: str, given: Encoding) -> str:
    """`The first layer expects pixels 0–255; you gave ImageNet-normalised ones`."""
    return f"The first layer expects {wanted}; you gave {given.name.replace('-normalised pixels', '-normalised ones')}"


def _remedy(encoding: Encoding | None, *, swapped: bool = False) -> str:
    if encoding is None:
        return "Preprocess the data as in training: see --preprocess, --mean, --std and --scale."
    order = ", with the colours in the other order (--channel-order)" if swapped else ""
    return f"Preprocess as in training, probably with {encoding.options}{order}. Then run again."
