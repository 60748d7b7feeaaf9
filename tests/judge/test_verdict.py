"""Where survives, degrades and breaks change into each other."""

from __future__ import annotations

import pytest

from onnxlint_q.judge.verdict import Verdict, VerdictLevels, worst


@pytest.mark.parametrize(
    ("sqnr_db", "agreement", "expected"),
    [
        (None, None, Verdict.SURVIVES),
        (30.0, None, Verdict.SURVIVES),
        (14.01, None, Verdict.SURVIVES),
        (14.0, None, Verdict.DEGRADES),
        (9.0, None, Verdict.DEGRADES),
        (5.0, None, Verdict.DEGRADES),
        (4.99, None, Verdict.BREAKS),
        (-8.0, None, Verdict.BREAKS),
        (9.0, 0.95, Verdict.SURVIVES),
        (9.0, 0.90, Verdict.DEGRADES),
        (9.0, 0.60, Verdict.DEGRADES),
        (9.0, 0.59, Verdict.BREAKS),
        (30.0, 0.50, Verdict.BREAKS),
        (4.0, 0.99, Verdict.SURVIVES),
        (30.0, 0.70, Verdict.DEGRADES),
    ],
)
def test_default_levels(sqnr_db: float | None, agreement: float | None, expected: Verdict) -> None:
    assert VerdictLevels().verdict(sqnr_db, agreement) is expected


def test_a_detector_needs_more() -> None:
    assert VerdictLevels(breaks_db=15, survives_db=30).verdict(20.0) is Verdict.DEGRADES


def test_the_levels_that_an_interval_holds() -> None:
    assert VerdictLevels().crossed(0.55, 0.84) == (0.6,)
    assert VerdictLevels().crossed(0.5, 0.95) == (0.6, 0.9) and VerdictLevels().crossed(0.7, 0.8) == ()


def test_the_worst_output_decides() -> None:
    assert worst([Verdict.SURVIVES, Verdict.BREAKS, Verdict.DEGRADES]) is Verdict.BREAKS
    assert worst([]) is None


def test_more_signal_is_never_a_worse_verdict() -> None:
    order = [Verdict.BREAKS, Verdict.DEGRADES, Verdict.SURVIVES]
    for agreement in (None, 0.5, 0.7, 0.95):
        ranks = [order.index(VerdictLevels().verdict(db / 2, agreement)) for db in range(-40, 80)]
        assert ranks == sorted(ranks)
