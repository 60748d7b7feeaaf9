"""Observers: from what calibration saw of a tensor to the range that it is quantised for.

All are functions of statistics that one streaming pass collects and that add up over passes. `x` below are all values
of the tensor, a sample is what the literature calls a batch. A range need not contain zero: quantisation widens it
(`activation_qparams`).

- `min-max`: smallest and largest value of all samples (PyTorch MinMaxObserver; "global min-max").
- `moving-average`: `low += c (low_sample - low)`, likewise high, started at the first sample, with `c` = 0.01
  (PyTorch MovingAverageMinMaxObserver, averaging_constant). `moving-average-0.9`: the same with `c` = 0.1, that is
  0.9 of the old value is kept (MQBench EMAMinMaxObserver, ema_ratio 0.9), for a few dozen samples instead of the
  hundreds of batches that 0.01 is meant for: after 32 samples 0.01 still gives the first one 73 % of the weight.
- `percentile`: all but 0.01 % of the values at either end (PPQ's default, 99.99 %).
- `tf-percentile`: the 5 % clipping that the MobileNet paper used (arXiv 2104.11849, section 3), which is that of
  TensorFlow's graph transform freeze_requantization_ranges: not of the values but of the extremes of the samples,
  sorted: `mins[round(0.05 n) - 1]` and `maxs[round(0.95 n) - 1]`, indices held within the list.
- `entropy`: the threshold T that minimises the KL divergence between the clipped histogram of `|x|`, 2048 bins, and
  its 128-level quantisation (Migacz, 8-bit inference with TensorRT, GTC 2017), every sixteenth bin a candidate; the
  range is `[-T, T]` within min-max.
- `mse`: the ends `(a low, b high)` with the smallest mean squared error of quantisation and back (as MQBench
  MSEObserver, PPQ), `a`, `b` in 2^(-k/8), searched side by side from `a = b` on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from onnxlint_q.analysis.number_formats import UINT8, NumberFormat, activation_qparams, round_trip
from onnxlint_q.analysis.observed.histogram import Histogram
from onnxlint_q.analysis.observed.observations import TensorObservation

Vector = npt.NDArray[np.float64]
Range = tuple[float, float]
Observer = Callable[[TensorObservation, NumberFormat], Range]

TORCH_CONSTANT = 0.01
MQBENCH_CONSTANT = 0.1
TAIL = 1e-4
TF_PERCENT = 5.0
_KL_BINS, _KL_LEVELS, _KL_STRIDE = 2048, 128, 16
# Down to 1/64 of either end.
_SHRINKS = 2.0 ** (-np.arange(49) / 8)
_ROUNDS = 4


def min_max(observation: TensorObservation, _number: NumberFormat = UINT8) -> Range:
    """Smallest and largest value."""
    return observation.low, observation.high


def moving_average(observation: TensorObservation, constant: float = TORCH_CONSTANT) -> Range:
    """Exponential moving average of the extremes of the samples, in their order."""
    # Unrolled: the first sample keeps (1 - c)^(n - 1), sample i > 0 has c (1 - c)^(n - 1 - i).
    weights = constant * (1 - constant) ** np.arange(observation.lows.size - 1, -1, -1.0)
    weights[0] /= constant
    return float(weights @ observation.lows.astype(np.float64)), float(weights @ observation.highs.astype(np.float64))


def percentile(observation: TensorObservation, tail: float = TAIL) -> Range:
    """All but the fraction `tail` of the values at either end."""
    return observation.quantile(tail), observation.quantile(1 - tail)


def tf_percentile(observation: TensorObservation, percent: float = TF_PERCENT) -> Range:
    """All but `percent` of the samples' minima, and of their maxima."""
    lows, highs = np.sort(observation.lows), np.sort(observation.highs)
    last = lows.size - 1
    # std::round, as there: halves away from zero.
    first = int(np.floor(lows.size * percent / 100 + 0.5)) - 1
    final = int(np.floor(highs.size * (1 - percent / 100) + 0.5)) - 1
    return float(lows[min(max(first, 0), last)]), float(highs[min(max(final, 0), last)])


