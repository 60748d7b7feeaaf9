"""Which tensors make up the noise, and whether they explain it."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from onnxlint_q.analysis.observed.costs import SchemeCosts, TensorCost
from onnxlint_q.finding import Subject


def costs(*levels: float, whole_db: float = 3.0) -> SchemeCosts:
    tensors = (TensorCost(f"t{n}", Subject.ACTIVATION, "int8", level, 4) for n, level in enumerate(levels))
    return SchemeCosts("int8", whole_db, tuple(tensors))


def test_shares_are_of_the_summed_noise() -> None:
    found = costs(10.0, 0.0, math.inf, 10.0)
    assert [found.share(cost) for cost in found.tensors] == pytest.approx([1 / 12, 10 / 12, 0, 1 / 12])
    assert found.together_db == pytest.approx(-10 * math.log10(1.2))


def test_the_fewest_tensors_that_make_most_of_the_noise() -> None:
    found = costs(10.0, 0.0, math.inf, 20.0, 10.0)
    assert [cost.tensor for cost in found.most()] == ["t1", "t0"]
    assert [cost.tensor for cost in found.most(0.8)] == ["t1"]
    # What costs nothing is never needed.
    assert [cost.tensor for cost in found.most(1.0)] == ["t1", "t0", "t4", "t3"]


def test_without_noise_nobody_makes_it() -> None:
    found = costs(math.inf, math.inf)
    assert found.most() == () and found.share(found.tensors[0]) == 0
    assert found.together_db == math.inf and not found.explained


@pytest.mark.parametrize(
    ("whole_db", "fitted_db", "explained", "ill_fitted"),
    [(3.0, None, True, False), (-5.0, None, False, False), (-5.0, -4.0, False, False), (-5.0, 2.0, False, True)],
)
def test_what_explains_the_loss(whole_db: float, fitted_db: float | None, explained: bool, ill_fitted: bool) -> None:
    found = replace(costs(6.0, 8.0, whole_db=whole_db), fitted_db=fitted_db)
    assert (found.explained, found.ill_fitted) == (explained, ill_fitted)
