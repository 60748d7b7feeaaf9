"""An activation whose quantisation step is too coarse for its reader.

Without data: a layer computes `y_c = b_c + w_c * x` and its result is stored in `[lo, hi]` (the range of the
output's own codes, after the fused activation). Whatever the data is, `w_c * x` is worth telling apart only
inside `[lo - b_c, hi - b_c]`; together with 0, which is what an input of zeros gives, that is an interval of
width

    V_c = max(0, hi - b_c) - min(0, lo - b_c)

Rounding `x` to a step `s` moves `w_c * x` by an error of standard deviation `s ||w_c||_2 / sqrt(12)`
(independent uniform errors on the taps). So the layer can tell apart

    L_c = V_c / (s ||w_c||_2)        levels;  L = lower quartile of L_c over the channels with a weight.

A layer in which three quarters of the channels have none is left out: its weight is broken, not the step of `x`.

The same number is the ratio of ranges: `255 / L_c` is how far an input that fills its codes overshoots what
the layer can store. With the signal at an eighth of its range (plus and minus four standard deviations, which
is what min-max calibration gives a Gaussian) the SQNR left at that layer is

    10 log10( (V_c / 8)^2 / (s^2 ||w_c||^2 / 12) ) = 20 log10(L_c) - 7.3 dB:   24 levels 20 dB, 16 levels 17 dB.

The quartile, not the power mean, because a wrong scale hurts every channel, while one loud channel is the
weight's matter; a quarter of coarse channels is enough to break a layer. The bias is in the formula because a
layer with a large bias works far from zero: its products have to be larger than its stored output.

A gate with slope `g` turns a step into an error of `g s / sqrt(12)` against a signal of half its full scale
`F`, which is the same SQNR for a width of `4 F / g`: 16 for Sigmoid, 8 for Tanh, `4 / alpha` for HardSigmoid;
for Softmax a step is a relative error of `s`, which makes 8. A tensor that is also a factor of a product
(SiLU) is left out: there large values matter in proportion. For Add the width is the range of the sum, and also for
a layer whose result only a sum reads: a branch that is small beside the other may be coarse. The tightest reader
counts.

One scale error cancels out of all these ratios: a network without bounded activations that was calibrated
wholly on raw pixels. It shows in the first layer's bias, which was trained for the right input: the rule
reports an input of the model whose range is that of 8-bit pixels while the first layer's bias, `median_c
|b_c| / (s ||w_c||)`, is worth less than 4 of its 255 steps. On 11 networks this was 9 to 500 steps if
calibrated rightly, pixels or not, and 0.1 to 4 if not.

With calibration data the different codes in use are counted, those beyond the 0.1 % and 99.9 % quantiles left out, and
the standard deviation of the values gives the SQNR of the rounding itself, `20 log10(sqrt(12) deviation / s)`. Both
have to be low: a rare outlier adds codes, a sparse tensor with a few large values has few. What the file alone tells
stays told, and is tested where the reader's result is seen: with its deviation in place of `V / 8` in the formula
above the step is confirmed as coarse under 20 dB, and refuted over it. Of a gate a small number of codes confirms it,
if values that differ share them.

Sources: rounding noise `s^2 / 12`: Widrow & Kollar, Quantization Noise, 2008. 20 dB at a layer's output as
the level of concern: measured on seven public detectors and classifiers. 32 and 16 codes: five and four bits
of eight.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from onnxlint_q import (
    Confidence,
    Evidence,
    Example,
    Facts,
    Finding,
    Grid,
    Metric,
    Node,
    QuantizedTensor,
    Rule,
    Severity,
    Silence,
    Trait,
    exclude,
    grid,
    option,
    quantize_static_call,
)
from onnxlint_q_rules.qdq.pairs import Pairs, where
from onnxlint_q_rules.qdq.readings import Reading, channel_norm, tightest_readings
from onnxlint_q_rules.qdq.usage import Usage, spoiled, usages

_PIXELS = (200.0, 300.0)
_PIXEL_STEPS = 255.0
# No score is so low, only a mask that stands for minus infinity.
_MASK = 1000.0


def _model(scale: str, zero_point: int, out_scale: str = "0.0235294") -> str:
    return f"""
