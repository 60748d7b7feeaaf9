import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from onnxlint_q.analysis.intervals import MOST_SAMPLES, paired_loss, samples_to_decide, wilson

Z95 = 1.959963984540054


@st.composite
def counts(draw: st.DrawFn, most: int = 3000) -> tuple[int, int]:
    trials = draw(st.integers(1, most))
    return draw(st.integers(0, trials)), trials


def score(rate: float, successes: int, trials: int) -> float:
    """How many standard deviations the count lies from what a true rate lets expect: an independent definition."""
    return abs(successes - trials * rate) / math.sqrt(trials * rate * (1 - rate))


def test_wilson_is_the_published_figure() -> None:
    low, high = wilson(23, 32)
    assert (round(100 * low), round(100 * high)) == (55, 84)
    # Newcombe, Statistics in Medicine 17, 1998, table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29.
    for count, interval in {
        (81, 263): (0.2553, 0.3662),
        (15, 148): (0.0624, 0.1605),
        (0, 20): (0.0, 0.1611),
        (1, 29): (0.0061, 0.1718),
    }.items():
        assert wilson(*count) == pytest.approx(interval, abs=5e-5)


@given(counts())
def test_the_ends_are_the_rates_that_a_score_test_just_accepts(count: tuple[int, int]) -> None:
    low, high = wilson(*count)
    assert 0 <= low <= count[0] / count[1] <= high <= 1
    for end in (low, high):
        if 0 < end < 1:
            assert score(end, *count) == pytest.approx(Z95, rel=1e-6)


@given(counts())
def test_wilson_of_failures_is_the_mirror_image(count: tuple[int, int]) -> None:
    low, high = wilson(*count)
    assert wilson(count[1] - count[0], count[1]) == pytest.approx((1 - high, 1 - low), abs=1e-12)


@given(counts(), st.floats(0.5, 0.99))
def test_more_confidence_is_a_wider_interval(count: tuple[int, int], confidence: float) -> None:
    narrow, wide = wilson(*count, confidence), wilson(*count, confidence + 0.005)
    assert wide[0] <= narrow[0] <= narrow[1] <= wide[1]


def test_nothing_tried_is_nothing_known() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
    assert samples_to_decide(0, 0, 0.9) is None


@pytest.mark.parametrize("count", [(-1, 3), (4, 3)])
def test_an_impossible_count_is_an_error(count: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="no proportion"):
        wilson(*count)


@given(counts(most=200), st.sampled_from([0.6, 0.9]), st.integers(1, 50))
def test_so_many_samples_decide_and_one_less_does_not(count: tuple[int, int], level: float, more: int) -> None:
    """Held against the interval itself, at multiples of the counts, where the rate is exactly the same."""
    needed = samples_to_decide(*count, level)
    assume(needed is not None)
    assert needed is not None
    successes, trials = more * count[0], more * count[1]
    low, high = wilson(successes, trials)
    assert (low <= level <= high) == (trials < needed)


def test_a_rate_on_the_level_is_never_decided() -> None:
    assert samples_to_decide(9, 10, 0.9) is None
    assert samples_to_decide(90_001, 100_000, 0.9) is None  # would take more than anybody has
    assert (samples_to_decide(23, 32, 0.9) or MOST_SAMPLES) < 32
    assert samples_to_decide(23, 32, 0.6) == 66


def test_paired_loss_is_the_published_figure() -> None:
    # ci.prop.ps(.05, 12, 4, 26, 6) of the R package statpsych, by Bonett: 26 against 4 of 48.
    assert paired_loss(26, 4, 48) == pytest.approx((0.2548067, 0.6251933), abs=5e-8)


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 500))
def test_a_loss_is_a_gain_seen_from_the_other_side(lost: int, gained: int, same: int) -> None:
    low, high = paired_loss(lost, gained, lost + gained + same)
    assert -1 <= low <= high <= 1
    assert low <= (lost - gained) / (lost + gained + same + 2) <= high
    assert paired_loss(gained, lost, lost + gained + same) == pytest.approx((-high, -low))


def test_nothing_lost_in_few_samples_may_still_be_a_loss() -> None:
    for trials, percent in ((32, 8), (300, 1)):
        low, high = paired_loss(0, 0, trials)
        assert round(100 * high) == percent
        assert low == -high


@pytest.mark.parametrize("count", [(-1, 0, 3), (0, -1, 3), (2, 2, 3)])
def test_impossible_counts_of_a_pair_are_an_error(count: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="impossible"):
        paired_loss(*count)
