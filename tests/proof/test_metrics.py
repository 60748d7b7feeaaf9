"""Metrics of a comparison against definitions written out."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxlint_q.analysis.number_formats import OVERFLOWN_DB
from onnxlint_q.analysis.observed.top1 import Top1
from onnxlint_q.execute.stream.paired_histogram import PairedHistogram
from onnxlint_q.proof.comparison.metrics import (
    ClassifierErrorAccumulator,
    TensorErrorAccumulator,
    cross_entropy,
    divergence,
    softmax,
)

RNG = np.random.default_rng(7)


def test_cross_entropy_and_divergence_are_their_sums() -> None:
    p, q = np.array([0.5, 0.25, 0.25, 0.0]), np.array([0.25, 0.25, 0.4, 0.1])
    entropy = -sum(a * math.log(b) for a, b in zip(p, q, strict=True))
    kl = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)
    assert cross_entropy(p, q) == pytest.approx(entropy)
    assert divergence(p, q) == pytest.approx(kl)
    assert divergence(p, p) == 0
    assert divergence(np.array([0.5, 0.5]), np.array([1.0, 0.0])) == math.inf


def test_softmax_keeps_probabilities() -> None:
    scores = np.array([[1.0, 2.0, 3.0]], np.float32)
    exact = [math.exp(v) / sum(math.exp(w) for w in (1, 2, 3)) for v in (1, 2, 3)]
    assert softmax(scores)[0] == pytest.approx(exact)
    assert softmax(softmax(scores)) == pytest.approx(softmax(scores))


def test_sums_over_samples_are_the_figures_of_all_values() -> None:
    x = RNG.normal(size=(5, 300)).astype(np.float32) * np.array([[1], [10], [0.1], [3], [1]], np.float32)
    y = x + RNG.normal(scale=0.05, size=x.shape).astype(np.float32)
    sums = TensorErrorAccumulator()
    for a, b in zip(x, y, strict=True):
        sums.add(a, b)
    found = sums.result()
    error = np.square(x.astype(np.float64) - y)
    assert found.qmse == pytest.approx(error.mean(), rel=1e-4)
    assert found.sqnr_db == pytest.approx(10 * math.log10(np.square(x, dtype=np.float64).sum() / error.sum()), abs=1e-3)
    assert found.cosine == pytest.approx(float((x * y).sum() / np.linalg.norm(x) / np.linalg.norm(y)), rel=1e-4)
    assert found.values == x.size
    span = max(x.max(), y.max()) - min(x.min(), y.min())
    width = 2.0 ** math.ceil(math.log2(span / 128))
    edges = np.arange(math.floor(min(x.min(), y.min()) / width), math.floor(max(x.max(), y.max()) / width) + 2) * width
    (p, _), (q, _) = np.histogram(x, edges), np.histogram(y, edges)
    kept = (p > 0) | (q > 0)
    p, q = (p[kept] + 0.5) / (p[kept] + 0.5).sum(), (q[kept] + 0.5) / (q[kept] + 0.5).sum()
    assert found.qkl == pytest.approx(float((p * np.log(p / q)).sum()), rel=1e-6)
    assert found.qce == pytest.approx(float(-(p * np.log(q)).sum()), rel=1e-6)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=8).map(lambda v: np.asarray(v, np.float32)),
        min_size=1,
        max_size=6,
    )
)
def test_histograms_do_not_depend_on_the_order_of_the_samples(parts: list[npt.NDArray[np.float32]]) -> None:
    forth, back = PairedHistogram(), PairedHistogram()
    for part in parts:
        forth.add(part, part[:1])
    for part in reversed(parts):
        back.add(part, part[:1])
    for a, b in zip(forth.counts(), back.counts(), strict=True):
        assert np.array_equal(a, b) and len(a) <= 129
    assert forth.counts()[0].sum() == sum(map(len, parts)) and forth.counts()[1].sum() == len(parts)


def test_a_perfect_match_no_signal_and_what_is_not_finite() -> None:
    def error(x: list[float], y: list[float]) -> TensorErrorAccumulator:
        sums = TensorErrorAccumulator()
        sums.add(np.asarray(x, np.float32), np.asarray(y, np.float32))
        return sums

    perfect = error([1, -2], [1, -2]).result()
    assert (perfect.sqnr_db, perfect.qmse, perfect.qkl) == (math.inf, 0, 0)
    assert perfect.cosine == pytest.approx(1)
    silent = error([0, 0], [0, 1]).result()
    assert silent.sqnr_db is None and silent.cosine is None and silent.qmse == 0.5
    assert error([1, 2], [1, math.nan]).result().sqnr_db == OVERFLOWN_DB
    assert error([math.inf, 2], [1, 2]).result().sqnr_db == math.inf
    assert error([1e30, 0], [1e30, 1e28]).result().sqnr_db == pytest.approx(40, abs=1e-3)
    empty = TensorErrorAccumulator().result()
    assert (empty.sqnr_db, empty.qmse, empty.qce, empty.values) == (None, None, None, 0)


def test_a_classifier_is_compared_by_its_softmax() -> None:
    sums = ClassifierErrorAccumulator()
    x, y = np.array([[2.0, 1.0, 0.0]]), np.array([[0.5, 1.0, 0.0]])
    sums.add(x, y, label=0)
    p, q = softmax(x), softmax(y)
    assert sums.squared == pytest.approx(float(np.square(p - q).mean()))
    assert sums.entropy == pytest.approx(float(-(p * np.log(q)).sum()))
    assert sums.divergence == pytest.approx(float((p * np.log(p / q)).sum()))
    assert (sums.rows, sums.top1) == (1, Top1(1, 1, 1, 0))