<ir_version: 8, opset_import: ["" : 13]>
first_layer (float[1, 3, 8, 8] image) => (float[1, 16, 6, 6] y)
<float s_in = {{{scale}}}, uint8 z_in = {{{zero_point}}}, float s_out = {{{out_scale}}}, uint8 z_out = {{0}}> {{
  [quantize_image] q = QuantizeLinear(image, s_in, z_in)
  dq = DequantizeLinear(q, s_in, z_in)
  [stem] c = Conv(dq, w, b)
  r = Relu(c)
  qy = QuantizeLinear(r, s_out, z_out)
  y = DequantizeLinear(qy, s_out, z_out)
}}
"""


def _stem(random: np.random.Generator) -> Mapping[str, npt.NDArray[np.float32]]:
    """Weights for an input of unit variance and an output of a few units."""
    return {
        "w": random.normal(scale=0.25, size=(16, 3, 3, 3)).astype(np.float32),
        "b": random.normal(scale=1.0, size=16).astype(np.float32),
    }


def _normalised(random: np.random.Generator) -> Mapping[str, npt.NDArray[np.float32]]:
    return {"image": random.normal(size=(4, 3, 8, 8)).astype(np.float32)}


@dataclass(frozen=True)
class LargeScale(Rule):
    """The quantisation step of an activation is too coarse.

    ## What it does
    Counts how many steps of an activation fit into the range that its reader stores. With calibration data it counts
    the codes in use, and tests what the file alone suggested.

    ## Why it breaks INT8
    A tensor with five codes in use carries two bits, not eight. This happens when the range was calibrated on data of
    another scale (raw pixels instead of normalised ones), or when a rare outlier widened it.

    ## What to do
    Calibrate again with the preprocessing of the deployment. Or give the tensor its true range, or clip outliers by a
    percentile.

    ## Sources
    Widrow & Kollar, Quantization Noise, 2008; onnxruntime issue 14233.
    """

    code: ClassVar[str] = "QP001"
    name: ClassVar[str] = "large-scale"
    severity: ClassVar[Severity] = Severity.WARNING
    confidence: ClassVar[Confidence] = Confidence.MEDIUM
    supersedes: ClassVar[tuple[str, ...]] = ("QD006", "QP008")

    warning_levels: float = option(
        24.0, doc="fewer levels at the reader are reported", source="20 dB at the layer for a Gaussian signal"
    )
    error_levels: float = option(16.0, doc="fewer levels at the reader are an error", source="four bits of eight")
    warning_codes: float = option(32.0, doc="fewer codes in use are reported", source="five bits of eight")
    error_codes: float = option(16.0, doc="fewer codes in use are an error", source="four bits of eight")
    warning_db: float = option(
        20.0,
        doc="the observed SQNR of the rounding (dB) must be lower, too",
        source="noise of a tenth of the signal",
    )
    bias_steps: float = option(
        4.0,
        doc="an input with the range of raw pixels is reported if the first bias equals fewer of its 255 steps",
        source="9 to 500 steps on 11 networks calibrated rightly, 0.1 to 4 on the same calibrated on raw pixels",
    )

    good: ClassVar[tuple[Example, ...]] = (
        Example(_model("0.0186", 114), weights=_stem, why="The range fits normalised pixels, from -2.1 to 2.6."),
        Example(
            """
<ir_version: 8, opset_import: ["" : 13]>
residual (float[1, 4] x) => (float[1, 4] y)
<float s = {0.5}, uint8 z = {128}, float sb = {0.004}, uint8 zb = {128}, float ss = {0.4}, uint8 zs = {128},
 float[4, 4] w = {0.1, 0, 0, 0, 0, 0.1, 0, 0, 0, 0, 0.1, 0, 0, 0, 0, 0.1}> {
  q = QuantizeLinear(x, s, z)
  d = DequantizeLinear(q, s, z)
  [branch] b = MatMul(d, w)
  qb = QuantizeLinear(b, sb, zb)
  db = DequantizeLinear(qb, sb, zb)
  sum = Add(d, db)
  qs = QuantizeLinear(sum, ss, zs)
  y = DequantizeLinear(qs, ss, zs)
}
""",
            why="The step is coarse for the branch, but the branch is small beside the other operand of the sum.",
        ),
    )
    bad: ClassVar[tuple[Example, ...]] = (
        Example(
            _model("1.077", 115),
            flags=("quantize_image",),
            weights=_stem,
            why="The same network was calibrated on pixels that were not divided by their deviation.",
        ),
        Example(
            _model("1.077", 115),
            flags=("quantize_image",),
            weights=_stem,
            samples=_normalised,
            why="With data it is seen that seven codes are used.",
        ),
        Example(
            _model("1.077", 115, "2.4"),
            flags=("quantize_image",),
            weights=_stem,
            why="Nothing saturates, but the bias shows what input the layer was trained for.",
        ),
        Example(
            """
