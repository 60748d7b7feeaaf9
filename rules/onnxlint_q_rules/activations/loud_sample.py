"""A sample that is much louder than the others, where all samples of a batch share one scale.

DynamicQuantizeLinear takes its scale from all it is given: from the whole batch. With `r_i` the range of sample `i`,
zero included, the scale of a batch that holds the loudest sample is `max_i r_i / 255`, and a typical sample loses

    bits = log2( max_i r_i / median_i r_i )

of its eight. So the result of a sample hangs on what else is in its batch. Reported where the batch is open and a
sample costs the median one three bits: as a warning from four on. Runs of one sample at a time, as most tests make, do
not show it.

Sources: ONNX operator specification, DynamicQuantizeLinear (one scale for the tensor); measured on a network with one
sample 80 times louder: 38.9 dB alone, 8.2 dB together with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from onnxlint_q import (
    Confidence,
    Example,
    Facts,
    Finding,
    Rule,
    Severity,
    Silence,
    TensorObservation,
    option,
    times,
    whole_model,
)
from onnxlint_q_rules.activations.places import place_of

_FEWEST = 8


def _model(batch: str) -> str:
    return f"""
<ir_version: 8, opset_import: ["" : 17]>
dense (float[{batch}, 4] x) => (float[{batch}, 2] y)
<uint8[4, 2] w = {{130, 90, 120, 140, 110, 128, 128, 150}}, float sw = {{0.01}}, uint8 zw = {{128}}> {{
  [first] h = Neg(x)
  q, s, z = DynamicQuantizeLinear(h)
  p = MatMulInteger(q, w, z, zw)
  f = Cast <to = 1> (p)
  both = Mul(s, sw)
  y = Mul(f, both)
}}
"""


def _even(random: np.random.Generator) -> Mapping[str, npt.NDArray[np.float32]]:
    return {"x": random.normal(size=(32, 4)).astype(np.float32)}


def _one_loud(random: np.random.Generator) -> Mapping[str, npt.NDArray[np.float32]]:
    values = _even(random)["x"]
    values[20] *= 100
    return {"x": values}


@dataclass(frozen=True)
class LoudSample(Rule):
    """One sample is so loud that it costs the others of its batch most of their bits.

    ## What it does
    Takes a model whose batch is open, and compares the ranges of the samples in each tensor that is scaled at run time.

    ## Why it breaks INT8
    The scale is that of the whole batch. Beside a loud sample the others keep a few codes, so their results depend on
    the batch that they are in.

    ## What to do
    Run the model on one sample at a time, or on samples of one level. Or bring the samples to one level before.

    ## Sources
    ONNX operator specification, DynamicQuantizeLinear.
    """

    code: ClassVar[str] = "QA008"
    name: ClassVar[str] = "loud-sample"
    severity: ClassVar[Severity] = Severity.WARNING
    confidence: ClassVar[Confidence] = Confidence.HIGH
    needs_calibration: ClassVar[bool] = True

    bits: float = option(
        3.0, doc="bits that the median sample loses from which it is reported", source="18 dB of about 40"
    )
    warning_bits: float = option(
        4.0, doc="bits that the median sample loses from which it is a warning", source="half of the eight"
    )

    good: ClassVar[tuple[Example, ...]] = (
        Example(_model("N"), samples=_even, why="All samples are about as loud."),
        Example(_model("1"), samples=_one_loud, why="Each sample has a run, and a scale, of its own."),
    )
    bad: ClassVar[tuple[Example, ...]] = (
        Example(_model("N"), flags=("first",), samples=_one_loud, why="One sample of a batch is 100 times as loud."),
    )

    def check(self, facts: Facts) -> Iterator[Finding | Silence]:
        """Each tensor whose scale is computed at run time."""
        seen = facts.observations
        if seen is None:
            return
        if not all(_is_open(value.type.shape) for value in facts.model.inputs) or seen.synthetic:
            yield Silence(whole_model(facts), "it takes one sample at a time, or the samples are made up")
            return
        loud: dict[int, dict[str, float]] = {}
        for pair in facts.quantized:
            known = seen.tensors.get(pair.tensor) if pair.dynamic else None
            if known is None:
                continue
            sample, lost = _loudest(known)
            if lost >= self.bits:
                loud.setdefault(sample, {})[pair.tensor] = lost
            else:
                told = f"its loudest sample costs the median one {lost:.1f} bits, not {self.bits:g}"
                yield Silence(place_of(facts, pair.tensor), told)
        for sample, tensors in loud.items():
            yield self._report(facts, sample, tensors)

    def _report(self, facts: Facts, sample: int, tensors: dict[str, float]) -> Finding:
        first, *others = tensors
        lost = max(tensors.values())
        more = "" if not others else f" and {others[0]!r}" if len(others) == 1 else f" and {len(others)} more"
        return self.finding(
            place_of(facts, first),
            f"Sample {sample} has {times(2 ** tensors[first])} times the range of the median one in {first!r}{more}: "
            f"it costs the others of a batch about {lost:.0f} bits.",
            severity=None if lost >= self.warning_bits else Severity.INFO,
            metrics={"sample": sample, "bits": lost, "tensors": ", ".join(tensors)},
            remedy="Run one sample at a time, or samples of one level together. Or bring them to one level before.",
            places=[place_of(facts, tensor) for tensor in others],
        )


def _loudest(seen: TensorObservation) -> tuple[int, float]:
    """The sample of the widest range, and how many bits the median one loses to it."""
    ranges = np.maximum(seen.highs.astype(np.float64), 0) - np.minimum(seen.lows.astype(np.float64), 0)
    median = float(np.median(ranges))
    if ranges.size < _FEWEST or not median > 0:
        return 0, 0.0
    return int(np.argmax(ranges)), float(np.log2(ranges.max() / median))


def _is_open(shape: tuple[int | None, ...] | None) -> bool:
    return shape is None or (bool(shape) and shape[0] is None)
