"""What a quantised model has to reach, and what is wanted beyond that."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from onnxlint_q.execute.variants.output_error import OutputError, OutputFigures
from onnxlint_q.judge.verdict import Judge, Verdict

MARGIN_DB = 0.5
"""What an attempt has in hand on the samples that it was chosen on, because it is judged on others."""
WISH_DB = 20.0
"""SQNR of values that nobody asked for and that is worth its price: half of it in amplitude is a tenth."""
MOST_FLOAT = 0.25
"""Fraction of the multiplications that may leave 8 bits where nothing else is asked for."""
_PRICE_DB, _PRICE_MISSED_DB = 100.0, 25.0


@dataclass(frozen=True, slots=True)
class Goal:
    """What counts as good enough.

    Attributes:
        judge: the verdict on an error; where nothing else is asked for, the model has to survive.
        min_db: SQNR (dB) of the worst output.
        min_agreement: fraction of samples with the float model's top-1, of the worst output that holds class scores.
        most_finer: fraction of the multiplications that may be done in float or in 16 bits.
    """

    judge: Judge
    min_db: float | None = None
    min_agreement: float | None = None
    most_finer: float = MOST_FLOAT

    def reached(self, error: OutputError) -> bool:
        """Whether an error is small enough."""
        if not error.has_signal:
            return False
        if self.is_open:
            return self.judge(error) is Verdict.SURVIVES
        worst = math.inf if error.worst_db is None else error.worst_db
        enough = self.min_db is None or worst >= self.min_db
        return enough and (self.min_agreement is None or (error.agreement or 0.0) >= self.min_agreement)

    @property
    def is_open(self) -> bool:
        """Whether no figure was asked for: the model has to survive, and what is cheap beyond that is welcome."""
        return self.min_db is None and self.min_agreement is None

    def secured(self, error: OutputError) -> bool:
        """Whether it is small enough with a little in hand."""
        return self.reached(replace(error, outputs=tuple(map(_worse, error.outputs)), sqnr_db=_less(error.sqnr_db)))

    def satisfied(self, error: OutputError) -> bool:
        """Whether nothing is wanted beyond it."""
        return self.secured(error) and self._beyond_db(error) >= (WISH_DB if self.is_open else 0.0)

    def worth(self, error: OutputError, finer: float, nodes: int) -> tuple[float, ...]:
        """What decides between attempts, the larger the better.

        Beyond the goal a decibel is worth a hundredth of the multiplications, up to what is wanted at most; short of
        it, four of them.

        Args:
            error: that it leaves.
            finer: fraction of the multiplications that are not done in 8 bits.
            nodes: kinds of nodes that it adds to the model; each has to gain a decibel.
        """
        worst = _signed_db(error)
        if self.reached(error):
            beyond = self._beyond_db(error) if self.is_open else 0.0
            return 1 + self.secured(error), beyond - _PRICE_DB * finer - nodes, worst
        return 0, worst - _PRICE_MISSED_DB * finer, -nodes

    def _beyond_db(self, error: OutputError) -> float:
        """SQNR of the worst output or part that is judged by it, as far as it is wanted."""
        return min((db for figures in error.outputs for db in _values_db(figures)), default=WISH_DB)


def _values_db(figures: OutputFigures) -> Iterator[float]:
    if figures.agreement is None:
        yield from (min(one.sqnr_db, WISH_DB) for one in (figures, *figures.parts) if one.sqnr_db is not None)


def _signed_db(error: OutputError) -> float:
    """SQNR of the worst output; infinite where nothing is lost, minus infinity where nothing could be compared."""
    if not error.has_signal:
        return -math.inf
    return math.inf if error.worst_db is None else error.worst_db


def _less(db: float | None) -> float | None:
    return None if db is None else db - MARGIN_DB


def _worse(figures: OutputFigures) -> OutputFigures:
    return replace(figures, sqnr_db=_less(figures.sqnr_db), parts=tuple(map(_worse, figures.parts)))
