"""What calibration saw of a pair: its codes, and the values in front of its rounding.

A range that could replace the pair's own is that of the values in front of the rounding, never that of the codes: what
lies beyond the range ends on the last code, and with few codes a step is a large part of the span. A QDQ file holds
these values, but as the quantised model has them: behind a tensor that is clipped, or too coarse, they are not those of
the float model. A QOperator file holds codes only.

Clipping is what the tensor loses beyond its range, more than half a step away from it,

    clip_db = 10 log10( sum x^2 / sum (x - clip(x))^2 ).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from onnxlint_q import (
    Facts,
    Grid,
    Model,
    QuantizedTensor,
    Remedy,
    Requantisation,
    TensorObservation,
    TensorRange,
    grid,
    sqnr_db,
)
from onnxlint_q_rules.qdq.pairs import Pairs

# Five bits of eight: below, an end is known to no better than a thirtieth of the span.
RESOLVED_CODES = 32
# Noise of a tenth of the signal's amplitude.
FAINT_DB = 20.0
_RELU6 = 6.0
RECALIBRATE = "Calibrate again with data like that of the deployment."
"""What to do first about a range that does not fit the data."""
# Fraction of values at the ends that is no percentile's doing, where only codes are known.
_MANY = 0.01


@dataclass(frozen=True, eq=False)
class Usage:
    """One pair on the calibration data.

    Attributes:
        pair, grid: its qparams and what they can represent.
        codes: what its codes were.
        real: what the values in front of the rounding were; None where the file does not hold them.
        made_up: the data are random values, from which no range can be learned.
    """

    pair: QuantizedTensor
    grid: Grid
    codes: TensorObservation
    real: TensorObservation | None
    made_up: bool = False

    @cached_property
    def used_codes(self) -> int:
        """Different codes in use."""
        return self.codes.used_codes

    @property
    def merges_values(self) -> bool:
        """Whether values that differ share codes, which those of a mask of two values do not; False if unknown."""
        return self.real is not None and self.real.histogram.bins.size > 2 * self.used_codes

    @cached_property
    def deviation(self) -> float:
        """Standard deviation in the tensor's own unit."""
        return self.real.deviation if self.real is not None else self.grid.scale * self.codes.deviation

    @cached_property
    def rounding_db(self) -> float:
        """SQNR (dB) of rounding alone.

        The signal is what varies. Of a tensor that falls on one code it is all of it: a constant needs no fine step.
        """
        signal = self.deviation
        if not self.codes.range > 0:
            signal = float(np.hypot(self.real.mean, signal)) if self.real is not None else np.inf
        return float(20 * np.log10(max(signal, 1e-300) * np.sqrt(12) / self.grid.scale))

    @cached_property
    def span(self) -> tuple[float, float] | None:
        """Smallest and largest value, as far as the file can show them."""
        if self.real is not None:
            return self.real.low, self.real.high
        if self.used_codes < RESOLVED_CODES or any(self.codes.ends or ()):
            return None
        lowest = (self.pair.code_range or (0, 0))[0]
        low, high = (self.grid.low + self.grid.scale * (code - lowest) for code in (self.codes.low, self.codes.high))
        return low, high

    @property
    def counts_beyond(self) -> bool:
        """Whether `clipped` counts what lies beyond the range, and not what lies at its ends."""
        return self.real is not None and self.real.ends is not None

    @cached_property
    def clipped(self) -> tuple[float, float]:
        """Fraction of values that the range cuts off below and above, what a fused Relu or Relu6 cuts off aside.

        Of codes alone it is known how many are the last one; a single one may be what the range was made for.
        """
        if self.real is not None and self.real.ends is not None:
            below, above = self.real.ends
        else:
            below, above = (end if end * self.codes.size >= 2 else 0.0 for end in self.codes.ends or (0.0, 0.0))
        relu, relu6 = self._fused
        return (0.0 if relu else below), (0.0 if relu6 else above)

    @cached_property
    def clip_db(self) -> float | None:
        """SQNR (dB) of clipping alone; None where the file does not show what was clipped."""
        return None if self._powers is None else sqnr_db(*self._powers)

    @cached_property
    def _powers(self) -> tuple[float, float] | None:
        """Mean square of the values in front of the rounding, and of what the range cuts off them."""
        if self.real is None or not self.real.counted:
            return None
        relu, relu6 = self._fused
        values = np.clip(self.real.histogram.centres, self.real.low, self.real.high)
        values = np.clip(values, 0.0 if relu else -np.inf, self.grid.high if relu6 else np.inf)
        lost = values - np.clip(values, self.grid.low, self.grid.high)
        shares = self.real.histogram.counts / self.real.counted
        return float(shares @ np.square(values)), float(shares @ np.square(lost))

    @cached_property
    def is_spoiled(self) -> bool:
        """Whether what is computed from the tensor is far from what the float model has there."""
        if self.used_codes < RESOLVED_CODES and self.rounding_db < FAINT_DB:
            return True
        return sum(self.clipped) > _MANY if self.clip_db is None else self.clip_db < FAINT_DB

    @property
    def _fused(self) -> tuple[bool, bool]:
        """Whether the range ends where a Relu, and where a Relu6 would cut."""
        relu = self.grid.low == 0
        return relu, relu and bool(np.isclose(self.grid.high, _RELU6, rtol=0.002))

    def recalibration(self, model: Model, spoiled: Mapping[str, Usage], again: str) -> Remedy:
        """How to get a better range here, told after `again`; no change while other tensors come first."""
        if self.real is None:
            integer = self.pair.node.operator.codes is not None
            options = ("quant_format=QuantFormat.QOperator",) if integer else ()
            why = "" if self.span is not None else "This file holds codes only here, so no range can be read from it."
            change = Requantisation(options=(*options, "calibrate_method=CalibrationMethod.MinMax"))
            return Remedy(again, change=change).within(tail=why)
        first = spoiled_by(model, self, spoiled)
        if first is not None:
            return Remedy(f"Fix {first.pair.tensor!r} first, which this tensor is computed from. {again}")
        if self.made_up:
            return Remedy(f"{again} Random values give no usable range.")
        low, high = min(self.real.low, 0.0), max(self.real.high, 0.0)
        if not self._is_better(low, high):
            return Remedy(
                f"{again} Clip outliers by a percentile: the full range of the data would be no better.",
                change=Requantisation(options=("calibrate_method=CalibrationMethod.Percentile",)),
            )
        return Remedy(
            f"{again} Or give the tensor the range of the data, {low:.4g} to {high:.4g}.",
            change=Requantisation(ranges=(TensorRange(float_name(model, self.pair), low, high),)),
        )

    def _is_better(self, low: float, high: float) -> bool:
        """Whether rounding in this range, which holds all values, costs half of what rounding and clipping cost now."""
        step = self.grid.scale * (high - low) / self.grid.range
        lost = self._powers[1] if self._powers is not None else 0.0
        return step**2 / 12 < (self.grid.scale**2 / 12 + lost) / 2


