"""Whole schemes with a change beside those without, on the same samples: what is gained, and how that reads."""

from __future__ import annotations

import math
from dataclasses import dataclass

from onnxlint_q.execute.variants.output_error import OutputError

SAME_DB = 80.0
"""A ten-thousandth of the output's amplitude: the float model is still the same."""


@dataclass(frozen=True, slots=True)
class Gain:
    """The error at the outputs before and after a change.

    Attributes:
        before, after: both have a signal.
    """

    before: OutputError
    after: OutputError

    @classmethod
    def of(cls, before: OutputError | None, after: OutputError | None) -> Gain | None:
        """The gain where both are there and can be compared."""
        if before is None or after is None or not before.has_signal or not after.has_signal:
            return None
        return cls(before, after)

    @property
    def decibels(self) -> tuple[float | None, float | None]:
        """SQNR of the worst output before and after; None where nothing is lost."""
        return self.before.worst_db, self.after.worst_db

    @property
    def db(self) -> float:
        """Decibels gained; infinite where nothing is lost any more."""
        before, after = self.decibels
        if after is None:
            return math.inf
        return after - before if before is not None else -math.inf

    @property
    def without(self) -> tuple[tuple[float, float], ...]:
        """The same without each of the samples in turn, infinite where nothing is lost then; empty for a single one."""
        return tuple(zip(self.before.worst_without_db, self.after.worst_without_db, strict=False))

    @property
    def figures(self) -> str:
        """`3.1 → 8.2 dB`."""
        before, after = self.decibels
        if before is None or after is None:
            return " → ".join("no noise" if db is None else f"{db:.1f} dB" for db in self.decibels)
        return f"{before:.1f} → {after:.1f} dB"
