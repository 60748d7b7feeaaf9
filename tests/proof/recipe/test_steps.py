"""Which tensors get finer codes first, and what decides between attempts."""

from __future__ import annotations

import numpy as np
import pytest

from onnxlint_q.analysis.outputs.output_kind import Holds
from onnxlint_q.execute.variants.output_error import Comparable, OutputError, OutputFigures
from onnxlint_q.judge.verdict import Verdict, VerdictLevels
from onnxlint_q.proof.recipe.goal import MARGIN_DB, WISH_DB, Goal
from onnxlint_q.proof.recipe.steps import Item, steps

SHARES = {"large": 0.4, "small": 0.01, "other": 0.02}


def item(*noise: float, layers: str, wide: str = "", nodes: tuple[str, ...] = ()) -> Item:
    return Item(np.array(noise), frozenset(layers.split()), wide, nodes)


def test_what_gains_most_for_its_multiplications_comes_first() -> None:
    loud = item(0.5, layers="large", wide="a")
    cheap = item(0.3, layers="small", wide="b")
    first, second = steps([loud, cheap], SHARES, 1.0)
    assert (first.wide, second.wide) == (frozenset("b"), frozenset("ab"))
    assert (first.share, second.share) == pytest.approx((0.01, 0.41))


def test_all_that_only_the_same_layers_read_or_make_comes_with_them() -> None:
    weight = item(0.2, layers="small", nodes=("conv",))
    result = item(0.1, layers="small", wide="a")
    shared = item(0.1, layers="small large", wide="b")
    first, second = steps([shared, result, weight], SHARES, 1.0)
    assert (first.wide, first.excluded) == (frozenset("a"), frozenset({"conv"}))
    assert (second.wide, second.excluded) == (frozenset("ab"), frozenset({"conv"}))
    assert (first.share, second.share) == pytest.approx((0.01, 0.41))


def test_no_step_goes_beyond_the_share_that_may_be_given_up() -> None:
    found = list(steps([item(0.9, layers="large", wide="a"), item(0.1, layers="small", wide="b")], SHARES, 0.1))
    assert [one.wide for one in found] == [frozenset("b")]
    assert not list(steps([item(0.9, layers="small", wide="a")], SHARES, 0.0))
    free = item(0.9, layers="", wide="a")
    assert [one.share for one in steps([free], SHARES, 0.0)] == [0.0]


def test_the_worst_part_comes_first() -> None:
    quiet = item(0.001, 0.2, layers="other", wide="a")
    loud = item(0.5, 0.0, layers="other", wide="b")
    alone = [item(0.001, 0.2, layers="small", wide="a"), item(0.5, 0.0, layers="other", wide="b")]
    assert next(iter(steps([quiet, loud], {}, 1.0))).wide == frozenset("ab")
    assert next(iter(steps(alone, SHARES, 1.0))).wide == frozenset("b")


def test_what_makes_little_of_the_noise_waits_though_it_is_free() -> None:
    found = list(steps([item(1.0, layers="small", wide="a"), item(1e-4, layers="small", wide="b")], SHARES, 1.0))
    assert found[0].wide == frozenset("a")


def values(*decibels: float) -> OutputError:
    figures = tuple(OutputFigures(str(n), Holds.VALUES, Comparable.YES, db) for n, db in enumerate(decibels))
    return OutputError(float(np.mean(decibels)), None, has_signal=True, samples=8, outputs=figures)


def scores(agreement: float, sqnr_db: float) -> OutputError:
    figures = OutputFigures("y", Holds.CLASS_SCORES, Comparable.YES, sqnr_db, agreement, rows=100)
    return OutputError(sqnr_db, agreement, has_signal=True, samples=100, outputs=(figures,))


def judge(error: OutputError) -> Verdict | None:
    return VerdictLevels().verdict(error.worst_db, error.agreement)


OPEN, ASKED = Goal(judge), Goal(judge, min_db=16.0)


def test_what_just_survives_has_nothing_in_hand() -> None:
    just = values(14.0 + MARGIN_DB / 2, 30.0)
    assert OPEN.reached(just)
    assert not OPEN.secured(just)
    assert OPEN.secured(values(14.1 + MARGIN_DB, 30.0))


def test_values_are_wanted_beyond_what_survives_and_scores_are_not() -> None:
    assert not OPEN.satisfied(values(15.0, 30.0))
    assert OPEN.satisfied(values(WISH_DB, 30.0))
    assert OPEN.satisfied(scores(0.95, 12.0))
    assert ASKED.satisfied(values(17.0, 30.0))


def test_a_decibel_is_worth_a_hundredth_of_the_multiplications() -> None:
    assert OPEN.worth(values(18.1), 0.03, 0) > OPEN.worth(values(15.0), 0.0, 0)
    assert OPEN.worth(values(17.9), 0.03, 0) < OPEN.worth(values(15.0), 0.0, 0)
    assert OPEN.worth(values(40.0), 0.03, 0) < OPEN.worth(values(WISH_DB), 0.02, 0)


def test_a_goal_that_was_asked_for_is_reached_at_the_least_price() -> None:
    assert ASKED.worth(values(17.0), 0.01, 0) > ASKED.worth(values(30.0), 0.02, 0)
    assert ASKED.worth(values(17.0), 0.2, 0) > ASKED.worth(values(15.0), 0.0, 0)
    assert OPEN.worth(scores(0.95, 9.0), 0.0, 0) > OPEN.worth(scores(1.0, 30.0), 0.01, 0)


def test_nodes_that_are_added_have_to_gain_a_decibel() -> None:
    assert OPEN.worth(values(15.5), 0.0, 1) < OPEN.worth(values(15.0), 0.0, 0)
    assert OPEN.worth(values(16.5), 0.0, 1) > OPEN.worth(values(15.0), 0.0, 0)
