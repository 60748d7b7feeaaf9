"""The noise is convex in the logarithms of the factors, and the factors that are chosen leave the least of it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx_cases import Array

from onnxlint_q.rewrite.equalisation.noise import TensorTerm, WeightTerm, least_noise

CHANNELS, GROUPS = 6, 2


def terms(seed: int, bounds: tuple[float, float] = (np.inf, np.inf)) -> list[TensorTerm | WeightTerm]:
    """A weight that writes channels, what holds them, and a weight in groups that reads them."""
    draw = np.random.default_rng(seed)

    def any_of(*shape: int) -> Array:
        return np.asarray(10 ** draw.uniform(-1, 1, shape))

    numbers, fixed = np.arange(CHANNELS), np.full(3, -1)
    numbers[draw.integers(CHANNELS)] = -1
    return [
        WeightTerm(fixed[None], numbers[None], any_of(1, CHANNELS, 3), any_of(1, 3), any_of(1, CHANNELS)),
        TensorTerm(numbers, any_of(CHANNELS), any_of(CHANNELS), any_of(CHANNELS), bounds),
        WeightTerm(
            numbers.reshape(GROUPS, 3),
            np.full((GROUPS, 4), -1),
            any_of(GROUPS, 4, 3),
            any_of(GROUPS, 3),
            any_of(GROUPS, 4),
        ),
    ]


def noise(found: list[TensorTerm | WeightTerm], logs: Array) -> float:
    return math.fsum(term.noise(np.append(logs, 0.0)) for term in found)


def least(found: list[TensorTerm | WeightTerm]) -> Array:
    tensors = [term for term in found if isinstance(term, TensorTerm)]
    weights = [term for term in found if isinstance(term, WeightTerm)]
    return least_noise(tensors, weights, np.ones(CHANNELS, bool))


SEEDS = st.integers(0, 2**16)


@given(SEEDS, SEEDS)
def test_the_noise_is_convex(seed: int, points: int) -> None:
    one, other = np.random.default_rng(points).normal(size=(2, CHANNELS))
    found = terms(seed)
    assert noise(found, (one + other) / 2) <= (noise(found, one) + noise(found, other)) / 2 * (1 + 1e-12)


@given(SEEDS, SEEDS)
def test_no_other_factors_leave_less(seed: int, points: int) -> None:
    found = terms(seed)
    chosen = least(found)
    here = noise(found, chosen)
    assert here <= noise(found, np.zeros(CHANNELS)) * 1.001
    draw = np.random.default_rng(points)
    assert here <= noise(found, draw.normal(size=CHANNELS)) * 1.02
    assert here <= noise(found, chosen + draw.normal(scale=0.1, size=CHANNELS)) * 1.02


@pytest.mark.parametrize("bounds", [(np.inf, np.inf), (0.3, 2.0)])
@given(seed=SEEDS)
def test_slopes_of_tensors_are_derivatives(bounds: tuple[float, float], seed: int) -> None:
    (term,) = (one for one in terms(seed, bounds) if isinstance(one, TensorTerm))
    held = np.append(np.random.default_rng(seed).normal(size=CHANNELS), 0.0)
    slope = np.zeros(held.size)
    term.slope(held, 8, slope)
    for number in range(CHANNELS):
        step = np.zeros(held.size)
        step[number] = 1e-6
        ends = (term.slope(held + step, 8, np.zeros(held.size)), term.slope(held - step, 8, np.zeros(held.size)))
        assert (ends[0] - ends[1]) / 2e-6 == pytest.approx(slope[number], rel=1e-4, abs=1e-6 * max(ends))


@pytest.mark.parametrize("degree", [8, 4096])
def test_a_norm_of_a_high_degree_is_the_noise(degree: int) -> None:
    term = next(one for one in terms(0) if isinstance(one, TensorTerm))
    held = np.zeros(CHANNELS + 1)
    found = term.slope(held, degree, np.zeros(CHANNELS + 1))
    assert found >= term.noise(held) * (1 - 1e-12)
    assert (found == pytest.approx(term.noise(held), rel=1e-3)) is (degree > 8)


def test_a_cut_that_is_added_costs_nothing_while_factors_agree() -> None:
    one = np.ones(2)
    term = TensorTerm(np.arange(2), one, one, one, added=True)
    assert term.noise(np.asarray([0.5, 0.5, 0.0])) == 0
    assert term.noise(np.asarray([0.5, 0.4, 0.0])) > 0


def test_channels_that_are_nothing_have_finite_factors() -> None:
    none = np.zeros((1, 2, 1), np.float32)
    dead = WeightTerm(np.full((1, 1), -1), np.arange(2)[None], none, np.ones((1, 1)), np.ones((1, 2)))
    empty = TensorTerm(np.arange(2), np.zeros(2), np.zeros(2), np.ones(2))
    assert (least_noise([empty], [dead], np.ones(2, bool)) == 0).all()
