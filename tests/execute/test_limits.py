"""Time that runs share, and how much of it is over."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from onnxlint_q.execute.limits import Allowance


def stopped(now: list[float]) -> Callable[[], float]:
    return lambda: now[0]


def test_how_much_of_a_part_is_over_follows_its_samples_or_its_time() -> None:
    now = [0.0]
    share = Allowance(10.0, samples=40, clock=stopped(now)).share(2)
    share.begin()
    now[0] = 0.5
    assert share.fraction(10) == pytest.approx(0.25)
    now[0] = 4.0  # of the five seconds that it has
    assert share.fraction(20) == pytest.approx(0.8)
    now[0] = 6.0
    assert share.fraction(20) == 1.0 and share.fraction(50) == 1.0


def test_nobody_knows_how_much_is_over_of_an_unknown_number() -> None:
    assert Allowance(10.0).share(1).fraction(3) == 0.0
