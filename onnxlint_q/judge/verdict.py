"""Does the network survive a scheme, end to end?"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """What becomes of the network under a scheme."""

    SURVIVES = "survives"
    DEGRADES = "degrades"
    BREAKS = "breaks"

    @property
    def rank(self) -> int:
        """0 for breaks, 1 for degrades, 2 for survives."""
        return ("breaks", "degrades", "survives").index(self.value)


@dataclass(frozen=True, slots=True)
class VerdictLevels:
    """Where the verdicts change.

    The defaults are those of a classifier; detectors and regressors usually need `survives_db` well above 20.

    Attributes:
        breaks_db, survives_db: output SQNR in dB.
        breaks_agreement, survives_agreement: fraction of samples on which top-1 agrees with float.
    """

    breaks_db: float = 5.0
    survives_db: float = 14.0
    breaks_agreement: float = 0.60
    survives_agreement: float = 0.90

    def verdict(self, sqnr_db: float | None, agreement: float | None = None) -> Verdict:
        """The verdict for an output SQNR (dB, None for a perfect match) and, for a classifier, a top-1 agreement."""
        if sqnr_db is None:
            return Verdict.SURVIVES
        if sqnr_db < self.breaks_db or (agreement is not None and agreement < self.breaks_agreement):
            return Verdict.BREAKS
        if sqnr_db > self.survives_db or (agreement is not None and agreement > self.survives_agreement):
            return Verdict.SURVIVES
        return Verdict.DEGRADES
