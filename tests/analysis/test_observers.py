"""Observers against the definitions of the literature, written out as loops over the values themselves."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from onnxlint_q.analysis.number_formats import INT8, UINT8, UINT16, NumberFormat, activation_qparams
from onnxlint_q.analysis.observed.histogram import Histogram
from onnxlint_q.analysis.observed.observations import TensorObservation
from onnxlint_q.analysis.observed.observers import (
    OBSERVERS,
    entropy,
    kl_threshold,
    moving_average,
    mse,
    percentile,
    squared_error,
    tf_percentile,
)

FINITE = st.floats(-1000, 1000, width=32, allow_subnormal=False)
SAMPLES = st.lists(arrays(np.float32, st.integers(1, 12), elements=FINITE), min_size=1, max_size=8)


def seen_in(samples: list[np.ndarray]) -> TensorObservation:
    parts = [TensorObservation.of(sample) for sample in samples]
    return sum(parts[1:], parts[0])


@given(SAMPLES)
@settings(max_examples=50, deadline=None)
def test_statistics_add_up_to_those_of_all_values(samples: list[np.ndarray]) -> None:
    got, values = seen_in(samples), np.concatenate(samples).astype(np.float64)
    assert (got.low, got.high, got.size) == (values.min(), values.max(), values.size)
    assert got.mean == pytest.approx(values.mean(), abs=0.004 * np.abs(values).mean() + 1e-30)
    assert got.deviation == pytest.approx(values.std(), abs=0.008 * np.abs(values).max() + 1e-30)
    assert list(got.lows) == [sample.min() for sample in samples]


@given(SAMPLES, st.sampled_from([0.01, 0.1, 0.5]))
@settings(max_examples=50, deadline=None)
def test_moving_average_is_the_recursion(samples: list[np.ndarray], constant: float) -> None:
    """PyTorch: `min + c (min_batch - min)`, started at the first batch."""
    low, high = float(samples[0].min()), float(samples[0].max())
    for sample in samples[1:]:
        low += constant * (float(sample.min()) - low)
        high += constant * (float(sample.max()) - high)
    assert moving_average(seen_in(samples), constant) == pytest.approx((low, high), abs=1e-9 * 1000)


def test_percentile_leaves_out_that_many_values_on_either_side() -> None:
    values = np.random.default_rng(0).standard_t(3, 100_000).astype(np.float32)
    for tail in (1e-4, 1e-3, 0.05):
        low, high = percentile(TensorObservation.of(values), tail)
        exact = np.quantile(values, [tail, 1 - tail])
        assert (low, high) == pytest.approx(tuple(exact), rel=0.02)
        assert (values < low).mean() == pytest.approx(tail, rel=0.2)


@pytest.mark.parametrize("count", [1, 5, 9, 10, 20, 29, 30, 100])
def test_the_clipping_of_the_graph_transform_is_one_of_samples(count: int) -> None:
    """freeze_requantization_ranges.cc: sort, round, subtract one, hold within the list."""
    random = np.random.default_rng(count)
    samples = [random.standard_normal(7).astype(np.float32) for _ in range(count)]
    mins, maxs = sorted(s.min() for s in samples), sorted(s.max() for s in samples)
    first = max(0, math.floor(count * 0.05 + 0.5) - 1)
    last = min(count - 1, math.floor(count * 0.95 + 0.5) - 1)
    assert tf_percentile(seen_in(samples)) == (mins[first], maxs[max(last, 0)])


def kl_by_hand(counts: list[float], levels: int) -> int:
    """pytorch-quantization's _compute_amax_entropy, with its Counter and loops."""
    bins = list(counts)
    bins[0] = bins[1]
    total = sum(bins)
    losses = {}
    for i in range(levels, len(bins) + 1):
        space = np.linspace(0, i, num=levels + 1)
        digitized = [int(d) - 1 if bins[j] else -1 for j, d in enumerate(np.digitize(range(i), space))]
        sums = [0.0] * levels
        for j, d in enumerate(digitized):
            if d != -1:
                sums[d] += bins[j]
        members = Counter(digitized)
        new = np.asarray([0.0 if d == -1 else sums[d] / members[d] for d in digitized])
        reference = np.asarray(bins[:i], np.float64)
        reference[-1] += sum(bins[i:])
        p, q = reference / total, new / new.sum()
        losses[i] = sum(
            0.0 if a == 0 else (math.inf if b == 0 else a * math.log(a / b)) for a, b in zip(p, q, strict=True)
        )
    return max(i for i, loss in losses.items() if loss <= min(losses.values()) + 1e-12)


