"""Values on another scale than the network was trained or quantised for.

Three traces in the file say what the input should be, the plainest first:

- a QuantizeLinear on the input: what lies outside its range is clipped, and values that fill a small part of it use a
  few codes only (where `large-scale` says that the step is too coarse, this is the same fault and told there);
- a BatchNormalization behind the first layer, which recorded mean and variance of the layer's outputs. What the data
  would give there is known from the mean and covariance of its windows, and its distance from the record is a
  Kullback-Leibler divergence (see `analysis.image.encoding`): 0.02 to 0.10 nats on nine public networks with
  the right preprocessing, 0.4 and more with any other, thousands for raw pixels on normalised networks;
- else the biases of the first layer. If they exceed the deviation that the data causes many times, the data hardly
  moves the layer: its values are too small. If they are nothing beside it, and the values are raw pixels, whose large
  mean nothing then cancels, the values are probably too large.

Pixels can be encoded in five usual ways; the one that fits is named in the remedy. Pictures with half the usual
contrast look like the next encoding, so a warning needs a factor of four.

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
    Stem,
    encoding_of,
    grid,
    misfit,
    option,
    plainest,
    reencoded,
    response,
    times,
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
    """Values on another scale than the network expects.

    ## What it does
    Compares the data with the input's quantisation range, with what a BatchNormalization behind the first layer
    recorded in training, or with the biases of the first layer.

    ## Why it breaks INT8
    Every range is then learned from signals that are too large or too small by the same factor, and no figure of the
    calibration holds in the deployment.

    ## What to do
    Preprocess as in training; the remedy names the encoding that fits.

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
        0.3, doc="distance from the recorded statistics that is suspicious", source="measured on public networks"
    )
    warning_factor: float = option(
        4.0, doc="deviations wrong by this factor are a warning", source="contrasts of pictures differ by less"
    )
    hardly_moves: float = option(
        15.0, doc="median mean over deviation of the first layer's outputs on values too small", source="measured"
    )
    large_deviation: float = option(
        5.0, doc="median deviation of the first layer's outputs on values too large", source="measured"
    )
    overflow: float = option(1.5, doc="width of the data over that of its quantisation range", source="arithmetic")
    fill: float = option(
        0.25, doc="part of the quantisation range that the data fills at least", source="two bits of eight are lost"
    )

    good: ClassVar[tuple[Example, ...]] = (
        Example(RECORDING, weights=_trained, samples=_centred, why="values as in training"),
        Example(_BIASED, samples=_raw, why="biases that cancel the mean of raw pixels"),
        Example(_QUANTISED, samples=_centred, why="values that fill their range"),
    )
    bad: ClassVar[tuple[Example, ...]] = (
        Example(RECORDING, flags=("x",), weights=_trained, samples=_raw, why="raw pixels on a normalised network"),
        Example(_BIASED, flags=("x",), samples=_centred, why="normalised values that do not move the first layer"),
        Example(_QUANTISED, flags=("x",), samples=_raw, why="nearly everything is clipped"),
    )

    def check(self, facts: Facts) -> Iterator[Finding]:
        """Quantised inputs, and the input that the first layer reads."""
        data, stem = facts.data, facts.stem
        if data is None:
            return
        for name, seen in data.inputs.items():
            yield from self._against_qparams(facts, name, seen)
        image = data.inputs[stem.input].image if stem is not None and stem.input in data.inputs else None
        if stem is None or image is None or image.patches is None or not smooth(image):
            return
        if stem.recorded is not None:
            yield from self._against_record(stem, image, image.patches)
        elif stem.bias is not None and not stem.scale_free:
            yield from self._against_bias(stem, image, image.patches)

    def _against_qparams(self, facts: Facts, name: str, seen: InputSummary) -> Iterator[Finding]:
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
            return
        clipped = "what is outside is clipped" if ratio > self.overflow else f"{inside:.0%} of it is used"
        yield self.finding(
            at_input(name),
            f"the data runs from {seen.low:.3g} to {seen.high:.3g}, but {name!r} is quantised for "
            f"{code_grid.low:.3g} to "
            f"{code_grid.high:.3g}: {clipped}",
            metrics={
                "low": seen.low,
                "high": seen.high,
                "quantised_low": code_grid.low,
                "quantised_high": code_grid.high,
                "filled_fraction": inside,
            },
            remedy=(
                "preprocess as where the model was quantised; if this is the deployment's own preprocessing, the model "
                "was quantised with data on another scale: quantise it again"
            ),
        )

    def _against_record(self, stem: Stem, image: ImageSummary, patches: Patches) -> Iterator[Finding]:
        own = misfit(stem, patches)
        distance = float(np.median(own)) if own.size else 0.0
        norm, (mean, variance) = stem.recorded, response(stem, patches)
        if norm is None or not distance >= self.misfit_nats:
            return
        live = (norm.variance > 0) & (variance > 0)
        if not live.any():
            return
        factor = float(np.sqrt(np.median(variance[live] / norm.variance[live])))
        shift = float(np.median(np.abs(mean - norm.mean)[live] / np.sqrt(norm.variance[live])))
        actual = encoding_of(image)
        best = plainest(stem, patches, actual) if actual is not None else None
        told = best is not None and best.misfit <= min(distance / 4, self.misfit_nats / 2)
        far = abs(log2(factor)) >= log2(self.warning_factor) or shift >= self.warning_factor
        colours_only = best is not None and best.swapped and best.encoding is actual
        if not (told or far) or (told and colours_only):
            return
        words = f"{times(factor)} times as much as" if factor >= 1 else f"{times(1 / factor)} times less than"
        yield self.finding(
            at_input(stem.input),
            f"the values of {stem.input!r}{_called(actual)} do not fit the first layer: its outputs would deviate "
            f"{words} its BatchNormalization recorded in training, {times(distance)} nats off"
            + (
                f"; the same pixels as {best.encoding.name}{', red and blue exchanged,' * best.swapped} are "
                f"{best.misfit:.2f} nats off"
                if best is not None and told
                else ""
            ),
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

    def _against_bias(self, stem: Stem, image: ImageSummary, patches: Patches) -> Iterator[Finding]:
        actual = encoding_of(image)
        offset = _offset(stem, patches)
        if offset > self.hardly_moves:
            others = {e: _offset(stem, reencoded(patches, actual, e)) for e in ENCODINGS} if actual is not None else {}
            # Any larger scale moves the layer more; the plainest of the smallest that will do is the likeliest.
            fit = {e: value for e, value in others.items() if value < self.hardly_moves / 3}
            best = next((e for e in fit if fit[e] >= max(fit.values()) / 2), None)
            yield self.finding(
                at_input(stem.input),
                f"the values of {stem.input!r}{_called(actual)} hardly move the first layer: in the median channel "
                f"its outputs lie {times(offset)} deviations from zero, so they are nearly constant"
                + (f"; with {best.name} it would be {times(others[best])}" if best is not None else ""),
                severity=None if best is not None else Severity.INFO,
                metrics={"mean_over_deviation": offset, "low": float(image.low.min()), "high": float(image.high.max())},
                remedy=_remedy(best),
                snippet=best.options if best is not None else "",
            )
            return
        _, variance = response(stem, patches)
        live = _live(stem, variance)
        if actual is not ENCODINGS[0] or stem.bias is None or not live.any():
            return
        deviation = np.sqrt(variance[live])
        share = float(np.quantile(np.abs(stem.bias[live]) / deviation, 0.75))
        if float(np.median(deviation)) > self.large_deviation and share < 0.1:
            yield self.finding(
                at_input(stem.input),
                f"the values of {stem.input!r} are raw pixels, but the first layer has nothing to cancel their mean "
                f"with and gives outputs with a deviation of {times(float(np.median(deviation)))}: it looks trained "
                "on normalised values, or at least on pixels less their mean",
                severity=Severity.INFO,
                metrics={
                    "output_deviation": float(np.median(deviation)),
                    "bias_over_deviation": share,
                    "low": float(image.low.min()),
                    "high": float(image.high.max()),
                },
                remedy="check how the network was trained: --preprocess imagenet, tf or unit, or raw with --mean",
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


def _called(encoding: Encoding | None) -> str:
    return f", {encoding.name}," if encoding is not None else ""


def _remedy(encoding: Encoding | None, *, swapped: bool = False) -> str:
    if encoding is None:
        return "preprocess the data as in training; see --preprocess, --mean, --std and --scale"
    order = " and the colours in the other order (--channel-order)" if swapped else ""
    return f"preprocess as in training, by this trace with {encoding.options}{order}, and run again"
