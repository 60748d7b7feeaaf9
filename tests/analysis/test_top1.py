"""Counts of right answers against numpy on the whole set at once."""

from __future__ import annotations

import numpy as np
import pytest

from onnxlint_q.analysis.intervals import paired_loss
from onnxlint_q.analysis.observed.top1 import Top1


def test_counts_are_those_of_the_whole_set() -> None:
    random = np.random.default_rng(0)
    exact, other = random.normal(size=(2, 60, 5))
    labels = random.integers(0, 5, 60)
    counts = Top1()
    for scores, others, label in zip(exact, other, labels, strict=True):
        counts = counts.with_sample(scores[None], others[None], int(label))
    right, still = exact.argmax(axis=1) == labels, other.argmax(axis=1) == labels
    assert counts.rows == 60
    assert counts.float_accuracy == pytest.approx(right.mean()) and counts.quantised_accuracy == pytest.approx(
        still.mean()
    )
    assert counts.loss == pytest.approx(right.mean() - still.mean())
    assert counts.interval == paired_loss(int((right & ~still).sum()), int((still & ~right).sum()), 60)