@pytest.mark.parametrize("seed", range(12))
def test_kl_is_that_of_the_reference(seed: int) -> None:
    random = np.random.default_rng(seed)
    values = np.abs(random.standard_t(2 + seed % 3, 4000))
    counts = np.histogram(values, bins=120, range=(0, values.max()))[0].astype(np.float64)
    assert kl_threshold(counts, 16) == kl_by_hand(list(counts), 16)


def test_entropy_clips_a_tail_and_keeps_a_full_range() -> None:
    random = np.random.default_rng(0)
    tail = np.append(random.standard_normal(50_000), 100.0)
    low, high = entropy(TensorObservation.of(tail))
    assert 3 < high < 20 and low == pytest.approx(tail.min(), rel=1e-6)
    even = random.uniform(0, 1, 50_000)
    assert entropy(TensorObservation.of(even))[1] > 0.95


@pytest.mark.parametrize("number", [UINT8, INT8, UINT16])
def test_squared_error_is_that_of_the_round_trip(number: NumberFormat) -> None:
    values = np.random.default_rng(3).standard_normal(3000).astype(np.float32)
    centres = Histogram.of(values).centres
    scale, zero = activation_qparams(-2.0, 1.5, number)
    least, most = {UINT8: (0, 255), INT8: (-127, 127), UINT16: (0, 65535)}[number]
    total = 0.0
    for value, count in zip(centres, Histogram.of(values).counts, strict=True):
        code = min(max(round(float(value) / float(scale)) + zero, least), most)
        total += count * ((code - zero) * float(scale) - value) ** 2
    assert squared_error(Histogram.of(values), -2.0, 1.5, number) == pytest.approx(total / values.size, rel=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_mse_is_next_to_the_best_of_all_pairs_of_ends(seed: int) -> None:
    """Every pair of ends on the same grid, errors of the values themselves instead of a histogram's."""
    random = np.random.default_rng(seed)
    values = (random.standard_t(2, 2000) + seed).astype(np.float32)

    def error(low: float, high: float) -> float:
        scale, zero = activation_qparams(low, high, UINT8)
        codes = np.clip(np.rint(values / scale) + zero, 0, 255)
        return float(np.square((codes - zero) * scale - values, dtype=np.float64).mean())

    low, high = mse(TensorObservation.of(values))
    shrinks = 2.0 ** (-np.arange(0, 49, 2) / 8)
    best = min(error(values.min() * a, values.max() * b) for a in shrinks for b in shrinks)
    assert error(low, high) <= 1.15 * best
    assert error(low, high) <= 1.001 * error(values.min(), values.max())


@given(SAMPLES, st.integers(-6, 6))
@settings(max_examples=25, deadline=None)
@pytest.mark.parametrize("name", sorted(OBSERVERS))
def test_ranges_scale_with_the_values_and_stay_within_them(name: str, samples: list[np.ndarray], power: int) -> None:
    """By powers of two, which move no value to another bin's inside."""
    low, high = OBSERVERS[name](seen_in(samples), UINT8)
    values = np.concatenate(samples)
    slack = 1e-6 * float(np.abs(values).max()) + 1e-30
    assert min(values.min(), 0) - slack <= low and high <= max(values.max(), 0) + slack
    scaled = OBSERVERS[name](seen_in([sample * np.float32(2.0**power) for sample in samples]), UINT8)
    assert scaled == pytest.approx((low * 2.0**power, high * 2.0**power), rel=1e-5, abs=slack * 2.0**power)


@given(arrays(np.float32, st.integers(2, 50), elements=FINITE), st.floats(0, 0.4), st.floats(0, 0.4))
@settings(max_examples=60, deadline=None)
def test_percentiles_are_monotone(values: np.ndarray, one: float, other: float) -> None:
    seen = TensorObservation.of(values)
    wide, narrow = percentile(seen, min(one, other)), percentile(seen, max(one, other))
    assert wide[0] <= narrow[0] and narrow[1] <= wide[1]
    assert seen.low <= wide[0] <= wide[1] <= seen.high


def test_a_tensor_of_zeros_has_a_range() -> None:
    for name, observer in OBSERVERS.items():
        assert observer(TensorObservation.of(np.zeros(10)), UINT8) == pytest.approx((0, 0), abs=1e-30), name