def usages(facts: Facts, pairs: Pairs) -> Mapping[str, Usage]:
    """The pairs that calibration saw, by their codes, in data order.

    A pair that only moves another pair's values is left to that one, and so is one that quantises the same tensor in
    the same way. Codes of what is no number mean nothing.
    """
    if facts.observations is None:
        return {}
    seen, broken = facts.observations.tensors, set(facts.observations.non_finite)
    found: dict[str, Usage] = {}
    known: set[tuple[str, Grid]] = set()
    for codes, pair in pairs.by_codes.items():
        code_grid = grid(facts.model, pair)
        if code_grid is None or codes not in seen or pair.unrounded in broken or pairs.moved_from(pair) is not None:
            continue
        if pair.unrounded and (pair.unrounded, code_grid) in known:
            continue
        known.add((pair.unrounded, code_grid))
        real = seen.get(pair.unrounded)
        if real is not None and pairs.by_tensor.get(pair.tensor) is not pair:
            real = replace(real, ends=None)  # counted beyond the bounds of the first pair that reads the tensor
        found[codes] = Usage(pair, code_grid, seen[codes], real, facts.observations.synthetic)
    return found


def spoiled(found: Mapping[str, Usage]) -> Mapping[str, Usage]:
    """The pairs behind which values are no longer those of the float model: too coarse, or clipped to their harm."""
    return {codes: usage for codes, usage in found.items() if usage.is_spoiled}


def spoiled_by(model: Model, usage: Usage, spoiled: Mapping[str, Usage]) -> Usage | None:
    """The first of the pairs `spoiled` that the values of `usage` are computed from; None if none is."""
    others = [codes for codes in spoiled if codes != usage.pair.codes]
    before = model.ancestors(usage.pair.unrounded or usage.pair.codes) if others else set()
    return next((spoiled[codes] for codes in others if codes in before), None)


def float_name(model: Model, pair: QuantizedTensor) -> str:
    """What the float model calls the tensor: an output keeps its name, which its dequantised form has here."""
    readers = (reader for reader in model.consumers(pair.codes) if reader.op_type == "DequantizeLinear")
    return next((reader.output for reader in readers if reader.output in model.output_names), pair.tensor)
