"""The laws of the level that a raw figure leads to, and what the bench learns of networks that follow them."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxlint_q.forecast.expected.level import (
    CLOSENESS,
    INTERVAL,
    LOCATION,
    SPREAD,
    Level,
    Scores,
    Table,
    Traits,
    level,
    linear_db,
    saturated_db,
    student_below,
    student_quantile,
)
from onnxlint_q.forecast.expected.level_table import FORECAST, PROBE
from onnxlint_q.judge.verdict import LIKELY, Chances, Verdict, VerdictLevels, worst_chances

quick = settings(max_examples=60, deadline=None, derandomize=True, database=None)
chances = st.floats(0.001, 0.999)
raw = st.floats(-5.9, 70)
shares = st.floats(0, 1)
scores = st.builds(
    Scores, classes=st.integers(2, 1000), contrast_db=st.floats(-20, 0), close=st.floats(0, 0.5), softmax=st.booleans()
)
traits = st.builds(
    Traits,
    weights=shares,
    largest=shares,
    layers=st.integers(0, 500),
    attention=st.booleans(),
    recurrent=st.booleans(),
    images=st.booleans(),
    unknown=st.booleans(),
    fraction=st.booleans(),
    varying=shares,
    scores=st.none() | scores,
)
levels = st.builds(
    Level, centre=st.floats(-15, 60), spread=st.floats(0.5, 15), classes=st.none() | st.integers(2, 1000),
    offset_db=st.floats(-20, 0), closeness=st.floats(-2, 2), bend=st.floats(0.4, 1.6),
)  # fmt: skip
verdict_levels = st.builds(
    lambda db, gap, low, more: VerdictLevels(db, db + gap, low, low + more),
    st.floats(-5, 30), st.floats(0.1, 20), st.floats(0.05, 0.6), st.floats(0.01, 0.39),
)  # fmt: skip
tables = st.sampled_from([FORECAST, PROBE])


@quick
@given(chances)
def test_quantile_and_distribution_of_student_are_inverse(chance: float) -> None:
    assert math.isclose(student_below(student_quantile(chance)), chance, rel_tol=1e-9)


def test_student_against_its_density() -> None:
    x = np.linspace(-300, 1.25, 2_000_001)
    density = 0.375 * (1 + x**2 / 4) ** -2.5
    step, ends = x[1] - x[0], (density[0] + density[-1]) / 2
    assert math.isclose(student_below(1.25), float((density.sum() - ends) * step), abs_tol=1e-6)


@quick
@given(st.floats(-19, 79))
def test_saturation_has_an_inverse_and_a_floor(linear: float) -> None:
    assert math.isclose(linear_db(saturated_db(linear)), linear, abs_tol=1e-6)
    assert max(linear, -6.03) < saturated_db(linear) + 1e-9 < max(linear, 0) + 3.1


@quick
@given(levels, verdict_levels)
def test_chances_add_up_to_one(expected: Level, limits: VerdictLevels) -> None:
    found = limits.chances(expected)
    parts = (found.survives, found.degrades, found.breaks)
    assert math.isclose(sum(parts), 1, abs_tol=1e-9) and min(parts) >= -1e-12


@quick
@given(raw, st.floats(0, 20), traits, tables, verdict_levels)
def test_a_better_figure_is_never_less_likely_to_survive(
    figure: float, more: float, known: Traits, table: Table, limits: VerdictLevels
) -> None:
    worse, better = (limits.chances(level(value, known, table)) for value in (figure, figure + more))
    assert better.breaks <= worse.breaks + 1e-9 and better.survives >= worse.survives - 1e-9


@quick
@given(levels, st.floats(-5, 40), st.floats(0, 10))
def test_a_higher_level_is_more_often_missed(expected: Level, limit: float, more: float) -> None:
    assert expected.below_db(limit) <= expected.below_db(limit + more) + 1e-12
    low, high = sorted((abs(limit) / 41, (abs(limit) + more) / 51))
    assert expected.below_agreement(low) <= expected.below_agreement(high) + 1e-12


@quick
@given(levels, st.tuples(chances, chances))
def test_intervals_lie_within_wider_ones_and_hold_what_they_say(expected: Level, ends: tuple[float, float]) -> None:
    low, high = sorted(ends)
    assert expected.quantile(low) <= expected.quantile(high)
    bottom, top = expected.interval_db
    assert bottom <= expected.sqnr_db <= top and 0 <= expected.uncertainty_db <= (top - bottom) / 2 + 1e-9
    assert math.isclose(expected.below_db(top) - expected.below_db(bottom), INTERVAL, abs_tol=1e-6) or bottom < -5.8


@quick
@given(levels)
def test_the_agreement_is_the_one_that_is_as_often_missed_as_not(expected: Level) -> None:
    if expected.classes is None:
        assert expected.agreement is None and expected.below_agreement(0.9) == 0
    else:
        agreement = expected.agreement
        assert agreement is not None and 1 / expected.classes <= agreement <= 1
        assert expected.below_agreement(agreement - 1e-4) <= 0.5 <= expected.below_agreement(agreement + 1e-4)


@pytest.mark.parametrize("table", [FORECAST, PROBE])
def test_the_tables_name_what_there_is(table: Table) -> None:
    assert table.location.keys() <= LOCATION.keys() and table.spread.keys() <= SPREAD.keys()
    assert table.closeness.keys() <= CLOSENESS.keys() and table.closeness_spread > 0 and table.bend > 0
    # Otherwise a better figure would be a worse sign.
    assert table.location.get("each 10 dB above 15", 0.0) > -10
    assert "each 10 dB above 15" not in SPREAD and table.location.get("all that varies is lost", 0.0) <= 0


def test_class_scores_are_judged_by_agreement_alone() -> None:
    sure = Level(centre=4.0, spread=0.5, classes=2, closeness=-3.0, bend=2.0)
    assert VerdictLevels().chances(sure).verdict is Verdict.SURVIVES
    assert VerdictLevels().chances(replace(sure, classes=None)).verdict is Verdict.BREAKS


@pytest.mark.parametrize(
    ("made", "likeliest", "verdict"),
    [
        (Chances(0.59, 0.41, 0.0), Verdict.SURVIVES, Verdict.UNCERTAIN),
        (Chances(0.6, 0.4, 0.0), Verdict.SURVIVES, Verdict.SURVIVES),
        (Chances(0.1, 0.45, 0.45), Verdict.BREAKS, Verdict.UNCERTAIN),
        (Chances.certain(Verdict.DEGRADES), Verdict.DEGRADES, Verdict.DEGRADES),
    ],
)
def test_uncertain_is_what_no_verdict_is_likely_enough_for(made: Chances, likeliest: Verdict, verdict: Verdict) -> None:
    assert LIKELY == 0.6 and made.likeliest is likeliest and made.verdict is verdict


def test_the_model_fares_as_its_worst_output() -> None:
    one, other = Chances(0.9, 0.05, 0.05), Chances(0.5, 0.4, 0.1)
    assert worst_chances([one, other]) == Chances(0.5, 0.4, 0.1) and worst_chances([]) is None
    mixed = worst_chances([Chances(0.5, 0.1, 0.4), Chances(0.4, 0.6, 0.0)])
    assert mixed is not None and (mixed.survives, mixed.breaks) == (0.4, 0.4) and math.isclose(mixed.degrades, 0.2)


def test_measured_agreement_is_as_sure_as_its_samples() -> None:
    few, many = (VerdictLevels().measured_chances(0.95, rows) for rows in (20, 2000))
    assert 0.7 < few.survives < 0.8 and many.survives > 0.999
    assert math.isclose(VerdictLevels().measured_chances(0.9, 50).survives, 0.5)
