"""Sums that are collected sample by sample against numpy in float64 on all values at once."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from onnxlint_q.analysis.observed.moments import Moments
from onnxlint_q.analysis.observed.observations import TensorObservation
from onnxlint_q.execute.stream.collector import Collector
from onnxlint_q.execute.stream.reduction import Layout, Watched, reduce_samples, subset_size

PLAIN = Watched("t")
_LARGEST = float(np.float32(3e38))
_VALUES = st.floats(-_LARGEST, _LARGEST, width=32, allow_subnormal=False)


def collected(data: npt.NDArray[Any], parts: int, watched: Watched = PLAIN) -> TensorObservation:
    """What a pass over `[sample, value]` sees, so many samples at a time."""
    layout = Layout([watched], ((1, data.shape[1]),), subset_size(len(data)))
    collector = Collector([watched])
    for start in range(0, len(data), parts):
        some = data[start : start + parts]
        for sample in reduce_samples(layout, [some], start, len(some)):
            collector.add(sample)
    return collector.result()[0]["t"]


@given(
    data=arrays.arrays(np.float32, st.tuples(st.integers(1, 6), st.integers(1, 40)), elements=_VALUES),
    parts=st.integers(1, 6),
)
def test_what_a_pass_sums_up_is_what_numpy_says(data: npt.NDArray[np.float32], parts: int) -> None:
    seen, exact = collected(data, parts), data.astype(np.float64)
    magnitude = float(np.abs(exact).max())
    assert seen.mean == pytest.approx(exact.mean(), rel=1e-6, abs=1e-6 * magnitude)
    assert seen.deviation == pytest.approx(exact.std(), rel=1e-5, abs=1e-6 * magnitude)
    assert seen.zeros == (data == 0).mean()
    if exact.std() == 0:
        assert seen.deviation == 0 and seen.outlier_ratio is None


@pytest.mark.parametrize(
    ("mean", "std"), [(0.0, 1.0), (1.0, 1.0), (100.0, 1.0), (1000.0, 0.1), (-5e4, 1.0), (0.0, 1e25), (3.0, 1e-4)]
)
def test_a_mean_far_from_zero_costs_the_deviation_nothing(mean: float, std: float) -> None:
    data = (mean + std * np.random.default_rng(5).normal(size=(3, 50_000))).astype(np.float32)
    seen, exact = collected(data, 2), data.astype(np.float64)
    assert seen.mean == pytest.approx(exact.mean(), rel=1e-6, abs=1e-6 * std)
    assert seen.deviation == pytest.approx(exact.std(), rel=2e-5)


@pytest.mark.parametrize("zero", [-128, -7, 0, 127])
def test_of_codes_the_code_of_zero_counts(zero: int) -> None:
    data = np.random.default_rng(5).integers(-128, 128, size=(4, 3000)).astype(np.int8)
    seen = collected(data, 4, Watched("t", codes=(-128, 127), zero=zero))
    assert seen.zeros == (data == zero).mean()
    assert seen.mean == pytest.approx(data.mean(), abs=1e-9) and seen.deviation == pytest.approx(data.std())


def test_nothing_has_no_mean() -> None:
    empty = Moments(0, 0.0, 0.0, 0)
    assert all(map(math.isnan, (empty.mean, empty.deviation, empty.zero_share)))


@given(
    first=arrays.arrays(np.float32, st.integers(1, 30), elements=st.floats(-100, 100, width=32)),
    second=arrays.arrays(np.float32, st.integers(1, 30), elements=st.floats(-100, 100, width=32)),
)
def test_two_add_up_to_that_of_all(first: npt.NDArray[np.float32], second: npt.NDArray[np.float32]) -> None:
    both, all_of_them = Moments.of(first) + Moments.of(second), Moments.of(np.concatenate([first, second]))
    assert (both.size, both.zeros) == (all_of_them.size, all_of_them.zeros)
    assert both.mean == pytest.approx(all_of_them.mean, abs=1e-9)
    assert both.deviation == pytest.approx(all_of_them.deviation, abs=1e-5)
