"""How right a table is on networks that it was not learnt on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from onnxlint_q.forecast.expected.level import Table, level
from onnxlint_q.judge.verdict import Chances, Verdict, VerdictLevels

from .fit import learn
from .rows import Row

SURE = 0.85
_LEVELS = VerdictLevels()
_VERDICTS = (Verdict.BREAKS, Verdict.DEGRADES, Verdict.SURVIVES)


@dataclass(frozen=True, slots=True)
class Case:
    """What was said of a row, and what was measured.

    Attributes:
        expected_db, interval_db: said of the SQNR.
        base: the chances that the others' verdicts alone give.
    """

    row: Row
    chances: Chances
    base: Chances
    expected_db: float
    interval_db: tuple[float, float]
    agreement: float | None

    @property
    def truth(self) -> Verdict:
        return _LEVELS.verdict(self.row.sqnr_db, self.row.agreement)

    @property
    def holds(self) -> bool:
        low, high = self.interval_db
        return self.row.sqnr_db is not None and low <= self.row.sqnr_db <= high


def leave_one_family_out(rows: Sequence[Row]) -> Iterator[Case]:
    """Each family by a table that was learnt on the others."""
    for family in sorted({row.network.family for row in rows}):
        others = [row for row in rows if row.network.family != family]
        if others:
            yield from judge([row for row in rows if row.network.family == family], learn(others), others)


def judge(rows: Iterable[Row], table: Table, learnt: Sequence[Row]) -> Iterator[Case]:
    """What a table says of rows."""
    truths = [_LEVELS.verdict(row.sqnr_db, row.agreement) for row in learnt]
    shares = {verdict: (truths.count(verdict) + 1) / (len(truths) + 3) for verdict in _VERDICTS}
    base = Chances(shares[Verdict.SURVIVES], shares[Verdict.DEGRADES], shares[Verdict.BREAKS])
    for row in rows:
        said = level(row.raw_db, row.traits, table)
        yield Case(row, _LEVELS.chances(said), base, said.sqnr_db, said.interval_db, said.agreement)


def summary(cases: Sequence[Case]) -> str:
    """One line of figures."""
    if not cases:
        return "none"
    weight = _weights(cases)

    def mean(values: Iterable[float]) -> float:
        return float(np.average(list(values), weights=weight))

    sure = [case for case in cases if case.chances.of(case.chances.likeliest) >= SURE]
    decided = [case for case in cases if case.chances.verdict.decided]
    opposite = sum({case.chances.verdict, case.truth} == {Verdict.BREAKS, Verdict.SURVIVES} for case in cases)
    known = [case for case in cases if case.row.sqnr_db is not None]
    errors = [abs(case.expected_db - (case.row.sqnr_db or 0.0)) for case in known]
    right = [case.chances.likeliest is case.truth for case in cases]
    networks = len({case.row.network.name for case in cases})
    return (
        f"{len(cases):5} of {networks:3} networks: likeliest right {np.mean(right):.0%}, decided "
        f"{len(decided) / len(cases):.0%} and right {_share(decided)}, sure {len(sure) / len(cases):.0%} and right "
        f"{_share(sure)}, opposite {opposite}; Brier {mean(brier(c.chances, c.truth) for c in cases):.3f} beside "
        f"{mean(brier(c.base, c.truth) for c in cases):.3f}; interval holds "
        f"{np.average([c.holds for c in known], weights=_weights(known)):.0%}, raw error median "
        f"{np.median([abs(c.row.raw_db - (c.row.sqnr_db or 0.0)) for c in known]):.1f}, told {np.median(errors):.1f} dB"
    )


def brier(chances: Chances, truth: Verdict) -> float:
    """Sum of the squared differences to what came, over the three verdicts: from 0 to 2."""
    return sum((chances.of(verdict) - (verdict is truth)) ** 2 for verdict in _VERDICTS)


def line(case: Case) -> str:
    """One case in full."""
    row, likeliest = case.row, case.chances.likeliest
    agreed = "" if row.agreement is None else f", top-1 {case.agreement or 0:.0%} / {row.agreement:.0%}"
    low, high = case.interval_db
    measured = "exact" if row.sqnr_db is None else f"{row.sqnr_db:.1f}"
    mark = "" if case.chances.verdict is case.truth else " uncertain" if not case.chances.verdict.decided else " WRONG"
    return (
        f"{row.network.name:34.34} {row.scheme:17} {row.output:12.12} raw {row.raw_db:6.1f} "
        f"told {case.expected_db:6.1f} "
        f"({low:5.1f} to {high:5.1f}) was {measured:>6}{agreed}; {likeliest} {case.chances.of(likeliest):.0%} / "
        f"{case.truth}{mark}"
    )


def _weights(cases: Sequence[Case]) -> list[float]:
    """Each network counts the same."""
    names = [case.row.network.name for case in cases]
    return [1 / names.count(name) for name in names]


def _share(cases: Sequence[Case]) -> str:
    if not cases:
        return "-"
    return f"{np.mean([case.chances.likeliest is case.truth for case in cases]):.0%}"