<ir_version: 8, opset_import: ["" : 13]>
gate (float[1, 8] x) => (float[1, 8] y)
<float s = {2.0}, uint8 z = {128}> {
  [score] n = Neg(x)
  q = QuantizeLinear(n, s, z)
  dq = DequantizeLinear(q, s, z)
  [probability] y = Sigmoid(dq)
}
""",
            flags=("score",),
            why="Between two codes Sigmoid moves by up to a half.",
        ),
    )

    def check(self, facts: Facts) -> Iterator[Finding | Silence]:
        """Each activation pair against its readers, and against the codes that the data uses."""
        pairs = Pairs(facts)
        readings, pixels = tightest_readings(facts, pairs), dict(self._raw_pixels(facts, pairs))
        seen = usages(facts, pairs)
        bad = spoiled(seen)
        # By the codes of the pair: what only moves the values of one that was found is not told again.
        found: dict[str, Finding] = {}
        for pair in pairs.unique():
            held, usage, reading = grid(facts.model, pair), seen.get(pair.codes), readings.get(pair.codes)
            origin = pairs.moved_from(pair)
            if held is None or (origin is not None and origin.codes in found):
                continue
            if usage is not None and self._is_coarse(usage):
                found[pair.codes] = self._few_codes(facts, pairs, usage, bad)
            elif reading is not None and reading.levels < self.warning_levels:
                told = self._few_levels(facts, pair, held, reading)
                found[pair.codes] = told if usage is None else self._tested(told, usage, reading, seen)
            elif pair.codes in pixels:
                found[pair.codes] = self._pixels(facts, pair, held, *pixels[pair.codes])
            else:
                yield Silence(where(facts.model, pair), self._unmet(usage, reading))
        yield from found.values()

    def _unmet(self, usage: Usage | None, reading: Reading | None) -> str:
        """The first condition that a pair does not meet."""
        if reading is not None:
            steps = f"{reading.levels:.3g} of its steps span {reading.what} of {reading.node.label!r}"
            return f"{steps}, not under {self.warning_levels:g}"
        if usage is None:
            return "nothing that reads it says how fine its step must be, and no data was given"
        if usage.used_codes >= self.warning_codes:
            return f"the data uses {usage.used_codes} codes, not under {self.warning_codes:g}"
        return f"rounding alone leaves {usage.rounding_db:.0f} dB, not under {self.warning_db:g}"

    def _is_coarse(self, usage: Usage) -> bool:
        return usage.used_codes < self.warning_codes and usage.rounding_db < self.warning_db

    def _few_levels(self, facts: Facts, pair: QuantizedTensor, held: Grid, reading: Reading) -> Finding:
        sqnr = 20 * np.log10(max(reading.levels, 1e-9) * np.sqrt(12) / 8)
        reader = f"{reading.node.op_type} {reading.node.label!r}"
        message = (
            f"One step of {pair.tensor!r} ({held.scale:.3g}) is too coarse for {reader}: about {max(sqnr, 0):.0f} dB "
            "SQNR are left there"
        )
        remedy, snippet = f"{_AGAIN} {_OUTLIERS}", ""
        if reading.node.operator.has(Trait.SCORES) and held.low < -_MASK:
            producer = facts.model.producer(pair.tensor)
            remedy, snippet = _UNMASK, quantize_static_call(exclude([*([producer] if producer else []), reading.node]))
        return self.finding(
            where(facts.model, pair),
            message,
            severity=Severity.ERROR if reading.levels < self.error_levels else None,
            metrics={
                "scale": held.scale,
                "quantised_low": held.low,
                "quantised_high": held.high,
                "reader_levels": reading.levels,
                "reader_sqnr_db": float(sqnr),
                "reader": reading.node.label,
            },
            remedy=remedy,
            snippet=snippet,
        )

    def _tested(self, finding: Finding, usage: Usage, reading: Reading, seen: Mapping[str, Usage]) -> Finding:
        """What the data says to a finding that the file gave alone."""
        metrics: dict[str, Metric] = {**finding.metrics, "used_codes": usage.used_codes}
        result = seen.get(reading.result.codes) if reading.result is not None else None
        if result is not None and result.deviation > 0 and reading.error:
            left = float(20 * np.log10(result.deviation / reading.error))
            metrics["observed_reader_sqnr_db"] = left
            evidence = Evidence.CONFIRMED if left < self.warning_db else Evidence.REFUTED
            note = f"On the data, {left:.0f} dB are left at {reading.node.label!r}."
        elif reading.error is None and usage.merges_values and usage.used_codes < self.warning_codes:
            evidence = Evidence.CONFIRMED
            note = f"The data uses {usage.used_codes} of the {_count(usage.grid)} codes."
        else:
            return replace(finding, metrics=metrics)
        return replace(finding, metrics=metrics).tested(evidence, None, note)

    def _few_codes(self, facts: Facts, pairs: Pairs, usage: Usage, bad: Mapping[str, Usage]) -> Finding:
        pair, held = usage.pair, usage.grid
        metrics: dict[str, Metric] = {
            "scale": held.scale,
            "used_codes": usage.used_codes,
            "rounding_sqnr_db": usage.rounding_db,
            "codes": _count(held),
        }
        if usage.span is not None:
            metrics |= dict(zip(("observed_low", "observed_high"), usage.span, strict=True))
        again = _INPUT if pairs.from_input(pair) else _AGAIN
        return self.finding(
            where(facts.model, pair),
            f"The data uses only {usage.used_codes} of the {_count(held)} codes of {pair.tensor!r}: its step "
            f"({held.scale:.3g}) is too coarse",
            severity=Severity.ERROR if usage.used_codes < self.error_codes else None,
            metrics=metrics,
            remedy=usage.recalibration(facts.model, bad, again),
            measured=True,
        )

    def _pixels(self, facts: Facts, pair: QuantizedTensor, held: Grid, layer: Node, steps: float) -> Finding:
        return self.finding(
            where(facts.model, pair),
            f"The model input {pair.tensor!r} is quantised for raw pixels ({held.low:.3g} to {held.high:.3g}), but the "
            f"first layer {layer.label!r} expects smaller values",
            metrics={
                "scale": held.scale,
                "quantised_low": held.low,
                "quantised_high": held.high,
                "bias_steps": steps,
            },
            remedy=f"{_AGAIN} {_OUTLIERS}",
        )

    def _raw_pixels(self, facts: Facts, pairs: Pairs) -> Iterator[tuple[str, tuple[Node, float]]]:
        for layer in facts.layers:
            pair = pairs.source(layer.folded.layer.input)
            code_grid = grid(facts.model, pair) if pair is not None and pairs.from_input(pair) else None
            if pair is None or code_grid is None or not _PIXELS[0] <= code_grid.range <= _PIXELS[1]:
                continue
            norm, bias = channel_norm(layer), layer.folded.real_bias(facts.model)
            if bias is None or norm.shape != bias.shape or not np.any(norm > 0):
                continue
            step = code_grid.range / _PIXEL_STEPS
            steps = float(np.median(np.abs(bias[norm > 0]) / (step * norm[norm > 0])))
            if 0 < steps < self.bias_steps:
                yield pair.codes, (layer.node, steps)


_AGAIN = "Calibrate again with exactly the preprocessing of the deployment: mean, deviation, value range."
_OUTLIERS = "If outliers widen the range, use CalibrationMethod.Percentile or give the tensor a range."
_UNMASK = (
    "Mask with about -100 in the float model, which Softmax turns into zero too, and calibrate again. Or leave these "
    "nodes in float."
)
_INPUT = (
    "Preprocess the data as when the model was quantised. If the deployment preprocesses like this, calibrate again "
    "with this data."
)


def _count(held: Grid) -> int:
    """How many codes there are."""
    return round(held.range / held.scale) + 1