def entropy(observation: TensorObservation, _number: NumberFormat = UINT8) -> Range:
    """The range with the least information lost."""
    top = max(-observation.low, observation.high)
    if not (top > 0 and observation.counted):
        return observation.low, observation.high
    edges = np.linspace(0, top, _KL_BINS + 1)
    positive = observation.histogram.below(edges)
    # What lies at -0 or 0 exactly is counted once, by the positive side's first bin.
    negative = observation.histogram.below(-edges)
    counts = np.diff(positive) - np.diff(negative)
    counts[0] += positive[0] - negative[0]
    threshold = top * kl_threshold(np.maximum(counts, 0), _KL_LEVELS, _KL_STRIDE) / _KL_BINS
    return max(observation.low, -threshold), min(observation.high, threshold)


def kl_threshold(counts: Vector, levels: int, stride: int = 1) -> int:
    """How many of the first bins to keep so that `levels` levels describe them best; at least `levels`.

    For each candidate `i`, P is the first `i` bins with what lies beyond added to the last; Q is the first `i` bins
    without it, summed up to `levels` equal levels and spread again evenly over the bins of each that hold anything. The
    smallest `KL(P || Q)` of the two, normalised, wins; of equals the widest. It is infinite where the last bin holds
    only what lies beyond. The first bin counts as much as the second, or the zeros of a Relu would outweigh all else.
    Only every `stride`-th candidate is tried. The details are those of _compute_amax_entropy in NVIDIA's
    pytorch-quantization.
    """
    bins = counts.copy()
    bins[0] = bins[1]
    whole = bins.sum()
    best, best_loss = bins.size, np.inf
    for kept in range(bins.size, levels - 1, -stride):
        inside = bins[:kept]
        filled = inside > 0
        held = inside.sum()
        if not filled.any() or (held < whole and not filled[-1]):
            continue
        level = np.arange(kept) * levels // kept
        starts = -(-np.arange(levels) * kept // levels)
        sums, many = np.add.reduceat(inside, starts), np.add.reduceat(filled.astype(np.float64), starts)
        spread = (sums / np.maximum(many, 1))[level][filled]
        reference = inside[filled].copy()
        reference[-1] += whole - held
        loss = float(np.sum(reference / whole * np.log(reference / whole / (spread / held))))
        if loss < best_loss - 1e-12:
            best, best_loss = kept, loss
    return best


def mse(observation: TensorObservation, number: NumberFormat = UINT8) -> Range:
    """The range with the smallest mean squared error under `number`."""
    if not (observation.counted and (observation.low < 0 or observation.high > 0)):
        return observation.low, observation.high
    low, high = min(observation.low, 0.0), max(observation.high, 0.0)

    def loss(a: float, b: float) -> float:
        return squared_error(observation.histogram, low * a, high * b, number)

    both = [loss(shrink, shrink) for shrink in _SHRINKS]
    a = b = float(_SHRINKS[int(np.argmin(both))])
    best = min(both)
    for _ in range(_ROUNDS if low < 0 < high else 0):
        before = best
        for side in (0, 1):
            losses = [loss(float(s), b) if side == 0 else loss(a, float(s)) for s in _SHRINKS]
            if min(losses) < best:
                best = min(losses)
                chosen = float(_SHRINKS[int(np.argmin(losses))])
                a, b = (chosen, b) if side == 0 else (a, chosen)
        if best >= before:
            break
    return low * a, high * b


def squared_error(histogram: Histogram, low: float, high: float, number: NumberFormat) -> float:
    """Mean squared error of a round trip through `number` with the qparams of `[low, high]`, by the bins' centres."""
    values = histogram.centres
    scale, zero = activation_qparams(low, high, number)
    error = round_trip(values, scale, number, zero) - values
    return float(np.square(error) @ histogram.counts / max(histogram.total, 1))


def _once(observer: Observer) -> Observer:
    """The same observer, which works out each range once."""
    known: WeakKeyDictionary[TensorObservation, dict[NumberFormat, Range]] = WeakKeyDictionary()

    def found(seen: TensorObservation, number: NumberFormat) -> Range:
        ranges = known.setdefault(seen, {})
        if number not in ranges:
            ranges[number] = observer(seen, number)
        return ranges[number]

    return found


def _moving_average(constant: float) -> Observer:
    return lambda seen, _number: moving_average(seen, constant)


OBSERVERS: Mapping[str, Observer] = {
    "min-max": min_max,
    "moving-average": _moving_average(TORCH_CONSTANT),
    "moving-average-0.9": _moving_average(MQBENCH_CONSTANT),
    "percentile": lambda seen, _number: percentile(seen),
    "tf-percentile": lambda seen, _number: tf_percentile(seen),
    "entropy": _once(entropy),
    "mse": _once(mse),
}
DEFAULT_OBSERVER = "min-max"
