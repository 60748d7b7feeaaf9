"""Histograms over the float's bits, against counting by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from onnxlint_q.analysis.observed.histogram import Histogram, float_codes

FINITE = st.floats(-(2.0**100), 2.0**100, width=32, allow_nan=False)
VALUES = arrays(np.float32, st.integers(1, 60), elements=FINITE)


@given(VALUES)
@settings(max_examples=60, deadline=None)
def test_every_value_lies_in_a_bin_of_its_own_size(values: np.ndarray) -> None:
    found = Histogram.of(values)
    low, high = found.edges
    assert found.total == values.size
    for value in values.astype(np.float64):
        (place,) = np.flatnonzero((low <= value) & (value <= high))[:1]
        assert high[place] - low[place] <= 2**-7 * abs(value) + 1e-40
    assert (low[1:] >= high[:-1]).all()


@given(VALUES, VALUES)
@settings(max_examples=40, deadline=None)
def test_two_add_up_to_that_of_all_values(one: np.ndarray, other: np.ndarray) -> None:
    both, whole = Histogram.of(one) + Histogram.of(other), Histogram.of(np.concatenate([one, other]))
    assert np.array_equal(both.bins, whole.bins) and np.array_equal(both.counts, whole.counts)


@given(VALUES, st.floats(0, 1))
@settings(max_examples=80, deadline=None)
def test_a_quantile_is_within_a_bin_of_the_exact_one(values: np.ndarray, fraction: float) -> None:
    exact = float(np.quantile(values, fraction, method="inverted_cdf"))
    assert abs(Histogram.of(values).quantile(fraction) - exact) <= 2**-7 * abs(exact) + 1e-37


def test_whole_numbers_up_to_256_are_exact() -> None:
    codes = np.random.default_rng(0).integers(-128, 256, 5000)
    found = Histogram.of(codes, whole=True)
    low, high = found.edges
    assert np.array_equal(low, high)
    assert dict(zip(low, found.counts, strict=True)) == dict(zip(*np.unique(codes, return_counts=True), strict=True))
    for wanted in (-128, -0.5, 0, 17, 254.5, 300):
        assert found.below(wanted) == (codes <= wanted).sum()


def test_counts_below_a_value_are_those_of_numpy_up_to_a_bin() -> None:
    values = np.random.default_rng(1).standard_normal(20_000).astype(np.float32)
    places = np.linspace(-4, 4, 41)
    exact = np.searchsorted(np.sort(values), places, side="right")
    assert np.abs(Histogram.of(values).below(places) - exact).max() < 0.005 * values.size
    assert np.array_equal(Histogram.empty().below(places), np.zeros(41))


def test_a_stride_takes_every_so_manieth_value() -> None:
    values = np.arange(100, dtype=np.float32)
    assert np.array_equal(float_codes(values, 3, 7), float_codes(values[3::7].copy()))
    assert Histogram.of([0.0, -0.0, 3.4e38, -3.4e38]).total == 4
    assert np.isnan(Histogram.empty().quantile(0.5)) and Histogram.of([2.0]).quantile(0.0) == pytest.approx(2.0)


def test_a_histogram_of_counts_is_that_of_the_codes() -> None:
    for first, codes in (
        (-128, [-128, -5, -5, 0, 127]),
        (0, [0, 3, 3, 255, 255]),
        (0, [255, 256, 300, 301, 302, 70_000]),
    ):
        made = Histogram.of_counts(first, np.bincount(np.subtract(codes, first)))
        wanted = Histogram.of(codes, whole=True)
        assert np.array_equal(made.bins, wanted.bins) and np.array_equal(made.counts, wanted.counts) and made.whole
    assert Histogram.of_counts(0, np.zeros(256, np.int64)).total == 0


def test_codes_in_use_are_those_that_occur_and_not_those_in_between() -> None:
    def used(codes: list[int]) -> int:
        return Histogram.of(codes, whole=True).used_codes

    assert used([0] * 5000 + [255] * 5000) == 2
    assert used(list(range(256)) * 40) == 256
    assert used([128] * 9990 + list(range(10))) == 1  # one in a thousand, at either end
    assert used([7] * 3) == 1 and used([]) == 0
    assert used([1000 + n for n in range(64)] * 40) == 64  # bins hold several: what they span
